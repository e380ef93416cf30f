//! Four nodes in one process, over loopback.

use customhouse_consensus::{CertifiedTip, Message};
use customhouse_ledger::{
    finality::{
        certificate::Certificate,
        validators::{Validator, ValidatorSet},
        vote::{Ballot, Vote, VoteKind},
    },
    hash::Hash,
    record::{ValidRecord, dedupe_key},
    registry::{RegistryChange, RegistryProposal, genesis::Genesis},
    transaction::VerifiedTransaction,
};
use customhouse_proto::v1::{
    self, AgencyEntry, PeerEntry, Role, SigningKeyEntry, ValidatorEntry, registry_entry::Entry,
};
use tempfile::TempDir;

use super::*;
use crate::{
    driver::lock,
    identity::{ClientIdentity, Role as ClientRole},
    journal::SignerJournal,
    network::{NetworkEvent, PeerConfig},
    submissions::{End, SubmissionRefusal},
};

mod agreements;
mod attachments;
mod exchanged_key;
mod idle;
mod in_order;
mod large;
mod lying_leader;
mod parameters;
mod references;
mod repeats;
mod sealed;

const DEADLINE: Duration = Duration::from_secs(60);

/// Seeds of agency i's keys.
pub(crate) fn key(purpose: u8, agency: usize) -> SigningKey {
    SigningKey::from_seed(&key_seed(purpose, agency))
}

pub(crate) fn key_seed(purpose: u8, agency: usize) -> [u8; 32] {
    [purpose * 16 + u8::try_from(agency).expect("a small network"); 32]
}

fn code(agency: usize) -> AgencyCode {
    format!("AGENCY-{agency}").parse().expect("a code")
}

pub(crate) fn genesis(agencies: usize) -> Genesis {
    genesis_with(agencies, |_| Vec::new())
}

/// The same, where each agency has more entries.
fn genesis_with(agencies: usize, more: impl Fn(usize) -> Vec<Entry>) -> Genesis {
    let open = |entry| v1::RegistryEntry { from_height: 0, end_height: 0, entry: Some(entry) };
    let entries = (0..agencies).flat_map(|i| {
        let agency = code(i).to_string();
        let public_key = |purpose| key(purpose, i).public().as_bytes().to_vec();
        let usual = [
            Entry::Agency(AgencyEntry { agency: agency.clone(), ..Default::default() }),
            Entry::Validator(ValidatorEntry { agency: agency.clone(), public_key: public_key(1) }),
            Entry::Peer(PeerEntry { agency: agency.clone(), public_key: public_key(2) }),
            Entry::SigningKey(SigningKeyEntry {
                agency,
                public_key: public_key(3),
                role: Role::Node as i32,
                ..Default::default()
            }),
        ];
        usual.into_iter().chain(more(i))
    });
    Genesis::new("test".into(), 1, 10, entries.map(open).collect()).expect("valid")
}

fn inspection(mrn: &str) -> v1::record::Body {
    v1::record::Body::Declaration(v1::Declaration {
        regime: 1,
        mrn: mrn.into(),
        ..Default::default()
    })
}

/// A record of an agency in a transaction of its own, with another salt than its node derives.
fn signed_record(chain_id: Hash, agency: usize, of: (u64, &str)) -> VerifiedTransaction {
    let not_after_ms = crate::clock::unix_ms() + 60_000;
    signed((chain_id, not_after_ms), (agency, &key(3, agency)), of)
}

/// The same, by some key, until some time.
pub(crate) fn signed_until(
    chain_id: Hash,
    by: (usize, &SigningKey),
    number: u64,
    not_after_ms: u64,
) -> VerifiedTransaction {
    signed((chain_id, not_after_ms), by, (number, &format!("MRN{number}")))
}

fn signed(
    (chain_id, not_after_ms): (Hash, u64),
    (agency, signing): (usize, &SigningKey),
    (number, mrn): (u64, &str),
) -> VerifiedTransaction {
    let record = v1::Record {
        salt: vec![9; 32],
        submitter_role: v1::Role::Broker as i32,
        submitter_certificate: vec![6; 32],
        agency: code(agency).to_string(),
        submitter: "broker".into(),
        body: Some(inspection(mrn)),
        ..Default::default()
    };
    let record = ValidRecord::from_record(record).expect("valid");
    let dedupe_key = dedupe_key(&code(agency), "broker", &format!("key-{number}"));
    let records = [(record, dedupe_key)];
    VerifiedTransaction::sign(&records, code(agency), not_after_ms, &chain_id, signing)
        .expect("valid")
}

/// Running nodes, the folder of their data, and what stops them.
struct Network {
    folder: TempDir,
    genesis: Genesis,
    addresses: Vec<libp2p::Multiaddr>,
    nodes: Vec<Option<(Node, CancellationToken)>>,
}

impl Network {
    async fn start(agencies: usize) -> Self {
        Self::start_of(genesis(agencies), agencies).await
    }

    /// The same of another genesis of these agencies.
    async fn start_of(genesis: Genesis, agencies: usize) -> Self {
        Self::start_in(tempfile::tempdir().expect("a folder"), genesis, agencies).await
    }

    /// The same in a folder, which may have vaults of theirs.
    async fn start_in(folder: TempDir, genesis: Genesis, agencies: usize) -> Self {
        for i in 0..agencies {
            let path = folder.path().join(format!("{i}.journal"));
            SignerJournal::create(&path, &key(1, i).public()).expect("created");
        }
        let mut network = Self {
            folder,
            genesis,
            addresses: Vec::new(),
            nodes: (0..agencies).map(|_| None).collect(),
        };
        // Each node knows the addresses of those before it and dials them.
        for i in 0..network.nodes.len() {
            network.start_node(i).await;
            let (node, _) = network.nodes[i].as_ref().expect("running");
            network.addresses.push(node.shared.network.listen_addresses()[0].clone());
        }
        network
    }

    async fn start_node(&mut self, i: usize) {
        self.start_signing(i, 3).await;
    }

    /// Starts a node whose signing key is that of a purpose.
    async fn start_signing(&mut self, i: usize, purpose: u8) {
        let folder = self.folder.path();
        let listen = self.addresses.get(i).cloned();
        let listen = listen.unwrap_or_else(|| "/ip4/127.0.0.1/tcp/0".parse().expect("an address"));
        let addresses = |j: usize| (code(j), self.addresses.get(j).cloned().into_iter().collect());
        let parts = NodeParts {
            agency: code(i),
            genesis: self.genesis.clone(),
            validator: ValidatorKey {
                key: key(1, i),
                journal: folder.join(format!("{i}.journal")),
            },
            next_validator: None,
            signing: key(purpose, i),
            checkpoint: None,
            store: folder.join(format!("{i}-store")),
            outbox: folder.join(format!("{i}-outbox")),
            outbox_bytes_max: 64 * 1024 * 1024,
            attachments: folder.join(format!("{i}-attachments")),
            terms: folder.join(format!("{i}-terms")),
            attachments_section: AttachmentsSection::default(),
            network: NetworkConfig {
                identity: key(2, i),
                chain_id: self.genesis.chain_id(),
                listen: vec![listen],
                peers: Vec::new(),
                limits: Limits::default(),
            },
            addresses: Addresses::new((0..self.nodes.len()).map(addresses)),
            more_peers: Vec::new(),
            mempool: MempoolLimits::default(),
            store_options: StoreOptions::default(),
            backup: None,
            sealing: agreements::sealing_in(folder, i),
            sealed: folder.join(format!("{i}-sealed")),
            timing: Timing::default(),
        };
        let shutdown = CancellationToken::new();
        let node = Node::start(parts, &shutdown).await.expect("started");
        self.nodes[i] = Some((node, shutdown));
    }

    async fn stop_node(&mut self, i: usize) {
        let (node, shutdown) = self.nodes[i].take().expect("running");
        shutdown.cancel();
        node.ended(shutdown).await.expect("a clean end");
    }

    fn shared(&self, i: usize) -> &Services {
        &self.nodes[i].as_ref().expect("running").0.shared
    }

    async fn submit(&self, i: usize, number: u64) -> Hash {
        let results = self.submit_as(i, number, &format!("MRN{number}")).await;
        results.expect("accepted")
    }

    async fn submit_as(&self, i: usize, number: u64, mrn: &str) -> Result<Hash, SubmissionRefusal> {
        self.submit_all(i, &[(number, mrn)]).await.pop().expect("one result")
    }

    /// Submits all in one call, so that nothing is committed in between.
    async fn submit_all(
        &self,
        i: usize,
        all: &[(u64, &str)],
    ) -> Vec<Result<Hash, SubmissionRefusal>> {
        let client = ClientIdentity {
            agency: code(i),
            name: "broker".into(),
            role: ClientRole::Broker,
            certificate: [0; 32],
        };
        let submission = |&(number, mrn): &(u64, &str)| v1::RecordSubmission {
            record: Some(v1::Record { body: Some(inspection(mrn)), ..Default::default() }),
            idempotency_key: format!("key-{number}"),
            open: true,
            agreement: Vec::new(),
        };
        let submissions = all.iter().map(submission).collect();
        let results = self.shared(i).submissions.submit_records(&client, submissions).await;
        results.into_iter().map(|result| result.map(|accepted| accepted.record_id)).collect()
    }

    async fn finality(&self, i: usize, record_id: Hash) -> End {
        let end = self.shared(i).submissions.wait_record(record_id);
        tokio::time::timeout(DEADLINE, end).await.expect("in time").expect("known")
    }

    /// Waits until all running nodes have the same tip at or above a height.
    async fn agree(&self, height: u64) {
        let agreed = async {
            loop {
                let tips: Vec<_> = self
                    .nodes
                    .iter()
                    .flatten()
                    .map(|(node, _)| node.shared.reader.tip().header.clone())
                    .collect();
                if tips[0].height >= height && tips.windows(2).all(|pair| pair[0] == pair[1]) {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(DEADLINE, agreed).await.expect("nodes agree in time");
    }

    async fn stop(mut self) {
        for i in 0..self.nodes.len() {
            if self.nodes[i].is_some() {
                self.stop_node(i).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_any_of_four_nodes_accepts_becomes_final_on_all() {
    let network = Network::start(4).await;
    let mut heights = Vec::new();
    for number in 0..40 {
        let gateway = usize::try_from(number % 4).expect("small");
        let record_id = network.submit(gateway, number).await;
        match network.finality(gateway, record_id).await {
            End::Final { height, .. } => heights.push(height),
            other => panic!("{other:?}"),
        }
    }
    network.agree(*heights.iter().max().expect("forty")).await;
    for i in 0..4 {
        assert_eq!(network.shared(i).reader.tip().header.log_size, 40);
    }
    network.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_gives_the_first_record_and_another_body_is_refused() {
    let network = Network::start(1).await;
    let first = network.submit(0, 7).await;
    let end = network.finality(0, first).await;
    assert!(matches!(end, End::Final { .. }));
    assert_eq!(network.submit(0, 7).await, first);
    let refused = network.submit_as(0, 7, "ANOTHER").await.expect_err("refused");
    assert!(matches!(refused, SubmissionRefusal::AlreadyExists { first: of, .. } if of == first));
    assert_eq!(network.shared(0).reader.tip().header.log_size, 1, "committed once");
    network.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submission_that_was_committed_with_another_salt_ends_as_the_first() {
    let network = Network::start(1).await;
    let shared = network.shared(0);
    let first = |number, mrn| signed_record(shared.chain_id, 0, (number, mrn));
    let (same, other) = (first(7, "MRN7"), first(8, "ANOTHER"));
    // As from the agency's other node, before its block: nothing moves until the driver is told.
    for transaction in [same.clone(), other] {
        lock(&shared.mempool).insert(Arc::new(transaction)).expect("room");
    }
    let accepted = network.submit_all(0, &[(7, "MRN7"), (8, "MRN8")]).await;
    let [repeat, conflict] = [0, 1].map(|i| *accepted[i].as_ref().expect("accepted"));
    let End::Repeat(found) = network.finality(0, repeat).await else { panic!("not a repeat") };
    assert_eq!((found.record_id, found.transaction_id), (same.slots()[0].record_id, same.id()));
    let rejected = network.finality(0, conflict).await;
    assert!(matches!(rejected, End::Rejected { code, .. } if code == "DUPLICATE_KEY"));
    assert_eq!(network.submit(0, 7).await, found.record_id, "so a retry is told");
    network.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_of_four_go_on_and_the_fourth_catches_up_unaided() {
    let mut network = Network::start(4).await;
    let record_id = network.submit(0, 0).await;
    network.finality(0, record_id).await;
    network.stop_node(3).await;
    for number in 1..=20 {
        let record_id = network.submit(0, number).await;
        network.finality(0, record_id).await;
    }
    network.start_node(3).await;
    network.agree(network.shared(0).reader.tip().header.height).await;
    assert_eq!(network.shared(3).reader.tip().header.log_size, 21);
    network.stop().await;
}

fn signing_entry(agency: usize, purpose: u8) -> Entry {
    Entry::SigningKey(SigningKeyEntry {
        agency: code(agency).to_string(),
        public_key: key(purpose, agency).public().as_bytes().to_vec(),
        role: Role::Broker as i32,
        submitter: "broker".into(),
        ..Default::default()
    })
}

/// A change by all of two validators that registers another signing key of agency 0, of this purpose.
fn new_signing_key(network: &Network, purpose: u8) -> Arc<VerifiedTransaction> {
    change_adding(network, vec![signing_entry(0, purpose)])
}

/// A change of the present registry by all of two validators.
fn change_adding(network: &Network, entries: Vec<Entry>) -> Arc<VerifiedTransaction> {
    change_ending(network, entries, vec![])
}

/// The same, which ends some entries too.
fn change_ending(
    network: &Network,
    entries: Vec<Entry>,
    ended: Vec<v1::RegistryEntry>,
) -> Arc<VerifiedTransaction> {
    let shared = network.shared(0);
    let added = |entry| v1::RegistryEntry { entry: Some(entry), ..Default::default() };
    let added = entries.into_iter().map(added).collect();
    let (root, not_after_ms) =
        (shared.reader.registry().members_root(), crate::clock::unix_ms() + 3_600_000);
    let proposal = RegistryProposal::new(&root, not_after_ms, added, ended, "").expect("one");
    let approve = |i| proposal.approve(&shared.chain_id, &key(1, i));
    let approvals = [0, 1].map(approve).to_vec();
    let change = RegistryChange::new(proposal, approvals, None).expect("a change");
    let (chain_id, signing) = (shared.chain_id, key(3, 0));
    let signed = VerifiedTransaction::change_registry(
        &change,
        "operator",
        code(0),
        not_after_ms,
        &chain_id,
        &signing,
    );
    Arc::new(signed.expect("valid"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_came_second_costs_no_block_and_is_not_taken_again() {
    let network = Network::start(2).await;
    let (first, second) = (new_signing_key(&network, 4), new_signing_key(&network, 5));
    for i in 0..2 {
        let mut mempool = lock(&network.shared(i).mempool);
        mempool.insert(Arc::clone(&first)).expect("room");
        mempool.insert(Arc::clone(&second)).expect("room");
    }
    // Nothing moves until the drivers are told that there is something.
    let record_id = network.submit(0, 1).await;
    network.finality(0, record_id).await;
    let is_done = |i: usize| {
        let reader = &network.shared(i).reader;
        let changed = reader.log_index(&first.id()).expect("readable").is_some();
        changed && lock(&network.shared(i).mempool).count() == 0
    };
    let done = async {
        while !(is_done(0) && is_done(1)) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, done).await.expect("the second leaves the mempools");
    let reader = &network.shared(0).reader;
    for height in 1..=reader.tip().header.height {
        let found = reader.header(height).expect("readable").expect("committed");
        assert!(found.header.log_size > found.header.log_start, "height {height} is empty");
    }
    let client = ClientIdentity {
        agency: code(0),
        name: "broker".into(),
        role: ClientRole::Operator,
        certificate: [0; 32],
    };
    let again = VerifiedTransaction::clone(&second);
    let refused = network.shared(0).submissions.submit_transaction(&client, again).await;
    let Err(SubmissionRefusal::NotPermitted { reason: why, .. }) = refused else {
        panic!("{refused:?}")
    };
    assert!(why.contains("another change came first"), "{why}");
    network.stop().await;
}

/// As where a store was put back to before its agency joined, and the outbox was not.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_accepted_outlives_changes_of_a_registry_that_does_not_know_it_yet() {
    let mut network = Network::start(2).await;
    let journal = network.folder.path().join("2.journal");
    SignerJournal::create(&journal, &key(1, 2).public()).expect("created");
    network.nodes.push(None);
    network.start_node(2).await;
    let accepted = signed_record(network.shared(0).chain_id, 2, (7, "MRN7"));
    lock(&network.shared(2).mempool).insert(Arc::new(accepted.clone())).expect("room");
    let agency = code(2).to_string();
    let public_key = key(2, 2).public().as_bytes().to_vec();
    let joins = vec![
        Entry::Agency(AgencyEntry { agency: agency.clone(), ..Default::default() }),
        Entry::Peer(PeerEntry { agency: agency.clone(), public_key }),
        Entry::SigningKey(SigningKeyEntry {
            agency,
            public_key: key(3, 2).public().as_bytes().to_vec(),
            role: Role::Node as i32,
            ..Default::default()
        }),
    ];
    for entries in [vec![signing_entry(0, 4)], joins] {
        let change = change_adding(&network, entries);
        let client = ClientIdentity {
            agency: code(0),
            name: "operator".into(),
            role: ClientRole::Operator,
            certificate: [0; 32],
        };
        let (id, change) = (change.id(), VerifiedTransaction::clone(&change));
        let submissions = &network.shared(0).submissions;
        submissions.submit_transaction(&client, change).await.expect("accepted");
        let end = tokio::time::timeout(DEADLINE, submissions.wait_transaction(id)).await;
        assert!(matches!(end.expect("in time"), Ok(End::Final { .. })));
    }
    let committed = async {
        while network.shared(0).reader.log_index(&accepted.id()).expect("readable").is_none() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, committed).await.expect("it is committed");
    network.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn that_a_peer_tells_of_heights_that_nobody_has_is_not_being_behind() {
    let mut network = Network::start(4).await;
    let record_id = network.submit(0, 0).await;
    network.finality(0, record_id).await;
    network.stop_node(3).await;
    let (victim, shutdown) = (key(2, 0).public(), CancellationToken::new());
    let config = NetworkConfig {
        identity: key(2, 3),
        chain_id: network.genesis.chain_id(),
        listen: vec!["/ip4/127.0.0.1/tcp/0".parse().expect("an address")],
        peers: vec![PeerConfig {
            key: victim,
            agency: code(0),
            addresses: vec![network.addresses[0].clone()],
        }],
        limits: Limits::default(),
    };
    let (liar, mut events) = network::spawn(config, shutdown.clone()).await.expect("started");
    let told = async {
        while let Some(event) = events.recv().await {
            match event {
                NetworkEvent::Connected(peer) => {
                    let tip = invented_tip(&network.shared(0).reader.tip().header);
                    liar.push(peer, Message::Tip(tip).to_proto());
                }
                NetworkEvent::Request { request, .. }
                    if matches!(request.request, Some(v1::sync_request::Request::Blocks(_))) =>
                {
                    return;
                }
                _ => {}
            }
        }
    };
    tokio::time::timeout(DEADLINE, told).await.expect("it is asked for its blocks");
    assert!(!network.shared(0).status.borrow().catching_up, "a quorum has not said so");
    shutdown.cancel();
    network.stop().await;
}

/// Far ahead, and decided by validators of which nobody has heard.
fn invented_tip(header: &customhouse_ledger::finality::header::Header) -> CertifiedTip {
    let validators =
        ValidatorSet::new(vec![Validator { agency: code(3), key: key(1, 3).public() }]);
    let validators = validators.expect("a set");
    let mut header = header.clone();
    (header.height, header.validators_hash) = (u64::MAX, validators.hash());
    let (height, block_hash) = (header.height, header.hash());
    let ballot = Ballot { kind: VoteKind::Finalize, height, view: 1, block_hash };
    let vote = Vote::sign(ballot, &header.chain_id, &key(1, 3));
    let finalization = Certificate::from_votes(ballot, &[vote], &validators).expect("a quorum");
    CertifiedTip { header, finalization }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_ends_with_the_first_of_its_parts_that_does_and_names_it() {
    type Plant = fn(&mut Node);
    let planted: [(&str, Plant); 4] = [
        ("the inbound panicked: planted", |node| {
            node.tasks.spawn("inbound", async { panic!("planted") });
        }),
        ("the gRPC server ended unexpectedly", |node| node.tasks.spawn("gRPC server", async {})),
        // A thread that panics drops its end of this.
        ("the driver ended unexpectedly", |node| node.driver_ended = oneshot::channel().1),
        ("the submissions' worker ended unexpectedly", |node| {
            node.worker_ended = oneshot::channel().1;
        }),
    ];
    for (said, plant) in planted {
        let mut network = Network::start(1).await;
        let (mut node, shutdown) = network.nodes[0].take().expect("running");
        plant(&mut node);
        let ended = tokio::time::timeout(DEADLINE, node.ended(shutdown.clone())).await;
        let error = ended.expect("in time").expect_err("a part of it has ended");
        assert_eq!(error.to_string(), said);
        assert!(shutdown.is_cancelled(), "{said}: the rest was told to stop");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_loops_of_a_node_answer_until_it_stops() {
    let mut network = Network::start(1).await;
    let (wire, submissions) = {
        let shared = network.shared(0);
        (shared.network.clone(), shared.submissions.clone())
    };
    assert!(wire.clone().answered().await);
    assert!(submissions.answered().await);
    assert!(network.shared(0).health.stalled().borrow().is_empty());
    network.stop_node(0).await;
    tokio::time::timeout(DEADLINE, wire.ended()).await.expect("in time");
    assert!(!wire.answered().await);
}
