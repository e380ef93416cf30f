//! The worker: one thread that gathers submissions, makes them durable, and ends them.
//!
//! Submissions, commits and questions come through one queue, so that none can overtake another: a
//! record is either found on the ledger, or in the outbox, or it was never accepted. While the disk
//! syncs one gathering, the next one grows: under load many records share one signature and one
//! sync, and an idle node waits for nothing.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use customhouse_ledger::{
    agency::AgencyCode,
    authority::Stated,
    chain::{BlockOutcome, ChainReader, DedupePlace, TransactionInvalid},
    hash::Hash,
    keys::{PublicKey, SigningKey},
    registry::{parameters::Parameters, signer_of},
    store::StoreError,
    transaction::VerifiedTransaction,
};
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use super::{
    Accepted, BEHIND_MS_MAX, End, SubmissionParts, SubmissionRefusal,
    gathering::{
        Gathered, Gathering, Plan, SealedTransaction, Signing, held_bytes, signed_by_clients,
    },
    held::{Held, Placed},
    job::Job,
    looked_up::{Lodged, LookedUp},
    outbox::{Changes, Outbox, OutboxError, RecordState},
    prepare::{Prepared, check_parameters, content},
    references::Targets,
    shares::{Parts, Shares},
    waiting::Waiting,
};
use crate::{
    admission::{Admission, AdmissionError},
    clock,
    mempool::MempoolError,
    metrics::Metrics,
    network::NetworkHandle,
    sealed::{Holdings, error::SealedStoreError},
};

/// The first submission after a pause is sealed at once; those that come within this time of it are
/// sealed together, because every transaction costs each node a signature's check. It is about the
/// shortest time in which a block is decided: a record that waits would have missed that block.
const SEALING_PACE: Duration = Duration::from_millis(5);
/// What clients have signed and is held back has at most this part of what may wait here.
const HELD_PART: u64 = 4;

/// Why the worker stopped. Fatal: what was accepted can no longer be kept.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The outbox failed.
    #[error("{0}")]
    Outbox(#[from] OutboxError),
    /// The ledger's store failed.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The store of sealed records failed.
    #[error("{0}")]
    Sealed(#[from] SealedStoreError),
}

pub(super) struct Worker {
    pub(super) outbox: Outbox,
    pub(super) reader: ChainReader,
    pub(super) admission: Admission,
    network: NetworkHandle,
    pub(super) agency: AgencyCode,
    signing_key: SigningKey,
    metrics: Metrics,
    pub(super) waiting: Waiting,
    /// Each pending transaction, by the time after which it can no longer be committed.
    pub(super) pending: BTreeMap<(u64, Hash), Pending>,
    pending_bytes: u64,
    pending_bytes_max: u64,
    /// What clients have of it.
    shares: Shares,
    /// Accepted, but not in the mempool for want of room.
    pub(super) unplaced: BTreeMap<Hash, Arc<VerifiedTransaction>>,
    /// Accepted, and no block may take it as the registry is.
    unregistered: BTreeMap<Hash, Arc<VerifiedTransaction>>,
    /// Accepted, and handed on after what it refers to.
    pub(super) held: Held,
    /// The retries of a client that sends all it has again come in the order of the first time.
    pub(super) looked_up: LookedUp,
    /// Under which the outbox has what records say.
    content_secret: Arc<Zeroizing<[u8; 32]>>,
    /// When the last gathering was sealed.
    sealed: Option<Instant>,
    /// The parameters that all that is pending was held against; none yet by this process.
    pub(super) fitted: Option<Parameters>,
    /// The bytes of sealed records, where the node has a vault.
    pub(super) holdings: Option<Holdings>,
}

/// A transaction that is not final yet.
pub(super) struct Pending {
    bytes: u64,
    /// What it has of each client's share, where this process has signed it.
    parts: Parts,
}

impl Worker {
    pub(super) fn new(
        outbox: Outbox,
        parts: SubmissionParts,
        content_secret: Arc<Zeroizing<[u8; 32]>>,
    ) -> Self {
        let looked_up = LookedUp::new(parts.reader.clone());
        Self {
            outbox,
            reader: parts.reader,
            admission: parts.admission,
            network: parts.network,
            agency: parts.agency,
            signing_key: parts.signing_key,
            metrics: parts.metrics,
            waiting: Waiting::default(),
            pending: BTreeMap::new(),
            pending_bytes: 0,
            pending_bytes_max: parts.outbox_bytes_max,
            shares: Shares::default(),
            unplaced: BTreeMap::new(),
            unregistered: BTreeMap::new(),
            held: Held::default(),
            looked_up,
            content_secret,
            sealed: None,
            fitted: None,
            holdings: parts.holdings,
        }
    }

    /// Runs until every sender of jobs is gone, or the disk fails.
    pub(super) fn run(mut self, mut jobs: mpsc::Receiver<Job>) -> Result<(), WorkerError> {
        self.resume()?;
        while let Some(job) = jobs.blocking_recv() {
            let mut gathering = Gathering::default();
            self.take(job, &mut gathering)?;
            while !gathering.is_full() {
                match jobs.try_recv() {
                    Ok(job) => self.take(job, &mut gathering)?,
                    Err(_) if gathering.is_empty() || self.rested() => break,
                    Err(_) => {}
                }
            }
            self.seal(gathering)?;
        }
        Ok(())
    }

    /// Takes up what was pending when the node stopped.
    fn resume(&mut self) -> Result<(), WorkerError> {
        let pending: Vec<_> = self.outbox.pending().collect::<Result<_, _>>()?;
        let mut waiting = Vec::new();
        for (id, encoded) in pending {
            let verified = VerifiedTransaction::from_bytes(encoded.into(), &self.reader.chain_id());
            let Ok(transaction) = verified else {
                let (family, key) = ("transactions", id.to_string());
                return Err(OutboxError::Damaged { family, key }.into());
            };
            let transaction = Arc::new(transaction);
            if self.reader.transaction(&id)?.is_some() {
                self.end_committed(&transaction)?;
            } else {
                self.add_pending(&transaction, Parts::new());
                waiting.push(transaction);
            }
        }
        // None before it is known which of them have ended.
        for transaction in waiting {
            self.place_in_order(transaction)?;
        }
        self.place_the_unplaced();
        Ok(())
    }

    /// Whether the last gathering was sealed a while ago; where not, waits until then.
    fn rested(&self) -> bool {
        let Some(sealed) = self.sealed else { return true };
        let rest = SEALING_PACE.saturating_sub(sealed.elapsed());
        if !rest.is_zero() {
            std::thread::sleep(rest);
        }
        rest.is_zero()
    }

    fn take(&mut self, job: Job, gathering: &mut Gathering) -> Result<(), WorkerError> {
        match job {
            Job::Records { records, reply } => {
                let mut plans = Vec::with_capacity(records.len());
                for prepared in records {
                    plans.push(self.plan(prepared, gathering)?);
                }
                gathering.answer_records(plans, reply);
            }
            Job::Transaction { transaction, reply } => {
                let plan = self.plan_transaction(transaction, gathering)?;
                gathering.answer_transaction(plan, reply);
            }
            Job::WaitRecord { record_id, reply } => self.wait_record(record_id, reply)?,
            Job::WaitTransaction { id, reply } => self.wait_transaction(id, reply)?,
            Job::Committed(committed) => self.committed(&committed)?,
            Job::LookAgain => self.look_again()?,
            Job::Ping(reply) => _ = reply.send(()),
        }
        Ok(())
    }

    /// What is to be done with a record: nothing, where its key was used before.
    fn plan(&mut self, prepared: Prepared, gathering: &mut Gathering) -> Result<Plan, WorkerError> {
        let conflict = |first| SubmissionRefusal::AlreadyExists {
            key: prepared.idempotency_key.clone(),
            first,
        };
        if let Some(sealed) = &prepared.sealed
            && let Some(plan) = self.plan_repeat(&prepared, sealed)?
        {
            return Ok(plan);
        }
        if prepared.sealed.is_none()
            && let Some(place) = self.reader.dedupe(&self.agency, &prepared.dedupe_key)?
        {
            let record_id = place.record_id;
            let Some(first) = self.first_of(&prepared, &place)? else {
                return Ok(Plan::Done(Err(conflict(record_id))));
            };
            let (height, log_index, slot_index) = (first.height, place.log_index, place.position);
            let end = Some(End::Final { height, log_index, slot_index });
            return Ok(Plan::Done(Ok(Accepted {
                record_id,
                transaction_id: first.transaction_id,
                end,
            })));
        }
        if let Some(first) = gathering.record_of_key(&prepared.dedupe_key) {
            return Ok(match first {
                (index, first) if first.content == prepared.content => Plan::Record(index),
                (_, first) => Plan::Done(Err(conflict(first.record.id))),
            });
        }
        if let Some((record_id, first, content)) = self.accepted_before(&prepared)? {
            if first.content != content {
                return Ok(Plan::Done(Err(conflict(record_id))));
            }
            if first.state == RecordState::Pending {
                let (transaction_id, end) = (first.transaction_id, None);
                return Ok(Plan::Done(Ok(Accepted { record_id, transaction_id, end })));
            }
            // Expired, or refused by a block: the same submission is tried again, as a new record.
        }
        let mut targets = Targets::There;
        // The parameters may have changed since it was prepared; what is signed beside it is to be signed.
        let parameters = self.reader.tip().parameters;
        let fits = match &prepared.sealed {
            None => check_parameters(&prepared.record, &parameters),
            Some(sealed) => self.check_epoch(&prepared.record, sealed, &parameters),
        };
        if let Err(refusal) = fits {
            return Ok(Plan::Done(Err(refusal)));
        }
        if let Some(stated) = Stated::of(&prepared.record.record) {
            if let Err(refusal) = self.check_own_key(&stated) {
                return Ok(Plan::Done(Err(refusal)));
            }
            let checked = match prepared.sealed {
                Some(_) => self.check_sealed_references(stated)?,
                None => self.check_references(self.agency, &[Some(stated)], &[])?,
            };
            targets = match checked {
                // No block asks what a sealed record refers to, so that it waits for nothing.
                Ok(_) if prepared.sealed.is_some() => Targets::There,
                Ok(targets) => targets,
                Err(refusal) => return Ok(Plan::Done(Err(refusal))),
            };
        }
        let Some(room) = self.room(self.agency, &self.signing_key.public()) else {
            return Ok(Plan::Done(Err(full("too much waits to become final"))));
        };
        let client = &prepared.record.record.submitter;
        // It may have a transaction of its own, of which there may be so many, too.
        let share = held_bytes(&prepared).max(self.admission.least_bytes()) as u64;
        if !self.shares.has_room(client, share, room) {
            return Ok(Plan::Done(Err(full("too much of this client waits to become final"))));
        }
        let client = self.shares.add(client, share);
        Ok(gathering.add_record(Gathered { prepared, client, share, targets, refused: None }))
    }

    /// Whether a record that this node signs could be committed. A node whose registry does not have its key
    /// may not have come to the block that registers it; a key that has ended is over. One that is registered
    /// for another agency or role is asked of each record, so that it stops nothing beside it.
    fn check_own_key(&self, stated: &Stated) -> Result<(), SubmissionRefusal> {
        let (tip, key) = (self.reader.tip(), self.signing_key.public());
        if let Some(signer) = tip.registry.signer_at(&key, tip.header.height + 1) {
            if signer.agency != self.agency {
                let (registered, stated) = (signer.agency, self.agency);
                let other = AdmissionError::OtherAgency { key, registered, stated };
                return Err(SubmissionRefusal::not_permitted(&other));
            }
            return signer.check(stated).map_err(|refused| SubmissionRefusal::NotPermitted {
                code: refused.code(),
                reason: format!("this node's signing key may not sign it: record.{refused}"),
            });
        }
        let known = tip.registry.entries().any(|entry| signer_of(entry, &key).is_some());
        let behind = clock::unix_ms().saturating_sub(tip.header.time_ms) > BEHIND_MS_MAX;
        Err(match !known && behind {
            true => SubmissionRefusal::CatchingUp { height: tip.header.height },
            false => SubmissionRefusal::not_permitted(&AdmissionError::UnknownSigner(key)),
        })
    }

    /// Where the record at a place is that says the same as another, whose salt was drawn anew.
    fn first_of(
        &mut self,
        prepared: &Prepared,
        place: &DedupePlace,
    ) -> Result<Option<Lodged>, WorkerError> {
        let secret = &self.content_secret;
        let content = |record: &_| content(secret, record);
        let lodged = self.looked_up.lodged((place.log_index, place.position), content)?;
        Ok(lodged.filter(|lodged| lodged.content == prepared.content))
    }

    /// One record waits in one transaction. Else what becomes of the one would say nothing of the record, nor of
    /// what refers to it.
    fn waits_already(
        &self,
        transaction: &VerifiedTransaction,
        gathering: &Gathering,
    ) -> Result<Option<SubmissionRefusal>, WorkerError> {
        if let Some(record) = gathering.record_in_both(transaction) {
            return Ok(Some(SubmissionRefusal::RecordWaits(record)));
        }
        for record in signed_by_clients(transaction) {
            if let Some(row) = self.outbox.record(&record)?
                && row.state == RecordState::Pending
                && row.transaction_id != transaction.id()
                && self.outbox.is_pending(&row.transaction_id)?
            {
                return Ok(Some(SubmissionRefusal::RecordWaits(record)));
            }
        }
        Ok(None)
    }

    fn plan_transaction(
        &mut self,
        transaction: Arc<VerifiedTransaction>,
        gathering: &mut Gathering,
    ) -> Result<Plan, WorkerError> {
        let transaction_id = transaction.id();
        let record_id = transaction.first_record_id();
        if self.outbox.transaction(&transaction_id)?.is_some() {
            return Ok(Plan::Done(Ok(Accepted { record_id, transaction_id, end: None })));
        }
        match self.admission.check(&transaction, clock::unix_ms()) {
            Ok(()) => {}
            Err(AdmissionError::Committed(_)) => {
                let end = self.end_of_transaction(&transaction_id)?;
                return Ok(Plan::Done(Ok(Accepted { record_id, transaction_id, end })));
            }
            Err(error) => return Ok(Plan::Done(Err(refusal(error)?))),
        }
        let (agency, slots) = (transaction.header().agency, transaction.slots());
        if let Some(refusal) = self.waits_already(&transaction, gathering)? {
            return Ok(Plan::Done(Err(refusal)));
        }
        if let Err(refusal) = self.check_references(agency, transaction.stated(), slots)? {
            return Ok(Plan::Done(Err(refusal)));
        }
        let signer = &transaction.header().signer;
        let room = self.room(transaction.header().agency, signer);
        let held_max = self.pending_bytes_max / HELD_PART;
        if room.is_none_or(|room| self.held.is_full_of(signer, room.min(held_max), held_max)) {
            return Ok(Plan::Done(Err(full("too much waits to become final"))));
        }
        Ok(gathering.add_transaction(transaction))
    }

    /// Signs what was gathered, hands it on, makes it durable, and only then answers.
    fn seal(&mut self, mut gathering: Gathering) -> Result<(), WorkerError> {
        if gathering.is_empty() {
            gathering.answer(&[]);
            return Ok(());
        }
        let parameters = self.reader.tip().parameters;
        let now_ms = clock::unix_ms();
        let not_after_ms = now_ms + parameters.transaction_lifetime_ms_max;
        self.keep_sealed(&mut gathering, not_after_ms)?;
        let signing = Signing {
            agency: self.agency,
            not_after_ms,
            chain_id: &self.reader.chain_id(),
            key: &self.signing_key,
            parameters: &parameters,
        };
        let door = |transaction: &VerifiedTransaction| {
            let checked = self.admission.check(transaction, now_ms);
            checked.map_or_else(|error| refusal(error).map(Err), |()| Ok(Ok(())))
        };
        let sealed = gathering.seal(&signing, door)?;
        let mut changes = Changes::default();
        for SealedTransaction { transaction, contents, .. } in &sealed.transactions {
            self.outbox.accept(&mut changes, transaction, contents)?;
        }
        self.shares.give_back(&sealed.unsigned);
        // They may reach the peers before they are on this disk. Until then nothing is acknowledged:
        // what a crash would make the outbox forget, its client sends again, with the same key.
        let mut committed = Vec::new();
        for SealedTransaction { transaction, parts, .. } in &sealed.transactions {
            self.send_sealed(transaction)?;
            self.add_pending(transaction, parts.clone());
            if self.place_in_order(Arc::clone(transaction))? == Placed::Committed {
                committed.push(Arc::clone(transaction));
            }
        }
        self.outbox.commit(changes)?;
        // Since they were looked at; their block may have been told of before they were pending here.
        if !committed.is_empty() {
            committed.iter().try_for_each(|transaction| self.found_committed(transaction))?;
            self.place_the_unplaced();
        }
        self.sealed = Some(Instant::now());
        let slots = sealed.transactions.iter().map(|t| t.transaction.slots().len() as u64);
        self.metrics.accepted(slots.sum());
        sealed.answer();
        Ok(())
    }

    fn add_pending(&mut self, transaction: &VerifiedTransaction, parts: Parts) {
        let bytes = transaction.encoded().len() as u64;
        let key = (transaction.header().not_after_ms, transaction.id());
        match self.pending.insert(key, Pending { bytes, parts }) {
            None => self.pending_bytes += bytes,
            Some(before) => self.shares.give_back(&before.parts),
        }
    }

    pub(super) fn remove_pending(&mut self, key: &(u64, Hash)) -> bool {
        let Some(Pending { bytes, parts }) = self.pending.remove(key) else { return false };
        self.pending_bytes -= bytes;
        self.shares.give_back(&parts);
        self.unplaced.remove(&key.1);
        self.unregistered.remove(&key.1);
        let free = self.held.ended(&key.1);
        self.unplaced.extend(free.into_iter().map(|transaction| (transaction.id(), transaction)));
        true
    }

    /// Bytes of a key that may wait here, in all; `None` where nothing more of it should be accepted for
    /// now.
    fn room(&self, agency: AgencyCode, signer: &PublicKey) -> Option<u64> {
        let room = self.admission.room(agency, signer)?;
        (self.pending_bytes < self.pending_bytes_max)
            .then(|| self.pending_bytes_max.min(room as u64))
    }

    /// Puts an accepted transaction into the mempool and gossips it; later, where there is no room.
    pub(super) fn place(&mut self, transaction: Arc<VerifiedTransaction>) -> Placed {
        match self.admission.admit(Arc::clone(&transaction)) {
            Ok(()) => self.network.publish_transaction(transaction.encoded().clone()),
            Err(AdmissionError::Committed(_)) => return Placed::Committed,
            Err(AdmissionError::Mempool(MempoolError::Present)) => {}
            Err(AdmissionError::Mempool(_no_room)) => {
                self.unplaced.insert(transaction.id(), transaction);
            }
            Err(_not_now) => {
                self.unregistered.insert(transaction.id(), transaction);
            }
        }
        Placed::Waits
    }

    /// A block was committed: ends what it contains, then what its time has expired.
    fn committed(&mut self, committed: &BlockOutcome) -> Result<(), WorkerError> {
        let mut changes = Changes::default();
        for (transaction, outcomes) in committed.transactions.iter().zip(&committed.outcomes) {
            let key = (transaction.header().not_after_ms, transaction.id());
            if self.remove_pending(&key) {
                self.forget(&mut changes, transaction, outcomes)?;
            }
        }
        self.outbox.commit_unsynced(changes)?;
        if committed.transactions.iter().any(|transaction| self.waiting.is_for(&transaction.id())) {
            self.looked_up.keep(committed);
        }
        for transaction in &committed.transactions {
            self.notify(&transaction.id())?;
        }
        self.expire(committed.header.time_ms)?;
        self.end_unfit()?;
        self.place_the_unplaced();
        Ok(())
    }

    pub(super) fn place_the_unplaced(&mut self) {
        let unregistered = std::mem::take(&mut self.unregistered).into_values();
        for transaction in std::mem::take(&mut self.unplaced).into_values().chain(unregistered) {
            // Of one that is committed, word is on its way here.
            self.place(transaction);
        }
        self.hold_for_what_waits_only();
    }
}

/// What a client is told of what the door does not let in.
///
/// # Errors
/// The door's store has failed, and nothing is to be told.
fn refusal(error: AdmissionError) -> Result<SubmissionRefusal, WorkerError> {
    match error {
        AdmissionError::Store(error) => Err(error.into()),
        AdmissionError::Expired { .. } | AdmissionError::TooLongLived { .. } => {
            Ok(SubmissionRefusal::Lifetime(error.to_string()))
        }
        AdmissionError::Registry(TransactionInvalid::KindNotOpen { refused, .. }) => {
            Ok(refused.into())
        }
        error => Ok(SubmissionRefusal::not_permitted(&error)),
    }
}

fn full(what: &str) -> SubmissionRefusal {
    SubmissionRefusal::Exhausted { what: what.to_owned(), retry_after_ms: 250 }
}
