//! Attachments among the nodes of a network: each gets what another took, whoever was away or lies meanwhile.

use customhouse_ledger::{
    attachment::{AttachmentBuilder, piece_bytes, pieces_of},
    limits::PIECE_BYTES,
    record::SALT_BYTES,
};
use customhouse_proto::v1::{sync_request::Request, sync_response::Response};

use super::*;
use crate::attachments::{Attachments, ExpectedFile, FileOwner, unclaimed_until};

/// A file of random bytes.
struct RandomFile {
    bytes: Vec<u8>,
    root: Hash,
}

impl RandomFile {
    /// Of a seed, which is printed: xorshift64*.
    #[expect(clippy::print_stdout, reason = "shown where the test fails")]
    fn new(size: usize, seed: u64) -> Self {
        println!("{size} bytes of seed {seed}");
        let mut state = seed;
        let mut next = || {
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes()
        };
        let mut bytes: Vec<_> = (0..size.div_ceil(8)).flat_map(|_| next()).collect();
        bytes.truncate(size);
        let mut builder = AttachmentBuilder::default();
        builder.push(&bytes);
        Self { root: builder.finish().0, bytes }
    }

    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// A declaration that it belongs to.
    fn record(&self, reference: &str) -> v1::Record {
        let (root, size) = (self.root.0.to_vec(), self.size());
        let attachment = v1::Attachment { root, size, ..Default::default() };
        v1::Record {
            attachments: vec![attachment],
            body: Some(v1::record::Body::Declaration(v1::Declaration {
                regime: v1::declaration::Regime::Import as i32,
                reference: reference.into(),
                ..Default::default()
            })),
            ..Default::default()
        }
    }

    /// Brings it to a node, as an upload does.
    fn upload(&self, network: &Network, i: usize) {
        let attachments = &network.shared(i).attachments;
        let owner = FileOwner::client(&broker(i));
        let expected = ExpectedFile { size: self.size(), root: Some(self.root), offset: 0 };
        let mut incoming = attachments.begin(&owner, expected).expect("room");
        self.bytes.chunks(1 << 20).for_each(|chunk| incoming.push(chunk).expect("taken"));
        incoming.finish(unclaimed_until(Duration::ZERO)).expect("whole");
    }

    fn is_at(&self, network: &Network, i: usize) -> bool {
        network.shared(i).attachments.holds(&self.root, self.size())
    }

    async fn comes_to(&self, network: &Network, i: usize) {
        wait_until("it comes", || self.is_at(network, i)).await;
        let file = network.shared(i).attachments.read(&self.root).expect("readable");
        let file = file.expect("held");
        let pieces = (0..pieces_of(self.size())).map(|index| file.piece(index).expect("right"));
        assert!(pieces.flatten().eq(self.bytes.iter().copied()), "byte for byte");
    }

    /// Bytes that a node has of it, while it comes.
    fn come(&self, network: &Network, i: usize) -> u64 {
        network.shared(i).attachments.fetched(&self.root, self.size())
    }
}

fn broker(i: usize) -> ClientIdentity {
    let (name, role) = ("broker".into(), ClientRole::Broker);
    ClientIdentity { agency: code(i), name, role, certificate: [0; 32] }
}

async fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let held = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, held).await.unwrap_or_else(|_| panic!("{what} in time"));
}

async fn lodge(
    network: &Network,
    i: usize,
    key: &str,
    record: v1::Record,
) -> Result<Hash, SubmissionRefusal> {
    let submission = v1::RecordSubmission {
        record: Some(record),
        idempotency_key: key.into(),
        open: true,
        agreement: Vec::new(),
    };
    let submissions = &network.shared(i).submissions;
    let mut results = submissions.submit_records(&broker(i), vec![submission]).await;
    results.pop().expect("one result").map(|accepted| accepted.record_id)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_node_took_comes_to_the_others_byte_for_byte_and_to_one_that_was_stopped_halfway()
{
    let mut network = Network::start(4).await;
    let (invoice, scan) = (RandomFile::new(250_000, 16), RandomFile::new(50_000_000, 61));
    let refused = lodge(&network, 0, "invoice", invoice.record("MRN1")).await;
    assert_eq!(refused, Err(SubmissionRefusal::AttachmentMissing(invoice.root)));
    for (file, key) in [(&invoice, "invoice"), (&scan, "scan")] {
        file.upload(&network, 0);
        let record = lodge(&network, 0, key, file.record("MRN1")).await.expect("accepted");
        assert!(matches!(network.finality(0, record).await, End::Final { .. }));
    }
    wait_until("the scan begins to come", || scan.come(&network, 3) > 1 << 20).await;
    assert!(!scan.is_at(&network, 3), "it was stopped too late to tell");
    network.stop_node(3).await;
    network.start_node(3).await;
    assert!(scan.come(&network, 3) > 0, "what had come is built on");
    for i in 0..4 {
        invoice.comes_to(&network, i).await;
        scan.comes_to(&network, i).await;
    }
    network.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_has_not_looked_for_a_while_gets_all_that_it_missed() {
    let mut network = Network::start(4).await;
    network.stop_node(3).await;
    let files: Vec<_> = (0..20).map(|n| RandomFile::new(100_000 + n, n as u64 + 1)).collect();
    for (number, file) in files.iter().enumerate() {
        file.upload(&network, number % 3);
        let (gateway, key) = (number % 3, format!("key-{number}"));
        let record = lodge(&network, gateway, &key, file.record("MRN1")).await.expect("accepted");
        assert!(matches!(network.finality(gateway, record).await, End::Final { .. }));
    }
    network.start_node(3).await;
    for file in &files {
        file.comes_to(&network, 3).await;
    }
    network.stop().await;
}

/// A transaction of an agency with a declaration for each of these roots and sizes, which nobody need hold.
fn stating(chain_id: Hash, agency: usize, stated: &[(Hash, u64)]) -> VerifiedTransaction {
    let record = |(number, (root, size)): (usize, &(Hash, u64))| {
        let root = root.0.to_vec();
        let attachment = v1::Attachment { root, size: *size, ..Default::default() };
        let record = v1::Record {
            salt: vec![number as u8; SALT_BYTES],
            agency: code(agency).to_string(),
            submitter: "broker".into(),
            submitter_role: Role::Broker as i32,
            submitter_certificate: vec![6; 32],
            attachments: vec![attachment],
            body: Some(inspection(&format!("MRN{agency}X{number}"))),
            ..Default::default()
        };
        (ValidRecord::from_record(record).expect("valid"), Hash([number as u8 + 100; 32]))
    };
    let records: Vec<_> = stated.iter().enumerate().map(record).collect();
    let not_after_ms = crate::clock::unix_ms() + 60_000;
    VerifiedTransaction::sign(&records, code(agency), not_after_ms, &chain_id, &key(3, agency))
        .expect("valid")
}

/// Has these nodes commit a transaction that none of their gateways took.
async fn commit(network: &Network, transaction: &VerifiedTransaction, at: &[usize]) {
    for &i in at {
        let mempool = &network.shared(i).mempool;
        lock(mempool).insert(Arc::new(transaction.clone())).expect("room");
    }
    // Something that a gateway took, so that there is a block at once.
    let number = transaction.id().short().to_uppercase();
    let body = Some(inspection(&format!("OTHER{number}")));
    let other = v1::Record { body, ..Default::default() };
    let record = lodge(network, at[0], &number, other).await.expect("accepted");
    network.finality(at[0], record).await;
    for &i in at {
        let committed = || {
            let reader = &network.shared(i).reader;
            reader.transaction(&transaction.id()).expect("readable").is_some()
        };
        wait_until("it is committed", committed).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_brought_after_its_record_was_committed_stays() {
    let network = Network::start(4).await;
    let file = RandomFile::new(10 * PIECE_BYTES + 5, 7);
    let transaction = stating(network.shared(0).chain_id, 0, &[(file.root, file.size())]);
    commit(&network, &transaction, &[0, 1, 2, 3]).await;
    file.upload(&network, 2);
    let attachments = &network.shared(2).attachments;
    wait_until("it stays", || attachments.is_held(&file.root, file.size())).await;
    attachments.remove_stale(std::time::SystemTime::now() + Duration::from_secs(48 * 3600));
    assert!(file.is_at(&network, 2));
    file.comes_to(&network, 1).await;
    network.stop().await;
}

/// Pieces of the right lengths, of other bytes.
fn wrong_pieces(request: &v1::PiecesRequest) -> v1::PiecesResponse {
    let of = |index: u32| v1::Piece {
        data: vec![7; piece_bytes(request.size, index.into())],
        path: vec![7; 32 * 4],
    };
    let end = (request.first + request.count_max).min(pieces_of(request.size) as u32);
    v1::PiecesResponse { pieces: (request.first..end).map(of).collect() }
}

/// A peer with the keys of a node, connected to another node alone.
struct Liar {
    lying: tokio::task::JoinHandle<()>,
    shutdown: CancellationToken,
}

impl Liar {
    /// `answers` says after how long which pieces are answered; nothing where there is no answer.
    async fn start(
        network: &Network,
        (as_node, to): (usize, usize),
        answers: impl Fn(&v1::PiecesRequest) -> Option<(Duration, v1::PiecesResponse)> + Send + 'static,
    ) -> Self {
        let config = NetworkConfig {
            identity: key(2, as_node),
            chain_id: network.genesis.chain_id(),
            listen: vec!["/ip4/127.0.0.1/tcp/0".parse().expect("an address")],
            peers: vec![PeerConfig {
                key: key(2, to).public(),
                agency: code(to),
                addresses: vec![network.addresses[to].clone()],
            }],
            limits: Limits::default(),
        };
        let shutdown = CancellationToken::new();
        let started = network::spawn(config, shutdown.clone()).await;
        let (liar, mut events) = started.expect("started");
        let connected =
            async { while !matches!(events.recv().await, Some(NetworkEvent::Connected(_))) {} };
        tokio::time::timeout(DEADLINE, connected).await.expect("connected");
        let lying = tokio::spawn(async move {
            let (_liar, mut never_answered) = (liar, Vec::new());
            while let Some(event) = events.recv().await {
                let NetworkEvent::Request { request, reply, .. } = event else { continue };
                let Some(Request::Pieces(request)) = request.request else { continue };
                let Some((after, answer)) = answers(&request) else {
                    never_answered.push(reply);
                    continue;
                };
                let response = Some(Response::Pieces(answer));
                tokio::spawn(wait_then(after, || reply.send(v1::SyncResponse { response })));
            }
        });
        Self { lying, shutdown }
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.lying.await.expect("no panic");
    }
}

async fn wait_then(after: Duration, then: impl FnOnce()) {
    tokio::time::sleep(after).await;
    then();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_gives_wrong_pieces_is_blamed_and_the_file_comes_from_another() {
    let mut network = Network::start(4).await;
    let file = RandomFile::new(10 * PIECE_BYTES + 5, 7);
    let transaction = stating(network.shared(0).chain_id, 0, &[(file.root, file.size())]);
    commit(&network, &transaction, &[0, 1, 2, 3]).await;
    network.stop_node(0).await;
    let (lied, mut lies) = mpsc::channel(64);
    let liar = Liar::start(&network, (0, 1), move |request| {
        // That nobody counts any more is no fault.
        let _counted = lied.try_send(());
        Some((Duration::ZERO, wrong_pieces(request)))
    })
    .await;
    for _ in 0..2 {
        tokio::time::timeout(DEADLINE, lies.recv())
            .await
            .expect("it is asked first")
            .expect("lies");
    }
    let blamed = || {
        let metrics = network.shared(1).metrics.encode();
        metrics.lines().any(|line| line.contains("reason=\"rejected\"") && !line.ends_with(" 0"))
    };
    wait_until("it is blamed", blamed).await;
    assert_eq!((file.come(&network, 1), file.is_at(&network, 1)), (0, false));
    file.upload(&network, 2);
    file.comes_to(&network, 1).await;
    file.comes_to(&network, 3).await;
    liar.stop().await;
    network.stop().await;
}

/// A member's records say of a root that it has 1, 2, 3 … bytes, and its node says nothing when it is asked.
#[tokio::test(flavor = "multi_thread")]
async fn sizes_that_a_liar_made_up_do_not_keep_a_file_from_coming() {
    let mut network = Network::start(4).await;
    let file = RandomFile::new(20 * PIECE_BYTES, 7);
    let lies: Vec<_> = (1..=100).map(|size| (file.root, size)).collect();
    let lies = stating(network.shared(0).chain_id, 3, &lies);
    network.stop_node(3).await;
    let (asked, mut questions) = mpsc::channel(64);
    let liar = Liar::start(&network, (3, 1), move |_| {
        // That nobody counts any more is no fault.
        let _counted = asked.try_send(());
        None
    })
    .await;
    commit(&network, &lies, &[0, 1, 2]).await;
    for _ in 0..2 {
        let question = tokio::time::timeout(DEADLINE, questions.recv()).await;
        question.expect("it is asked first").expect("lies");
    }
    file.upload(&network, 0);
    let record = lodge(&network, 0, "right", file.record("MRN1")).await.expect("accepted");
    assert!(matches!(network.finality(0, record).await, End::Final { .. }));
    file.comes_to(&network, 2).await;
    file.comes_to(&network, 1).await;
    liar.stop().await;
    network.stop().await;
}

/// A peer that gives right pieces, one in three seconds; others have the files, and would give them at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_peer_does_not_hold_the_places_of_fetches() {
    let mut network = Network::start(4).await;
    let files = [1, 2, 3].map(|n| RandomFile::new(40 * PIECE_BYTES + n, n as u64));
    let stated: Vec<_> = files.iter().map(|file| (file.root, file.size())).collect();
    let transaction = stating(network.shared(0).chain_id, 0, &stated);
    commit(&network, &transaction, &[0, 1, 2, 3]).await;
    network.stop_node(0).await;
    let folder = tempfile::tempdir().expect("a folder");
    let limits = AttachmentsSection::default().limits();
    let of_slow = Attachments::open(&folder.path().join("a"), limits).expect("opened");
    for file in &files[..2] {
        of_slow.keep_whole(&FileOwner::client(&broker(9)), &file.bytes).expect("room");
    }
    let (asked, mut questions) = mpsc::channel(64);
    let slow = Liar::start(&network, (0, 1), move |request| {
        let found = of_slow.pieces(&v1::PiecesRequest { count_max: 1, ..request.clone() });
        if found.pieces.is_empty() {
            return Some((Duration::ZERO, found));
        }
        // That nobody counts any more is no fault.
        let _counted = asked.try_send(request.root.clone());
        Some((Duration::from_secs(3), found))
    })
    .await;
    let mut both = std::collections::BTreeSet::new();
    while both.len() < 2 {
        let question = tokio::time::timeout(DEADLINE, questions.recv()).await;
        both.insert(question.expect("it has the keys of their agency").expect("runs"));
    }
    files.iter().for_each(|file| file.upload(&network, 2));
    // Of the slow peer alone, the first two would take two minutes, and the third would wait for one of them.
    for file in files.iter().rev() {
        file.comes_to(&network, 1).await;
    }
    slow.stop().await;
    network.stop().await;
}
