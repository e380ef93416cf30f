//! How records ended whose slots became no-ops: refused, or as the first with their dedupe key, where that is the
//! same submission. That takes reading both transactions, so the worker leaves it to whoever asks: what is
//! submitted meanwhile does not wait for it. One such end is told at a time, however many are asked for.

use std::sync::Arc;

use bytes::Bytes;
use customhouse_ledger::{
    chain::{ChainReader, SlotOutcome},
    hash::Hash,
    store::StoreError,
};
use customhouse_proto::v1;
use prost::Message as _;
use tokio::{sync::Mutex, task};

use super::{
    End, SubmissionRefusal,
    ends::{duplicate, refused},
    looked_up::{LookedUp, Transaction},
    outbox::AcceptedRecord,
    outcome::First,
    prepare::says_the_same,
};
use crate::{
    metrics::Metrics,
    sealed::{Holdings, SealedId},
};

/// A slot that became a no-op.
#[derive(Debug)]
pub(super) struct NoOp {
    transaction_id: Hash,
    slot_index: u32,
}

/// Tells how they ended. Cheap to clone.
#[derive(Clone)]
pub(super) struct NoOps {
    pub(super) looked_up: Arc<Mutex<LookedUp>>,
    metrics: Metrics,
    /// The bytes of sealed records, where the node has a vault.
    holdings: Option<Holdings>,
}

impl NoOps {
    pub(super) fn new(reader: ChainReader, metrics: Metrics, holdings: Option<Holdings>) -> Self {
        Self { looked_up: Arc::new(Mutex::new(LookedUp::new(reader))), metrics, holdings }
    }

    /// How the record of a slot ended, by the ledger. A read may wait for the disk: not on an async worker.
    pub(super) async fn end_of(&self, no_op: NoOp) -> Result<End, SubmissionRefusal> {
        let mut looked_up = Arc::clone(&self.looked_up).lock_owned().await;
        let holdings = self.holdings.clone();
        let told = task::spawn_blocking(move || end_of(&mut looked_up, holdings.as_ref(), &no_op));
        let told = told.await;
        // It fails only where the runtime is going down.
        told.map_err(|_| SubmissionRefusal::ShuttingDown)?.map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &StoreError) -> SubmissionRefusal {
        tracing::error!(%error, "the end of a submission cannot be read");
        if error.is_corruption() {
            self.metrics.store_corruption();
        }
        SubmissionRefusal::Store(error.to_string())
    }
}

impl From<AcceptedRecord> for NoOp {
    fn from(accepted: AcceptedRecord) -> Self {
        let AcceptedRecord { transaction_id, slot_index, .. } = accepted;
        Self { transaction_id, slot_index }
    }
}

fn end_of(
    looked_up: &mut LookedUp,
    holdings: Option<&Holdings>,
    no_op: &NoOp,
) -> Result<End, StoreError> {
    let NoOp { transaction_id, slot_index } = no_op;
    let Some(log_index) = looked_up.reader().log_index(transaction_id)? else {
        return Ok(duplicate());
    };
    let outcome = looked_up.outcomes(log_index)?.get(*slot_index as usize).copied();
    let (first, position) = match outcome {
        Some(SlotOutcome::Duplicate { log_index, position }) => (log_index, position),
        Some(SlotOutcome::Refused(reason)) => return Ok(refused(reason)),
        Some(SlotOutcome::Applied) => {
            let height = looked_up.height_of(log_index)?;
            return Ok(End::Final { height, log_index, slot_index: *slot_index });
        }
        None => return Ok(duplicate()),
    };
    let own = looked_up.transaction(log_index)?;
    let Some(first) = looked_up.transaction(first)? else { return Ok(duplicate()) };
    let Some(own) = own else { return Ok(duplicate()) };
    let (own, record) =
        (record_of(&own, *slot_index, holdings), record_of(&first, position, holdings));
    let (Some(own), Some(record)) = (own, record) else { return Ok(duplicate()) };
    let same = match (v1::Record::decode(&own[..]), v1::Record::decode(&record[..])) {
        (Ok(own), Ok(first)) => says_the_same(&own, first),
        _ => false,
    };
    if !same {
        return Ok(duplicate());
    }
    Ok(End::Repeat(First {
        record_id: first.record_id(position)?,
        transaction_id: first.id,
        height: first.height,
        log_index: first.log_index,
        slot_index: position,
    }))
}

/// The bytes of a slot's record, wherever they are.
fn record_of(
    transaction: &Transaction,
    position: u32,
    holdings: Option<&Holdings>,
) -> Option<Bytes> {
    if let Some(open) = transaction.record(position) {
        return Some(open.clone());
    }
    let (record_id, agency) = (transaction.record_id(position).ok()?, transaction.agency()?);
    holdings?.record(&SealedId { agency, record_id }).ok()?
}
