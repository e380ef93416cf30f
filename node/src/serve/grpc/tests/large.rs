//! Records that are too large for one answer, as a client meets them.

use customhouse_client::contract::ANSWERED_BYTES_MAX;
use customhouse_ledger::limits::{RECORD_BYTES_MAX, TRANSACTION_BYTES_MAX};

use super::{
    fixture::{now_ms, record, refusal},
    raw::{Raw, SUBMIT_RECORDS, USUAL_WINDOW, ended, is},
    *,
};
use crate::serve::grpc::large::CHUNK_BYTES;

/// A submission with this many bytes of source.
fn large(key: &str, number: u64, bytes: usize) -> v1::RecordSubmission {
    let content = (0..bytes).map(|index| (index * 31 % 251) as u8).collect();
    let source = v1::Source { format: "test".into(), content, ..Default::default() };
    let record = v1::Record { source: Some(source), ..record(number) };
    v1::RecordSubmission {
        record: Some(record),
        idempotency_key: key.into(),
        open: true,
        agreement: Vec::new(),
    }
}

const WHOLE: usize = RECORD_BYTES_MAX - 1024;

/// A final record, by its id.
async fn lodged(client: &Client, submission: v1::RecordSubmission) -> Hash {
    let result = client.submit_records(vec![submission], true).await.expect("taken").remove(0);
    assert_eq!(result.phase(), Phase::Final, "{result:?}");
    Hash::from_slice(&result.record_id).expect("an id")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_record_is_read_in_chunks_and_no_answer_has_it_whole() {
    let fixture = Fixture::start().await;
    let client = fixture.client(Role::Broker).await;
    let submission = large("k", 7, WHOLE);
    let content = submission.record.as_ref().and_then(|r| r.source.clone()).expect("there").content;
    let id = lodged(&client, submission).await;

    let mut query = v1::query_client::QueryClient::new(client.channel());
    let request = || v1::GetRecordRequest { record_id: id.0.to_vec() };
    let refused = ClientError::from(query.get_record(request()).await.expect_err("too large"));
    let refused = refused.refused().expect("a refusal").clone();
    assert_eq!((refused.code, &*refused.reason_code), (Code::OutOfRange, "RECORD_LARGE"));
    assert!(refused.message.contains("Query.ReadRecord"), "{refused}");

    let request = v1::ReadRecordRequest { record_id: id.0.to_vec() };
    let parts: Vec<_> =
        query.read_record(request).await.expect("read").into_inner().collect().await;
    let parts: Vec<_> = parts.into_iter().map(|part| part.expect("whole").part).collect();
    let Some(v1::read_record_response::Part::Head(head)) = &parts[0] else { panic!("no head") };
    let chunks = parts[1..].iter().map(|part| match part {
        Some(v1::read_record_response::Part::Chunk(chunk)) => &chunk[..],
        other => panic!("{other:?}"),
    });
    assert!(chunks.clone().all(|chunk| (1..=CHUNK_BYTES).contains(&chunk.len())));
    let bytes: Vec<u8> = chunks.flatten().copied().collect();
    assert_eq!(bytes.len() as u64, head.length);
    let valid = customhouse_ledger::record::ValidRecord::from_bytes(bytes.clone().into());
    assert_eq!(valid.expect("valid").id, id);

    let whole = client.record(id).await.expect("by itself");
    assert!(whole.record == bytes);
    assert_eq!(whole.place, head.place);
    let read = v1::Record::decode(&bytes[..]).expect("a record").source.expect("there");
    assert!(read.content == content, "byte for byte");
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_has_its_record_where_it_is_asked_for() {
    let fixture = Fixture::start().await;
    let client = fixture.client(Role::Broker).await;
    let id = lodged(&client, large("k", 7, WHOLE)).await;
    let verifier = Verifier::new(&fixture.genesis);

    let without = client.receipt(id, true).await.expect("small");
    assert!(without.record.is_empty() && without.encoded_len() < 4096);
    verifier.verify_receipt(&without.encode_to_vec()).expect("verifies");
    let mut audit = v1::audit_client::AuditClient::new(client.channel());
    let request =
        v1::GetReceiptRequest { record_id: id.0.to_vec(), with_record: true, with_steps: false };
    let refused = ClientError::from(audit.get_receipt(request).await.expect_err("too large"));
    let refused = refused.refused().expect("a refusal").clone();
    assert_eq!((refused.code, &*refused.reason_code), (Code::OutOfRange, "RECORD_LARGE"));
    assert!(refused.message.contains("Audit.ReadReceipt"), "{refused}");
    let with = client.receipt(id, false).await.expect("in chunks");
    assert!(with.record.len() > WHOLE);
    let verified = verifier.verify_receipt(&with.encode_to_vec()).expect("verifies");
    assert!(verified.record.is_some());

    let mut submission = v1::submission_client::SubmissionClient::new(client.channel());
    let mut wait = async |with_record| {
        let request =
            v1::WaitReceiptRequest { record_id: id.0.to_vec(), timeout_ms: 0, with_record };
        submission.wait_receipt(request).await
    };
    let answer = wait(false).await.expect("final").into_inner();
    assert_eq!(answer.receipt, Some(without));
    let refused = wait(true).await.expect_err("too large");
    assert_eq!(refused.code(), Code::OutOfRange);
    // Of a small one all is in one answer.
    let small = lodged(&client, fixture::submission("small", 8)).await;
    let request =
        v1::WaitReceiptRequest { record_id: small.0.to_vec(), timeout_ms: 0, with_record: true };
    let answer = submission.wait_receipt(request).await.expect("final").into_inner();
    assert_eq!(answer.receipt, Some(client.receipt(small, false).await.expect("there")));
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_transaction_and_a_history_with_it_are_read() {
    let fixture = Fixture::start().await;
    let client = fixture.client(Role::Broker).await;
    let record = large("", 7, WHOLE).record.expect("there");
    let transaction = fixture.transaction_of(record, now_ms() + 60_000);
    let answer = client.submit_transaction(transaction.parts().clone(), true).await.expect("taken");
    assert_eq!(answer.phase(), Phase::Final);

    let mut query = v1::query_client::QueryClient::new(client.channel());
    let request = v1::GetTransactionRequest { transaction_id: transaction.id().0.to_vec() };
    let refused = ClientError::from(query.get_transaction(request).await.expect_err("too large"));
    let refused = refused.refused().expect("a refusal").clone();
    assert_eq!((refused.code, &*refused.reason_code), (Code::OutOfRange, "TRANSACTION_LARGE"));
    let found = client.transaction(transaction.id()).await.expect("in chunks");
    assert!(found.transaction.as_ref() == Some(transaction.parts()));
    assert_eq!(found.height, answer.height);

    lodged(&client, fixture::submission("small", 7)).await;
    let subject = v1::Subject { scheme: v1::subject::Scheme::Mrn as i32, id: "M7".into() };
    let subject = SubjectOrKey::Subject(subject);
    let page = client.history_page(subject.clone(), 10, Vec::new()).await.expect("a page");
    let bytes = &transaction.parts().records[0];
    let lengths: Vec<_> = page.items.iter().map(|i| (i.record.len(), i.length)).collect();
    assert_eq!(lengths[0], (0, bytes.len() as u64), "left to be read by itself");
    assert_eq!(lengths[1].0 as u64, lengths[1].1);
    let items: Vec<_> = client.history(subject).try_collect().await.expect("read");
    assert!(items[0].record == *bytes && items[1].record == page.items[1].record);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_and_transactions_up_to_their_limits_are_taken_and_no_larger_ones() {
    let fixture = Fixture::start().await;
    let client = fixture.client(Role::Broker).await;
    let refused = refusal(client.submit_records(vec![large("k", 1, RECORD_BYTES_MAX)], true).await);
    assert_eq!(refused.reason_code, "RECORD_TOO_LARGE", "{refused}");
    let record = large("", 2, RECORD_BYTES_MAX - 1024).record.expect("there");
    let mut parts = fixture.transaction_of(record, now_ms() + 60_000).parts().clone();
    parts.records.push(vec![7; TRANSACTION_BYTES_MAX - RECORD_BYTES_MAX + 1024].into());
    let refused = refusal(client.submit_transaction(parts, true).await);
    assert_eq!(refused.reason_code, "TRANSACTION_TOO_LARGE", "{refused}");
    // The largest that is answered whole.
    let id = lodged(&client, large("whole", 3, ANSWERED_BYTES_MAX - 1024)).await;
    let mut query = v1::query_client::QueryClient::new(client.channel());
    let request = v1::GetRecordRequest { record_id: id.0.to_vec() };
    query.get_record(request).await.expect("in one answer");
    fixture.stop().await;
}

/// Two of six mebibytes are as much as a client may have.
#[tokio::test(flavor = "multi_thread")]
async fn large_messages_that_do_not_come_are_of_the_client_s_own_share() {
    let fixture = Fixture::start().await;
    let greedy =
        Raw::connect(&fixture, &fixture.tls_named("greedy", Role::Broker), USUAL_WINDOW).await;
    let length = u32::try_from(TRANSACTION_BYTES_MAX).expect("short").to_be_bytes();
    let begun = [&[0][..], &length].concat();
    let mut calls = Vec::new();
    for _ in 0..12 {
        let (response, mut body) = greedy.begin(SUBMIT_RECORDS, &[]).await;
        body.send_data(begun.clone().into(), false).expect("sent");
        calls.push((response, body));
    }
    let client = fixture.client(Role::Broker).await;
    for number in 0..4 {
        lodged(&client, large(&format!("k{number}"), number, 2 << 20)).await;
    }
    for (response, _body) in calls {
        let found = ended(response).await;
        let late = is(Code::DeadlineExceeded, "MESSAGE_TIMEOUT");
        assert!(found == late || found == is(Code::ResourceExhausted, "OVERLOADED"), "{found:?}");
    }
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_large_records_is_held_back_and_all_become_final() {
    let fixture = Fixture::start().await;
    let client = fixture.client(Role::Broker).await;
    let records = (0..12).map(|number| v1::StreamRecordsRequest {
        submission: Some(large(&format!("k{number}"), number, 3 << 20)),
        wait: true,
    });
    let answers = client.stream_records(stream::iter(records)).await.expect("begun");
    let results: Vec<_> =
        timeout(DEADLINE, answers.try_collect()).await.expect("in time").expect("whole");
    assert_eq!(results.len(), 12);
    for result in results {
        assert_eq!(result.phase(), Phase::Final, "{result:?}");
    }
    fixture.stop().await;
}
