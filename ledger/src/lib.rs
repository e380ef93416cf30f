//! What a record, transaction, block, certificate, proof and receipt is, and how to verify them.

pub mod agency;
pub mod certificate;
pub mod hash;
pub mod header;
pub mod keys;
pub mod layout;
pub mod validators;
pub mod vote;
