//! The Customhouse messages and services, generated from `customhouse/v1/*.proto`.
//!
//! What the messages mean and how they are checked is the ledger's. Here is only how requests are
//! decoded (feature `client`): whole, or not at all.

pub mod shape;
#[cfg(feature = "client")]
pub mod strict;

/// Version 1 of the interface.
#[allow(missing_docs, clippy::all)]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/customhouse.v1.rs"));
}

/// The compiled descriptors of all files, for gRPC reflection (`google.protobuf.FileDescriptorSet`).
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
