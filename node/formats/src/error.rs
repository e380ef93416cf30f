//! Why a message was not imported.

use std::{os::unix::ffi::OsStrExt as _, path::Path};

/// Why a file or row gave no record. Each names the file, the place and what is wrong; the rest of
/// a batch goes on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// The file or directory could not be read.
    #[error("{file}: {reason}")]
    Read {
        /// The file.
        file: String,
        /// What the system answered.
        reason: String,
    },
    /// The content looks like no format of [`FORMATS`](crate::FORMATS).
    #[error("{file}: of none of the formats that are read ({known})")]
    UnknownFormat {
        /// The file.
        file: String,
        /// Names of those that are.
        known: String,
    },
    /// The message, or the record made from it, is too large.
    #[error("{file}: {bytes} bytes or more, where at most {limit} may be")]
    TooLarge {
        /// The file.
        file: String,
        /// Bytes that the message, or the record made from it, has at least.
        bytes: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// The message is about more subjects than a record may be.
    #[error("{file}: about {count} subjects, more than the {limit} of a record")]
    TooManySubjects {
        /// The file.
        file: String,
        /// Subjects of the message.
        count: usize,
        /// Subjects allowed.
        limit: usize,
    },
    /// The file is not well-formed XML, or uses what is refused (document types, unknown encodings).
    #[error("{file}:{line}:{column}: not well-formed: {reason}")]
    Malformed {
        /// The file.
        file: String,
        /// From 1.
        line: usize,
        /// In characters, from 1.
        column: usize,
        /// What is wrong there.
        reason: String,
    },
    /// A well-formed message lacks a term that a record cannot do without.
    #[error("{file}:{line}:{column}: {element}: {reason}")]
    Term {
        /// The file.
        file: String,
        /// From 1.
        line: usize,
        /// In characters, from 1.
        column: usize,
        /// The element.
        element: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A row of a CSV file is not a declaration.
    #[error("{file}:{line}: column {column:?}: {reason}")]
    Row {
        /// The file.
        file: String,
        /// From 1; the header is line 1.
        line: usize,
        /// Name of the column.
        column: String,
        /// What is wrong there.
        reason: String,
    },
}

impl ImportError {
    /// Line and column, both from 1, where they are known; 0 where not.
    pub fn position(&self) -> (usize, usize) {
        match self {
            Self::Malformed { line, column, .. } | Self::Term { line, column, .. } => {
                (*line, *column)
            }
            Self::Row { line, .. } => (*line, 0),
            Self::Read { .. }
            | Self::UnknownFormat { .. }
            | Self::TooLarge { .. }
            | Self::TooManySubjects { .. } => (0, 0),
        }
    }
}

/// Text from outside as it is shown to people: quoted, control characters escaped, shortened.
pub(super) fn quoted(text: &str) -> String {
    const CHARS_MAX: usize = 60;
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}
/// A file that cannot be read.
pub(super) fn unreadable(path: &Path, error: &std::io::Error) -> ImportError {
    ImportError::Read { file: shown(path), reason: error.to_string() }
}

/// A path in messages to people. Bytes that are not UTF-8 are shown as numbers, so that no two files
/// have one name.
pub(super) fn shown(path: &Path) -> String {
    let mut text = String::new();
    for chunk in path.as_os_str().as_bytes().utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    text
}
