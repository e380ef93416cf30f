//! Agreements, as an operator meets them: a network of one agency has but its own.

use customhouse_ledger::agreement::own_id;

use super::{
    fixture::{Fixture, agency, now_ms, refusal},
    *,
};

fn request(parties: &[&str]) -> v1::ProposeAgreementRequest {
    v1::ProposeAgreementRequest {
        parties: parties.iter().map(|code| (*code).to_owned()).collect(),
        terms: Some(v1::AgreementTerms {
            purpose: "trying out".into(),
            legal_basis: "none".into(),
            retention_months: 1,
            erase_days: 1,
            ..Default::default()
        }),
        until_ms: now_ms() + 24 * 60 * 60 * 1000,
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_a_vault_shows_its_own_agreement_and_nobody_leaves_it() {
    let fixture = Fixture::start_with_vault().await;
    let client = fixture.client(Role::Operator).await;
    let own = own_id(&agency());
    let listed = async {
        loop {
            let listed = client.agreements_listed(false, false).await.expect("served");
            if let Some(one) = listed.into_iter().next() {
                return one;
            }
            tokio::task::yield_now().await;
        }
    };
    let listed = timeout(fixture::DEADLINE, listed).await.expect("in time");
    assert_eq!((listed.agreement, listed.epochs), (own.0.to_vec(), 1));
    let newest = listed.newest.expect("an epoch");
    assert!(newest.is_party && newest.has_secret && newest.has_terms);
    let (epochs, more) = client.agreement(&own, 0).await.expect("served");
    assert!(epochs[0].sentences[0].starts_with("Nobody but NL-DOUANE"), "{epochs:?}");
    assert_eq!((epochs.len(), more), (1, false));
    let (below, _) = client.agreement(&own, 1).await.expect("served");
    assert_eq!(below, []);
    let status = client.status().await.expect("served");
    assert_eq!(status.epochs_lacking, 0);
    let refused = refusal(client.leave_agreement(&own).await);
    assert_eq!((refused.code, &*refused.reason_code), (Code::FailedPrecondition, "AGREEMENT_OWN"));
    let unknown = Hash([7; 32]);
    let refused = refusal(client.leave_agreement(&unknown).await);
    assert_eq!(&*refused.reason_code, "AGREEMENT_UNKNOWN");
    let refused = refusal(client.agreement(&unknown, 0).await);
    assert_eq!((refused.code, &*refused.reason_code), (Code::NotFound, "NOT_FOUND"));
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_agreed_is_refused_with_its_code() {
    let fixture = Fixture::start_with_vault().await;
    let client = fixture.client(Role::Operator).await;
    let sound = || request(&["NL-DOUANE", "BE-AADA"]);
    type Fault<'a> = (Code, &'a str, &'a dyn Fn(&mut v1::ProposeAgreementRequest));
    let (wrong, not_now) = (Code::InvalidArgument, Code::FailedPrecondition);
    let faults: [Fault<'_>; 9] = [
        (not_now, "AGREEMENT_MEMBER", &|_| ()),
        (not_now, "OFFER_PARTY", &|r| r.parties = vec!["BE-AADA".into(), "DE-ZOLL".into()]),
        (wrong, "FIELD", &|r| r.parties[0] = "nl".into()),
        (wrong, "FIELD", &|r| r.agreement = vec![1; 31]),
        (wrong, "FIELD", &|r| r.terms.as_mut().expect("terms").salt = vec![1; 32]),
        (wrong, "TERMS_FIELD", &|r| r.terms.as_mut().expect("terms").erase_days = 0),
        (not_now, "TERMS_NOT_HERE", &|r| r.terms = None),
        (wrong, "AGREEMENT_PERIOD", &|r| r.until_ms = 0),
        (not_now, "AGREEMENT_AHEAD", &|r| r.not_after_ms = u64::MAX),
    ];
    for (code, reason, change) in faults {
        let mut request = sound();
        change(&mut request);
        let refused = refusal(client.propose_agreement(request).await);
        assert_eq!((refused.code, &*refused.reason_code), (code, reason), "{}", refused.message);
    }
    let refused = refusal(client.open_offer(v1::AgreementOffer::default()).await);
    assert_eq!((refused.code, &*refused.reason_code), (wrong, "OFFER_FIELD"));
    let large = v1::AgreementOffer { chain_id: vec![0; 400 * 1024], ..Default::default() };
    let refused = refusal(client.approve_offer(large).await);
    assert_eq!(&*refused.reason_code, "MESSAGE_TOO_LARGE");
    for role in Role::ALL.into_iter().filter(|role| *role != Role::Operator) {
        let refused = refusal(fixture.client(role).await.propose_agreement(sound()).await);
        assert_eq!((refused.code, &*refused.reason_code), (Code::PermissionDenied, "ROLE"));
    }
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_a_vault_makes_no_agreement_and_shows_those_that_there_are() {
    let fixture = Fixture::start().await;
    let client = fixture.client(Role::Operator).await;
    let refused = refusal(client.propose_agreement(request(&["NL-DOUANE", "BE-AADA"])).await);
    assert_eq!((refused.code, &*refused.reason_code), (Code::FailedPrecondition, "NO_VAULT"));
    assert_eq!(client.agreements_listed(true, true).await.expect("served"), []);
    fixture.stop().await;
}
