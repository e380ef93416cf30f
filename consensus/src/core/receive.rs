//! Messages of peers: what is dropped, what is verified, what is kept.
//!
//! Cheap questions come first: a signature is only checked where it could change something.

use std::cmp::Ordering;

use customhouse_ledger::{
    finality::{
        certificate::Certificate,
        vote::{Ballot, Proposal, Vote, VoteKind},
    },
    hash::Hash,
    keys::PublicKey,
};

use crate::{
    action::{Action, HaltReason, Reception, Refusal, StopReason},
    core::Core,
    early::{Favour, Kept, Origin},
    height::Held,
    input::{CertifiedTip, Message, PeerTag},
    votes::is_near,
};
use customhouse_ledger::finality::evidence::Evidence;

impl Core {
    /// Takes what a peer says, and says what became of it.
    pub(crate) fn receive(&mut self, from: PeerTag, message: Message) -> Reception {
        let outcome = match message {
            Message::Tip(tip) => self.take_tip(from, tip),
            message => match message.height().cmp(&self.height.number) {
                Ordering::Less => {
                    self.answer_laggard(from, message.height());
                    Err(Refusal::Past)
                }
                Ordering::Greater => self.take_early(from, message),
                Ordering::Equal => match message {
                    Message::Certificate(certificate) => self.receive_certificate(certificate),
                    other => self.take_current(other, false).map(|()| Reception::Accepted),
                },
            },
        };
        outcome.into()
    }

    /// Takes what was kept for this height. Where it is wrong, whoever handed it over then is to blame:
    /// nobody passes on what it has kept.
    pub(crate) fn take_kept(&mut self, kept: Kept) {
        if let Err(reason) = self.take_current(kept.message, kept.verified) {
            self.refuse(kept.from, reason);
        }
    }

    /// Takes a message of this height. `verified`: its author has signed it.
    fn take_current(&mut self, message: Message, verified: bool) -> Result<(), Refusal> {
        match message {
            Message::Proposal(proposal) => self.take_proposal(proposal, verified),
            Message::Vote(vote) => self.take_vote(vote, verified),
            Message::Certificate(certificate) => self.take_certificate(certificate),
            Message::Tip(_) => Ok(()),
        }
    }

    fn take_proposal(&mut self, proposal: Proposal, verified: bool) -> Result<(), Refusal> {
        let view = proposal.view;
        if Some(proposal.leader) == self.signer {
            self.take_own_claim(&self.claim_of(&proposal))?;
        }
        if !is_near(view, self.height.view) {
            return Err(Refusal::FarView);
        }
        if proposal.leader != self.height.leader(view) {
            return Err(Refusal::NotTheLeader);
        }
        if proposal.block.leaves.len() as u64 > self.tip.parameters.block_transactions_max
            || proposal.parent_view >= view
        {
            return Err(Refusal::Block);
        }
        let claim = self.claim_of(&proposal);
        let claimed = self.height.claims.get(&view);
        if claimed == Some(&claim) {
            return Ok(());
        }
        if claimed.is_some_and(|first| first.is_of_the_same_as(&claim)) {
            return Err(Refusal::Known);
        }
        let index = self.height.validators.index_of(&proposal.leader);
        let index = index.ok_or(Refusal::NotAValidator)?;
        let first = claimed.cloned();
        if first.is_some() && self.height.votes.has_accused(index, view) {
            return Err(Refusal::Known);
        }
        if !verified && !claim.is_signed(&self.config.chain_id) {
            return Err(Refusal::Signature);
        }
        match first {
            Some(first) => self.accuse(index, view, Evidence::Proposals(first, claim)),
            None => {
                if let Some(vote) = self.height.votes.of(index, view, VoteKind::Notarize)
                    && vote.ballot.block_hash != claim.proposed.block_hash
                {
                    self.accuse(index, view, Evidence::ProposalAndVote(claim.clone(), *vote));
                }
                self.height.claims.insert(view, claim);
                if view >= self.height.view {
                    self.height.proposals.insert(view, Held::new(proposal));
                }
            }
        }
        Ok(())
    }

    fn take_vote(&mut self, vote: Vote, verified: bool) -> Result<(), Refusal> {
        let view = vote.ballot.view;
        if (vote.ballot.kind == VoteKind::Nullify) != (vote.ballot.block_hash == Hash::ZERO) {
            return Err(Refusal::Signature);
        }
        let index = self.height.validators.index_of(&vote.validator);
        let index = index.ok_or(Refusal::NotAValidator)?;
        if Some(vote.validator) == self.signer && !self.remembers_vote(&vote) {
            let is_signed = vote.verify(&self.config.chain_id).is_ok();
            return Err(self.take_own(is_signed, vote.ballot.height, view));
        }
        if !is_near(view, self.height.view) {
            return Err(Refusal::FarView);
        }
        if self.height.votes.holds(index, &vote) {
            return Ok(());
        }
        if !self.height.votes.is_news(index, &vote) {
            return Err(Refusal::Known);
        }
        if !verified {
            vote.verify(&self.config.chain_id).map_err(|_| Refusal::Signature)?;
        }
        self.count(vote);
        Ok(())
    }

    /// Something of this node's own key that it does not remember. If the signature is real, it
    /// was made elsewhere, or before the journal was lost: stop signing. It is no business of others,
    /// who would not know whether it counts.
    pub(crate) fn take_own(&mut self, is_signed: bool, height: u64, view: u64) -> Refusal {
        if !is_signed {
            return Refusal::Signature;
        }
        self.stop_signing(StopReason::UnknownOwnSignature { height, view });
        Refusal::OwnKey
    }

    /// Takes a certificate. One of other votes than the one that is held is the same to whoever has either;
    /// where all of its votes are known, nothing about it is left to be verified.
    fn receive_certificate(&mut self, certificate: Certificate) -> Result<Reception, Refusal> {
        let ballot = certificate.ballot;
        match self.take_certificate(certificate.clone()) {
            Ok(()) => Ok(Reception::Accepted),
            Err(Refusal::Known)
                if self.has_sent_certificate_of(&ballot) && self.holds_votes_of(&certificate) =>
            {
                Ok(Reception::Contained)
            }
            Err(reason) => Err(reason),
        }
    }

    /// Whether a certificate of this ballot was sent to all.
    pub(crate) fn has_sent_certificate_of(&self, ballot: &Ballot) -> bool {
        let held = self.height.certificate(ballot.kind, ballot.view);
        self.height.acted.contains(&(ballot.kind, ballot.view))
            && held.is_some_and(|held| held.ballot == *ballot)
    }

    /// Whether a certificate is one of votes that are all held.
    fn holds_votes_of(&self, certificate: &Certificate) -> bool {
        let validators = &self.height.validators;
        let votes = certificate.votes(validators);
        let holds = |vote: &Vote| {
            let index = validators.index_of(&vote.validator);
            index.is_some_and(|index| self.height.votes.holds(index, vote))
        };
        votes.iter().all(holds)
            && Certificate::from_votes(certificate.ballot, &votes, validators).as_ref()
                == Some(certificate)
    }

    pub(crate) fn take_certificate(&mut self, certificate: Certificate) -> Result<(), Refusal> {
        let ballot = certificate.ballot;
        let held = self.height.certificate(ballot.kind, ballot.view);
        if held == Some(&certificate) {
            return Ok(());
        }
        if held.is_some_and(|held| held.ballot == ballot) {
            return Err(Refusal::Known);
        }
        let votes = self.verified_votes(&certificate)?;
        for vote in votes {
            if Some(vote.validator) == self.signer && !self.remembers_vote(&vote) {
                let (height, view) = (ballot.height, ballot.view);
                self.stop_signing(StopReason::UnknownOwnSignature { height, view });
            }
            if is_near(ballot.view, self.height.view) {
                self.count(vote);
            }
        }
        self.hold(certificate);
        Ok(())
    }

    /// The votes that a certificate is made of, each verified unless it is held already.
    fn verified_votes(&self, certificate: &Certificate) -> Result<Vec<Vote>, Refusal> {
        let ballot = certificate.ballot;
        if (ballot.kind == VoteKind::Nullify) != (ballot.block_hash == Hash::ZERO) {
            return Err(Refusal::Certificate);
        }
        let votes = certificate.votes(&self.height.validators);
        // Gathering its votes again must give the certificate: so nothing about it is left over.
        if self.certificate_from(ballot, &votes).as_ref() != Some(certificate)
            || !votes.iter().all(|vote| self.is_genuine(vote))
        {
            return Err(Refusal::Certificate);
        }
        Ok(votes)
    }

    /// Counts a verified vote; makes the certificate it completes.
    pub(crate) fn count(&mut self, vote: Vote) {
        let ballot = vote.ballot;
        let Some(index) = self.height.validators.index_of(&vote.validator) else { return };
        if let Some(evidence) = self.height.votes.keep(index, vote) {
            self.out.act(Action::Evidence(evidence));
        }
        let claim = self.height.claims.get(&ballot.view);
        if ballot.kind == VoteKind::Notarize
            && let Some(claim) = claim.filter(|claim| claim.leader == vote.validator)
            && claim.proposed.block_hash != ballot.block_hash
        {
            let evidence = Evidence::ProposalAndVote(claim.clone(), vote);
            self.accuse(index, ballot.view, evidence);
        }
        if self.height.certificate(ballot.kind, ballot.view).is_none()
            && let Some(certificate) = self.certificate_of(&ballot)
        {
            self.hold(certificate);
        }
    }

    fn hold(&mut self, certificate: Certificate) {
        if let Err(held) = self.height.hold(certificate.clone()) {
            let reason = HaltReason::ContradictingCertificates(held, Box::new(certificate));
            self.halt(reason);
        }
    }

    fn accuse(&mut self, index: usize, view: u64, evidence: Evidence) {
        if self.height.votes.accuse(index, view) {
            self.out.act(Action::Evidence(evidence));
        }
    }

    /// A peer is at a height that is committed here: tell it. Right after a commit the last votes
    /// of others still come in; those do not lag.
    fn answer_laggard(&mut self, from: PeerTag, height: u64) {
        let now = self.now.monotonic_ms;
        let resend_ms = self.config.timing.resend_ms;
        let just_committed = now < self.timers.height_started.saturating_add(resend_ms / 2);
        if height == self.tip.header.height && just_committed {
            return;
        }
        if let Some(tip) = self.tip()
            && self.pace.allows(from, Favour::Tip, now, resend_ms / 2)
        {
            self.out.send(from, Message::Tip(tip));
        }
    }

    /// Takes a message of a later height. Those of the next are kept, once the author that they
    /// name has signed them; what lies further is no more than a reason to ask the peer that says
    /// it.
    fn take_early(&mut self, from: PeerTag, message: Message) -> Result<Reception, Refusal> {
        let height = message.height();
        match &message {
            Message::Vote(vote)
                if Some(vote.validator) == self.signer && !self.remembers_vote(vote) =>
            {
                let is_signed = vote.verify(&self.config.chain_id).is_ok();
                return Err(self.take_own(is_signed, height, vote.ballot.view));
            }
            Message::Proposal(proposal) if Some(proposal.leader) == self.signer => {
                self.take_own_claim(&self.claim_of(proposal))?;
            }
            _ => {}
        }
        if height > self.height.number.saturating_add(1) {
            // Its sender has committed the heights before, if it is honest.
            self.sync_from(from, height - 1);
            return Err(Refusal::TooEarly);
        }
        if self.early.holds(&message) {
            return Ok(Reception::Held);
        }
        let kept = match message {
            Message::Vote(vote) => self.keep_vote(from, vote)?,
            Message::Proposal(proposal) => self.keep_proposal_early(from, proposal)?,
            Message::Certificate(certificate) => self.early.keep_certificate(from, certificate),
            Message::Tip(_) => false,
        };
        if kept { Ok(Reception::Held) } else { Err(Refusal::TooEarly) }
    }

    fn keep_vote(&mut self, from: PeerTag, vote: Vote) -> Result<bool, Refusal> {
        if (vote.ballot.kind == VoteKind::Nullify) != (vote.ballot.block_hash == Hash::ZERO) {
            return Err(Refusal::Signature);
        }
        let of = self.origin(from, vote.validator);
        if !self.early.has_room_for_vote(&of, &vote) {
            return Ok(false);
        }
        if !self.is_signed_early_vote(&vote) {
            return Err(Refusal::Signature);
        }
        self.early.keep_vote(&of, vote);
        Ok(true)
    }

    fn keep_proposal_early(&mut self, from: PeerTag, proposal: Proposal) -> Result<bool, Refusal> {
        if proposal.parent_view >= proposal.view {
            return Err(Refusal::Block);
        }
        let of = self.origin(from, proposal.leader);
        if !self.early.has_room_for_proposal(&of, proposal.view) {
            return Ok(false);
        }
        if !self.is_signed_early_proposal(&proposal) {
            return Err(Refusal::Signature);
        }
        self.early.keep_proposal(&of, proposal);
        Ok(true)
    }

    fn origin(&self, from: PeerTag, author: PublicKey) -> Origin {
        let votes_now = self.height.validators.index_of(&author).is_some();
        Origin { from, author, votes_now }
    }

    fn take_tip(&mut self, from: PeerTag, tip: CertifiedTip) -> Result<Reception, Refusal> {
        let (header, finalization) = (&tip.header, &tip.finalization);
        let named = (VoteKind::Finalize, header.height, header.hash());
        let ballot = finalization.ballot;
        if (ballot.kind, ballot.height, ballot.block_hash) != named {
            return Err(Refusal::Certificate);
        }
        if header.chain_id != self.config.chain_id {
            return Err(Refusal::ForeignTip);
        }
        match header.height.cmp(&self.height.number) {
            Ordering::Equal => {
                self.take_certificate(tip.finalization).map(|()| Reception::Accepted)
            }
            Ordering::Greater if self.ahead.as_ref().is_some_and(|ahead| *ahead == tip) => {
                self.sync_from(from, header.height);
                Ok(Reception::Accepted)
            }
            // A newer one is known. Old tips are all genuine: to verify each would cost without end.
            Ordering::Greater if self.is_decided(header.height) => {
                self.sync_from(from, header.height);
                Err(Refusal::Known)
            }
            Ordering::Greater if header.validators_hash == self.tip.header.next_validators_hash => {
                let verified = finalization.verify(&self.config.chain_id, &self.height.validators);
                verified.map_err(|_| Refusal::Certificate)?;
                self.sync_from(from, header.height);
                self.ahead = Some(tip);
                Ok(Reception::Accepted)
            }
            Ordering::Greater => {
                // Of other validators than now, if there are any: the sync itself will verify.
                self.sync_from(from, header.height);
                Err(Refusal::Unverifiable)
            }
            Ordering::Less if header.height == self.tip.header.height => {
                self.compare_tip(tip).map(|()| Reception::Accepted)
            }
            Ordering::Less => {
                self.answer_laggard(from, header.height);
                Err(Refusal::Past)
            }
        }
    }

    /// Whether a verified tip of this height or a later one was seen.
    fn is_decided(&self, height: u64) -> bool {
        self.ahead.as_ref().is_some_and(|ahead| ahead.header.height >= height)
    }

    /// The height of the tip that was seen ahead is reached: it is decided. Whoever told it may be
    /// gone by now, and with it the votes that others would need; so the tip has been kept.
    pub(crate) fn recall_tip(&mut self) {
        if let Some(tip) = self.ahead.take_if(|tip| tip.header.height <= self.height.number)
            && tip.header.height == self.height.number
        {
            // It was verified; by other validators than these it would mean nothing here.
            let _ = self.take_certificate(tip.finalization);
        }
    }

    /// Two finalizations of one height are the proof of a fork.
    fn compare_tip(&mut self, tip: CertifiedTip) -> Result<(), Refusal> {
        if tip.finalization.ballot.block_hash == self.tip_hash {
            return Err(Refusal::Past);
        }
        let Some(validators) = &self.tip_validators else { return Err(Refusal::Past) };
        let verified = tip.finalization.verify(&self.config.chain_id, validators);
        verified.map_err(|_| Refusal::Certificate)?;
        if let Some(ours) = self.tip.finalization.clone() {
            let (ours, theirs) = (Box::new(ours), Box::new(tip.finalization));
            self.halt(HaltReason::ContradictingCertificates(ours, theirs));
        }
        Ok(())
    }

    fn sync_from(&mut self, peer: PeerTag, height: u64) {
        let (now, pause) = (self.now.monotonic_ms, self.config.timing.resend_ms);
        if self.pace.allows(peer, Favour::Sync, now, pause) {
            self.out.act(Action::SyncFrom { peer, height });
        }
    }
}
