//! What a simulated node asks its peers for. Blocks and bodies are gathered by a node's own
//! orchestration; the rest is one job after another peer, until it has what it wants.

use std::collections::BTreeMap;

use customhouse_ledger::{chain::ChainReader, hash::Hash, keys::PublicKey};
use customhouse_node::driver::{
    CertifiedBlock, DriverInput, Fetch, answers,
    gather::{Ask, Gathering},
};
use customhouse_proto::v1::{self, sync_request::Request, sync_response::Response};
use tokio::sync::oneshot;

/// Jobs under way, by number.
#[derive(Default)]
pub(super) struct Fetching {
    pub(super) jobs: BTreeMap<u64, Job>,
    /// A node's own.
    pub(super) gathering: Gathering,
    /// What it has asked and has no answer to, by number.
    pub(super) asks: BTreeMap<u64, Ask>,
    /// Planted: the first peer that was asked, of each block.
    pub(super) first: BTreeMap<Hash, PublicKey>,
    next: u64,
}

/// One thing wanted.
pub(super) struct Job {
    pub(super) want: Want,
    /// Whom to ask, in order; `place` is the one that is being asked.
    pub(super) sources: Vec<PublicKey>,
    pub(super) place: usize,
    /// Tells a late answer or timer from the one that is waited for.
    pub(super) attempt: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    Certificates {
        height: u64,
        view: u64,
    },
    OwnSignatures {
        validator: PublicKey,
        from_height: u64,
    },
    /// `following`: what was decided since the height was named.
    CatchUp {
        height: u64,
        following: bool,
    },
}

/// What comes of an answer.
pub(super) enum Progress {
    /// Ask the next.
    More,
    /// The job is done; these go to the driver.
    Done(Vec<DriverInput>),
    /// Committed blocks to apply; then ask the same peer for more.
    Blocks(Vec<CertifiedBlock>),
}

impl Fetching {
    /// Begins a fetch; gives the numbers of its jobs. Blocks and bodies are gathered as in a node.
    pub(super) fn begin(&mut self, fetch: Fetch, connected: &[PublicKey]) -> Vec<u64> {
        match fetch {
            Fetch::Bodies { purpose, missing, from } => {
                self.gathering.want_bodies(purpose, missing, from);
                Vec::new()
            }
            Fetch::Block { height, block_hash, from } => {
                self.gathering.want_block(height, block_hash, from);
                Vec::new()
            }
            Fetch::Certificates { height, view } => connected
                .iter()
                .filter_map(|peer| self.ask_once(Want::Certificates { height, view }, *peer))
                .collect(),
            Fetch::OwnSignatures { peer, validator, from_height } => {
                let want = Want::OwnSignatures { validator, from_height };
                self.ask_once(want, peer).into_iter().collect()
            }
            Fetch::CatchUp { .. } if self.is_catching_up() => Vec::new(),
            Fetch::CatchUp { height } => {
                vec![self.add(Want::CatchUp { height, following: false }, connected.to_vec())]
            }
        }
    }

    /// Questions without an answer, and jobs that wait for their turn.
    pub(super) fn count(&self) -> u64 {
        (self.jobs.len() + self.gathering.open()) as u64
    }

    pub(super) fn is_catching_up(&self) -> bool {
        self.jobs.values().any(|job| matches!(job.want, Want::CatchUp { .. }))
    }

    /// One question to one peer, unless it is being asked.
    fn ask_once(&mut self, want: Want, peer: PublicKey) -> Option<u64> {
        let is_it = |job: &Job| job.want == want && job.sources == [peer];
        (!self.jobs.values().any(is_it)).then(|| self.add(want, vec![peer]))
    }

    fn add(&mut self, want: Want, sources: Vec<PublicKey>) -> u64 {
        let number = self.next;
        self.next += 1;
        self.jobs.insert(number, Job { want, sources, place: 0, attempt: 0 });
        number
    }
}

impl Job {
    /// What to ask next; `None` where nothing is wanted any more.
    pub(super) fn request(&self, reader: &ChainReader) -> Option<Request> {
        let tip = reader.tip().header.height;
        match &self.want {
            Want::Certificates { height, view } => {
                let (height, view) = (*height, *view);
                Some(Request::Certificate(v1::CertificateRequest { height, view }))
            }
            Want::OwnSignatures { validator, from_height } => {
                let (validator, from_height) = (validator.as_bytes().to_vec(), *from_height);
                Some(Request::Journal(v1::JournalRequest { validator, from_height }))
            }
            Want::CatchUp { height, .. } if tip >= *height => None,
            Want::CatchUp { .. } => {
                let count_max = answers::BLOCKS_MAX;
                Some(Request::Blocks(v1::BlocksRequest { from_height: tip + 1, count_max }))
            }
        }
    }

    /// Blocks were of use: as in a node, what was decided since is asked for, too.
    pub(super) fn came_to(&mut self, tip: u64) {
        if let Want::CatchUp { height, following } = &mut self.want
            && tip >= *height
        {
            (*height, *following, self.place) = (tip + 1, true, 0);
        }
    }

    /// Whether all sources are asked again after the last, or the job ends.
    pub(super) fn is_persistent(&self) -> bool {
        match &self.want {
            Want::OwnSignatures { .. } | Want::CatchUp { following: false, .. } => true,
            Want::Certificates { .. } | Want::CatchUp { following: true, .. } => false,
        }
    }

    /// Takes an answer of the peer that was asked.
    pub(super) fn take(&self, answer: Response, reader: &ChainReader) -> Progress {
        let from = self.sources[self.place];
        let chain_id = reader.chain_id();
        match (&self.want, answer) {
            (Want::Certificates { .. }, Response::Certificate(answer)) => {
                let input = |message| DriverInput::Message { from, message, judgement: None };
                Progress::Done(answers::certificates(&answer).into_iter().map(input).collect())
            }
            (Want::OwnSignatures { validator, .. }, Response::Journal(answer)) => {
                let signed = answers::signatures(&answer);
                let (validator, tip_height) = (*validator, answer.tip_height);
                let told = DriverInput::OwnSignatures { peer: from, validator, tip_height, signed };
                Progress::Done(vec![told])
            }
            (Want::CatchUp { .. }, Response::Blocks(answer)) => {
                let validators = reader.tip().validators.clone();
                let blocks = answers::committed_blocks(answer, &chain_id, &validators);
                let mut blocks = blocks.unwrap_or_default();
                // What others have decided is asked for again, when it is known who they are.
                let decided = answers::decided_by(&blocks, &chain_id, &validators);
                blocks.truncate(decided.unwrap_or(0));
                if blocks.is_empty() { Progress::More } else { Progress::Blocks(blocks) }
            }
            _ => Progress::More,
        }
    }
}

/// Committed blocks as an input, with nobody waiting for the reply.
pub(super) fn committed(from: PublicKey, blocks: Vec<CertifiedBlock>) -> DriverInput {
    let (reply, _nobody) = oneshot::channel();
    DriverInput::Committed { from, blocks, reply }
}
