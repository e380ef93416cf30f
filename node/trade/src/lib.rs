//! What records mean together.
//!
//! The ledger says that a record is well-formed, who states it and what it is about; it knows no life cycle,
//! because the laws of its members differ and change. Here a sequence of records about one thing is folded
//! into where that thing stands: `(state, record) → (state, anomalies)`.
//!
//! - **Nothing is stored.** A state can be computed again from the records, by anyone who has them, and comes
//!   out the same: there is no clock, no file and no chance in it.
//! - **Nothing is refused.** Real sequences do what no rule expects. A record that does not fit is shown as an
//!   anomaly with its rule's name, and the next one is taken; no record makes a fold panic.
//! - **A life cycle is one table in one file**, to be read beside its source.
//!
//! | module | subject |
//! |---|---|
//! | [`recorded`] | what a fold is fed: a record and its id |
//! | [`clearance`] | where a declaration stands: lodged, accepted, under control, released, … |

pub mod clearance;
pub mod recorded;
