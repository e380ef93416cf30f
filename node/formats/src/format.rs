//! The formats that are read, in one table. A further one is a type with this trait, and a line of
//! [`FORMATS`]; see CONTRIBUTING.md, "A further format".

use std::ops::ControlFlow;

use customhouse_proto::v1;

use super::{
    error::ImportError,
    imported::Outcome,
    rows::{self, csv_rows_after},
    wco::{self, wco_message},
};

/// A message as it came.
#[derive(Clone, Copy, Debug)]
pub struct RawMessage<'m> {
    /// Its file, or another name: for people, and to tell its folder.
    pub label: &'m str,
    /// Its bytes.
    pub content: &'m [u8],
    /// Where it is cut out of a file of rows: lines of the file between the header and this part.
    pub lines_before: usize,
}

/// Is told what each message comes to, in order; says whether to go on.
pub type EachOutcome<'f> = &'f mut dyn FnMut(Result<Outcome, ImportError>) -> ControlFlow<()>;

/// A format of messages, with what makes records of them.
pub trait Format: Sync {
    /// Its name in calls and on the command line.
    fn name(&self) -> &'static str;

    /// What the records it makes say of who made them, with a version: it changes with what comes out.
    fn importer(&self) -> &'static str;

    /// Whether content looks as if it were of this format. Only looks at its beginning.
    fn accepts(&self, content: &[u8]) -> bool;

    /// Reads what is in a message: one outcome, or one a row. What is malformed says where and why, and
    /// the rest goes on. Takes time and memory in proportion to the content.
    fn import(&self, message: &RawMessage<'_>, each: EachOutcome<'_>);

    /// Makes a record's source into a record again.
    ///
    /// # Errors
    /// The source is malformed.
    fn again(&self, content: &[u8]) -> Result<Outcome, ImportError>;
}

/// Every format. Where several accept a content, the first is taken.
pub const FORMATS: [&dyn Format; 2] = [&Wco, &Rows];

/// The format of a name.
pub fn format_named(name: &str) -> Option<&'static dyn Format> {
    FORMATS.into_iter().find(|format| format.name() == name)
}

/// The format that a content looks like.
pub fn format_of(content: &[u8]) -> Option<&'static dyn Format> {
    FORMATS.into_iter().find(|format| format.accepts(content))
}

/// The format whose importer has this name and version.
pub(crate) fn format_by_importer(importer: &str) -> Option<&'static dyn Format> {
    FORMATS.into_iter().find(|format| format.importer() == importer)
}

/// Reads a message: of the format given, or of the one that it looks like.
pub fn import(format: Option<&dyn Format>, message: &RawMessage<'_>, each: EachOutcome<'_>) {
    let format = format.or_else(|| format_of(message.content).map(|format| format as &dyn Format));
    match format {
        Some(format) => format.import(message, each),
        None => {
            let file = message.label.to_owned();
            let known: Vec<_> = FORMATS.iter().map(|format| format.name()).collect();
            let _ended = each(Err(ImportError::UnknownFormat { file, known: known.join(", ") }));
        }
    }
}

/// WCO Data Model messages in XML.
struct Wco;

impl Format for Wco {
    fn name(&self) -> &'static str {
        "wco"
    }

    fn importer(&self) -> &'static str {
        wco::IMPORTER
    }

    fn accepts(&self, content: &[u8]) -> bool {
        wco::looks_like_xml(content)
    }

    fn import(&self, message: &RawMessage<'_>, each: EachOutcome<'_>) {
        let _ended = each(wco_message(message.content, message.label));
    }

    fn again(&self, content: &[u8]) -> Result<Outcome, ImportError> {
        wco_message(content, "source")
    }
}

/// Rows of Korean import declarations.
struct Rows;

impl Format for Rows {
    fn name(&self) -> &'static str {
        "rows"
    }

    fn importer(&self) -> &'static str {
        rows::IMPORTER
    }

    fn accepts(&self, content: &[u8]) -> bool {
        let content = content.strip_prefix("\u{feff}".as_bytes()).unwrap_or(content);
        content.starts_with(rows::KOREAN_COLUMNS[0].as_bytes())
    }

    fn import(&self, message: &RawMessage<'_>, each: EachOutcome<'_>) {
        let RawMessage { label, content, lines_before } = message;
        let rows = match csv_rows_after(*content, label, *lines_before) {
            Ok(rows) => rows,
            Err(error) => {
                let _ended = each(Err(error));
                return;
            }
        };
        for row in rows {
            let outcome = row.map(|row| Outcome::Imported(Box::new(row)));
            if each(outcome).is_break() {
                return;
            }
        }
    }

    fn again(&self, content: &[u8]) -> Result<Outcome, ImportError> {
        rows::row_again(content).map(|row| Outcome::Imported(Box::new(row)))
    }
}

/// Where the bytes are that a record was made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourcePlace<'r> {
    /// In the record.
    Inside(&'r [u8]),
    /// Beside it, because they are too large: pieces under the attachment's root.
    Attachment(&'r v1::Attachment),
    /// Nowhere: it was made from no message.
    Absent,
}

impl<'r> SourcePlace<'r> {
    /// Of a record.
    pub fn of(record: &'r v1::Record) -> Self {
        let Some(source) = &record.source else { return Self::Absent };
        match &source.attachment {
            Some(attachment) => Self::Attachment(attachment),
            None if source.content.is_empty() => Self::Absent,
            None => Self::Inside(&source.content),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcomes(content: &[u8], format: Option<&dyn Format>) -> Vec<Result<Outcome, ImportError>> {
        let message = RawMessage { label: "a", content, lines_before: 0 };
        let mut found = Vec::new();
        import(format, &message, &mut |outcome| {
            found.push(outcome);
            ControlFlow::Continue(())
        });
        found
    }

    #[test]
    fn a_content_is_of_the_format_that_it_looks_like() {
        let name = |content: &[u8]| format_of(content).map(|format| format.name());
        assert_eq!(name(b"<Declaration/>"), Some("wco"));
        assert_eq!(name(b"\xef\xbb\xbf\r\n <?xml version='1.0'?>"), Some("wco"));
        assert_eq!(name(&[0xff, 0xfe, b'<', 0]), Some("wco"));
        assert_eq!(name(&[0, b'<', 0, b'a']), Some("wco"));
        assert_eq!(name(b"Declaration ID,Date"), Some("rows"));
        assert_eq!(name(b"UNB+UNOA:1"), None);
        assert_eq!(name(b""), None);
    }

    #[test]
    fn a_content_of_no_known_format_is_named_with_those_that_are() {
        let found = outcomes(b"UNB+UNOA:1", None);
        let [Err(error)] = &found[..] else { panic!("{found:?}") };
        assert_eq!(error.to_string(), "a: of none of the formats that are read (wco, rows)");
        let wco = format_named("wco").map(|format| format as &dyn Format);
        assert!(matches!(outcomes(b"UNB+", wco)[..], [Err(ImportError::Malformed { .. })]));
        assert!(format_named("edifact").is_none());
    }

    #[test]
    fn names_and_importers_are_of_one_format_each() {
        for format in FORMATS {
            assert_eq!(format_named(format.name()).map(|found| found.name()), Some(format.name()));
            let found = format_by_importer(format.importer()).map(|found| found.name());
            assert_eq!(found, Some(format.name()));
        }
    }

    #[test]
    fn rows_go_on_until_they_are_told_to_end() {
        let rows = [rows::KOREAN_COLUMNS.join(","), "bad".into(), "bad".into()].join("\n");
        assert_eq!(outcomes(rows.as_bytes(), None).len(), 2);
        let message = RawMessage { label: "a", content: rows.as_bytes(), lines_before: 10 };
        let mut places = Vec::new();
        import(None, &message, &mut |outcome| {
            places.push(outcome.expect_err("malformed").to_string());
            ControlFlow::Break(())
        });
        assert_eq!(places.len(), 1);
        assert!(places[0].starts_with("a:12: "), "{places:?}");
    }
}
