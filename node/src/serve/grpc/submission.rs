//! The `Submission` service: how records get onto the ledger.

use std::{sync::Arc, time::Duration};

use customhouse_ledger::hash::Hash;
use customhouse_proto::v1::{self, Phase, submission_server::Submission};
use futures::{StreamExt as _, stream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::{
    answers, intake, large,
    query::{feed_share, view_of},
    receipts, sharing, streams,
};
use crate::serve::{
    quotas::{AnswerRoom, Place},
    reads::{hash_field, holding},
    refused::Refused,
    rejections::Rejections,
};
use crate::{
    identity::ClientIdentity,
    services::Services,
    submissions::{Accepted, End, MappedBy, SubmissionRefusal, Submissions},
};

use customhouse_client::contract::REQUEST_RECORDS_MAX;

/// Records that are checked in one go, and how many such pieces are under way at a time.
const PIECE_RECORDS: usize = 256;
const PIECES_AT_ONCE: usize = 4;
/// Bytes of a record's result, as it is kept until it is sent.
const RESULT_BYTES: usize = 512;
/// The longest that a call waits for an end; then the client asks again.
const WAIT_MAX: Duration = Duration::from_secs(60);

#[derive(Clone)]
pub(super) struct SubmissionService {
    pub(super) node: Arc<Services>,
    pub(super) rejections: Rejections,
    pub(super) shutdown: CancellationToken,
}

impl SubmissionService {
    fn submissions(&self) -> &Submissions {
        &self.node.submissions
    }

    /// Submits a few records at a time: checking them takes CPU time, and between two pieces other
    /// calls get their turn.
    async fn submit_in_pieces(
        &self,
        client: &ClientIdentity,
        records: Vec<v1::RecordSubmission>,
    ) -> Vec<Result<Accepted, SubmissionRefusal>> {
        let mut records = records.into_iter();
        let pieces = std::iter::from_fn(|| {
            let piece: Vec<_> = records.by_ref().take(PIECE_RECORDS).collect();
            (!piece.is_empty()).then_some(piece)
        });
        let submit =
            |piece| intake::submit_records(self.submissions(), client, piece, MappedBy::Submitter);
        let taken = stream::iter(pieces).map(submit).buffered(PIECES_AT_ONCE);
        taken.map(stream::iter).flatten().collect().await
    }

    /// Checks and submits a transaction that a client has signed; gives its id with what became of it.
    async fn submit_signed(
        &self,
        client: &ClientIdentity,
        transaction: Option<v1::Transaction>,
    ) -> Result<(Hash, Accepted), Refused> {
        let verified = intake::verify_apart(vec![transaction], self.node.chain_id).await;
        let (id, verified) = verified.into_iter().next().ok_or_else(Refused::shutting_down)?;
        let verified = verified.map_err(|refused| refused.with_id(id))?;
        let accepted = self.submissions().submit_transaction(client, verified).await;
        Ok((id, accepted.map_err(|refusal| Refused::from(refusal).with_id(id))?))
    }

    /// The end of a record, or nothing where it does not come in time.
    async fn end_of_record(&self, id: Hash, limit: Duration) -> Result<Option<End>, Refused> {
        let end = self.submissions().wait_record(id);
        tokio::select! {
            end = timeout(limit, end) => match end {
                Ok(end) => Ok(Some(end.map_err(|refusal| Refused::from(refusal).with_id(id))?)),
                Err(_) => Ok(None),
            },
            () = self.shutdown.cancelled() => Err(Refused::shutting_down().with_id(id)),
        }
    }

    /// Waits until all of them have ended, or the time is up: the others stay as they are.
    async fn wait_for_all(&self, results: &mut [v1::RecordResult]) {
        let deadline = tokio::time::Instant::now() + WAIT_MAX;
        for result in results.iter_mut().filter(|result| result.phase == Phase::Accepted as i32) {
            let Ok(id) = Hash::from_slice(&result.record_id) else { continue };
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            if let Ok(Some(end)) = self.end_of_record(id, left).await {
                answers::set_end(result, &end);
            }
        }
    }

    /// Notes what was refused among others that were not.
    fn note(&self, client: &ClientIdentity, results: &[v1::RecordResult]) {
        let method = "/customhouse.v1.Submission/SubmitRecords";
        for result in results.iter().filter(|result| !result.reason_code.is_empty()) {
            let id = hex::encode(&result.record_id);
            self.rejections.note(&client.name, method, &result.reason_code, &id);
        }
    }
}

/// Submits to the end, also where the client gives the call up meanwhile: what was handed to the worker
/// is of the client's share until it is answered.
pub(super) async fn to_its_end<T: Send + 'static>(
    place: Option<Place>,
    submit: impl Future<Output = T> + Send + 'static,
) -> Result<T, Refused> {
    let place = place.ok_or_else(Refused::shutting_down)?;
    // The task fails only where the runtime is going down.
    tokio::spawn(holding(place, submit)).await.map_err(|_| Refused::shutting_down())
}

/// The caller, as the gate found it.
pub(super) fn caller<T>(request: &Request<T>) -> Result<ClientIdentity, Refused> {
    let client = request.extensions().get::<ClientIdentity>();
    client.cloned().ok_or_else(|| crate::tls::IdentityError::Missing.into())
}

#[tonic::async_trait]
impl Submission for SubmissionService {
    async fn submit_records(
        &self,
        mut request: Request<v1::SubmitRecordsRequest>,
    ) -> Result<Response<v1::SubmitRecordsResponse>, Status> {
        let client = caller(&request)?;
        let place = request.extensions_mut().remove::<Place>();
        let room = request.extensions_mut().remove::<AnswerRoom>();
        let v1::SubmitRecordsRequest { records, wait } = request.into_inner();
        if !(1..=REQUEST_RECORDS_MAX).contains(&records.len()) {
            let reason = format!("1 to {REQUEST_RECORDS_MAX} expected, {} found", records.len());
            return Err(Refused::field("records", "RECORD_COUNT", reason).into());
        }
        // Once they are accepted they must be answered, whether the client reads or not.
        if let Some(room) = room {
            room.grow(records.len() * RESULT_BYTES).await?;
        }
        let keys: Vec<_> = records.iter().map(|r| r.idempotency_key.clone()).collect();
        let (service, caller) = (self.clone(), client.clone());
        let submit = async move { service.submit_in_pieces(&caller, records).await };
        let taken = to_its_end(place, submit).await?;
        if let Some(refused) = nothing_taken(&taken) {
            return Err(refused.into());
        }
        let answers = keys
            .into_iter()
            .zip(&taken)
            .map(|(key, taken)| answers::of_record(key, taken.clone().map_err(Refused::from)));
        let mut results: Vec<_> = answers.collect();
        self.note(&client, &results);
        if wait {
            self.wait_for_all(&mut results).await;
        }
        let accepted = taken.into_iter().map(Result::ok);
        let results = intake::sign_apart(self.submissions().clone(), accepted.zip(results)).await;
        Ok(Response::new(v1::SubmitRecordsResponse { results }))
    }

    type StreamRecordsStream = streams::Answers<v1::RecordResult>;

    async fn stream_records(
        &self,
        mut request: Request<Streaming<v1::StreamRecordsRequest>>,
    ) -> Result<Response<Self::StreamRecordsStream>, Status> {
        let client = caller(&request)?;
        let extensions = request.extensions_mut();
        let held = (extensions.remove::<Place>(), extensions.remove::<AnswerRoom>());
        let intake = Arc::new(intake::Records::of(self));
        let shutdown = self.shutdown.clone();
        let answers = streams::drive(intake, client, held, request.into_inner(), shutdown);
        Ok(Response::new(answers))
    }

    async fn submit_transaction(
        &self,
        mut request: Request<v1::SubmitTransactionRequest>,
    ) -> Result<Response<v1::SubmitTransactionResponse>, Status> {
        let client = caller(&request)?;
        let place = request.extensions_mut().remove::<Place>();
        let v1::SubmitTransactionRequest { transaction, wait } = request.into_inner();
        let service = self.clone();
        let submit = async move { service.submit_signed(&client, transaction).await };
        let (id, accepted) = to_its_end(place, submit).await??;
        let mut answer = answers::of_transaction(id, Ok(&accepted));
        if wait && accepted.end.is_none() {
            let end = timeout(WAIT_MAX, self.submissions().wait_transaction(id));
            tokio::select! {
                end = end => if let Ok(end) = end {
                    let end = end.map_err(|refusal| Refused::from(refusal).with_id(id))?;
                    answers::set_transaction_end(&mut answer, &end);
                },
                // Accepted it stays, also across the restart.
                () = self.shutdown.cancelled() => {}
            }
        }
        Ok(Response::new(answer))
    }

    type StreamTransactionsStream = streams::Answers<v1::SubmitTransactionResponse>;

    async fn stream_transactions(
        &self,
        mut request: Request<Streaming<v1::SubmitTransactionRequest>>,
    ) -> Result<Response<Self::StreamTransactionsStream>, Status> {
        let client = caller(&request)?;
        let extensions = request.extensions_mut();
        let held = (extensions.remove::<Place>(), extensions.remove::<AnswerRoom>());
        let intake = Arc::new(intake::Transactions::of(self));
        let shutdown = self.shutdown.clone();
        let answers = streams::drive(intake, client, held, request.into_inner(), shutdown);
        Ok(Response::new(answers))
    }

    async fn grant(
        &self,
        request: Request<v1::GrantRequest>,
    ) -> Result<Response<v1::GrantResponse>, Status> {
        let who = (view_of(&self.node, &request)?, caller(&request)?);
        let v1::GrantRequest { record_id, agreement } = request.into_inner();
        let record_id = hash_field("record_id", &record_id)?;
        let agreement = hash_field("agreement", &agreement)?;
        Ok(Response::new(sharing::grant(&self.node, who, (record_id, agreement)).await?))
    }

    async fn wait_receipt(
        &self,
        request: Request<v1::WaitReceiptRequest>,
    ) -> Result<Response<v1::WaitReceiptResponse>, Status> {
        let room = large::room_of(&request);
        let v1::WaitReceiptRequest { record_id, timeout_ms, with_record } = request.into_inner();
        let with = (room.as_ref(), with_record);
        let id = hash_field("record_id", &record_id)?;
        let limit = match timeout_ms {
            0 => WAIT_MAX,
            asked => Duration::from_millis(asked.into()).min(WAIT_MAX),
        };
        // It may have come from elsewhere: the ledger is asked before the outbox.
        if let Some(receipt) = self.receipt(id, with).await? {
            return Ok(Response::new(answers::receipt(receipt)));
        }
        let Some(end) = self.end_of_record(id, limit).await? else {
            return Ok(Response::new(answers::of_wait(Phase::Accepted)));
        };
        let answer = match &end {
            End::Final { .. } | End::Partly { .. } => self.answer_receipt(id, with).await?,
            End::Repeat(first) => self.answer_receipt(first.record_id, with).await?,
            End::Expired => answers::of_wait(Phase::Expired),
            End::Rejected { code, reason } => v1::WaitReceiptResponse {
                reason_code: code.clone(),
                reason: reason.clone(),
                ..answers::of_wait(Phase::Rejected)
            },
        };
        Ok(Response::new(answer))
    }

    type StreamReceiptsStream = receipts::Answers;

    async fn stream_receipts(
        &self,
        mut request: Request<v1::StreamReceiptsRequest>,
    ) -> Result<Response<Self::StreamReceiptsStream>, Status> {
        let held = feed_share(&mut request)?;
        let v1::StreamReceiptsRequest { record_ids, with_record, with_steps } =
            request.into_inner();
        let (ids, contents) =
            (receipts::ids_of(&record_ids)?, receipts::Contents { with_record, with_steps });
        let (node, shutdown) = (Arc::clone(&self.node), self.shutdown.clone());
        Ok(Response::new(receipts::as_they_end(node, held, ids, contents, shutdown)))
    }
}

impl SubmissionService {
    async fn receipt(
        &self,
        id: Hash,
        (room, with_record): (Option<&AnswerRoom>, bool),
    ) -> Result<Option<v1::Receipt>, Refused> {
        let contents = receipts::Contents { with_record, with_steps: false };
        large::receipt((&self.node, room), id, contents).await
    }

    /// The receipt of a record that is known to be final.
    async fn answer_receipt(
        &self,
        id: Hash,
        with: (Option<&AnswerRoom>, bool),
    ) -> Result<v1::WaitReceiptResponse, Refused> {
        let receipt = self.receipt(id, with).await?;
        Ok(answers::receipt(receipt.ok_or_else(|| Refused::not_found("record", &id))?))
    }
}

/// Whether the call as a whole fails: its only record is refused, or all are for a reason that
/// passes.
fn nothing_taken(taken: &[Result<Accepted, SubmissionRefusal>]) -> Option<Refused> {
    let refused = |result: &Result<Accepted, SubmissionRefusal>| {
        result.as_ref().err().map(|refusal| Refused::from(refusal.clone()))
    };
    let first = refused(taken.first()?)?;
    if taken.len() == 1 {
        return Some(first);
    }
    let all_pass = taken.iter().all(|result| refused(result).is_some_and(|r| r.passes()));
    all_pass.then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_fails_as_a_whole_only_where_nothing_was_taken() {
        let accepted = || {
            let (record_id, transaction_id) = (Hash([1; 32]), Hash([2; 32]));
            Ok(Accepted { record_id, transaction_id, end: None })
        };
        let full = || Err(SubmissionRefusal::Exhausted { what: "full".into(), retry_after_ms: 9 });
        let wrong = || Err(SubmissionRefusal::Field { field: "record", reason: "missing".into() });
        let code = |taken: &[_]| nothing_taken(taken).map(|refused| refused.reason_code);
        assert_eq!(code(&[accepted()]), None);
        assert_eq!(code(&[wrong()]), Some("FIELD"));
        assert_eq!(code(&[full(), full()]), Some("EXHAUSTED"));
        assert_eq!(code(&[full(), accepted()]), None);
        assert_eq!(code(&[wrong(), full()]), None, "each has its own answer");
    }
}
