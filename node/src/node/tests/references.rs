//! References that do not hold: at the door, and where only a block finds out.

use customhouse_proto::v1::reference::Relation;

use super::*;

/// A record of agency 0's broker that refers to another.
fn referring(number: u64, (relation, to): (Relation, Hash)) -> v1::Record {
    let reference =
        v1::Reference { record_id: to.0.to_vec(), relation: relation as i32, ..Default::default() };
    let body = Some(inspection(&format!("MRN{number}")));
    v1::Record { body, references: vec![reference], ..Default::default() }
}

/// The same with what its node fills in, by a client's means.
fn lodged_by(name: &str, number: u64, record: v1::Record) -> (ValidRecord, Hash) {
    let record = v1::Record {
        salt: vec![9; 32],
        submitter_role: v1::Role::Broker as i32,
        submitter_certificate: vec![6; 32],
        agency: code(0).to_string(),
        submitter: name.into(),
        ..record
    };
    let key = dedupe_key(&code(0), name, &format!("key-{number}"));
    (ValidRecord::from_record(record).expect("valid"), key)
}

fn plain(number: u64) -> v1::Record {
    v1::Record { body: Some(inspection(&format!("MRN{number}"))), ..Default::default() }
}

impl Network {
    /// The door's answer to a record of a broker of this name.
    async fn tried(&self, name: &str, number: u64, record: v1::Record) -> Option<&'static str> {
        let (agency, role) = (code(0), ClientRole::Broker);
        let client = ClientIdentity { agency, name: name.into(), role, certificate: [0; 32] };
        let idempotency_key = format!("key-{number}");
        let submission = v1::RecordSubmission {
            record: Some(record),
            idempotency_key,
            open: true,
            agreement: Vec::new(),
        };
        let results = self.shared(0).submissions.submit_records(&client, vec![submission]).await;
        results.into_iter().next().expect("one").err().map(|refusal| refusal.code())
    }

    /// Puts a transaction where blocks are made of, past the door; how it ends. Another record, of this number,
    /// has the driver look.
    async fn end_past_the_door(&self, records: &[(ValidRecord, Hash)], beside: u64) -> End {
        let (shared, not_after_ms) = (self.shared(0), crate::clock::unix_ms() + 60_000);
        let chain_id = shared.chain_id;
        let signed =
            VerifiedTransaction::sign(records, code(0), not_after_ms, &chain_id, &key(3, 0))
                .expect("valid");
        let id = signed.id();
        lock(&shared.mempool).insert(Arc::new(signed)).expect("room");
        self.submit(0, beside).await;
        let ended = async {
            loop {
                match shared.submissions.wait_transaction(id).await {
                    Ok(end) => return end,
                    Err(SubmissionRefusal::NotFound(_)) => tokio::task::yield_now().await,
                    Err(other) => panic!("{other}"),
                }
            }
        };
        tokio::time::timeout(DEADLINE, ended).await.expect("in time")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_whose_reference_does_not_hold_is_refused_before_it_is_accepted() {
    let network = Network::start(1).await;
    let first = network.submit(0, 1).await;
    assert!(matches!(network.finality(0, first).await, End::Final { .. }));
    for (name, refers, refused) in [
        ("broker", (Relation::Amends, Hash([5; 32])), Some("REFERENCE_UNKNOWN")),
        ("broker", (Relation::RespondsTo, first), Some("REFERENCE_KIND")),
        ("other", (Relation::Amends, first), Some("REFERENCE_SUBMITTER")),
        ("other", (Relation::Cancels, first), Some("REFERENCE_SUBMITTER")),
        ("other", (Relation::Evidences, first), None),
        ("broker", (Relation::Amends, first), None),
    ] {
        let code = network.tried(name, 2, referring(2, refers)).await;
        assert_eq!(code, refused, "{name} {refers:?}");
    }
    let of_another = v1::Record {
        references: vec![v1::Reference {
            agency: code(7).to_string(),
            record_id: first.0.to_vec(),
            relation: Relation::Cancels as i32,
            ..Default::default()
        }],
        ..plain(3)
    };
    assert_eq!(network.tried("broker", 3, of_another).await, Some("REFERENCE_AGENCY"));
    network.stop().await;
}

/// As where two agencies, or two nodes of one, lodge at the same moment.
#[tokio::test(flavor = "multi_thread")]
async fn what_only_a_block_refuses_is_told_slot_by_slot_and_leaves_its_key_free() {
    let network = Network::start(1).await;
    let unknown = (Relation::Amends, Hash([5; 32]));
    let records = [lodged_by("broker", 1, plain(1)), lodged_by("broker", 2, referring(2, unknown))];
    let end = network.end_past_the_door(&records, 10).await;
    let End::Partly { not_counted, .. } = end else { panic!("{end:?}") };
    let told: Vec<_> = not_counted.iter().map(|slot| (slot.slot_index, slot.code)).collect();
    assert_eq!(told, [(1, "REFERENCE_UNKNOWN")]);
    let first = records[0].0.id;
    assert!(matches!(network.finality(0, first).await, End::Final { .. }));
    let reader = &network.shared(0).reader;
    assert!(reader.record(&records[1].0.id).expect("readable").is_none(), "it does not count");
    let cancelled = lodged_by("other", 3, referring(3, (Relation::Cancels, first)));
    let end = network.end_past_the_door(&[cancelled], 11).await;
    let End::Rejected { code, .. } = &end else { panic!("{end:?}") };
    assert_eq!(code, "REFERENCE_SUBMITTER");
    // The same keys are good for records that hold.
    for (name, number) in [("broker", 2), ("other", 3)] {
        assert_eq!(network.tried(name, number, plain(number)).await, None, "{name}");
    }
    network.stop().await;
}
