//! Proposing, opening and approving an epoch.
//!
//! To approve says that this party has the secret. So both the secret and the terms are durable before a signature is
//! made: after a crash in between, they are kept for nothing, and the offer is approved once more.

use customhouse_ledger::{
    agency::AgencyCode,
    agreement::{
        AgreementApproval, AgreementChange, EpochProposal, LodgedAt,
        terms::{AgreementTerms, TermsError},
    },
    chain::Tip,
    hash::Hash,
    keys::Signature,
    vrf::VrfSecretKey,
};
use customhouse_proto::v1;
use customhouse_vault::envelope::{EnvelopeContext, EnvelopeKind, RecipientKey, open, seal};

use super::{
    HeldAgreements, KeepError, Keeping, new_salt, new_secret,
    offers::{Offer, OfferError, RegisteredMembers, SealedOffer},
};
use crate::clock;

/// What an offer has in it, held against its epoch. Nothing of it is kept yet.
pub struct Opened {
    /// The secret of the epoch.
    secret: VrfSecretKey,
    /// What it would let whom read.
    pub terms: AgreementTerms,
}

/// An epoch as it is wanted.
pub struct Draft {
    /// All parties, in any order. None: those of the agreement that goes on.
    pub parties: Vec<AgencyCode>,
    /// Without a salt. None: those of the agreement that goes on.
    pub terms: Option<v1::AgreementTerms>,
    /// The agreement that goes on.
    pub agreement: Option<Hash>,
    /// Unix milliseconds.
    pub from_ms: u64,
    /// Unix milliseconds.
    pub until_ms: u64,
    /// Unix milliseconds.
    pub not_after_ms: u64,
}

impl HeldAgreements {
    /// Makes an offer, which this agency has approved. Takes time: secret and terms are durable when it returns.
    ///
    /// # Errors
    /// [`OfferError`].
    pub fn propose(&self, draft: Draft) -> Result<(Offer, AgreementTerms), OfferError> {
        let keeping = self.keeping().ok_or(KeepError::NoVault)?;
        let tip = self.0.reader.tip();
        let terms = self.terms_of(&draft, &tip)?;
        let secret = new_secret()?;
        let proposal = self.epoch_of(&draft, &tip, &secret, &terms)?;
        terms.check_parties(proposal.parties())?;
        if !proposal.parties().contains(&self.agency()) {
            return Err(OfferError::NotParty(self.agency()));
        }
        self.check_now(&tip, &proposal)?;
        // Before anything is kept: a party may have nothing to seal to.
        let others = proposal.parties().iter().filter(|party| **party != self.agency());
        let sealed = others.map(|party| {
            Ok((*party, keeping.seal_to(*party, &tip, &proposal, (&secret, &terms))?))
        });
        let sealed = sealed.collect::<Result<_, OfferError>>()?;
        keeping.keep(&proposal, &secret, &terms)?;
        let approvals = [(self.agency(), self.approve(&proposal))].into();
        let chain_id = keeping.chain_id;
        Ok((Offer { chain_id, from: self.agency(), proposal, sealed, approvals }, terms))
    }

    /// Opens an offer: its secret and terms are those of its epoch, its approvals what they say.
    ///
    /// # Errors
    /// [`OfferError`].
    pub fn open(&self, offer: &Offer) -> Result<Opened, OfferError> {
        let keeping = self.keeping().ok_or(KeepError::NoVault)?;
        let tip = self.0.reader.tip();
        let members = RegisteredMembers::at(&tip.registry, tip.header.height + 1);
        offer.check(&keeping.chain_id, &members)?;
        let proposal = &offer.proposal;
        if !proposal.parties().contains(&self.agency()) {
            return Err(OfferError::NotParty(self.agency()));
        }
        let opened = match offer.sealed.get(&self.agency()) {
            Some(sealed) => keeping.open_sealed(offer, sealed)?,
            // Its own offer, or what was laid out with the network.
            None => self.opened_before(proposal)?,
        };
        opened.terms.check_parties(proposal.parties())?;
        Ok(opened)
    }

    /// Opens an offer, keeps what is in it, and approves it: in this order. Takes time.
    ///
    /// # Errors
    /// [`OfferError`]: nothing was approved then.
    pub fn approve_offer(&self, mut offer: Offer) -> Result<Offer, OfferError> {
        let Opened { secret, terms } = self.open(&offer)?;
        self.check_now(&self.0.reader.tip(), &offer.proposal)?;
        self.keep(&offer.proposal, &secret, &terms)?;
        offer.approvals.insert(self.agency(), self.approve(&offer.proposal));
        Ok(offer)
    }

    /// The change that an offer with all approvals is, where the chain would take it now. None where it is on the
    /// chain.
    ///
    /// # Errors
    /// [`OfferError`].
    pub fn change_of(&self, offer: &Offer) -> Result<Option<AgreementChange>, OfferError> {
        let tip = self.0.reader.tip();
        let (chain_id, next) = (self.0.reader.chain_id(), tip.header.height + 1);
        let members = RegisteredMembers::at(&tip.registry, next);
        let proposal = &offer.proposal;
        let agreed = tip.agreements.get(&proposal.agreement());
        let agreed = agreed.and_then(|agreement| agreement.epoch(proposal.number()));
        // A key is drawn for one proposal alone.
        if agreed.is_some_and(|epoch| epoch.key == *proposal.key()) {
            return Ok(None);
        }
        let change = offer.change()?;
        offer.check(&chain_id, &members)?;
        tip.agreements.check(&change, &self.lodged_now(&tip), &members)?;
        Ok(Some(change))
    }

    /// The change by which this agency leaves an agreement, where the chain would take it now.
    ///
    /// # Errors
    /// [`OfferError::NotNow`].
    pub fn leave(&self, agreement: Hash) -> Result<AgreementChange, OfferError> {
        let tip = self.0.reader.tip();
        let epochs = tip.agreements.get(&agreement).map_or(0, |found| found.next_number() - 1);
        let change = AgreementChange::Leave { agreement, epoch: epochs };
        let members = RegisteredMembers::at(&tip.registry, tip.header.height + 1);
        tip.agreements.check(&change, &self.lodged_now(&tip), &members)?;
        Ok(change)
    }

    /// Secret and terms that are held already.
    fn opened_before(&self, proposal: &EpochProposal) -> Result<Opened, OfferError> {
        let terms_hash = proposal.terms_hash();
        let held = self.secret_of(proposal.key()).zip(self.terms(&terms_hash));
        let (secret, terms) = held.ok_or(OfferError::NothingSealed(self.agency()))?;
        Ok(Opened { secret, terms })
    }

    fn terms_of(&self, draft: &Draft, tip: &Tip) -> Result<AgreementTerms, OfferError> {
        let before = || {
            let newest = tip.agreements.get(&draft.agreement?)?.newest();
            self.terms(&newest.terms_hash).map(|terms| terms.to_proto())
        };
        let stated = draft.terms.clone();
        let proto = stated.or_else(before).ok_or(OfferError::TermsNotHere)?;
        let salt = new_salt()?;
        Ok(AgreementTerms::from_proto(v1::AgreementTerms { salt, ..proto })?)
    }

    fn epoch_of(
        &self,
        draft: &Draft,
        tip: &Tip,
        secret: &VrfSecretKey,
        terms: &AgreementTerms,
    ) -> Result<EpochProposal, OfferError> {
        let present = draft.agreement.and_then(|id| tip.agreements.get(&id));
        let newest = present.map(|agreement| agreement.newest());
        let mut parties = draft.parties.clone();
        if let (true, Some(newest)) = (parties.is_empty(), newest) {
            let stay = newest.parties.iter().filter(|party| !newest.left.contains(party));
            parties.extend(stay);
        }
        parties.sort_unstable();
        parties.dedup();
        Ok(EpochProposal::from_proto(v1::AgreementEpoch {
            agreement: draft.agreement.map(|id| id.0.to_vec()).unwrap_or_default(),
            number: present.map_or(1, |agreement| agreement.next_number()),
            parties: parties.iter().map(ToString::to_string).collect(),
            public_key: secret.public().as_bytes().to_vec(),
            from_ms: draft.from_ms,
            until_ms: draft.until_ms,
            terms_hash: terms.hash().0.to_vec(),
            not_after_ms: draft.not_after_ms,
            changes: present.map_or(0, |agreement| agreement.changes),
        })?)
    }

    /// Whether a block could carry an epoch now, but for the approvals.
    fn check_now(&self, tip: &Tip, proposal: &EpochProposal) -> Result<(), OfferError> {
        let members = RegisteredMembers::at(&tip.registry, tip.header.height + 1).before_approval();
        // Whose they are is not asked: the epoch alone is checked, and nothing is signed yet.
        let (signer, signature) = (self.approver(), Signature([0; 64]));
        let approval = AgreementApproval { signer, signature };
        let approvals = vec![approval; proposal.parties().len()];
        let change = AgreementChange::epoch(proposal.clone(), approvals)?;
        Ok(tip.agreements.check(&change, &self.lodged_now(tip), &members)?)
    }

    fn lodged_now(&self, tip: &Tip) -> LodgedAt {
        let (agency, height) = (self.agency(), tip.header.height + 1);
        LodgedAt { agency, height, time_ms: clock::unix_ms().max(tip.header.time_ms) }
    }
}

impl Keeping {
    /// Seals secret and terms to a party's newest registered key.
    fn seal_to(
        &self,
        party: AgencyCode,
        tip: &Tip,
        proposal: &EpochProposal,
        (secret, terms): (&VrfSecretKey, &AgreementTerms),
    ) -> Result<SealedOffer, OfferError> {
        let registered = tip.registry.encryption_keys_at(&party, tip.header.height + 1);
        let newest = registered.first().ok_or(OfferError::NoEncryptionKey(party))?;
        let key = RecipientKey::from_slice(newest.as_bytes());
        let key = key.map_err(|source| OfferError::Envelope { what: "key", source })?;
        let context = |kind| self.context(kind, (self.agency, party), proposal);
        let sealed = |what, kind, bytes: &[u8]| {
            let envelope = seal(&key, &context(kind), bytes);
            envelope.map_err(|source| OfferError::Envelope { what, source })
        };
        Ok(SealedOffer {
            key,
            secret: secret.with_seed(|seed| sealed("secret", EnvelopeKind::EpochSecret, seed))?,
            terms: sealed("terms", EnvelopeKind::Terms, &terms.to_bytes())?,
        })
    }

    fn open_sealed(&self, offer: &Offer, sealed: &SealedOffer) -> Result<Opened, OfferError> {
        let proposal = &offer.proposal;
        let own = self.vault.encryption_key(&sealed.key);
        let own = own.ok_or(OfferError::SealedKey(sealed.key))?;
        let opened = |what, kind, envelope: &[u8]| {
            let context = self.context(kind, (offer.from, self.agency), proposal);
            open(&own, &context, envelope).map_err(|source| OfferError::Envelope { what, source })
        };
        let secret = opened("secret", EnvelopeKind::EpochSecret, &sealed.secret)?;
        let seed: &[u8; 32] = secret.as_slice().try_into().map_err(|_| OfferError::Secret)?;
        let secret = VrfSecretKey::from_seed(seed);
        if secret.public() != proposal.key() {
            return Err(OfferError::Secret);
        }
        let terms = opened("terms", EnvelopeKind::Terms, &sealed.terms)?;
        let terms = AgreementTerms::from_bytes(&terms);
        let terms = terms.map_err(|error: TermsError| OfferError::Terms(error))?;
        match terms.hash() == proposal.terms_hash() {
            true => Ok(Opened { secret, terms }),
            false => Err(OfferError::OtherTerms),
        }
    }

    /// What an envelope of an offer is for: the epoch, by its hash and number.
    fn context(
        &self,
        kind: EnvelopeKind,
        (from, to): (AgencyCode, AgencyCode),
        proposal: &EpochProposal,
    ) -> EnvelopeContext {
        let (chain_id, id, epoch) = (self.chain_id, proposal.hash(), proposal.number());
        EnvelopeContext { chain_id, from, to, kind, id, epoch }
    }
}
