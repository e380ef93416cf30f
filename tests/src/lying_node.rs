//! A node that lies to its clients: what a real node answers, changed on the way.

use std::sync::atomic::{AtomicBool, Ordering};

use customhouse_ledger::hash::Hash;
use customhouse_node::tls::ServerTls;
use customhouse_proto::v1::{
    self,
    audit_client::AuditClient,
    audit_server::{Audit, AuditServer},
    query_client::QueryClient,
    query_server::{Query, QueryServer},
};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Channel, Server},
};

use crate::cluster::Cluster;

/// What the node lies about. The rest it answers as the real one does.
#[derive(Clone, Debug)]
pub enum Lie {
    /// Leaves a record out of the list of a subject's records.
    OmitFromList(Hash),
    /// Leaves it out of the list and out of the proof.
    OmitFromProof(Hash),
    /// Leaves the whole bucket out: nothing is about any subject in it.
    EmptyBucket,
    /// Changes a byte of every record that it hands out.
    ForgeRecords,
    /// Gives every receipt the record, and the slot, of this other one.
    SwapRecords(Box<v1::Receipt>),
    /// Shows this height as its newest.
    OldHead(u64),
    /// Shows its newest head once, and then this height as its newest.
    GoBack(u64),
    /// Answers with this proof, which was right once.
    OldProof(Box<v1::HistoryProof>),
    /// Shows a log root of its own in its newest header.
    ForgeHead,
    /// Proves that its log continues another with hashes of its own.
    ForgeConsistency,
    /// Shows another block at its height, and otherwise what is true.
    OtherBlock(Box<v1::GetHeaderResponse>, u64),
    /// Lists the same records again and again.
    EndlessList,
    /// Answers with this many changes of the validators, in which there is nothing.
    EmptyChanges(usize),
}

/// The lying node: a gRPC server with a real node's certificate. Ends with its handle.
pub struct LyingNode {
    /// Its endpoint.
    pub endpoint: String,
    serving: JoinHandle<()>,
}

impl LyingNode {
    /// Starts one before a node of a cluster.
    pub async fn start(cluster: &Cluster, node: usize, lie: Lie) -> Self {
        let tls = &cluster.agency(node).config.api.tls;
        let tls = ServerTls::read(&tls.ca, &tls.cert, &tls.key).expect("the layout made them");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let channel = cluster.client(node, "auditor").channel();
        let front = || Front {
            channel: channel.clone(),
            lie: lie.clone(),
            has_shown_a_head: AtomicBool::new(false),
        };
        let server = Server::builder()
            .tls_config(tls.config())
            .expect("the node's own certificate")
            .add_service(AuditServer::new(front()))
            .add_service(QueryServer::new(front()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        let serving = tokio::spawn(async move { server.await.expect("it serves") });
        Self { endpoint: format!("https://localhost:{port}"), serving }
    }
}

impl Drop for LyingNode {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

struct Front {
    channel: Channel,
    lie: Lie,
    has_shown_a_head: AtomicBool,
}

impl Front {
    fn audit(&self) -> AuditClient<Channel> {
        AuditClient::new(self.channel.clone())
    }

    fn query(&self) -> QueryClient<Channel> {
        QueryClient::new(self.channel.clone())
    }

    fn omits(&self, record_id: &[u8]) -> bool {
        match &self.lie {
            Lie::OmitFromList(id) | Lie::OmitFromProof(id) => record_id == id.as_bytes(),
            Lie::EmptyBucket => true,
            _ => false,
        }
    }

    /// Where the record is that is to be left out.
    async fn place(&self, id: &Hash) -> Result<(u64, u32), Status> {
        let (record_id, with_record) = (id.0.to_vec(), false);
        let request = v1::GetReceiptRequest { record_id, with_record, with_steps: false };
        let receipt = self.audit().get_receipt(request).await?.into_inner().receipt;
        let receipt = receipt.ok_or_else(|| Status::internal("no receipt"))?;
        Ok((receipt.log_index, receipt.slot_index))
    }
}

#[tonic::async_trait]
impl Audit for Front {
    async fn get_header(
        &self,
        request: Request<v1::GetHeaderRequest>,
    ) -> Result<Response<v1::GetHeaderResponse>, Status> {
        let mut request = request.into_inner();
        match (&self.lie, request.height) {
            (Lie::OldHead(height), None) => request.height = Some(*height),
            (Lie::GoBack(height), None) if self.has_shown_a_head.swap(true, Ordering::Relaxed) => {
                request.height = Some(*height);
            }
            (Lie::OldHead(newest), Some(height)) if height > *newest => {
                return Err(Status::out_of_range("not committed yet"));
            }
            _ => {}
        }
        if let Lie::OtherBlock(other, height) = &self.lie
            && request.height == Some(*height)
        {
            return Ok(Response::new((**other).clone()));
        }
        let mut answer = self.audit().get_header(request).await?.into_inner();
        if matches!(self.lie, Lie::ForgeHead) && request.height.is_none() {
            // In the log root: after version, chain, height, time, parent and two log sizes.
            answer.header[2 + 32 + 8 + 8 + 32 + 8 + 8] ^= 1;
        }
        Ok(Response::new(answer))
    }

    type ReadReceiptStream = Streaming<v1::ReadReceiptResponse>;

    async fn read_receipt(
        &self,
        request: Request<v1::ReadReceiptRequest>,
    ) -> Result<Response<Self::ReadReceiptStream>, Status> {
        self.audit().read_receipt(request.into_inner()).await
    }

    async fn get_receipt(
        &self,
        request: Request<v1::GetReceiptRequest>,
    ) -> Result<Response<v1::GetReceiptResponse>, Status> {
        let mut answer = self.audit().get_receipt(request.into_inner()).await?.into_inner();
        if let Some(receipt) = &mut answer.receipt {
            match &self.lie {
                Lie::ForgeRecords => {
                    // Its last byte is in a text.
                    if let Some(byte) = receipt.record.last_mut() {
                        *byte ^= 1;
                    }
                }
                Lie::SwapRecords(other) => {
                    receipt.record.clone_from(&other.record);
                    receipt.slot.clone_from(&other.slot);
                }
                _ => {}
            }
        }
        Ok(Response::new(answer))
    }

    async fn get_history_proof(
        &self,
        request: Request<v1::GetHistoryProofRequest>,
    ) -> Result<Response<v1::GetHistoryProofResponse>, Status> {
        if let Lie::OldProof(proof) = &self.lie {
            let proof = Some(*proof.clone());
            return Ok(Response::new(v1::GetHistoryProofResponse { proof, next_entry: 0 }));
        }
        let mut answer = self.audit().get_history_proof(request.into_inner()).await?.into_inner();
        let proof = answer.proof.as_mut().ok_or_else(|| Status::internal("no proof"))?;
        match &self.lie {
            Lie::EmptyBucket => proof.bucket_entries.clear(),
            Lie::OmitFromProof(id) => {
                let (log_index, position) = self.place(id).await?;
                let place = [&log_index.to_be_bytes()[..], &position.to_be_bytes()].concat();
                let entries = proof.bucket_entries.chunks(44).filter(|entry| entry[32..] != place);
                proof.bucket_entries = entries.flatten().copied().collect();
            }
            _ => {}
        }
        Ok(Response::new(answer))
    }

    async fn get_consistency_proof(
        &self,
        request: Request<v1::GetConsistencyProofRequest>,
    ) -> Result<Response<v1::GetConsistencyProofResponse>, Status> {
        let answer = self.audit().get_consistency_proof(request.into_inner()).await;
        let mut answer = answer?.into_inner();
        if matches!(self.lie, Lie::ForgeConsistency) {
            answer.path.iter_mut().step_by(32).for_each(|byte| *byte ^= 1);
        }
        Ok(Response::new(answer))
    }

    async fn get_genesis(
        &self,
        request: Request<v1::GetGenesisRequest>,
    ) -> Result<Response<v1::GetGenesisResponse>, Status> {
        self.audit().get_genesis(request.into_inner()).await
    }

    async fn get_validator_chain(
        &self,
        request: Request<v1::GetValidatorChainRequest>,
    ) -> Result<Response<v1::GetValidatorChainResponse>, Status> {
        match self.lie {
            Lie::EmptyChanges(count) => {
                let steps = vec![v1::ValidatorStep::default(); count];
                let answer = v1::GetValidatorChainResponse { steps, next_height: 0 };
                Ok(Response::new(answer))
            }
            _ => self.audit().get_validator_chain(request.into_inner()).await,
        }
    }

    async fn get_decision(
        &self,
        request: Request<v1::GetDecisionRequest>,
    ) -> Result<Response<v1::GetDecisionResponse>, Status> {
        self.audit().get_decision(request.into_inner()).await
    }

    async fn get_checkpoint(
        &self,
        request: Request<v1::GetCheckpointRequest>,
    ) -> Result<Response<v1::GetCheckpointResponse>, Status> {
        self.audit().get_checkpoint(request.into_inner()).await
    }

    async fn get_registry(
        &self,
        request: Request<v1::GetRegistryRequest>,
    ) -> Result<Response<v1::GetRegistryResponse>, Status> {
        self.audit().get_registry(request.into_inner()).await
    }

    type GetReceiptsStream = Streaming<v1::ReceiptBatch>;

    async fn get_receipts(
        &self,
        request: Request<v1::GetReceiptsRequest>,
    ) -> Result<Response<Self::GetReceiptsStream>, Status> {
        self.audit().get_receipts(request.into_inner()).await
    }
}

#[tonic::async_trait]
impl Query for Front {
    async fn get_record(
        &self,
        request: Request<v1::GetRecordRequest>,
    ) -> Result<Response<v1::GetRecordResponse>, Status> {
        self.query().get_record(request.into_inner()).await
    }

    async fn get_delivery(
        &self,
        request: Request<v1::GetDeliveryRequest>,
    ) -> Result<Response<v1::GetDeliveryResponse>, Status> {
        self.query().get_delivery(request.into_inner()).await
    }

    type ReadRecordStream = Streaming<v1::ReadRecordResponse>;

    async fn read_record(
        &self,
        request: Request<v1::ReadRecordRequest>,
    ) -> Result<Response<Self::ReadRecordStream>, Status> {
        self.query().read_record(request.into_inner()).await
    }

    type ReadTransactionStream = Streaming<v1::ReadTransactionResponse>;

    async fn read_transaction(
        &self,
        request: Request<v1::ReadTransactionRequest>,
    ) -> Result<Response<Self::ReadTransactionStream>, Status> {
        self.query().read_transaction(request.into_inner()).await
    }

    async fn get_transaction(
        &self,
        request: Request<v1::GetTransactionRequest>,
    ) -> Result<Response<v1::GetTransactionResponse>, Status> {
        self.query().get_transaction(request.into_inner()).await
    }

    async fn get_history(
        &self,
        request: Request<v1::GetHistoryRequest>,
    ) -> Result<Response<v1::GetHistoryResponse>, Status> {
        let mut request = request.into_inner();
        if matches!(self.lie, Lie::EndlessList) {
            request.page_token.clear();
        }
        let mut answer = self.query().get_history(request).await?.into_inner();
        answer.items.retain(|item| !self.omits(&item.record_id));
        if matches!(self.lie, Lie::EndlessList) {
            answer.next_page_token = b"more".to_vec();
        }
        Ok(Response::new(answer))
    }

    async fn list_records(
        &self,
        request: Request<v1::ListRecordsRequest>,
    ) -> Result<Response<v1::ListRecordsResponse>, Status> {
        self.query().list_records(request.into_inner()).await
    }

    type SubscribeStream = Streaming<v1::SubscribeResponse>;

    async fn subscribe(
        &self,
        request: Request<v1::SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        self.query().subscribe(request.into_inner()).await
    }
}
