//! What a piece of a submission goes through, whether it came in a call or in a stream.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use customhouse_ledger::{
    hash::{Hash, Tag},
    limits::TRANSACTION_BYTES_MAX,
    transaction::{TransactionError, VerifiedTransaction},
};
use customhouse_proto::v1::{self, Phase};
use futures::future::{BoxFuture, join_all};
use prost::Message as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    answers,
    streams::{Intake, Step},
    submission::SubmissionService,
};
use crate::serve::{
    reads::{apart, here, in_line},
    refused::Refused,
    rejections::Rejections,
};
use crate::{
    identity::ClientIdentity,
    services::Services,
    submissions::{Accepted, MappedBy, SubmissionRefusal, Submissions},
};

/// How long a stream is held back by a full mempool before its items are answered as not taken.
const PATIENCE: Duration = Duration::from_secs(30);

/// Most records that are checked in place, and most bytes of them together: a record of so many may have some
/// thousand fields, each of which is hashed.
const FEW_RECORDS: usize = 4;
const FEW_RECORD_BYTES: usize = 16 * 1024;
/// Most transactions that are, and most bytes of them together. The threads of the servers are not those of
/// consensus.
const FEW_TRANSACTIONS: usize = 4;
const FEW_BYTES: usize = 4096;

/// A transaction's id as far as its header goes, and the transaction where it is valid.
type Checked = (Hash, Result<VerifiedTransaction, Refused>);

/// Submits records, which are checked away from the async workers where they are many or large: to check a
/// usual one takes some ten microseconds.
pub(super) async fn submit_records(
    submissions: &Submissions,
    client: &ClientIdentity,
    records: Vec<v1::RecordSubmission>,
    mapped: MappedBy,
) -> Vec<Result<Accepted, SubmissionRefusal>> {
    let count = records.len();
    let checked = if are_small(&records) {
        Some(submissions.check(client, records, mapped))
    } else {
        let (submissions, client) = (submissions.clone(), client.clone());
        apart(move || submissions.check(&client, records, mapped)).await
    };
    let Some(checked) = checked else { return vec![Err(SubmissionRefusal::ShuttingDown); count] };
    let _until_it_is_answered = in_line(count).await;
    submissions.submit_checked(checked).await
}

/// Whether records may be checked where they are.
fn are_small(records: &[v1::RecordSubmission]) -> bool {
    records.len() <= FEW_RECORDS
        && !records.iter().any(Submissions::takes_long)
        && records.iter().map(|record| record.encoded_len()).sum::<usize>() <= FEW_RECORD_BYTES
}

/// Checks transactions, away from the async workers where that may take long: a signature takes about 60 µs,
/// and to wake another thread for one costs a good part of that.
pub(super) async fn verify_apart(
    transactions: Vec<Option<v1::Transaction>>,
    chain_id: Hash,
) -> Vec<Checked> {
    let is_little = is_little(&transactions);
    let verify = move || transactions.into_iter().map(|t| check(t, &chain_id)).collect();
    if is_little {
        return here(verify).await;
    }
    apart(verify).await.unwrap_or_default()
}

/// A change of the registry has many signatures, and many bytes with them.
fn is_little(transactions: &[Option<v1::Transaction>]) -> bool {
    let bytes: usize = transactions.iter().flatten().map(|t| t.encoded_len()).sum();
    transactions.len() <= FEW_TRANSACTIONS && bytes <= FEW_BYTES
}

fn check(transaction: Option<v1::Transaction>, chain_id: &Hash) -> Checked {
    let Some(transaction) = transaction else {
        let refused = Refused::field("transaction", "FIELD", "missing");
        return (Hash::ZERO, Err(refused));
    };
    let id = Tag::TRANSACTION.hash(&[&transaction.header]);
    if transaction.encoded_len() > TRANSACTION_BYTES_MAX {
        return (id, Err(TransactionError::TooLarge(transaction.encoded_len()).into()));
    }
    let encoded: Bytes = transaction.encode_to_vec().into();
    let verified = VerifiedTransaction::from_bytes(encoded, chain_id).map_err(Refused::from);
    let checked = verified.and_then(|transaction| {
        Submissions::check_signed(&transaction)?;
        Ok(transaction)
    });
    (id, checked.map_err(|refused| refused.with_id(id)))
}

/// Signs the acceptance of those records that stand at ACCEPTED, away from the async workers.
pub(super) async fn sign_apart(
    submissions: Submissions,
    answers: impl Iterator<Item = (Option<Accepted>, v1::RecordResult)>,
) -> Vec<v1::RecordResult> {
    let answers: Vec<_> = answers.collect();
    if answers.iter().all(|(_, result)| result.phase() != Phase::Accepted) {
        return answers.into_iter().map(|(_, result)| result).collect();
    }
    let sign = move || {
        let signed = answers.into_iter().map(|(accepted, mut result)| {
            if let Some(accepted) = accepted.filter(|_| result.phase() == Phase::Accepted) {
                result.acceptance = submissions.sign_acceptance(&accepted).0.to_vec();
            }
            result
        });
        signed.collect()
    };
    apart(sign).await.unwrap_or_default()
}

/// Transactions that clients have signed.
pub(super) struct Transactions {
    node: Arc<Services>,
    rejections: Rejections,
    shutdown: CancellationToken,
}

impl Transactions {
    pub(super) fn of(service: &SubmissionService) -> Self {
        let SubmissionService { node, rejections, shutdown } = service.clone();
        Self { node, rejections, shutdown }
    }

    async fn step(
        &self,
        client: &ClientIdentity,
        (id, verified): Checked,
        wait: bool,
    ) -> Step<v1::SubmitTransactionResponse> {
        let taken = match verified {
            Ok(transaction) => self.submit(client, transaction).await,
            Err(refused) => Err(refused),
        };
        let accepted = match taken {
            Ok(accepted) => accepted,
            Err(refused) => {
                let (reason_code, id_text) = (refused.reason_code, id.to_string());
                self.rejections.note(&client.name, Self::METHOD, reason_code, &id_text);
                return Step::Answer(answers::of_transaction(id, Err(refused)));
            }
        };
        let mut answer = answers::of_transaction(id, Ok(&accepted));
        if !wait || accepted.end.is_some() {
            return Step::Answer(answer);
        }
        let (submissions, shutdown) = (self.node.submissions.clone(), self.shutdown.clone());
        Step::Wait(Box::pin(async move {
            tokio::select! {
                end = submissions.wait_transaction(id) => {
                    if let Ok(end) = end {
                        answers::set_transaction_end(&mut answer, &end);
                    }
                }
                // Accepted it stays, also across the restart.
                () = shutdown.cancelled() => {}
            }
            answer
        }))
    }

    /// Submits, and while there is no room tries again: that holds the stream back.
    async fn submit(
        &self,
        client: &ClientIdentity,
        transaction: VerifiedTransaction,
    ) -> Result<Accepted, Refused> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let taken = self.node.submissions.submit_transaction(client, transaction.clone()).await;
            match taken {
                Err(refusal) if !pause(&refusal, deadline, &self.shutdown).await => {
                    return Err(refusal.into());
                }
                Err(_) => {}
                Ok(accepted) => return Ok(accepted),
            }
        }
    }
}

impl Intake for Transactions {
    const METHOD: &'static str = "/customhouse.v1.Submission/StreamTransactions";
    type Item = v1::SubmitTransactionRequest;
    type Answer = v1::SubmitTransactionResponse;

    async fn accept(
        &self,
        client: &ClientIdentity,
        items: Vec<Self::Item>,
    ) -> Vec<Step<Self::Answer>> {
        let waits: Vec<bool> = items.iter().map(|item| item.wait).collect();
        let transactions = items.into_iter().map(|item| item.transaction).collect();
        let checked = verify_apart(transactions, self.node.chain_id).await;
        let steps = checked.into_iter().zip(waits);
        join_all(steps.map(|(checked, wait)| self.step(client, checked, wait))).await
    }

    fn rejections(&self) -> &Rejections {
        &self.rejections
    }
}

/// Records for the node to sign.
pub(super) struct Records {
    node: Arc<Services>,
    rejections: Rejections,
    shutdown: CancellationToken,
}

impl Records {
    pub(super) fn of(service: &SubmissionService) -> Self {
        let SubmissionService { node, rejections, shutdown } = service.clone();
        Self { node, rejections, shutdown }
    }

    /// Submits a chunk, and again what finds no room: that holds the stream back.
    pub(super) async fn submit(
        &self,
        client: &ClientIdentity,
        records: Vec<v1::RecordSubmission>,
        mapped: MappedBy,
    ) -> Vec<Result<Accepted, SubmissionRefusal>> {
        let deadline = Instant::now() + PATIENCE;
        let submissions = &self.node.submissions;
        let mut taken = submit_records(submissions, client, records.clone(), mapped).await;
        loop {
            let full = |result: &Result<Accepted, SubmissionRefusal>| {
                matches!(result, Err(SubmissionRefusal::Exhausted { .. }))
            };
            let Some(Err(refusal)) = taken.iter().find(|result| full(result)).cloned() else {
                return taken;
            };
            if !pause(&refusal, deadline, &self.shutdown).await {
                return taken;
            }
            let again: Vec<usize> = (0..taken.len()).filter(|&i| full(&taken[i])).collect();
            let batch = again.iter().map(|&index| records[index].clone()).collect();
            let retaken = submit_records(submissions, client, batch, mapped).await;
            for (index, result) in again.into_iter().zip(retaken) {
                taken[index] = result;
            }
        }
    }

    /// The answer at acceptance.
    fn answer(
        &self,
        client: &ClientIdentity,
        key: String,
        taken: &Result<Accepted, SubmissionRefusal>,
    ) -> v1::RecordResult {
        let taken = taken.clone().map_err(Refused::from);
        if let Err(refused) = &taken {
            let id = refused.id.map(|id| id.to_string()).unwrap_or_default();
            self.rejections.note(&client.name, Self::METHOD, refused.reason_code, &id);
        }
        answers::of_record(key, taken)
    }

    /// Waits for the end of what was accepted; where it does not come before the shutdown, the
    /// answer is the signed acceptance.
    fn wait(
        &self,
        accepted: Accepted,
        mut answer: v1::RecordResult,
    ) -> BoxFuture<'static, v1::RecordResult> {
        let (submissions, shutdown) = (self.node.submissions.clone(), self.shutdown.clone());
        Box::pin(async move {
            let end = tokio::select! {
                end = submissions.wait_record(accepted.record_id) => end.ok(),
                () = shutdown.cancelled() => None,
            };
            match end {
                Some(end) => answers::set_end(&mut answer, &end),
                None => answer.acceptance = submissions.sign_acceptance(&accepted).0.to_vec(),
            }
            answer
        })
    }
}

impl Intake for Records {
    const METHOD: &'static str = "/customhouse.v1.Submission/StreamRecords";
    type Item = v1::StreamRecordsRequest;
    type Answer = v1::RecordResult;

    async fn accept(
        &self,
        client: &ClientIdentity,
        items: Vec<Self::Item>,
    ) -> Vec<Step<Self::Answer>> {
        let (mut records, mut asked) = (Vec::new(), Vec::new());
        for v1::StreamRecordsRequest { submission, wait } in items {
            // One without a submission is refused as one without a record.
            let submission = submission.unwrap_or_default();
            asked.push((submission.idempotency_key.clone(), wait));
            records.push(submission);
        }
        let taken = self.submit(client, records, MappedBy::Submitter).await;
        let (mut steps, mut accepted) = (Vec::new(), Vec::new());
        for ((key, wait), taken) in asked.into_iter().zip(taken) {
            let answer = self.answer(client, key, &taken);
            match taken.ok() {
                Some(waiting) if wait && waiting.end.is_none() => {
                    steps.push(Step::Wait(self.wait(waiting, answer)));
                }
                taken => accepted.push((taken, answer)),
            }
        }
        let signed = sign_apart(self.node.submissions.clone(), accepted.into_iter()).await;
        steps.extend(signed.into_iter().map(Step::Answer));
        steps
    }

    fn rejections(&self) -> &Rejections {
        &self.rejections
    }
}

/// Whether to try again, after the pause that the refusal asks for.
async fn pause(
    refusal: &SubmissionRefusal,
    deadline: Instant,
    shutdown: &CancellationToken,
) -> bool {
    let SubmissionRefusal::Exhausted { retry_after_ms, .. } = refusal else { return false };
    let until = Instant::now() + Duration::from_millis((*retry_after_ms).max(1));
    if until > deadline {
        return false;
    }
    tokio::select! {
        () = tokio::time::sleep_until(until) => true,
        () = shutdown.cancelled() => false,
    }
}

#[cfg(test)]
mod tests {
    use customhouse_proto::v1::record::Body;

    use super::*;

    #[test]
    fn few_and_small_records_are_checked_where_they_are_and_no_others() {
        let of = |procedures: usize, importer: &str| {
            let item = v1::GoodsItem {
                additional_procedures: vec!["1".into(); procedures],
                ..Default::default()
            };
            let body = v1::Declaration { items: vec![item], ..Default::default() };
            let source = v1::Source { importer: importer.into(), ..Default::default() };
            let (body, source) = (Some(Body::Declaration(body)), Some(source));
            let record = Some(v1::Record { body, source, ..Default::default() });
            v1::RecordSubmission {
                record,
                idempotency_key: "k".into(),
                open: true,
                agreement: Vec::new(),
            }
        };
        // A procedure has three bytes.
        let fields = FEW_RECORD_BYTES / FEW_RECORDS / 3 - 20;
        assert!(are_small(&vec![of(fields, ""); FEW_RECORDS]));
        assert!(!are_small(&vec![of(1, ""); FEW_RECORDS + 1]));
        assert!(!are_small(&vec![of(fields + 20, ""); FEW_RECORDS]), "together they are large");
        assert!(!are_small(&[of(1, "customhouse-wco/1")]), "its source is mapped again");
    }

    #[test]
    fn few_and_small_transactions_are_checked_where_they_are_and_no_others() {
        let of = |bytes: usize| {
            let records = vec![vec![7; bytes].into()];
            Some(v1::Transaction { records, ..v1::Transaction::default() })
        };
        let small = FEW_BYTES / FEW_TRANSACTIONS - 10;
        assert!(is_little(&[None]));
        assert!(is_little(&vec![of(small); FEW_TRANSACTIONS]));
        assert!(!is_little(&vec![of(1); FEW_TRANSACTIONS + 1]));
        // As large as a change of the registry that many have approved.
        assert!(!is_little(&[of(FEW_BYTES)]));
    }
}
