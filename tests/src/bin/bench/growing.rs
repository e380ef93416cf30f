//! What a ledger costs as it grows: its history index, its start, and what is asked of it. Chains
//! without a network are grown tenfold again and again.

use std::{path::Path, time::Instant};

use anyhow::{Context as _, ensure};
use customhouse_ledger::{
    chain::{Chain, ChainReader},
    hash::Hash,
    proofs::verifier::Verifier,
    registry::genesis::Genesis,
    store::StoreOptions,
};
use prost::Message as _;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;

use crate::{
    offline::{self, Kind},
    report::{Report, Section},
    usage::{self, Disk, Usage},
};

const SECTION: Section = Section::GrowingLedger;
/// Records after which something is measured, as far as the ledger grows.
const STAGES: [u64; 4] = [10_000, 100_000, 1_000_000, 10_000_000];
/// Nothing is asked of a ledger with fewer records.
const ASKED_FROM: u64 = 100_000;
/// Records that are asked for at each stage.
const ASKED: usize = 1_000;
/// Records between two lines of progress.
const PROGRESS: u64 = 100_000;
/// Most entries of a history query.
const ENTRIES_MAX: usize = 100;
/// The ledger that is asked.
const FEW: Kind = Kind { a_signature: 100, containers: 1 };
/// The same records with more subjects: the difference is what these cost.
const MANY: Kind = Kind { a_signature: 100, containers: 8 };
/// Most records of the ledger with many subjects: they have 10⁷ entries.
const MANY_RECORDS_MAX: u64 = 1_000_000;

/// Grows ledgers up to the last stage of at most `records_max` records.
pub(crate) fn measure(dir: &Path, records_max: u64, report: &mut Report) -> anyhow::Result<()> {
    let few = grow(dir, FEW, records_max, report)?;
    let many = grow(dir, MANY, records_max.min(MANY_RECORDS_MAX), report)?;
    report_index_costs(&few, &many, report);
    Ok(())
}

/// What one stage took beside making its records.
struct Stage {
    records: u64,
    cpu_s: f64,
    bytes_written: f64,
}

fn grow(
    dir: &Path,
    kind: Kind,
    records_max: u64,
    report: &mut Report,
) -> anyhow::Result<Vec<Stage>> {
    let mut ledger = Ledger::new(dir, kind)?;
    let mut medians = Vec::new();
    let mut stages = Vec::new();
    for records in STAGES.into_iter().filter(|records| *records <= records_max) {
        stages.push(ledger.grow_to(records, report)?);
        if kind.containers == FEW.containers && records >= ASKED_FROM {
            ledger.report_size(report)?;
            medians.push(ask(&ledger, report)?);
        }
    }
    if let [first, .., last] = &medians[..] {
        for ((name, first), (_, last)) in first.iter().zip(last) {
            let name = format!("{name}, of the largest to the smallest");
            report.figure(SECTION, name, last / first, "times");
        }
    }
    Ok(stages)
}

struct Ledger {
    kind: Kind,
    genesis: Genesis,
    dir: TempDir,
    /// `None` only while it is opened again.
    chain: Option<Chain>,
    records: u64,
}

impl Ledger {
    fn new(dir: &Path, kind: Kind) -> anyhow::Result<Self> {
        let (genesis, dir) = (offline::genesis()?, tempfile::tempdir_in(dir)?);
        let chain = Some(Chain::open(dir.path(), &genesis, &StoreOptions::default())?);
        Ok(Self { kind, genesis, dir, chain, records: 0 })
    }

    fn reader(&self) -> anyhow::Result<ChainReader> {
        Ok(self.chain.as_ref().context("not open")?.reader())
    }

    /// Appends records until there are `records`, and opens the ledger anew: then all that was
    /// written is in files, so that stages can be compared.
    fn grow_to(&mut self, records: u64, report: &mut Report) -> anyhow::Result<Stage> {
        let added = records - self.records;
        let (cpu_s, written) = (own_cpu_s()?, usage::bytes_written()?);
        let making_s = self.append(records)?;
        let cpu_s = own_cpu_s()? - cpu_s - making_s;
        self.open_anew(report)?;
        let bytes_written = (usage::bytes_written()? - written) as f64;
        Ok(Stage { records: added, cpu_s, bytes_written })
    }

    /// Appends records until there are `records`. Gives the processor time that making them took.
    fn append(&mut self, records: u64) -> anyhow::Result<f64> {
        let mut making_s = 0.0;
        let chain = self.chain.as_mut().context("not open")?;
        let mut blocks = self.kind.blocks(&self.genesis, self.records..records);
        loop {
            let before = usage::thread_cpu_s()?;
            let Some(transactions) = blocks.next() else { break };
            making_s += usage::thread_cpu_s()? - before;
            offline::commit(chain, &self.genesis, transactions?)?;
            let done = chain.tip().header.log_size * self.kind.a_signature;
            if done.is_multiple_of(PROGRESS) {
                eprintln!("{done} of {records} records, {} subjects each", self.kind.subjects());
            }
        }
        self.records = records;
        Ok(making_s)
    }

    fn open_anew(&mut self, report: &mut Report) -> anyhow::Result<()> {
        let entries = self.records * self.kind.subjects();
        for what in ["opened with what was last written", "opened again"] {
            self.chain = None;
            let begun = Instant::now();
            let chain = Chain::open(self.dir.path(), &self.genesis, &StoreOptions::default())?;
            let time_ms = begun.elapsed().as_secs_f64() * 1e3;
            self.chain = Some(chain);
            report.figure(SECTION, format!("{entries} entries, {what}"), time_ms, "ms");
        }
        Ok(())
    }

    /// Ids of random records, and the key of a subject of each.
    fn choose(&self, random: &mut ChaCha8Rng) -> anyhow::Result<Vec<Asked>> {
        let chosen = (0..ASKED).map(|_| {
            let record = self.kind.record(random.random_range(0..self.records))?;
            let subject = random.random_range(0..record.subject_keys.len());
            Ok(Asked { record: record.id, subject: record.subject_keys[subject] })
        });
        chosen.collect()
    }

    /// What it has become, beside what is asked of it.
    fn report_size(&self, report: &mut Report) -> anyhow::Result<()> {
        let disk = Disk::of(self.dir.path()).all as f64 / self.records as f64;
        let name = format!("{} records, on disk", self.records);
        report.figure(SECTION, name, disk, "bytes a record");
        let memory = Usage::of(std::process::id())?.resident_mb;
        let name = format!("{} records, memory of this process", self.records);
        report.figure(SECTION, name, memory, "MB");
        Ok(())
    }
}

struct Asked {
    record: Hash,
    subject: Hash,
}

/// Asks something, says how long that took, and checks the answer.
type Question = fn(&ChainReader, &Verifier, &Asked) -> anyhow::Result<f64>;

/// Asks everything of other random records, and of the same once more. Gives the medians.
fn ask(ledger: &Ledger, report: &mut Report) -> anyhow::Result<Vec<(String, f64)>> {
    let reader = ledger.reader()?;
    let verifier = Verifier::new(&ledger.genesis);
    let mut random = ChaCha8Rng::seed_from_u64(ledger.records);
    let questions: [(&str, Question); 3] =
        [("receipt", receipt), ("history query", history), ("history proof", history_proof)];
    let mut medians = Vec::new();
    for (what, question) in questions {
        let chosen = ledger.choose(&mut random)?;
        for state in ["caches as they are", "warm"] {
            let times = chosen.iter().map(|asked| question(&reader, &verifier, asked));
            let mut times = times.collect::<Result<Vec<_>, _>>()?;
            let name = format!("{what}, {state}");
            let of = format!("{} records, {name}", ledger.records);
            let median = report.times(SECTION, &of, &mut times, None);
            medians.push((name, median.context("nothing was asked")?));
        }
    }
    Ok(medians)
}

fn receipt(reader: &ChainReader, verifier: &Verifier, asked: &Asked) -> anyhow::Result<f64> {
    let (receipt, time_ms) = timed(|| reader.receipt(&asked.record));
    let receipt = receipt?.context("a record without a receipt")?;
    let verified = verifier.verify_receipt(&receipt.encode_to_vec())?;
    ensure!(verified.slot.record_id == asked.record, "the receipt of another record");
    Ok(time_ms)
}

fn history(reader: &ChainReader, _: &Verifier, asked: &Asked) -> anyhow::Result<f64> {
    let (entries, time_ms) = timed(|| reader.history(&asked.subject, None, ENTRIES_MAX));
    ensure!(!entries?.is_empty(), "a record that is not in its subject's history");
    Ok(time_ms)
}

fn history_proof(reader: &ChainReader, verifier: &Verifier, asked: &Asked) -> anyhow::Result<f64> {
    let (proof, time_ms) = timed(|| reader.history_proof(&asked.subject));
    let proven = verifier.verify_history_of(&asked.subject, &proof?.encode_to_vec())?;
    let entries = reader.history(&asked.subject, None, ENTRIES_MAX)?;
    ensure!(proven.entries == entries, "another history than the proven one");
    Ok(time_ms)
}

/// A result, and the milliseconds that it took.
fn timed<T>(run: impl FnOnce() -> T) -> (T, f64) {
    let begun = Instant::now();
    let result = run();
    (result, begun.elapsed().as_secs_f64() * 1e3)
}

/// The difference of two ledgers that differ in the subjects of their records only. Its bytes are
/// also those of the subjects' ids in the records and of their keys in the slots.
fn report_index_costs(few: &[Stage], many: &[Stage], report: &mut Report) {
    let mut entries = 0;
    for (few, many) in few.iter().zip(many) {
        entries += many.records * MANY.subjects();
        let added = (many.records * (MANY.subjects() - FEW.subjects())) as f64;
        let cpu_us = (many.cpu_s - few.cpu_s) * 1e6 / added;
        report.figure(
            SECTION,
            format!("a subject, up to {entries} entries"),
            cpu_us,
            "µs of processor",
        );
        let bytes = (many.bytes_written - few.bytes_written) / added;
        report.figure(
            SECTION,
            format!("a subject, up to {entries} entries"),
            bytes,
            "bytes written",
        );
    }
}

fn own_cpu_s() -> anyhow::Result<f64> {
    Ok(Usage::of(std::process::id())?.cpu_s)
}
