//! Which message is about which, in small batches.

use super::*;
use crate::{imported::Outcome, wco::wco_message};

fn declaration(label: &str, reference: &str) -> Imported {
    additional(label, reference, "", "9", "IMA")
}

fn additional(label: &str, reference: &str, mrn: &str, function: &str, kind: &str) -> Imported {
    import(
        label,
        &format!(
            "<Declaration><FunctionCode>{function}</FunctionCode>\
             <FunctionalReferenceID>{reference}</FunctionalReferenceID><ID>{mrn}</ID>\
             <TypeCode>{kind}</TypeCode></Declaration>"
        ),
    )
}

fn status(label: &str, function: &str, reference: &str, mrn: &str, version: u32) -> Imported {
    import(
        label,
        &format!(
            "<Response><FunctionCode>{function}</FunctionCode><FunctionalReferenceID>{label}\
             </FunctionalReferenceID><Declaration><FunctionalReferenceID>{reference}\
             </FunctionalReferenceID><ID>{mrn}</ID><VersionID>{version}</VersionID></Declaration>\
             </Response>"
        ),
    )
}

fn import(label: &str, text: &str) -> Imported {
    match wco_message(text.as_bytes(), label) {
        Ok(Outcome::Imported(imported)) => *imported,
        other => panic!("{text} gave {other:?}"),
    }
}

/// Index and rule of each message's target, `None` where it has none in the batch.
fn targets(batch: &[Imported]) -> Vec<Option<(usize, Rule)>> {
    let links = link_batch(batch, |_| None);
    (0..batch.len())
        .map(|index| match links.of(index) {
            Some(Link { to: LinkTarget::Batch(to), rule, .. }) => Some((*to, *rule)),
            _ => None,
        })
        .collect()
}

#[test]
fn a_status_answers_the_declaration_with_its_reference_wherever_the_file_is() {
    let batch = [
        status("z/1.xml", "01", "R2", "M2", 1),
        declaration("a/1.xml", "R1"),
        declaration("b/2.xml", "R2"),
    ];
    assert_eq!(targets(&batch), [Some((2, Rule::Reference)), None, None]);
}

#[test]
fn a_status_without_a_reference_is_linked_by_the_mrn_that_others_show() {
    let batch = [
        declaration("a/1.xml", "R1"),
        status("in/1.xml", "01", "R1", "M1", 1),
        status("in/2.xml", "09", "", "M1", 1),
        status("in/3.xml", "09", "", "M9", 1),
    ];
    let expected = [None, Some((0, Rule::Reference)), Some((0, Rule::Mrn)), None];
    assert_eq!(targets(&batch), expected);
}

#[test]
fn an_mrn_that_would_name_two_declarations_names_none() {
    let batch = [
        declaration("a/1.xml", "R1"),
        declaration("a/2.xml", "R2"),
        status("in/1.xml", "01", "R1", "M1", 1),
        status("in/2.xml", "01", "R2", "M1", 1),
        status("in/3.xml", "09", "", "M1", 1),
    ];
    assert_eq!(targets(&batch)[4], None);
}

#[test]
fn a_reference_used_twice_is_decided_by_folder_or_not_at_all() {
    let batch = [
        declaration("a/1.xml", "R1"),
        additional("b/1.xml", "R1", "", "9", "EXA"),
        status("a/in/1.xml", "01", "R1", "M1", 1),
        status("c/in/2.xml", "01", "R1", "M2", 1),
    ];
    assert_eq!(targets(&batch)[2..], [Some((0, Rule::Reference)), None]);
}

#[test]
fn an_amendment_and_a_cancellation_are_about_the_declaration_and_say_how() {
    let batch = [
        declaration("a/1.xml", "R1"),
        additional("a/2.xml", "R1", "M1", "13", "COR"),
        additional("a/3.xml", "R1", "M1", "13", "INV"),
        additional("a/in/4.xml", "R1", "M1", "13", "GPR"),
        additional("elsewhere/5.xml", "OTHER", "M1", "4", "IMA"),
    ];
    let links = link_batch(&batch, |_| None);
    let relations: Vec<_> =
        links.links.iter().map(|link| (link.from, link.relation, link.to, link.rule)).collect();
    let to = LinkTarget::Batch(0);
    assert_eq!(
        relations,
        [
            (1, Relation::Amends, to, Rule::Reference),
            (2, Relation::Cancels, to, Rule::Reference),
            (3, Relation::Evidences, to, Rule::Reference),
            (4, Relation::Amends, to, Rule::Mrn),
        ]
    );
}

#[test]
fn an_answer_to_a_request_is_about_the_request_of_its_version() {
    let batch = [
        declaration("a/1.xml", "R1"),
        additional("a/2.xml", "R1", "M1", "13", "COR"),
        additional("a/3.xml", "OWN", "M1", "13", "COR"),
        status("a/in/1.xml", "11", "R1", "M1", 1),
        status("a/in/2.xml", "11", "R1", "M1", 2),
        status("a/in/3.xml", "11", "R1", "M1", 9),
        status("a/in/4.xml", "09", "R1", "M1", 3),
        status("a/in/5.xml", "02", "OWN", "M1", 1),
    ];
    let found: Vec<_> =
        targets(&batch)[3..].iter().map(|target| target.map(|(to, _)| to)).collect();
    assert_eq!(found, [Some(1), Some(2), Some(2), Some(0), Some(2)]);
}

#[test]
fn the_folder_decides_last_and_only_where_it_is_about_one_declaration() {
    let one = [
        declaration("a/1.xml", "R1"),
        status("a/in/1.xml", "01", "X", "M1", 1),
        status("a/in/2.xml", "09", "X", "M1", 1),
        status("a/in/3.xml", "03", "Y", "M0", 1),
    ];
    let folder = Some((0, Rule::Folder));
    assert_eq!(targets(&one), [None, folder, folder, folder]);
    let of_m1 = |found| {
        let one = &one;
        link_batch(one, move |index| (one[index].key.mrn == "M1").then_some(found))
    };
    let rules = |links: Links| links.links.iter().map(|link| link.rule).collect::<Vec<_>>();
    let found = rules(of_m1(OnLedger::One([7; 32])));
    assert_eq!(found, [Rule::Ledger, Rule::Ledger, Rule::Folder]);
    // What the ledger leaves open is not guessed.
    assert_eq!(rules(of_m1(OnLedger::Unclear)), [Rule::Folder]);

    let two_mrns = [
        declaration("a/1.xml", "R1"),
        status("a/in/1.xml", "01", "X", "M1", 1),
        status("a/in/2.xml", "01", "Y", "M2", 1),
    ];
    assert_eq!(targets(&two_mrns), [None, None, None]);
    let two_declarations = [
        declaration("a/1.xml", "R1"),
        declaration("a/2.xml", "R2"),
        status("a/in/1.xml", "01", "X", "M1", 1),
    ];
    assert_eq!(targets(&two_declarations), [None, None, None]);
}

#[test]
fn another_mrn_contradicts_the_same_reference() {
    let batch = [
        additional("a/1.xml", "R1", "M1", "13", "COR"),
        status("b/in/1.xml", "11", "R1", "M2", 1),
        status("b/in/2.xml", "11", "R1", "M1", 1),
    ];
    assert_eq!(targets(&batch), [None, None, Some((0, Rule::Reference))]);
    let links = link_batch(&batch, |_| None);
    let unlinked: Vec<_> = links.unlinked.iter().map(|unlinked| unlinked.from).collect();
    assert_eq!(unlinked, [0, 1]);
}

#[test]
fn the_same_bytes_at_two_paths_are_one_submission() {
    let batch = [
        declaration("a/1.xml", "R1"),
        declaration("b/1.xml", "R1"),
        additional("b/2.xml", "OWN", "M9", "13", "COR"),
    ];
    let links = link_batch(&batch, |_| None);
    assert_eq!(links.duplicates, [Duplicate { index: 1, first: 0 }]);
    assert_eq!(batch[0].idempotency_key, batch[1].idempotency_key);
    assert_eq!(links.of(2).map(|link| link.to), Some(LinkTarget::Batch(0)), "by folder b");
    assert_eq!(waves(&batch), [vec![0, 1], vec![2], vec![]]);
}
