//! Why there is no connection, passed through a library's errors.

use std::fmt;

/// Why there is no connection, in a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NoConnection(pub(crate) String);

impl fmt::Display for NoConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NoConnection {}

impl NoConnection {
    /// Looks for one among what an error came from.
    pub(crate) fn among<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Self> {
        let mut cause = Some(error);
        while let Some(error) = cause {
            if let Some(found) = error.downcast_ref::<Self>() {
                return Some(found);
            }
            cause = error.source();
        }
        None
    }
}
