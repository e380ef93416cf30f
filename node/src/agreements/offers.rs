//! An offer: an epoch that is to be approved, with its secret and its terms sealed to each party, and the approvals
//! so far. Where it comes from proves nothing; what is in it does:
//!
//! - the proposer is a party and has approved, by a key that the registry has for its node;
//! - every approval that is there is one of this epoch on this chain, by such a key of the party that it is said of;
//! - what opens is held against the epoch's public key and hash of the terms ([`super::proposing`]).

use std::collections::BTreeMap;

use customhouse_ledger::{
    agency::AgencyCode,
    agreement::{
        AgreementApproval, AgreementChange, AgreementError, AgreementInvalid, EpochProposal,
        KnownMembers, terms::TermsError,
    },
    authority::Role,
    hash::Hash,
    keys::PublicKey,
    limits::TERMS_BYTES_MAX,
    registry::Registry,
};
use customhouse_proto::v1;
use customhouse_vault::envelope::{ENVELOPE_OVERHEAD, EnvelopeError, RecipientKey};

use super::KeepError;

/// Why an offer is not made, opened, approved or lodged.
#[derive(Debug, thiserror::Error)]
pub enum OfferError {
    /// A field of the offer is missing or wrong.
    #[error("offer.{field}: {reason}; ask who sent it for another")]
    Field {
        /// Which.
        field: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// Of another network.
    #[error(
        "offer.chain_id: {found}, and this chain is {expected}: the offer is for another network"
    )]
    Chain {
        /// The offer's.
        found: Hash,
        /// This one.
        expected: Hash,
    },
    /// Somebody who is no party proposes, opens or approves.
    #[error("{0} is no party of the offered epoch")]
    NotParty(AgencyCode),
    /// An approval that is not what it says.
    #[error(
        "offer.approvals: that of {0} is not of this epoch on this chain, by a key that the registry has for a node \
         of it; ask {0} to approve again"
    )]
    Approval(AgencyCode),
    /// The proposer has not approved: anybody may have made it.
    #[error("offer.approvals: none of {0}, which is to have proposed it: anybody may have made it")]
    NoProposer(AgencyCode),
    /// It has nothing for this agency, which does not hold it either.
    #[error(
        "offer.sealed: nothing is sealed to {0} in it, and its secret is not here either; ask who sent it for \
         another"
    )]
    NothingSealed(AgencyCode),
    /// Sealed to a key that this vault has not.
    #[error(
        "offer.sealed: sealed to the encryption key {0}, which this node's vault has not: approve it with the vault \
         that has it, or ask for another offer"
    )]
    SealedKey(RecipientKey),
    /// An envelope does not open.
    #[error("offer.sealed.{what}: {source}")]
    Envelope {
        /// `secret` or `terms`.
        what: &'static str,
        /// Why.
        source: EnvelopeError,
    },
    /// Another secret than the epoch's key is of.
    #[error(
        "offer.sealed.secret: is not the secret of the epoch's public key: whoever approved it could not find what \
         is lodged; do not approve it"
    )]
    Secret,
    /// Other terms than the epoch says.
    #[error(
        "offer.sealed.terms: are not the terms whose hash the epoch has: others would approve something else; do not \
         approve it"
    )]
    OtherTerms,
    /// Terms that break a rule.
    #[error("{0}")]
    Terms(#[from] TermsError),
    /// Not all have approved.
    #[error("offer.approvals: {0} has not approved yet")]
    Missing(AgencyCode),
    /// There is no key to seal to.
    #[error(
        "{0} has no encryption key in the registry: it registers one first (`registry propose --add \
         {0}:encryption=KEY`)"
    )]
    NoEncryptionKey(AgencyCode),
    /// An epoch by itself.
    #[error("{0}")]
    Epoch(#[from] AgreementError),
    /// The chain would not take it now.
    #[error("{0}")]
    NotNow(#[from] AgreementInvalid),
    /// What was kept cannot be, or there is nowhere to keep it.
    #[error("{0}")]
    Keep(#[from] KeepError),
    /// The agreement that is to go on has terms that are not here.
    #[error("terms: those of the agreement's newest epoch are not at this node: state them")]
    TermsNotHere,
}

impl OfferError {
    /// A stable code for clients and scripts.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Field { .. } => "OFFER_FIELD",
            Self::Chain { .. } => "OFFER_CHAIN",
            Self::NotParty(_) => "OFFER_PARTY",
            Self::Approval(_) | Self::NoProposer(_) => "OFFER_APPROVAL",
            Self::NothingSealed(_) | Self::SealedKey(_) => "OFFER_NOT_FOR_US",
            Self::Envelope { .. } => "OFFER_ENVELOPE",
            Self::Secret => "OFFER_SECRET",
            Self::OtherTerms => "OFFER_TERMS",
            Self::Missing(_) => "OFFER_INCOMPLETE",
            Self::NoEncryptionKey(_) => "PARTY_ENCRYPTION_KEY",
            Self::Terms(error) => error.code(),
            Self::Epoch(error) => error.code(),
            Self::NotNow(error) => error.code(),
            Self::Keep(KeepError::NoVault) => "NO_VAULT",
            Self::Keep(_) => "AGREEMENT_NOT_KEPT",
            Self::TermsNotHere => "TERMS_NOT_HERE",
        }
    }
}

/// What is sealed to a party.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SealedOffer {
    pub(super) key: RecipientKey,
    pub(super) secret: Vec<u8>,
    pub(super) terms: Vec<u8>,
}

/// An offer whose form was checked. What it says was not: see [`Offer::check`].
#[derive(Clone, Debug, PartialEq)]
pub struct Offer {
    pub(super) chain_id: Hash,
    pub(super) from: AgencyCode,
    pub(super) proposal: EpochProposal,
    pub(super) sealed: BTreeMap<AgencyCode, SealedOffer>,
    pub(super) approvals: BTreeMap<AgencyCode, AgreementApproval>,
}

fn field(field: &'static str, reason: impl ToString) -> OfferError {
    OfferError::Field { field, reason: reason.to_string() }
}

impl Offer {
    /// Reads the message.
    ///
    /// # Errors
    /// [`OfferError::Field`], [`OfferError::NotParty`], [`OfferError::Epoch`].
    pub fn from_proto(proto: v1::AgreementOffer) -> Result<Self, OfferError> {
        let chain_id = Hash::from_slice(&proto.chain_id).map_err(|e| field("chain_id", e))?;
        let from: AgencyCode = proto.from.parse().map_err(|e| field("from", e))?;
        let epoch = proto.epoch.ok_or_else(|| field("epoch", "is missing"))?;
        let proposal = EpochProposal::from_proto(epoch)?;
        if !proposal.parties().contains(&from) {
            return Err(OfferError::NotParty(from));
        }
        let party = |name: &'static str, text: &str| -> Result<AgencyCode, OfferError> {
            let party: AgencyCode = text.parse().map_err(|e| field(name, e))?;
            let is_one = proposal.parties().contains(&party);
            is_one.then_some(party).ok_or(OfferError::NotParty(party))
        };
        let mut sealed = BTreeMap::new();
        for one in proto.sealed {
            let of = party("sealed.party", &one.party)?;
            let key = RecipientKey::from_slice(&one.encryption_key);
            let key = key.map_err(|e| field("sealed.encryption_key", e))?;
            if one.secret.len() != 32 + ENVELOPE_OVERHEAD {
                return Err(field("sealed.secret", "not of the length of an envelope of 32 bytes"));
            }
            if one.terms.len() > TERMS_BYTES_MAX + ENVELOPE_OVERHEAD {
                return Err(field("sealed.terms", "longer than an envelope of terms"));
            }
            let (secret, terms) = (one.secret, one.terms);
            if sealed.insert(of, SealedOffer { key, secret, terms }).is_some() {
                return Err(field("sealed", format!("{of} is there twice")));
            }
        }
        let mut approvals = BTreeMap::new();
        for one in proto.approvals {
            let of = party("approvals.party", &one.party)?;
            let approval = one.approval.ok_or_else(|| field("approvals.approval", "is missing"))?;
            let approval = AgreementApproval::from_proto(&approval);
            let approval = approval.map_err(|e| field("approvals.approval", e))?;
            if approvals.insert(of, approval).is_some() {
                return Err(field("approvals", format!("{of} is there twice")));
            }
        }
        Ok(Self { chain_id, from, proposal, sealed, approvals })
    }

    /// One that its parties have approved where they hold its secret already: nothing is sealed in it. The first of
    /// them has proposed it.
    pub(crate) fn approved(
        chain_id: Hash,
        proposal: EpochProposal,
        approvals: Vec<(AgencyCode, AgreementApproval)>,
    ) -> Result<Self, OfferError> {
        let from = *proposal.parties().first().expect("an epoch has parties");
        let approvals = approvals.into_iter().collect();
        let offer = Self { chain_id, from, proposal, sealed: BTreeMap::new(), approvals };
        offer.change().map(|_| offer)
    }

    /// The message.
    pub fn to_proto(&self) -> v1::AgreementOffer {
        let sealed = |(party, sealed): (&AgencyCode, &SealedOffer)| v1::SealedForParty {
            party: party.to_string(),
            encryption_key: sealed.key.as_bytes().to_vec(),
            secret: sealed.secret.clone(),
            terms: sealed.terms.clone(),
        };
        let approval = |(party, approval): (&AgencyCode, &AgreementApproval)| v1::PartyApproval {
            party: party.to_string(),
            approval: Some(approval.to_proto()),
        };
        v1::AgreementOffer {
            chain_id: self.chain_id.0.to_vec(),
            from: self.from.to_string(),
            epoch: Some(self.proposal.to_proto()),
            sealed: self.sealed.iter().map(sealed).collect(),
            approvals: self.approvals.iter().map(approval).collect(),
        }
    }

    /// The epoch.
    pub fn proposal(&self) -> &EpochProposal {
        &self.proposal
    }

    /// Parties that have not approved.
    pub fn missing(&self) -> Vec<AgencyCode> {
        let parties = self.proposal.parties().iter();
        parties.filter(|party| !self.approvals.contains_key(party)).copied().collect()
    }

    /// That it is of a chain, that its proposer has approved it, and that every approval is what it says.
    ///
    /// # Errors
    /// [`OfferError::Chain`], [`OfferError::Approval`], [`OfferError::NoProposer`].
    pub fn check(
        &self,
        chain_id: &Hash,
        members: &RegisteredMembers<'_>,
    ) -> Result<(), OfferError> {
        if self.chain_id != *chain_id {
            return Err(OfferError::Chain { found: self.chain_id, expected: *chain_id });
        }
        for (party, approval) in &self.approvals {
            let is_one = self.proposal.is_approved_by(approval, chain_id)
                && members.is_node_of(&approval.signer, party);
            if !is_one {
                return Err(OfferError::Approval(*party));
            }
        }
        match self.approvals.contains_key(&self.from) {
            true => Ok(()),
            false => Err(OfferError::NoProposer(self.from)),
        }
    }

    /// The change that puts it on the chain.
    ///
    /// # Errors
    /// [`OfferError::Missing`].
    pub fn change(&self) -> Result<AgreementChange, OfferError> {
        let of = |party: &AgencyCode| {
            self.approvals.get(party).copied().ok_or(OfferError::Missing(*party))
        };
        let approvals = self.proposal.parties().iter().map(of).collect::<Result<_, _>>()?;
        Ok(AgreementChange::epoch(self.proposal.clone(), approvals)?)
    }
}

/// The members of a registry at a height, as agreements ask for them.
pub struct RegisteredMembers<'a> {
    registry: &'a Registry,
    height: u64,
    /// Whether any key passes for a node's: where the approvals are yet to come.
    any_node: bool,
}

impl<'a> RegisteredMembers<'a> {
    /// Those of a height.
    pub fn at(registry: &'a Registry, height: u64) -> Self {
        Self { registry, height, any_node: false }
    }

    /// The same for an epoch that has no approvals yet.
    pub(super) fn before_approval(self) -> Self {
        Self { any_node: true, ..self }
    }
}

impl KnownMembers for RegisteredMembers<'_> {
    fn is_member(&self, agency: &AgencyCode) -> bool {
        self.registry.is_open_agency(agency, self.height)
    }

    fn is_node_of(&self, key: &PublicKey, agency: &AgencyCode) -> bool {
        let signer = || self.registry.signer_at(key, self.height);
        self.any_node
            || signer().is_some_and(|signer| signer.agency == *agency && signer.role == Role::Node)
    }
}
