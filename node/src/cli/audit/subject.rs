//! Subjects that an auditor asks about. A proof is about exactly the id that was asked for, byte by byte:
//! of a mistyped one it proves, rightly and to no use, that nothing is about it.

use std::fmt;

use customhouse_ledger::{
    agency::AgencyCode, hash::Hash, keys::PublicKey, subject::SUBJECT_ID_BYTES_MAX,
};
use customhouse_node::import::has_wrong_check_digit;
use customhouse_proto::v1::{self, subject::Scheme};
use serde::Serialize;

use crate::cli::{
    failure::WrongUsage,
    output::one_line,
    query::{parse_subject, scheme_name},
};

/// What is asked about.
#[derive(clap::Args)]
pub(super) struct SubjectArgs {
    /// SCHEME:ID, as for `query history`, exactly as records have it.
    #[arg(value_name = "SUBJECT", value_parser = parse_subject)]
    subject: v1::Subject,
    /// Ask for this id although it has not the form of its scheme: a record may have been lodged with
    /// such a one.
    #[arg(long)]
    as_written: bool,
}

/// What is said of ids in the help of each command that takes one.
pub(super) const FORMS: &str = "\
The proof is about exactly this id, byte by byte; so one that has not the form of its scheme is refused:
declaration-reference is AGENCY/REFERENCE; mrn has neither lower-case letters nor spaces; ucr and
container have no lower-case letters, and a container number in the form of ISO 6346 has its check digit;
agency is an agency's code, validator-key 64 lower-case hexadecimal digits; and nothing begins or ends
with a space. The ledger itself does not check these forms: with --as-written another id is asked for.";

impl SubjectArgs {
    /// The subject, if its id has the form of its scheme.
    pub(super) fn subject(&self) -> anyhow::Result<&v1::Subject> {
        let asked = Asked::of(&self.subject);
        if self.subject.id.len() > SUBJECT_ID_BYTES_MAX {
            let reason = format!(
                "{}: no record's id has more than {SUBJECT_ID_BYTES_MAX} bytes",
                asked.scheme
            );
            return Err(WrongUsage(reason).into());
        }
        let wrong = wrong_form(self.subject.scheme(), &self.subject.id);
        if let Some(why) = wrong.filter(|_| !self.as_written) {
            let reason = format!(
                "{asked}: {why}. A proof about this id would say nothing of the right one; if records have \
                 it so, ask with --as-written"
            );
            return Err(WrongUsage(reason).into());
        }
        Ok(&self.subject)
    }
}

/// Why an id is not one of its scheme.
fn wrong_form(scheme: Scheme, id: &str) -> Option<String> {
    if id.trim() != id || id.contains(char::is_control) {
        return Some("the id has white space around it, or control characters in it".to_owned());
    }
    let lower = id.contains(char::is_lowercase);
    let why = match scheme {
        Scheme::DeclarationReference => {
            let parts = id.split_once('/').filter(|(_, reference)| !reference.is_empty());
            let has_agency = parts.is_some_and(|(agency, _)| agency.parse::<AgencyCode>().is_ok());
            (!has_agency).then_some(
                "the id is AGENCY/REFERENCE, such as NL-DOUANE/LRN1: a reference is unique within its \
                 agency only",
            )
        }
        Scheme::Mrn if lower || id.contains(char::is_whitespace) => {
            Some("an MRN has neither lower-case letters nor spaces")
        }
        Scheme::Ucr if lower => Some("a UCR has no lower-case letters"),
        Scheme::Container if lower => Some("a container number has no lower-case letters"),
        Scheme::Container if has_wrong_check_digit(id) => {
            Some("this container number has the wrong check digit (ISO 6346)")
        }
        Scheme::Agency => id.parse::<AgencyCode>().err().map(|_| "not an agency's code"),
        Scheme::ValidatorKey => {
            let key = id.parse::<Hash>().ok().filter(|_| !id.contains(char::is_uppercase));
            let key = key.and_then(|bytes| PublicKey::from_slice(&bytes.0).ok());
            key.is_none().then_some("not a public key, 64 lower-case hexadecimal digits")
        }
        _ => None,
    };
    why.map(str::to_owned)
}

/// What was asked about, for answers.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Asked {
    scheme: String,
    id: String,
}

impl Asked {
    pub(super) fn of(subject: &v1::Subject) -> Self {
        Self { scheme: scheme_name(subject.scheme()), id: subject.id.clone() }
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.scheme, one_line(&self.id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &str, as_written: bool) -> anyhow::Result<String> {
        let args = SubjectArgs { subject: parse_subject(text).expect("a subject"), as_written };
        args.subject().map(|subject| Asked::of(subject).to_string())
    }

    #[test]
    fn an_id_that_is_not_of_its_scheme_is_refused_with_the_reason() {
        for (text, why) in [
            ("declaration-reference:U.7867523LMYHX", "AGENCY/REFERENCE"),
            ("declaration-reference:NL-DOUANE/", "AGENCY/REFERENCE"),
            ("declaration-reference:nl-douane/U.1", "AGENCY/REFERENCE"),
            ("mrn:24gbj4xg51qgc33ar9", "lower-case"),
            ("mrn: 24GBJ4XG51QGC33AR9", "white space"),
            ("mrn:24GBJ4XG51QGC33AR9\n", "white space"),
            ("mrn:24GB J4XG51QGC33AR9", "spaces"),
            ("ucr:6nl123-a1", "lower-case"),
            ("container:csqu3054383", "lower-case"),
            ("container:CSQU3054384", "check digit"),
            ("agency:nl", "agency's code"),
            ("validator-key:AB", "64 lower-case"),
            ("case:a\u{7}b", "control"),
        ] {
            let error = asked(text, false).expect_err(text);
            assert!(error.to_string().contains(why), "{text}: {error}");
            assert!(error.is::<WrongUsage>(), "{text}");
            asked(text, true).expect("as it is written");
        }
    }

    #[test]
    fn an_id_that_no_record_can_have_is_refused_however_it_is_asked_for() {
        let long = format!("case:{}", "x".repeat(SUBJECT_ID_BYTES_MAX + 1));
        asked(&long, true).expect_err("too long");
        asked(&long[..long.len() - 1], false).expect("just long enough");
    }

    #[test]
    fn ids_as_records_have_them_are_asked_for_as_they_are() {
        for text in [
            "declaration-reference:NL-DOUANE/U.7867523LMYHX",
            "declaration-reference:NL-DOUANE/a/b c",
            "mrn:18GBJ4XG51QGC33AR9",
            "ucr:6NL123-A1",
            "container:CSQU3054383",
            "container:AD 12345",
            "agency:NL-DOUANE",
            "trader:gb 12",
            "epc:urn:epc:id:sgtin:4012345",
        ] {
            assert_eq!(asked(text, false).expect(text), text);
        }
    }
}
