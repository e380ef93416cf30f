//! The JSON forms of proofs.

use customhouse_ledger::proofs::json::{JsonForm, to_json};
use customhouse_proto::v1;
use prost::Message as _;
use serde_json::{Value, json};

use super::{
    cases::{Cases, with_cases},
    proofs, receipts,
    sample::Sample,
    sealed_histories::SealedBlock,
};

pub(crate) fn forms(sample: &Sample) -> Value {
    let receipt = receipts::message(sample, 2, 1).encode_to_vec();
    let subject_key = sample.transactions[2].slots()[1].subject_keys[0];
    let history = proofs::about(sample, 1, &subject_key).encode_to_vec();
    let all = [
        form_cases::<v1::Receipt>("receipt_json", &receipt, "slot", "RECEIPT_PATH_MALFORMED"),
        form_cases::<v1::HistoryProof>(
            "history_proof_json",
            &history,
            "subject_key",
            "HISTORY_PATH_MALFORMED",
        ),
        form_cases::<v1::ConsistencyProof>(
            "consistency_proof_json",
            &proofs::of_heights(sample, 1, 2).encode_to_vec(),
            "from_header",
            "CONSISTENCY_PATH_MALFORMED",
        ),
        form_cases::<v1::SealedHistoryProof>(
            "sealed_history_proof_json",
            &SealedBlock::new(sample, 1).proof_of_first().encode_to_vec(),
            "members_root",
            "SEALED_HISTORY_PATH_MALFORMED",
        ),
        chain_cases(sample),
    ];
    with_cases(json!({}), all)
}

/// `field` is one of bytes; `path_code` that of a path that is not whole hashes.
fn form_cases<M: JsonForm>(
    structure: &'static str,
    binary: &[u8],
    field: &str,
    path_code: &str,
) -> Cases {
    let text = to_json::<M>(binary).expect("canonical");
    let json: Value = serde_json::from_str(&text).expect("JSON");
    let mut cases = Cases::new(structure);
    cases.valid("indented", text.clone());
    cases.valid("on one line", json.to_string());
    let mut refused = |code: &str, change: &str, make: &dyn Fn(&mut Value)| {
        let mut value = json.clone();
        make(&mut value);
        cases.refused(code, change, value.to_string());
    };
    refused("PROOF_JSON", "an unknown field", &|p| p["comment"] = "".into());
    refused("PROOF_JSON", "a field missing", &|p| {
        p.as_object_mut().expect("an object").remove(field);
    });
    let hex = |p: &Value| p[field].as_str().expect("text").to_owned();
    refused("PROOF_JSON", "half a byte", &|p| p[field] = hex(p)[1..].into());
    refused("PROOF_JSON", "upper-case hexadecimal", &|p| p[field] = hex(p).to_uppercase().into());
    refused("PROOF_JSON", "no hexadecimal", &|p| p[field] = format!("zz{}", &hex(p)[2..]).into());
    refused("PROOF_JSON", "a number for bytes", &|p| p[field] = 7.into());
    let path = match structure {
        "receipt_json" => "log_path",
        "sealed_history_proof_json" => "agreement_path",
        _ => "path",
    };
    refused(path_code, "a byte after a path", &|p| {
        p[path] = (p[path].as_str().expect("text").to_owned() + "00").into();
    });
    cases.refused("PROOF_JSON", "cut short", text.trim_end().trim_end_matches('}').to_owned());
    let twice = text.replacen('{', &format!("{{\"{field}\": \"\","), 1);
    cases.refused("PROOF_JSON", "a field twice", twice);
    cases
}

fn chain_cases(sample: &Sample) -> Cases {
    let text = to_json::<v1::ValidatorChain>(&sample.chain()).expect("canonical");
    let json: Value = serde_json::from_str(&text).expect("JSON");
    let mut cases = Cases::new("validator_chain_json");
    cases.valid("of two changes", text);
    cases.valid("of no change", json!({ "steps": [] }).to_string());
    let mut refused = |code: &str, change: &str, make: &dyn Fn(&mut Value)| {
        let mut value = json.clone();
        make(&mut value);
        cases.refused(code, change, value.to_string());
    };
    let validator = |p: &mut Value| p["steps"][0]["validators"][0].take();
    refused("PROOF_JSON", "no steps", &|p| *p = json!({}));
    refused("PROOF_JSON", "an unknown field of a step", &|p| p["steps"][0]["height"] = 2.into());
    refused("PROOF_JSON", "a validator as a list", &|p| {
        let validator = &mut p["steps"][0]["validators"][0];
        *validator = json!([validator["agency"], validator["public_key"]]);
    });
    refused("PROOF_JSON", "a validator that is null", &|p| drop(validator(p)));
    refused("PROOF_JSON", "a key of half a byte", &|p| {
        p["steps"][0]["validators"][0]["public_key"] = "0".into();
    });
    refused("STEP_MALFORMED", "a key of a byte", &|p| {
        p["steps"][0]["validators"][0]["public_key"] = "00".into();
    });
    refused("STEP_MALFORMED", "a step without validators", &|p| {
        p["steps"][0]["validators"] = json!([]);
    });
    cases
}
