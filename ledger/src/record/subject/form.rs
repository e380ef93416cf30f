//! The normal form of subjects' ids: one spelling of each id, a rule of the chain (docs/FORMATS.md,
//! *Normal forms*). A proof is about the bytes of an id; it says something of a container or a movement
//! only where no record can have that container or movement under other bytes.

use customhouse_proto::v1::subject::Scheme;
use unicode_normalization::{UnicodeNormalization as _, is_nfkc};
use unicode_properties::{GeneralCategory, UnicodeGeneralCategory as _};

use crate::limits::SUBJECT_ID_BYTES_MAX;
use crate::{
    agency::AgencyCode,
    limits::REFERENCE_BYTES_MAX,
    text::{self, TextError},
};

/// Bytes of a text that may be another spelling of an id, with its spaces and whatever else is left out.
const SPELT_BYTES_MAX: usize = 4 * SUBJECT_ID_BYTES_MAX;

/// Why a text is not an id of its scheme in the normal form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// The scheme is unset or unknown.
    #[error("no scheme of subjects")]
    Scheme,
    /// Nothing is left of it.
    #[error("empty")]
    Empty,
    /// More bytes than an id may have.
    #[error("{0} bytes, at most {SUBJECT_ID_BYTES_MAX} are allowed")]
    TooLong(usize),
    /// Another spelling of an id.
    #[error("not in the normal form, which is {0:?}")]
    Spelling(String),
    /// A character that ids of the scheme do not have.
    #[error("U+{:04X} is no character of {what}", u32::from(*.character))]
    Character {
        /// The first such character.
        character: char,
        /// What the ids of the scheme are made of.
        what: &'static str,
    },
    /// Text of any script that the chain does not take.
    #[error("{0}")]
    Text(#[from] TextError),
    /// Not `AGENCY/REFERENCE`.
    #[error(
        "not AGENCY/REFERENCE, such as NL-DOUANE/LRN1: a reference is unique within its agency only"
    )]
    NotOfAgency,
    /// Not an agency's code.
    #[error("not an agency's code: 2 to 16 of A-Z, 0-9 and -")]
    Agency,
    /// Not 64 hexadecimal digits.
    #[error(
        "not 64 lower-case hexadecimal digits, as a public key and an agreement's id are written"
    )]
    Key,
    /// Without the name of its URI scheme.
    #[error("not a URI, such as urn:epc:id:sgtin:4012345.012345.1")]
    NotUri,
}

/// The normal form of an id as people and messages have it: letters are upper-case, and white space and
/// invisible characters are left out; an EPC keeps the case of its letters where that tells ids apart.
///
/// # Errors
/// It has none: what is left has characters that ids of the scheme do not have, or not the form of an id.
pub fn normal(scheme: Scheme, id: &str) -> Result<String, FormError> {
    check_spelt_length(id)?;
    let form = match scheme {
        Scheme::DeclarationReference => {
            let (agency, reference) = id.split_once('/').ok_or(FormError::NotOfAgency)?;
            format!("{}/{}", upper(agency), upper(reference))
        }
        Scheme::Epc => lower_start(id.nfkc().filter(|c| !is_left_out(*c)).collect()),
        Scheme::ValidatorKey | Scheme::Agreement => {
            id.chars().filter(|c| !is_left_out(*c)).collect::<String>().to_lowercase()
        }
        Scheme::Container => upper(id).replace('-', ""),
        _ => upper(id),
    };
    check(scheme, &form)?;
    Ok(form)
}

/// The normal form of a declaration's own reference, as its agency's records have it.
///
/// # Errors
/// As [`normal`]; more than [`REFERENCE_BYTES_MAX`] are too long.
pub fn normal_reference(reference: &str) -> Result<String, FormError> {
    check_spelt_length(reference)?;
    let form = upper(reference);
    if form.len() > REFERENCE_BYTES_MAX {
        return Err(FormError::TooLong(form.len()));
    }
    check_text(&form)?;
    Ok(form)
}

/// Checks that an id is in its scheme's normal form: the rule of the chain.
///
/// # Errors
/// The first rule that is broken. Where the id is another spelling of one, the error says which.
pub fn check(scheme: Scheme, id: &str) -> Result<(), FormError> {
    if id.is_empty() {
        return Err(FormError::Empty);
    }
    if id.len() > SUBJECT_ID_BYTES_MAX {
        return Err(FormError::TooLong(id.len()));
    }
    match scheme {
        Scheme::Unspecified => Err(FormError::Scheme),
        Scheme::Mrn => {
            each(id, "an MRN (A-Z, 0-9)", |c| c.is_ascii_uppercase() || c.is_ascii_digit())
        }
        Scheme::Ucr => each(id, "a UCR (ASCII, upper case, no spaces)", is_code),
        Scheme::Trader => each(id, "a trader's id (ASCII, upper case, no spaces)", is_code),
        Scheme::Container => {
            each(id, "a container number (ASCII, upper case, no spaces and hyphens)", |c| {
                is_code(c) && c != '-'
            })
        }
        Scheme::TransportDocument | Scheme::Certificate | Scheme::Case => check_text(id),
        Scheme::DeclarationReference => match id.split_once('/') {
            Some((agency, reference)) if agency.parse::<AgencyCode>().is_ok() => {
                check_text(reference)
            }
            _ => Err(FormError::NotOfAgency),
        },
        Scheme::Epc => check_uri(id),
        Scheme::ValidatorKey | Scheme::Agreement => {
            let digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
            if id.len() == 64 && id.bytes().all(digit) { Ok(()) } else { Err(FormError::Key) }
        }
        Scheme::Agency => id.parse::<AgencyCode>().map(drop).map_err(|_| FormError::Agency),
    }
}

/// As [`check`], for people: where an id is only spelt otherwise, the error has the normal form.
///
/// # Errors
/// As [`check`], and [`FormError::Spelling`].
pub fn check_spelling(scheme: Scheme, id: &str) -> Result<(), FormError> {
    check(scheme, id).map_err(|why| normal(scheme, id).map_or(why, FormError::Spelling))
}

/// What is so long is no spelling of an id, and is not read: a character may have a normal form of many.
fn check_spelt_length(id: &str) -> Result<(), FormError> {
    if id.len() > SPELT_BYTES_MAX { Err(FormError::TooLong(id.len())) } else { Ok(()) }
}

fn each(id: &str, what: &'static str, allowed: impl Fn(char) -> bool) -> Result<(), FormError> {
    match id.chars().find(|c| !allowed(*c)) {
        Some(character) => Err(FormError::Character { character, what }),
        None => Ok(()),
    }
}

/// Printable ASCII, without the space and the lower-case letters.
fn is_code(character: char) -> bool {
    character.is_ascii_graphic() && !character.is_ascii_lowercase()
}

/// Text of any script: visible, without lower-case letters and spaces, in NFKC.
fn check_text(text: &str) -> Result<(), FormError> {
    if text.is_empty() {
        return Err(FormError::Empty);
    }
    if let Some(other) = text.chars().find(|c| !text::is_visible(*c)) {
        return Err(TextError::Character(other).into());
    }
    if let Some(character) = text.chars().find(|c| text::is_lower(*c)) {
        let what = "an id, which has no lower-case letters";
        return Err(FormError::Character { character, what });
    }
    text::check_start(text)?;
    if text.is_ascii() || is_nfkc(text) { Ok(()) } else { Err(TextError::Form("NFKC").into()) }
}

/// The characters of a URI after the name of its scheme. That name, and the namespace of a URN or the
/// host of a web address after it, up to the next `:` or `/`, have no upper-case letters.
fn check_uri(id: &str) -> Result<(), FormError> {
    let others = "-._~:/?#[]@!$&'()*+,;=%";
    each(id, "a URI", |c| c.is_ascii_alphanumeric() || others.contains(c))?;
    let is_scheme = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    };
    match id.split_once(':') {
        Some((name, rest)) if is_scheme(name) && !rest.is_empty() => {}
        _ => return Err(FormError::NotUri),
    }
    match id[..start_of(id)].chars().find(char::is_ascii_uppercase) {
        Some(character) => Err(FormError::Character {
            character,
            what: "the name of a URI's scheme, class or host",
        }),
        None => Ok(()),
    }
}

/// Bytes of a URI in which the case of letters says nothing: the scheme, and with it a URN's namespace
/// or the host.
fn start_of(uri: &str) -> usize {
    let Some(colon) = uri.find(':') else { return 0 };
    let (scheme, rest) = (&uri[..colon], &uri[colon + 1..]);
    if scheme.eq_ignore_ascii_case("urn") {
        return rest.find(':').map_or(uri.len(), |at| colon + 1 + at);
    }
    match rest.strip_prefix("//") {
        Some(host) => host.find(['/', '?', '#']).map_or(uri.len(), |at| colon + 3 + at),
        None => colon,
    }
}

fn lower_start(uri: String) -> String {
    let (start, rest) = uri.split_at(start_of(&uri));
    start.to_ascii_lowercase() + rest
}

/// Upper case, in NFKC, without what is left out of every id.
fn upper(text: &str) -> String {
    if text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return text.to_ascii_uppercase();
    }
    // Compatible forms may have white space in them (as `¨` has), and capitals another form.
    let capitals: String = text.nfkc().collect::<String>().to_uppercase();
    capitals.nfkc().filter(|c| !is_left_out(*c)).nfkc().collect()
}

/// White space of any kind, and characters that are not seen. Other control characters are not left
/// out: what has them is damaged.
fn is_left_out(character: char) -> bool {
    character.is_whitespace()
        || character.general_category() == GeneralCategory::Format
        || text::is_unseen(character)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMES: [Scheme; 11] = [
        Scheme::Ucr,
        Scheme::Mrn,
        Scheme::DeclarationReference,
        Scheme::Container,
        Scheme::TransportDocument,
        Scheme::Certificate,
        Scheme::Trader,
        Scheme::Epc,
        Scheme::Case,
        Scheme::ValidatorKey,
        Scheme::Agency,
    ];

    #[test]
    fn every_spelling_of_an_id_has_one_normal_form() {
        for (scheme, spelt, form) in [
            (Scheme::Mrn, "26nl00000000000c27", "26NL00000000000C27"),
            (Scheme::Mrn, "26NL\u{a0}00000000000C28", "26NL00000000000C28"),
            (Scheme::Mrn, " 26NL 0000\t0000\n000C28\u{200b}", "26NL00000000000C28"),
            (Scheme::Mrn, "\u{feff}26NL\u{ad}0000\u{2060}", "26NL0000"),
            (Scheme::Mrn, "２６ＮＬ００", "26NL00"),
            (Scheme::Container, "csqu 305438-3", "CSQU3054383"),
            (Scheme::Container, "AD 12345", "AD12345"),
            (Scheme::Container, "CN-1234228/34", "CN1234228/34"),
            (Scheme::Ucr, "6nl123-a1", "6NL123-A1"),
            (Scheme::Trader, "gb 12", "GB12"),
            (Scheme::Case, "a-17\u{202e}", "A-17"),
            (Scheme::Certificate, "Ursprungszeugnis straße 7", "URSPRUNGSZEUGNISSTRASSE7"),
            (Scheme::TransportDocument, "гтд 12\u{301}", "ГТД12\u{301}"),
            (Scheme::DeclarationReference, "nl-douane/ lrn 1", "NL-DOUANE/LRN1"),
            (Scheme::DeclarationReference, "NL-DOUANE/a/b", "NL-DOUANE/A/B"),
            (Scheme::Agency, "nl-douane", "NL-DOUANE"),
            (Scheme::Epc, "URN:EPC:id:sgtin:4012345.0.aB", "urn:epc:id:sgtin:4012345.0.aB"),
            (Scheme::Epc, "HTTPS://Id.GS1.org/01/0952/21/aB", "https://id.gs1.org/01/0952/21/aB"),
        ] {
            assert_eq!(normal(scheme, spelt).as_deref(), Ok(form), "{spelt:?}");
            assert_eq!(check(scheme, form), Ok(()), "{form}");
            let wrong = check_spelling(scheme, spelt).expect_err(spelt);
            assert_eq!(wrong, FormError::Spelling(form.to_owned()), "{spelt:?}");
        }
    }

    #[test]
    fn what_has_no_normal_form_is_refused_with_the_reason() {
        for (scheme, id, why) in [
            (Scheme::Mrn, "", "empty"),
            (Scheme::Mrn, "\u{a0}", "empty"),
            (Scheme::Mrn, "26NL-1", "U+002D is no character of an MRN"),
            (Scheme::Mrn, "26NÖ1", "U+00D6"),
            // A Cyrillic letter that looks like one of the alphabet.
            (Scheme::Container, "СSQU3054383", "U+0421"),
            (Scheme::Trader, "GB\u{1b}[31m", "U+001B"),
            (Scheme::Case, "a\u{7}b", "U+0007 is not allowed"),
            (Scheme::Case, "\u{301}A", "mark"),
            (Scheme::Case, "ĸ", "no lower-case letters"),
            (Scheme::Case, "A\u{378}", "U+0378 is not allowed"),
            (Scheme::DeclarationReference, "LRN1", "AGENCY/REFERENCE"),
            (Scheme::DeclarationReference, "N/LRN1", "AGENCY/REFERENCE"),
            (Scheme::DeclarationReference, "NL-DOUANE/", "empty"),
            (Scheme::Agency, "N", "agency's code"),
            (Scheme::ValidatorKey, "ab", "64 lower-case"),
            (Scheme::Epc, "4012345", "not a URI"),
            (Scheme::Epc, "urn:é", "U+00E9 is no character of a URI"),
            (Scheme::Unspecified, "X", "no scheme"),
        ] {
            let error = normal(scheme, id).expect_err(id).to_string();
            assert!(error.contains(why), "{id:?}: {error}");
        }
        let long = "X".repeat(SUBJECT_ID_BYTES_MAX + 1);
        assert_eq!(normal(Scheme::Case, &long), Err(FormError::TooLong(257)));
        assert_eq!(check(Scheme::Case, &long[1..]), Ok(()));
        // Of each of these characters NFKC makes eighteen.
        let longer = "\u{fdfa}".repeat(1_000_000);
        let too_long = FormError::TooLong(longer.len());
        for scheme in SCHEMES {
            assert_eq!(normal(scheme, &longer), Err(too_long.clone()));
            assert_eq!(check_spelling(scheme, &longer), Err(too_long.clone()));
        }
        assert_eq!(normal_reference(&longer), Err(too_long));
        assert_eq!(normal_reference(&long[..REFERENCE_BYTES_MAX]).map(|id| id.len()), Ok(239));
        normal_reference(&long[..REFERENCE_BYTES_MAX + 1]).expect_err("no agency could have it");
    }

    proptest::proptest! {
        #[test]
        fn a_normal_form_is_that_of_itself(text in "\\PC{1,24}") {
            for scheme in SCHEMES {
                if let Ok(form) = normal(scheme, &text) {
                    proptest::prop_assert_eq!(check(scheme, &form), Ok(()));
                    proptest::prop_assert_eq!(normal(scheme, &form), Ok(form.clone()));
                }
                // What the chain takes as it is, is never spelt anew.
                if check(scheme, &text).is_ok() {
                    proptest::prop_assert_eq!(normal(scheme, &text), Ok(text.clone()));
                }
            }
        }

        #[test]
        fn letters_in_either_case_and_white_space_change_nothing(text in "[A-Za-z0-9 \u{a0}\u{200b}]{1,24}") {
            let plain: String = text.chars().filter(char::is_ascii_alphanumeric).collect();
            for scheme in [Scheme::Mrn, Scheme::Container, Scheme::Case, Scheme::Trader] {
                proptest::prop_assert_eq!(normal(scheme, &text), normal(scheme, &plain.to_uppercase()));
            }
        }
    }
}
