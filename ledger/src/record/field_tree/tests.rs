use customhouse_proto::v1::{self, record::Body};
use prost::Message as _;

use super::*;
use crate::record::tests::record;

type Leaf = (Vec<(u32, u32)>, u8, Vec<u8>);

fn leaves(record: &v1::Record) -> Vec<Leaf> {
    let mut found = Vec::new();
    let shown: Result<(), FieldTreeError> =
        walk(&record.encode_to_vec(), &mut |path, leaf_type, value| {
            let (pairs, rest) = path.as_chunks::<8>();
            assert!(rest.is_empty());
            let pair = |bytes: &[u8; 8]| {
                let number = |at: usize| bytes[at..at + 4].try_into().map(u32::from_be_bytes);
                (number(0).expect("four"), number(4).expect("four"))
            };
            found.push((pairs.iter().map(pair).collect(), leaf_type as u8, value.to_vec()));
            Ok(())
        });
    shown.expect("canonical");
    found
}

fn sample() -> v1::Record {
    let item = |code: &str| v1::GoodsItem {
        sequence: 300,
        hs_code: code.into(),
        value: Some(v1::Money::default()),
        ..Default::default()
    };
    let declaration = v1::Declaration {
        regime: 1,
        container_ids: vec!["CSQU3054383".into(), String::new()],
        items: vec![item("090111"), v1::GoodsItem::default()],
        ..Default::default()
    };
    v1::Record { body: Some(Body::Declaration(declaration)), ..record("NL-DOUANE", 1) }
}

#[test]
fn there_is_a_leaf_for_every_scalar_element_message_and_count_and_none_for_the_salt() {
    let one = SINGULAR;
    let (d, items) = ((16, one), |index| vec![(16, one), (20, index)]);
    let item = |index, field| [items(index), vec![(field, one)]].concat();
    let text = |path: Vec<(u32, u32)>, value: &str| (path, 2, value.as_bytes().to_vec());
    let number = |path: Vec<(u32, u32)>, value: u64| (path, 3, value.to_be_bytes().to_vec());
    let count = |path: Vec<(u32, u32)>, value: u64| (path, 5, value.to_be_bytes().to_vec());
    let expected: Vec<Leaf> = vec![
        text(vec![(2, one)], "NL-DOUANE"),
        text(vec![(3, one)], "broker"),
        number(vec![(7, one)], 3),
        (vec![(8, one)], 1, vec![6; 32]),
        (vec![d], 4, vec![]),
        number(vec![d, (1, one)], 1),
        text(vec![d, (17, 0)], "CSQU3054383"),
        text(vec![d, (17, 1)], ""),
        count(vec![d, (17, one)], 2),
        (items(0), 4, vec![]),
        number(item(0, 1), 300),
        text(item(0, 2), "090111"),
        (item(0, 6), 4, vec![]),
        (items(1), 4, vec![]),
        count(vec![d, (20, one)], 2),
    ];
    assert_eq!(leaves(&sample()), expected);
}

#[test]
fn paths_ascend_so_that_a_place_among_the_leaves_says_what_is_before_it() {
    let paths: Vec<_> = leaves(&sample()).into_iter().map(|(path, ..)| path).collect();
    let bytes = |path: &Vec<(u32, u32)>| -> Vec<u8> {
        path.iter().flat_map(|(a, b)| [a.to_be_bytes(), b.to_be_bytes()].concat()).collect()
    };
    assert!(paths.windows(2).all(|pair| bytes(&pair[0]) < bytes(&pair[1])), "{paths:?}");
}

#[test]
fn every_change_of_a_record_or_its_salt_gives_another_id() {
    let bytes = sample().encode_to_vec();
    let id = record_id(&bytes, &[7; 32]).expect("canonical");
    assert_eq!(record_id(&bytes, &[7; 32]), Ok(id));
    assert_ne!(record_id(&bytes, &[8; 32]), Ok(id));
    // Behind the salt, which is no leaf.
    for bit in 34 * 8..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_ne!(record_id(&flipped, &[7; 32]), Ok(id), "bit {bit}");
    }
    for length in 34..bytes.len() {
        assert_ne!(record_id(&bytes[..length], &[7; 32]), Ok(id), "{length} bytes");
    }
}

/// Records that say different things and would have the same leaves, if a leaf had less in it.
#[test]
fn what_is_empty_elsewhere_or_of_another_type_is_told_apart() {
    let with = |change: &dyn Fn(&mut v1::Declaration)| {
        let mut declaration = v1::Declaration::default();
        change(&mut declaration);
        let record =
            v1::Record { body: Some(Body::Declaration(declaration)), ..record("NL-DOUANE", 1) };
        record_id(&record.encode_to_vec(), &[7; 32]).expect("canonical")
    };
    let ids = [
        with(&|_| {}),
        with(&|d| d.mrn = "X".into()),
        with(&|d| d.ucr = "X".into()),
        with(&|d| d.container_ids = vec!["X".into()]),
        with(&|d| d.container_ids = vec!["X".into(), String::new()]),
        with(&|d| d.container_ids = vec![String::new(), "X".into()]),
        with(&|d| d.container_ids = vec![String::new()]),
        with(&|d| d.invoice_total = Some(v1::Money::default())),
        with(&|d| d.items = vec![v1::GoodsItem::default()]),
        with(&|d| d.items = vec![v1::GoodsItem::default(); 2]),
        with(&|d| d.previous_documents = vec![v1::DocumentReference::default()]),
        with(&|d| d.supporting_documents = vec![v1::DocumentReference::default()]),
        with(&|d| d.package_count = 1),
    ];
    let different: std::collections::BTreeSet<_> = ids.iter().collect();
    assert_eq!(different.len(), ids.len());
}

#[test]
fn a_record_has_no_more_leaves_than_it_may() {
    let of = |containers: usize| {
        let container_ids = vec![String::new(); containers];
        let declaration = v1::Declaration { container_ids, ..Default::default() };
        let body = Some(Body::Declaration(declaration));
        let record = v1::Record { body, ..record("NL-DOUANE", 1) };
        record_id(&record.encode_to_vec(), &[7; 32])
    };
    // Agency, submitter, role, certificate, the declaration, and the count of its containers.
    assert!(of(RECORD_LEAVES_MAX - 6).is_ok());
    assert_eq!(of(RECORD_LEAVES_MAX - 5), Err(FieldTreeError::TooManyLeaves));
}

#[test]
fn bytes_that_are_no_record_are_refused_and_never_panic() {
    for bytes in [
        &[0xff][..],
        &[0x0a],
        &[0x0a, 0x05, 1],
        &[0x12, 0xff, 0xff, 0xff, 0xff, 0x0f],
        &[0x10, 1],
        &[0x98, 0x06, 1],
        &[0x82, 0x01, 0x02, 0x0a, 0x05],
    ] {
        assert_eq!(record_id(bytes, &[7; 32]), Err(FieldTreeError::Encoding), "{bytes:?}");
    }
}
