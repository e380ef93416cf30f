use super::*;

fn sound() -> v1::AgreementTerms {
    v1::AgreementTerms {
        salt: vec![7; 32],
        purpose: "customs control".into(),
        legal_basis: "Regulation (EU) No 952/2013, article 47".into(),
        retention_months: 120,
        erase_days: 30,
        ..Default::default()
    }
}

fn parties(codes: &[&str]) -> Vec<AgencyCode> {
    codes.iter().map(|code| code.parse().expect("a code")).collect()
}

#[test]
fn each_rule_of_terms() {
    let route = |from: &str, to: &str| Route { from: from.into(), to: to.into() };
    type Fault<'a> = (&'a str, &'a dyn Fn(&mut v1::AgreementTerms));
    let faults: [Fault<'_>; 24] = [
        ("salt", &|t| t.salt.truncate(31)),
        ("kinds", &|t| t.kinds = 1),
        ("kinds", &|t| t.kinds = 1 << 40),
        ("kinds", &|t| t.kinds = RecordKind::bits(ALWAYS_OPEN)),
        ("chapters", &|t| t.chapters = vec![0]),
        ("chapters", &|t| t.chapters = vec![100]),
        ("chapters", &|t| t.chapters = vec![3, 3]),
        ("routes", &|t| t.routes = vec![route("NL", "NL")]),
        ("routes", &|t| t.routes = vec![route("nl", "BE")]),
        ("routes", &|t| t.routes = vec![route("NL", "BEL")]),
        ("routes", &|t| t.routes = vec![route("NL", "BE"), route("BE", "NL")]),
        ("offices", &|t| t.offices = vec![String::new()]),
        ("offices", &|t| t.offices = vec!["NL 1".into()]),
        ("offices", &|t| t.offices = vec!["B".into(), "A".into()]),
        ("field_set", &|t| t.field_set = "x".repeat(33)),
        ("purpose", &|t| t.purpose.clear()),
        ("purpose", &|t| t.purpose = "a\u{202e}b".into()),
        ("legal_basis", &|t| t.legal_basis = "x".repeat(513)),
        ("retention_months", &|t| t.retention_months = 0),
        ("holders", &|t| t.holders = 16),
        ("patience_ms", &|t| t.patience_ms = 1),
        ("patience_ms", &|t| t.holders = 1),
        ("erase_days", &|t| t.erase_days = 367),
        ("schemes", &|t| t.schemes = vec![Scheme::Mrn as i32, Scheme::Ucr as i32]),
    ];
    for (expected, change) in faults {
        let mut changed = sound();
        change(&mut changed);
        match AgreementTerms::from_proto(changed) {
            Err(TermsError::Field { field, .. }) => assert_eq!(field, expected),
            other => panic!("{expected}: {other:?}"),
        }
    }
    for schemes in [vec![0], vec![99]] {
        let refused = AgreementTerms::from_proto(v1::AgreementTerms { schemes, ..sound() });
        assert_eq!(refused.expect_err("refused").code(), "TERMS_FIELD");
    }
    let many = (0..257).map(|number| format!("NL{number:04}")).collect();
    let refused = AgreementTerms::from_proto(v1::AgreementTerms { offices: many, ..sound() });
    assert_eq!(refused.expect_err("refused").code(), "TERMS_FIELD");
}

#[test]
fn terms_have_one_encoding_and_a_hash_of_all_of_it() {
    let terms = AgreementTerms::from_proto(sound()).expect("sound");
    let bytes = terms.to_bytes();
    assert_eq!(AgreementTerms::from_bytes(&bytes), Ok(terms.clone()));
    assert_eq!(terms.hash(), Tag::AGREEMENT_TERMS.hash(&[&bytes]));
    let salted = AgreementTerms::from_proto(v1::AgreementTerms { salt: vec![8; 32], ..sound() });
    assert_ne!(salted.expect("sound").hash(), terms.hash());
    let unknown_field = [&bytes[..], &[0x78, 1]].concat();
    let long = vec![0; TERMS_BYTES_MAX + 1];
    for other in [&unknown_field[..], &bytes[..bytes.len() - 1], &long, b""] {
        assert!(AgreementTerms::from_bytes(other).is_err());
    }
    assert!(!format!("{terms:?}").contains("control"), "they are for the parties alone");
}

#[test]
fn what_they_cover_and_index() {
    let all = AgreementTerms::from_proto(sound()).expect("sound");
    let kinds = RecordKind::bits(&[RecordKind::Declaration]);
    let schemes = vec![Scheme::Mrn as i32];
    let some = v1::AgreementTerms { kinds, schemes, ..sound() };
    let some = AgreementTerms::from_proto(some).expect("sound");
    assert!(all.covers(RecordKind::Declaration) && all.covers(RecordKind::Inspection));
    assert!(some.covers(RecordKind::Declaration) && !some.covers(RecordKind::Inspection));
    assert!(ALWAYS_OPEN.iter().all(|kind| !all.covers(*kind)));
    assert!(all.indexes(Scheme::Container) && !all.indexes(Unspecified));
    assert!(some.indexes(Scheme::Mrn) && !some.indexes(Scheme::Container));
}

#[test]
fn no_more_holders_are_asked_for_than_there_are_other_parties() {
    let terms = v1::AgreementTerms { holders: 2, patience_ms: 1000, ..sound() };
    let terms = AgreementTerms::from_proto(terms).expect("sound");
    assert!(terms.check_parties(&parties(&["AA", "BB", "CC"])).is_ok());
    let refused = terms.check_parties(&parties(&["AA", "BB"])).expect_err("one other");
    assert_eq!(refused.to_string(), "terms.holders: at most 1: there are no more other parties");
}

#[test]
fn what_they_let_whom_read_is_said_in_plain_words() {
    let terms = v1::AgreementTerms {
        kinds: RecordKind::bits(&[RecordKind::Declaration, RecordKind::Inspection]),
        chapters: vec![1, 27],
        routes: vec![Route { from: "NL".into(), to: "BE".into() }],
        holders: 1,
        patience_ms: 5000,
        schemes: vec![Scheme::Mrn as i32, Scheme::Container as i32],
        ..sound()
    };
    let terms = AgreementTerms::from_proto(terms).expect("sound");
    let said = terms.sentences(&parties(&["BE-AADA", "NL-DOUANE"]), "1 May", "1 June");
    assert_eq!(
        said,
        [
            "BE-AADA will be able to read every declaration and inspection that NL-DOUANE lodges under it from 1 May \
             until 1 June, where it is of goods of the HS chapters 01 or 27, and of goods that go from NL to BE, \
             whole.",
            "NL-DOUANE will be able to read every declaration and inspection that BE-AADA lodges under it from 1 May \
             until 1 June, where it is of goods of the HS chapters 01 or 27, and of goods that go from NL to BE, \
             whole.",
            "Nobody may pass on to others what it is given.",
            "It is for: customs control. What allows it: Regulation (EU) No 952/2013, article 47.",
            "What is shared may be kept for 120 months, and is erased within 30 days where one is told to erase it.",
            "A record is told to the chain when 1 other agency has its bytes, or 5000 ms after it was lodged.",
            "A record is found by mrn and container alone.",
        ]
    );
    let all = v1::AgreementTerms { field_set: "asean-15".into(), onward_sharing: true, ..sound() };
    let all = AgreementTerms::from_proto(all).expect("sound");
    let said = all.sentences(&parties(&["AA", "BB", "CC"]), "x", "y");
    assert_eq!(
        said[1],
        "BB will be able to read every record, of whatever kind, that AA or CC lodges under it from x until y, no more \
         of it than the fields of the set `asean-15`."
    );
    assert_eq!(said[3], "Each may pass on to others what it is given.");
    let own = all.sentences(&parties(&["AA"]), "x", "y");
    assert_eq!(
        own[0],
        "Nobody but AA will be able to read what AA lodges under it from x until y."
    );
}
