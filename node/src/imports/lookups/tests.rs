//! What is taken for the declaration that a message is about.

use customhouse_proto::v1::record::Body;

use super::*;

fn agency(code: &str) -> AgencyCode {
    code.parse().expect("a code")
}

fn asker(name: &str, is_office: bool) -> Asker {
    Asker { agency: agency("NL"), submitter: name.into(), is_office }
}

fn key(reference: &str, mrn: &str) -> DeclarationKey {
    DeclarationKey { reference: reference.into(), mrn: mrn.into() }
}

fn declared(number: u8, of: (&str, &str), reference: &str, mrn: &str) -> Declared {
    let candidate = Candidate {
        place: (u64::from(number), 0),
        id: Hash([number; 32]),
        agency: agency(of.0),
        submitter: of.1.into(),
        mrn: mrn.into(),
    };
    Declared { reference: reference.into(), candidate }
}

/// Look-ups of a key that were led to all of these, in their order.
fn lookups(asker: Asker, key: &DeclarationKey, found: &[Declared]) -> Lookups {
    let mut lookups = Lookups::new(asker);
    lookups.ask(key);
    let own = lookups.asker.agency;
    for look in &mut lookups.looks {
        found.iter().for_each(|found| look.consider(found, &own, false));
    }
    lookups
}

/// The number of the declaration that decides; 0 for none.
fn decided(
    asker: Asker,
    key: &DeclarationKey,
    whose: Whose,
    found: &[Declared],
) -> Result<u8, Warning> {
    let lookups = lookups(asker, key, found);
    let answer = lookups.answer(key, whose).transpose()?;
    Ok(answer.map_or(0, |candidate| candidate.id.0[0]))
}

#[test]
fn a_declaration_counts_by_what_it_says_and_a_reference_only_in_its_agency() {
    let officer = || asker("officer", true);
    let found = [
        declared(1, ("NL", "a"), "ANOTHER", "ANOTHER"),
        declared(2, ("BE", "b"), "R", ""),
        declared(3, ("NL", "c"), "R", "M2"),
        declared(4, ("NL", "d"), "R", ""),
        declared(5, ("BE", "e"), "", "M1"),
    ];
    let decided = |key: &DeclarationKey| decided(officer(), key, Whose::Anybody, &found);
    assert_eq!(decided(&key("R", "M1")), Ok(4), "it has no other MRN, and a reference goes first");
    assert_eq!(decided(&key("", "M1")), Ok(5), "an MRN is of any agency");
    assert_eq!(decided(&key("NONE", "M1")), Ok(5));
    assert_eq!(decided(&key("NONE", "NONE")), Ok(0));
}

#[test]
fn where_several_submitters_say_it_nothing_decides_and_all_are_named() {
    let found = [
        declared(1, ("BE", "broker"), "R", "M"),
        declared(2, ("NL", "broker"), "R", "M"),
        declared(3, ("NL", "broker"), "R", "M"),
        declared(4, ("NL", "other"), "R", ""),
    ];
    let by = |asked: DeclarationKey, count| {
        let refused = decided(asker("officer", true), &asked, Whose::Anybody, &found[..count]);
        refused.map_err(|warning| warning.to_string())
    };
    let id = |number: u8| hex::encode([number; 32]);
    // A reference that is contested leaves nothing to the MRN: whoever contests it may state that as well.
    let said = format!(
        "not linked: 2 submitters have declarations of reference \"R\": {}, {}",
        id(2),
        id(4)
    );
    assert_eq!(by(key("R", "M"), 4), Err(said));
    let said =
        format!("not linked: 2 submitters have declarations of MRN \"M\": {}, {}", id(1), id(2));
    assert_eq!(by(key("", "M"), 4), Err(said));
    assert_eq!(by(key("R", "M"), 3), Ok(2), "one submitter's are one: its first");
    let many: Vec<_> = ["a", "b", "c", "d", "e"].map(|of| declared(7, ("NL", of), "R", "")).into();
    let named = decided(asker("officer", true), &key("R", ""), Whose::Anybody, &many);
    let said = named.expect_err("five").to_string();
    assert!(
        said.starts_with("not linked: 5 submitters") && said.ends_with(" and others"),
        "{said}"
    );
}

#[test]
fn what_amends_is_about_a_declaration_that_the_sender_may_amend() {
    let found = [
        declared(1, ("BE", "broker"), "R", "M"),
        declared(2, ("NL", "other"), "R", "M"),
        declared(3, ("NL", "broker"), "R", "M"),
    ];
    let decided = |asker, reference, whose, count| {
        decided(asker, &key(reference, "M"), whose, &found[..count]).ok()
    };
    let broker = || asker("broker", false);
    let officer = || asker("officer", true);
    for reference in ["R", ""] {
        assert_eq!(decided(broker(), reference, Whose::Amendable, 3), Some(3));
        assert_eq!(decided(broker(), reference, Whose::Amendable, 2), None, "others' only");
        assert_eq!(decided(officer(), reference, Whose::Amendable, 3), None, "two of its agency");
        assert_eq!(decided(officer(), reference, Whose::Amendable, 2), Some(2));
        assert_eq!(decided(broker(), reference, Whose::OwnFirst, 3), Some(3));
    }
    assert_eq!(decided(broker(), "R", Whose::OwnFirst, 2), Some(2), "evidence is for anybody's");
    assert_eq!(Whose::of(MessageRole::Additional(Relation::Cancels)), Whose::Amendable);
    assert_eq!(Whose::of(MessageRole::Additional(Relation::Evidences)), Whose::OwnFirst);
    assert_eq!(Whose::of(MessageRole::Status), Whose::Anybody);
}

#[test]
fn what_was_not_looked_at_decides_nothing_but_one_s_own() {
    let found = [declared(1, ("NL", "broker"), "R", "")];
    let asked = key("R", "");
    let answer = |asker, whose, found: &[Declared]| {
        let mut lookups = lookups(asker, &asked, found);
        lookups.give_up();
        let answer = lookups.answer(&asked, whose);
        answer.transpose().map(|found| found.map(|found| found.id.0[0]))
    };
    let not_looked_at = Err(Warning::NotLookedAt(SoughtBy::Reference("R".into())));
    assert_eq!(answer(asker("officer", true), Whose::Anybody, &found), not_looked_at);
    assert_eq!(answer(asker("officer", true), Whose::Anybody, &[]), not_looked_at);
    assert_eq!(answer(asker("broker", false), Whose::Amendable, &[]), not_looked_at);
    assert_eq!(answer(asker("broker", false), Whose::Amendable, &found), Ok(Some(1)));
}

#[test]
fn of_a_record_only_what_is_asked_for_is_read() {
    let item =
        v1::GoodsItem { additional_procedures: vec!["1".into(); 8192], ..Default::default() };
    let declaration = v1::Declaration {
        regime: 1,
        reference: "R".into(),
        mrn: "M".into(),
        items: vec![item; 8],
        ..Default::default()
    };
    let body = Some(Body::Declaration(declaration));
    let record = v1::Record { submitter: "broker".into(), body, ..Default::default() };
    let read = OfRecord::decode(&*record.encode_to_vec()).expect("a record");
    let declaration = Some(OfDeclaration { regime: 1, reference: "R".into(), mrn: "M".into() });
    assert_eq!(read, OfRecord { submitter: "broker".into(), declaration, ..Default::default() });
    let status = v1::DeclarationStatus { mrn: "M".into(), ..Default::default() };
    let references = vec![v1::Reference { record_id: vec![7; 32], ..Default::default() }];
    let status = v1::Record {
        submitter_role: v1::Role::Office as i32,
        references: references.clone(),
        body: Some(Body::DeclarationStatus(status)),
        ..record
    };
    let read = OfRecord::decode(&*status.encode_to_vec()).expect("a record");
    let (submitter, submitter_role) = ("broker".into(), v1::Role::Office as i32);
    let status = Some(OfStatus { mrn: "M".into() });
    assert_eq!(read, OfRecord { submitter, submitter_role, references, declaration: None, status });
}

#[test]
fn that_others_alone_may_amend_what_is_there_is_said_unless_something_of_one_s_own_is() {
    let others = declared(2, ("NL", "other"), "R", "");
    let refused = decided(asker("broker", false), &key("R", "M"), Whose::Amendable, &[others]);
    let Err(warning @ Warning::NotOwn { .. }) = refused else { panic!("{refused:?}") };
    assert!(warning.is_about_a_link());
    let said = warning.to_string();
    let id = Hash([2; 32]);
    assert!(said.starts_with(&format!("not linked: the declaration of reference \"R\", {id}, is")));
    // The reference is another's, and the MRN its own.
    let both = [declared(2, ("NL", "other"), "R", ""), declared(3, ("NL", "broker"), "", "M")];
    let decided = decided(asker("broker", false), &key("R", "M"), Whose::Amendable, &both);
    assert_eq!(decided, Ok(3));
}
