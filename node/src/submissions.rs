//! Submissions: from a client's call to its end.
//!
//! *Accepted* means durable in this node's outbox; *final* means committed by a quorum and durable
//! here. Every accepted submission ends final, expired or rejected, across restarts. See
//! [`worker`] for how.

mod ending;
mod ends;
mod gathering;
mod held;
mod job;
mod looked_up;
mod no_ops;
mod outbox;
mod outcome;
mod prepare;
mod references;
mod sealed_plan;
mod sealing;
mod shares;
mod sources;
mod unfit;
mod waiting;
mod worker;

use std::{path::Path, sync::Arc, thread, time::Duration};

use customhouse_ledger::{
    agency::AgencyCode,
    agreement::AgreementChange,
    attachment::attachments_in,
    chain::{BlockOutcome, ChainReader},
    hash::{Hash, Tag},
    keys::{Signature, SigningKey},
    registry::RegistryChange,
    transaction::{NewSlot, VerifiedTransaction},
};
use customhouse_proto::v1;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use zeroize::Zeroizing;

use self::{
    ends::Told,
    job::Job,
    no_ops::NoOps,
    outbox::Outbox,
    prepare::{Prepared, Preparing},
    sealing::Sealing,
    worker::Worker,
};
pub use self::{
    outbox::{OutboxBuffers, OutboxError},
    outcome::{Accepted, End, First, NotCounted, SubmissionRefusal},
    sources::MappedBy,
    worker::WorkerError,
};
use crate::{
    admission::Admission,
    attachments::{Attachments, unclaimed_until},
    clock::{self, ClockState, ClockStatus},
    driver::{ConsensusStatus, DriverHandle},
    identity::ClientIdentity,
    metrics::Metrics,
    network::NetworkHandle,
    priority::let_consensus_go_first,
    sealed::{Holdings, SealedId},
    tasks::Tasks,
};

/// Jobs that may wait; those who hand more in wait themselves.
const JOBS_MAX: usize = 8192;
/// While blocks are being fetched and the newest here is older than this, nothing is accepted.
const BEHIND_MS_MAX: u64 = 10_000;

/// The way for clients' records and transactions. Cheap to clone.
#[derive(Clone)]
pub struct Submissions {
    jobs: mpsc::Sender<Job>,
    agency: AgencyCode,
    chain_id: Hash,
    content_secret: Arc<Zeroizing<[u8; 32]>>,
    signing_key: SigningKey,
    reader: ChainReader,
    status: watch::Receiver<ConsensusStatus>,
    clock: ClockStatus,
    buffers: OutboxBuffers,
    attachments: Attachments,
    no_ops: NoOps,
    holdings: Option<Holdings>,
}

/// Records of a client that were checked, each with what is wrong with it.
pub struct CheckedRecords(Vec<Result<Prepared, SubmissionRefusal>>);

/// What submissions are made of.
pub struct SubmissionParts {
    /// The ledger.
    pub reader: ChainReader,
    /// The door to the mempool.
    pub admission: Admission,
    /// Where accepted transactions are gossiped.
    pub network: NetworkHandle,
    /// Tells of commits.
    pub driver: DriverHandle,
    /// Whose node this is.
    pub agency: AgencyCode,
    /// Signs records for clients, and acceptances.
    pub signing_key: SigningKey,
    /// Bytes of transactions that the outbox may hold before they are final.
    pub outbox_bytes_max: u64,
    /// Files that records refer to.
    pub attachments: Attachments,
    /// The bytes of sealed records, where the node has a vault.
    pub holdings: Option<Holdings>,
    /// Counters.
    pub metrics: Metrics,
    /// Whether this node's clock is right.
    pub clock: ClockStatus,
    /// The node's tasks, of which the handing over of commits is one.
    pub tasks: Tasks,
}

impl Submissions {
    /// Opens the outbox and starts the worker. The receiver gets how the worker ended: `Ok` once
    /// every [`Submissions`] is dropped and the driver has stopped.
    ///
    /// # Errors
    /// The outbox cannot be opened, or the worker's thread not be started.
    pub fn start(
        outbox: &Path,
        parts: SubmissionParts,
    ) -> Result<(Self, oneshot::Receiver<Result<(), WorkerError>>), OutboxError> {
        let outbox = Outbox::open(outbox)?;
        let buffers = outbox.buffers();
        let content_secret = Arc::new(outbox.content_secret()?);
        let (jobs, jobs_out) = mpsc::channel(JOBS_MAX);
        // Dropped with the last `Submissions`, so that the forwarding of commits ends too.
        let forwarding = forward(parts.driver.committed(), jobs.downgrade(), parts.reader.clone());
        parts.tasks.spawn("forwarding of commits", forwarding);
        let chain_id = parts.reader.chain_id();
        let (agency, signing_key) = (parts.agency, parts.signing_key.clone());
        let (reader, status) = (parts.reader.clone(), parts.driver.status());
        let (clock, attachments) = (parts.clock.clone(), parts.attachments.clone());
        let holdings = parts.holdings.clone();
        let no_ops = NoOps::new(parts.reader.clone(), parts.metrics.clone(), holdings.clone());
        let worker = Worker::new(outbox, parts, Arc::clone(&content_secret));
        let (ended_in, ended) = oneshot::channel();
        let run = move || {
            let_consensus_go_first();
            let _nobody = ended_in.send(worker.run(jobs_out));
        };
        thread::Builder::new()
            .name("submissions".into())
            .spawn(run)
            .map_err(OutboxError::Thread)?;
        let handle = Self {
            jobs,
            agency,
            chain_id,
            content_secret,
            signing_key,
            reader,
            status,
            clock,
            buffers,
            attachments,
            no_ops,
            holdings,
        };
        Ok((handle, ended))
    }

    /// Submits a change of the registry in a transaction that this node signs.
    ///
    /// # Errors
    /// [`SubmissionRefusal`].
    pub async fn submit_registry_change(
        &self,
        client: &ClientIdentity,
        change: &RegistryChange,
    ) -> Result<Accepted, SubmissionRefusal> {
        let lifetime_ms = self.reader.tip().parameters.transaction_lifetime_ms_max;
        let not_after_ms = clock::unix_ms().saturating_add(lifetime_ms);
        let transaction = VerifiedTransaction::change_registry(
            change,
            &client.name,
            self.agency,
            not_after_ms.min(change.proposal().not_after_ms()),
            &self.chain_id,
            &self.signing_key,
        );
        self.submit_transaction(client, transaction?).await
    }

    /// Submits a change of an agreement in a transaction that this node signs.
    ///
    /// # Errors
    /// [`SubmissionRefusal`].
    pub async fn submit_agreement_change(
        &self,
        client: &ClientIdentity,
        change: &AgreementChange,
    ) -> Result<Accepted, SubmissionRefusal> {
        let lifetime_ms = self.reader.tip().parameters.transaction_lifetime_ms_max;
        let latest_ms = clock::unix_ms().saturating_add(lifetime_ms);
        let not_after_ms = match change {
            AgreementChange::Epoch(proposal, _) => latest_ms.min(proposal.not_after_ms()),
            AgreementChange::Leave { .. } => latest_ms,
        };
        let (agency, chain_id, key) = (self.agency, &self.chain_id, &self.signing_key);
        let transaction = VerifiedTransaction::change_agreement(
            change,
            &client.name,
            agency,
            not_after_ms,
            chain_id,
            key,
        );
        self.submit_transaction(client, transaction?).await
    }

    /// Signs the transaction that shares a sealed record of this agency under another agreement too. It takes about 60 µs
    /// a subject.
    ///
    /// # Errors
    /// [`SubmissionRefusal`].
    pub fn sign_grant(
        &self,
        id: &SealedId,
        agreement: &Hash,
    ) -> Result<VerifiedTransaction, SubmissionRefusal> {
        let sealing = self.sealing().ok_or(SubmissionRefusal::NoVault)?;
        let slot = sealing.grant(id, agreement)?;
        let lifetime_ms = self.reader.tip().parameters.transaction_lifetime_ms_max;
        let transaction = VerifiedTransaction::sign_slots(
            &[NewSlot::Alone(slot)],
            self.agency,
            clock::unix_ms().saturating_add(lifetime_ms),
            &self.chain_id,
            &self.signing_key,
        );
        Ok(transaction?)
    }

    fn sealing(&self) -> Option<Sealing<'_>> {
        let (agency, reader) = (self.agency, &self.reader);
        self.holdings.as_ref().map(|holdings| Sealing { agency, holdings, reader })
    }

    /// Submits records for this node to sign. One result a record, in order; each `Ok` is durable.
    /// Checks of the records take CPU time: call it where that may be spent, or have it spent elsewhere
    /// with [`Submissions::check`].
    pub async fn submit_records(
        &self,
        client: &ClientIdentity,
        submissions: Vec<v1::RecordSubmission>,
    ) -> Vec<Result<Accepted, SubmissionRefusal>> {
        self.submit_checked(self.check(client, submissions, MappedBy::Submitter)).await
    }

    /// Whether checking a record takes so long that it is to be done elsewhere: its source is mapped again.
    pub fn takes_long(submission: &v1::RecordSubmission) -> bool {
        submission.record.as_ref().is_some_and(sources::takes_long)
    }

    /// Checks records that are to be submitted.
    pub fn check(
        &self,
        client: &ClientIdentity,
        submissions: Vec<v1::RecordSubmission>,
        mapped: MappedBy,
    ) -> CheckedRecords {
        if let Err(refusal) = self.check_current() {
            let refused = submissions.iter().map(|_| Err(refusal.clone()));
            return CheckedRecords(refused.collect());
        }
        let parameters = self.reader.tip().parameters;
        let prepare = |mut submission: v1::RecordSubmission| {
            if let Some(record) = &mut submission.record {
                sources::check(record, mapped)?;
            }
            let sealing = self.sealing();
            let preparing = Preparing {
                agency: &self.agency,
                parameters: &parameters,
                content_secret: &self.content_secret,
                sealing,
            };
            let prepared = prepare::prepare(submission, client, &preparing)?;
            self.check_attachments(&prepared.record.bytes)?;
            Ok(prepared)
        };
        CheckedRecords(submissions.into_iter().map(prepare).collect())
    }

    /// Submits them. One result a record, in order; each `Ok` is durable.
    pub async fn submit_checked(
        &self,
        CheckedRecords(checked): CheckedRecords,
    ) -> Vec<Result<Accepted, SubmissionRefusal>> {
        let mut results: Vec<Option<Result<Accepted, SubmissionRefusal>>> = Vec::new();
        let mut records = Vec::new();
        for checked in checked {
            match checked {
                Ok(prepared) => {
                    records.push(prepared);
                    results.push(None);
                }
                Err(refusal) => results.push(Some(Err(refusal))),
            }
        }
        let sealed = self.ask(|reply| Job::Records { records, reply }).await;
        let mut sealed = sealed.unwrap_or_default().into_iter();
        let next = |result: Option<_>| {
            result.unwrap_or_else(|| sealed.next().unwrap_or(Err(SubmissionRefusal::ShuttingDown)))
        };
        results.into_iter().map(next).collect()
    }

    /// Submits a transaction that the client has signed for its own agency.
    ///
    /// # Errors
    /// [`SubmissionRefusal`].
    pub async fn submit_transaction(
        &self,
        client: &ClientIdentity,
        transaction: VerifiedTransaction,
    ) -> Result<Accepted, SubmissionRefusal> {
        self.check_current()?;
        let stated = transaction.header().agency;
        if stated != client.agency {
            let client = client.agency;
            return Err(SubmissionRefusal::NotPermitted {
                code: "OTHER_AGENCY",
                reason: format!(
                    "transaction.header.agency: {stated}, but your certificate is of {client}"
                ),
            });
        }
        for record in &transaction.parts().records {
            self.check_attachments(record)?;
        }
        let transaction = Arc::new(transaction);
        let answer = self.ask(|reply| Job::Transaction { transaction, reply }).await;
        answer.unwrap_or(Err(SubmissionRefusal::ShuttingDown))
    }

    /// Whether all attachments of a record are held here: the other nodes get them from this one. They are kept
    /// until the record has ended. A rule of the door only.
    fn check_attachments(&self, record: &[u8]) -> Result<(), SubmissionRefusal> {
        let attachments = attachments_in(record);
        if attachments.is_empty() {
            return Ok(());
        }
        let lifetime_ms = self.reader.tip().parameters.transaction_lifetime_ms_max;
        let until = unclaimed_until(Duration::from_millis(lifetime_ms));
        for attachment in attachments {
            let root = Hash::from_slice(&attachment.root).unwrap_or_default();
            if !self.attachments.keep(&root, attachment.size, until) {
                return Err(SubmissionRefusal::AttachmentMissing(root));
            }
        }
        Ok(())
    }

    /// Whether this node knows what was committed lately. One that does not could not tell a retry: its
    /// key was perhaps used in a block that is yet to be fetched. It would end as the first does, but
    /// only after its slot has gone through a block again. One with a wrong clock would sign what no block
    /// may carry.
    fn check_current(&self) -> Result<(), SubmissionRefusal> {
        let ClockState { ahead_ms, wrong } = *self.clock.borrow();
        if wrong {
            return Err(SubmissionRefusal::Clock { ahead_ms: ahead_ms.unwrap_or_default() });
        }
        let header = &self.reader.tip().header;
        let behind_ms = crate::clock::unix_ms().saturating_sub(header.time_ms);
        if self.status.borrow().catching_up && behind_ms > BEHIND_MS_MAX {
            return Err(SubmissionRefusal::CatchingUp { height: header.height });
        }
        Ok(())
    }

    /// Waits until a record has ended. Does not give up: the caller sets the deadline.
    ///
    /// # Errors
    /// [`SubmissionRefusal::NotFound`] where it was never accepted.
    pub async fn wait_record(&self, record_id: Hash) -> Result<End, SubmissionRefusal> {
        let told = self.ask(|reply| Job::WaitRecord { record_id, reply }).await;
        self.end_of(told).await
    }

    /// Waits until a transaction has ended. Does not give up: the caller sets the deadline.
    ///
    /// # Errors
    /// [`SubmissionRefusal::NotFound`] where it was never accepted.
    pub async fn wait_transaction(&self, id: Hash) -> Result<End, SubmissionRefusal> {
        let told = self.ask(|reply| Job::WaitTransaction { id, reply }).await;
        self.end_of(told).await
    }

    async fn end_of(
        &self,
        told: Option<Result<Told, SubmissionRefusal>>,
    ) -> Result<End, SubmissionRefusal> {
        match told.unwrap_or(Err(SubmissionRefusal::ShuttingDown))? {
            Told::Ended(end) => Ok(end),
            Told::NoOp(no_op) => self.no_ops.end_of(no_op).await,
        }
    }

    /// Keeps the ends of no-ops from being told, and shows how often the ledger was read for them.
    #[cfg(test)]
    pub(crate) async fn hold_no_ops(&self) -> tokio::sync::OwnedMutexGuard<looked_up::LookedUp> {
        Arc::clone(&self.no_ops.looked_up).lock_owned().await
    }

    /// Done when the worker has answered, in its turn among what waits; false where it is gone.
    pub async fn answered(self) -> bool {
        self.ask(Job::Ping).await.is_some()
    }

    /// The write buffers of its outbox.
    pub fn outbox_buffers(&self) -> &OutboxBuffers {
        &self.buffers
    }

    /// This node's signature on its acceptance of a record: over tag, chain id, record id and
    /// transaction id.
    pub fn sign_acceptance(&self, accepted: &Accepted) -> Signature {
        let Accepted { record_id, transaction_id, .. } = accepted;
        let parts: [&[u8]; 3] =
            [self.chain_id.as_bytes(), record_id.as_bytes(), transaction_id.as_bytes()];
        self.signing_key.sign(&Tag::ACCEPTANCE.message(&parts))
    }

    async fn ask<T>(&self, job: impl FnOnce(oneshot::Sender<T>) -> Job) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.jobs.send(job(reply)).await.ok()?;
        answer.await.ok()
    }
}

/// Hands commits to the worker, in the order of the submissions that they end.
async fn forward(
    mut committed: broadcast::Receiver<Arc<BlockOutcome>>,
    jobs: mpsc::WeakSender<Job>,
    reader: ChainReader,
) {
    loop {
        match committed.recv().await {
            Ok(block) => {
                let Some(jobs) = jobs.upgrade() else { return };
                if jobs.send(Job::Committed(block)).await.is_err() {
                    return;
                }
            }
            // The worker fell far behind, for example while this node caught up: let it look at
            // the ledger instead.
            Err(broadcast::error::RecvError::Lagged(blocks)) => {
                let height = reader.tip().header.height;
                tracing::warn!(blocks, height, "submissions fell behind the commits");
                let Some(jobs) = jobs.upgrade() else { return };
                if jobs.send(Job::LookAgain).await.is_err() {
                    return;
                }
            }
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}
