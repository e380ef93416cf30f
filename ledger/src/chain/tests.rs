//! What the chain's tests share: a network of four agencies on one machine, and a model of what
//! executing blocks must give.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    path::Path,
    sync::Arc,
};

use customhouse_proto::v1::{self, registry_entry::Entry};
use tempfile::TempDir;

use crate::{
    chain::{BlockContext, BlockOutcome, Candidate, Chain, ChainReader},
    finality::{
        certificate::Certificate,
        header::Header,
        vote::{Ballot, Vote, VoteKind},
    },
    hash::Hash,
    history::{HistoryEntry, HistoryTree},
    keys::SigningKey,
    merkle::Frontier,
    record::{ValidRecord, dedupe_key, tests::record},
    registry::genesis::{Genesis, tests::genesis},
    store::{StoreError, StoreOptions},
    transaction::VerifiedTransaction,
};

mod authority;
mod backups;
mod changes;
mod checked;
mod commit;
mod concurrency;
mod corruption;
mod durability;
mod flips;
mod kept;
mod leaders;
mod load;
mod misbehaviour;
mod pending;
mod proofs;
mod rebuilt;
mod sealed;
mod sealed_histories;
mod tiles;
mod validity;

/// A chain of the test genesis in a folder that vanishes.
struct Fixture {
    genesis: Genesis,
    folder: TempDir,
}

impl Fixture {
    fn new() -> Self {
        Self { genesis: genesis(4), folder: tempfile::tempdir().expect("a folder") }
    }

    fn with_parameters(parameters: &[(&str, u64)]) -> Self {
        let plain = genesis(4);
        let entry = |(name, value): &(&str, u64)| {
            let parameter = v1::ParameterEntry { name: (*name).to_owned(), value: *value };
            v1::RegistryEntry { entry: Some(Entry::Parameter(parameter)), ..Default::default() }
        };
        let entries = plain.registry.entries().cloned().chain(parameters.iter().map(entry));
        let genesis =
            Genesis::new("test".into(), plain.time_ms, plain.history_bits, entries.collect());
        Self { genesis: genesis.expect("valid"), ..Self::new() }
    }

    fn open(&self) -> Chain {
        self.try_open().expect("a sound store")
    }

    fn try_open(&self) -> Result<Chain, StoreError> {
        open_at(self.folder.path(), &self.genesis)
    }

    /// A transaction of records with these numbers, signed by an agency's key.
    fn transaction(&self, agency: u8, numbers: Range<u64>) -> Arc<VerifiedTransaction> {
        let keys = numbers.clone().map(|number| format!("key {number}"));
        self.transaction_with_keys(agency, numbers.clone().zip(keys))
    }

    /// A transaction of records with these numbers and clients' keys.
    fn transaction_with_keys(
        &self,
        agency: u8,
        records: impl IntoIterator<Item = (u64, String)>,
    ) -> Arc<VerifiedTransaction> {
        let not_after_ms = self.genesis.time_ms + 3_600_000;
        let chain_id = self.genesis.chain_id();
        transaction(agency, 128 + agency, records, not_after_ms, &chain_id)
    }
}

fn open_at(folder: &Path, genesis: &Genesis) -> Result<Chain, StoreError> {
    Chain::open(folder, genesis, &StoreOptions::default())
}

fn transaction(
    agency: u8,
    key_seed: u8,
    records: impl IntoIterator<Item = (u64, String)>,
    not_after_ms: u64,
    chain_id: &Hash,
) -> Arc<VerifiedTransaction> {
    let name = format!("A{agency:03}");
    let agency = name.parse().expect("a code");
    let records: Vec<_> = records
        .into_iter()
        .map(|(number, client_key)| {
            let record = ValidRecord::from_record(record(&name, number)).expect("valid");
            (record, dedupe_key(&agency, "broker", &client_key))
        })
        .collect();
    let key = SigningKey::from_seed(&[key_seed; 32]);
    let signed = VerifiedTransaction::sign(&records, agency, not_after_ms, chain_id, &key);
    Arc::new(signed.expect("valid"))
}

/// The leader of view 1 proposes; the time is a second after the parent's.
fn context(chain: &Chain) -> BlockContext {
    context_in(chain, 1)
}

fn context_in(chain: &Chain, view: u64) -> BlockContext {
    let tip = chain.tip();
    BlockContext {
        view,
        proposer: tip.leaders.leader(&tip.validators, tip.header.height + 1, view),
        time_ms: tip.header.time_ms + 1000,
        bytes_max: u64::MAX,
    }
}

fn prepare(chain: &Chain, transactions: &[Arc<VerifiedTransaction>]) -> Candidate {
    chain.prepare(&context(chain), transactions.iter().cloned()).expect("a readable store")
}

/// A finalization by a quorum of the validators of the next height; their keys' seeds may be any of
/// 1 to 255.
fn finalization(chain: &Chain, header: &Header) -> Certificate {
    let (tip, chain_id) = (chain.tip(), chain.chain_id());
    let (height, block_hash) = (header.height, header.hash());
    let ballot = Ballot { kind: VoteKind::Finalize, height, view: header.view, block_hash };
    let votes: Vec<_> = (1..=u8::MAX)
        .map(|seed| SigningKey::from_seed(&[seed; 32]))
        .filter(|key| tip.validators.index_of(&key.public()).is_some())
        .take(tip.validators.quorum())
        .map(|key| Vote::sign(ballot, &chain_id, &key))
        .collect();
    Certificate::from_votes(ballot, &votes, &tip.validators).expect("a quorum")
}

/// Prepares, stores for voting, and commits: none of the transactions may be refused.
fn commit(chain: &mut Chain, transactions: &[Arc<VerifiedTransaction>]) -> BlockOutcome {
    let Candidate { staged, refused } = prepare(chain, transactions);
    assert_eq!(refused, []);
    chain.store_pending(staged.block(), staged.transactions()).expect("stored");
    let certificate = finalization(chain, &staged.block().header);
    chain.commit(staged, certificate).expect("committed")
}

/// What executing blocks must give, written with plain maps and no overlay.
struct Model {
    header: Header,
    log: Frontier,
    heads: BTreeMap<u32, Hash>,
    bits: u32,
    dedupe: BTreeSet<(String, Hash)>,
    records: BTreeSet<Hash>,
    entries: Vec<HistoryEntry>,
}

impl Model {
    fn new(genesis: &Genesis) -> Self {
        Self {
            header: genesis.header(),
            log: Frontier::default(),
            heads: BTreeMap::new(),
            bits: genesis.history_bits,
            dedupe: BTreeSet::new(),
            records: BTreeSet::new(),
            entries: Vec::new(),
        }
    }

    fn apply(&mut self, transaction: &VerifiedTransaction) {
        let agency = transaction.header().agency.to_string();
        for (position, slot) in (0..).zip(transaction.slots()) {
            let dedupe = (agency.clone(), slot.dedupe_key);
            if self.dedupe.contains(&dedupe) || self.records.contains(&slot.record_id) {
                continue;
            }
            self.dedupe.insert(dedupe);
            self.records.insert(slot.record_id);
            for key in &slot.subject_keys {
                let entry = HistoryEntry { key: *key, log_index: self.log.size(), position };
                let head = self.heads.entry(crate::history::bucket_of(key, self.bits)).or_default();
                *head = entry.chain(head);
                self.entries.push(entry);
            }
        }
        self.log.push(transaction.leaf_hash());
    }

    /// Executes what the reader has committed since, and checks every header on the way.
    fn follow(&mut self, reader: &ChainReader) {
        let tip = reader.tip();
        for height in self.header.height + 1..=tip.header.height {
            let block = reader.block(height).expect("readable").expect("committed");
            let header = &block.block.header;
            assert_eq!(header.parent_hash, self.header.hash(), "height {height}");
            assert_eq!((header.height, header.log_start), (height, self.log.size()));
            assert!(block.certificate.is_some(), "height {height}");
            for bytes in &block.transactions {
                let read = VerifiedTransaction::from_bytes(bytes.clone(), &header.chain_id);
                self.apply(&read.expect("a committed transaction"));
            }
            assert_eq!((header.log_size, header.log_root), (self.log.size(), self.log.root()));
            let heads = self.heads.iter().map(|(bucket, head)| (*bucket, *head));
            let history = HistoryTree::read(self.bits, heads.map(Ok::<_, ()>)).expect("no errors");
            assert_eq!(header.history_root, history.root(), "height {height}");
            self.header = header.clone();
        }
        assert_eq!(self.header.hash(), tip.hash);
    }
}
