//! Which subjects follow from a record.

use customhouse_proto::v1::{self, record::Body};

use super::{subject_keys, subjects};

fn declaration() -> v1::Record {
    let declaration = v1::Declaration {
        reference: "LRN1".into(),
        ucr: "U1".into(),
        container_ids: vec!["CSQU3054383".into(), "CSQU3054383".into()],
        items: vec![v1::GoodsItem { ucr: "U2".into(), ..Default::default() }],
        ..Default::default()
    };
    v1::Record {
        agency: "NL-DOUANE".into(),
        body: Some(Body::Declaration(declaration)),
        ..Default::default()
    }
}

#[test]
fn subjects_follow_from_the_body_once_each() {
    let found: Vec<_> = subjects(&declaration()).into_iter().map(|s| s.id).collect();
    assert_eq!(found, ["U1", "U2", "NL-DOUANE/LRN1", "CSQU3054383"]);
}

#[test]
fn a_reference_is_another_subject_at_another_agency() {
    let mut other = declaration();
    other.agency = "KR-KCS".into();
    let common: Vec<_> = {
        let theirs = subject_keys(&other);
        subject_keys(&declaration()).into_iter().filter(|k| theirs.contains(k)).collect()
    };
    assert_eq!(common.len(), 3, "two UCRs and a container, not the reference");
}

#[test]
fn keys_are_strictly_ascending() {
    let keys = subject_keys(&declaration());
    assert!(keys.windows(2).all(|pair| pair[0] < pair[1]));
}
