//! The registry: agencies, their keys, and the network's parameters.
//!
//! Entries are never deleted, only given an end height. Block h is checked against the registry
//! after block h−1, whose root stands in that block's header, so that a receipt can prove whose
//! key signed.

use std::collections::{BTreeMap, BTreeSet};

use customhouse_proto::v1::{self, registry_entry::Entry};
use prost::Message as _;

use crate::{
    agency::AgencyCode,
    agreement::Agreements,
    authority::{RecordKind, Role, Stated},
    canonical::CanonicalError,
    finality::validators::{Validator, ValidatorSet, ValidatorSetError},
    hash::{Hash, LengthError, Tag},
    keys::{KeyError, PublicKey},
    limits::{NAME_BYTES_MAX, REGISTRY_ENTRIES_MAX, SUBMITTER_BYTES_MAX},
    merkle,
    registry::{
        entry::{describe, entry_agency, entry_key, key_of, parse_agency, parse_key, single_of},
        parameters::{ParameterError, Parameters},
    },
    text::TextError,
};

mod change;
mod entry;
pub mod genesis;
pub mod parameters;
mod sealed;

#[cfg(feature = "rocksdb")]
pub(crate) use self::entry::row_key;
pub use self::{
    change::{ApplyError, ChangeError, InSync, RegistryApproval, RegistryChange, RegistryProposal},
    entry::{RegistryKey, decode_entry},
    sealed::{EncryptionKeyError, EncryptionPublicKey},
};

/// Heights for which a peer whose entry has ended may still connect, so that it can hand over what
/// it holds.
pub const PEER_GRACE: u64 = 1024;

/// Why a registry or an entry was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// Not canonical protobuf.
    #[error("registry entry: {0}")]
    Canonical(#[from] CanonicalError),
    /// No kind that this version knows.
    #[error("registry entry: of no known kind")]
    Kind,
    /// Not an agency code.
    #[error("registry entry: `{0}` is not an agency code (2 to 16 of A-Z, 0-9 and -)")]
    Agency(String),
    /// Bytes that are not a public key.
    #[error("registry entry of {0}: public key: {1}")]
    Key(AgencyCode, KeyError),
    /// Bytes that are no key to encrypt to.
    #[error("registry entry of {0}: encryption key: {1}")]
    EncryptionKey(AgencyCode, EncryptionKeyError),
    /// A dedupe check of another length.
    #[error("registry entry of {0}: dedupe check: {1}")]
    DedupeCheck(AgencyCode, LengthError),
    /// Unset or unknown role.
    #[error("registry entry of {0}: signing key without a known role")]
    Role(AgencyCode),
    /// A node's key that is bound to a name or to kinds.
    #[error("registry entry of {0}: a node's key has no submitter and no kinds of its own")]
    Bound(AgencyCode),
    /// No name of a submitter, or one that is too long.
    #[error(
        "registry entry of {0}: a signing key that is not a node's names its submitter, in 1 to \
         {SUBMITTER_BYTES_MAX} bytes"
    )]
    Submitter(AgencyCode),
    /// A kind that there is not, or that the key's role may not state.
    #[error("registry entry of {0}: kinds of records that the key's role may not state")]
    Kinds(AgencyCode),
    /// A name or label that is too long.
    #[error("registry entry: a name of more than {NAME_BYTES_MAX} bytes")]
    NameLength,
    /// A name or label that the chain does not take.
    #[error("registry entry: the name {0:?}: {1}")]
    Name(String, TextError),
    /// The end is not after the beginning.
    #[error("registry entry: ends at height {end} and begins at {from}")]
    Period {
        /// First height.
        from: u64,
        /// End height.
        end: u64,
    },
    /// Two entries with one key.
    #[error("two registry entries for {0}")]
    Duplicate(String),
    /// An entry of an agency that is not in the registry.
    #[error("agency {0} is not in the registry")]
    UnknownAgency(AgencyCode),
    /// One key under two agencies, or in two roles: a signature would not say whose it is.
    #[error("key {0} is registered twice")]
    SharedKey(Hash),
    /// Two values of what has one value at a height.
    #[error("{0} would count together with another; one must end before the next counts")]
    TwoOpen(String),
    /// More than [`REGISTRY_ENTRIES_MAX`].
    #[error("{0} entries, at most {REGISTRY_ENTRIES_MAX} are allowed")]
    TooMany(usize),
    /// The validators do not make a validator set.
    #[error("validators: {0}")]
    Validators(#[from] ValidatorSetError),
    /// An unknown parameter, or a value out of range.
    #[error("{0}")]
    Parameter(#[from] ParameterError),
}

impl RegistryError {
    /// A stable code for clients and scripts.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Canonical(CanonicalError::Decode(_)) => "REGISTRY_ENTRY_MALFORMED",
            Self::Canonical(CanonicalError::NotCanonical) => "REGISTRY_ENTRY_NOT_CANONICAL",
            Self::Kind => "REGISTRY_ENTRY_KIND",
            Self::Agency(_) => "REGISTRY_ENTRY_AGENCY",
            Self::Key(..) | Self::EncryptionKey(..) => "REGISTRY_ENTRY_KEY",
            Self::DedupeCheck(..) => "REGISTRY_ENTRY_DEDUPE_CHECK",
            Self::Role(_) => "REGISTRY_ENTRY_ROLE",
            Self::Bound(_) | Self::Submitter(_) => "REGISTRY_ENTRY_SUBMITTER",
            Self::Kinds(_) => "REGISTRY_ENTRY_KINDS",
            Self::NameLength | Self::Name(..) => "REGISTRY_ENTRY_NAME",
            Self::Period { .. } => "REGISTRY_ENTRY_PERIOD",
            Self::Duplicate(_) => "REGISTRY_DUPLICATE",
            Self::UnknownAgency(_) => "REGISTRY_UNKNOWN_AGENCY",
            Self::SharedKey(_) => "REGISTRY_SHARED_KEY",
            Self::TwoOpen(_) => "REGISTRY_TWO_OPEN",
            Self::TooMany(_) => "REGISTRY_TOO_MANY",
            Self::Validators(_) => "REGISTRY_VALIDATORS",
            Self::Parameter(_) => "REGISTRY_PARAMETER",
        }
    }
}

/// A signing key in the registry: whose it is, and what it may sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signer {
    /// The agency it signs for.
    pub agency: AgencyCode,
    /// In which role.
    pub role: Role,
    /// The submitter's name that its records have; empty for a node's key.
    pub submitter: String,
    /// The kinds that it may sign, as [`RecordKind::bits`]; 0 for all that its role may state.
    pub kinds: u64,
}

impl Signer {
    /// Checks that this key may sign a slot. `stated` is of its record; `None` where the slot is not open.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check_slot(&self, stated: Option<&Stated>) -> Result<(), SignerRefused> {
        match stated {
            Some(stated) => self.check(stated),
            None if self.role == Role::Node => Ok(()),
            None => Err(SignerRefused::Sealed),
        }
    }

    /// Checks that this key may sign a record.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(&self, record: &Stated) -> Result<(), SignerRefused> {
        if self.role == Role::Node {
            // Its clients have certificates; what the node states itself has none.
            let by_client = record.role != Role::Node;
            return match record.by_certificate == by_client {
                true => Ok(()),
                false => Err(SignerRefused::Certificate),
            };
        }
        if record.by_certificate {
            return Err(SignerRefused::Certificate);
        }
        if record.submitter != self.submitter {
            return Err(SignerRefused::Submitter);
        }
        if record.role != self.role {
            return Err(SignerRefused::Role);
        }
        if record.is_checked {
            return Err(SignerRefused::Mapping);
        }
        let kind = RecordKind::bits(&[record.kind]);
        if self.kinds == 0 || self.kinds & kind != 0 { Ok(()) } else { Err(SignerRefused::Kind) }
    }
}

/// Why a key may not sign a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignerRefused {
    /// The submitter is not the one that the key is registered for.
    #[error("submitter: not the name that the registry binds the signing key to")]
    Submitter,
    /// The role is not the key's.
    #[error("submitter_role: not the role that the registry gives the signing key")]
    Role,
    /// The key may not sign records of this kind.
    #[error("body: of a kind that the registry does not let the signing key sign")]
    Kind,
    /// A node's word that it has mapped the source, under a key that is not a node's.
    #[error("source.mapping: CHECKED is the word of a node, and this key is not a node's")]
    Mapping,
    /// A client's certificate where no node speaks for one, or none where it does.
    #[error(
        "submitter_certificate: is there where a node signs for a client with a certificate, and only \
         there"
    )]
    Certificate,
    /// Sealed, or a grant, and not by a node: who lodged it is for those to see who have its bytes.
    #[error(
        "form: only a node's key signs slots that are not open; submit the record to your agency's node"
    )]
    Sealed,
}

impl SignerRefused {
    /// A stable code for clients and metrics.
    pub fn code(self) -> &'static str {
        match self {
            Self::Submitter => "SIGNER_SUBMITTER",
            Self::Role => "SIGNER_ROLE",
            Self::Kind => "SIGNER_KIND",
            Self::Mapping => "SIGNER_MAPPING",
            Self::Certificate => "SIGNER_CERTIFICATE",
            Self::Sealed => "SIGNER_SEALED",
        }
    }
}

/// The registry as of one height. Sorted by [`RegistryKey`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registry {
    entries: BTreeMap<RegistryKey, v1::RegistryEntry>,
}

/// Where an entry stands in the tree under the registry root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryProof {
    /// The entry's canonical bytes.
    pub entry: Vec<u8>,
    /// Its position.
    pub index: u64,
    /// How many entries there are.
    pub count: u64,
    /// RFC 6962 path, 32 bytes each.
    pub path: Vec<Hash>,
}

impl Registry {
    /// Makes a registry of entries in any order.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn new(list: Vec<v1::RegistryEntry>) -> Result<Self, RegistryError> {
        let registry = Self::collect(list)?;
        registry.validators_at(0)?;
        registry.parameters_at(0)?;
        Ok(registry)
    }

    /// A registry as of some height, whose validators at height 0 may be gone: all rules but those
    /// that depend on a height.
    pub(crate) fn collect(list: Vec<v1::RegistryEntry>) -> Result<Self, RegistryError> {
        let mut entries = BTreeMap::new();
        for entry in list {
            let key = key_of(&entry)?;
            let shown = describe(&entry);
            if entries.insert(key, entry).is_some() {
                return Err(RegistryError::Duplicate(shown));
            }
        }
        let registry = Self { entries };
        registry.check_count()?;
        registry.check_agencies()?;
        registry.check_keys()?;
        registry.check_singles()?;
        Ok(registry)
    }

    fn check_count(&self) -> Result<(), RegistryError> {
        let count = self.entries.len();
        if count > REGISTRY_ENTRIES_MAX { Err(RegistryError::TooMany(count)) } else { Ok(()) }
    }

    fn check_agencies(&self) -> Result<(), RegistryError> {
        for entry in self.entries.values() {
            let agency = entry_agency(entry)?;
            let known =
                |agency: &AgencyCode| self.entries.contains_key(&RegistryKey::agency(agency));
            if let Some(agency) = agency.filter(|agency| !known(agency)) {
                return Err(RegistryError::UnknownAgency(agency));
            }
        }
        Ok(())
    }

    /// A validator key, a peer key, a signing key and an encryption key are different keys, each of one agency.
    fn check_keys(&self) -> Result<(), RegistryError> {
        let mut keys: Vec<Hash> = self.entries.values().filter_map(entry_key).collect();
        keys.sort_unstable();
        match keys.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(RegistryError::SharedKey(pair[0])),
            None => Ok(()),
        }
    }

    /// What has one value at a height has no two entries that count at one.
    fn check_singles(&self) -> Result<(), RegistryError> {
        let single = |entry| Some((single_of(entry)?, entry.from_height, entry));
        let mut singles: Vec<_> = self.entries.values().filter_map(single).collect();
        singles.sort_by_key(|(single, from_height, _)| (*single, *from_height));
        let overlap = singles.windows(2).find(|pair| {
            let ((earlier, _, ends), (later, begins, _)) = (pair[0], pair[1]);
            earlier == later && (ends.end_height == 0 || ends.end_height > begins)
        });
        match overlap {
            Some(pair) => Err(RegistryError::TwoOpen(describe(pair[1].2))),
            None => Ok(()),
        }
    }

    /// The entries, sorted.
    pub fn entries(&self) -> impl Iterator<Item = &v1::RegistryEntry> {
        self.entries.values()
    }

    /// How many entries there are.
    pub fn count(&self) -> usize {
        self.entries.len()
    }

    /// The root over members and agreements where there are no agreements, as the genesis's header has it.
    pub fn root_without_agreements(&self) -> Hash {
        root(&self.members_root(), &Agreements::default().root())
    }

    /// Tagged hash of the entry count (u64) and the RFC 6962 root of the sorted entries.
    pub fn members_root(&self) -> Hash {
        members_root(self.entries.len() as u64, &merkle::root(&self.leaves()))
    }

    /// The validators that decide a height.
    ///
    /// # Errors
    /// The open validator entries do not make a validator set.
    pub fn validators_at(&self, height: u64) -> Result<ValidatorSet, RegistryError> {
        let mut validators = Vec::new();
        for entry in self.open_at(height) {
            if let Some(Entry::Validator(validator)) = &entry.entry {
                let agency = parse_agency(&validator.agency)?;
                let key = parse_key(agency, &validator.public_key)?;
                validators.push(Validator { agency, key });
            }
        }
        Ok(ValidatorSet::new(validators)?.deciding_from(self.validators_from(height)))
    }

    /// The first height that those decide who decide a height: where a validator's entry last began or ended.
    fn validators_from(&self, height: u64) -> u64 {
        let entries = self.entries.values();
        let validators = entries.filter(|entry| matches!(entry.entry, Some(Entry::Validator(_))));
        let changed = validators.flat_map(|entry| [entry.from_height, entry.end_height]);
        changed.filter(|changed| *changed <= height).fold(1, u64::max)
    }

    /// The parameters at a height; those not in the registry have their defaults.
    ///
    /// # Errors
    /// An unknown name, or a value out of range.
    pub fn parameters_at(&self, height: u64) -> Result<Parameters, RegistryError> {
        let mut parameters = Parameters::default();
        for entry in self.open_at(height) {
            if let Some(Entry::Parameter(parameter)) = &entry.entry {
                parameters.set(&parameter.name, parameter.value)?;
            }
        }
        Ok(parameters)
    }

    /// Whose signing key this is, if it may sign transactions at a height.
    pub fn signer_at(&self, key: &PublicKey, height: u64) -> Option<Signer> {
        self.open_at(height).find_map(|entry| signer_of(entry, key))
    }

    /// The libp2p identities that are registered at a height, with their agencies.
    pub fn peers_at(&self, height: u64) -> Vec<(AgencyCode, PublicKey)> {
        self.peers(|entry| is_open_at(entry, height))
    }

    /// Whether a key is or was registered for signing transactions.
    pub fn has_signer(&self, key: &PublicKey) -> bool {
        self.entries.values().any(|entry| signer_of(entry, key).is_some())
    }

    /// The libp2p identities that may connect at a height: those registered, and those whose entry
    /// ended less than [`PEER_GRACE`] heights before.
    pub fn peers_admitted_at(&self, height: u64) -> Vec<(AgencyCode, PublicKey)> {
        self.peers(|entry| {
            let end = entry.end_height.saturating_add(PEER_GRACE);
            entry.from_height <= height && (entry.end_height == 0 || height < end)
        })
    }

    fn peers(&self, admitted: impl Fn(&v1::RegistryEntry) -> bool) -> Vec<(AgencyCode, PublicKey)> {
        let peer = |entry: &v1::RegistryEntry| match &entry.entry {
            Some(Entry::Peer(peer)) => {
                Some((peer.agency.parse().ok()?, PublicKey::from_slice(&peer.public_key).ok()?))
            }
            _ => None,
        };
        self.entries.values().filter(|entry| admitted(entry)).filter_map(peer).collect()
    }

    /// Whether an agency is a member at a height.
    pub fn is_open_agency(&self, agency: &AgencyCode, height: u64) -> bool {
        let entry = self.entries.get(&RegistryKey::agency(agency));
        entry.is_some_and(|entry| is_open_at(entry, height))
    }

    /// Whether a key decides a height, or did.
    pub fn is_validator_at(&self, key: &PublicKey, height: u64) -> bool {
        self.open_at(height).any(|entry| match &entry.entry {
            Some(Entry::Validator(validator)) => validator.public_key == key.as_bytes(),
            _ => false,
        })
    }

    /// The registry after the block at a height, which is not above the newest: later changes left
    /// out.
    pub fn as_of(&self, height: u64) -> Self {
        let next = height.saturating_add(1);
        let entries = self.entries.iter().filter(|(_, entry)| entry.from_height <= next);
        let entries = entries.map(|(key, entry)| {
            let ended = entry.end_height <= next;
            let end_height = if ended { entry.end_height } else { 0 };
            (key.clone(), v1::RegistryEntry { end_height, ..entry.clone() })
        });
        Self { entries: entries.collect() }
    }

    /// Heights of the blocks that changed the registry, as far as its entries tell.
    pub fn change_heights(&self) -> BTreeSet<u64> {
        heights_of(self.entries.values())
    }

    /// Heights of the blocks that changed the validators.
    pub fn validator_change_heights(&self) -> BTreeSet<u64> {
        let is_validator =
            |entry: &&v1::RegistryEntry| matches!(entry.entry, Some(Entry::Validator(_)));
        heights_of(self.entries.values().filter(is_validator))
    }

    /// The proof that a key may sign for its agency.
    pub fn prove_signer(&self, key: &PublicKey) -> Option<RegistryProof> {
        let index = self.entries.values().position(|entry| signer_of(entry, key).is_some())?;
        let leaves = self.leaves();
        Some(RegistryProof {
            entry: leaves.get(index)?.clone(),
            index: index as u64,
            count: leaves.len() as u64,
            path: merkle::Tree::of(&leaves).inclusion_path(index as u64).ok()?,
        })
    }

    fn open_at(&self, height: u64) -> impl Iterator<Item = &v1::RegistryEntry> {
        self.entries.values().filter(move |entry| is_open_at(entry, height))
    }

    fn leaves(&self) -> Vec<Vec<u8>> {
        self.entries.values().map(v1::RegistryEntry::encode_to_vec).collect()
    }
}

/// The members root of a tree of `count` entries.
pub fn members_root(count: u64, tree_root: &Hash) -> Hash {
    Tag::MEMBERS.hash(&[&count.to_be_bytes(), tree_root.as_bytes()])
}

/// The root over members and agreements. They are apart so that no agreement, of which there may be many, is
/// in the way of a change of the members, which is bound to the members root alone.
pub fn root(members_root: &Hash, agreements_root: &Hash) -> Hash {
    Tag::REGISTRY.hash(&[members_root.as_bytes(), agreements_root.as_bytes()])
}

/// Whether an entry counts at a height.
pub fn is_open_at(entry: &v1::RegistryEntry, height: u64) -> bool {
    entry.from_height <= height && (entry.end_height == 0 || height < entry.end_height)
}

/// Whose key it is, where the entry registers this key for signing.
pub fn signer_of(entry: &v1::RegistryEntry, key: &PublicKey) -> Option<Signer> {
    match &entry.entry {
        Some(Entry::SigningKey(signing)) if signing.public_key == key.as_bytes() => Some(Signer {
            agency: signing.agency.parse().ok()?,
            role: signing.role(),
            submitter: signing.submitter.clone(),
            kinds: signing.kinds,
        }),
        _ => None,
    }
}

fn heights_of<'a>(entries: impl Iterator<Item = &'a v1::RegistryEntry>) -> BTreeSet<u64> {
    entries
        .flat_map(|entry| [entry.from_height, entry.end_height])
        .filter_map(|height| height.checked_sub(1))
        .collect()
}
