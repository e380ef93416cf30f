//! A file that is not what it should be.

use std::io;

/// A file whose content is not what it should be, with the stable code of what is wrong.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct InvalidFile {
    /// Stable.
    pub code: &'static str,
    /// A sentence.
    pub reason: String,
}

impl InvalidFile {
    /// The error of a file that could not be read. If it is too large or not text, it is not of its kind,
    /// which has this code; otherwise nothing is known of it.
    pub fn or_unread(error: io::Error, code: &'static str) -> anyhow::Error {
        match error.kind() {
            io::ErrorKind::FileTooLarge | io::ErrorKind::InvalidData => {
                Self { code, reason: error.to_string() }.into()
            }
            _ => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_no_invalid_file() {
        let of = |kind: io::ErrorKind| InvalidFile::or_unread(kind.into(), "A_CODE");
        let invalid = of(io::ErrorKind::FileTooLarge);
        assert_eq!(invalid.downcast_ref().map(|error: &InvalidFile| error.code), Some("A_CODE"));
        assert!(!of(io::ErrorKind::NotFound).is::<InvalidFile>());
    }
}
