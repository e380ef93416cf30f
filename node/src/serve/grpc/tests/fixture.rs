//! A node of one agency with its services, on loopback, and clients of any role.

use super::*;
use crate::{
    config::NodeConfig,
    local_network::{LocalNetwork, NewNetwork, Ports},
    node::{Node, NodeParts},
};

/// The time within which everything here happens.
pub(super) const DEADLINE: Duration = Duration::from_secs(30);

/// Rejections by surface and reason, as they were counted.
type Counted = Arc<Mutex<Vec<(String, String)>>>;

pub(super) struct Fixture {
    pub(super) endpoint: String,
    pub(super) authority: Authority,
    pub(super) shutdown: CancellationToken,
    pub(super) genesis: Genesis,
    pub(super) signing_key: SigningKey,
    pub(super) validator_key: SigningKey,
    /// What the services share; weak, so that it ends with the node.
    pub(super) shared: Weak<Services>,
    serving: JoinHandle<Result<(), ServeError>>,
    node: JoinHandle<()>,
    counted: Counted,
    _directory: tempfile::TempDir,
}

/// Makes the node one of a network whose registry has other entries.
pub(super) fn change_registry(
    parts: &mut NodeParts,
    change: impl FnOnce(&mut Vec<v1::RegistryEntry>),
) {
    let plain = &parts.genesis;
    let mut entries = plain.registry.entries().cloned().collect();
    change(&mut entries);
    let genesis = Genesis::new(plain.network.clone(), plain.time_ms, plain.history_bits, entries);
    parts.genesis = genesis.expect("valid");
    parts.network.chain_id = parts.genesis.chain_id();
}

pub(super) fn agency() -> AgencyCode {
    "NL-DOUANE".parse().expect("a code")
}

impl Fixture {
    /// Lays out a network of one agency, whose node decides alone, and starts it.
    pub(super) async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    /// The same with another node.
    pub(super) async fn start_with(change: impl FnOnce(&mut NodeParts)) -> Self {
        Self::start_both(change, |_| ()).await
    }

    /// The same with other limits of the services.
    pub(super) async fn start_api_with(change: impl FnOnce(&mut ApiConfig)) -> Self {
        Self::start_both(|_| (), change).await
    }

    /// The same with its vault: it lodges an epoch of its agency's own agreement at once.
    pub(super) async fn start_with_vault() -> Self {
        Self::start_node(true, |_| (), |_| ()).await
    }

    pub(super) async fn start_both(
        change: impl FnOnce(&mut NodeParts),
        change_api: impl FnOnce(&mut ApiConfig),
    ) -> Self {
        Self::start_node(false, change, change_api).await
    }

    async fn start_node(
        with_vault: bool,
        change: impl FnOnce(&mut NodeParts),
        change_api: impl FnOnce(&mut ApiConfig),
    ) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let config = lay_out(&directory.path().join("net"));
        let mut parts = NodeParts::read(&config).expect("laid out");
        // The plan's ports are not used: the system chooses free ones.
        parts.network.listen = vec!["/ip4/127.0.0.1/tcp/0".parse().expect("an address")];
        if !with_vault {
            parts.sealing = None;
        }
        change(&mut parts);
        let (genesis, signing_key) = (parts.genesis.clone(), parts.signing.clone());
        let validator_key = parts.validator.key.clone();
        let shutdown = CancellationToken::new();
        let node = Node::start(parts, &shutdown).await.expect("started");
        let shared = Arc::clone(&node.shared);
        let weak = Arc::downgrade(&shared);
        let stop = shutdown.clone();
        let node = tokio::spawn(async move { node.ended(stop).await.expect("ended well") });
        let authority = Authority::new(agency()).expect("made");
        let own = authority.server(&[]).expect("made");
        let tls = ServerTls { authority: authority.certificate().to_owned(), own };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let endpoint = listener.local_addr().expect("bound").to_string();
        let counted = Counted::default();
        let count = Arc::clone(&counted);
        let rejections = Rejections::new(move |surface, reason| {
            count.lock().expect("not poisoned").push((surface.to_owned(), reason.to_owned()));
        });
        let stop = shutdown.clone();
        // Long for these machines, and short for whoever waits for a test.
        let time = Duration::from_secs(3);
        let patience = Patience { handshake: time, message: time, piece: time, upload: time };
        let mut config = ApiConfig {
            tls,
            calls_max: 256,
            drain: Duration::from_millis(200),
            patience,
            connections_max: 1024,
            strangers_max: 64,
        };
        change_api(&mut config);
        let listening = (listener, shared.health.listener("gRPC server"));
        let serving = tokio::spawn(serve(listening, shared, config, rejections, stop));
        Self {
            endpoint,
            authority,
            shutdown,
            genesis,
            signing_key,
            validator_key,
            shared: weak,
            serving,
            node,
            counted,
            _directory: directory,
        }
    }

    pub(super) fn tls(&self, role: Role) -> ClientTls {
        self.tls_of(&self.authority, role)
    }

    /// TLS settings of a client with another name.
    pub(super) fn tls_named(&self, name: &str, role: Role) -> ClientTls {
        let own = self.authority.client(name, role).expect("made");
        ClientTls { authority: self.authority.certificate().to_owned(), own }
    }

    /// A certificate of another authority, with trust in the node's.
    pub(super) fn tls_of(&self, authority: &Authority, role: Role) -> ClientTls {
        let own = authority.client("broker", role).expect("made");
        ClientTls { authority: self.authority.certificate().to_owned(), own }
    }

    pub(super) async fn client(&self, role: Role) -> Client {
        Client::connect(&self.endpoint, &self.tls(role)).await.expect("connected")
    }

    pub(super) fn counted(&self, reason: &str) -> usize {
        let counted = self.counted.lock().expect("not poisoned");
        counted.iter().filter(|(surface, r)| surface == "grpc" && r == reason).count()
    }

    /// A transaction of one record, signed with the agency's registered key.
    pub(super) fn transaction(&self, number: u64, not_after_ms: u64) -> VerifiedTransaction {
        self.transaction_of(record(number), not_after_ms)
    }

    pub(super) fn transaction_of(
        &self,
        record: v1::Record,
        not_after_ms: u64,
    ) -> VerifiedTransaction {
        let record = v1::Record {
            salt: vec![7; 32],
            submitter_role: v1::Role::Broker as i32,
            submitter_certificate: vec![6; 32],
            agency: agency().to_string(),
            submitter: "broker".into(),
            ..record
        };
        let record = customhouse_ledger::record::ValidRecord::from_record(record).expect("valid");
        let key = record.id;
        let chain_id = self.genesis.chain_id();
        let records = [(record, key)];
        VerifiedTransaction::sign(&records, agency(), not_after_ms, &chain_id, &self.signing_key)
            .expect("signed")
    }

    pub(super) async fn stop(self) {
        self.shutdown.cancel();
        let serving = timeout(DEADLINE, self.serving).await.expect("in time");
        serving.expect("no panic").expect("served");
        timeout(DEADLINE, self.node).await.expect("in time").expect("no panic");
    }
}

fn lay_out(dir: &std::path::Path) -> NodeConfig {
    let network = LocalNetwork::create(&NewNetwork {
        dir: dir.to_owned(),
        name: "test".into(),
        agencies: vec![(agency(), Ports { peer: 1, api: 2, metrics: 3, tlog: 4 })],
        history_bits: 8,
        parameters: std::collections::BTreeMap::default(),
        agreements: Vec::new(),
    });
    network.expect("laid out").agencies.remove(0).config
}

/// A declaration of the movement `M<number>`.
pub(super) fn record(number: u64) -> v1::Record {
    let declaration =
        v1::Declaration { regime: 1, mrn: format!("M{number}"), ..Default::default() };
    v1::Record { body: Some(v1::record::Body::Declaration(declaration)), ..Default::default() }
}

pub(super) fn submission(key: &str, number: u64) -> v1::RecordSubmission {
    v1::RecordSubmission { record: Some(record(number)), idempotency_key: key.into() }
}

pub(super) fn now_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    u64::try_from(now.expect("after 1970").as_millis()).expect("not for a while")
}

/// The refusal of a call that must be refused.
pub(super) fn refusal<T: std::fmt::Debug>(answer: Result<T, ClientError>) -> CallRefused {
    let error = answer.expect_err("refused");
    error.refused().unwrap_or_else(|| panic!("not a refusal: {error}")).clone()
}
