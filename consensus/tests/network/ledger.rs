//! A toy ledger: a block is a list of leaves, the committed state is the chain of headers.

use std::collections::{BTreeMap, BTreeSet};

use customhouse_consensus::{Build, Committed};
use customhouse_ledger::{
    finality::{
        certificate::Certificate,
        header::{Block, Header},
        leaders::Leaders,
        validators::ValidatorSet,
    },
    hash::{Hash, Tag},
    registry::parameters::Parameters,
};

pub const CHAIN: Hash = Hash([7; 32]);
pub const GENESIS_TIME_MS: u64 = 1_700_000_000_000;

/// What one node has on its disk, journal aside. Everything in it is durable.
#[derive(Clone)]
pub struct Ledger {
    /// Who decides from a height on, by that height.
    validators: BTreeMap<u64, ValidatorSet>,
    pub parameters: Parameters,
    genesis: Header,
    /// Committed blocks from height 1 on.
    pub chain: Vec<(Block, Certificate)>,
    /// Blocks stored for voting.
    pub blocks: BTreeMap<Hash, Block>,
    /// Transactions waiting.
    pub pending: BTreeSet<Hash>,
}

impl Ledger {
    pub fn new(validators: ValidatorSet, parameters: Parameters) -> Self {
        let genesis = Header {
            version: Header::VERSION,
            chain_id: CHAIN,
            height: 0,
            time_ms: GENESIS_TIME_MS,
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
        let (chain, blocks, pending) = Default::default();
        let validators = BTreeMap::from([(1, validators)]);
        Self { validators, parameters, genesis, chain, blocks, pending }
    }

    /// The block before this height announces other validators.
    pub fn change(&mut self, height: u64, validators: ValidatorSet) {
        self.validators.insert(height, validators);
    }

    /// Who decides a height.
    pub fn validators_at(&self, height: u64) -> &ValidatorSet {
        let (_, set) = self.validators.range(..=height).next_back().expect("from 1 on");
        set
    }

    /// Who decides the next height.
    pub fn validators(&self) -> &ValidatorSet {
        self.validators_at(self.tip().height + 1)
    }

    pub fn tip(&self) -> &Header {
        self.chain.last().map_or(&self.genesis, |(block, _)| &block.header)
    }

    pub fn committed(&self) -> Committed {
        Committed {
            header: self.tip().clone(),
            finalization: self.chain.last().map(|(_, certificate)| certificate.clone()),
            validators: self.validators().clone(),
            leaders: self.leaders(),
            parameters: self.parameters,
        }
    }

    /// As the ledger has it: from the headers since the term began.
    fn leaders(&self) -> Leaders {
        let first = Leaders::first_needed(self.tip().height, self.validators()) as usize;
        let mut leaders = Leaders::default();
        for (block, _) in &self.chain[first - 1..] {
            leaders.commit(&block.header, self.validators_at(block.header.height));
        }
        leaders
    }

    /// Builds a block of these leaves on the tip, as the core asked, and stores it.
    pub fn build(&mut self, build: &Build, leaves: Vec<Hash>) -> Block {
        let tip = self.tip();
        let block = Block {
            header: Header {
                height: build.height,
                time_ms: build.time_ms,
                parent_hash: build.parent_hash,
                log_start: tip.log_size,
                log_size: tip.log_size + leaves.len() as u64,
                log_root: log_root(&tip.log_root, &leaves),
                proposer: *build.proposer.as_bytes(),
                view: build.view,
                validators_hash: self.validators_at(build.height).hash(),
                next_validators_hash: self.validators_at(build.height + 1).hash(),
                ..tip.clone()
            },
            leaves,
        };
        self.blocks.insert(block.hash(), block.clone());
        block
    }

    /// Whether the block executes on the tip to its own root; stores it if so.
    pub fn validate(&mut self, block: &Block) -> bool {
        let tip = self.tip();
        let (start, size) = (block.header.log_start, block.header.log_size);
        let valid = start == tip.log_size
            && size == start + block.leaves.len() as u64
            && block.header.log_root == log_root(&tip.log_root, &block.leaves)
            && block.header.next_validators_hash == self.validators_at(tip.height + 2).hash();
        if valid {
            self.blocks.insert(block.hash(), block.clone());
        }
        valid
    }

    pub fn commit(&mut self, block: Block, finalization: Certificate) {
        assert_eq!(block.header.height, self.tip().height + 1, "one after the other");
        assert!(self.validate(&block), "a finalized block executes to its own root");
        finalization.verify(&CHAIN, self.validators()).expect("a finalization verifies");
        for leaf in &block.leaves {
            self.pending.remove(leaf);
        }
        self.chain.push((block, finalization));
        self.blocks.clear();
    }

    pub fn has_committed(&self, leaf: &Hash) -> bool {
        self.chain.iter().any(|(block, _)| block.leaves.contains(leaf))
    }
}

fn log_root(before: &Hash, leaves: &[Hash]) -> Hash {
    let step = |root: Hash, leaf: &Hash| Tag::RECORD.hash(&[root.as_bytes(), leaf.as_bytes()]);
    leaves.iter().fold(*before, step)
}
