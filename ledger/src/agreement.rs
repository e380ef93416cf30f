//! Agreements: among which agencies sealed records are shared, and when (docs/FORMATS.md, *Agreements*).
//!
//! The chain knows of an agreement who its parties are, under which keys its epochs index what their records
//! are about, when each epoch is in force, and a hash of the terms. What the agreement lets whom read is in
//! the terms, and these travel sealed among the parties, as does the secret of each epoch.
//!
//! An agreement is a list of *epochs*. Each has its own parties, terms, key and period, and all of its parties
//! have approved it: to approve is to have received the epoch's secret and held it against the public key.
//! Another party, other terms, another key are another epoch; nothing is ever changed in an old one but its
//! end, which comes earlier where the next epoch begins or a party leaves. So who is entitled to a record
//! follows for ever from the epoch that its slot names. No party is left out of a next epoch but by its own
//! will: who wants to go on without one makes another agreement.
//!
//! Each agency has one agreement with itself, *own*, whose id follows from the agency's code.

use customhouse_proto::v1;
use prost::Message as _;

use crate::{
    agency::AgencyCode,
    hash::{Hash, Tag},
    keys::{KeyError, PublicKey, Signature, SigningKey},
    limits::{EPOCH_MS_MAX, EPOCHS_MAX, PARTIES_MAX},
    vrf::{VrfError, VrfPublicKey},
};

mod invalid;
mod state;
pub mod terms;
#[cfg(test)]
mod tests;

pub use invalid::AgreementInvalid;
pub use state::{
    Agreement, AgreementProof, Agreements, Epoch, KnownMembers, LodgedAt, read_entry, root,
};

/// How long what an agreement has of epochs goes on when a party leaves or the next epoch begins,
/// milliseconds: what is under way is not lost.
pub const NOTICE_MS: u64 = 60 * 60 * 1000;

/// Why a change of an agreement is refused by itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AgreementError {
    /// A field is missing, or not of its length.
    #[error("{0}: missing, or not of its length")]
    Field(&'static str),
    /// Not a list of parties.
    #[error("epoch.parties: agency codes, strictly ascending, 1 to {PARTIES_MAX}")]
    Parties,
    /// The id does not go with the parties and the number.
    #[error(
        "epoch.agreement: empty for the first epoch among two or more, and for no other; of one agency \
         alone, the id that follows from its code"
    )]
    Id,
    /// A number that no epoch has.
    #[error("epoch.number: {0}, which is not in 1 to {EPOCHS_MAX}")]
    Number(u32),
    /// Not a key.
    #[error("epoch.public_key: {0}")]
    Key(VrfError),
    /// It ends before it begins, or is too long.
    #[error("epoch.until_ms: must be after from_ms, by {EPOCH_MS_MAX} ms at most")]
    Period,
    /// Not one approval of each party.
    #[error(
        "approvals: {found}, and {expected} are needed: one of each party of an epoch, none of who leaves"
    )]
    ApprovalCount {
        /// How many are needed.
        expected: usize,
        /// How many there are.
        found: usize,
    },
    /// An approver's key is not a public key, or its signature is not one.
    #[error("approvals[{0}]: {1}")]
    ApprovalKey(usize, KeyError),
    /// An approval's signature does not verify.
    #[error("approvals[{0}].signature: not this key's over this epoch on this chain")]
    Approval(usize),
}

impl AgreementError {
    /// A stable code for clients and scripts.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Field(_) => "AGREEMENT_FIELD",
            Self::Parties => "AGREEMENT_PARTIES",
            Self::Id => "AGREEMENT_ID",
            Self::Number(_) => "AGREEMENT_NUMBER",
            Self::Key(_) => "AGREEMENT_KEY",
            Self::Period => "AGREEMENT_PERIOD",
            Self::ApprovalCount { .. } => "AGREEMENT_APPROVAL_COUNT",
            Self::ApprovalKey(..) => "AGREEMENT_APPROVAL_KEY",
            Self::Approval(_) => "AGREEMENT_APPROVAL",
        }
    }
}

/// The id of the agreement that an agency has with itself.
pub fn own_id(agency: &AgencyCode) -> Hash {
    Tag::AGREEMENT_OWN.hash(&[agency.as_bytes()])
}

/// What the parties of an epoch sign.
#[derive(Clone, Debug, PartialEq)]
pub struct EpochProposal {
    proto: v1::AgreementEpoch,
    parties: Vec<AgencyCode>,
    key: VrfPublicKey,
    hash: Hash,
}

impl EpochProposal {
    /// Checks the message.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn from_proto(proto: v1::AgreementEpoch) -> Result<Self, AgreementError> {
        let parties = parties_of(&proto.parties).ok_or(AgreementError::Parties)?;
        if !(1..=EPOCHS_MAX).contains(&proto.number) {
            return Err(AgreementError::Number(proto.number));
        }
        check_id(&proto, &parties)?;
        let key = VrfPublicKey::from_slice(&proto.public_key).map_err(AgreementError::Key)?;
        let lasts = proto.until_ms.checked_sub(proto.from_ms);
        if !lasts.is_some_and(|lasts| (1..=EPOCH_MS_MAX).contains(&lasts)) {
            return Err(AgreementError::Period);
        }
        Hash::from_slice(&proto.terms_hash)
            .map_err(|_| AgreementError::Field("epoch.terms_hash"))?;
        let hash = Tag::AGREEMENT.hash(&[&proto.encode_to_vec()]);
        Ok(Self { proto, parties, key, hash })
    }

    /// The message.
    pub fn to_proto(&self) -> v1::AgreementEpoch {
        self.proto.clone()
    }

    /// What an approval covers.
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// The agreement that it is an epoch of: where it is the first among two or more, its own hash.
    pub fn agreement(&self) -> Hash {
        Hash::from_slice(&self.proto.agreement).unwrap_or(self.hash)
    }

    /// From 1.
    pub fn number(&self) -> u32 {
        self.proto.number
    }

    /// Ascending.
    pub fn parties(&self) -> &[AgencyCode] {
        &self.parties
    }

    /// The key of the epoch's verifiable random function.
    pub fn key(&self) -> &VrfPublicKey {
        &self.key
    }

    /// Unix milliseconds: from inclusive, until exclusive.
    pub fn period_ms(&self) -> (u64, u64) {
        (self.proto.from_ms, self.proto.until_ms)
    }

    /// Unix milliseconds: no block of a later time may carry it.
    pub fn not_after_ms(&self) -> u64 {
        self.proto.not_after_ms
    }

    /// Hash of its terms.
    pub fn terms_hash(&self) -> Hash {
        Hash::from_slice(&self.proto.terms_hash).expect("checked when it was read")
    }

    /// How many changes the agreement has had, so that who leaves takes its approval along.
    pub fn changes(&self) -> u32 {
        self.proto.changes
    }

    /// Signs that a party agrees and has the epoch's secret. That it has is for the caller to check.
    pub fn approve(&self, chain_id: &Hash, key: &SigningKey) -> AgreementApproval {
        let signer = key.public();
        AgreementApproval { signer, signature: key.sign(&self.message(chain_id, &signer)) }
    }

    /// Whether an approval is one of this epoch on a chain. Whose key it is signed with is the registry's to say.
    pub fn is_approved_by(&self, approval: &AgreementApproval, chain_id: &Hash) -> bool {
        let message = self.message(chain_id, &approval.signer);
        approval.signer.verify(&message, &approval.signature).is_ok()
    }

    fn message(&self, chain_id: &Hash, key: &PublicKey) -> Vec<u8> {
        let parts = [chain_id.as_bytes(), key.as_bytes(), self.hash.as_bytes()];
        Tag::AGREEMENT_APPROVAL.message(&parts.map(|part| &part[..]))
    }
}

/// The first epoch among two or more has no id yet, every other has one; that of one agency is its own.
fn check_id(proto: &v1::AgreementEpoch, parties: &[AgencyCode]) -> Result<(), AgreementError> {
    let is_right = match parties {
        [alone] => proto.agreement == own_id(alone).as_bytes(),
        _ if proto.number == 1 => proto.agreement.is_empty(),
        _ => Hash::from_slice(&proto.agreement).is_ok(),
    };
    if is_right { Ok(()) } else { Err(AgreementError::Id) }
}

fn parties_of(codes: &[String]) -> Option<Vec<AgencyCode>> {
    let parties: Vec<AgencyCode> =
        codes.iter().map(|code| code.parse().ok()).collect::<Option<_>>()?;
    let is_list = (1..=PARTIES_MAX).contains(&parties.len()) && parties.is_sorted_by(|a, b| a < b);
    is_list.then_some(parties)
}

/// A party's signature under an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AgreementApproval {
    /// A node's signing key of the party.
    pub signer: PublicKey,
    /// Over chain id, key and the epoch's hash.
    pub signature: Signature,
}

impl AgreementApproval {
    /// The message.
    pub fn to_proto(&self) -> v1::AgreementApproval {
        v1::AgreementApproval {
            public_key: self.signer.as_bytes().to_vec(),
            signature: self.signature.0.to_vec(),
        }
    }

    /// Reads the message. Its signature is not checked.
    ///
    /// # Errors
    /// [`KeyError`]: no key, or a signature of another length.
    pub fn from_proto(proto: &v1::AgreementApproval) -> Result<Self, KeyError> {
        Ok(Self {
            signer: PublicKey::from_slice(&proto.public_key)?,
            signature: Signature::from_slice(&proto.signature)?,
        })
    }
}

/// A change of an agreement, checked by itself.
#[derive(Clone, Debug, PartialEq)]
pub enum AgreementChange {
    /// An epoch, with an approval of each party, in the parties' order.
    Epoch(Box<EpochProposal>, Vec<AgreementApproval>),
    /// The lodging agency leaves an agreement, whose newest epoch is this.
    Leave {
        /// Which.
        agreement: Hash,
        /// The number of its newest epoch.
        epoch: u32,
    },
}

impl AgreementChange {
    /// Puts an epoch together. Approvals come in the parties' order.
    ///
    /// # Errors
    /// [`AgreementError::ApprovalCount`].
    pub fn epoch(
        proposal: EpochProposal,
        approvals: Vec<AgreementApproval>,
    ) -> Result<Self, AgreementError> {
        let (expected, found) = (proposal.parties.len(), approvals.len());
        if found != expected {
            return Err(AgreementError::ApprovalCount { expected, found });
        }
        Ok(Self::Epoch(Box::new(proposal), approvals))
    }

    /// Reads the message. Its signatures are not checked, see [`AgreementChange::verify`].
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn from_proto(proto: &v1::AgreementChange) -> Result<Self, AgreementError> {
        use v1::agreement_change::Change;
        match proto.change.as_ref().ok_or(AgreementError::Field("change"))? {
            Change::Epoch(epoch) => {
                let proposal = EpochProposal::from_proto(epoch.clone())?;
                let read = |(place, approval)| {
                    AgreementApproval::from_proto(approval)
                        .map_err(|error| AgreementError::ApprovalKey(place, error))
                };
                let (expected, found) = (proposal.parties.len(), proto.approvals.len());
                if found != expected {
                    return Err(AgreementError::ApprovalCount { expected, found });
                }
                let approvals = proto.approvals.iter().enumerate().map(read);
                Self::epoch(proposal, approvals.collect::<Result<_, _>>()?)
            }
            Change::Leave(leave) => {
                let agreement = Hash::from_slice(&leave.agreement)
                    .map_err(|_| AgreementError::Field("leave.agreement"))?;
                let epoch = leave.epoch;
                if !(1..=EPOCHS_MAX).contains(&epoch) {
                    return Err(AgreementError::Number(epoch));
                }
                match proto.approvals.len() {
                    0 => Ok(Self::Leave { agreement, epoch }),
                    found => Err(AgreementError::ApprovalCount { expected: 0, found }),
                }
            }
        }
    }

    /// The message.
    pub fn to_proto(&self) -> v1::AgreementChange {
        use v1::agreement_change::Change;
        match self {
            Self::Epoch(proposal, approvals) => v1::AgreementChange {
                change: Some(Change::Epoch(proposal.to_proto())),
                approvals: approvals.iter().map(AgreementApproval::to_proto).collect(),
            },
            Self::Leave { agreement, epoch } => v1::AgreementChange {
                change: Some(Change::Leave(v1::AgreementLeave {
                    agreement: agreement.0.to_vec(),
                    epoch: *epoch,
                })),
                approvals: Vec::new(),
            },
        }
    }

    /// The agreement that it changes.
    pub fn agreement(&self) -> Hash {
        match self {
            Self::Epoch(proposal, _) => proposal.agreement(),
            Self::Leave { agreement, .. } => *agreement,
        }
    }

    /// The dedupe key of its slot, unique on the chain: an epoch is agreed once, and left once by each.
    pub fn dedupe_key(&self, agency: &AgencyCode) -> Hash {
        match self {
            Self::Epoch(proposal, _) => proposal.hash(),
            Self::Leave { agreement, epoch } => {
                let parts: [&[u8]; 3] =
                    [agreement.as_bytes(), &epoch.to_be_bytes(), agency.as_bytes()];
                Tag::AGREEMENT_LEAVE.hash(&parts)
            }
        }
    }

    /// Checks all signatures. Whether the keys are the parties' is for the chain to check.
    ///
    /// # Errors
    /// [`AgreementError::Approval`].
    pub fn verify(&self, chain_id: &Hash) -> Result<(), AgreementError> {
        let Self::Epoch(proposal, approvals) = self else { return Ok(()) };
        let wrong = |approval| !proposal.is_approved_by(approval, chain_id);
        match approvals.iter().position(wrong) {
            Some(place) => Err(AgreementError::Approval(place)),
            None => Ok(()),
        }
    }
}
