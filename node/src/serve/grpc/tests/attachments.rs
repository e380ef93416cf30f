//! Attachments over gRPC: up, down, resumed, and refused.

use customhouse_client::{attachment_of, contract::CHUNK_BYTES_MAX};
use customhouse_ledger::{
    limits::PIECE_BYTES,
    record::{SALT_BYTES, ValidRecord},
};
use customhouse_proto::v1::upload_request::Message;

use super::{
    fixture::{agency, now_ms, refusal},
    *,
};

/// A file of so many bytes, in a folder of its own.
struct LocalFile {
    folder: tempfile::TempDir,
    bytes: Vec<u8>,
    attachment: v1::Attachment,
}

impl LocalFile {
    fn new(size: usize) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let bytes: Vec<_> = (0..size).map(|i| (i / 5 + i / 1000) as u8).collect();
        std::fs::write(folder.path().join("scan.pdf"), &bytes).expect("written");
        let attachment = attachment_of(&folder.path().join("scan.pdf"), None).expect("read");
        Self { folder, bytes, attachment }
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("scan.pdf")
    }

    fn root(&self) -> Hash {
        Hash::from_slice(&self.attachment.root).expect("32 bytes")
    }

    fn header(&self) -> v1::UploadHeader {
        v1::UploadHeader { size: self.bytes.len() as u64, root: self.root().0.to_vec(), offset: 0 }
    }

    fn chunks(&self) -> Vec<Message> {
        self.bytes.chunks(100_000).map(|chunk| Message::Chunk(chunk.to_vec())).collect()
    }

    /// A declaration that it belongs to.
    fn record(&self, number: u64) -> v1::Record {
        let declaration = v1::Declaration {
            regime: v1::declaration::Regime::Import as i32,
            reference: format!("LRN{number}"),
            ..Default::default()
        };
        v1::Record {
            attachments: vec![self.attachment.clone()],
            body: Some(v1::record::Body::Declaration(declaration)),
            ..Default::default()
        }
    }

    /// The same in a signed transaction.
    fn signed(&self, number: u64, fixture: &Fixture) -> v1::Transaction {
        let record = v1::Record {
            salt: vec![7; SALT_BYTES],
            agency: agency().to_string(),
            submitter: "broker".into(),
            submitter_role: v1::Role::Broker as i32,
            submitter_certificate: vec![6; 32],
            ..self.record(number)
        };
        let record = ValidRecord::from_record(record).expect("valid");
        let (key, not_after_ms) = (record.id, now_ms() + 60_000);
        let (records, chain_id) = ([(record, key)], fixture.genesis.chain_id());
        let signing = &fixture.signing_key;
        let signed =
            VerifiedTransaction::sign(&records, agency(), not_after_ms, &chain_id, signing);
        v1::Transaction::decode(&signed.expect("signed").encoded()[..]).expect("encoded")
    }

    fn submission(&self, key: &str) -> v1::RecordSubmission {
        v1::RecordSubmission {
            record: Some(self.record(7)),
            idempotency_key: key.into(),
            open: true,
            agreement: Vec::new(),
        }
    }
}

fn messages(
    messages: impl IntoIterator<Item = Message>,
) -> stream::BoxStream<'static, v1::UploadRequest> {
    let messages: Vec<_> = messages.into_iter().collect();
    let request = |message| v1::UploadRequest { message: Some(message) };
    stream::iter(messages.into_iter().map(request)).boxed()
}

fn held_files(fixture: &Fixture) -> u64 {
    fixture.shared.upgrade().expect("running").attachments.sizes().0.files
}

async fn downloaded(client: &Client, root: &Hash, offset: u64) -> Vec<u8> {
    let pieces = client.download(root, offset).await.expect("begun");
    let pieces: Vec<_> = pieces.try_collect().await.expect("to the end");
    assert!(pieces.iter().all(|piece| (1..=PIECE_BYTES).contains(&piece.data.len())));
    pieces.into_iter().flat_map(|piece| piece.data).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_is_taken_when_its_attachment_is_here_and_the_file_comes_back_byte_for_byte() {
    let fixture = Fixture::start().await;
    let broker = fixture.client(Role::Broker).await;
    let file = LocalFile::new(250_000);
    // By both ways.
    let missing = refusal(broker.submit_records(vec![file.submission("k")], true).await);
    assert_eq!(
        (missing.code, &*missing.reason_code),
        (Code::FailedPrecondition, "ATTACHMENT_MISSING")
    );
    let signed = file.signed(8, &fixture);
    let missing = refusal(broker.submit_transaction(signed.clone(), true).await);
    assert_eq!(missing.reason_code, "ATTACHMENT_MISSING");
    let other_size = {
        let mut submission = file.submission("k");
        submission.record.as_mut().expect("one").attachments[0].size += 1;
        submission
    };
    let attachment = broker.upload_file(&file.path(), None).await.expect("uploaded");
    assert_eq!(attachment, file.attachment);
    assert_eq!((&*attachment.name, &*attachment.media_type), ("scan.pdf", "application/pdf"));
    let missing = refusal(broker.submit_records(vec![other_size], true).await);
    assert_eq!(missing.reason_code, "ATTACHMENT_MISSING");
    let results = broker.submit_records(vec![file.submission("k")], true).await.expect("taken");
    assert_eq!(results[0].phase(), Phase::Final, "{}", results[0].reason);
    let submitted = broker.submit_transaction(signed, true).await.expect("taken");
    assert_eq!(submitted.phase(), Phase::Final, "{}", submitted.reason);
    // Everybody who may query may download.
    let auditor = fixture.client(Role::Auditor).await;
    for offset in [0, 1, PIECE_BYTES, PIECE_BYTES + 1, 249_999, 250_000] {
        let bytes = downloaded(&auditor, &file.root(), offset as u64).await;
        assert_eq!(bytes, file.bytes[offset..], "{offset}");
    }
    let mut whole = Vec::new();
    let size = auditor.download_to(&file.root(), std::path::Path::new("whole"), &mut whole).await;
    assert_eq!((size.expect("downloaded"), whole), (250_000, file.bytes.clone()));
    let beyond = refusal(auditor.download(&file.root(), 250_001).await);
    assert_eq!(beyond.reason_code, "OFFSET");
    let unknown = refusal(auditor.download(&Hash([7; 32]), 0).await);
    assert_eq!((unknown.code, &*unknown.reason_code), (Code::NotFound, "ATTACHMENT_NOT_HERE"));
    // It is not uploaded again.
    broker.upload_file(&file.path(), None).await.expect("here");
    assert_eq!(held_files(&fixture), 1);
    fixture.stop().await;
}

/// What was taken of an upload is no longer of its client's share: else the rest would never come.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_larger_than_a_client_s_share_goes_up_in_one_call() {
    let fixture = Fixture::start().await;
    let broker = fixture.client(Role::Broker).await;
    let file = LocalFile::new(20_000_000);
    let all = [Message::Header(file.header())].into_iter().chain(file.chunks());
    let answer = broker.upload(messages(all)).await.expect("uploaded");
    assert_eq!((answer.size, answer.complete), (20_000_000, true));
    assert!(downloaded(&broker, &file.root(), 0).await == file.bytes, "byte for byte");
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_breaks_off_is_taken_up_where_it_was() {
    let fixture = Fixture::start().await;
    let broker = fixture.client(Role::Broker).await;
    let file = LocalFile::new(500_000);
    let part =
        [Message::Header(file.header())].into_iter().chain(file.chunks().into_iter().take(3));
    let refused = refusal(broker.upload(messages(part)).await);
    assert_eq!(refused.reason_code, "ATTACHMENT_SIZE");
    let held = broker.attachment_held(&file.root()).await.expect("told");
    let whole_pieces = (300_000 / PIECE_BYTES * PIECE_BYTES) as u64;
    assert_eq!((held.complete, held.size, held.uploaded), (false, 0, whole_pieces));
    let carrier = fixture.tls_named("carrier", Role::Carrier);
    let carrier = Client::connect(&fixture.endpoint, &carrier).await.expect("connected");
    let of_another = carrier.attachment_held(&file.root()).await.expect("told");
    assert_eq!(of_another.uploaded, 0, "what another client began is its own");
    let at_other = v1::UploadHeader { offset: 1, ..file.header() };
    let refused = refusal(broker.upload(messages([Message::Header(at_other)])).await);
    assert_eq!(refused.reason_code, "OFFSET");
    let from = usize::try_from(held.uploaded).expect("small");
    let header = v1::UploadHeader { offset: held.uploaded, ..file.header() };
    let rest = file.bytes[from..].chunks(CHUNK_BYTES_MAX).map(|c| Message::Chunk(c.to_vec()));
    let rest: Vec<_> = [Message::Header(header)].into_iter().chain(rest).collect();
    let answer = broker.upload(messages(rest)).await.expect("uploaded");
    assert_eq!(
        (answer.root, answer.size, answer.complete),
        (file.root().0.to_vec(), 500_000, true)
    );
    let held = broker.attachment_held(&file.root()).await.expect("told");
    assert_eq!((held.complete, held.size, held.uploaded), (true, 500_000, 0));
    assert_eq!(downloaded(&broker, &file.root(), 0).await, file.bytes);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_uploads_are_refused_and_nothing_is_held_of_them() {
    let fixture = Fixture::start().await;
    let broker = fixture.client(Role::Broker).await;
    let file = LocalFile::new(300_000);
    let header = |change: &dyn Fn(&mut v1::UploadHeader)| {
        let mut header = file.header();
        change(&mut header);
        Message::Header(header)
    };
    let all = || file.chunks();
    let with = |header: Message, chunks: Vec<Message>| [vec![header], chunks].concat();
    let twice = with(header(&|_| ()), [vec![header(&|_| ())], all()].concat());
    let short = header(&|h| (h.size, h.root) = (300_001, Vec::new()));
    for (sent, reason_code) in [
        (vec![], "FIELD"),
        (all(), "FIELD"),
        (twice, "FIELD"),
        (with(header(&|_| ()), vec![Message::Chunk(vec![])]), "FIELD"),
        (with(header(&|_| ()), vec![Message::Chunk(vec![0; CHUNK_BYTES_MAX + 1])]), "FIELD"),
        (
            with(header(&|_| ()), vec![Message::Chunk(vec![0; 2 * CHUNK_BYTES_MAX])]),
            "MESSAGE_TOO_LARGE",
        ),
        (with(header(&|h| h.root = vec![7; 31]), all()), "FIELD"),
        (with(header(&|h| h.root = vec![7; 32]), all()), "ATTACHMENT_ROOT"),
        (with(header(&|h| h.size = 299_999), all()), "ATTACHMENT_SIZE"),
        (with(short, all()), "ATTACHMENT_SIZE"),
        (with(header(&|h| h.size = (1 << 30) + 1), all()), "ATTACHMENT_TOO_LARGE"),
        (with(header(&|h| h.size = u64::MAX), all()), "ATTACHMENT_TOO_LARGE"),
        (with(header(&|h| (h.offset, h.root) = (PIECE_BYTES as u64, Vec::new())), all()), "OFFSET"),
        (with(header(&|h| h.offset = u64::MAX), all()), "OFFSET"),
    ] {
        let refused = refusal(broker.upload(messages(sent)).await);
        assert_eq!(refused.reason_code, reason_code, "{refused}");
        assert_eq!(held_files(&fixture), 0, "{reason_code}");
    }
    for role in [Role::Operator, Role::Auditor] {
        let client = fixture.client(role).await;
        let refused = refusal(client.upload(messages(with(header(&|_| ()), all()))).await);
        assert_eq!(refused.reason_code, "ROLE");
    }
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_never_ends_is_ended_and_gives_its_room_back() {
    let fixture = Fixture::start().await;
    let broker = fixture.client(Role::Broker).await;
    let file = LocalFile::new(300_000);
    let header = v1::UploadHeader { root: Vec::new(), ..file.header() };
    let begun = [Message::Header(header)].into_iter().chain(file.chunks().into_iter().take(1));
    let refused = refusal(broker.upload(messages(begun).chain(stream::pending())).await);
    assert_eq!((refused.code, &*refused.reason_code), (Code::DeadlineExceeded, "UPLOAD_TIMEOUT"));
    assert_eq!(held_files(&fixture), 0);
    // A byte now and then is too slow too, however much is to come.
    for size in [1000, 100 << 20] {
        let header = v1::UploadHeader { size, root: Vec::new(), offset: 0 };
        let ticks = tokio::time::interval(Duration::from_millis(200));
        let drip = stream::unfold(ticks, |mut ticks| async {
            ticks.tick().await;
            Some((v1::UploadRequest { message: Some(Message::Chunk(vec![7])) }, ticks))
        });
        let slow = messages([Message::Header(header)]).chain(drip);
        let refused = refusal(timeout(DEADLINE, broker.upload(slow)).await.expect("in time"));
        assert_eq!(refused.reason_code, "UPLOAD_TIMEOUT");
        assert_eq!(held_files(&fixture), 0);
    }
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_s_uploads_end_where_its_share_does_and_another_s_go_on() {
    let fixture = Fixture::start_with(|parts| {
        parts.attachments_section.client_bytes_max = 500_000;
    });
    let fixture = fixture.await;
    let broker = fixture.client(Role::Broker).await;
    let (first, second) = (LocalFile::new(300_000), LocalFile::new(300_001));
    broker.upload_file(&first.path(), None).await.expect("room");
    let refused = broker.upload_file(&second.path(), None).await;
    let refused = refusal(refused);
    assert_eq!(
        (refused.code, &*refused.reason_code),
        (Code::ResourceExhausted, "ATTACHMENT_NO_ROOM")
    );
    let carrier = fixture.tls_named("carrier", Role::Carrier);
    let carrier = Client::connect(&fixture.endpoint, &carrier).await.expect("connected");
    carrier.upload_file(&second.path(), None).await.expect("its own share");
    // What a record refers to is of nobody's share.
    let results = broker.submit_records(vec![first.submission("k")], true).await.expect("taken");
    assert_eq!(results[0].phase(), Phase::Final);
    let third = LocalFile::new(300_002);
    let freed = async {
        while broker.upload_file(&third.path(), None).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, freed).await.expect("once the record was looked at");
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_has_a_few_uploads_under_way_and_another_client_its_own() {
    let fixture = Fixture::start_api_with(|config| {
        config.patience.upload = 2 * DEADLINE;
    });
    let fixture = fixture.await;
    let broker = fixture.client(Role::Broker).await;
    let begun = |size| {
        let header = v1::UploadHeader { size, root: Vec::new(), offset: 0 };
        messages([Message::Header(header)]).chain(stream::pending())
    };
    let under_way = futures::future::join_all((0..4).map(|n| broker.upload(begun(1000 + n))));
    let beside = async {
        while held_files(&fixture) < 4 {
            tokio::task::yield_now().await;
        }
        let refused = refusal(broker.upload(begun(7)).await);
        assert_eq!((refused.code, &*refused.reason_code), (Code::ResourceExhausted, "OVERLOADED"));
        let file = LocalFile::new(100);
        let carrier = fixture.tls_named("carrier", Role::Carrier);
        let carrier = Client::connect(&fixture.endpoint, &carrier).await.expect("connected");
        carrier.upload_file(&file.path(), None).await.expect("its own places");
    };
    tokio::select! {
        _ended = under_way => panic!("an upload ended by itself"),
        done = timeout(DEADLINE, beside) => done.expect("in time"),
    }
    drop(broker);
    let given_back = async {
        while held_files(&fixture) > 1 {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, given_back).await.expect("what was given up is not held");
    fixture.stop().await;
}
