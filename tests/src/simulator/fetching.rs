//! What a simulated node asks its peers for: one job after another peer, until it has what it wants.

use std::{collections::BTreeMap, sync::Arc};

use customhouse_ledger::{
    chain::ChainReader, hash::Hash, header::Block, keys::PublicKey,
    transaction::VerifiedTransaction,
};
use customhouse_node::driver::{
    CertifiedBlock, DriverInput, Fetch, FetchedBlock, Purpose, answers,
};
use customhouse_proto::v1::{self, sync_request::Request, sync_response::Response};
use tokio::sync::oneshot;

/// Jobs under way, by number.
#[derive(Default)]
pub(super) struct Fetching {
    pub(super) jobs: BTreeMap<u64, Job>,
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

pub(super) enum Want {
    Bodies { purpose: Purpose, missing: Vec<Hash>, found: Vec<Arc<VerifiedTransaction>> },
    Block { height: u64, block_hash: Hash, found: Option<Found> },
    Certificates { height: u64, view: u64 },
    OwnSignatures { validator: PublicKey, from_height: u64 },
    CatchUp { height: u64 },
}

/// A block whose bodies are not all there yet.
pub(super) struct Found {
    block: Block,
    from: PublicKey,
    missing: Vec<Hash>,
    bodies: Vec<Arc<VerifiedTransaction>>,
}

/// What comes of an answer.
pub(super) enum Progress {
    /// Ask again: the same peer where it gave something, else the next.
    More { gave: bool },
    /// The job is done; these go to the driver.
    Done(Vec<DriverInput>),
    /// Committed blocks to apply; then ask the same peer for more.
    Blocks(Vec<CertifiedBlock>),
}

impl Fetching {
    /// Begins a fetch; gives the numbers of its jobs.
    pub(super) fn begin(
        &mut self,
        fetch: Fetch,
        connected: &[PublicKey],
        order: Order,
    ) -> Vec<u64> {
        let prefer = |first: &[PublicKey]| order.sources(connected, first);
        match fetch {
            Fetch::Bodies { purpose, missing, from } => {
                let want = Want::Bodies { purpose, missing, found: Vec::new() };
                vec![self.add(want, prefer(&from))]
            }
            Fetch::Block { height, block_hash, from, avoid } => {
                let mut sources = prefer(&from);
                sources.sort_by_key(|peer| avoid.contains(peer));
                vec![self.add(Want::Block { height, block_hash, found: None }, sources)]
            }
            Fetch::Certificates { height, view } => connected
                .iter()
                .map(|peer| self.add(Want::Certificates { height, view }, vec![*peer]))
                .collect(),
            Fetch::OwnSignatures { peer, validator, from_height } => {
                vec![self.add(Want::OwnSignatures { validator, from_height }, vec![peer])]
            }
            Fetch::CatchUp { peer, height } => {
                if self.is_catching_up() {
                    return Vec::new();
                }
                let mut sources = vec![peer];
                sources.extend(connected.iter().filter(|other| **other != peer));
                vec![self.add(Want::CatchUp { height }, sources)]
            }
        }
    }

    pub(super) fn is_catching_up(&self) -> bool {
        self.jobs.values().any(|job| matches!(job.want, Want::CatchUp { .. }))
    }

    fn add(&mut self, want: Want, sources: Vec<PublicKey>) -> u64 {
        let number = self.next;
        self.next += 1;
        self.jobs.insert(number, Job { want, sources, place: 0, attempt: 0 });
        number
    }
}

/// Which peers belong to which validator.
#[derive(Clone, Copy)]
pub(super) struct Order<'a>(pub(super) &'a BTreeMap<PublicKey, Vec<PublicKey>>);

impl Order<'_> {
    fn sources(self, connected: &[PublicKey], first: &[PublicKey]) -> Vec<PublicKey> {
        let of_validators = first.iter().filter_map(|key| self.0.get(key)).flatten();
        let mut sources: Vec<PublicKey> =
            of_validators.filter(|peer| connected.contains(peer)).copied().collect();
        let others: Vec<_> = connected.iter().filter(|p| !sources.contains(p)).copied().collect();
        sources.extend(others);
        sources
    }
}

impl Job {
    /// What to ask next; `None` where nothing is wanted any more.
    pub(super) fn request(&self, reader: &ChainReader) -> Option<Request> {
        let leaves = |missing: &[Hash]| {
            let leaves = missing.iter().map(|leaf| leaf.0.to_vec()).collect();
            Request::Transactions(v1::TransactionsRequest { leaves })
        };
        let tip = reader.tip().header.height;
        match &self.want {
            Want::Bodies { missing, .. } => Some(leaves(missing)),
            Want::Block { height, .. } if tip >= *height => None,
            Want::Block { found: Some(found), .. } => Some(leaves(&found.missing)),
            Want::Block { height, block_hash, found: None } => {
                let block_hash = block_hash.0.to_vec();
                Some(Request::Block(v1::BlockRequest { height: *height, block_hash }))
            }
            Want::Certificates { height, view } => {
                let (height, view) = (*height, *view);
                Some(Request::Certificate(v1::CertificateRequest { height, view }))
            }
            Want::OwnSignatures { validator, from_height } => {
                let (validator, from_height) = (validator.as_bytes().to_vec(), *from_height);
                Some(Request::Journal(v1::JournalRequest { validator, from_height }))
            }
            Want::CatchUp { height } if tip >= *height => None,
            Want::CatchUp { .. } => {
                let count_max = answers::BLOCKS_MAX;
                Some(Request::Blocks(v1::BlocksRequest { from_height: tip + 1, count_max }))
            }
        }
    }

    /// Whether all sources are asked again after the last, or the job ends.
    pub(super) fn is_persistent(&self) -> bool {
        match &self.want {
            Want::Bodies { purpose, .. } => matches!(purpose, Purpose::Commit { .. }),
            Want::Block { .. } | Want::OwnSignatures { .. } | Want::CatchUp { .. } => true,
            Want::Certificates { .. } => false,
        }
    }

    /// What a job that gives up says.
    pub(super) fn give_up(self) -> Vec<DriverInput> {
        match self.want {
            Want::Bodies { purpose, found, .. } => {
                vec![DriverInput::Bodies { purpose, transactions: found }]
            }
            _ => Vec::new(),
        }
    }

    /// Takes an answer of the peer that was asked.
    pub(super) fn take(&mut self, answer: Response, reader: &ChainReader) -> Progress {
        let from = self.sources[self.place];
        let chain_id = reader.chain_id();
        match (&mut self.want, answer) {
            (Want::Bodies { missing, found, .. }, Response::Transactions(answer)) => {
                let gave = keep(answer, missing, found, &chain_id);
                if missing.is_empty() { self.done() } else { Progress::More { gave } }
            }
            (Want::Block { found: None, block_hash, .. }, Response::Block(answer)) => {
                let Some(block) = answers::block(&answer, block_hash) else {
                    return Progress::More { gave: false };
                };
                let missing = block.leaves.clone();
                let found = Found { block, from, missing, bodies: Vec::new() };
                self.take_found(found, true)
            }
            (Want::Block { found, .. }, Response::Transactions(answer)) => {
                let Some(mut found) = found.take() else { return Progress::More { gave: false } };
                let gave = keep(answer, &mut found.missing, &mut found.bodies, &chain_id);
                self.take_found(found, gave)
            }
            (Want::Certificates { .. }, Response::Certificate(answer)) => {
                let input = |message| DriverInput::Message { from, message, receipt: None };
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
                let blocks = answers::committed_blocks(answer, from, &chain_id, &validators);
                let mut blocks = blocks.unwrap_or_default();
                // What others have decided is asked for again, when it is known who they are.
                let decided = answers::decided_by(&blocks, &chain_id, &validators);
                blocks.truncate(decided.unwrap_or(0));
                if blocks.is_empty() {
                    Progress::More { gave: false }
                } else {
                    Progress::Blocks(blocks)
                }
            }
            _ => Progress::More { gave: false },
        }
    }

    fn take_found(&mut self, new: Found, gave: bool) -> Progress {
        let Want::Block { found, .. } = &mut self.want else { return Progress::Done(Vec::new()) };
        if !new.missing.is_empty() {
            *found = Some(new);
            return Progress::More { gave };
        }
        let Found { block, from, bodies, .. } = new;
        let transactions = answers::in_order(&block.leaves, bodies);
        let fetched = transactions.map(|transactions| FetchedBlock { block, transactions, from });
        Progress::Done(fetched.map(DriverInput::Block).into_iter().collect())
    }

    fn done(&mut self) -> Progress {
        let want = std::mem::replace(&mut self.want, Want::Certificates { height: 0, view: 0 });
        let sources = Vec::new();
        Progress::Done(Job { want, sources, place: 0, attempt: 0 }.give_up())
    }
}

/// Committed blocks as an input, with nobody waiting for the reply.
pub(super) fn committed(from: PublicKey, blocks: Vec<CertifiedBlock>) -> DriverInput {
    let (reply, _nobody) = oneshot::channel();
    DriverInput::Committed { from, blocks, reply }
}

fn keep(
    answer: v1::TransactionsResponse,
    missing: &mut Vec<Hash>,
    found: &mut Vec<Arc<VerifiedTransaction>>,
    chain_id: &Hash,
) -> bool {
    let before = missing.len();
    for transaction in answers::transactions(answer.transactions, chain_id) {
        let leaf_hash = transaction.leaf_hash();
        if let Some(place) = missing.iter().position(|leaf| *leaf == leaf_hash) {
            missing.swap_remove(place);
            found.push(transaction);
        }
    }
    missing.len() < before
}
