//! The command line. Answers go to standard output, as text or JSON; everything else (progress,
//! warnings, errors, logs) goes to standard error. With JSON, what went wrong is an answer too.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage or configuration. `audit` and `store` have their own.
//!
//! Two programs are made of it: `customhouse`, and `customhouse-audit`, which has the audits alone and is
//! built without this crate's feature `node`: without the node, RocksDB and a C++ compiler.

// The audits alone use a part of what all commands share.
#![cfg_attr(not(feature = "node"), allow(dead_code))]

/// Says something on standard error. That nobody reads it stops nothing: a batch goes on, and the
/// exit code stays what it is.
macro_rules! note {
    ($($words:tt)*) => { $crate::output::note(&format!($($words)*)) };
}

#[cfg(feature = "node")]
mod agreement;
mod arguments;
#[cfg(feature = "node")]
mod attach;
mod audit;
mod auditor;
mod command;
mod connect;
mod failure;
mod genesis;
#[cfg(feature = "node")]
mod keys;
#[cfg(feature = "node")]
mod network;
#[cfg(feature = "node")]
mod node;
mod output;
mod progress;
#[cfg(feature = "node")]
mod query;
mod record_json;
#[cfg(feature = "node")]
mod registry;
mod signals;
#[cfg(feature = "node")]
mod store;
mod subject;
#[cfg(feature = "node")]
mod submit;
#[cfg(feature = "node")]
mod vault;
#[cfg(feature = "node")]
mod whole;

pub use auditor::audit_main;
#[cfg(feature = "node")]
pub use whole::main;
