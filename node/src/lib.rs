//! The Customhouse node: the shell around the consensus core and the ledger.
//!
//! The entry point is [`node::Node::start`]; its module shows how the parts hang together.

pub mod absence;
pub mod admission;
pub mod api;
mod buffers;
pub mod clock;
pub mod config;
pub mod descriptors;
pub mod driver;
pub mod health;
pub mod http;
pub mod identity;
pub mod inbound;
pub mod journal;
pub mod layout;
pub mod logs;
pub mod mempool;
pub mod metrics;
pub mod network;
pub mod node;
mod priority;
pub mod readiness;
mod reporter;
pub mod store;
pub mod submissions;
pub mod tasks;
pub mod tlog;
pub mod tls;
