//! Records that are sealed: what a node does with them beyond their slots, which are the ledger's.

pub mod backing_up;
pub mod keys;
pub mod metrics;
pub mod upkeep;
