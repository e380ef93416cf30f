//! Sealed records among four nodes: who gets the bytes, and who does not.

use super::{agreements, *};
use crate::{
    sealed::{Check, Row, SealedId, Standing},
    submissions::Accepted,
};

/// Four nodes with vaults; each agency's own agreement is in force, and one among the first two.
struct Sealed {
    network: Network,
    agreement: Hash,
}

impl Sealed {
    async fn start() -> Self {
        let network = agreements::start(4).await;
        agreements::own_epoch(&network, 0).await;
        let (_, id) = agreements::agreed(&network).await;
        Self { network, agreement: id.agreement }
    }

    async fn submit(&self, i: usize, key: &str, agreement: Option<Hash>) -> Accepted {
        self.try_to_submit(i, key, agreement, "MRN").await.expect("accepted")
    }

    async fn try_to_submit(
        &self,
        i: usize,
        key: &str,
        agreement: Option<Hash>,
        mrn: &str,
    ) -> Result<Accepted, SubmissionRefusal> {
        let (agency, name) = (code(i), "broker".to_owned());
        let client =
            ClientIdentity { agency, name, role: ClientRole::Broker, certificate: [0; 32] };
        let submission = v1::RecordSubmission {
            record: Some(v1::Record { body: Some(inspection(mrn)), ..Default::default() }),
            idempotency_key: key.into(),
            open: false,
            agreement: agreement.map(|id| id.0.to_vec()).unwrap_or_default(),
        };
        let submissions = &self.network.shared(i).submissions;
        submissions.submit_records(&client, vec![submission]).await.pop().expect("one")
    }

    /// Waits until a node holds the bytes of a record of the first agency, held against its slot.
    async fn is_held(&self, i: usize, record_id: Hash) {
        let id = SealedId { agency: code(0), record_id };
        until("held", || {
            let holdings = self.holdings(i);
            let row = holdings.row(&id).expect("readable");
            row == Some(Row { standing: Standing::Committed, check: Check::Right })
        })
        .await;
        let record = self.holdings(i).record(&id).expect("opens").expect("there");
        assert_eq!(ValidRecord::from_bytes(record).expect("valid").id, record_id);
    }

    fn holdings(&self, i: usize) -> crate::sealed::Holdings {
        self.network.shared(i).holdings.clone().expect("a vault")
    }
}

/// Waits for a condition.
async fn until(what: &str, condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, waiting).await.unwrap_or_else(|_| panic!("never {what}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bytes_of_a_sealed_record_are_at_its_parties_and_nowhere_else() {
    let sealed = Sealed::start().await;
    let shared = sealed.submit(0, "shared", Some(sealed.agreement)).await;
    let own = sealed.submit(0, "own", None).await;
    for id in [shared.record_id, own.record_id] {
        assert!(matches!(sealed.network.finality(0, id).await, End::Final { .. }));
    }
    sealed.is_held(0, shared.record_id).await;
    sealed.is_held(0, own.record_id).await;
    sealed.is_held(1, shared.record_id).await;
    until("told to be held", || {
        let id = SealedId { agency: code(0), record_id: shared.record_id };
        let parties = sealed.holdings(0).parties(&id).expect("readable");
        parties.iter().map(|party| (party.agency, party.delivery.is_some())).eq([(code(1), true)])
    })
    .await;
    let height = sealed.network.shared(0).reader.tip().header.height;
    sealed.network.agree(height).await;
    for (i, record_id) in [(1, own.record_id), (2, shared.record_id), (3, own.record_id)] {
        let id = SealedId { agency: code(0), record_id };
        assert_eq!(sealed.holdings(i).row(&id).expect("readable"), None, "node {i}");
        assert!(sealed.holdings(i).record(&id).expect("readable").is_none(), "node {i}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_is_the_same_submission_and_another_record_under_its_key_is_refused() {
    let sealed = Sealed::start().await;
    let agreement = Some(sealed.agreement);
    let first = sealed.submit(0, "k", agreement).await;
    let again = sealed.submit(0, "k", agreement).await;
    assert_eq!(first.record_id, again.record_id, "while it waits or when it is final");
    sealed.network.finality(0, first.record_id).await;
    let again = sealed.submit(0, "k", agreement).await;
    assert_eq!(again.record_id, first.record_id);
    assert!(matches!(again.end, Some(End::Final { .. })));
    let other = sealed.try_to_submit(0, "k", agreement, "OTHER").await;
    assert_eq!(other.expect_err("another record").code(), "ALREADY_EXISTS");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lodged_under_an_agreement_that_is_not_the_agency_s() {
    let sealed = Sealed::start().await;
    let reader = sealed.network.shared(2).reader.clone();
    until("known there", || reader.agreements().get(&sealed.agreement).is_some()).await;
    let foreign = sealed.try_to_submit(2, "k", Some(sealed.agreement), "M").await;
    assert_eq!(foreign.expect_err("no party").code(), "AGREEMENT_PARTY");
    let unknown = sealed.try_to_submit(0, "k", Some(Hash([9; 32])), "M").await;
    assert_eq!(unknown.expect_err("unknown").code(), "AGREEMENT_UNKNOWN");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_party_that_was_away_or_lost_what_it_had_gets_the_bytes() {
    let mut sealed = Sealed::start().await;
    sealed.network.stop_node(1).await;
    let away = sealed.submit(0, "away", Some(sealed.agreement)).await;
    assert!(matches!(sealed.network.finality(0, away.record_id).await, End::Final { .. }));
    sealed.network.start_node(1).await;
    sealed.is_held(1, away.record_id).await;
    // Its store of sealed records is lost, and its vault is not.
    sealed.network.stop_node(1).await;
    let store = sealed.network.folder.path().join("1-sealed");
    std::fs::remove_dir_all(store).expect("there");
    sealed.network.start_node(1).await;
    sealed.is_held(1, away.record_id).await;
    // So does who lodged it, from whoever it was shared with.
    sealed.network.stop_node(0).await;
    let store = sealed.network.folder.path().join("0-sealed");
    std::fs::remove_dir_all(store).expect("there");
    sealed.network.start_node(0).await;
    sealed.is_held(0, away.record_id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_granted_later_reaches_those_it_is_shared_with_then() {
    let sealed = Sealed::start().await;
    let own = sealed.submit(0, "own", None).await;
    sealed.network.finality(0, own.record_id).await;
    let id = SealedId { agency: code(0), record_id: own.record_id };
    assert!(sealed.holdings(0).parties(&id).expect("readable").is_empty());
    let (agency, name) = (code(0), "officer".to_owned());
    let officer = ClientIdentity { agency, name, role: ClientRole::Officer, certificate: [0; 32] };
    let submissions = &sealed.network.shared(0).submissions;
    let grant = async || {
        let transaction = submissions.sign_grant(&id, &sealed.agreement).expect("granted");
        submissions.submit_transaction(&officer, transaction).await.expect("accepted")
    };
    let granted = grant().await;
    let end = submissions.wait_transaction(granted.transaction_id).await;
    assert!(matches!(end, Ok(End::Final { .. })));
    sealed.is_held(1, own.record_id).await;
    for i in [2, 3] {
        assert_eq!(sealed.holdings(i).row(&id).expect("readable"), None, "node {i}");
    }
    // Once more it is a repeat, which takes nothing.
    let again = grant().await;
    let end = submissions.wait_transaction(again.transaction_id).await.expect("an end");
    assert!(!matches!(end, End::Final { .. }), "{end:?}");
}
