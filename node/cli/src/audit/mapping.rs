//! Whether a record says what its source says: `audit verify --source`.

use std::fmt;

use customhouse_formats::{SourceCheck, SourcePlace, check_source, check_source_with};
use customhouse_proto::v1::{self, source::Mapping};
use serde::Serialize;

use crate::{audit::source_files::SourceFiles, output::one_line};

/// Code of a record that contradicts its source.
pub(super) const SOURCE_DIFFERS: &str = "SOURCE_DIFFERS";
/// Code of a record that could not be held against its source.
pub(super) const SOURCE_NOT_CHECKED: &str = "SOURCE_NOT_CHECKED";

/// What came of mapping a record's source again, here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Found {
    /// The record says what its source says.
    Checked,
    /// It says something else.
    Differs,
    /// What mapped it is not in this program, or is in another version.
    UnknownImporter,
    /// The source is beside the record, not in the receipt, and in none of the files that were named.
    Elsewhere,
    /// The record was made from no message.
    NoSource,
    /// The receipt is without the record.
    NoRecord,
}

/// A record held against its source.
#[derive(Debug, Serialize)]
pub(super) struct MappingView {
    found: Found,
    /// What mapped it, as the record says.
    #[serde(skip_serializing_if = "String::is_empty")]
    importer: String,
    /// Whether the node that signed it says that it has mapped the source itself.
    node_says_checked: bool,
    /// The fields that say something else.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    fields: Vec<String>,
}

impl MappingView {
    /// Sources that are not in their records are looked for among `files`.
    pub(super) fn of(record: Option<&v1::Record>, files: &SourceFiles) -> Self {
        let Some(record) = record else { return Self::without(Found::NoRecord) };
        let beside = match SourcePlace::of(record) {
            SourcePlace::Attachment(attachment) => files.content(attachment),
            SourcePlace::Inside(_) | SourcePlace::Absent => None,
        };
        let check = match beside {
            Some(content) => check_source_with(record, &content),
            None => check_source(record),
        };
        let (found, fields) = match check {
            SourceCheck::Checked => (Found::Checked, Vec::new()),
            SourceCheck::Differs(fields) => (Found::Differs, fields),
            SourceCheck::UnknownImporter => (Found::UnknownImporter, Vec::new()),
            SourceCheck::Elsewhere => (Found::Elsewhere, Vec::new()),
            SourceCheck::NoSource => (Found::NoSource, Vec::new()),
        };
        let source = record.source.as_ref();
        Self {
            found,
            importer: source.map(|source| source.importer.clone()).unwrap_or_default(),
            node_says_checked: source.is_some_and(|source| source.mapping() == Mapping::Checked),
            fields,
        }
    }

    fn without(found: Found) -> Self {
        Self { found, importer: String::new(), node_says_checked: false, fields: Vec::new() }
    }

    /// The fields that contradict the source, if any do.
    pub(super) fn differing(&self) -> Option<String> {
        (self.found == Found::Differs).then(|| self.fields.join(", "))
    }

    /// Why the record was not held against its source, if it has one or may have one.
    pub(super) fn unchecked(&self) -> Option<String> {
        let is_unchecked =
            matches!(self.found, Found::UnknownImporter | Found::Elsewhere | Found::NoRecord);
        is_unchecked.then(|| self.to_string())
    }
}

impl fmt::Display for MappingView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let importer = one_line(&self.importer);
        match self.found {
            Found::Checked => write!(f, "source CHECKED: {importer} makes the same record of it"),
            Found::Differs => write!(f, "source differs: {}", one_line(&self.fields.join(", "))),
            Found::UnknownImporter if self.importer.is_empty() => {
                write!(f, "source not checked: the submitter mapped it")
            }
            Found::UnknownImporter => {
                write!(f, "source not checked: {importer} is an unknown importer here")
            }
            Found::Elsewhere => {
                write!(f, "source not checked: it is an attachment, which --source-files can name")
            }
            Found::NoSource => write!(f, "no source: it was made from no message"),
            Found::NoRecord => write!(f, "source not checked: the record is not in the receipt"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use customhouse_formats::{Outcome, RawMessage, import};
    use customhouse_proto::v1::record::Body;

    use super::*;

    fn record() -> v1::Record {
        let content = b"<Declaration><TypeCode>IMA</TypeCode><ID>26NL1</ID></Declaration>";
        let message = RawMessage { label: "a.xml", content, lines_before: 0 };
        let mut found = None;
        import(None, &message, &mut |outcome| {
            found = outcome.ok();
            ControlFlow::Break(())
        });
        match found {
            Some(Outcome::Imported(imported)) => imported.record,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_record_is_checked_or_differs_or_nothing_can_be_said() {
        let none = SourceFiles::default();
        let mut record = record();
        let view = MappingView::of(Some(&record), &none);
        assert_eq!((view.found, view.differing(), view.unchecked()), (Found::Checked, None, None));
        assert!(view.to_string().contains("customhouse-wco/1"), "{view}");
        if let Some(Body::Declaration(declaration)) = &mut record.body {
            declaration.mrn = "26NL2".into();
        }
        let view = MappingView::of(Some(&record), &none);
        assert_eq!(view.differing().as_deref(), Some("declaration.mrn"));
        if let Some(source) = &mut record.source {
            source.importer = "another/1".into();
        }
        let view = MappingView::of(Some(&record), &none);
        assert_eq!((view.found, view.differing()), (Found::UnknownImporter, None));
        assert!(view.to_string().contains("another/1"), "{view}");
        assert!(view.unchecked().is_some());
        let view = MappingView::of(None, &none);
        assert_eq!((view.found, view.unchecked().is_some()), (Found::NoRecord, true));
        let view = MappingView::of(Some(&v1::Record::default()), &none);
        assert_eq!((view.found, view.unchecked()), (Found::NoSource, None));
    }
}
