//! The calls about agreements. For operators.

use customhouse_ledger::hash::Hash;
use customhouse_proto::v1::{self, agreements_client::AgreementsClient};
use tonic::transport::Channel;

use crate::{
    client::{Client, missing},
    error::ClientError,
};

impl Client {
    fn agreements(&self) -> AgreementsClient<Channel> {
        AgreementsClient::new(self.channel())
    }

    /// Has the node propose an epoch, which it approves; gives the offer, and what it lets whom read.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn propose_agreement(
        &self,
        request: v1::ProposeAgreementRequest,
    ) -> Result<(v1::AgreementOffer, Vec<String>), ClientError> {
        let answer = self.agreements().propose(request).await?.into_inner();
        Ok((answer.offer.ok_or_else(|| missing("offer"))?, answer.sentences))
    }

    /// Has the node open an offer, without approving it.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn open_offer(
        &self,
        offer: v1::AgreementOffer,
    ) -> Result<v1::OpenOfferResponse, ClientError> {
        let request = v1::OpenOfferRequest { offer: Some(offer) };
        Ok(self.agreements().open_offer(request).await?.into_inner())
    }

    /// Has the node approve an offer; gives it with the approval.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn approve_offer(
        &self,
        offer: v1::AgreementOffer,
    ) -> Result<v1::AgreementOffer, ClientError> {
        let request = v1::ApproveOfferRequest { offer: Some(offer) };
        let answer = self.agreements().approve_offer(request).await?.into_inner();
        answer.offer.ok_or_else(|| missing("offer"))
    }

    /// Has the node lodge an offer that all have approved.
    ///
    /// # Errors
    /// It was not taken; see [`ClientError`].
    pub async fn lodge_offer(
        &self,
        offer: v1::AgreementOffer,
    ) -> Result<v1::LodgeOfferResponse, ClientError> {
        let request = v1::LodgeOfferRequest { offer: Some(offer) };
        Ok(self.agreements().lodge_offer(request).await?.into_inner())
    }

    /// Has the node leave an agreement; gives the record's id.
    ///
    /// # Errors
    /// It was not taken; see [`ClientError`].
    pub async fn leave_agreement(&self, agreement: &Hash) -> Result<Hash, ClientError> {
        let request = v1::LeaveAgreementRequest { agreement: agreement.0.to_vec() };
        let answer = self.agreements().leave(request).await?.into_inner();
        Hash::from_slice(&answer.record_id).map_err(|_| missing("record_id"))
    }

    /// All agreements; of all agencies, and those that are over, where that is asked for.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn agreements_listed(
        &self,
        all: bool,
        ended: bool,
    ) -> Result<Vec<v1::AgreementSummary>, ClientError> {
        let mut listed: Vec<v1::AgreementSummary> = Vec::new();
        loop {
            let after = listed.last().map(|last| last.agreement.clone()).unwrap_or_default();
            let request = v1::ListAgreementsRequest { all, ended, after };
            let answer = self.agreements().list(request).await?.into_inner();
            let is_last = !answer.more || answer.agreements.is_empty();
            listed.extend(answer.agreements);
            if is_last {
                return Ok(listed);
            }
        }
    }

    /// The newest epochs of an agreement, newest first; and whether there are older ones.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn agreement(
        &self,
        agreement: &Hash,
        below: u32,
    ) -> Result<(Vec<v1::EpochView>, bool), ClientError> {
        let request = v1::ShowAgreementRequest { agreement: agreement.0.to_vec(), below };
        let answer = self.agreements().show(request).await?.into_inner();
        Ok((answer.epochs, answer.more))
    }
}
