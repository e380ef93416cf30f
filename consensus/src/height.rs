//! The height in progress: everything held about it, and what follows from that alone.

use std::collections::{BTreeMap, BTreeSet};

use customhouse_ledger::{
    finality::{
        certificate::Certificate,
        header::Block,
        leaders::Leaders,
        validators::ValidatorSet,
        vote::{Proposal, VoteKind},
    },
    hash::Hash,
    keys::PublicKey,
};

use crate::{
    action::Build,
    input::Committed,
    signed::Signed,
    votes::{Votes, is_near},
};
use customhouse_ledger::finality::evidence::Claim;

/// Proposals are kept for this many views before the current one: their verdicts may be late.
const PROPOSALS_BEHIND: u64 = 2;

/// State of the height in progress.
#[derive(Clone, Debug)]
pub(crate) struct Height {
    pub(crate) number: u64,
    pub(crate) validators: ValidatorSet,
    leaders: Leaders,
    pub(crate) view: u64,
    /// The first proposal of each near view by its leader.
    pub(crate) proposals: BTreeMap<u64, Held>,
    /// What the leaders of near views have proposed, for evidence.
    pub(crate) claims: BTreeMap<u64, Claim>,
    /// By view; those of all views, because each took a quorum, so that a liar cannot make them grow.
    pub(crate) notarizations: BTreeMap<u64, Certificate>,
    pub(crate) nullifications: BTreeMap<u64, Certificate>,
    pub(crate) finalization: Option<Certificate>,
    /// Certificates acted on: durable and forwarded.
    pub(crate) acted: BTreeSet<(VoteKind, u64)>,
    /// Blocks that are durably stored here, bodies included.
    pub(crate) blocks: BTreeMap<Hash, Stored>,
    /// This node's own signatures by view.
    pub(crate) signed: BTreeMap<u64, Signed>,
    pub(crate) votes: Votes,
    /// The block that the shell builds for the current view.
    pub(crate) build: Option<Build>,
    pub(crate) built: Option<Block>,
    /// Blocks and views asked for since the last resend.
    pub(crate) fetching_blocks: BTreeSet<Hash>,
    pub(crate) fetching_views: BTreeSet<u64>,
    /// The block handed to the ledger. Nothing is signed at this height any more.
    pub(crate) committing: Option<Hash>,
}

/// A proposal and how far its check has come.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) proposal: Proposal,
    pub(crate) block_hash: Hash,
    pub(crate) check: Check,
}

/// How far the check of a proposed block has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// Not asked for yet.
    Open,
    /// The shell is at it.
    Asked,
    /// Its bodies could not be had; asked again with the next resend.
    Unavailable,
    /// Not valid: no vote.
    Failed,
}

/// A block durably stored here.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) block: Block,
    /// Checked in full as a new block here (or built here).
    pub(crate) checked: bool,
}

impl Held {
    pub(crate) fn new(proposal: Proposal) -> Self {
        Self { block_hash: proposal.block.hash(), proposal, check: Check::Open }
    }
}

impl Height {
    /// The height above a committed block.
    pub(crate) fn after(committed: &Committed) -> Self {
        Self {
            number: committed.header.height.saturating_add(1),
            validators: committed.validators.clone(),
            leaders: committed.leaders.clone(),
            view: 1,
            proposals: BTreeMap::new(),
            claims: BTreeMap::new(),
            notarizations: BTreeMap::new(),
            nullifications: BTreeMap::new(),
            finalization: None,
            acted: BTreeSet::new(),
            blocks: BTreeMap::new(),
            signed: BTreeMap::new(),
            votes: Votes::default(),
            build: None,
            built: None,
            fetching_blocks: BTreeSet::new(),
            fetching_views: BTreeSet::new(),
            committing: None,
        }
    }

    pub(crate) fn leader(&self, view: u64) -> PublicKey {
        self.leaders.leader(&self.validators, self.number, view)
    }

    /// f + 1: of that many at least one is honest.
    pub(crate) fn one_honest(&self) -> usize {
        self.validators.faulty_max() + 1
    }

    /// What was signed here in a view.
    pub(crate) fn signed(&self, view: u64) -> &Signed {
        self.signed.get(&view).unwrap_or(Signed::NOTHING)
    }

    /// The certificate held of a kind and view.
    pub(crate) fn certificate(&self, kind: VoteKind, view: u64) -> Option<&Certificate> {
        match kind {
            VoteKind::Notarize => self.notarizations.get(&view),
            VoteKind::Nullify => self.nullifications.get(&view),
            VoteKind::Finalize => self.finalization.as_ref().filter(|c| c.ballot.view == view),
        }
    }

    /// Holds a verified certificate.
    ///
    /// # Errors
    /// One that is held already contradicts it: more than f validators are faulty.
    pub(crate) fn hold(&mut self, certificate: Certificate) -> Result<(), Box<Certificate>> {
        let ballot = certificate.ballot;
        let contradicting = match ballot.kind {
            VoteKind::Notarize => self.notarizations.get(&ballot.view),
            VoteKind::Nullify => {
                self.finalization.as_ref().filter(|c| c.ballot.view == ballot.view)
            }
            VoteKind::Finalize => {
                let nullification = self.nullifications.get(&ballot.view);
                nullification.or(self.finalization.as_ref())
            }
        };
        if let Some(held) = contradicting
            && held.ballot.block_hash != ballot.block_hash
        {
            return Err(Box::new(held.clone()));
        }
        match ballot.kind {
            VoteKind::Notarize => {
                self.notarizations.entry(ballot.view).or_insert(certificate);
            }
            VoteKind::Nullify => {
                self.nullifications.entry(ballot.view).or_insert(certificate);
            }
            VoteKind::Finalize => {
                self.finalization.get_or_insert(certificate);
            }
        }
        Ok(())
    }

    /// Rule 4: the certificate that leads out of the current view, if one is held.
    pub(crate) fn way_out(&self) -> Option<&Certificate> {
        let notarization = self.notarizations.range(self.view..).next_back().map(|(_, c)| c);
        notarization.or_else(|| self.nullifications.get(&self.view))
    }

    /// Goes to a later view, and forgets what is far behind.
    pub(crate) fn enter(&mut self, view: u64) {
        self.view = view;
        self.build = None;
        self.built = None;
        self.votes.prune(view);
        self.proposals.retain(|v, _| v.saturating_add(PROPOSALS_BEHIND) >= view);
        self.claims.retain(|v, _| is_near(*v, view));
        // A block that was voted for lately may still be notarized; one that was notarized may be
        // proposed again or finalized. Others can be had from the store.
        let voted = self.signed.iter().filter(|(v, _)| is_near(**v, view));
        let mut needed: BTreeSet<Hash> = voted
            .filter_map(|(_, signed)| signed.vote(VoteKind::Notarize))
            .map(|vote| vote.ballot.block_hash)
            .collect();
        needed.extend(self.notarizations.values().map(|c| c.ballot.block_hash));
        needed.extend(self.finalization.iter().map(|c| c.ballot.block_hash));
        self.blocks.retain(|hash, _| needed.contains(hash));
    }

    /// Keeps a block that is now durably stored.
    pub(crate) fn store(&mut self, block: Block, checked: bool) {
        let stored = self.blocks.entry(block.hash()).or_insert(Stored { block, checked });
        stored.checked |= checked;
    }

    /// Keys of the validators that signed a certificate: who has its block.
    pub(crate) fn signers(&self, certificate: &Certificate) -> Vec<PublicKey> {
        certificate.signers().filter_map(|i| self.validators.at(i)).map(|v| v.key).collect()
    }
}
