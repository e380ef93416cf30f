//! Records that are too large to be gossiped.

use customhouse_ledger::limits::{RECORD_BYTES_MAX, TRANSACTION_BYTES_MAX};

use super::*;

/// A submission with this many bytes of source.
fn large(number: u64, bytes: usize) -> v1::RecordSubmission {
    let content = (0..bytes).map(|index| (index as u64 * 31 + number) as u8).collect();
    let source = v1::Source { format: "test".into(), content, ..Default::default() };
    let body = Some(inspection(&format!("MRN{number}")));
    let record = v1::Record { source: Some(source), body, ..Default::default() };
    v1::RecordSubmission {
        record: Some(record),
        idempotency_key: format!("key-{number}"),
        open: true,
        agreement: Vec::new(),
    }
}

/// Room for what a record has beside its source.
const WHOLE: usize = RECORD_BYTES_MAX - 1024;

impl Network {
    async fn submit_large(
        &self,
        i: usize,
        submissions: Vec<v1::RecordSubmission>,
    ) -> Vec<Result<Hash, SubmissionRefusal>> {
        let (agency, role) = (code(i), ClientRole::Broker);
        let client = ClientIdentity { agency, name: "broker".into(), role, certificate: [0; 32] };
        let results = self.shared(i).submissions.submit_records(&client, submissions).await;
        results.into_iter().map(|result| result.map(|accepted| accepted.record_id)).collect()
    }

    fn bytes_of(&self, i: usize, record_id: &Hash) -> bytes::Bytes {
        let record = self.shared(i).reader.record(record_id).expect("readable");
        record.expect("there").bytes.expect("open")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_of_four_mebibytes_becomes_final_on_all_and_is_caught_up() {
    let mut network = Network::start(4).await;
    network.stop_node(3).await;
    let submission = large(1, WHOLE);
    let content = submission.record.as_ref().and_then(|r| r.source.clone()).expect("there").content;
    let id = network.submit_large(0, vec![submission]).await.remove(0).expect("accepted");
    assert!(matches!(network.finality(0, id).await, End::Final { .. }));
    network.start_node(3).await;
    network.agree(network.shared(0).reader.tip().header.height).await;
    let bytes = network.bytes_of(0, &id);
    assert!(bytes.len() > WHOLE);
    for i in 1..4 {
        assert!(network.bytes_of(i, &id) == bytes, "node {i}");
    }
    let record = <v1::Record as prost::Message>::decode(bytes).expect("a record");
    assert!(record.source.expect("there").content == content);
    network.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_transaction_waits_at_the_others_before_any_block_has_it() {
    let mut network = Network::start(4).await;
    // Two of four decide nothing.
    network.stop_node(2).await;
    network.stop_node(3).await;
    let submissions = (0..2).map(|number| large(number, TRANSACTION_BYTES_MAX / 2 - 4096));
    let results = network.submit_large(0, submissions.collect()).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    let here = || {
        let mempool = lock(&network.shared(1).mempool);
        mempool.oldest_first().any(|transaction| transaction.encoded().len() > WHOLE)
    };
    let told_and_fetched = async {
        while !here() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, told_and_fetched).await.expect("in time");
    let bytes = lock(&network.shared(1).mempool).bytes();
    assert_eq!(bytes, lock(&network.shared(0).mempool).bytes(), "its bytes count");
    assert!(bytes > TRANSACTION_BYTES_MAX - 16_384);
    network.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_large_records_of_two_agencies_at_once_all_become_final() {
    let network = Network::start(4).await;
    let mut ids = Vec::new();
    for number in 0..3 {
        for i in [0, 1] {
            // A client's share of what waits may be full for a moment: then it comes again.
            let accepted = async {
                loop {
                    let submission = large(10 * i as u64 + number, WHOLE);
                    match network.submit_large(i, vec![submission]).await.remove(0) {
                        Err(SubmissionRefusal::Exhausted { .. }) => tokio::task::yield_now().await,
                        other => return other.expect("accepted"),
                    }
                }
            };
            let accepted = tokio::time::timeout(DEADLINE, accepted).await.expect("in time");
            ids.push((i, accepted));
        }
    }
    for (i, id) in ids {
        assert!(matches!(network.finality(i, id).await, End::Final { .. }));
    }
    let height = network.shared(0).reader.tip().header.height;
    network.agree(height).await;
    network.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_larger_than_any_record_is_refused() {
    let network = Network::start(1).await;
    let refused = network.submit_large(0, vec![large(1, RECORD_BYTES_MAX)]).await.remove(0);
    let SubmissionRefusal::Record(error) = refused.expect_err("refused") else {
        panic!("for its size")
    };
    assert_eq!(error.code(), "RECORD_TOO_LARGE");
    network.stop().await;
}

/// A transaction of an agency with a large record.
pub(super) fn signed_large(chain_id: Hash, agency: usize, number: u64) -> VerifiedTransaction {
    let record = v1::Record {
        salt: vec![9; 32],
        submitter_role: v1::Role::Broker as i32,
        submitter_certificate: vec![6; 32],
        agency: code(agency).to_string(),
        submitter: "broker".into(),
        ..large(number, 2 << 20).record.expect("there")
    };
    let record = ValidRecord::from_record(record).expect("valid");
    let dedupe_key = dedupe_key(&code(agency), "broker", &format!("key-{number}"));
    let not_after_ms = crate::clock::unix_ms() + 60_000;
    let records = [(record, dedupe_key)];
    VerifiedTransaction::sign(&records, code(agency), not_after_ms, &chain_id, &key(3, agency))
        .expect("valid")
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_fetched_for_a_forged_signature_and_other_bytes_than_were_told_of_are_a_fault() {
    let mut network = Network::start(4).await;
    network.stop_node(3).await;
    let (chain_id, shutdown) = (network.genesis.chain_id(), CancellationToken::new());
    let genuine = signed_large(chain_id, 0, 1);
    let mut forged = signed_large(chain_id, 0, 2).parts().clone();
    forged.signature = vec![7; 64].into();
    let forged = prost::Message::encode_to_vec(&forged);
    let config = NetworkConfig {
        identity: key(2, 3),
        chain_id,
        listen: vec!["/ip4/127.0.0.1/tcp/0".parse().expect("an address")],
        peers: vec![PeerConfig {
            key: key(2, 0).public(),
            agency: code(0),
            addresses: vec![network.addresses[0].clone()],
        }],
        limits: Limits::default(),
    };
    let (liar, mut events) = network::spawn(config, shutdown.clone()).await.expect("started");
    let counted = |reason: &str| {
        let text = network.shared(0).metrics.encode();
        text.lines().any(|line| line.contains("gossip") && line.contains(reason))
    };
    let told = async {
        while !(counted("BAD_SIGNATURE") && counted("OTHER_ANSWER")) {
            let event = match tokio::time::timeout(Duration::from_millis(50), events.recv()).await {
                Ok(event) => event.expect("it runs"),
                Err(_nothing_new) => continue,
            };
            match event {
                NetworkEvent::Connected(_) => {
                    liar.publish_transaction(forged.clone().into());
                    liar.publish_transaction(genuine.encoded().clone());
                }
                NetworkEvent::Request { request, reply, .. } => {
                    let Some(v1::sync_request::Request::Transactions(asked)) = request.request
                    else {
                        continue;
                    };
                    assert_eq!(
                        asked.leaves,
                        [genuine.leaf_hash().0.to_vec()],
                        "not the forged one"
                    );
                    let transactions = vec![forged.clone().into()];
                    let answer = v1::TransactionsResponse { transactions };
                    let response = Some(v1::sync_response::Response::Transactions(answer));
                    reply.send(v1::SyncResponse { response });
                }
                _ => {}
            }
        }
    };
    tokio::time::timeout(DEADLINE, told).await.expect("both are noticed");
    assert_eq!(lock(&network.shared(0).mempool).count(), 0);
    shutdown.cancel();
    network.stop().await;
}

/// How a peer that has told of a transaction answers who asks it for that.
#[derive(Clone, Copy, Debug)]
enum Teller {
    HasNone,
    GivesAnother,
    Silent,
}

/// Two peers of node 0: one tells of a transaction first and does not give it, the other has it.
async fn what_one_does_not_give_comes_from_who_has_it(teller: Teller) {
    let mut network = Network::start(4).await;
    // Two of four decide nothing.
    network.stop_node(2).await;
    network.stop_node(3).await;
    let (chain_id, shutdown) = (network.genesis.chain_id(), CancellationToken::new());
    let (genuine, another) = (signed_large(chain_id, 0, 1), signed_large(chain_id, 0, 2));
    let config = |agency| NetworkConfig {
        identity: key(2, agency),
        chain_id,
        listen: vec!["/ip4/127.0.0.1/tcp/0".parse().expect("an address")],
        peers: vec![PeerConfig {
            key: key(2, 0).public(),
            agency: code(0),
            addresses: vec![network.addresses[0].clone()],
        }],
        limits: Limits::default(),
    };
    let start = async |agency| {
        let started = network::spawn(config(agency), shutdown.clone()).await.expect("started");
        let (handle, mut events) = started;
        let connected =
            async { while !matches!(events.recv().await, Some(NetworkEvent::Connected(_))) {} };
        tokio::time::timeout(DEADLINE, connected).await.expect("connected");
        (handle, events)
    };
    let ((liar, mut of_liar), (_honest, mut of_honest)) = (start(3).await, start(2).await);
    let (encoded, other) = (genuine.encoded().clone(), another.encoded().clone());
    let (told_anew, is_told_anew) = tokio::sync::oneshot::channel();
    let asked = tokio::spawn(async move {
        let (mut told_anew, mut kept) = (Some(told_anew), Vec::new());
        loop {
            let (event, is_liar) = tokio::select! {
                event = of_liar.recv() => (event, true),
                event = of_honest.recv() => (event, false),
            };
            let (request, reply) = match event {
                Some(NetworkEvent::Request { request, reply, .. }) => (request.request, reply),
                Some(NetworkEvent::Announced { .. }) if is_liar => {
                    told_anew.take().into_iter().for_each(|told| _ = told.send(()));
                    continue;
                }
                Some(_) => continue,
                None => return,
            };
            let Some(v1::sync_request::Request::Transactions(_)) = request else { continue };
            let transactions = match (is_liar, teller) {
                (false, _) => vec![encoded.clone()],
                (true, Teller::HasNone) => Vec::new(),
                (true, Teller::GivesAnother) => vec![other.clone()],
                (true, Teller::Silent) => {
                    kept.push(reply);
                    continue;
                }
            };
            let answer = v1::TransactionsResponse { transactions };
            let response = Some(v1::sync_response::Response::Transactions(answer));
            reply.send(v1::SyncResponse { response });
        }
    });
    liar.publish_transaction(genuine.encoded().clone());
    let here = async {
        while lock(&network.shared(0).mempool).by_leaf(&genuine.leaf_hash()).is_none() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, here).await.expect("who has it is asked");
    // What gossip does not pass on as it came, because it came too late or is held against who sent it.
    if !matches!(teller, Teller::HasNone) {
        let told = tokio::time::timeout(DEADLINE, is_told_anew).await.expect("in time");
        told.expect("the others are told");
    }
    shutdown.cancel();
    asked.await.expect("no panic");
    network.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_a_peer_told_of_and_does_not_have_comes_from_who_has_it() {
    what_one_does_not_give_comes_from_who_has_it(Teller::HasNone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_a_peer_told_of_and_gives_wrong_comes_from_who_has_it() {
    what_one_does_not_give_comes_from_who_has_it(Teller::GivesAnother).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_a_peer_told_of_and_is_silent_about_comes_from_who_has_it() {
    what_one_does_not_give_comes_from_who_has_it(Teller::Silent).await;
}
