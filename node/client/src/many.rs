//! The calls that give many records or receipts.

use customhouse_ledger::hash::Hash;
use customhouse_proto::v1;
use tonic::Streaming;

use super::client::{Client, asked};
use crate::error::ClientError;

impl Client {
    /// The receipts of many records, at most [`REQUEST_RECORDS_MAX`](crate::contract::REQUEST_RECORDS_MAX),
    /// in the order asked for, with the changes of the validators that they need.
    ///
    /// # Errors
    /// The stream did not begin; see [`ClientError`].
    pub async fn receipts(
        &self,
        record_ids: &[Hash],
    ) -> Result<Streaming<v1::ReceiptBatch>, ClientError> {
        let record_ids = record_ids.iter().map(|id| id.0.to_vec()).collect();
        let request = v1::GetReceiptsRequest { record_ids, with_record: true, with_steps: true };
        Ok(self.audit().get_receipts(request).await?.into_inner())
    }

    /// The same as they become final, in the order in which they end.
    ///
    /// # Errors
    /// The stream did not begin; see [`ClientError`].
    pub async fn stream_receipts(
        &self,
        record_ids: &[Hash],
    ) -> Result<Streaming<v1::ReceiptBatch>, ClientError> {
        let record_ids = record_ids.iter().map(|id| id.0.to_vec()).collect();
        let request = v1::StreamReceiptsRequest { record_ids, with_record: true, with_steps: true };
        Ok(self.submission().stream_receipts(request).await?.into_inner())
    }

    /// A page of the records that a filter takes.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn list_records(
        &self,
        request: v1::ListRecordsRequest,
    ) -> Result<v1::ListRecordsResponse, ClientError> {
        Ok(self.query().list_records(asked(request)).await?.into_inner())
    }

    /// The records that a filter takes, in the order of the log, and each as it is committed.
    ///
    /// # Errors
    /// The stream did not begin; see [`ClientError`].
    pub async fn subscribe(
        &self,
        request: v1::SubscribeRequest,
    ) -> Result<Streaming<v1::SubscribeResponse>, ClientError> {
        Ok(self.query().subscribe(request).await?.into_inner())
    }
}
