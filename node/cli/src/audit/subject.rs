//! Subjects that an auditor asks about. A proof is about exactly one id, byte by byte; records have ids in
//! their normal forms only, and are asked for by these.

use std::fmt;

use customhouse_formats::{has_wrong_check_digit, perhaps_container};
use customhouse_proto::v1::{self, subject::Scheme};
use serde::Serialize;

use crate::{
    failure::WrongUsage,
    output::one_line,
    subject::{parse_subject, scheme_name},
};

/// What is asked about.
#[derive(clap::Args)]
pub(super) struct SubjectArgs {
    /// SCHEME:ID, as for `query history`.
    #[arg(value_name = "SUBJECT", value_parser = parse_subject)]
    subject: v1::Subject,
    /// Ask for a container number although its check digit is wrong or missing, or other characters stand
    /// in it: a record may have been lodged with such a one.
    #[arg(long)]
    as_written: bool,
}

/// What is said of ids in the help of each command that takes one.
pub(super) const FORMS: &str = "\
The proof is about the id in its normal form (docs/FORMATS.md), which records have by a rule of the ledger:
letters in upper case, without spaces and what is not seen; of a container number, without hyphens;
declaration-reference is AGENCY/REFERENCE; an epc keeps the case of its letters. An id that has no normal
form is refused, and so is without --as-written a container number whose check digit is wrong or missing,
or that has other characters in it: no check digit is a rule of the ledger.";

impl SubjectArgs {
    /// The subject.
    pub(super) fn subject(&self) -> anyhow::Result<&v1::Subject> {
        check(&self.subject, self.as_written)?;
        Ok(&self.subject)
    }
}

/// A container number is a whole and right one, unless it is asked for as it is written.
pub(super) fn check(subject: &v1::Subject, as_written: bool) -> anyhow::Result<()> {
    let id = &subject.id;
    if subject.scheme() != Scheme::Container || as_written {
        return Ok(());
    }
    let (what, other) = match perhaps_container(id) {
        _ if has_wrong_check_digit(id) => {
            ("this container number has the wrong check digit (ISO 6346)".to_owned(), "right")
        }
        Some(perhaps) => (format!("perhaps the container number {perhaps} is meant"), "other"),
        None => return Ok(()),
    };
    let reason = format!(
        "{}: {what}. A proof about it would say nothing of the {other} one; if records have it so, \
             ask with --as-written",
        Asked::of(subject)
    );
    Err(WrongUsage(reason).into())
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
    fn an_id_that_no_record_can_have_is_refused_with_the_reason() {
        let long = format!("case:{}", "X".repeat(257));
        for (text, why) in [
            ("declaration-reference:U.7867523LMYHX", "AGENCY/REFERENCE"),
            ("declaration-reference:NL-DOUANE/", "empty"),
            ("mrn:26NL-1", "U+002D"),
            ("mrn:\u{a0}", "empty"),
            ("ucr:é", "UCR"),
            ("agency:n", "agency's code"),
            ("validator-key:AB", "64 lower-case"),
            ("epc:4012345", "URI"),
            ("case:a\u{7}b", "U+0007"),
            (&long, "257 bytes"),
        ] {
            let error = parse_subject(text).expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn a_container_number_that_is_not_a_whole_one_is_asked_for_as_written_only() {
        for (text, why) in [
            ("container:CSQU3054384", "wrong check digit"),
            ("container:csqu 305438", "perhaps the container number CSQU3054383 is meant"),
            ("container:CSQU305438[3]", "perhaps the container number CSQU3054383 is meant"),
        ] {
            let error = asked(text, false).expect_err(text);
            assert!(error.to_string().contains(why) && error.is::<WrongUsage>(), "{error}");
            asked(text, true).expect("as it is written");
        }
    }

    #[test]
    fn ids_are_asked_for_in_their_normal_form() {
        for (text, normal) in [
            ("declaration-reference:NL-DOUANE/U.7867523LMYHX", ""),
            ("declaration-reference:nl-douane/a/b c", "declaration-reference:NL-DOUANE/A/BC"),
            ("mrn:18GBJ4XG51QGC33AR9", ""),
            ("mrn:26nl\u{a0}00000000000c27\n", "mrn:26NL00000000000C27"),
            ("ucr:6nl123-a1", "ucr:6NL123-A1"),
            ("container:csqu 305438-3", "container:CSQU3054383"),
            ("container:AD 12345", "container:AD12345"),
            ("trader:gb 12", "trader:GB12"),
            ("epc:urn:epc:id:sgtin:4012345.aB", ""),
        ] {
            let normal = if normal.is_empty() { text } else { normal };
            assert_eq!(asked(text, false).expect(text), normal);
        }
    }
}
