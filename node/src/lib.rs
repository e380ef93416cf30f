//! The Customhouse node: the shell around the consensus core and the ledger.

pub mod config;
pub mod identity;
pub mod import;
pub mod journal;
pub mod keyfile;
pub mod layout;
pub mod mempool;
pub mod network;
mod newfile;
pub mod submissions;
pub mod tls;
