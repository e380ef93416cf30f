//! Records, receipts and transactions that are too large for one answer: read in chunks.

use customhouse_ledger::{
    hash::Hash,
    limits::{RECORD_BYTES_MAX, TRANSACTION_BYTES_MAX},
};
use customhouse_proto::v1::{
    self, read_receipt_response::Part as ReceiptPart, read_record_response::Part as RecordPart,
    read_transaction_response::Part as TransactionPart,
};
use prost::Message as _;
use tonic::Streaming;

use super::client::{Client, asked, missing};
use crate::error::ClientError;

impl Client {
    /// A record by its id, however large it is.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn read_record(&self, record_id: Hash) -> Result<v1::GetRecordResponse, ClientError> {
        let _turn = self.large_turn().await;
        let request = v1::ReadRecordRequest { record_id: record_id.0.to_vec() };
        let mut parts = self.query().read_record(asked(request)).await?.into_inner();
        let Some(RecordPart::Head(head)) = parts.message().await?.and_then(|m| m.part) else {
            return Err(missing("head"));
        };
        let v1::RecordHead { record_id, length, place, freshness } = head;
        let chunk = |message: v1::ReadRecordResponse| match message.part {
            Some(RecordPart::Chunk(chunk)) => Some(chunk),
            _ => None,
        };
        let record = whole(parts, chunk, length, RECORD_BYTES_MAX).await?;
        Ok(v1::GetRecordResponse { record_id, record, place, freshness })
    }

    /// A record's receipt with the record in it, however large that is.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn read_receipt(
        &self,
        record_id: Hash,
        with_steps: bool,
    ) -> Result<v1::Receipt, ClientError> {
        let _turn = self.large_turn().await;
        let record_id = record_id.0.to_vec();
        let request = v1::ReadReceiptRequest { record_id, with_steps };
        let mut parts = self.audit().read_receipt(asked(request)).await?.into_inner();
        let Some(ReceiptPart::Head(head)) = parts.message().await?.and_then(|m| m.part) else {
            return Err(missing("head"));
        };
        let receipt = head.receipt.ok_or_else(|| missing("receipt"))?;
        let chunk = |message: v1::ReadReceiptResponse| match message.part {
            Some(ReceiptPart::Chunk(chunk)) => Some(chunk),
            _ => None,
        };
        let record = whole(parts, chunk, head.record_length, RECORD_BYTES_MAX).await?;
        Ok(v1::Receipt { record, ..receipt })
    }

    /// A transaction by its id, however large it is.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn read_transaction(
        &self,
        id: Hash,
    ) -> Result<v1::GetTransactionResponse, ClientError> {
        let _turn = self.large_turn().await;
        let request = v1::ReadTransactionRequest { transaction_id: id.0.to_vec() };
        let mut parts = self.query().read_transaction(asked(request)).await?.into_inner();
        let Some(TransactionPart::Head(head)) = parts.message().await?.and_then(|m| m.part) else {
            return Err(missing("head"));
        };
        let v1::TransactionHead { length, height, time_ms, log_index, freshness } = head;
        let chunk = |message: v1::ReadTransactionResponse| match message.part {
            Some(TransactionPart::Chunk(chunk)) => Some(chunk),
            _ => None,
        };
        let bytes = whole(parts, chunk, length, TRANSACTION_BYTES_MAX).await?;
        let transaction = v1::Transaction::decode(&*bytes)
            .map_err(|error| ClientError::Answer(format!("transaction: {error}")))?;
        let transaction = Some(transaction);
        Ok(v1::GetTransactionResponse { transaction, height, time_ms, log_index, freshness })
    }
}

/// Puts chunks together, of which the node has said how many bytes they are.
async fn whole<T>(
    mut parts: Streaming<T>,
    chunk_of: impl Fn(T) -> Option<Vec<u8>>,
    length: u64,
    bytes_max: usize,
) -> Result<Vec<u8>, ClientError> {
    let wrong = |what: &str| ClientError::Answer(format!("chunks: {what}"));
    let length = usize::try_from(length).ok().filter(|length| *length <= bytes_max);
    let length = length.ok_or_else(|| wrong("more bytes than there may be"))?;
    let mut bytes = Vec::new();
    while let Some(message) = parts.message().await? {
        bytes.extend(chunk_of(message).ok_or_else(|| wrong("something else among them"))?);
        if bytes.len() > length {
            return Err(wrong("more bytes than were said"));
        }
    }
    if bytes.len() < length {
        return Err(wrong("fewer bytes than were said"));
    }
    Ok(bytes)
}
