//! The six rules of a height of [the specification](crate), one function each. A function applies its rule once if
//! its condition holds, and says whether it did.

use customhouse_ledger::{
    finality::{
        certificate::Certificate,
        header::{Block, Header},
        vote::{Ballot, Proposal, VoteKind},
    },
    hash::Hash,
    keys::{PublicKey, SigningKey},
};

use crate::{
    action::{Action, Build, HaltReason, Validate},
    core::Core,
    height::{Check, Held},
    input::Message,
    journal::Entry,
};

impl Core {
    /// Rule 1: the leader of the view proposes the block of the highest notarization it has, or a
    /// new one.
    pub(crate) fn propose(&mut self) -> bool {
        let view = self.height.view;
        let Some(me) = self.signing_key().map(SigningKey::public) else { return false };
        if self.height.leader(view) != me
            || !self.height.signed(view).may_propose()
            || self.awaits_finalization()
        {
            return false;
        }
        let notarized = self.height.notarizations.range(..view).next_back();
        let notarized = notarized.map(|(&parent, certificate)| (parent, certificate.clone()));
        let parent_view = notarized.as_ref().map_or(0, |(parent, _)| *parent);
        let hash = notarized.as_ref().map_or(Hash::ZERO, |(_, c)| c.ballot.block_hash);
        if let Err(missing) = self.justify(view, parent_view, &hash) {
            self.fetch_certificates(missing);
            return false;
        }
        let block = match notarized {
            None => self.height.built.take(),
            Some(_) => self.height.blocks.get(&hash).map(|stored| stored.block.clone()),
        };
        match (block, notarized) {
            (Some(block), _) => self.sign_proposal(block, parent_view),
            (None, Some((_, certificate))) => {
                self.fetch_block(&certificate);
                false
            }
            (None, None) => {
                self.ask_for_block(me);
                false
            }
        }
    }

    fn sign_proposal(&mut self, block: Block, parent_view: u64) -> bool {
        let view = self.height.view;
        let mut signed = self.height.signed(view).clone();
        let proposal = self.propose_beside(&mut signed, block, parent_view);
        let Some(proposal) = proposal else { return false };
        self.height.signed.insert(view, signed);
        self.keep_proposal(proposal.clone());
        self.out.entries.push(Entry::Proposal(proposal.clone()));
        self.out.send_all(Message::Proposal(proposal));
        true
    }

    /// In view 1 the leader waits for something to include, or for the heartbeat; later it builds
    /// at once.
    fn ask_for_block(&mut self, me: PublicKey) {
        let view = self.height.view;
        let may_be_empty = view > 1 || self.heartbeat_is_due();
        if !(may_be_empty || self.pending) || self.height.build.is_some() {
            return;
        }
        let after_parent = self.tip.header.time_ms.saturating_add(1);
        let build = Build {
            height: self.height.number,
            view,
            proposer: me,
            time_ms: self.now.unix_ms.max(after_parent),
            parent_hash: self.tip_hash,
            block_bytes_max: self.block_bytes_max(view),
            may_be_empty,
        };
        self.height.build = Some(build.clone());
        self.out.act(Action::Build(build));
    }

    /// Rule 2: notarize the view's proposal once it is justified, checked and stored.
    pub(crate) fn notarize(&mut self) -> bool {
        let view = self.height.view;
        if !self.may_vote(VoteKind::Notarize, view) {
            return false;
        }
        let Some(held) = self.height.proposals.get(&view) else { return false };
        let (parent_view, hash) = (held.proposal.parent_view, held.block_hash);
        if let Err(missing) = self.justify(view, parent_view, &hash) {
            self.fetch_certificates(missing);
            return false;
        }
        let new = parent_view == 0;
        let of_view = held.proposal.block.header.view == view;
        let stored = self.height.blocks.get(&hash);
        if stored.is_some_and(|stored| stored.block.leaves != held.proposal.block.leaves) {
            // One list of leaves belongs to a block. The journal and the store never hold another.
            self.fail(view);
            return false;
        }
        // A block of an earlier view is not new, though it was checked as new then.
        if !stored.is_some_and(|stored| !new || (stored.checked && of_view)) {
            self.ask_to_validate(view, new);
            return false;
        }
        self.act_on_justification(view, parent_view);
        let mine = self.height.signed(view).proposal().is_some();
        if !mine && let Some(held) = self.height.proposals.get(&view) {
            // The journal holds the block that is voted for, so that it can be committed or
            // proposed again after a restart.
            self.out.entries.push(Entry::Proposal(held.proposal.clone()));
        }
        self.sign_vote(VoteKind::Notarize, view, hash)
    }

    /// What a vote for a proposal rests on is durable before the vote leaves: where a chain is
    /// divided, it is what names the culprits ([`customhouse_ledger::proofs::fork`]). Most of it has led
    /// from view to view, and been acted on, by then.
    fn act_on_justification(&mut self, view: u64, parent_view: u64) {
        let notarization = self.height.notarizations.get(&parent_view);
        let nullifications = self.height.nullifications.range(parent_view.saturating_add(1)..view);
        let rests_on: Vec<Certificate> =
            notarization.into_iter().chain(nullifications.map(|(_, c)| c)).cloned().collect();
        for certificate in rests_on {
            self.act_on(&certificate);
        }
    }

    fn ask_to_validate(&mut self, view: u64, new: bool) {
        let Some(held) = self.height.proposals.get(&view) else { return };
        if held.check != Check::Open {
            return;
        }
        let proposal = &held.proposal;
        if new && self.waits_for_its_time(&proposal.block.header) {
            return;
        }
        let right = !new || self.is_right_new_header(&proposal.block.header, view);
        let notarization =
            self.height.certificate(VoteKind::Notarize, proposal.parent_view).filter(|_| !new);
        let from = match notarization {
            Some(certificate) => self.height.signers(certificate),
            None => vec![proposal.leader],
        };
        let action = Validate { block: proposal.block.clone(), view, new, from };
        if right {
            self.out.act(Action::Validate(action));
        }
        match self.height.proposals.get_mut(&view) {
            Some(held) if right => held.check = Check::Asked,
            _ => self.fail(view),
        }
    }

    fn fail(&mut self, view: u64) {
        if let Some(held) = self.height.proposals.get_mut(&view) {
            held.check = Check::Failed;
        }
    }

    /// Whether a new block's time is further ahead of this node's clock than it may be. That does not
    /// make it wrong: if nobody waited, a clock slightly further ahead than clocks may differ would
    /// cost its leader the view. Its check is left open until the time comes ([`Core::ripe_at`]), or
    /// the view's timer fires first.
    fn waits_for_its_time(&self, header: &Header) -> bool {
        self.early_by_ms(header) > 0
    }

    fn early_by_ms(&self, header: &Header) -> u64 {
        let skew_ms = self.tip.parameters.time_skew_ms_max;
        header.time_ms.saturating_sub(self.now.unix_ms.saturating_add(skew_ms))
    }

    /// When the time of the current view's proposal comes, on the monotonic clock, where it is waited
    /// for.
    pub(crate) fn ripe_at(&self) -> Option<u64> {
        let view = self.height.view;
        let held = self.height.proposals.get(&view)?;
        let waits = held.check == Check::Open && held.proposal.parent_view == 0;
        let early_ms = self.early_by_ms(&held.proposal.block.header);
        let open = waits && early_ms > 0 && self.may_vote(VoteKind::Notarize, view);
        open.then(|| self.now.monotonic_ms.saturating_add(early_ms))
    }

    /// What a new block's header must say, as far as it shows without executing the block. The
    /// clock is looked at here and where its time is waited for, and nowhere else.
    fn is_right_new_header(&self, header: &Header, view: u64) -> bool {
        let skew = header.time_ms.abs_diff(self.now.unix_ms);
        header.view == view
            && header.proposer == *self.height.leader(view).as_bytes()
            && self.follows_tip(header)
            && skew <= self.tip.parameters.time_skew_ms_max
    }

    /// What any block of this height must say.
    pub(crate) fn follows_tip(&self, header: &Header) -> bool {
        let tip = &self.tip.header;
        header.version == Header::VERSION
            && header.chain_id == self.config.chain_id
            && header.height == self.height.number
            && header.parent_hash == self.tip_hash
            && header.time_ms > tip.time_ms
            && header.log_start == tip.log_size
            && header.validators_hash == tip.next_validators_hash
    }

    /// Rule 3: when the view's timer has fired, or f+1 have nullified it.
    pub(crate) fn nullify(&mut self) -> bool {
        let view = self.height.view;
        let ballot = self.ballot(VoteKind::Nullify, view, Hash::ZERO);
        let joined = self.height.votes.count(&ballot) >= self.height.one_honest();
        if !(joined || self.view_has_timed_out()) || !self.may_vote(VoteKind::Nullify, view) {
            return false;
        }
        self.sign_vote(VoteKind::Nullify, view, Hash::ZERO)
    }

    /// Rule 4: enter the view after a nullification of this view, or after any notarization of
    /// this view or a later one.
    pub(crate) fn enter(&mut self) -> bool {
        let Some(certificate) = self.height.way_out().cloned() else { return false };
        let next = certificate.ballot.view.saturating_add(1);
        self.act_on(&certificate);
        self.height.enter(next);
        self.start_view_timers(certificate.ballot.kind == VoteKind::Notarize);
        true
    }

    /// Rule 5: finalize what was notarized, in whichever view.
    pub(crate) fn finalize(&mut self) -> bool {
        let due = self
            .height
            .notarizations
            .iter()
            .find(|(view, _)| self.may_vote(VoteKind::Finalize, **view));
        let Some((&view, certificate)) = due else { return false };
        let certificate = certificate.clone();
        self.act_on(&certificate);
        self.sign_vote(VoteKind::Finalize, view, certificate.ballot.block_hash)
    }

    /// Rule 6: commit what was finalized, once its block is stored here.
    pub(crate) fn commit(&mut self) -> bool {
        let Some(finalization) = self.height.finalization.clone() else { return false };
        let hash = finalization.ballot.block_hash;
        let Some(stored) = self.height.blocks.get(&hash) else {
            // Also where the shell is at it for a vote: its proposer, who is asked first then, may
            // never give it.
            self.fetch_block(&finalization);
            return false;
        };
        let block = stored.block.clone();
        if !self.follows_tip(&block.header) {
            self.halt(HaltReason::ForeignBlock(Box::new(block.header)));
            return true;
        }
        self.height.committing = Some(hash);
        self.out.act(Action::Commit { block, finalization });
        true
    }

    /// The key, if it may sign at this height.
    pub(crate) fn signing_key(&self) -> Option<&SigningKey> {
        let me = self.signer.filter(|_| !self.is_unasked())?;
        self.height.validators.index_of(&me)?;
        // The journal is ahead of the store: follow, then sign. What others have decided needs no
        // vote either.
        if self.height.number <= self.memory.watermark || self.is_catching_up() {
            return None;
        }
        self.config.signer.as_ref()
    }

    fn ballot(&self, kind: VoteKind, view: u64, block_hash: Hash) -> Ballot {
        Ballot { kind, height: self.height.number, view, block_hash }
    }

    /// Signs, remembers, journals, sends and counts a vote, if it may be signed.
    fn sign_vote(&mut self, kind: VoteKind, view: u64, block_hash: Hash) -> bool {
        let ballot = self.ballot(kind, view, block_hash);
        if !self.may_vote(kind, view) {
            return false;
        }
        let mut signed = self.height.signed.remove(&view).unwrap_or_default();
        let vote = self.sign_beside(&mut signed, ballot);
        self.height.signed.insert(view, signed);
        let Some(vote) = vote else { return false };
        self.out.entries.push(Entry::Vote(vote));
        self.out.send_all(Message::Vote(vote));
        self.count(vote);
        true
    }

    /// Makes a certificate durable and forwards it, the first time it is acted on.
    fn act_on(&mut self, certificate: &Certificate) {
        let ballot = certificate.ballot;
        if self.height.acted.insert((ballot.kind, ballot.view)) {
            // Even while nothing is signed yet: what is signed later rests on it.
            if self.signer.is_some() {
                self.out.entries.push(Entry::Certificate(certificate.clone()));
            }
            self.out.send_all(Message::Certificate(certificate.clone()));
        }
    }

    /// Holds a verified proposal of its view's leader.
    pub(crate) fn keep_proposal(&mut self, proposal: Proposal) {
        self.height.claims.insert(proposal.view, self.claim_of(&proposal));
        self.height.proposals.insert(proposal.view, Held::new(proposal));
    }

    fn fetch_certificates(&mut self, missing: Vec<u64>) {
        for view in missing {
            if self.height.fetching_views.insert(view) {
                let height = self.height.number;
                self.out.act(Action::FetchCertificates { height, view });
            }
        }
    }

    /// Asks for the block of a certificate, first from those who notarized it: they stored it.
    fn fetch_block(&mut self, certificate: &Certificate) {
        let block_hash = certificate.ballot.block_hash;
        if self.height.fetching_blocks.insert(block_hash) {
            let mut of_block = self.height.notarizations.values().rev();
            let notarization = of_block.find(|held| held.ballot.block_hash == block_hash);
            let mut from = notarization.map(|held| self.height.signers(held)).unwrap_or_default();
            for signer in self.height.signers(certificate) {
                if !from.contains(&signer) {
                    from.push(signer);
                }
            }
            let height = self.height.number;
            self.out.act(Action::FetchBlock { height, block_hash, from });
        }
    }
}
