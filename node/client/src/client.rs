//! The client: a method for each call of the services.

use std::{fmt, sync::Arc, time::Duration};

use customhouse_ledger::{
    agency::AgencyCode,
    finality::{certificate::Certificate, decision::Decision, header::Header},
    hash::Hash,
    history::HistoryEntry,
    limits::{HISTORY_PROOF_BYTES_MAX, VALIDATOR_CHAIN_BYTES_MAX},
    merkle,
    registry::{self, Registry, genesis::Genesis},
    tlog::{
        export::CertifiedCheckpoint,
        note::{NoteError, VerifierKey},
    },
};
use customhouse_proto::v1::{
    self, admin_client::AdminClient, audit_client::AuditClient, get_history_request::SubjectOrKey,
    import_client::ImportClient, query_client::QueryClient, submission_client::SubmissionClient,
};
use futures::{Stream, TryStreamExt as _, stream};
use prost::Message as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{
    Request, Status, Streaming,
    transport::{Channel, Endpoint},
};

use crate::{
    connecting::{self, Connector},
    contract::{REASON_CODE, RECORD_LARGE, REQUEST_BYTES_MAX, TRANSACTION_LARGE},
    error::ClientError,
    tls::ClientTls,
};

/// For all steps of a connection together; each step has a limit of its own, which says where it stood still.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(35);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// What the node may send ahead of being read: in one stream, and in all.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 8 * 1024 * 1024;

/// How long a question about the ledger may go without the beginning of an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);
/// Most bytes of an answer: what is larger comes in pages. One that is full of empty messages takes
/// some fifty times as much memory.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// More pages than a registry has, also where it changes a few times meanwhile.
const REGISTRY_PAGES_MAX: usize = 256;

/// A connection to a node. Cheap to clone; the clones share the connection, which is made again
/// when it breaks.
#[derive(Clone, Debug)]
pub struct Client {
    channel: Channel,
    /// One large thing is read at a time: a node holds back whoever reads more.
    large: Arc<Semaphore>,
}

/// The registry after a block.
#[derive(Clone, Debug)]
pub struct RegistryAt {
    /// The block's height.
    pub height: u64,
    /// The members.
    pub registry: Registry,
    /// The root over members and agreements, as the block's header has it.
    pub root: Hash,
}

impl Client {
    /// Connects. The endpoint is `host:port`, or `https://host:port`.
    ///
    /// # Errors
    /// [`ClientError::Endpoint`], [`ClientError::Certificate`] or [`ClientError::Connect`].
    pub async fn connect(endpoint: &str, tls: &ClientTls) -> Result<Self, ClientError> {
        let connect = |source| ClientError::Connect { endpoint: endpoint.to_owned(), source };
        let (to, connector) = configure(endpoint, tls)?;
        let channel = to.connect_with_connector(connector).await.map_err(connect)?;
        Ok(Self::of(channel))
    }

    /// Connects when the first call is made, and not before.
    ///
    /// # Errors
    /// [`ClientError::Endpoint`] or [`ClientError::Certificate`].
    pub fn connect_lazily(endpoint: &str, tls: &ClientTls) -> Result<Self, ClientError> {
        let (to, connector) = configure(endpoint, tls)?;
        Ok(Self::of(to.connect_with_connector_lazy(connector)))
    }

    fn of(channel: Channel) -> Self {
        Self { channel, large: Arc::new(Semaphore::new(1)) }
    }

    pub(crate) async fn large_turn(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.large).acquire_owned().await.ok()
    }

    /// The channel, for the generated clients of other services.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub(crate) fn submission(&self) -> SubmissionClient<Channel> {
        SubmissionClient::new(self.channel())
            .max_decoding_message_size(ANSWER_BYTES_MAX)
            .max_encoding_message_size(REQUEST_BYTES_MAX)
    }

    fn import(&self) -> ImportClient<Channel> {
        ImportClient::new(self.channel())
            .max_decoding_message_size(ANSWER_BYTES_MAX)
            .max_encoding_message_size(REQUEST_BYTES_MAX)
    }

    pub(crate) fn query(&self) -> QueryClient<Channel> {
        QueryClient::new(self.channel()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    pub(crate) fn audit(&self) -> AuditClient<Channel> {
        AuditClient::new(self.channel()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    /// Submits records for the node to sign: at most
    /// [`REQUEST_RECORDS_MAX`](crate::contract::REQUEST_RECORDS_MAX), and [`REQUEST_BYTES_MAX`] together.
    /// One result a record, in order; with `wait` when all are final.
    ///
    /// # Errors
    /// Nothing was taken; see [`ClientError`].
    pub async fn submit_records(
        &self,
        records: Vec<v1::RecordSubmission>,
        wait: bool,
    ) -> Result<Vec<v1::RecordResult>, ClientError> {
        let request = v1::SubmitRecordsRequest { records, wait };
        Ok(self.submission().submit_records(request).await?.into_inner().results)
    }

    /// Submits records as they come. The answers come as each is accepted, or final where asked
    /// for; they carry the idempotency keys. The records are read as fast as the node takes them.
    ///
    /// # Errors
    /// The stream did not begin; see [`ClientError`].
    pub async fn stream_records(
        &self,
        records: impl Stream<Item = v1::StreamRecordsRequest> + Send + 'static,
    ) -> Result<Streaming<v1::RecordResult>, ClientError> {
        Ok(self.submission().stream_records(records).await?.into_inner())
    }

    /// Has the node make records of raw messages, and lodge them where asked. One result a message, or a row,
    /// in order.
    ///
    /// # Errors
    /// The call was refused: nothing was lodged; see [`ClientError`].
    pub async fn import_messages(
        &self,
        options: v1::ImportOptions,
        messages: Vec<v1::ImportMessage>,
    ) -> Result<Vec<v1::ImportResult>, ClientError> {
        let request = v1::ImportMessagesRequest { options: Some(options), messages };
        Ok(self.import().import_messages(request).await?.into_inner().results)
    }

    /// The same for a larger batch: the results come as they are known.
    ///
    /// # Errors
    /// The stream did not begin; see [`ClientError`].
    pub async fn stream_import(
        &self,
        requests: impl Stream<Item = v1::StreamImportRequest> + Send + 'static,
    ) -> Result<Streaming<v1::ImportResult>, ClientError> {
        Ok(self.import().stream_import(requests).await?.into_inner())
    }

    /// Submits a signed transaction; with `wait` answers when it has ended.
    ///
    /// # Errors
    /// It was not taken; see [`ClientError`].
    pub async fn submit_transaction(
        &self,
        transaction: v1::Transaction,
        wait: bool,
    ) -> Result<v1::SubmitTransactionResponse, ClientError> {
        let request = v1::SubmitTransactionRequest { transaction: Some(transaction), wait };
        Ok(self.submission().submit_transaction(request).await?.into_inner())
    }

    /// Submits signed transactions as they come, see [`Client::stream_records`].
    ///
    /// # Errors
    /// The stream did not begin; see [`ClientError`].
    pub async fn stream_transactions(
        &self,
        transactions: impl Stream<Item = v1::SubmitTransactionRequest> + Send + 'static,
    ) -> Result<Streaming<v1::SubmitTransactionResponse>, ClientError> {
        Ok(self.submission().stream_transactions(transactions).await?.into_inner())
    }

    /// Waits until a record has ended, for as long as the node waits; the phase is ACCEPTED where
    /// it has not ended by then. Its receipt comes without the record.
    ///
    /// # Errors
    /// Unknown to the node; see [`ClientError`].
    pub async fn wait_receipt(
        &self,
        record_id: Hash,
        limit: Option<Duration>,
    ) -> Result<v1::WaitReceiptResponse, ClientError> {
        let timeout_ms = limit.map_or(0, |limit| {
            // 0 stands for the server's limit.
            u32::try_from(limit.as_millis()).unwrap_or(u32::MAX).max(1)
        });
        let (record_id, with_record) = (record_id.0.to_vec(), false);
        let request = v1::WaitReceiptRequest { record_id, timeout_ms, with_record };
        Ok(self.submission().wait_receipt(request).await?.into_inner())
    }

    /// A record by its id.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn record(&self, record_id: Hash) -> Result<v1::GetRecordResponse, ClientError> {
        let request = v1::GetRecordRequest { record_id: record_id.0.to_vec() };
        match self.query().get_record(asked(request)).await {
            Err(status) if is_of(&status, RECORD_LARGE) => self.read_record(record_id).await,
            answer => Ok(answer?.into_inner()),
        }
    }

    /// A transaction by its id.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn transaction(&self, id: Hash) -> Result<v1::GetTransactionResponse, ClientError> {
        let request = v1::GetTransactionRequest { transaction_id: id.0.to_vec() };
        match self.query().get_transaction(asked(request)).await {
            Err(status) if is_of(&status, TRANSACTION_LARGE) => self.read_transaction(id).await,
            answer => Ok(answer?.into_inner()),
        }
    }

    /// One page of a subject's history; an empty token is the first page.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn history_page(
        &self,
        subject: SubjectOrKey,
        page_size: u32,
        page_token: Vec<u8>,
    ) -> Result<v1::GetHistoryResponse, ClientError> {
        let subject_or_key = Some(subject);
        let without_links = true;
        let request =
            v1::GetHistoryRequest { page_size, page_token, without_links, subject_or_key };
        Ok(self.query().get_history(asked(request)).await?.into_inner())
    }

    /// One page of a subject's history, with the records that are linked with those of the page.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn linked_history_page(
        &self,
        subject: SubjectOrKey,
        page_size: u32,
        page_token: Vec<u8>,
    ) -> Result<v1::GetHistoryResponse, ClientError> {
        let subject_or_key = Some(subject);
        let without_links = false;
        let request =
            v1::GetHistoryRequest { page_size, page_token, without_links, subject_or_key };
        Ok(self.query().get_history(asked(request)).await?.into_inner())
    }

    /// A subject's whole history, page by page as it is read; a record that is too large for a page by
    /// itself.
    pub fn history(
        &self,
        subject: SubjectOrKey,
    ) -> impl Stream<Item = Result<v1::HistoryItem, ClientError>> + '_ {
        let pages = stream::try_unfold(Some(Vec::new()), move |token| {
            let subject = subject.clone();
            async move {
                let Some(token) = token else { return Ok::<_, ClientError>(None) };
                let page = self.history_page(subject, 0, token).await?;
                let next = Some(page.next_page_token).filter(|token| !token.is_empty());
                Ok(Some((stream::iter(page.items.into_iter().map(Ok)), next)))
            }
        });
        pages.try_flatten().and_then(move |item| async move {
            if !item.record.is_empty() || item.length == 0 {
                return Ok(item);
            }
            let id = Hash::from_slice(&item.record_id).map_err(|_| missing("record_id"))?;
            Ok(v1::HistoryItem { record: self.read_record(id).await?.record, ..item })
        })
    }

    /// The chain's genesis. To trust it, compare its chain id with one from elsewhere.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn genesis(&self) -> Result<Genesis, ClientError> {
        let answer = self.audit().get_genesis(asked(v1::GetGenesisRequest {})).await?.into_inner();
        let genesis = answer.genesis.ok_or_else(|| missing("genesis"))?;
        let v1::Genesis { network, time_ms, history_bits, entries } = genesis;
        Ok(Genesis::new(network, time_ms, history_bits, entries)?)
    }

    /// The header of a height, or the newest, with its finalization, which the genesis header does
    /// not have. Neither is verified here.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn header(
        &self,
        height: Option<u64>,
    ) -> Result<(Header, Option<Certificate>), ClientError> {
        let request = v1::GetHeaderRequest { height };
        let answer = self.audit().get_header(asked(request)).await?.into_inner();
        let certificate = match &answer.certificate[..] {
            [] => None,
            bytes => Some(Certificate::decode(bytes)?),
        };
        Ok((Header::decode(&answer.header)?, certificate))
    }

    /// A record's receipt.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn receipt(
        &self,
        record_id: Hash,
        without_record: bool,
    ) -> Result<v1::Receipt, ClientError> {
        self.receipt_with(record_id, without_record, false).await
    }

    /// A record's receipt, with the changes of the validators that it needs.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn whole_receipt(
        &self,
        record_id: Hash,
        without_record: bool,
    ) -> Result<v1::Receipt, ClientError> {
        self.receipt_with(record_id, without_record, true).await
    }

    async fn receipt_with(
        &self,
        record_id: Hash,
        without_record: bool,
        with_steps: bool,
    ) -> Result<v1::Receipt, ClientError> {
        let (id, with_record) = (record_id.0.to_vec(), !without_record);
        let request = v1::GetReceiptRequest { record_id: id, with_record, with_steps };
        match self.audit().get_receipt(asked(request)).await {
            Err(status) if is_of(&status, RECORD_LARGE) => {
                self.read_receipt(record_id, with_steps).await
            }
            answer => answer?.into_inner().receipt.ok_or_else(|| missing("receipt")),
        }
    }

    /// The proof of all history entries of a subject, put together from its pages.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn history_proof(&self, subject_key: Hash) -> Result<v1::HistoryProof, ClientError> {
        let wrong = |what: &str| ClientError::Answer(format!("history proof: {what}"));
        let mut entries = Vec::new();
        loop {
            let from_entry = (entries.len() / HistoryEntry::LENGTH) as u64;
            let subject_key = subject_key.0.to_vec();
            let request = v1::GetHistoryProofRequest { subject_key, from_entry };
            let answer = self.audit().get_history_proof(asked(request)).await?.into_inner();
            let v1::GetHistoryProofResponse { proof, next_entry } = answer;
            let proof = proof.ok_or_else(|| missing("proof"))?;
            entries.extend_from_slice(&proof.bucket_entries);
            if next_entry == 0 {
                return Ok(v1::HistoryProof { bucket_entries: entries, ..proof });
            }
            if entries.len() > HISTORY_PROOF_BYTES_MAX {
                return Err(wrong("more entries than any may have"));
            }
            if proof.bucket_entries.is_empty()
                || next_entry.checked_mul(HistoryEntry::LENGTH as u64) != Some(entries.len() as u64)
            {
                return Err(wrong("its pages do not follow each other"));
            }
        }
    }

    /// The path from an older to a newer log size.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn consistency_proof(
        &self,
        from_size: u64,
        to_size: u64,
    ) -> Result<Vec<Hash>, ClientError> {
        let request = v1::GetConsistencyProofRequest { from_size, to_size };
        let answer = self.audit().get_consistency_proof(asked(request)).await?.into_inner();
        path(&answer.path)
    }

    /// The node's checkpoint, and the path of the leaf at this place of the log. With it comes the key
    /// that the node says it is signed by.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn checkpoint(
        &self,
        log_index: u64,
    ) -> Result<(CertifiedCheckpoint, VerifierKey), ClientError> {
        let request = v1::GetCheckpointRequest { log_index: Some(log_index) };
        let answer = self.audit().get_checkpoint(asked(request)).await?.into_inner();
        let key = answer.verifier_key.parse();
        let key = key.map_err(|error: NoteError| ClientError::Answer(error.to_string()))?;
        let path = path(&answer.path)?;
        let v1::GetCheckpointResponse { note, header, certificate, .. } = answer;
        Ok((CertifiedCheckpoint { header, certificate, note, path }, key))
    }

    /// All changes of the validators, from the genesis on.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn validator_chain(&self) -> Result<v1::ValidatorChain, ClientError> {
        let (mut chain, mut from_height) = (v1::ValidatorChain::default(), 0);
        let mut bytes = 0;
        loop {
            let request = v1::GetValidatorChainRequest { from_height };
            let answer = self.audit().get_validator_chain(asked(request)).await?.into_inner();
            bytes += answer.encoded_len();
            if bytes > VALIDATOR_CHAIN_BYTES_MAX {
                let max = VALIDATOR_CHAIN_BYTES_MAX;
                let why = format!("a validator chain of more than {max} bytes");
                return Err(ClientError::Answer(why));
            }
            chain.steps.extend(answer.steps);
            match answer.next_height {
                0 => return Ok(chain),
                next if next > from_height => from_height = next,
                next => {
                    let why = format!("next_height: {next} after {from_height}");
                    return Err(ClientError::Answer(why));
                }
            }
        }
    }

    /// How a height was decided, as the node tells it. No signature is verified here.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn decision(&self, height: u64) -> Result<Decision, ClientError> {
        let answer = self.audit().get_decision(asked(v1::GetDecisionRequest { height })).await?;
        let decision = answer.into_inner().decision.ok_or_else(|| missing("decision"))?;
        if decision.height != height {
            return Err(ClientError::Answer("the decision is of another height".to_owned()));
        }
        Ok(Decision::from_proto(&decision)?)
    }

    /// The registry after the node's newest block. That its entries give the root that came with them is checked.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn registry(&self) -> Result<RegistryAt, ClientError> {
        let (mut entries, mut begun) = (Vec::new(), None);
        for _ in 0..REGISTRY_PAGES_MAX {
            let request = v1::GetRegistryRequest { from_index: entries.len() as u64 };
            let answer = self.audit().get_registry(asked(request)).await?.into_inner();
            let agreements = answer.agreements_root;
            let place = (answer.height, answer.registry_root);
            if begun.as_ref().is_some_and(|(_, root)| *root != place.1) {
                // It has changed in between.
                (entries, begun) = (Vec::new(), None);
                continue;
            }
            entries.extend(answer.entries);
            let (height, root) = begun.get_or_insert(place);
            if answer.next_index != 0 && answer.next_index == entries.len() as u64 {
                continue;
            }
            let wrong = |what: &dyn fmt::Display| ClientError::Answer(format!("registry: {what}"));
            let registry = Registry::new(entries).map_err(|error| wrong(&error))?;
            let agreements = Hash::from_slice(&agreements).map_err(|error| wrong(&error))?;
            if registry::root(&registry.members_root(), &agreements).0[..] != root[..] {
                return Err(wrong(&"its entries do not give its root"));
            }
            let root = Hash::from_slice(root).map_err(|error| wrong(&error))?;
            return Ok(RegistryAt { height: *height, registry, root });
        }
        Err(ClientError::Answer("registry: pages without end".to_owned()))
    }

    /// Submits a change of the registry for the node to sign; gives the record's id. For operators.
    ///
    /// # Errors
    /// It was not taken; see [`ClientError`].
    pub async fn submit_registry_change(
        &self,
        change: v1::RegistryChange,
        although_absent: &[AgencyCode],
    ) -> Result<Hash, ClientError> {
        let mut admin = AdminClient::new(self.channel());
        let although_absent = although_absent.iter().map(ToString::to_string).collect();
        let request = v1::SubmitRegistryChangeRequest { change: Some(change), although_absent };
        let answer = admin.submit_registry_change(request).await?.into_inner();
        Hash::from_slice(&answer.record_id).map_err(|_| missing("record_id"))
    }

    /// How the node stands. For operators.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn status(&self) -> Result<v1::GetStatusResponse, ClientError> {
        let mut admin = AdminClient::new(self.channel());
        Ok(admin.get_status(v1::GetStatusRequest {}).await?.into_inner())
    }

    /// Has the node make a backup of its store, where its configuration says. For operators.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn create_backup(&self) -> Result<v1::CreateBackupResponse, ClientError> {
        let mut admin = AdminClient::new(self.channel());
        Ok(admin.create_backup(v1::CreateBackupRequest {}).await?.into_inner())
    }

    /// The node's peers. For operators.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn peers(&self) -> Result<Vec<v1::Peer>, ClientError> {
        let mut admin = AdminClient::new(self.channel());
        Ok(admin.list_peers(v1::ListPeersRequest {}).await?.into_inner().peers)
    }
}

fn configure(endpoint: &str, tls: &ClientTls) -> Result<(Endpoint, Connector), ClientError> {
    let (endpoint, connector) = connecting::endpoint(endpoint, tls)?;
    let endpoint = endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT);
    Ok((endpoint, connector))
}

/// A question whose answer is not waited for endlessly.
pub(crate) fn asked<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(ANSWER_TIMEOUT);
    request
}

fn path(bytes: &[u8]) -> Result<Vec<Hash>, ClientError> {
    merkle::read_path(bytes).map_err(|error| ClientError::Answer(format!("path: {error}")))
}

/// Whether a refusal is for this reason.
fn is_of(status: &Status, reason_code: &str) -> bool {
    status
        .metadata()
        .get(REASON_CODE)
        .is_some_and(|found| found.as_bytes() == reason_code.as_bytes())
}

pub(crate) fn missing(field: &str) -> ClientError {
    ClientError::Answer(format!("{field} is missing"))
}
