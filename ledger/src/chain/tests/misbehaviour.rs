//! A validator's breach of the rules is on the chain once, whoever reports it.

use super::*;
use crate::{
    chain::SlotOutcome,
    finality::{
        evidence::{Evidence, tests::vote},
        vote::Vote,
    },
    record::{SALT_BYTES, subject::subject_key},
    transaction::TransactionError,
};

fn breach(fixture: &Fixture) -> Evidence {
    let (key, chain_id) = (SigningKey::from_seed(&[3; 32]), fixture.genesis.chain_id());
    let vote = |block| vote(&key, &chain_id, VoteKind::Notarize, block);
    Evidence::Votes(vote(1), vote(2))
}

fn report(fixture: &Fixture, agency: u8, evidence: &Evidence) -> Arc<VerifiedTransaction> {
    let name = format!("A{agency:03}").parse().expect("a code");
    let key = SigningKey::from_seed(&[128 + agency; 32]);
    let (chain_id, not_after_ms) =
        (fixture.genesis.chain_id(), fixture.genesis.time_ms + 3_600_000);
    let signed = VerifiedTransaction::report(evidence, "node", name, not_after_ms, &chain_id, &key);
    Arc::new(signed.expect("evidence"))
}

#[test]
fn two_agencies_reports_of_one_breach_leave_one_record() {
    let fixture = Fixture::new();
    let mut chain = fixture.open();
    let evidence = breach(&fixture);
    let (first, second) = (report(&fixture, 1, &evidence), report(&fixture, 2, &evidence));
    let later = report(&fixture, 4, &evidence);
    let both = commit(&mut chain, &[Arc::clone(&first), second]);
    let once = SlotOutcome::Duplicate { log_index: 0, position: 0 };
    assert_eq!(both.outcomes, [vec![SlotOutcome::Applied], vec![once]]);
    assert_eq!(commit(&mut chain, &[later]).outcomes, [vec![once]]);
    let reader = chain.reader();
    let place = reader.misbehaviour(&evidence.dedupe_key()).expect("readable").expect("recorded");
    assert_eq!((place.log_index, place.record_id), (0, first.slots()[0].record_id));
    let scheme = v1::subject::Scheme::ValidatorKey as i32;
    let subject = v1::Subject { scheme, id: evidence.culprit().to_string() };
    let history = reader.history(&subject_key(&subject), None, 10).expect("readable");
    assert_eq!(history.len(), 1, "the subject is the culprit's key");
}

#[test]
fn a_report_that_proves_nothing_is_refused() {
    let fixture = Fixture::new();
    let chain_id = fixture.genesis.chain_id();
    let key = SigningKey::from_seed(&[3; 32]);
    let forged = |block| Vote { validator: key.public(), ..vote_by(4, &chain_id, block) };
    let evidence = Evidence::Votes(forged(1), forged(2));
    let agency = "A001".parse().expect("a code");
    let not_after_ms = fixture.genesis.time_ms + 3_600_000;
    let signer = SigningKey::from_seed(&[129; 32]);
    let refused =
        VerifiedTransaction::report(&evidence, "node", agency, not_after_ms, &chain_id, &signer);
    assert_eq!(refused, Err(TransactionError::Misbehaviour));
}

#[test]
fn a_report_under_another_dedupe_key_or_with_company_is_refused() {
    let fixture = Fixture::new();
    let chain_id = fixture.genesis.chain_id();
    let evidence = breach(&fixture);
    let agency: crate::agency::AgencyCode = "A001".parse().expect("a code");
    let body = v1::record::Body::Misbehaviour(evidence.to_proto());
    let own = v1::Record {
        salt: vec![1; SALT_BYTES],
        agency: agency.to_string(),
        submitter: "node".into(),
        submitter_role: v1::Role::Node as i32,
        body: Some(body),
        ..Default::default()
    };
    let own = ValidRecord::from_record(own).expect("valid by itself");
    let other = ValidRecord::from_record(record("A001", 1)).expect("valid");
    let elsewhere = dedupe_key(&agency, "node", "a key of my own");
    let signer = SigningKey::from_seed(&[129; 32]);
    for records in
        [vec![(own.clone(), elsewhere)], vec![(own, evidence.dedupe_key()), (other, elsewhere)]]
    {
        let not_after_ms = fixture.genesis.time_ms + 3_600_000;
        let refused = VerifiedTransaction::sign(&records, agency, not_after_ms, &chain_id, &signer);
        assert_eq!(refused, Err(TransactionError::Misbehaviour));
    }
}

fn vote_by(seed: u8, chain_id: &Hash, block: u8) -> Vote {
    vote(&SigningKey::from_seed(&[seed; 32]), chain_id, VoteKind::Notarize, block)
}
