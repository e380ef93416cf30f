//! Secrets that have a name: those of agreements' epochs, those of dedupe keys, and the agency's encryption
//! keys. What the vault keeps of each, and for how long it counts.

use customhouse_files::secret::Secret;
use customhouse_ledger::hash::Hash;

use crate::envelope::{RecipientKey, RecipientSecret};

/// The secret of an agreement's epoch, which subject keys are made with.
#[derive(Clone, Debug)]
pub struct EpochSecret {
    /// Hash of the epoch as it was proposed, which is the agreement's id where it is the first of several parties.
    /// Of one that is to come there may be several offers, each with a secret of its own.
    pub agreement: Hash,
    /// Its number in the agreement.
    pub epoch: u32,
    /// The secret.
    pub secret: Secret,
    /// Until when it is kept, Unix seconds: the end of the retention of what was lodged in the epoch.
    pub until_s: u64,
}

/// A secret that dedupe keys of sealed records are made with. All nodes of an agency share it.
#[derive(Clone, Debug)]
pub struct DedupeSecret {
    /// The secret.
    pub secret: Secret,
    /// Until when an old one counts, so that a retry is recognised; Unix seconds. The present one has no end.
    pub until_s: Option<u64>,
}

/// One of the agency's X25519 keys that others seal envelopes to. Old ones are kept for old envelopes.
#[derive(Clone, Debug)]
pub struct EncryptionKey {
    /// The public half, as it is registered.
    pub public: RecipientKey,
    /// The other.
    pub secret: RecipientSecret,
}
