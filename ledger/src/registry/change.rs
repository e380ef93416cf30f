//! Changes of the registry: what the agencies sign, and what can be checked of it without the
//! chain's state (docs/FORMATS.md, "Registry change").
//!
//! A change is bound to the root of the registry that it changes. Every change gives another root
//! than any before (entries are only added and ended), so a change is on the chain once. At most one
//! agency gains, loses or exchanges its vote in a change, so that the quorums before and after it
//! have honest validators in common.

use std::fmt;

use customhouse_proto::v1::{self, registry_entry::Entry};
use prost::Message as _;

use super::{
    Registry, RegistryError,
    entry::{RegistryKey, describe, entry_agency, key_of, parse_agency, parse_key},
    is_open_at,
};
use crate::{
    agency::AgencyCode,
    finality::validators::Validator,
    hash::{Hash, Tag},
    keys::{KeyError, PublicKey, Signature, SigningKey},
    limits::{CHANGE_ENTRIES_MAX, REASON_BYTES_MAX, VALIDATORS_MAX},
};

#[cfg(test)]
mod tests;

/// Why a change is invalid, whatever the chain's state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// A field is missing, or not of its length.
    #[error("{0}: missing, or not of its length")]
    Field(&'static str),
    /// Nothing is added and nothing ended.
    #[error("proposal: adds nothing and ends nothing")]
    Empty,
    /// More than [`CHANGE_ENTRIES_MAX`].
    #[error("proposal: {0} entries, at most {CHANGE_ENTRIES_MAX} are allowed")]
    TooMany(usize),
    /// More than [`REASON_BYTES_MAX`].
    #[error("proposal.reason: {0} bytes, at most {REASON_BYTES_MAX} are allowed")]
    Reason(usize),
    /// An entry is not well-formed.
    #[error("{0}: {1}")]
    Entry(&'static str, Box<RegistryError>),
    /// Not strictly ascending.
    #[error("{0}: must be sorted by key, without repeats")]
    Order(&'static str),
    /// An added entry says when it begins or ends.
    #[error("proposal.added: heights must be unset; a change counts from the next height on")]
    Heights,
    /// An ended entry has an end already.
    #[error("proposal.ended: an entry that has an end already")]
    Ended,
    /// More than one agency's vote.
    #[error(
        "proposal: changes the vote of more than one agency; one at a time may gain, lose or \
         exchange its key"
    )]
    Votes,
    /// No approval, or more than there can be validators.
    #[error("approvals: {0}, 1 to {max} are allowed", max = VALIDATORS_MAX)]
    ApprovalCount(usize),
    /// An approver's key is not a public key.
    #[error("approvals[{0}].validator_key: {1}")]
    ApprovalKey(usize, KeyError),
    /// An approval's signature does not verify.
    #[error("approvals[{0}].signature: not this key's over this proposal on this chain")]
    Approval(usize),
    /// A validator's key is added and does not show that it is in sync.
    #[error(
        "in_sync: missing; a validator's key that is added must sign that it follows the chain"
    )]
    NoInSync,
    /// No validator's key is added.
    #[error("in_sync: only a change that adds a validator's key has it")]
    SuperfluousInSync,
    /// Its signature does not verify.
    #[error("in_sync.signature: not the added key's over this agency, height and block")]
    InSync,
}

impl ChangeError {
    /// A stable code for clients and scripts.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Field(_) => "CHANGE_FIELD",
            Self::Empty => "CHANGE_EMPTY",
            Self::TooMany(_) => "CHANGE_TOO_MANY",
            Self::Reason(_) => "CHANGE_REASON",
            Self::Entry(_, error) => error.code(),
            Self::Order(_) => "CHANGE_ORDER",
            Self::Heights => "CHANGE_HEIGHTS",
            Self::Ended => "CHANGE_ENDED",
            Self::Votes => "CHANGE_VOTES",
            Self::ApprovalCount(_) => "CHANGE_APPROVAL_COUNT",
            Self::ApprovalKey(..) => "CHANGE_APPROVAL_KEY",
            Self::Approval(_) => "CHANGE_APPROVAL",
            Self::NoInSync | Self::SuperfluousInSync => "CHANGE_IN_SYNC_PRESENCE",
            Self::InSync => "CHANGE_IN_SYNC",
        }
    }
}

/// Why a change cannot be applied to a registry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// It changes another registry.
    #[error(
        "it changes the registry of members root {stated}, the present one is {present}: another change came \
         first; propose it again"
    )]
    Root {
        /// The registry's members root.
        present: Hash,
        /// The proposal's.
        stated: Hash,
    },
    /// An entry that ends is not in the registry, or has ended.
    #[error("ends an entry that is not open in the registry: {0}")]
    NotOpen(String),
    /// A key or agency that is or was in the registry.
    #[error("{0} is or was in the registry; nothing is registered twice")]
    Known(String),
    /// An open entry of an agency that is not open.
    #[error("agency {0} has open entries and would not be open itself")]
    AgencyNotOpen(AgencyCode),
    /// A value is added of what has one value at a height, and has another.
    #[error("adds {0}, of which another value stays open; end that one in the same change")]
    StaysOpen(String),
    /// The result is not a registry.
    #[error("{0}")]
    Registry(Box<RegistryError>),
}

impl ApplyError {
    /// A stable code for clients and metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Root { .. } => "REGISTRY_ROOT",
            Self::StaysOpen(_) => "REGISTRY_TWO_OPEN",
            _ => "REGISTRY_CHANGE",
        }
    }
}

impl From<RegistryError> for ApplyError {
    fn from(error: RegistryError) -> Self {
        Self::Registry(Box::new(error))
    }
}

/// A change that the agencies are asked to sign.
#[derive(Clone, Debug, PartialEq)]
pub struct RegistryProposal {
    proto: v1::RegistryProposal,
    root: Hash,
    hash: Hash,
}

/// A validator's signature under a proposal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegistryApproval {
    /// Who approves.
    pub validator: PublicKey,
    /// Over chain id, key and proposal hash.
    pub signature: Signature,
}

/// A new validator key's word that its holder follows the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InSync {
    /// Height of a block of this chain.
    pub height: u64,
    /// Its hash.
    pub block_hash: Hash,
    /// By the new key, over chain id, agency, height and block hash.
    pub signature: Signature,
}

/// A proposal with what makes it count.
#[derive(Clone, Debug, PartialEq)]
pub struct RegistryChange {
    proposal: RegistryProposal,
    approvals: Vec<RegistryApproval>,
    in_sync: Option<InSync>,
}

impl RegistryProposal {
    /// Proposes to change the registry with this members root. Entries come in any order; heights of those
    /// added are left out.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn new(
        members_root: &Hash,
        not_after_ms: u64,
        added: Vec<v1::RegistryEntry>,
        ended: Vec<v1::RegistryEntry>,
        reason: &str,
    ) -> Result<Self, ChangeError> {
        let open = |entry| v1::RegistryEntry { from_height: 0, end_height: 0, ..entry };
        Self::from_proto(v1::RegistryProposal {
            members_root: members_root.0.to_vec(),
            not_after_ms,
            added: sorted("proposal.added", added.into_iter().map(open).collect())?,
            ended: sorted("proposal.ended", ended)?,
            reason: reason.to_owned(),
        })
    }

    /// Checks a proposal by itself.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn from_proto(proto: v1::RegistryProposal) -> Result<Self, ChangeError> {
        let root = Hash::from_slice(&proto.members_root)
            .map_err(|_| ChangeError::Field("proposal.members_root"))?;
        let count = proto.added.len() + proto.ended.len();
        if count == 0 {
            return Err(ChangeError::Empty);
        }
        if count > CHANGE_ENTRIES_MAX {
            return Err(ChangeError::TooMany(count));
        }
        if proto.reason.len() > REASON_BYTES_MAX {
            return Err(ChangeError::Reason(proto.reason.len()));
        }
        check_entries("proposal.added", &proto.added)?;
        check_entries("proposal.ended", &proto.ended)?;
        if proto.added.iter().any(|entry| (entry.from_height, entry.end_height) != (0, 0)) {
            return Err(ChangeError::Heights);
        }
        if proto.ended.iter().any(|entry| entry.end_height != 0) {
            return Err(ChangeError::Ended);
        }
        check_votes(&proto)?;
        let hash = Tag::REGISTRY_PROPOSAL.hash(&[&proto.encode_to_vec()]);
        Ok(Self { proto, root, hash })
    }

    /// The message.
    pub fn to_proto(&self) -> &v1::RegistryProposal {
        &self.proto
    }

    /// Tagged hash of the canonical bytes: what approvals cover, and the change's dedupe key.
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// Members root of the registry that it changes.
    pub fn members_root(&self) -> Hash {
        self.root
    }

    /// Unix milliseconds of the latest block that may carry it.
    pub fn not_after_ms(&self) -> u64 {
        self.proto.not_after_ms
    }

    /// The validator whose key is added.
    pub fn validator_added(&self) -> Option<Validator> {
        self.proto.added.iter().find_map(validator_of)
    }

    /// Approves it with a validator's key.
    pub fn approve(&self, chain_id: &Hash, key: &SigningKey) -> RegistryApproval {
        let validator = key.public();
        RegistryApproval { validator, signature: key.sign(&self.approval(chain_id, &validator)) }
    }

    /// Whether an approval is its key's, of this proposal on this chain.
    pub fn is_approved_by(&self, approval: &RegistryApproval, chain_id: &Hash) -> bool {
        let message = self.approval(chain_id, &approval.validator);
        approval.validator.verify(&message, &approval.signature).is_ok()
    }

    fn approval(&self, chain_id: &Hash, validator: &PublicKey) -> Vec<u8> {
        let parts: [&[u8]; 3] = [chain_id.as_bytes(), validator.as_bytes(), self.hash.as_bytes()];
        Tag::REGISTRY_APPROVAL.message(&parts)
    }
}

impl fmt::Display for RegistryProposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |entries: &[v1::RegistryEntry]| {
            let shown: Vec<_> = entries.iter().map(describe).collect();
            shown.join(", ")
        };
        match (&*self.proto.added, &*self.proto.ended) {
            (added, []) => write!(f, "adds {}", list(added)),
            ([], ended) => write!(f, "ends {}", list(ended)),
            (added, ended) => write!(f, "adds {}; ends {}", list(added), list(ended)),
        }
    }
}

impl InSync {
    /// Says with a validator's new key that its holder has this block.
    pub fn sign(
        chain_id: &Hash,
        agency: &AgencyCode,
        height: u64,
        block_hash: Hash,
        key: &SigningKey,
    ) -> Self {
        let signature = key.sign(&Self::message(chain_id, agency, height, &block_hash));
        Self { height, block_hash, signature }
    }

    /// Whether this validator's key signed it.
    pub fn is_of(&self, validator: &Validator, chain_id: &Hash) -> bool {
        let message = Self::message(chain_id, &validator.agency, self.height, &self.block_hash);
        validator.key.verify(&message, &self.signature).is_ok()
    }

    /// The message.
    pub fn to_proto(&self) -> v1::InSync {
        v1::InSync {
            height: self.height,
            block_hash: self.block_hash.0.to_vec(),
            signature: self.signature.0.to_vec(),
        }
    }

    /// Reads the message. Its signature is not checked, see [`InSync::is_of`].
    ///
    /// # Errors
    /// [`ChangeError::Field`].
    pub fn from_proto(proto: &v1::InSync) -> Result<Self, ChangeError> {
        let field = |name| move |_| ChangeError::Field(name);
        Ok(Self {
            height: proto.height,
            block_hash: Hash::from_slice(&proto.block_hash).map_err(field("in_sync.block_hash"))?,
            signature: Signature::from_slice(&proto.signature)
                .map_err(field("in_sync.signature"))?,
        })
    }

    fn message(chain_id: &Hash, agency: &AgencyCode, height: u64, block_hash: &Hash) -> Vec<u8> {
        let parts: [&[u8]; 4] =
            [chain_id.as_bytes(), agency.as_bytes(), &height.to_be_bytes(), block_hash.as_bytes()];
        Tag::IN_SYNC.message(&parts)
    }
}

impl RegistryApproval {
    /// The message.
    pub fn to_proto(&self) -> v1::RegistryApproval {
        v1::RegistryApproval {
            validator_key: self.validator.as_bytes().to_vec(),
            signature: self.signature.0.to_vec(),
        }
    }

    /// Reads the message. Its signature is not checked, see [`RegistryProposal::is_approved_by`].
    ///
    /// # Errors
    /// [`KeyError`]: no key, or a signature of another length.
    pub fn from_proto(proto: &v1::RegistryApproval) -> Result<Self, KeyError> {
        Ok(Self {
            validator: PublicKey::from_slice(&proto.validator_key)?,
            signature: Signature::from_slice(&proto.signature)?,
        })
    }
}

impl RegistryChange {
    /// Puts a change together. Approvals come in any order.
    ///
    /// # Errors
    /// [`ChangeError`]; signatures are not checked, see [`RegistryChange::verify`].
    pub fn new(
        proposal: RegistryProposal,
        mut approvals: Vec<RegistryApproval>,
        in_sync: Option<InSync>,
    ) -> Result<Self, ChangeError> {
        approvals.sort_unstable_by_key(|approval| approval.validator);
        if !(1..=VALIDATORS_MAX).contains(&approvals.len()) {
            return Err(ChangeError::ApprovalCount(approvals.len()));
        }
        if approvals.windows(2).any(|pair| pair[0].validator == pair[1].validator) {
            return Err(ChangeError::Order("approvals"));
        }
        match (proposal.validator_added(), &in_sync) {
            (Some(_), None) => Err(ChangeError::NoInSync),
            (None, Some(_)) => Err(ChangeError::SuperfluousInSync),
            _ => Ok(Self { proposal, approvals, in_sync }),
        }
    }

    /// Reads the message.
    ///
    /// # Errors
    /// As [`RegistryChange::new`]; approvals that are not sorted.
    pub fn from_proto(proto: &v1::RegistryChange) -> Result<Self, ChangeError> {
        let proposal = proto.proposal.clone().ok_or(ChangeError::Field("proposal"))?;
        let proposal = RegistryProposal::from_proto(proposal)?;
        if proto.approvals.len() > VALIDATORS_MAX {
            return Err(ChangeError::ApprovalCount(proto.approvals.len()));
        }
        let keys = proto.approvals.iter().map(|approval| &approval.validator_key);
        if !keys.is_sorted_by(|a, b| a < b) {
            return Err(ChangeError::Order("approvals"));
        }
        let read = |(index, approval)| {
            RegistryApproval::from_proto(approval)
                .map_err(|error| ChangeError::ApprovalKey(index, error))
        };
        let approvals = proto.approvals.iter().enumerate().map(read).collect::<Result<_, _>>()?;
        let in_sync = proto.in_sync.as_ref().map(InSync::from_proto).transpose()?;
        Self::new(proposal, approvals, in_sync)
    }

    /// The message.
    pub fn to_proto(&self) -> v1::RegistryChange {
        v1::RegistryChange {
            proposal: Some(self.proposal.proto.clone()),
            approvals: self.approvals.iter().map(RegistryApproval::to_proto).collect(),
            in_sync: self.in_sync.as_ref().map(InSync::to_proto),
        }
    }

    /// What is changed.
    pub fn proposal(&self) -> &RegistryProposal {
        &self.proposal
    }

    /// Who approves it, ascending by key.
    pub fn approvals(&self) -> &[RegistryApproval] {
        &self.approvals
    }

    /// The statement of the added validator's key, where one is added.
    pub fn in_sync(&self) -> Option<&InSync> {
        self.in_sync.as_ref()
    }

    /// Checks all signatures. Whether they are a quorum's is for the chain to check.
    ///
    /// # Errors
    /// [`ChangeError::Approval`], [`ChangeError::InSync`].
    pub fn verify(&self, chain_id: &Hash) -> Result<(), ChangeError> {
        if let (Some(in_sync), Some(added)) = (&self.in_sync, self.proposal.validator_added())
            && !in_sync.is_of(&added, chain_id)
        {
            return Err(ChangeError::InSync);
        }
        let wrong = |approval| !self.proposal.is_approved_by(approval, chain_id);
        match self.approvals.iter().position(wrong) {
            Some(index) => Err(ChangeError::Approval(index)),
            None => Ok(()),
        }
    }

    /// Agencies that gain or lose an entry, in the proposal's order.
    pub fn agencies(&self) -> impl Iterator<Item = AgencyCode> {
        let proto = &self.proposal.proto;
        proto.added.iter().chain(&proto.ended).filter_map(agency_of)
    }

    /// Keys of validators that are added or end, in the proposal's order.
    pub fn validator_keys(&self) -> impl Iterator<Item = PublicKey> {
        let proto = &self.proposal.proto;
        proto.added.iter().chain(&proto.ended).filter_map(validator_of).map(|v| v.key)
    }
}

impl Registry {
    /// The registry after a block of this height that carries the change: what it adds counts from
    /// the next height on, what it ends no longer does.
    ///
    /// # Errors
    /// [`ApplyError`].
    pub fn apply(&self, proposal: &RegistryProposal, height: u64) -> Result<Self, ApplyError> {
        let (present, stated) = (self.members_root(), proposal.members_root());
        if present != stated {
            return Err(ApplyError::Root { present, stated });
        }
        let mut after = self.clone();
        for ended in &proposal.proto.ended {
            match after.entries.get_mut(&key_of(ended)?) {
                Some(entry) if entry == ended => entry.end_height = height + 1,
                _ => return Err(ApplyError::NotOpen(describe(ended))),
            }
        }
        for added in &proposal.proto.added {
            let entry = v1::RegistryEntry { from_height: height + 1, ..added.clone() };
            if after.entries.insert(key_of(&entry)?, entry).is_some() {
                return Err(ApplyError::Known(describe(added)));
            }
        }
        after.check_count()?;
        after.check_agencies()?;
        after.check_keys().map_err(|error| match error {
            RegistryError::SharedKey(key) => ApplyError::Known(format!("key {key}")),
            other => other.into(),
        })?;
        after.check_singles().map_err(|error| match error {
            RegistryError::TwoOpen(what) => ApplyError::StaysOpen(what),
            other => other.into(),
        })?;
        after.check_open_agencies(height + 1)?;
        after.validators_at(height + 1)?;
        Ok(after)
    }

    /// An agency that something is registered for at a height is open itself.
    fn check_open_agencies(&self, height: u64) -> Result<(), ApplyError> {
        for entry in self.open_at(height) {
            let Some(agency) = entry_agency(entry)? else { continue };
            let own = self.entries.get(&RegistryKey::agency(&agency));
            if !own.is_some_and(|own| is_open_at(own, height)) {
                return Err(ApplyError::AgencyNotOpen(agency));
            }
        }
        Ok(())
    }
}

fn sorted(
    list: &'static str,
    entries: Vec<v1::RegistryEntry>,
) -> Result<Vec<v1::RegistryEntry>, ChangeError> {
    let keyed = |entry: v1::RegistryEntry| {
        let key = key_of(&entry).map_err(|error| ChangeError::Entry(list, error.into()))?;
        Ok((key, entry))
    };
    let mut entries = entries.into_iter().map(keyed).collect::<Result<Vec<_>, _>>()?;
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(entries.into_iter().map(|(_, entry)| entry).collect())
}

fn check_entries(list: &'static str, entries: &[v1::RegistryEntry]) -> Result<(), ChangeError> {
    let mut before: Option<RegistryKey> = None;
    for entry in entries {
        let key = key_of(entry).map_err(|error| ChangeError::Entry(list, error.into()))?;
        if before.is_some_and(|before| before >= key) {
            return Err(ChangeError::Order(list));
        }
        before = Some(key);
    }
    Ok(())
}

/// At most one validator's key is added and at most one ends; where both, they are of one agency.
fn check_votes(proto: &v1::RegistryProposal) -> Result<(), ChangeError> {
    let of = |entries: &[v1::RegistryEntry]| -> Vec<_> {
        entries.iter().filter_map(validator_of).map(|validator| validator.agency).collect()
    };
    match (&*of(&proto.added), &*of(&proto.ended)) {
        ([], [] | [_]) | ([_], []) => Ok(()),
        ([added], [ended]) if added == ended => Ok(()),
        _ => Err(ChangeError::Votes),
    }
}

fn agency_of(entry: &v1::RegistryEntry) -> Option<AgencyCode> {
    match &entry.entry {
        Some(Entry::Agency(own)) => parse_agency(&own.agency).ok(),
        _ => entry_agency(entry).ok()?,
    }
}

fn validator_of(entry: &v1::RegistryEntry) -> Option<Validator> {
    let Some(Entry::Validator(validator)) = &entry.entry else { return None };
    let agency = parse_agency(&validator.agency).ok()?;
    Some(Validator { agency, key: parse_key(agency, &validator.public_key).ok()? })
}
