//! The terms of an agreement: what it lets whom read, for what, and for how long.
//!
//! The chain has their hash alone. They travel sealed among the parties, each of which holds them against that hash
//! before it approves, and they have 32 random bytes in them, so that nobody finds them by trying.

use std::fmt;

use customhouse_proto::v1::{
    self,
    agreement_terms::Route,
    subject::Scheme::{self, Unspecified},
};
use prost::Message as _;

use crate::{
    agency::AgencyCode,
    authority::{ALWAYS_OPEN, RecordKind},
    canonical,
    hash::{Hash, Tag},
    limits::{
        PARTIES_MAX, TERMS_BYTES_MAX, TERMS_ERASE_DAYS_MAX, TERMS_FILTER_MAX, TERMS_NAME_BYTES_MAX,
        TERMS_PATIENCE_MS_MAX, TERMS_RETENTION_MONTHS_MAX, TERMS_TEXT_BYTES_MAX,
    },
    text::check_name,
};

mod sentences;

/// Why terms are refused. Each names the field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TermsError {
    /// Too many bytes, not the message, or not in its one encoding.
    #[error("terms: {0}")]
    Encoding(String),
    /// A field that is missing, too long, out of its range, or not in its order.
    #[error("terms.{field}: {expected}")]
    Field {
        /// Which.
        field: &'static str,
        /// What is expected of it.
        expected: String,
    },
}

impl TermsError {
    /// A stable code for clients and scripts.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Encoding(_) => "TERMS_ENCODING",
            Self::Field { .. } => "TERMS_FIELD",
        }
    }
}

/// Terms that were checked.
#[derive(Clone, PartialEq)]
pub struct AgreementTerms {
    proto: v1::AgreementTerms,
    hash: Hash,
}

impl AgreementTerms {
    /// Checks the message.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn from_proto(proto: v1::AgreementTerms) -> Result<Self, TermsError> {
        let bytes = proto.encode_to_vec();
        check_length(&bytes)?;
        check_scope(&proto)?;
        check_conditions(&proto)?;
        let hash = Tag::AGREEMENT_TERMS.hash(&[&bytes]);
        Ok(Self { proto, hash })
    }

    /// Reads the one encoding that terms have.
    ///
    /// # Errors
    /// [`TermsError::Encoding`]; then as [`Self::from_proto`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TermsError> {
        check_length(bytes)?;
        let proto = canonical::decode(bytes);
        Self::from_proto(proto.map_err(|error| TermsError::Encoding(error.to_string()))?)
    }

    /// The message.
    pub fn to_proto(&self) -> v1::AgreementTerms {
        self.proto.clone()
    }

    /// Their one encoding.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.proto.encode_to_vec()
    }

    /// What an epoch has of them.
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// Whether records of a kind are shared. Which of them are is the filters' to say.
    pub fn covers(&self, kind: RecordKind) -> bool {
        !ALWAYS_OPEN.contains(&kind)
            && (self.proto.kinds == 0 || self.proto.kinds & RecordKind::bits(&[kind]) != 0)
    }

    /// Whether records are indexed by their subjects of a scheme.
    pub fn indexes(&self, scheme: Scheme) -> bool {
        let schemes = &self.proto.schemes;
        scheme != Unspecified && (schemes.is_empty() || schemes.contains(&(scheme as i32)))
    }

    /// Months that what is shared may be kept.
    pub fn retention_months(&self) -> u32 {
        self.proto.retention_months
    }

    /// How many other parties are to have a record's bytes before its transaction goes out.
    pub fn holders(&self) -> u32 {
        self.proto.holders
    }

    /// How long a transaction waits for them, milliseconds.
    pub fn patience_ms(&self) -> u64 {
        self.proto.patience_ms
    }

    /// Whether they are terms for these parties: no more holders are asked for than there are others.
    ///
    /// # Errors
    /// [`TermsError::Field`].
    pub fn check_parties(&self, parties: &[AgencyCode]) -> Result<(), TermsError> {
        let others = parties.len().saturating_sub(1);
        match usize::try_from(self.proto.holders).is_ok_and(|holders| holders <= others) {
            true => Ok(()),
            false => {
                Err(field("holders", format!("at most {others}: there are no more other parties")))
            }
        }
    }
}

/// They are for their parties alone: what is shown of them is their hash.
impl fmt::Debug for AgreementTerms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AgreementTerms({}…)", self.hash.short())
    }
}

fn field(field: &'static str, expected: impl Into<String>) -> TermsError {
    TermsError::Field { field, expected: expected.into() }
}

fn check_length(bytes: &[u8]) -> Result<(), TermsError> {
    match bytes.len() {
        0..=TERMS_BYTES_MAX => Ok(()),
        found => {
            Err(TermsError::Encoding(format!("{found} bytes, at most {TERMS_BYTES_MAX} are taken")))
        }
    }
}

/// What is shared.
fn check_scope(terms: &v1::AgreementTerms) -> Result<(), TermsError> {
    let expect = |is_right: bool, name, expected: String| match is_right {
        true => Ok(()),
        false => Err(field(name, expected)),
    };
    let sealed: Vec<_> =
        RecordKind::ALL.into_iter().filter(|kind| !ALWAYS_OPEN.contains(kind)).collect();
    let known = terms.kinds & !RecordKind::bits(&sealed) == 0;
    let expected = "bits of kinds that may be sealed, none for all of them";
    expect(known, "kinds", expected.to_owned())?;
    let ascend = terms.chapters.is_sorted_by(|a, b| a < b);
    let chapters = ascend && terms.chapters.iter().all(|chapter| (1..=99).contains(chapter));
    expect(chapters, "chapters", "1 to 99, strictly ascending".to_owned())?;
    let order = |route: &Route| (route.from.clone(), route.to.clone());
    let is_country =
        |code: &str| code.len() == 2 && code.bytes().all(|byte| byte.is_ascii_uppercase());
    let is_route =
        |route: &Route| is_country(&route.from) && is_country(&route.to) && route.from != route.to;
    let routes = terms.routes.len() <= TERMS_FILTER_MAX
        && terms.routes.iter().all(is_route)
        && terms.routes.is_sorted_by(|a, b| order(a) < order(b));
    let expected = format!(
        "at most {TERMS_FILTER_MAX} pairs of two different countries, ISO 3166-1 alpha-2, strictly ascending"
    );
    expect(routes, "routes", expected)?;
    let offices = terms.offices.len() <= TERMS_FILTER_MAX
        && terms.offices.iter().all(|office| is_code(office))
        && terms.offices.is_sorted_by(|a, b| a < b);
    let expected = format!(
        "at most {TERMS_FILTER_MAX} codes of 1 to {TERMS_NAME_BYTES_MAX} letters, digits, `-` and `.`, strictly \
         ascending"
    );
    expect(offices, "offices", expected)?;
    let fields = terms.field_set.is_empty() || is_code(&terms.field_set);
    let expected =
        format!("empty, or a name of 1 to {TERMS_NAME_BYTES_MAX} letters, digits, `-` and `.`");
    expect(fields, "field_set", expected)?;
    let is_scheme = |number: &i32| Scheme::try_from(*number).is_ok_and(|s| s != Unspecified);
    let schemes = terms.schemes.iter().all(is_scheme) && terms.schemes.is_sorted_by(|a, b| a < b);
    expect(schemes, "schemes", "known ones, strictly ascending".to_owned())
}

fn is_code(text: &str) -> bool {
    let is_taken = |byte: u8| byte.is_ascii_alphanumeric() || b"-.".contains(&byte);
    (1..=TERMS_NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_taken)
}

/// For what, and for how long.
fn check_conditions(terms: &v1::AgreementTerms) -> Result<(), TermsError> {
    Hash::from_slice(&terms.salt).map_err(|_| field("salt", "32 random bytes"))?;
    for (name, text) in [("purpose", &terms.purpose), ("legal_basis", &terms.legal_basis)] {
        if !(1..=TERMS_TEXT_BYTES_MAX).contains(&text.len()) {
            return Err(field(name, format!("1 to {TERMS_TEXT_BYTES_MAX} bytes")));
        }
        check_name(text).map_err(|error| field(name, error.to_string()))?;
    }
    let range = |name, found: u64, min: u64, max: u64| match (min..=max).contains(&found) {
        true => Ok(()),
        false => Err(field(name, format!("{min} to {max}"))),
    };
    let months_max = u64::from(TERMS_RETENTION_MONTHS_MAX);
    range("retention_months", terms.retention_months.into(), 1, months_max)?;
    range("holders", terms.holders.into(), 0, PARTIES_MAX as u64 - 1)?;
    // With holders and no patience, none would be waited for.
    let (min, max) = if terms.holders == 0 { (0, 0) } else { (1, TERMS_PATIENCE_MS_MAX) };
    range("patience_ms", terms.patience_ms, min, max)?;
    range("erase_days", terms.erase_days.into(), 1, TERMS_ERASE_DAYS_MAX.into())
}

#[cfg(test)]
mod tests;
