//! What a record, transaction, block, certificate, proof and receipt is, and how to verify them.
//!
//! | module | subject |
//! |---|---|
//! | [`limits`] | how large or how many a thing may be: all limits of the formats |
//! | [`hash`], [`keys`], [`merkle`] | SHA-256 with tags, Ed25519 with strict checks, RFC 6962 trees |
//! | [`layout`], [`canonical`], [`text`] | fixed-width layouts; protobuf that has one encoding; characters and names |
//! | [`agency`], [`registry`] | members, their keys, their parameters, how they change, and the genesis |
//! | [`authority`] | who may state what, in which role, and what may refer to what |
//! | [`finality`] | blocks, and how it is proven that they are final |
//! | [`record`], [`transaction`] | trade facts by kind, what they are about, and what is signed |
//! | [`attachment`] | files that belong to records, in pieces with a root |
//! | [`history`] | the index of all records about a subject |
//! | [`proofs`] | receipts, histories, consistency, forks, and their verifier |
//! | [`tlog`] | the log as the transparency-log world knows it: C2SP notes, checkpoints, tiles, proofs |
//! | [`vrf`] | the keys under which sealed records are indexed, and the proof of what they are of |
//! | `chain`, `store` (feature `rocksdb`) | executing and committing blocks; the database |
//!
//! Nothing here knows a network, a clock or an async runtime. Without the feature `rocksdb` it
//! builds without C++ and does no I/O: that is the verifier.

pub mod agency;
pub mod agreement;
pub mod attachment;
pub mod authority;
pub mod canonical;
#[cfg(feature = "rocksdb")]
pub mod chain;
pub mod finality;
pub mod hash;
pub mod history;
pub mod keys;
pub mod layout;
pub mod limits;
pub mod merkle;
pub mod proofs;
pub mod record;
pub mod registry;
pub mod sealed_subject;
#[cfg(feature = "rocksdb")]
pub mod store;
pub mod text;
pub mod tlog;
pub mod transaction;
pub mod vrf;
