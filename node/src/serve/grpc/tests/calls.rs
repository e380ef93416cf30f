//! What calls answer, from submission to proof, and how they are refused.

use customhouse_client::contract::REQUEST_BYTES_MAX;
use customhouse_ledger::limits::TRANSACTION_BYTES_MAX;
use customhouse_ledger::{chain::ChainReader, store::StoreError};

use super::{
    fixture::{now_ms, refusal, submission},
    *,
};

const MINUTE_MS: u64 = 60_000;

fn hash(bytes: &[u8]) -> Hash {
    Hash::from_slice(bytes).expect("32 bytes")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submitted_record_becomes_final_and_its_receipt_verifies_offline() {
    let fixture = Fixture::start().await;
    let client = fixture.client(Role::Broker).await;
    let records = vec![submission("a", 1), submission("b", 2)];
    let results = client.submit_records(records.clone(), true).await.expect("taken");
    let keys: Vec<_> = results.iter().map(|result| result.idempotency_key.as_str()).collect();
    assert_eq!(keys, ["a", "b"]);
    let verifier = Verifier::new(&client.genesis().await.expect("the genesis"));
    for result in &results {
        assert_eq!(result.phase(), Phase::Final, "{}", result.reason);
        let id = hash(&result.record_id);
        let waited = client.wait_receipt(id, None).await.expect("known");
        let receipt = waited.receipt.expect("final");
        let verified = verifier.verify_receipt(&receipt.encode_to_vec()).expect("verifies");
        assert_eq!(verified.slot.record_id, id);
        assert_eq!((verified.header.height, verified.log_index), (result.height, result.log_index));
        assert!(verified.record.is_none(), "only where it is asked for");
        let with = client.receipt(id, false).await.expect("known");
        let verified = verifier.verify_receipt(&with.encode_to_vec()).expect("verifies");
        assert_eq!(verified.record.expect("with its bytes").record.submitter, "broker");
        let without = client.receipt(id, true).await.expect("known");
        assert!(without.record.is_empty());
    }
    // An honest retry: the first receipt.
    let again = client.submit_records(records, true).await.expect("taken");
    assert_eq!(again, results);
    // The same key for another body.
    let other = refusal(client.submit_records(vec![submission("a", 3)], false).await);
    assert_eq!(other.code, Code::AlreadyExists);
    assert_eq!(other.id, Some(hash(&results[0].record_id).to_string()));
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acceptance_is_signed_by_the_node() {
    use customhouse_ledger::{hash::Tag, keys::Signature};
    let fixture = Fixture::start().await;
    let client = fixture.client(Role::Broker).await;
    let records = stream::iter((0..3).map(|number| v1::StreamRecordsRequest {
        submission: Some(submission(&format!("k{number}"), number)),
        wait: false,
    }));
    let streamed: Vec<_> = {
        let answers = client.stream_records(records).await.expect("open");
        answers.try_collect().await.expect("no error")
    };
    let single = client.submit_records(vec![submission("single", 9)], false).await.expect("taken");
    assert_eq!(streamed.len(), 3);
    for result in streamed.iter().chain(&single) {
        assert_eq!(result.phase(), Phase::Accepted);
        let chain_id = fixture.genesis.chain_id();
        let parts: [&[u8]; 3] = [chain_id.as_bytes(), &result.record_id, &result.transaction_id];
        let signature = Signature::from_slice(&result.acceptance).expect("64 bytes");
        let message = Tag::ACCEPTANCE.message(&parts);
        assert_eq!(fixture.signing_key.public().verify(&message, &signature), Ok(()));
    }
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_transactions_answers_each_when_final() {
    let fixture = Fixture::start().await;
    let client = fixture.client(Role::Broker).await;
    let count = 500;
    let not_after_ms = now_ms() + 10 * MINUTE_MS;
    let mut ids = std::collections::BTreeSet::new();
    let mut requests = Vec::new();
    for number in 0..count {
        let transaction = fixture.transaction(number, not_after_ms);
        ids.insert(transaction.id());
        let transaction = Some(transaction.parts().clone());
        requests.push(v1::SubmitTransactionRequest { transaction, wait: true });
    }
    // One among them that is damaged is refused by itself.
    let mut damaged = requests[7].clone();
    let signature = &mut damaged.transaction.as_mut().expect("there").signature;
    *signature = vec![1; 64].into();
    requests.insert(100, damaged);
    let answers = client.stream_transactions(stream::iter(requests)).await.expect("open");
    let answers: Vec<_> =
        timeout(DEADLINE, answers.try_collect()).await.expect("in time").expect("no error");
    let (refused, rest): (Vec<_>, Vec<_>) =
        answers.into_iter().partition(|answer| answer.reason_code == "BAD_SIGNATURE");
    assert_eq!((refused.len(), refused[0].phase()), (1, Phase::Rejected));
    assert_eq!(fixture.counted("BAD_SIGNATURE"), 1);
    for answer in &rest {
        assert_eq!(answer.phase(), Phase::Final, "{}", answer.reason);
        assert!(ids.remove(&hash(&answer.transaction_id)), "one answer each");
    }
    assert!(ids.is_empty());
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_mempool_holds_a_stream_back_and_loses_nothing() {
    let fixture = Fixture::start_with(|parts| parts.mempool.transactions_max = 16).await;
    let client = fixture.client(Role::Broker).await;
    let not_after_ms = now_ms() + 10 * MINUTE_MS;
    let request = |number| v1::SubmitTransactionRequest {
        transaction: Some(fixture.transaction(number, not_after_ms).parts().clone()),
        wait: true,
    };
    let requests: Vec<_> = (0..400).map(request).collect();
    let answers = client.stream_transactions(stream::iter(requests)).await.expect("open");
    let answers: Vec<_> =
        timeout(DEADLINE, answers.try_collect()).await.expect("in time").expect("no error");
    assert_eq!(answers.len(), 400);
    for answer in answers {
        assert_eq!(answer.phase(), Phase::Final, "{} {}", answer.reason_code, answer.reason);
    }
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_transaction_may_be_refused_for() {
    let fixture = Fixture::start().await;
    let client = fixture.client(Role::Broker).await;
    let good = fixture.transaction(1, now_ms() + MINUTE_MS).parts().clone();
    let refused = async |transaction: v1::Transaction| {
        refusal(client.submit_transaction(transaction, false).await)
    };
    let with = |change: &dyn Fn(&mut v1::Transaction)| {
        let mut transaction = good.clone();
        change(&mut transaction);
        transaction
    };
    let other_chain = with(&|t| {
        let mut header = t.header.to_vec();
        header[0] ^= 1;
        t.header = header.into();
    });
    let large = with(&|t| t.records = vec![vec![0; TRANSACTION_BYTES_MAX].into()]);
    let expired = fixture.transaction(2, now_ms() - MINUTE_MS).parts().clone();
    let table = [
        (other_chain, Code::FailedPrecondition, "WRONG_CHAIN"),
        (with(&|t| t.signature = vec![0; 63].into()), Code::InvalidArgument, "BAD_SIGNATURE"),
        (with(&|t| t.header = t.header.slice(1..)), Code::InvalidArgument, "TRANSACTION_HEADER"),
        (with(&|t| t.slots.clear()), Code::InvalidArgument, "SLOT_COUNT"),
        (large, Code::OutOfRange, "TRANSACTION_TOO_LARGE"),
        (expired, Code::FailedPrecondition, "LIFETIME"),
    ];
    for (transaction, code, reason_code) in table {
        let refused = refused(transaction).await;
        assert_eq!((refused.code, refused.reason_code.as_str()), (code, reason_code), "{refused}");
        assert!(refused.id.is_some(), "the id of what was refused is named");
        assert_eq!(fixture.counted(reason_code), 1);
    }
    let answer = client.submit_transaction(good, true).await.expect("taken");
    assert_eq!(answer.phase(), Phase::Final);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_is_kept_to_its_methods() {
    let fixture = Fixture::start().await;
    let auditor = fixture.client(Role::Auditor).await;
    let refused = refusal(auditor.submit_records(vec![submission("a", 1)], false).await);
    assert_eq!((refused.code, refused.reason_code.as_str()), (Code::PermissionDenied, "ROLE"));
    // A stream is refused before anything of it is read.
    let streamed = refusal(auditor.stream_records(stream::pending()).await.map(|_| ()));
    assert_eq!(streamed.code, Code::PermissionDenied);
    let officer = fixture.client(Role::Officer).await;
    assert_eq!(refusal(officer.history_proof(Hash::ZERO).await).code, Code::PermissionDenied);
    assert_eq!(fixture.counted("ROLE"), 3);
    let integrator = fixture.client(Role::Broker).await;
    assert_eq!(refusal(integrator.status().await).code, Code::PermissionDenied);
    let status = fixture.client(Role::Operator).await.status().await.expect("permitted");
    assert_eq!((status.agency.as_str(), status.validators, status.quorum), ("NL-DOUANE", 1, 1));
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_oversize_message_is_refused_before_it_is_decoded() {
    let fixture = Fixture::start().await;
    let client = fixture.client(Role::Broker).await;
    // Not even a protobuf message: the length before it is enough.
    let mut submission = v1::submission_client::SubmissionClient::new(client.channel());
    let mut record = fixture::record(1);
    record.source =
        Some(v1::Source { content: vec![0xff; REQUEST_BYTES_MAX], ..Default::default() });
    let records = vec![v1::RecordSubmission {
        record: Some(record),
        idempotency_key: "k".into(),
        open: true,
        agreement: Vec::new(),
    }];
    let request = v1::SubmitRecordsRequest { records, wait: false };
    let refused = ClientError::from(submission.submit_records(request).await.expect_err("refused"));
    let refused = refused.refused().expect("a refusal").clone();
    assert_eq!(refused.code, Code::OutOfRange, "{refused}");
    assert_eq!(refused.reason_code, "MESSAGE_TOO_LARGE");
    assert_eq!(fixture.counted("MESSAGE_TOO_LARGE"), 1);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn history_comes_in_pages_and_its_proof_verifies() {
    let fixture = Fixture::start().await;
    let client = fixture.client(Role::Broker).await;
    // All about one movement.
    let records: Vec<_> = (0..25).map(|number| submission(&format!("k{number}"), 7)).collect();
    let results = client.submit_records(records, true).await.expect("taken");
    let subject = v1::Subject { scheme: v1::subject::Scheme::Mrn as i32, id: "M7".into() };
    let key = customhouse_ledger::record::subject::subject_key(&subject);
    let (mut found, mut token, mut pages) = (Vec::new(), Vec::new(), 0);
    loop {
        let subject = SubjectOrKey::Subject(subject.clone());
        let page = client.history_page(subject, 10, token).await.expect("a page");
        found.extend(page.items.into_iter().map(|item| item.record_id));
        (token, pages) = (page.next_page_token, pages + 1);
        if token.is_empty() {
            break;
        }
    }
    assert_eq!((pages, found.len()), (3, 25));
    let mut submitted: Vec<_> = results.iter().map(|result| result.record_id.clone()).collect();
    submitted.sort_unstable();
    let mut sorted = found.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, submitted);
    let whole: Vec<_> = {
        let history = client.history(SubjectOrKey::SubjectKey(key.0.to_vec()));
        history.map_ok(|item| item.record_id).try_collect().await.expect("pages")
    };
    assert_eq!(whole, found, "in the same order");
    let auditor = fixture.client(Role::Auditor).await;
    let proof = auditor.history_proof(key).await.expect("a proof");
    let verifier = Verifier::new(&fixture.genesis);
    let verified = verifier.verify_history(&proof.encode_to_vec()).expect("verifies");
    assert_eq!(verified.entries.len(), 25);
    fixture.stop().await;
}

/// As `Subject.id` promises in record.proto.
#[tokio::test(flavor = "multi_thread")]
async fn another_spelling_of_an_id_is_refused_with_its_normal_form_in_records_and_questions() {
    let fixture = Fixture::start().await;
    let client = fixture.client(Role::Broker).await;
    let spelt =
        v1::Subject { scheme: v1::subject::Scheme::Container as i32, id: "csqu 305438-3".into() };
    let stated = |mut submission: v1::RecordSubmission| {
        submission.record.as_mut().expect("there").subjects = vec![spelt.clone()];
        submission
    };
    let declaration =
        v1::Declaration { regime: 1, container_ids: vec![spelt.id.clone()], ..Default::default() };
    let following = v1::RecordSubmission {
        record: Some(v1::Record {
            body: Some(v1::record::Body::Declaration(declaration)),
            ..Default::default()
        }),
        idempotency_key: "b".into(),
        open: true,
        agreement: Vec::new(),
    };
    let records = vec![stated(submission("a", 1)), following];
    for result in client.submit_records(records, true).await.expect("answered") {
        assert_eq!((result.phase(), &*result.reason_code), (Phase::Rejected, "RECORD_SUBJECT"));
        assert!(result.reason.contains("CSQU3054383"), "{}", result.reason);
    }
    let asked = client.history_page(SubjectOrKey::Subject(spelt), 10, Vec::new()).await;
    let refused = refusal(asked.map(|_| ()));
    assert_eq!((refused.code, &*refused.reason_code), (Code::InvalidArgument, "SUBJECT_FORM"));
    assert!(refused.to_string().contains("CSQU3054383"), "{refused}");
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_unknown_or_beyond_the_tip_says_so() {
    let fixture = Fixture::start().await;
    let client = fixture.client(Role::Auditor).await;
    let (tip, certificate) = client.header(None).await.expect("the newest");
    assert_eq!(certificate.is_none(), tip.height == 0);
    let future = refusal(client.header(Some(u64::MAX)).await);
    assert_eq!((future.code, future.reason_code.as_str()), (Code::OutOfRange, "FUTURE_HEIGHT"));
    assert_eq!(refusal(client.record(Hash([9; 32])).await).code, Code::NotFound);
    assert_eq!(refusal(client.transaction(Hash([9; 32])).await).code, Code::NotFound);
    assert_eq!(refusal(client.receipt(Hash([9; 32]), false).await).code, Code::NotFound);
    assert_eq!(refusal(client.consistency_proof(1, u64::MAX).await).code, Code::OutOfRange);
    let integrator = fixture.client(Role::Broker).await;
    let unknown = refusal(integrator.wait_receipt(Hash([9; 32]), None).await);
    assert_eq!(unknown.code, Code::NotFound);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_data_is_refused_to_the_client_and_counted_for_the_operator() {
    let fixture = Fixture::start().await;
    let shared = fixture.shared.upgrade().expect("it runs");
    let damaged = |_: &ChainReader| {
        let key = "00000007".to_owned();
        Err::<(), _>(StoreError::Corrupt { table: "transactions", key, what: "checksum".into() })
    };
    let refused = crate::serve::reads::read(&shared, damaged).await.expect_err("refused");
    assert_eq!((refused.code, refused.reason_code), (Code::DataLoss, "STORE_CORRUPT"));
    let metrics = shared.metrics.encode();
    assert!(metrics.contains("customhouse_store_corruptions_total 1\n"), "{metrics}");
    drop(shared);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_or_overlong_list_of_records_is_refused() {
    let fixture = Fixture::start().await;
    let client = fixture.client(Role::Broker).await;
    for count in [0, 4097] {
        let records = vec![v1::RecordSubmission::default(); count];
        let refused = refusal(client.submit_records(records, false).await);
        let found = (refused.code, refused.reason_code.as_str());
        assert_eq!(found, (Code::InvalidArgument, "RECORD_COUNT"));
    }
    // Among others, each has its own answer.
    let mut salted = submission("b", 2);
    salted.record.as_mut().expect("there").salt = vec![0; 16];
    let results =
        client.submit_records(vec![submission("a", 1), salted], true).await.expect("taken");
    assert_eq!((results[0].phase(), results[1].phase()), (Phase::Final, Phase::Rejected));
    assert!(results[1].reason.starts_with("record.salt"), "{}", results[1].reason);
    fixture.stop().await;
}
