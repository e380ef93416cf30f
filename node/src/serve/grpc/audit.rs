//! The `Audit` service: proofs, for those who trust no node.

use std::sync::Arc;

use bytes::Bytes;
use customhouse_ledger::{
    chain::ChainReader, history::HistoryEntry, merkle, proofs::verifier::ValidatorStep,
};
use customhouse_proto::v1::{self, audit_server::Audit, read_receipt_response::Part};
use prost::Message as _;
use tonic::{Code, Request, Response, Status};

use super::{
    large::{self, Chunks},
    query::feed_share,
    receipts,
};
use crate::serve::{
    reads::{hash_field, read},
    refused::Refused,
};
use crate::services::Services;

/// Entries of the registry in one answer: some 200 bytes each.
const ENTRIES_MAX: usize = 4096;

/// Steps of the validator chain in one answer: with 256 validators some 30 KiB each.
const STEPS_MAX: usize = 64;

/// Entries of a history proof in one answer, so that it stays under gRPC's usual limit of 4 MiB.
/// Tests have short pages.
const PAGE_ENTRIES_MAX: usize = if cfg!(test) { 8 } else { 65_536 };

#[derive(Clone)]
pub(super) struct AuditService {
    pub(super) node: Arc<Services>,
}

/// The part of a history proof from an entry on.
fn history_proof_page(
    proof: v1::HistoryProof,
    from_entry: u64,
    entries_max: usize,
) -> Result<v1::GetHistoryProofResponse, Refused> {
    let count = proof.bucket_entries.len() / HistoryEntry::LENGTH;
    let from = usize::try_from(from_entry).ok().filter(|from| *from <= count);
    let from = from.ok_or_else(|| {
        let message = format!("from_entry: {from_entry}, the bucket has {count} entries");
        Refused::new(Code::OutOfRange, "HISTORY_ENTRY", message)
    })?;
    let next = count.min(from + entries_max);
    let entries = &proof.bucket_entries[from * HistoryEntry::LENGTH..next * HistoryEntry::LENGTH];
    let proof = v1::HistoryProof { bucket_entries: entries.to_vec(), ..proof };
    let next_entry = if next < count { next as u64 } else { 0 };
    Ok(v1::GetHistoryProofResponse { proof: Some(proof), next_entry })
}

#[tonic::async_trait]
impl Audit for AuditService {
    async fn get_genesis(
        &self,
        _: Request<v1::GetGenesisRequest>,
    ) -> Result<Response<v1::GetGenesisResponse>, Status> {
        let genesis = Some(self.node.genesis.to_proto());
        Ok(Response::new(v1::GetGenesisResponse { genesis }))
    }

    async fn get_header(
        &self,
        request: Request<v1::GetHeaderRequest>,
    ) -> Result<Response<v1::GetHeaderResponse>, Status> {
        let tip = self.node.reader.tip().header.height;
        let height = request.into_inner().height.unwrap_or(tip);
        let found = read(&self.node, move |reader| reader.header(height)).await?;
        let found = found.ok_or_else(|| {
            let message = format!("height: {height} is not committed yet, the newest is {tip}");
            Refused::new(Code::OutOfRange, "FUTURE_HEIGHT", message)
        })?;
        Ok(Response::new(v1::GetHeaderResponse {
            header: found.header.encode(),
            certificate: found.certificate.map(|c| c.encode()).unwrap_or_default(),
        }))
    }

    async fn get_receipt(
        &self,
        request: Request<v1::GetReceiptRequest>,
    ) -> Result<Response<v1::GetReceiptResponse>, Status> {
        let room = large::room_of(&request);
        let v1::GetReceiptRequest { record_id, with_record, with_steps } = request.into_inner();
        let id = hash_field("record_id", &record_id)?;
        let contents = receipts::Contents { with_record, with_steps };
        let found = large::receipt((&self.node, room.as_ref()), id, contents).await?;
        let receipt = found.ok_or_else(|| Refused::not_found("record", &id))?;
        Ok(Response::new(v1::GetReceiptResponse { receipt: Some(receipt) }))
    }

    type ReadReceiptStream = Chunks<v1::ReadReceiptResponse>;

    async fn read_receipt(
        &self,
        request: Request<v1::ReadReceiptRequest>,
    ) -> Result<Response<Self::ReadReceiptStream>, Status> {
        let room = large::room_of(&request);
        let v1::ReadReceiptRequest { record_id, with_steps } = request.into_inner();
        let id = hash_field("record_id", &record_id)?;
        let contents = receipts::Contents { with_record: true, with_steps };
        let find = move |reader: &ChainReader| receipts::one(reader, &id, contents);
        let of = (&*self.node, room.as_ref());
        let found = large::find_any(of, find, v1::Receipt::encoded_len).await?;
        let mut receipt = found.ok_or_else(|| Refused::not_found("record", &id))?;
        let record = Bytes::from(std::mem::take(&mut receipt.record));
        let record_length = record.len() as u64;
        let head = Part::Head(v1::ReceiptHead { receipt: Some(receipt), record_length });
        let part = |part| v1::ReadReceiptResponse { part: Some(part) };
        let chunk = move |bytes| part(Part::Chunk(bytes));
        Ok(Response::new(large::chunks(part(head), record, chunk)))
    }

    type GetReceiptsStream = receipts::Answers;

    async fn get_receipts(
        &self,
        mut request: Request<v1::GetReceiptsRequest>,
    ) -> Result<Response<Self::GetReceiptsStream>, Status> {
        let held = feed_share(&mut request)?;
        let v1::GetReceiptsRequest { record_ids, with_record, with_steps } = request.into_inner();
        let (ids, contents) =
            (receipts::ids_of(&record_ids)?, receipts::Contents { with_record, with_steps });
        let node = Arc::clone(&self.node);
        Ok(Response::new(receipts::of_records(node, held, ids, contents)))
    }

    async fn get_history_proof(
        &self,
        request: Request<v1::GetHistoryProofRequest>,
    ) -> Result<Response<v1::GetHistoryProofResponse>, Status> {
        let v1::GetHistoryProofRequest { subject_key, from_entry } = request.into_inner();
        let key = hash_field("subject_key", &subject_key)?;
        let page = move |reader: &ChainReader| {
            Ok(history_proof_page(reader.history_proof(&key)?, from_entry, PAGE_ENTRIES_MAX))
        };
        Ok(Response::new(read(&self.node, page).await??))
    }

    async fn get_consistency_proof(
        &self,
        request: Request<v1::GetConsistencyProofRequest>,
    ) -> Result<Response<v1::GetConsistencyProofResponse>, Status> {
        let v1::GetConsistencyProofRequest { from_size, to_size } = request.into_inner();
        let log_size = self.node.reader.tip().header.log_size;
        if from_size == 0 || from_size > to_size || to_size > log_size {
            let message = format!(
                "from_size: 0 < from_size ≤ to_size ≤ {log_size} expected, {from_size} and \
                 {to_size} found"
            );
            return Err(Refused::new(Code::OutOfRange, "LOG_SIZE", message).into());
        }
        let path = read(&self.node, move |reader| reader.consistency(from_size, to_size)).await?;
        let path = merkle::path_bytes(&path);
        Ok(Response::new(v1::GetConsistencyProofResponse { path }))
    }
    async fn get_validator_chain(
        &self,
        request: Request<v1::GetValidatorChainRequest>,
    ) -> Result<Response<v1::GetValidatorChainResponse>, Status> {
        let from = request.into_inner().from_height;
        let mut steps =
            read(&self.node, move |reader| reader.validator_changes(from, STEPS_MAX + 1)).await?;
        let next_height = steps.get(STEPS_MAX).map_or(0, |next| next.header.height);
        steps.truncate(STEPS_MAX);
        let steps = steps.iter().map(ValidatorStep::to_proto).collect();
        Ok(Response::new(v1::GetValidatorChainResponse { steps, next_height }))
    }

    async fn get_decision(
        &self,
        request: Request<v1::GetDecisionRequest>,
    ) -> Result<Response<v1::GetDecisionResponse>, Status> {
        let height = request.into_inner().height;
        if height == 0 {
            let message = "height: 0 is the genesis's, which nobody decided".to_owned();
            return Err(Refused::new(Code::OutOfRange, "GENESIS_HEIGHT", message).into());
        }
        let decision = read(&self.node, move |reader| reader.decision(height)).await?;
        let decision = decision.ok_or_else(|| {
            let tip = self.node.reader.tip().header.height;
            let message = format!("height: {height} is not committed yet, the newest is {tip}");
            Refused::new(Code::OutOfRange, "FUTURE_HEIGHT", message)
        })?;
        let decision = Some(decision.to_proto());
        Ok(Response::new(v1::GetDecisionResponse { decision }))
    }

    async fn get_checkpoint(
        &self,
        request: Request<v1::GetCheckpointRequest>,
    ) -> Result<Response<v1::GetCheckpointResponse>, Status> {
        let signer = self.node.checkpoints.as_ref().ok_or_else(|| {
            let message =
                "this node signs no checkpoints: its configuration has no keys.checkpoint";
            Refused::new(Code::FailedPrecondition, "NO_CHECKPOINT_KEY", message)
        })?;
        let tip = self.node.reader.tip();
        let path = match request.into_inner().log_index {
            None => Vec::new(),
            Some(index) => {
                let of = Arc::clone(&tip);
                let prove = move |reader: &ChainReader| reader.log_inclusion(&of.header, index);
                read(&self.node, prove).await?.ok_or_else(|| {
                    let message = format!("log_index: {index} is not on the log yet");
                    Refused::new(Code::OutOfRange, "LOG_INDEX", message)
                })?
            }
        };
        Ok(Response::new(v1::GetCheckpointResponse {
            note: signer.note(&tip.header),
            verifier_key: signer.verifier().to_string(),
            header: tip.header.encode(),
            certificate: tip.certificate.as_ref().map(|c| c.encode()).unwrap_or_default(),
            path: merkle::path_bytes(&path),
        }))
    }

    async fn get_registry(
        &self,
        request: Request<v1::GetRegistryRequest>,
    ) -> Result<Response<v1::GetRegistryResponse>, Status> {
        let tip = self.node.reader.tip();
        let from = usize::try_from(request.into_inner().from_index).unwrap_or(usize::MAX);
        let entries: Vec<_> =
            tip.registry.entries().skip(from).take(ENTRIES_MAX).cloned().collect();
        let next = from.saturating_add(entries.len());
        let more = next < tip.registry.count();
        Ok(Response::new(v1::GetRegistryResponse {
            height: tip.header.height,
            registry_root: tip.header.registry_root.0.to_vec(),
            entries,
            next_index: if more { next as u64 } else { 0 },
            agreements_root: tip.agreements.root().0.to_vec(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_a_history_proof_are_the_proof_also_where_it_grows_meanwhile() {
        let proof = |count: u8| v1::HistoryProof {
            bucket_entries: (0..count).flat_map(|n| [n; HistoryEntry::LENGTH]).collect(),
            path: vec![count],
            ..Default::default()
        };
        let (mut entries, mut from, mut count) = (Vec::new(), 0, 5);
        let last = loop {
            let page = history_proof_page(proof(count), from, 3).expect("a page");
            let part = page.proof.expect("there");
            entries.extend_from_slice(&part.bucket_entries);
            if page.next_entry == 0 {
                break part;
            }
            (from, count) = (page.next_entry, count + 1);
        };
        assert_eq!(v1::HistoryProof { bucket_entries: entries, ..last }, proof(6));
        let all = history_proof_page(proof(6), 6, 3).expect("none are left");
        assert_eq!((all.next_entry, all.proof.expect("there").bucket_entries.len()), (0, 0));
        let beyond = history_proof_page(proof(6), 7, 3).expect_err("refused");
        assert_eq!((beyond.code, beyond.reason_code), (Code::OutOfRange, "HISTORY_ENTRY"));
    }
}
