//! Submissions: from a client's call to its end.

mod outcome;

pub use outcome::{Accepted, End, Refusal};
