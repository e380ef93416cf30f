//! The Customhouse node: the shell around the consensus core and the ledger.

pub mod identity;
pub mod journal;
pub mod mempool;
pub mod submissions;
pub mod tls;
