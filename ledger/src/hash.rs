//! SHA-256 and the tags that keep one kind of hash from meaning another (docs/FORMATS.md, *Hashes and trees*).

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

/// A SHA-256 digest, 32 bytes. Shown and read as 64 lowercase hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// 32 zero bytes: the parent of the genesis header, and the block hash of a nullify vote.
    pub const ZERO: Self = Self([0; 32]);

    /// Reads 32 bytes.
    ///
    /// # Errors
    /// Returns [`LengthError`] for any other length.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, LengthError> {
        let array =
            bytes.try_into().map_err(|_| LengthError { expected: 32, found: bytes.len() })?;
        Ok(Self(array))
    }

    /// The bytes, for encoding.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first eight hexadecimal digits, for logs.
    pub fn short(&self) -> String {
        hex::encode(&self.0[..4])
    }
}

/// A value of fixed width had another length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{expected} bytes expected, {found} found")]
pub struct LengthError {
    /// Bytes the layout asks for.
    pub expected: usize,
    /// Bytes there were.
    pub found: usize,
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}…", self.short())
    }
}

/// A text that is no hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("64 hexadecimal digits expected")]
pub struct NotAHash;

impl FromStr for Hash {
    type Err = NotAHash;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| NotAHash)?;
        Ok(Self(bytes))
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// What a hash or a signature is about: the ASCII prefix that it starts with, NUL included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag(&'static str);

impl Tag {
    /// Genesis bytes → chain id.
    pub const GENESIS: Self = Self("customhouse/v1/genesis\0");
    /// Leaf count and root of a record's fields → record id.
    pub const RECORD: Self = Self("customhouse/v1/record\0");
    /// Scheme and id → subject key.
    pub const SUBJECT: Self = Self("customhouse/v1/subject\0");
    /// What the VRF is of: agency, scheme and id, for a sealed record's subject.
    pub const SEALED_SUBJECT_ALPHA: Self = Self("customhouse/v1/sealed-subject-alpha\0");
    /// Agreement, epoch, agency and the VRF's output → the key that a sealed record is indexed under.
    pub const SEALED_SUBJECT: Self = Self("customhouse/v1/sealed-subject\0");
    /// Agency, submitter and the client's key → dedupe key.
    pub const DEDUPE: Self = Self("customhouse/v1/dedupe\0");
    /// A client's signing key and its dedupe key → the key of the row that holds it.
    pub const DEDUPE_SIGNER: Self = Self("customhouse/v1/dedupe-signer\0");
    /// Keyed: agency, submitter and the client's key → dedupe key of a sealed record.
    pub const SEALED_DEDUPE: Self = Self("customhouse/v1/sealed-dedupe\0");
    /// Chain id ‖ lodging agency ‖ record id ‖ receiving agency → what a node signs that holds a sealed record.
    pub const HELD: Self = Self("customhouse/v1/held\0");
    /// Keyed: → the secret under which a node has what sealed records say that it has accepted.
    pub const SEALED_CONTENT: Self = Self("customhouse/v1/sealed-content\0");
    /// Keyed: agency → the check value of the secret that dedupe keys are made with.
    pub const DEDUPE_CHECK: Self = Self("customhouse/v1/dedupe-check\0");
    /// Keyed: vault id → the id of a vault's root key.
    pub const VAULT_ROOT: Self = Self("customhouse/v1/vault-root\0");
    /// Sealed with: what the file of a vault's keys says of itself.
    pub const VAULT_KEYS: Self = Self("customhouse/v1/vault-keys\0");
    /// Sealed with: the place and the group of a wrapped key.
    pub const VAULT_WRAP: Self = Self("customhouse/v1/vault-wrap\0");
    /// Sealed with: the place of what is sealed.
    pub const VAULT_SEAL: Self = Self("customhouse/v1/vault-seal\0");
    /// Sealed with: what an envelope is for. Its hash is the id of an envelope's place in a vault.
    pub const ENVELOPE: Self = Self("customhouse/v1/envelope\0");
    /// Transaction header bytes → transaction id.
    pub const TRANSACTION: Self = Self("customhouse/v1/transaction\0");
    /// Signed: transaction header bytes.
    pub const TRANSACTION_SIGNATURE: Self = Self("customhouse/v1/transaction-signature\0");
    /// Block header bytes → block hash.
    pub const HEADER: Self = Self("customhouse/v1/header\0");
    /// Signed: a vote.
    pub const VOTE: Self = Self("customhouse/v1/vote\0");
    /// A block's leaves → their hash, which a proposal's signature covers.
    pub const LEAVES: Self = Self("customhouse/v1/leaves\0");
    /// Signed: a proposal.
    pub const PROPOSAL: Self = Self("customhouse/v1/proposal\0");
    /// Validator set layout → validators hash.
    pub const VALIDATORS: Self = Self("customhouse/v1/validators\0");
    /// Entry count and Merkle root of the members' entries → members root.
    pub const MEMBERS: Self = Self("customhouse/v1/members\0");
    /// Count and Merkle root of the agreements → agreements root.
    pub const AGREEMENTS: Self = Self("customhouse/v1/agreements\0");
    /// Agency → the id of the agreement that it has with itself.
    pub const AGREEMENT_OWN: Self = Self("customhouse/v1/agreement-own\0");
    /// An epoch's canonical bytes → its hash, which is also the id of an agreement that it begins.
    pub const AGREEMENT: Self = Self("customhouse/v1/agreement\0");
    /// Canonical bytes of an agreement's terms → the hash that its epochs have of them.
    pub const AGREEMENT_TERMS: Self = Self("customhouse/v1/agreement-terms\0");
    /// Signed: a party's approval of an epoch.
    pub const AGREEMENT_APPROVAL: Self = Self("customhouse/v1/agreement-approval\0");
    /// Agreement, epoch and who leaves → dedupe key.
    pub const AGREEMENT_LEAVE: Self = Self("customhouse/v1/agreement-leave\0");
    /// A step of the chain over all changes of agreements.
    pub const AGREEMENT_EVENT: Self = Self("customhouse/v1/agreement-event\0");
    /// Record, agreement and epoch → dedupe key of a grant.
    pub const GRANT: Self = Self("customhouse/v1/grant\0");
    /// Members root and agreements root → registry root.
    pub const REGISTRY: Self = Self("customhouse/v1/registry\0");
    /// Registry proposal bytes → its hash, which is also the change's dedupe key.
    pub const REGISTRY_PROPOSAL: Self = Self("customhouse/v1/registry-proposal\0");
    /// Signed: a validator's approval of a registry proposal.
    pub const REGISTRY_APPROVAL: Self = Self("customhouse/v1/registry-approval\0");
    /// Signed: a new validator key's statement that it follows the chain.
    pub const IN_SYNC: Self = Self("customhouse/v1/in-sync\0");
    /// One step of a history bucket's chain.
    pub const HISTORY: Self = Self("customhouse/v1/history\0");
    /// Culprit, height and view of a validator's breach of the rules → dedupe key.
    pub const MISBEHAVIOUR: Self = Self("customhouse/v1/misbehaviour\0");
    /// Size and Merkle root of the pieces → root of an attachment.
    pub const ATTACHMENT: Self = Self("customhouse/v1/attachment\0");
    /// Signed: a node's acceptance of a record.
    pub const ACCEPTANCE: Self = Self("customhouse/v1/acceptance\0");

    /// The prefix.
    pub fn as_bytes(self) -> &'static [u8] {
        self.0.as_bytes()
    }

    /// The tagged hash of the concatenated parts. Parts must be of fixed width or carry their
    /// length, so that no two lists of parts give the same bytes.
    pub fn hash(self, parts: &[&[u8]]) -> Hash {
        let mut hasher = Sha256::new();
        hasher.update(self.as_bytes());
        for part in parts {
            hasher.update(part);
        }
        Hash(hasher.finalize().into())
    }

    /// The message that a signature under this tag covers.
    pub fn message(self, parts: &[&[u8]]) -> Vec<u8> {
        let mut message = self.as_bytes().to_vec();
        for part in parts {
            message.extend_from_slice(part);
        }
        message
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_separates_hashes_of_the_same_bytes() {
        assert_ne!(Tag::RECORD.hash(&[b"x"]), Tag::HEADER.hash(&[b"x"]));
    }

    #[test]
    fn hexadecimal_round_trips() {
        let hash = Tag::RECORD.hash(&[b"x"]);
        assert_eq!(hash.to_string().parse(), Ok(hash));
        assert!("ab".parse::<Hash>().is_err());
    }
}
