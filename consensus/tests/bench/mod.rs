//! One core of four on a bench, at height 1: words for inputs, and words for effects.
//!
//! Blocks are called A, B, C: they differ in their leaf. Validators are 0 to 3; the leaders of
//! views 1, 2, 3, 4 are 2, 3, 0, 1.

// Each test binary uses its own part of it.
#![allow(dead_code, unreachable_pub)]

use customhouse_consensus::{
    Action, BlockVerdict, Build, CertifiedTip, Committed, Config, Core, Entry, Input, Journal,
    Message, Now, PeerTag, Reception, Signatures, Timing,
};
use customhouse_ledger::{
    agency::AgencyCode,
    finality::{
        certificate::Certificate,
        header::{Block, Header},
        leaders::Leaders,
        validators::{Validator, ValidatorSet},
        vote::{Ballot, Proposal, Vote, VoteKind},
    },
    hash::Hash,
    keys::SigningKey,
    registry::parameters::Parameters,
};

pub const CHAIN: Hash = Hash([7; 32]);
pub const UNIX_MS: u64 = 1_700_000_000_000;
pub const TIMING: Timing = Timing {
    view_ms: 1_000,
    view_ms_max: 60_000,
    repropose_ms: 0,
    resend_ms: 10_000,
    tip_ms: 1_000_000,
};
pub const PEER: PeerTag = PeerTag(9);

pub fn key(index: usize) -> SigningKey {
    SigningKey::from_seed(&[index as u8 + 1; 32])
}

pub fn agency(index: usize) -> AgencyCode {
    format!("A{index:03}").parse().expect("a code")
}

pub fn validators(n: usize) -> ValidatorSet {
    let validator = |i: usize| Validator { agency: agency(i), key: key(i).public() };
    ValidatorSet::new((0..n).map(validator).collect()).expect("a set")
}

pub fn genesis() -> Committed {
    genesis_of(4)
}

/// The state before any block, of so many validators.
pub fn genesis_of(n: usize) -> Committed {
    let validators = validators(n);
    let header = Header {
        version: Header::VERSION,
        chain_id: CHAIN,
        height: 0,
        time_ms: UNIX_MS - 5,
        parent_hash: Hash::ZERO,
        log_start: 0,
        log_size: 0,
        log_root: Hash::ZERO,
        history_size: 0,
        history_root: Hash::ZERO,
        registry_root: Hash::ZERO,
        outcomes_root: Hash::ZERO,
        validators_hash: validators.hash(),
        next_validators_hash: validators.hash(),
        proposer: [0; 32],
        view: 0,
    };
    Committed {
        header,
        finalization: None,
        validators,
        leaders: Leaders::default(),
        parameters: Parameters::default(),
    }
}

/// The state after a block.
pub fn after(block: &Block, finalization: Certificate) -> Committed {
    Committed { header: block.header.clone(), finalization: Some(finalization), ..genesis() }
}

/// A new block on this state by the leader of a view, holding one leaf.
pub fn block_on(parent: &Committed, view: u64, name: char) -> Block {
    let height = parent.header.height + 1;
    let proposer = parent.leader(view);
    let header = Header {
        height,
        time_ms: parent.header.time_ms + 5,
        parent_hash: parent.header.hash(),
        log_start: parent.header.log_size,
        log_size: parent.header.log_size + 1,
        log_root: Hash([name as u8; 32]),
        proposer: *proposer.as_bytes(),
        view,
        ..parent.header.clone()
    };
    Block { header, leaves: vec![Hash([name as u8; 32])] }
}

/// A new block at height 1.
pub fn block(view: u64, name: char) -> Block {
    block_on(&genesis(), view, name)
}

pub fn propose(view: u64, parent_view: u64, block: Block) -> Proposal {
    let height = block.header.height;
    let leaders = Leaders::default();
    let signer =
        (0..4).map(key).find(|k| k.public() == leaders.leader(&validators(4), height, view));
    let signer = signer.expect("a leader");
    Proposal::sign(block, view, parent_view, &CHAIN, &signer)
}

pub fn vote(kind: VoteKind, by: usize, view: u64, block: &Block) -> Vote {
    let block_hash = if kind == VoteKind::Nullify { Hash::ZERO } else { block.hash() };
    let height = block.header.height;
    Vote::sign(Ballot { kind, height, view, block_hash }, &CHAIN, &key(by))
}

pub fn certificate(kind: VoteKind, by: &[usize], view: u64, block: &Block) -> Certificate {
    let votes: Vec<_> = by.iter().map(|&by| vote(kind, by, view, block)).collect();
    Certificate::from_votes(votes[0].ballot, &votes, &validators(4)).expect("a quorum")
}

/// What happens to the core.
#[derive(Clone)]
pub enum Event {
    /// The clocks go on by this many milliseconds, then a tick.
    Wait(u64),
    Step(Box<Input>),
    /// A certificate signed by the three others comes.
    Quorum(VoteKind, u64, Block),
    /// A tip at view 1 certified by the three others comes.
    Tip(Block),
}

pub fn step(input: Input) -> Event {
    Event::Step(Box::new(input))
}

pub fn said(message: Message) -> Event {
    step(Input::Message { from: PEER, message })
}

pub fn proposal(view: u64, parent_view: u64, block: Block) -> Event {
    said(Message::Proposal(propose(view, parent_view, block)))
}

pub fn notarize(by: usize, view: u64, block: Block) -> Event {
    said(Message::Vote(vote(VoteKind::Notarize, by, view, &block)))
}

pub fn nullify(by: usize, view: u64) -> Event {
    said(Message::Vote(vote(VoteKind::Nullify, by, view, &block(1, 'A'))))
}

pub fn finalize(by: usize, view: u64, block: Block) -> Event {
    said(Message::Vote(vote(VoteKind::Finalize, by, view, &block)))
}

pub fn notarization(view: u64, block: Block) -> Event {
    Event::Quorum(VoteKind::Notarize, view, block)
}

pub fn nullification(view: u64) -> Event {
    Event::Quorum(VoteKind::Nullify, view, block(1, 'A'))
}

pub fn finalization(view: u64, block: Block) -> Event {
    Event::Quorum(VoteKind::Finalize, view, block)
}

pub fn tip(block: Block) -> Event {
    Event::Tip(block)
}

pub fn verdict(view: u64, block: Block, verdict: BlockVerdict) -> Event {
    let (height, block_hash) = (block.header.height, block.hash());
    step(Input::Validated { height, view, block_hash, verdict })
}

pub fn valid(view: u64, block: Block) -> Event {
    verdict(view, block, BlockVerdict::Valid)
}

pub fn built(view: u64, block: Block) -> Event {
    step(Input::Built { view, block })
}

pub fn fetched(block: Block) -> Event {
    step(Input::Fetched { block })
}

/// A peer of an agency tells what it holds of this node's key, and how far it is.
pub fn tells(by: usize, tip_height: u64, held: Signatures) -> Event {
    step(Input::Signatures { from: PEER, agency: agency(by), tip_height, held })
}

/// The same of one that holds nothing, at the height of the bench.
pub fn tells_nothing(by: usize) -> Event {
    tells(by, 0, Signatures::default())
}

pub fn work() -> Event {
    step(Input::Work { pending: true })
}

pub fn no_work() -> Event {
    step(Input::Work { pending: false })
}

/// A core with its clocks and its journal.
pub struct Bench {
    pub me: usize,
    pub core: Core,
    pub journal: Vec<Entry>,
    pub now: Now,
    /// Every block it asked for.
    pub builds: Vec<Build>,
    /// When it wants a tick.
    pub wake_at: Option<u64>,
}

impl Journal for Bench {
    type Error = std::convert::Infallible;

    fn append(&mut self, entries: &[Entry]) -> Result<(), Self::Error> {
        self.journal.extend_from_slice(entries);
        Ok(())
    }
}

impl Bench {
    pub fn new(me: usize) -> Self {
        Self::recovered(me, genesis(), Vec::new())
    }

    /// A bench with other timers.
    pub fn timed(me: usize, timing: Timing) -> Self {
        let config = Config { chain_id: CHAIN, signer: Some(key(me)), timing };
        Self { core: Core::new(config, genesis(), Vec::new()), ..Self::new(me) }
    }

    /// Before its peers have been asked what they hold of its key.
    pub fn unasked(self) -> Self {
        Self { core: self.core.unasked(), ..self }
    }

    /// Started on a committed state with what a journal remembers.
    pub fn recovered(me: usize, committed: Committed, journal: Vec<Entry>) -> Self {
        let config = Config { chain_id: CHAIN, signer: Some(key(me)), timing: TIMING };
        let core = Core::new(config, committed, journal.clone());
        Self {
            me,
            core,
            journal,
            now: Now { monotonic_ms: 1_000, unix_ms: UNIX_MS },
            builds: Vec::new(),
            wake_at: None,
        }
    }

    fn of_others(&self, kind: VoteKind, view: u64, block: &Block) -> Certificate {
        let others: Vec<_> = (0..4).filter(|&by| by != self.me).collect();
        certificate(kind, &others, view, block)
    }

    /// Takes what happens; says what came of it, in words.
    pub fn take(&mut self, event: Event) -> Vec<String> {
        let input = match event {
            Event::Wait(ms) => {
                self.now.monotonic_ms += ms;
                self.now.unix_ms += ms;
                Input::Tick
            }
            Event::Step(input) => *input,
            Event::Quorum(kind, view, block) => {
                let message = Message::Certificate(self.of_others(kind, view, &block));
                Input::Message { from: PEER, message }
            }
            Event::Tip(block) => {
                let finalization = self.of_others(VoteKind::Finalize, 1, &block);
                let message = Message::Tip(CertifiedTip { header: block.header, finalization });
                Input::Message { from: PEER, message }
            }
        };
        let ready = self.core.step(self.now, input);
        let mut words: Vec<_> = ready.entries().iter().map(entry_in_words).collect();
        let Ok(effects) = ready.persist(self);
        self.wake_at = effects.wake_at;
        self.builds.extend(effects.actions.iter().filter_map(|action| match action {
            Action::Build(build) => Some(build.clone()),
            _ => None,
        }));
        words.extend(effects.messages.iter().map(|o| format!("send {}", in_words(&o.message))));
        words.extend(effects.actions.iter().map(action_in_words));
        words.extend(effects.reception.and_then(reception_in_words));
        words
    }

    /// Takes all; says what came of the last.
    pub fn take_all(&mut self, events: Vec<Event>) -> Vec<String> {
        events.into_iter().map(|event| self.take(event)).last().unwrap_or_default()
    }
}

fn name(hash: &Hash) -> char {
    let later = block_on(&after(&block(1, 'A'), any_finalization()), 1, 'D');
    let all = (1..=12).flat_map(|view| ['A', 'B', 'C'].map(|name| (name, block(view, name))));
    let mut all = all.chain([('D', later)]);
    all.find(|(_, block)| block.hash() == *hash).map_or('?', |(name, _)| name)
}

fn any_finalization() -> Certificate {
    certificate(VoteKind::Finalize, &[1, 2, 3], 1, &block(1, 'A'))
}

fn in_words(message: &Message) -> String {
    match message {
        Message::Proposal(p) => format!("proposal {} {}", p.view, name(&p.block.hash())),
        Message::Vote(vote) => match vote.ballot.kind {
            VoteKind::Notarize => {
                format!("notarize {} {}", vote.ballot.view, name(&vote.ballot.block_hash))
            }
            VoteKind::Nullify => format!("nullify {}", vote.ballot.view),
            VoteKind::Finalize => {
                format!("finalize {} {}", vote.ballot.view, name(&vote.ballot.block_hash))
            }
        },
        Message::Certificate(certificate) => {
            let view = certificate.ballot.view;
            match certificate.ballot.kind {
                VoteKind::Notarize => format!("notarization {view}"),
                VoteKind::Nullify => format!("nullification {view}"),
                VoteKind::Finalize => format!("finalization {view}"),
            }
        }
        Message::Tip(tip) => format!("tip {}", tip.header.height),
    }
}

fn entry_in_words(entry: &Entry) -> String {
    let message = match entry.clone() {
        Entry::Proposal(proposal) => Message::Proposal(proposal),
        Entry::Vote(vote) => Message::Vote(vote),
        Entry::Certificate(certificate) => Message::Certificate(certificate),
        Entry::Watermark(height) => return format!("persist watermark {height}"),
    };
    format!("persist {}", in_words(&message))
}

/// What is taken is not mentioned: what comes of it tells.
fn reception_in_words(reception: Reception) -> Option<String> {
    match reception {
        Reception::Accepted => None,
        Reception::Contained => Some("contained".into()),
        Reception::Held => Some("hold".into()),
        Reception::Ignored(reason) => Some(format!("ignore: {reason:?}")),
        Reception::Refused(reason) => Some(format!("refuse: {reason:?}")),
    }
}

fn action_in_words(action: &Action) -> String {
    match action {
        Action::Build(build) => format!("build {}", build.view),
        Action::Validate(validate) => {
            let what = if validate.new { "validate" } else { "store" };
            format!("{what} {} {}", validate.view, name(&validate.block.hash()))
        }
        Action::Commit { block, .. } => format!("commit {}", name(&block.hash())),
        Action::FetchBlock { block_hash, .. } => format!("fetch block {}", name(block_hash)),
        Action::FetchCertificates { view, .. } => format!("fetch certificates {view}"),
        Action::SyncFrom { height, .. } => format!("sync to {height}"),
        Action::ResendTransactions => "resend transactions".into(),
        Action::Evidence(evidence) => {
            assert!(evidence.proves(&CHAIN), "{evidence:?}");
            let who = validators(4).index_of(&evidence.culprit()).expect("a validator");
            format!("accuse {who} in {}", evidence.place().1)
        }
        Action::Refused { peer, reason } => format!("charge {}: {reason:?}", peer.0),
        Action::StoppedSigning { .. } => "stop signing".into(),
        Action::Halt { .. } => "halt".into(),
    }
}
