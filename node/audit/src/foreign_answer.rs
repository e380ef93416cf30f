//! Answers to another agency's records, and how they are marked wherever a record is shown.

use std::fmt;

use customhouse_ledger::{agency::AgencyCode, authority::Stated};
use customhouse_proto::v1;

/// A record that answers to another agency's: what it says is its own agency's view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForeignAnswer {
    /// The agency of the record.
    pub own: AgencyCode,
    /// That of the record that it answers to.
    pub answered: AgencyCode,
}

impl ForeignAnswer {
    /// Of a record, where it is one.
    pub fn of(record: &v1::Record) -> Option<Self> {
        let own = record.agency.parse().ok()?;
        let answered = Stated::of(record)?.answers_another(own)?;
        Some(Self { own, answered })
    }
}

impl fmt::Display for ForeignAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { own, answered } = self;
        write!(f, "as {own} sees it; {answered}, whose record it answers, has not said so by this")
    }
}
