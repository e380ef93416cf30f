//! The driver: owns the consensus core, the ledger's writer and the signer's journal, and moves what
//! each says to the others.
//!
//! It is fed [`DriverInput`]s, one at a time, and knows no clock, socket or task but those of its
//! [`Outside`]: in a node that is a thread ([`spawn`]) among async tasks, in the simulator virtual
//! time. The order of a step is the core's contract ([`customhouse_consensus`]): `Core::step` → journal, synced →
//! messages → actions. An action that the ledger can do at once (build, validate, commit) is
//! answered in the same turn; one that needs bytes from peers becomes a [`Fetch`], whose answer
//! comes back as an input.

mod actions;
pub mod answers;
mod bodies;
mod breaches;
mod catch_up;
mod fetch;
pub mod gather;
mod halted;
mod inputs;
mod journalled;
mod outside;
mod peers;
mod shell;
mod thread;
mod voting_keys;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use customhouse_consensus::{
    Action, Config, Core, Input, Message, Outgoing, Reception, Recipient, Signatures,
};
use customhouse_ledger::{
    agency::AgencyCode,
    chain::{Chain, CommitError, Staged},
    finality::{certificate::Certificate, header::Block},
    hash::Hash,
    keys::PublicKey,
    store::StoreError,
    transaction::VerifiedTransaction,
};
use customhouse_proto::v1;
use tokio::sync::oneshot;

pub(crate) use self::breaches::EVIDENCE_MAX;
use self::{actions::committed_state, bodies::Bodies, voting_keys::takes_over};
pub use self::{
    fetch::CertifiedBlock,
    journalled::{JournalledSigner, SignerError},
    outside::{Fetch, Outside, Purpose, SignerMemory},
    peers::{Peers, listed_peers},
    thread::{DriverHandle, spawn},
    voting_keys::VotingKey,
};
use crate::{journal::JournalError, mempool::Mempool, metrics::Metrics, network::PendingJudgement};

/// The mempool, shared between the driver and those who fill it.
pub type SharedMempool = Arc<Mutex<Mempool>>;

/// Locks the mempool. A panic elsewhere cannot leave it half-changed: its methods do not panic.
pub fn lock(mempool: &SharedMempool) -> std::sync::MutexGuard<'_, Mempool> {
    mempool.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What happens to a driver.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "most inputs are messages, the large variant: boxing them would only allocate"
)]
pub enum DriverInput {
    /// A consensus message came.
    Message {
        /// Who handed it over.
        from: PublicKey,
        /// The message.
        message: Message,
        /// Where it came by gossip or as a push: told when the core has looked at it.
        judgement: Option<PendingJudgement>,
    },
    /// A peer connected.
    Connected(PublicKey),
    /// A peer told which signatures of a key of this node it holds.
    OwnSignatures {
        /// Which peer.
        peer: PublicKey,
        /// Which key.
        validator: PublicKey,
        /// The newest height that it has committed.
        tip_height: u64,
        /// What it holds.
        signed: Signatures,
    },
    /// Answers a fetch: bodies of transactions by log leaf hash. Those that could not be had are
    /// missing.
    Bodies {
        /// What they were for.
        purpose: Purpose,
        /// What was found.
        transactions: Vec<Arc<VerifiedTransaction>>,
    },
    /// Answers a fetch of a block that is not committed: the block, whose leaves have been compared
    /// with its header. Its bodies are another fetch.
    Block(Block),
    /// A peer gave for a block what no honest peer gives.
    WrongBlock(PublicKey),
    /// While catching up: committed blocks from a peer, in order. Answered with the height reached.
    Committed {
        /// Who sent them.
        from: PublicKey,
        /// Blocks with their bodies and finalizations.
        blocks: Vec<CertifiedBlock>,
        /// Gets the tip's height after them.
        reply: oneshot::Sender<u64>,
    },
    /// A peer asks for certificates of a view of the height in progress.
    CertificatesOf {
        /// The height.
        height: u64,
        /// The view.
        view: u64,
        /// Gets them.
        reply: oneshot::Sender<Vec<Certificate>>,
    },
    /// A peer asks which signatures of its key this node holds.
    SignedBy {
        /// The key.
        validator: PublicKey,
        /// The lowest height that is asked about.
        from_height: u64,
        /// Gets them.
        reply: oneshot::Sender<v1::JournalResponse>,
    },
}

/// Why a driver stopped. All are fatal for the node.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The store failed or is damaged.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// A block was not committed.
    #[error("{0}")]
    Commit(#[from] CommitError),
    /// The journal failed.
    #[error("{0}")]
    Journal(#[from] JournalError),
    /// The task that gets blocks from peers panicked.
    #[error("the task that gets blocks from peers ended by a fault of its own")]
    Gathering,
    /// The core halted, or a finalized block does not execute to its own roots.
    #[error("consensus halted: {0}. Do not restart before the cause is known")]
    Halted(String),
}

/// How consensus stands on this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConsensusStatus {
    /// View of the height in progress.
    pub view: u64,
    /// Whether this node's key votes.
    pub signing: bool,
    /// Why not, where it does not.
    pub signing_reason: String,
    /// Whether this node is known to lack committed blocks. That a peer says so is not enough.
    pub catching_up: bool,
    /// Transactions that wait for a block.
    pub mempool_transactions: u64,
    /// Bytes of those.
    pub mempool_bytes: u64,
}

/// What a driver is made of.
pub struct DriverParts<J> {
    /// The ledger's writer.
    pub chain: Chain,
    /// The key that votes for this agency, or is to.
    pub signer: VotingKey<J>,
    /// The key that is to take its place, if one is: it does from the height on at which the registry
    /// says so.
    pub next_signer: Option<VotingKey<J>>,
    /// Where transactions wait.
    pub mempool: SharedMempool,
    /// This node's own peer key.
    pub own_peer: PublicKey,
    /// Peers that may connect whether the registry has them or not.
    pub more_peers: Vec<(AgencyCode, PublicKey)>,
    /// Local consensus times.
    pub timing: customhouse_consensus::Timing,
    /// Counters.
    pub metrics: Metrics,
}

/// The driver's state. See the module's documentation.
pub struct Driver<O, J> {
    core: Core,
    chain: Chain,
    chain_id: Hash,
    signer: VotingKey<J>,
    next_signer: Option<VotingKey<J>>,
    signing_reason: String,
    mempool: SharedMempool,
    outside: O,
    peers: Peers,
    bodies: Bodies,
    /// Blocks that were executed and wait for their finalization, of the height in progress.
    staged: BTreeMap<Hash, Staged>,
    /// Whether the core was told that the next block has something to include.
    pending: bool,
    /// The decided block that was asked for last, and is not here.
    lacked: Option<Hash>,
    wake_at: Option<u64>,
    metrics: Metrics,
}

impl<O: Outside, J: SignerMemory> Driver<O, J> {
    /// A driver on what the chain and the journals hold. It does nothing before [`Driver::begin`].
    pub fn new(parts: DriverParts<J>, outside: O) -> Self {
        let chain_id = parts.chain.chain_id();
        let tip = parts.chain.tip();
        let (mut signer, next_signer) = match parts.next_signer {
            Some(next) if takes_over(&parts.signer, &next, &tip.validators) => (next, None),
            next => (parts.signer, next),
        };
        let (key, signing_reason) = signer.begin();
        let config = Config { chain_id, signer: key, timing: parts.timing };
        let entries = std::mem::take(&mut signer.entries);
        let core = Core::new(config, committed_state(&tip), entries).unasked();
        Self {
            core,
            peers: Peers::new(&parts.chain.reader(), parts.own_peer, parts.more_peers),
            chain: parts.chain,
            chain_id,
            signer,
            next_signer,
            signing_reason,
            mempool: parts.mempool,
            outside,
            bodies: Bodies::default(),
            staged: BTreeMap::new(),
            pending: false,
            lacked: None,
            wake_at: None,
            metrics: parts.metrics,
        }
    }

    /// The first step.
    ///
    /// # Errors
    /// [`DriverError`], after which nothing more may be asked of it; the same holds for every input.
    pub fn begin(&mut self) -> Result<(), DriverError> {
        self.outside.listed(self.peers.listed());
        self.tick()
    }

    /// The time of [`Driver::wake_at`] has come.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn tick(&mut self) -> Result<(), DriverError> {
        // What waits may have expired.
        let pending = self.has_work();
        if pending != self.pending {
            self.step(Input::Work { pending })?;
        }
        self.step(Input::Tick)
    }

    /// The mempool may have something.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn work(&mut self) -> Result<(), DriverError> {
        let pending = self.has_work();
        self.step(Input::Work { pending })
    }

    /// When it wants a tick, in monotonic milliseconds.
    pub fn wake_at(&self) -> Option<u64> {
        self.wake_at
    }

    /// The world it was given.
    pub fn outside(&mut self) -> &mut O {
        &mut self.outside
    }

    /// The core, to look at.
    pub fn core(&self) -> &Core {
        &self.core
    }

    /// Hands one input to the core and carries out what it says, until nothing is left to do now.
    fn step(&mut self, input: Input) -> Result<(), DriverError> {
        let (actions, _no_message) = self.step_core(input)?;
        self.carry_out(actions)
    }

    /// One step of the core: what it rests on is durable after it, what it says is sent, and what it
    /// wants done is left to do. Where the input was a message, says what became of that.
    fn step_core(&mut self, input: Input) -> Result<(Vec<Action>, Option<Reception>), DriverError> {
        if let Input::Work { pending } | Input::Committed { pending, .. } = &input {
            self.pending = *pending;
        }
        let ready = self.core.step(self.outside.now(), input);
        let outbox = ready.persist(&mut self.signer.journal)?;
        self.wake_at = outbox.wake_at;
        self.send(outbox.messages);
        Ok((outbox.actions, outbox.reception))
    }

    /// Carries out actions and what follows from them.
    fn carry_out(&mut self, actions: Vec<Action>) -> Result<(), DriverError> {
        let mut inputs = VecDeque::new();
        for action in actions {
            inputs.extend(self.act(action)?);
        }
        while let Some(input) = inputs.pop_front() {
            let (actions, _no_message) = self.step_core(input)?;
            for action in actions {
                inputs.extend(self.act(action)?);
            }
        }
        self.publish_status();
        Ok(())
    }

    /// Sends what a step has to say: to all in one go, because every message costs each node.
    fn send(&mut self, messages: Vec<Outgoing>) {
        let mut to_all = Vec::new();
        for Outgoing { to, message } in messages {
            match to {
                Recipient::All => to_all.push(message),
                Recipient::Peer(tag) => {
                    if let Some(peer) = self.peers.at(tag) {
                        self.outside.push(peer, message);
                    }
                }
            }
        }
        if !to_all.is_empty() {
            self.outside.publish(to_all);
        }
    }

    fn publish_status(&mut self) {
        let (mempool_transactions, mempool_bytes) = {
            let mempool = lock(&self.mempool);
            (mempool.count() as u64, mempool.bytes() as u64)
        };
        let status = ConsensusStatus {
            mempool_transactions,
            mempool_bytes,
            view: self.core.view(),
            signing: self.core.is_signing(),
            signing_reason: self.why_not_signing(),
            catching_up: self.core.is_catching_up() || self.outside.is_catching_up(),
        };
        self.outside.status(status);
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod work_tests;
