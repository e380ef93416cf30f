//! A client of a node: what the command line, the bench and the tests speak through.

mod agreements;
mod attachments;
mod client;
mod connecting;
pub mod contract;
mod error;
mod large;
mod many;
mod no_connection;
mod sharing;
pub mod tls;

pub use attachments::attachment_of;
pub use client::{Client, RegistryAt};
pub use error::{CallRefused, ClientError};
