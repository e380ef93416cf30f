//! What a record, transaction, block, certificate, proof and receipt is, and how to verify them.
//!
//! | module | subject |
//! |---|---|
//! | [`hash`], [`keys`], [`merkle`] | SHA-256 with tags, Ed25519 with strict checks, RFC 6962 trees |
//! | [`layout`], [`canonical`] | fixed-width layouts; protobuf that has one encoding |
//! | [`record`], [`subject`], [`transaction`] | trade facts, what they are about, and what is signed |
//! | [`header`], [`vote`], [`certificate`], [`validators`], [`leaders`] | blocks, who agreed on them, and who proposes |
//! | [`evidence`], [`decision`], [`fork`] | proof that a validator broke a rule; how a height was decided; who divided a chain |
//! | [`history`], [`receipt`], [`consistency`], [`verifier`] | proofs, and checking them with the genesis alone |
//! | [`proof_json`] | the JSON forms of proofs |
//! | [`tlog`] | the log as the transparency-log world knows it: C2SP notes, checkpoints, tiles, proofs |
//! | [`agency`], [`registry`], [`parameters`], [`genesis`] | members, their keys, and the beginning |
//! | `chain`, `store` (feature `rocksdb`) | executing and committing blocks; the database |
//!
//! Nothing here knows a network, a clock or an async runtime. Without the feature `rocksdb` it
//! builds without C++ and does no I/O: that is the verifier.

pub mod agency;
pub mod canonical;
pub mod certificate;
#[cfg(feature = "rocksdb")]
pub mod chain;
pub mod consistency;
pub mod decision;
pub mod evidence;
pub mod fork;
pub mod genesis;
pub mod hash;
pub mod header;
pub mod history;
pub mod keys;
pub mod layout;
pub mod leaders;
pub mod merkle;
pub mod parameters;
pub mod proof_json;
pub mod receipt;
pub mod record;
pub mod registry;
#[cfg(feature = "rocksdb")]
pub mod store;
pub mod subject;
pub mod text;
pub mod tlog;
pub mod transaction;
pub mod validators;
pub mod verifier;
pub mod vote;
