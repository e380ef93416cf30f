//! Work on a whole store while no node runs on it: the full check, making indexes anew, and putting a
//! backup back. The rules are the ledger's ([`customhouse_ledger::chain::check`], [`customhouse_ledger::chain::rebuild`]);
//! here are the threads.

use std::{
    collections::BTreeMap,
    num::NonZero,
    panic::resume_unwind,
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use customhouse_ledger::{
    chain::{
        check::{CheckReport, Damage, StoreCheck},
        rebuild::{RebuildError, StoreRebuild},
    },
    hash::Hash,
    registry::genesis::Genesis,
    store::{FileCheck, StoreError, StoreOptions},
};

mod known;
mod pass;
mod restored;

pub use known::Known;
pub use restored::Restore;

/// Most threads.
const THREADS_MAX: usize = 8;

/// How far the work is.
#[derive(Clone, Copy, Debug)]
pub enum Progress {
    /// More bytes of files were read.
    Files {
        /// More bytes.
        bytes: u64,
        /// Bytes in all.
        of: u64,
    },
    /// Going through the blocks: what is done, and what for.
    Blocks {
        /// Which pass it is.
        pass: Pass,
        /// Blocks so far.
        done: u64,
        /// Blocks in all; 0 where that is not known.
        of: u64,
        /// Records in them so far.
        records: u64,
    },
    /// This many more index rows were compared.
    IndexRows(u64),
}

/// What blocks are gone through for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// To verify and execute them.
    Check,
    /// To find out which index rows are wrong.
    Locate,
    /// To verify them before a rebuild changes anything.
    Survey,
    /// To write their index rows.
    Rebuild,
}

/// Checks a whole store. `known` is what others remember of the chain's newest blocks.
///
/// # Errors
/// What keeps the store from being looked at. Damage is not an error, unless nothing else can be seen.
pub fn check(
    path: &Path,
    genesis: &Genesis,
    options: &StoreOptions,
    known: &[Known],
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<CheckReport, StoreError> {
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(|error| StoreError::Io(error.to_string()))?;
    let mut check = StoreCheck::open(path, genesis, options, &key)?;
    check_files(&mut check, progress);
    check_blocks(&mut check, Pass::Check, progress)?;
    if !check.is_stopped() {
        let (tables, scanned) = (check.tables(), |rows| progress(Progress::IndexRows(rows)));
        let sums = on_all_cores(&tables, |table| table.scan(scanned));
        if check.compare(sums) {
            check.begin_to_locate();
            check_blocks(&mut check, Pass::Locate, progress)?;
        }
    }
    for known in known {
        let block_hash = check.block_hash(known.height);
        let tip = check.tip().header.height;
        block_hash
            .map_or_else(|error| Some(error.into()), |hash| known.missed(tip, hash))
            .into_iter()
            .for_each(|damage| check.add(damage));
    }
    Ok(check.finish())
}

fn check_blocks(
    check: &mut StoreCheck,
    pass: Pass,
    progress: &dyn Fn(Progress),
) -> Result<(), StoreError> {
    let reader = check.reader();
    let (mut done, of) = (0, reader.blocks_expected());
    pass::in_order(&reader, cores(), |block| {
        let goes_on = check.apply(block);
        done += 1;
        progress(Progress::Blocks { pass, done, of, records: check.records() });
        goes_on
    })
    .map_err(|error| StoreError::Io(error.to_string()))
}

/// Makes all indexes of a store anew. Returns the height of its tip and how many records there are.
///
/// # Errors
/// [`RebuildError`].
pub fn rebuild(
    path: &Path,
    genesis: &Genesis,
    options: &StoreOptions,
    progress: &dyn Fn(Progress),
) -> Result<Rebuilt, RebuildError> {
    let mut rebuild = StoreRebuild::open(path, genesis, options)?;
    rebuild_blocks(&mut rebuild, Pass::Survey, progress)?;
    rebuild.begin()?;
    rebuild_blocks(&mut rebuild, Pass::Rebuild, progress)?;
    let records = rebuild.records();
    let tip = rebuild.finish()?;
    Ok(Rebuilt { height: tip.header.height, block_hash: tip.hash, records })
}

/// A store whose indexes were made anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rebuilt {
    /// Height of its tip.
    pub height: u64,
    /// Hash of its tip.
    pub block_hash: Hash,
    /// Records on it.
    pub records: u64,
}

fn rebuild_blocks(
    rebuild: &mut StoreRebuild,
    pass: Pass,
    progress: &dyn Fn(Progress),
) -> Result<(), RebuildError> {
    let reader = rebuild.reader();
    let (mut done, of) = (0, reader.blocks_expected());
    let mut outcome = Ok(());
    let passed = pass::in_order(&reader, cores(), |block| {
        outcome = match pass {
            Pass::Survey => rebuild.survey(block),
            _ => rebuild.apply(block),
        };
        done += 1;
        progress(Progress::Blocks { pass, done, of, records: rebuild.records() });
        outcome.is_ok()
    });
    outcome.and(passed.map_err(|error| StoreError::Io(error.to_string()).into()))
}

/// Reads all files, each on one thread.
fn check_files(check: &mut StoreCheck, progress: &(dyn Fn(Progress) + Sync)) {
    let files = check.files();
    let of = files.iter().map(FileCheck::bytes).sum();
    let states =
        on_all_cores(&files, |file| file.read(|bytes| progress(Progress::Files { bytes, of })));
    files.iter().zip(states).for_each(|(file, state)| check.add_file(file, state));
}

/// Works on each item, each on one thread. The results are in the items' order.
fn on_all_cores<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let (next, results) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let work_on = || loop {
        let index = next.fetch_add(1, Ordering::Relaxed);
        let Some(item) = items.get(index) else { break };
        let result = work(item);
        results.lock().unwrap_or_else(PoisonError::into_inner).insert(index, result);
    };
    thread::scope(|scope| {
        // Where the system gives no thread, the others do its share.
        let spawn = |_| thread::Builder::new().spawn_scoped(scope, work_on).ok();
        let others: Vec<_> = (1..cores().min(items.len())).filter_map(spawn).collect();
        work_on();
        for other in others {
            other.join().unwrap_or_else(|panic| resume_unwind(panic));
        }
    });
    results.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().collect()
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get).min(THREADS_MAX)
}

/// Damage that keeps RocksDB from opening a store, as the only thing that is known of it.
pub fn damage_of(error: &StoreError) -> Option<Damage> {
    let keeps = error.is_corruption() || matches!(error, StoreError::HalfRebuilt);
    keeps.then(|| error.clone().into())
}
