//! Whether a record says what its source says: a rule of the node that signs it.
//!
//! A record that names an importer which this node has is mapped again. Its fields are its source's, and it
//! says CHECKED; or it is refused. Of what another importer made nothing is known, and it says so.
//!
//! What a client has signed itself is refused in the same way where it is handed in. It says NOT_CHECKED
//! nevertheless, because a block may have it from another node: the ledger cannot map a source, and takes what
//! says something else.

use customhouse_formats::{SourceCheck, check_source};
use customhouse_ledger::transaction::VerifiedTransaction;
use customhouse_proto::v1::{self, source::Mapping};
use prost::Message as _;

use super::{SubmissionRefusal, Submissions};

/// How the records that are submitted came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MappedBy {
    /// Whoever submits them says so.
    Submitter,
    /// This node has just made them from their sources.
    ThisNode,
}

/// Checks a record against its source, and has it say what came of that. Takes CPU time in proportion to the
/// source.
///
/// # Errors
/// [`SubmissionRefusal::SourceDiffers`]; or a field where it claims what nobody has checked.
pub(super) fn check(record: &mut v1::Record, by: MappedBy) -> Result<(), SubmissionRefusal> {
    let Some(claimed) = record.source.as_ref().map(|source| source.mapping) else { return Ok(()) };
    let mapping = match by {
        MappedBy::ThisNode => Mapping::Checked,
        MappedBy::Submitter => match check_source(record) {
            SourceCheck::Checked => Mapping::Checked,
            SourceCheck::Differs(fields) => return Err(SubmissionRefusal::SourceDiffers(fields)),
            SourceCheck::UnknownImporter | SourceCheck::Elsewhere | SourceCheck::NoSource => {
                Mapping::NotChecked
            }
        },
    };
    if claimed != Mapping::NotChecked as i32 && claimed != mapping as i32 {
        return Err(SubmissionRefusal::Field {
            field: "record.source.mapping",
            reason:
                "must be NOT_CHECKED: this node cannot map the source, and says itself what it has \
                     checked"
                    .to_owned(),
        });
    }
    if let Some(source) = &mut record.source {
        source.set_mapping(mapping);
    }
    Ok(())
}

impl Submissions {
    /// Checks the records of a transaction that a client has signed against their sources. Takes CPU time in
    /// proportion to these.
    ///
    /// # Errors
    /// [`SubmissionRefusal::SourceDiffers`].
    pub fn check_signed(transaction: &VerifiedTransaction) -> Result<(), SubmissionRefusal> {
        let differs = |bytes: &bytes::Bytes| {
            // Most records name no importer, and are not decoded for this.
            let named = ImporterOfRecord::decode(bytes.clone()).ok()?.source?;
            let is_named = !named.importer.is_empty();
            let record = is_named.then(|| v1::Record::decode(bytes.clone()).ok()).flatten()?;
            match check_source(&record) {
                SourceCheck::Differs(fields) => Some(SubmissionRefusal::SourceDiffers(fields)),
                SourceCheck::Checked
                | SourceCheck::UnknownImporter
                | SourceCheck::Elsewhere
                | SourceCheck::NoSource => None,
            }
        };
        transaction.parts().records.iter().find_map(differs).map_or(Ok(()), Err)
    }
}

/// Of a record, what maps its source.
#[derive(Clone, PartialEq, prost::Message)]
struct ImporterOfRecord {
    #[prost(message, optional, tag = "6")]
    source: Option<Importer>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Importer {
    #[prost(string, tag = "5")]
    importer: String,
}

/// Whether checking a record takes more time than the others do: its source is mapped again.
pub(super) fn takes_long(record: &v1::Record) -> bool {
    record.source.as_ref().is_some_and(|source| !source.importer.is_empty())
}

#[cfg(test)]
mod tests {
    use customhouse_formats::{Outcome, RawMessage, import};
    use customhouse_proto::v1::record::Body;

    use super::*;

    fn imported() -> v1::Record {
        let content = b"<Declaration><TypeCode>IMA</TypeCode><ID>26NL1</ID></Declaration>";
        let message = RawMessage { label: "a.xml", content, lines_before: 0 };
        let mut found = None;
        import(None, &message, &mut |outcome| {
            found = Some(outcome);
            std::ops::ControlFlow::Continue(())
        });
        match found {
            Some(Ok(Outcome::Imported(imported))) => imported.record,
            other => panic!("{other:?}"),
        }
    }

    fn checked(change: impl Fn(&mut v1::Record)) -> Result<Mapping, SubmissionRefusal> {
        let mut record = imported();
        change(&mut record);
        check(&mut record, MappedBy::Submitter)?;
        Ok(record.source.expect("a source").mapping())
    }

    fn source(record: &mut v1::Record) -> &mut v1::Source {
        record.source.as_mut().expect("a source")
    }

    #[test]
    fn what_the_source_says_is_marked_as_checked_and_what_it_does_not_say_is_refused() {
        assert_eq!(checked(|_| ()), Ok(Mapping::Checked));
        assert_eq!(checked(|r| source(r).mapping = 1), Ok(Mapping::Checked));
        let other = checked(|r| {
            if let Some(Body::Declaration(declaration)) = &mut r.body {
                declaration.mrn = "26NL2".into();
            }
        });
        let fields = vec!["declaration.mrn".to_owned()];
        assert_eq!(other, Err(SubmissionRefusal::SourceDiffers(fields)));
    }

    #[test]
    fn nobody_claims_that_something_was_checked_which_was_not() {
        let unknown = |mapping: i32| {
            checked(move |r| {
                source(r).importer = "another/1".into();
                source(r).mapping = mapping;
            })
        };
        assert_eq!(unknown(0), Ok(Mapping::NotChecked));
        for claimed in [1, 7] {
            let refused = unknown(claimed).expect_err("refused").to_string();
            assert!(refused.starts_with("record.source.mapping: "), "{refused}");
        }
        let mut without = v1::Record { source: None, ..imported() };
        assert_eq!(check(&mut without, MappedBy::Submitter), Ok(()));
    }
}
