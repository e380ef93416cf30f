//! Sequences of records, and what they come to.
//!
//! A record is a word. `D` is the declaration REF-1; `A` and `C` ask to amend and to cancel it, `P` says that
//! its goods are there, all by its MRN, M1. A number is a status of that function about REF-1, M1, version 1.
//! After it, `vN` names another version, `@X` another reference, `#X` another MRN; nothing after the sign names
//! none.

use customhouse_ledger::hash::Hash;
use customhouse_proto::v1::{self, declaration::Regime, record::Body, reference::Relation};

use super::*;

/// A record as its word says.
fn record(word: &str) -> v1::Record {
    let start = word.find(['v', '@', '#']).unwrap_or(word.len());
    let (what, names) = word.split_at(start);
    let named = |sign: char, otherwise: &str| {
        let Some((_, rest)) = names.split_once(sign) else { return otherwise.to_owned() };
        rest.split(['v', '@', '#']).next().unwrap_or_default().to_owned()
    };
    let declaration = |type_code: &str, function: &str, mrn: &str| {
        Body::Declaration(v1::Declaration {
            regime: Regime::Import as i32,
            type_code: type_code.to_owned(),
            function_code: function.to_owned(),
            reference: named('@', "REF-1"),
            mrn: named('#', mrn),
            ..v1::Declaration::default()
        })
    };
    let body = match what {
        "D" => declaration("IMA", "9", ""),
        "A" => declaration("COR", "13", "M1"),
        "C" => declaration("INV", "13", "M1"),
        "P" => declaration("GPR", "13", "M1"),
        "inspection" => Body::Inspection(v1::Inspection::default()),
        function => Body::DeclarationStatus(v1::DeclarationStatus {
            function_code: function.to_owned(),
            declaration_reference: named('@', "REF-1"),
            mrn: named('#', "M1"),
            version: named('v', "1"),
            ..v1::DeclarationStatus::default()
        }),
    };
    v1::Record { agency: "AA".to_owned(), body: Some(body), ..v1::Record::default() }
}

/// Ids count the records from 1.
fn id(number: usize) -> Hash {
    Hash([u8::try_from(number).expect("a short sequence"); 32])
}

fn records(words: &str) -> Vec<v1::Record> {
    words.split_whitespace().map(record).collect()
}

fn folded(records: &[v1::Record]) -> (Clearance, Vec<AnomalousRecord>) {
    fold((1..).zip(records).map(|(number, record)| Recorded { id: id(number), record }))
}

/// `STATE since N`, then `N ANOMALY` for each.
fn told(records: &[v1::Record]) -> (String, Vec<String>) {
    let (clearance, shown) = folded(records);
    let stands =
        clearance.stands.map(|(state, since)| format!("{} since {}", state.code(), since.0[0]));
    let shown = shown.iter().map(|it| format!("{} {}", it.record.0[0], it.anomaly.code()));
    (stands.unwrap_or_default(), shown.collect())
}

/// Each sequence, what it comes to, and what it shows.
#[track_caller]
fn assert_told(cases: &[(&str, &str, &[&str])]) {
    for (words, stands, shown) in cases {
        let (found, anomalies) = told(&records(words));
        assert_eq!(
            (&*found, &*anomalies),
            (*stands, &*shown.iter().map(ToString::to_string).collect::<Vec<_>>()),
            "{words}"
        );
    }
}

#[test]
fn a_declaration_goes_from_lodged_to_exited() {
    assert_told(&[
        ("", "", &[]),
        ("D", "LODGED since 1", &[]),
        ("D 02", "RECEIVED since 2", &[]),
        ("D 02 01", "ACCEPTED since 3", &[]),
        ("D 1", "ACCEPTED since 2", &[]),
        ("D 01 13", "TAX_ASSESSED since 3", &[]),
        ("D 01 13 13 09", "CLEARED since 5", &[]),
        ("D 01 13 08 13 09", "CLEARED since 6", &[]),
        ("D 02 01 07 09 16 16", "EXITED since 6", &[]),
        ("D 01 14 15 08", "RELEASED since 5", &[]),
        ("D 03", "REJECTED since 2", &[]),
        ("D 01 10", "INVALIDATED since 3", &[]),
    ]);
}

#[test]
fn tax_before_acceptance_is_noted_and_comes_to_the_same_as_after_it() {
    assert_told(&[
        ("D 13", "LODGED since 1", &[]),
        ("D 13 01", "TAX_ASSESSED since 3", &[]),
        ("D 13 01 13 09", "CLEARED since 5", &[]),
        ("D 13 02 02v 01v2 13v2 09v2", "CLEARED since 7", &[]),
    ]);
    assert_eq!(folded(&records("D 13")).0.taxed(), Some(id(2)));
}

#[test]
fn a_control_and_a_demand_for_documents_last_until_their_result() {
    assert_told(&[
        ("D 01 13 06", "DOCUMENTS_REQUIRED since 4", &[]),
        ("D 01 13 06 05 13", "UNDER_CONTROL since 5", &[]),
        ("D 01 05 06", "UNDER_CONTROL since 3", &[]),
        ("D 01 05 07", "ACCEPTED since 4", &[]),
        ("D 01 13 05 07", "TAX_ASSESSED since 5", &[]),
        ("D 01 06 08", "RELEASED since 4", &[]),
        ("D 01 05 08", "RELEASED since 4", &["4 RELEASED_UNDER_CONTROL"]),
        ("D 01 05 09", "CLEARED since 4", &["4 CLEARED_UNDER_CONTROL"]),
    ]);
}

#[test]
fn what_comes_too_early_is_shown_and_counts_where_the_goods_are_concerned() {
    assert_told(&[
        ("D 05", "UNDER_CONTROL since 2", &["2 CONTROL_BEFORE_ACCEPTANCE"]),
        ("D 05 07", "RECEIVED since 3", &["2 CONTROL_BEFORE_ACCEPTANCE"]),
        ("D 06 01 07", "ACCEPTED since 4", &["2 DOCUMENTS_BEFORE_ACCEPTANCE"]),
        ("D 07", "LODGED since 1", &["2 RESULT_BEFORE_ACCEPTANCE"]),
        ("D 08", "RELEASED since 2", &["2 RELEASED_BEFORE_ACCEPTANCE"]),
        ("D 09 01", "CLEARED since 2", &["2 CLEARED_BEFORE_ACCEPTANCE"]),
        ("D 01 16", "EXITED since 3", &["3 EXITED_BEFORE_RELEASE"]),
    ]);
}

#[test]
fn what_comes_after_release_does_not_take_the_release_back() {
    assert_told(&[
        ("D 01 08 05", "RELEASED since 3", &["4 CONTROL_AFTER_RELEASE"]),
        ("D 01 09 06", "CLEARED since 3", &["4 DOCUMENTS_AFTER_RELEASE"]),
        ("D 01 09 08", "CLEARED since 3", &["4 RELEASED_AFTER_CLEARANCE"]),
        ("D 01 09 16 09", "EXITED since 4", &["5 CLEARED_AFTER_EXIT"]),
        ("D 01 09 13 01 07", "CLEARED since 3", &[]),
        ("D 01 09 P", "CLEARED since 3", &["4 PRESENTATION_AFTER_RELEASE"]),
        ("D 01 09 10", "INVALIDATED since 4", &[]),
        ("D 01 09 16 10", "INVALIDATED since 5", &["5 INVALIDATED_AFTER_EXIT"]),
    ]);
}

#[test]
fn what_was_rejected_or_invalidated_stays_so_until_it_is_lodged_again() {
    assert_told(&[
        ("D 03 01 09", "REJECTED since 2", &["3 STATUS_AFTER_END", "4 STATUS_AFTER_END"]),
        ("D 01 10 13", "INVALIDATED since 3", &["4 STATUS_AFTER_END"]),
        ("D 03 A", "REJECTED since 2", &["3 REQUEST_AFTER_END"]),
        ("D 03 10", "REJECTED since 2", &["3 STATUS_AFTER_END"]),
        ("D 03 D", "LODGED since 3", &[]),
        ("D 03 D 01#M2 09#M2", "CLEARED since 5", &[]),
        ("D 01 D", "ACCEPTED since 2", &["3 REFERENCE_USED_AGAIN"]),
        ("D 01 10 D", "INVALIDATED since 3", &["4 REFERENCE_USED_AGAIN"]),
    ]);
}

#[test]
fn a_request_changes_nothing_until_customs_decides_and_its_rejection_undoes_nothing() {
    assert_told(&[
        ("D A", "LODGED since 1", &[]),
        ("D 01 A@AME 02@AME 11@AME 13v2 09v2", "CLEARED since 7", &[]),
        ("D 01 A 02 11 13v2 07v2 09v2", "CLEARED since 8", &[]),
        ("D 01 13 A@AME 03@AME 09", "CLEARED since 6", &[]),
        ("D 01 09 A@AME 03@AME", "CLEARED since 3", &[]),
        ("D 01 09 A 03", "CLEARED since 3", &[]),
        ("D 01 09 A 03 03", "CLEARED since 3", &["6 REJECTED_LATE"]),
        ("D 01 09 03", "CLEARED since 3", &["4 REJECTED_LATE"]),
        ("D 01 09 03@AME", "CLEARED since 3", &["4 REQUEST_MISSING"]),
        ("D 01 09 03#M2", "CLEARED since 3", &["4 OTHER_MRN"]),
        // A request that is on record early does not take the declaration's own rejection.
        ("D A 03", "REJECTED since 3", &[]),
        ("D 02 A@AME 03@AME", "RECEIVED since 2", &[]),
        ("D A@AME", "LODGED since 1", &["2 OTHER_REFERENCE"]),
        ("D 01 11", "ACCEPTED since 2", &["3 REQUEST_MISSING"]),
        ("D 01 C 11 10", "INVALIDATED since 5", &[]),
        ("D 01 09 16 C", "EXITED since 4", &["5 CANCELLATION_AFTER_EXIT"]),
        ("D 02 P 02v 01v2 09v2", "CLEARED since 6", &[]),
    ]);
}

#[test]
fn an_open_request_is_closed_by_the_answer_that_means_it() {
    let open = |words: &str| -> Vec<u8> {
        let (clearance, _) = folded(&records(words));
        clearance.open_requests().map(|id| id.0[0]).collect()
    };
    assert_eq!(open("D 01 A@X A@Y"), [3, 4]);
    assert_eq!(open("D 01 A@X A@Y 02@Y"), [3, 4]);
    assert_eq!(open("D 01 A@X A@Y 11@Y"), [3]);
    assert_eq!(open("D 01 A@X A@Y 03@X"), [4]);
    assert_eq!(open("D 01 A@X A@Y 11"), [4]);
    assert!(open("D 01 P").is_empty());
    let mut linked = records("D 01 A A 11");
    refer(&mut linked[4], Relation::RespondsTo, 4);
    let (clearance, shown) = folded(&linked);
    assert_eq!((clearance.open_requests().collect::<Vec<_>>(), shown), (vec![id(3)], vec![]));
}

#[test]
fn a_status_about_another_declaration_or_of_an_unknown_code_changes_nothing() {
    for word in ["09@REF-2#", "09@REF-2", "09#M2", "09v0", "09v3", "09vB", "09v2", "18", "4", ""] {
        let before = folded(&records("D 01 13"));
        let after = folded(&[records("D 01 13"), vec![record(word)]].concat());
        assert_eq!(after.0, before.0, "{word}");
        assert_eq!(after.1.len(), 1, "{word}");
    }
    assert_told(&[
        ("D 01 09@REF-2#", "ACCEPTED since 2", &["3 OTHER_REFERENCE"]),
        ("D 01 09@REF-2", "ACCEPTED since 2", &["3 OTHER_REFERENCE"]),
        ("D 01 A@REF-2#M2", "ACCEPTED since 2", &["3 OTHER_MRN"]),
        ("D 01 A@REF-2#", "ACCEPTED since 2", &["3 OTHER_REFERENCE"]),
        ("D 01 D@REF-2", "ACCEPTED since 2", &["3 OTHER_REFERENCE"]),
        ("D 01@#", "LODGED since 1", &["2 DECLARATION_UNNAMED"]),
        ("D 01@#M1", "LODGED since 1", &["2 DECLARATION_UNNAMED"]),
        ("D 02 01@#M1", "ACCEPTED since 3", &[]),
        ("D 01 18", "ACCEPTED since 2", &["3 CODE_UNKNOWN"]),
        ("D 01 inspection", "ACCEPTED since 2", &[]),
    ]);
}

#[test]
fn versions_go_up_one_by_one_as_customs_opens_them() {
    assert_told(&[
        ("D 02 01v2 07v2 09v2 16v2", "EXITED since 6", &[]),
        ("D 01 13v2 13v3 09v3", "CLEARED since 5", &[]),
        ("D 01 13v3", "ACCEPTED since 2", &["3 VERSION_UNKNOWN"]),
        ("D 01 09v2", "ACCEPTED since 2", &["3 VERSION_UNKNOWN"]),
        ("D 01 13v2 09", "TAX_ASSESSED since 3", &["4 VERSION_PASSED"]),
        ("D 01 08 13v2 09v2", "CLEARED since 5", &[]),
    ]);
    assert_eq!(folded(&records("D 01 13v2 09")).0.version(), Some(2));
}

#[test]
fn without_the_declaration_its_statuses_are_folded_and_its_absence_is_said_once() {
    let missing: &[&str] = &["1 DECLARATION_MISSING"];
    assert_told(&[
        ("01 13 09", "CLEARED since 3", missing),
        ("02v7 13v8", "RECEIVED since 1", missing),
        ("18 01", "ACCEPTED since 2", &["1 CODE_UNKNOWN", "2 DECLARATION_MISSING"]),
        ("09", "CLEARED since 1", &["1 DECLARATION_MISSING", "1 CLEARED_BEFORE_ACCEPTANCE"]),
        ("A@AME D", "LODGED since 1", missing),
        ("01 D 13", "TAX_ASSESSED since 3", missing),
        ("01 D@REF-2", "ACCEPTED since 1", &["1 DECLARATION_MISSING", "2 OTHER_REFERENCE"]),
        ("01@#", "", &["1 DECLARATION_UNNAMED"]),
    ]);
    let (clearance, _) = folded(&records("02v7 13v8 D"));
    assert_eq!((clearance.version(), clearance.declaration()), (Some(8), Some(id(3))));
}

fn refer(record: &mut v1::Record, relation: Relation, to: usize) {
    let record_id = id(to).0.to_vec();
    record.references.push(v1::Reference {
        relation: relation as i32,
        record_id,
        ground: 0,
        agency: String::new(),
    });
}

#[test]
fn a_reference_to_the_record_ties_what_no_name_ties_and_overrules_no_name() {
    let mut unnamed = records("D 01@#");
    refer(&mut unnamed[1], Relation::RespondsTo, 1);
    assert_eq!(told(&unnamed), ("ACCEPTED since 2".to_owned(), vec![]));
    let mut contradicted = records("D 01@REF-2");
    refer(&mut contradicted[1], Relation::RespondsTo, 1);
    assert_eq!(told(&contradicted).1, ["2 OTHER_REFERENCE"]);
    let mut request = records("D A@AME#");
    assert_eq!(told(&request).1, ["2 OTHER_REFERENCE"]);
    refer(&mut request[1], Relation::Amends, 1);
    assert_eq!(told(&request), ("LODGED since 1".to_owned(), vec![]));
}

#[test]
fn the_same_reference_at_another_agency_is_another_reference() {
    let mut elsewhere = records("D 01 09#");
    elsewhere[2].agency = "BB".to_owned();
    assert_eq!(told(&elsewhere).1, ["3 DECLARATION_UNNAMED"]);
    let mut by_mrn = records("D 01 09@ITS-OWN");
    by_mrn[2].agency = "BB".to_owned();
    let other = vec!["3 OTHER_AGENCY".to_owned()];
    assert_eq!(told(&by_mrn), ("ACCEPTED since 2".to_owned(), other));
}

/// Any agency may answer a declaration. What another says is its view, and never the declaration's status.
#[test]
fn another_agency_s_answer_is_shown_and_changes_nothing() {
    // `08 released`, lodged elsewhere for this declaration, by its record's id too.
    let mut released = records("D 01 08");
    released[2].agency = "BB".to_owned();
    refer(&mut released[2], Relation::RespondsTo, 1);
    let other = |number: usize| vec![format!("{number} OTHER_AGENCY")];
    assert_eq!(told(&released), ("ACCEPTED since 2".to_owned(), other(3)));
    for request in ["D 01 A", "D 01 C", "D 01 P"] {
        let mut requested = records(request);
        requested[2].agency = "BB".to_owned();
        assert_eq!(told(&requested), ("ACCEPTED since 2".to_owned(), other(3)), "{request}");
    }
    // Before the declaration is there, nobody can tell; then it is clear whose word counts.
    let mut before = records("08 D 01");
    before[0].agency = "BB".to_owned();
    assert_eq!(told(&before).0, "ACCEPTED since 3");
}

#[test]
fn a_further_declaration_is_known_by_how_it_refers_where_its_codes_say_nothing() {
    for (relation, is_open) in
        [(Relation::Amends, true), (Relation::Cancels, true), (Relation::Evidences, false)]
    {
        let mut sequence = records("D 01 D");
        refer(&mut sequence[2], relation, 1);
        let (clearance, shown) = folded(&sequence);
        assert_eq!((clearance.open_requests().count() == 1, shown), (is_open, vec![]));
    }
}
