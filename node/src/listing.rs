//! Which records a node lists: a walk along the log with a filter, a bounded part of it at a time.
//!
//! | module | subject |
//! |---|---|
//! | `filter` | which records are asked for, and what a filter sees of a record |
//! | `linked` | what belongs to a subject's history by a link, and not by the subject |
//! | `page` | what is found from a place on, oldest or newest first, and where it goes on |

mod filter;
mod linked;
mod page;
#[cfg(test)]
mod tests;

pub use filter::{FilterError, Listed};
pub use linked::{Linked, linked};
pub use page::{Budget, ListedRecords, LogPlace, NoSuchPlace, list, newest, oldest};
