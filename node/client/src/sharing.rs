//! Who holds sealed records, and sharing them with more parties.

use customhouse_ledger::hash::Hash;
use customhouse_proto::v1;

use crate::{
    client::{Client, asked},
    error::ClientError,
};

impl Client {
    /// Which parties hold a sealed record of this agency; waits so many milliseconds until all do.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn delivery(
        &self,
        record_id: Hash,
        wait_ms: u32,
    ) -> Result<v1::GetDeliveryResponse, ClientError> {
        let request = v1::GetDeliveryRequest { record_id: record_id.0.to_vec(), wait_ms };
        Ok(self.query().get_delivery(asked(request)).await?.into_inner())
    }

    /// Shares a sealed record of this agency under another agreement too.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn grant(
        &self,
        record_id: Hash,
        agreement: Hash,
    ) -> Result<v1::GrantResponse, ClientError> {
        let (record_id, agreement) = (record_id.0.to_vec(), agreement.0.to_vec());
        let request = v1::GrantRequest { record_id, agreement };
        Ok(self.submission().grant(asked(request)).await?.into_inner())
    }
}
