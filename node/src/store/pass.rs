//! A store's blocks: read on one thread, verified on all cores, and handed on in order.
//!
//! The reader deals batches out to the workers in turn, and they are taken from the workers in the same
//! turn: so they come in order, and no more than a few batches a worker are ever in memory.

use std::{
    io,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
};

use customhouse_ledger::{
    chain::check::{BlockReader, Damage, StoredBlock, VerifiedBlock},
    hash::Hash,
};

/// Bytes of transactions at which a batch is sent on.
const BATCH_BYTES: usize = 1 << 20;
/// Most blocks of a batch: those of an idle chain are mostly empty.
const BATCH_BLOCKS_MAX: usize = 256;
/// Batches that wait before and after each worker.
const WAITING: usize = 1;

type Stored = Vec<Result<StoredBlock, Damage>>;
type Verified = Vec<Result<VerifiedBlock, Damage>>;

/// Hands all blocks to `each`, in order, until it says that it wants no more.
///
/// # Errors
/// The system gives no threads.
pub(super) fn in_order(
    reader: &BlockReader,
    workers: usize,
    mut each: impl FnMut(Result<VerifiedBlock, Damage>) -> bool,
) -> io::Result<()> {
    let chain_id = reader.chain_id();
    thread::scope(|scope| {
        let (mut to_workers, mut from_workers) = (Vec::new(), Vec::new());
        for _ in 0..workers.max(1) {
            let (dealt, batches) = sync_channel(WAITING);
            let (verified, results) = sync_channel(WAITING);
            thread::Builder::new()
                .spawn_scoped(scope, move || verify(&batches, &verified, &chain_id))?;
            to_workers.push(dealt);
            from_workers.push(results);
        }
        thread::Builder::new().spawn_scoped(scope, move || deal(reader, &to_workers))?;
        // The first worker that has no more is the one whose turn it was when the reader had none.
        for results in from_workers.iter().cycle() {
            let Ok(batch) = results.recv() else { break };
            if !batch.into_iter().all(&mut each) {
                break;
            }
        }
        // Those that still work have nobody to hand on to, and end.
        Ok(())
    })
}

fn deal(reader: &BlockReader, workers: &[SyncSender<Stored>]) {
    let mut blocks = reader.blocks();
    for worker in workers.iter().cycle() {
        let mut bytes = 0;
        let mut batch = Vec::new();
        while bytes < BATCH_BYTES && batch.len() < BATCH_BLOCKS_MAX {
            let Some(block) = blocks.next() else { break };
            bytes += block.as_ref().map_or(0, StoredBlock::bytes);
            batch.push(block);
        }
        if batch.is_empty() || worker.send(batch).is_err() {
            break;
        }
    }
}

fn verify(batches: &Receiver<Stored>, verified: &SyncSender<Verified>, chain_id: &Hash) {
    for batch in batches {
        let verify = |block: Result<StoredBlock, Damage>| block.and_then(|b| b.verify(chain_id));
        if verified.send(batch.into_iter().map(verify).collect()).is_err() {
            break;
        }
    }
}
