//! What a fold is fed.

use customhouse_ledger::hash::Hash;
use customhouse_proto::v1::{self, reference::Relation};

/// A record of a sequence, with its id.
#[derive(Clone, Copy, Debug)]
pub struct Recorded<'r> {
    /// The record's id, by which later records refer to it.
    pub id: Hash,
    /// The record. It need not have been checked: a fold takes whatever there is.
    pub record: &'r v1::Record,
}

impl Recorded<'_> {
    /// Whether the record says that it stands in this relation to an earlier one.
    pub fn refers(&self, relation: Relation, to: Hash) -> bool {
        let mut references = self.record.references.iter();
        references.any(|reference| {
            reference.relation == relation as i32 && reference.record_id == to.0.as_slice()
        })
    }
}
