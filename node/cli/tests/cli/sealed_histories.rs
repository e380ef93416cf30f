//! `audit sealed-history`, on the published proofs: no network, and no byte of a record.

use std::fs;

use serde_json::{Value, json};

use crate::desk::{Desk, vector};

const AUDIT: &str = "audit sealed-history --genesis genesis.json --subject";
const ABOUT: &str = "mrn:24NL00000000000001";

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().expect("text")).expect("hexadecimal")
}

fn valid(file: &Value, name: &str) -> Vec<u8> {
    let cases = file["valid"].as_array().expect("a list");
    bytes(&cases.iter().find(|case| case["name"] == name).expect(name)["bytes"])
}

/// A desk with the published proofs and receipts as files.
fn desk() -> Desk {
    let (desk, file) = (Desk::new(), vector("sealed_history_proof.json"));
    desk.write("genesis.json", vector("genesis.json")["json"].to_string());
    desk.write("whole", bytes(&file["proof"]));
    for (name, case) in [
        ("partial", "an agency left out, which is not covered then"),
        ("nothing", "nothing but the agreement"),
        ("nobody", "a subject that nobody has lodged"),
        ("later", "after two changes of the validators"),
    ] {
        desk.write(name, valid(&file, case));
    }
    let mut rest = &valid(&file, "all pages")[..];
    for page in 1.. {
        let Some((length, after)) = rest.split_first_chunk() else { break };
        let (bytes, after) = after.split_at(u32::from_be_bytes(*length) as usize);
        desk.write(format!("{page}.page"), bytes);
        rest = after;
    }
    fs::create_dir(desk.path("receipts")).expect("made");
    for (name, receipt) in [("a", "receipt"), ("b", "receipt_of_the_grant")] {
        desk.write(format!("receipts/{name}.receipt"), bytes(&file[receipt]));
    }
    let copied = bytes(&file["receipt_of_the_copied_key"]);
    desk.write("receipts/c.receipt", copied);
    let mut flipped = bytes(&file["proof"]);
    *flipped.last_mut().expect("bytes") ^= 1;
    desk.write("flipped", flipped);
    desk.write("chain", bytes(&vector("validator_chain.json")["chain"]));
    desk.write("brace", "{");
    desk.write_large("zeros");
    desk
}

#[test]
fn a_complete_proof_lists_every_agency_and_says_what_it_covers() {
    let desk = desk();
    let agreement = vector("sealed_history_proof.json")["agreement"].clone();
    let agreement = agreement.as_str().expect("text").to_owned();
    for pages in ["whole", "3.page 1.page 2.page"] {
        let command = format!("{AUDIT} {ABOUT} {pages} --agreement {agreement}");
        let said = desk.run(&command).exits(0).text();
        for line in [
            "epoch 1, BE-DOUANE: no slot about mrn:24NL00000000000001".to_owned(),
            "epoch 1, NL-DOUANE: slot 0 of transaction 0, whose receipt was not given".to_owned(),
            "epoch 2, DE-ZOLL: no slot about".to_owned(),
            format!(
                "verified: complete, as asserted by the lodging agencies, for agreement {agreement}, epoch 1, \
                 agencies BE-DOUANE, NL-DOUANE; epoch 2, agencies BE-DOUANE, DE-ZOLL, NL-DOUANE, at height 1"
            ),
            "does not cover other agreements, open records".to_owned(),
            "rests on 3 of 4 validators".to_owned(),
        ] {
            assert!(said.contains(&line), "{line}: {said}");
        }
    }
    let found = desk.json(&format!("{AUDIT} {ABOUT} whole --receipts receipts"), 0);
    let slots: Vec<_> = found["agencies"].as_array().expect("a list").iter().collect();
    let receipt = |place: usize| &slots[place]["slots"][0]["receipt"];
    assert_eq!(receipt(1)["record_id"], "01".repeat(32));
    assert_eq!((&receipt(1)["is_grant"], &receipt(4)["is_grant"]), (&json!(false), &json!(true)));
    assert_eq!((&receipt(2), &found["other_receipts"]), (&&Value::Null, &json!(1)));
    let nobody = desk.run(&format!("{AUDIT} mrn:24NL00000000000009 nobody")).exits(0).text();
    assert_eq!(nobody.matches("no slot about").count(), 5, "{nobody}");
    desk.json(&format!("{AUDIT} {ABOUT} later --validator-chain chain"), 0);
}

#[test]
fn what_is_not_covered_is_named_and_is_never_an_absence() {
    let desk = desk();
    let found = desk.json(&format!("{AUDIT} {ABOUT} partial"), 2);
    assert_eq!(
        (&found["verdict"], &found["code"]),
        (&json!("not_enough_evidence"), &json!("SEALED_HISTORY_PARTIAL"),)
    );
    assert_eq!(found["agencies"][3], json!({ "epoch": 2, "agency": "DE-ZOLL", "slots": null }));
    let said = desk.run(&format!("{AUDIT} {ABOUT} partial")).exits(2).text();
    for line in [
        "epoch 2, DE-ZOLL: NOT COVERED",
        "not covered: epoch 2, agency DE-ZOLL: no proof was given",
        "not enough evidence: SEALED_HISTORY_PARTIAL: partial: complete for these only",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    let nothing = desk.run(&format!("{AUDIT} {ABOUT} nothing")).exits(2).text();
    assert!(!nothing.contains("no slot"), "{nothing}");
    for (pages, says) in [
        ("1.page 3.page", "page 2 was not given"),
        ("1.page 2.page", "the last page was not given"),
        ("2.page 3.page", "page 1 was not given"),
    ] {
        let said = desk.run(&format!("{AUDIT} {ABOUT} {pages}")).exits(2).text();
        assert!(said.contains(says), "{says}: {said}");
    }
}

#[test]
fn a_proof_that_is_wrong_is_refused_with_its_code() {
    let desk = desk();
    let other = "ab".repeat(32);
    for (arguments, exit, code) in [
        (format!("{ABOUT} flipped"), 1, "HISTORY_ROOT"),
        ("mrn:24NL00000000000002 whole".to_owned(), 1, "SEALED_HISTORY_OTHER_SUBJECT"),
        (format!("{ABOUT} whole --agreement {other}"), 1, "SEALED_HISTORY_OTHER_AGREEMENT"),
        (format!("{ABOUT} 1.page whole 2.page"), 1, "SEALED_HISTORY_OTHER_PAGE"),
        (format!("{ABOUT} later"), 2, "VALIDATOR_STEP_MISSING"),
        (format!("{ABOUT} brace"), 1, "PROOF_JSON"),
        (format!("{ABOUT} zeros"), 1, "SEALED_HISTORY_TOO_LARGE"),
        (format!("{ABOUT} absent"), 2, ""),
        (format!("{ABOUT} whole --open whole"), 1, "HISTORY_PROOF_MALFORMED"),
        (format!("{ABOUT} whole --max-age 1"), 2, ""),
        ("container:CSQU3054384 whole".to_owned(), 64, ""),
        ("mrn:24nl-1 whole".to_owned(), 64, ""),
    ] {
        let found = desk.json(&format!("{AUDIT} {arguments}"), exit);
        let known = exit == 64 || found["code"].as_str().unwrap_or_default() == code;
        assert!(known, "{arguments}: {found}");
    }
}
