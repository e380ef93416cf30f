//! How large receipts and history proofs are where there are ten million, and what checking them takes.
//!
//! The other leaves of the log and the other entries of the history are numbers. Transactions,
//! signatures, headers and proofs are real, and so is the verifier that takes them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Instant,
};

use anyhow::{Context as _, ensure};
use customhouse_ledger::{
    agreement::Agreements,
    finality::{certificate::Certificate, header::Header},
    hash::{Hash, Tag},
    history::{HistoryEntry, HistoryTree, bucket_of},
    merkle::{self, Frontier, NodeId, OutOfRange, Tree},
    proofs::verifier::Verifier,
    registry::genesis::Genesis,
    transaction::{SlotOutcome, TransactionHeader, VerifiedTransaction, outcome},
};
use customhouse_proto::v1;
use prost::Message as _;

use crate::{
    offline::{self, Kind},
    report::{Goal, Report, Section},
};

/// Transactions of the log, and entries of the history.
const COUNT: u64 = 10_000_000;
/// A log of about as many, whose paths are the longest: its right edge has most subtrees.
const COUNT_LONGEST: u64 = 0x9f_ffff;
/// Transactions of the newest block.
const BLOCK: u64 = 2_000;
/// Receipts of each kind.
const RECEIPTS: u64 = 100;
/// Subjects, each with two entries.
const SUBJECTS: u64 = COUNT / 2;
/// Proofs of histories, and as many of absence.
const HISTORIES: u64 = 1_000;
/// Most bytes that a receipt should have, without its record.
const RECEIPT_BYTES: f64 = 1_600.0;
/// Its check should take less than this, beside the signatures.
const RECEIPT_MS: f64 = 0.5;
/// Most bytes that a history proof should have, without the records.
const HISTORY_BYTES: f64 = 2_000.0;

pub(crate) fn measure(report: &mut Report) -> anyhow::Result<()> {
    let genesis = offline::genesis()?;
    for (size, name) in [(COUNT, ""), (COUNT_LONGEST, ", longest paths")] {
        let sampled = Sampled::of(&genesis, size)?;
        for records in [1, 100] {
            let receipts = sampled.receipts(&genesis, records)?;
            let name = format!("receipt at 10⁷, {records} a signature{name}");
            report_receipts(&genesis, &receipts, &name, report)?;
        }
    }
    let history = History::new(&genesis)?;
    for (name, first, entries) in
        [("history proof at 10⁷", 0, 2), ("absence proof at 10⁷", SUBJECTS, 0)]
    {
        let proofs = history.proofs(&genesis, first)?;
        report_histories(&genesis, &proofs, entries, name, report)?;
    }
    Ok(())
}

fn report_receipts(
    genesis: &Genesis,
    receipts: &[v1::Receipt],
    name: &str,
    report: &mut Report,
) -> anyhow::Result<()> {
    let verifier = Verifier::new(genesis);
    let (mut bytes, mut whole, mut rest) = (vec![], vec![], vec![]);
    for receipt in receipts {
        let encoded = receipt.encode_to_vec();
        let begun = Instant::now();
        let verified = verifier.verify_receipt(&encoded)?;
        let whole_ms = begun.elapsed().as_secs_f64() * 1e3;
        ensure!(verified.finalized_by == [0, 1, 2], "finalized by {:?}", verified.finalized_by);
        bytes.push(encoded.len() as f64);
        whole.push(whole_ms);
        rest.push(whole_ms - signatures_ms(genesis, receipt)?);
    }
    let section = Section::Proofs;
    let goal = Some(Goal::AtMost(RECEIPT_BYTES));
    report.percentiles(section, name, &mut bytes, "bytes", goal);
    report.times(section, &format!("{name}, verified"), &mut whole, None);
    let goal = Some(Goal::Below(RECEIPT_MS));
    report.times(section, &format!("{name}, without signatures"), &mut rest, goal);
    Ok(())
}

/// The checks of a receipt's four signatures alone.
fn signatures_ms(genesis: &Genesis, receipt: &v1::Receipt) -> anyhow::Result<f64> {
    let certificate = Certificate::decode(&receipt.certificate)?;
    let transaction = TransactionHeader::decode(&receipt.transaction_header)?;
    let signature = receipt.transaction_signature.as_slice().try_into()?;
    let (chain_id, validators) = (genesis.chain_id(), genesis.validators());
    let begun = Instant::now();
    certificate.verify(&chain_id, &validators)?;
    transaction.verify(&customhouse_ledger::keys::Signature(signature))?;
    Ok(begun.elapsed().as_secs_f64() * 1e3)
}

/// A log whose newest block has real transactions here and there.
struct Sampled {
    transactions: BTreeMap<u64, Arc<VerifiedTransaction>>,
    size: u64,
    root: Hash,
    /// Those nodes that the transactions' paths need.
    nodes: BTreeMap<NodeId, Hash>,
}

impl Sampled {
    fn of(genesis: &Genesis, size: u64) -> anyhow::Result<Self> {
        let mut transactions = BTreeMap::new();
        for number in 0..2 * RECEIPTS {
            let a_signature = if number % 2 == 0 { 1 } else { 100 };
            let kind = Kind { a_signature, containers: 1 };
            let first = number * 100;
            let transaction = kind.transaction(genesis, first..first + a_signature)?;
            transactions.insert(size - BLOCK + number * BLOCK / (2 * RECEIPTS), transaction);
        }
        let mut nodes = BTreeSet::new();
        for index in transactions.keys() {
            let zero = |node| Ok::<_, OutOfRange>((nodes.insert(node), Hash::ZERO).1);
            merkle::inclusion_path(*index, size, zero)?;
        }
        let mut sampled = Self { transactions, size, root: Hash::ZERO, nodes: BTreeMap::new() };
        sampled.hash(&nodes);
        Ok(sampled)
    }

    /// Goes through the log, and keeps these of its nodes.
    fn hash(&mut self, wanted: &BTreeSet<NodeId>) {
        let mut log = Frontier::default();
        for index in 0..self.size {
            let leaf = match self.transactions.get(&index) {
                Some(transaction) => transaction.leaf_hash(),
                None => merkle::leaf_hash(&index.to_be_bytes()),
            };
            log.push_with(leaf, |node, hash| {
                if wanted.contains(&node) {
                    self.nodes.insert(node, hash);
                }
            });
        }
        self.root = log.root();
    }

    /// The trees over the outcomes of a transaction, by its number of records, and of the newest block, all
    /// of whose records are new.
    fn outcomes(&self) -> (BTreeMap<usize, Tree>, Tree) {
        let tree = |slots| outcome::slot_tree(&vec![SlotOutcome::Applied; slots]);
        let counts = self.transactions.values().map(|transaction| transaction.slots().len());
        let trees: BTreeMap<_, _> = counts.chain([1]).map(|slots| (slots, tree(slots))).collect();
        let slots_of = |index| self.transactions.get(&index).map_or(1, |t| t.slots().len());
        let roots = (self.size - BLOCK..self.size).map(|index| trees[&slots_of(index)].root());
        let block = outcome::block_tree(&roots.collect::<Vec<_>>());
        (trees, block)
    }

    /// Receipts without records, of the transactions with this many.
    fn receipts(&self, genesis: &Genesis, records: usize) -> anyhow::Result<Vec<v1::Receipt>> {
        let (slots, outcomes) = self.outcomes();
        let header = Header {
            log_root: self.root,
            outcomes_root: outcomes.root(),
            ..header(genesis, self.size)
        };
        let certificate = offline::finalization(genesis, &header)?.encode();
        let of_kind = self.transactions.iter().filter(|(_, t)| t.slots().len() == records);
        let receipt = |(log_index, transaction): (&u64, &Arc<VerifiedTransaction>)| {
            let node = |node| self.nodes.get(&node).copied().ok_or(OutOfRange);
            let log_path = merkle::inclusion_path(*log_index, self.size, node)?;
            let parts = transaction.parts();
            let slot_index = records / 2;
            let slot_path = Tree::of(&parts.slots).inclusion_path(slot_index as u64)?;
            let registry = genesis.registry.prove_signer(&transaction.header().signer);
            let registry = registry.context("not registered")?;
            Ok(v1::Receipt {
                record: Vec::new(),
                slot: parts.slots[slot_index].to_vec(),
                slot_index: u32::try_from(slot_index)?,
                slot_path: merkle::path_bytes(&slot_path),
                transaction_header: parts.header.to_vec(),
                transaction_signature: parts.signature.to_vec(),
                log_index: *log_index,
                log_path: merkle::path_bytes(&log_path),
                header: header.encode(),
                certificate: certificate.clone(),
                registry_entry: registry.entry,
                registry_index: registry.index,
                registry_count: registry.count,
                registry_path: merkle::path_bytes(&registry.path),
                agreements_root: Agreements::default().root().0.to_vec(),
                outcome_path: merkle::path_bytes(
                    &slots[&records].inclusion_path(slot_index as u64)?,
                ),
                outcomes_path: merkle::path_bytes(
                    &outcomes.inclusion_path(log_index + BLOCK - self.size)?,
                ),
                steps: Vec::new(),
            })
        };
        of_kind.map(receipt).collect()
    }
}

fn report_histories(
    genesis: &Genesis,
    proofs: &[v1::HistoryProof],
    entries: usize,
    name: &str,
    report: &mut Report,
) -> anyhow::Result<()> {
    let verifier = Verifier::new(genesis);
    let (mut bytes, mut times) = (vec![], vec![]);
    for proof in proofs {
        let encoded = proof.encode_to_vec();
        let begun = Instant::now();
        let history = verifier.verify_history(&encoded)?;
        times.push(begun.elapsed().as_secs_f64() * 1e3);
        ensure!(history.entries.len() == entries, "{} entries", history.entries.len());
        bytes.push(encoded.len() as f64);
    }
    let (section, goal) = (Section::Proofs, Some(Goal::AtMost(HISTORY_BYTES)));
    report.percentiles(section, name, &mut bytes, "bytes", goal);
    report.times(section, &format!("{name}, verified"), &mut times, None);
    Ok(())
}

/// A history of which only the tree and the buckets that are asked for are kept.
struct History {
    tree: HistoryTree,
    buckets: HashMap<u32, Vec<HistoryEntry>>,
}

impl History {
    fn new(genesis: &Genesis) -> anyhow::Result<Self> {
        let bits = genesis.history_bits;
        let bucket = |number| (bucket_of(&subject(number), bits), Vec::new());
        let mut buckets: HashMap<_, _> = asked(0).chain(asked(SUBJECTS)).map(bucket).collect();
        let mut heads = vec![Hash::ZERO; 1 << bits];
        for log_index in 0..COUNT {
            let key = subject(log_index % SUBJECTS);
            let entry = HistoryEntry { key, log_index, position: 0 };
            let bucket = bucket_of(&key, bits);
            let head = &mut heads[bucket as usize];
            *head = entry.chain(head);
            if let Some(entries) = buckets.get_mut(&bucket) {
                entries.push(entry);
            }
        }
        let heads = (0..).zip(heads).map(Ok::<_, std::convert::Infallible>);
        Ok(Self { tree: HistoryTree::read(bits, heads)?, buckets })
    }

    fn proofs(&self, genesis: &Genesis, first: u64) -> anyhow::Result<Vec<v1::HistoryProof>> {
        let header = Header { history_root: self.tree.root(), ..header(genesis, COUNT) };
        let certificate = offline::finalization(genesis, &header)?.encode();
        let proof = |number| {
            let key = subject(number);
            let bucket = bucket_of(&key, self.tree.bits());
            let entries = self.buckets.get(&bucket).context("a bucket that was asked for")?;
            Ok(v1::HistoryProof {
                subject_key: key.0.to_vec(),
                bucket_entries: entries.iter().flat_map(HistoryEntry::encode).collect(),
                path: merkle::path_bytes(&self.tree.path(bucket)),
                header: header.encode(),
                certificate: certificate.clone(),
            })
        };
        asked(first).map(proof).collect()
    }
}

fn subject(number: u64) -> Hash {
    Tag::SUBJECT.hash(&[&number.to_be_bytes()])
}

/// The numbers of the subjects that are asked for: there are none of the second half.
fn asked(first: u64) -> impl Iterator<Item = u64> {
    (0..HISTORIES).map(move |number| first + number * (SUBJECTS / HISTORIES))
}

/// The header of a block with which the log and the history have `size` transactions.
fn header(genesis: &Genesis, size: u64) -> Header {
    Header {
        height: size / BLOCK,
        log_start: size - BLOCK,
        log_size: size,
        history_size: size,
        view: 1,
        ..genesis.header()
    }
}
