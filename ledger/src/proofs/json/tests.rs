use customhouse_proto::v1;
use proptest::prelude::*;

use super::*;

/// A few of each, so that a field that is left out or taken for another shows.
fn receipt() -> v1::Receipt {
    v1::Receipt {
        agreements_root: vec![15; 32],
        outcome_path: vec![16; 32],
        outcomes_path: vec![17; 64],
        steps: Vec::new(),
        record: vec![],
        slot: vec![1, 0xab],
        slot_index: 2,
        slot_path: vec![3; 64],
        transaction_header: vec![5],
        transaction_signature: vec![6],
        log_index: u64::MAX,
        log_path: vec![],
        header: vec![8],
        certificate: vec![9],
        registry_entry: vec![10],
        registry_index: 11,
        registry_count: 12,
        registry_path: vec![13; 32],
    }
}

/// A receipt's values as a list, in the order of the fields.
fn values_of(receipt: &serde_json::Value) -> Vec<serde_json::Value> {
    let names = [
        "record",
        "slot",
        "slot_index",
        "slot_path",
        "transaction_header",
        "transaction_signature",
        "log_index",
        "log_path",
        "header",
        "certificate",
        "registry_entry",
        "registry_index",
        "registry_count",
        "registry_path",
    ];
    names.map(|name| receipt[name].clone()).to_vec()
}

fn round_trip<M: JsonForm>(message: &M) -> String {
    let binary = message.encode_to_vec();
    let text = to_json::<M>(&binary).expect("canonical");
    assert_eq!(from_json::<M>(text.as_bytes()).expect("its own JSON"), binary);
    assert_eq!(*binary_of::<M>(text.as_bytes()).expect("its own JSON"), binary);
    assert_eq!(*binary_of::<M>(&binary).expect("as it is"), binary);
    text
}

#[test]
fn every_form_round_trips_with_the_names_of_the_protobuf() {
    let text = round_trip(&receipt());
    let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(value["slot"], "01ab");
    assert_eq!(value["log_index"], u64::MAX);
    assert_eq!(value["record"], "", "an empty field is there too");
    assert_eq!(value["slot_path"], "03".repeat(64));
    round_trip(&v1::HistoryProof { subject_key: vec![1; 32], ..Default::default() });
    round_trip(&v1::ConsistencyProof { path: vec![1; 32], ..Default::default() });
    let history = v1::SealedHistory { epoch: 2, vrf_proof: vec![1; 80], ..Default::default() };
    let page = v1::SealedHistoryProof { page: 1, histories: vec![history], ..Default::default() };
    let value: serde_json::Value = serde_json::from_str(&round_trip(&page)).expect("JSON");
    assert_eq!(value["histories"][0]["vrf_proof"], "01".repeat(80));
    round_trip(&v1::ValidatorChain::default());
    let entry = v1::ValidatorEntry { agency: "NL-DOUANE".into(), public_key: vec![7; 32] };
    let step = v1::ValidatorStep { validators: vec![entry], header: vec![1], certificate: vec![2] };
    let text = round_trip(&v1::ValidatorChain { steps: vec![step] });
    let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(value["steps"][0]["validators"][0]["agency"], "NL-DOUANE");
}

/// Its first byte is a line feed and its second a brace: white space is not skipped.
#[test]
fn a_binary_is_not_taken_for_json() {
    let receipt = v1::Receipt { record: vec![b'"'; usize::from(b'{')], ..receipt() };
    let binary = receipt.encode_to_vec();
    assert_eq!(binary[..2], *b"\n{");
    assert_eq!(*binary_of::<v1::Receipt>(&binary).expect("as it is"), binary);
}

#[test]
fn whatever_is_not_exactly_the_form_is_refused_with_the_reason() {
    let text = to_json::<v1::Receipt>(&receipt().encode_to_vec()).expect("canonical");
    let refused = |text: &str| {
        let error = from_json::<v1::Receipt>(text.as_bytes()).expect_err(text);
        assert_eq!(error.code(), "PROOF_JSON");
        error.to_string()
    };
    let changed = |from: &str, to: &str| {
        assert_eq!(text.matches(from).count(), 1, "{from}");
        refused(&text.replace(from, to))
    };
    assert!(changed("\"01ab\"", "\"01AB\"").contains("lower-case"));
    assert!(changed("\"01ab\"", "\"01a\"").contains("hexadecimal"));
    assert!(changed("\"01ab\"", "\"01xy\"").contains("hexadecimal"));
    assert!(changed("\"slot_index\"", "\"slot_number\"").contains("unknown field `slot_number`"));
    assert!(changed("\"slot_index\": 2,", "").contains("missing field `slot_index`"));
    let twice = changed("\"slot_index\": 2,", "\"slot_index\": 2, \"slot_index\": 2,");
    assert!(twice.contains("duplicate field `slot_index`"), "{twice}");
    changed("\"slot_index\": 2", "\"slot_index\": \"2\"");
    changed("\"slot_index\": 2", "\"slot_index\": 4294967296");
    refused(&format!("{text} x"));
    refused("[]");
    // What a derived reader takes for a message too.
    let values: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let fields = serde_json::to_value(values_of(&values)).expect("JSON");
    assert!(refused(&fields.to_string()).contains("an object or text"));
}

#[test]
fn only_canonical_bytes_have_a_form_and_its_size_is_limited() {
    let code = |error: ProofJsonError| error.code();
    let trailing = [&receipt().encode_to_vec()[..], &[0xf8, 0x07, 1]].concat();
    assert_eq!(to_json::<v1::Receipt>(&trailing).map_err(code), Err("NOT_CANONICAL"));
    assert_eq!(to_json::<v1::Receipt>(&[0xff]).map_err(code), Err("MALFORMED"));
    let large = vec![b' '; v1::Receipt::JSON_BYTES_MAX + 1];
    assert_eq!(from_json::<v1::Receipt>(&large).map_err(code), Err("PROOF_JSON_TOO_LARGE"));
}

proptest! {
    #[test]
    fn any_history_proof_round_trips(
        subject_key in prop::collection::vec(any::<u8>(), 0..40),
        bucket_entries in prop::collection::vec(any::<u8>(), 0..100),
        path in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let (header, certificate) = (vec![], vec![]);
        round_trip(&v1::HistoryProof { subject_key, bucket_entries, path, header, certificate });
    }
}
