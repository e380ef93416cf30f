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

use customhouse_ledger::transaction::SlotForm;
use customhouse_proto::v1;

pub use filter::{FilterError, Listed};
pub use linked::{Linked, linked};
pub use page::{Budget, ListedRecords, LogPlace, NoSuchPlace, list, newest, oldest};

/// What an answer says of a record's form; nothing where it is open.
pub fn sealed_of(form: &SlotForm) -> Option<v1::Sealed> {
    form.epoch().map(|epoch| v1::Sealed {
        agreement: epoch.agreement.0.to_vec(),
        epoch: epoch.number,
        is_grant: matches!(form, SlotForm::Grant(_)),
    })
}
