//! The Customhouse node: the shell around the consensus core and the ledger.
//!
//! The entry point is [`node::Node::start`]; its module shows how the parts hang together.

pub mod absence;
pub mod admission;
pub mod agreements;
pub mod attachments;
mod buffers;
pub mod checkpoint;
pub mod clock;
pub mod config;
pub mod descriptors;
pub mod driver;
pub mod health;
pub mod identity;
mod imports;
pub mod inbound;
pub mod journal;
pub mod listing;
pub mod local_network;
pub mod logs;
pub mod mempool;
pub mod metrics;
pub mod network;
pub mod node;
mod own_agreement;
mod priority;
pub mod readiness;
mod reporter;
pub mod sealed;
pub mod serve;
pub mod services;
pub mod store;
pub mod submissions;
pub mod tasks;
pub mod tls;
pub mod view;
