//! What the shell tells the core.

use customhouse_ledger::{
    agency::AgencyCode,
    finality::{
        certificate::Certificate,
        evidence::Claim,
        header::{Block, Header},
        leaders::Leaders,
        validators::ValidatorSet,
        vote::{Proposal, Vote},
    },
    hash::Hash,
    keys::{PublicKey, SigningKey},
    registry::parameters::Parameters,
};

/// What a core is told once, when it is made.
#[derive(Clone, Debug)]
pub struct Config {
    /// The chain: tagged hash of its genesis.
    pub chain_id: Hash,
    /// The key that votes. `None` for an observer: it follows and signs nothing.
    pub signer: Option<SigningKey>,
    /// How long to wait for what.
    pub timing: Timing,
}

/// Local times, in milliseconds. They change liveness, never safety.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How long view 1 may take before it is nullified; 1.5 times longer each view after it.
    pub view_ms: u64,
    /// The longest a view may take. Must exceed the time to transfer a full block.
    pub view_ms_max: u64,
    /// How long the leader of a view that was entered by a notarization waits for the block to be
    /// finalized before it proposes it again. Where all is well the finalize votes are on their way.
    pub repropose_ms: u64,
    /// How long a height may stand still before votes and certificates are sent again.
    pub resend_ms: u64,
    /// How often the tip is told to all.
    pub tip_ms: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            view_ms: 2_000,
            view_ms_max: 60_000,
            repropose_ms: 200,
            resend_ms: 1_000,
            tip_ms: 5_000,
        }
    }
}

/// The committed state that the next height rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Header of the newest committed block; the genesis header at height 0.
    pub header: Header,
    /// Its finalization. `None` at height 0 only.
    pub finalization: Option<Certificate>,
    /// The validators that decide the next height.
    pub validators: ValidatorSet,
    /// The order in which they lead its views.
    pub leaders: Leaders,
    /// The parameters in force at the next height.
    pub parameters: Parameters,
}

impl Committed {
    /// The leader of a view of the next height.
    pub fn leader(&self, view: u64) -> PublicKey {
        self.leaders.leader(&self.validators, self.header.height.saturating_add(1), view)
    }
}

/// What time it is, by two clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since any fixed moment; never goes back. Timers run on it.
    pub monotonic_ms: u64,
    /// Unix milliseconds. May jump; block times are made from it and checked against it.
    pub unix_ms: u64,
}

/// A peer, as the shell knows it. The core only hands it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerTag(pub u64);

/// What nodes say to each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A leader proposes a block.
    Proposal(Proposal),
    /// A validator votes.
    Vote(Vote),
    /// A quorum has voted.
    Certificate(Certificate),
    /// The sender's newest committed block.
    Tip(CertifiedTip),
}

impl Message {
    /// The height it speaks of.
    pub fn height(&self) -> u64 {
        match self {
            Self::Proposal(proposal) => proposal.block.header.height,
            Self::Vote(vote) => vote.ballot.height,
            Self::Certificate(certificate) => certificate.ballot.height,
            Self::Tip(tip) => tip.header.height,
        }
    }
}

/// The newest block its sender has committed, with its finalization.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertifiedTip {
    /// Header of the block.
    pub header: Header,
    /// Its finalization.
    pub finalization: Certificate,
}

/// What a peer holds of one key's signatures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signatures {
    /// Votes, the newest first; at most [`crate::VOTES_TOLD_MAX`].
    pub votes: Vec<Vote>,
    /// Proposals, without their blocks; at most [`crate::CLAIMS_TOLD_MAX`].
    pub claims: Vec<Claim>,
}

/// The outcome of [`crate::Action::Validate`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlockVerdict {
    /// The block passed, and it and its bodies are durably stored.
    Valid,
    /// The block is not valid on the committed state. The core will not vote for it.
    Invalid,
    /// Its bodies could not be had. The core asks again while the view lasts.
    Unavailable,
}

/// What has happened. Each goes through [`crate::Core::step`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// `wake_at` has come. Also the first input of all: it starts the core.
    Tick,
    /// A peer sent a message. The core checks everything about it, signatures included.
    Message {
        /// Who handed it over; not necessarily who signed it.
        from: PeerTag,
        /// The message.
        message: Message,
    },
    /// A peer told which signatures of this node's key it holds ([`crate::Core::signed_by`]). What the
    /// journal does not have stops the key. A core made [`crate::Core::unasked`] signs when enough have
    /// told.
    Signatures {
        /// Who told it.
        from: PeerTag,
        /// Whose peer that is, as the registry has it.
        agency: AgencyCode,
        /// The newest height that it has committed, as it says.
        tip_height: u64,
        /// What it holds.
        held: Signatures,
    },
    /// A peer connected: it is told the tip.
    Connected(PeerTag),
    /// Whether there is a transaction that the leader could include in the next block now. Also the
    /// answer to [`crate::Action::Build`] where there turned out to be none.
    Work {
        /// It has.
        pending: bool,
    },
    /// Answers [`crate::Action::Build`]: the block, durably stored with its bodies.
    Built {
        /// As asked.
        view: u64,
        /// The new block.
        block: Block,
    },
    /// Answers [`crate::Action::Validate`].
    Validated {
        /// As asked.
        height: u64,
        /// As asked.
        view: u64,
        /// As asked.
        block_hash: Hash,
        /// What was found.
        verdict: BlockVerdict,
    },
    /// Answers [`crate::Action::FetchBlock`]: the block, durably stored with its bodies. That the
    /// header has the wanted hash and that the leaves belong to it has been checked.
    Fetched {
        /// The block.
        block: Block,
    },
    /// Answers [`crate::Action::Commit`]: the ledger has durably committed the block.
    Committed {
        /// The state after it.
        committed: Committed,
        /// Whether a transaction is left that the next block could include.
        pending: bool,
    },
    /// While catching up: a committed block of another node. That its leaves belong to its header has
    /// been checked, and its bodies are at hand; it need not be stored, because with its finalization
    /// it is handed back to be committed in this very step. Only the block above the tip is of use;
    /// others are dropped.
    Certified {
        /// Who handed it over.
        from: PeerTag,
        /// The block.
        block: Block,
        /// Its finalization, which the core verifies.
        finalization: Certificate,
    },
}
