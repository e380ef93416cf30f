//! Records of each kind, and records that break one rule.

use customhouse_ledger::{
    authority::{self, RecordKind},
    limits::RECORD_BYTES_MAX,
    record::{
        self, ValidRecord, dedupe_key,
        field_tree::{self, FieldTreeError},
        subject,
    },
};
use customhouse_proto::v1::{self, record::Body};
use prost::Message as _;
use serde_json::{Value, json};

use super::{
    cases::{Cases, Given, with_cases},
    hashes, hex_of, loads,
    sample::{self, CLIENT_KEY, SUBMITTER},
};

pub(crate) fn record() -> Value {
    let valid = sample::record(7);
    let subject = |subject: &v1::Subject| {
        json!({
            "scheme": subject.scheme,
            "id": subject.id,
            "key": subject::subject_key(subject),
        })
    };
    let subjects: Vec<_> = record::subjects(&valid.record).iter().map(subject).collect();
    let file = json!({
        "record": hex_of(&valid.bytes),
        "record_id": valid.id,
        "leaves": leaves(&valid),
        "subjects": subjects,
        "subject_keys": hashes(&valid.subject_keys),
        "agency": valid.agency,
        "agency_layout": hex_of(valid.agency.as_bytes()),
        "submitter": SUBMITTER,
        "client_key": CLIENT_KEY,
        "dedupe_key": dedupe_key(&valid.agency, SUBMITTER, CLIENT_KEY),
        "of_each_kind": of_each_kind(),
        "with_inner_messages": with_leaves(full()),
    });
    let mut cases = Cases::new("record");
    for (kind, body) in bodies() {
        cases.valid(kind, with_body(body).encode_to_vec());
    }
    cases.valid("a declaration with all that has a rule", full().encode_to_vec());
    for submitter in ["Köln & Söhne, Abt. 7", "관세청", "هيئة الجمارك", "सीमा शुल्क"]
    {
        let named = changed(|r| r.submitter = submitter.into());
        cases.valid("a submitter's name in letters of its language", named);
    }
    let stated =
        |scheme, id: &str| changed(|r| r.subjects = vec![v1::Subject { scheme, id: id.into() }]);
    for (scheme, id) in [
        (3, "NL-DOUANE/ГТД/12-Ä"),
        (4, "CN1234228/34"),
        (6, "粤字第123号"),
        (8, "urn:uuid:7C0D"),
        (9, "A–17"),
        (10, &*"0a".repeat(32)),
        (11, "NL-DOUANE"),
    ] {
        cases.valid("a subject in its normal form", stated(scheme, id));
    }
    cases.refused("RECORD_TOO_LARGE", "too many bytes", Given::Zeros(RECORD_BYTES_MAX + 1));
    for (code, change, bytes) in mutants() {
        cases.refused(code, change, bytes);
    }
    let about = |count: u32| {
        let subject = |n| v1::Subject { scheme: 9, id: format!("{n:03}") };
        changed(|r| r.subjects = (0..count).map(subject).collect())
    };
    // Two more follow from the declaration.
    // As many as may be would be large.
    cases.valid("about many subjects", about(510));
    let reference =
        v1::Reference { relation: 5, record_id: vec![1; 32], ground: 0, agency: String::new() };
    cases.refused(
        "RECORD_REFERENCE",
        "a reference too many",
        changed(|r| {
            r.references = vec![reference; 65];
        }),
    );
    loads::of_records(&mut cases);
    with_cases(file, [cases])
}

/// A record with its id and its leaves.
fn with_leaves(record: v1::Record) -> Value {
    let valid = ValidRecord::from_record(record).expect("valid");
    json!({ "record": hex_of(&valid.bytes), "record_id": valid.id, "leaves": leaves(&valid) })
}

/// The leaves under a record's id: path, type, value, salt and hash of each.
fn leaves(record: &ValidRecord) -> Value {
    let mut shown = Vec::new();
    let walked: Result<(), FieldTreeError> =
        field_tree::walk(&record.bytes, &mut |path, leaf_type, value| {
            let salt = field_tree::leaf_salt_of(&record.record.salt, path);
            shown.push(json!({
                "path": hex_of(path),
                "type": leaf_type as u8,
                "value": hex_of(value),
                "salt": hex_of(salt),
                "hash": field_tree::leaf_hash(&salt, path, leaf_type, value),
            }));
            Ok(())
        });
    walked.expect("canonical");
    shown.into()
}

/// The sample's record with another body, in a role that may state it.
pub(crate) fn with_body(body: Body) -> v1::Record {
    let kind = RecordKind::of(&body);
    let mut record = v1::Record { body: Some(body), ..sample::record(7).record };
    if let [only] = authority::roles(kind) {
        record.submitter_role = *only as i32;
    }
    if record.submitter_role() == v1::Role::Node {
        record.submitter_certificate.clear();
    }
    record
}

/// The sample's record with a change.
pub(crate) fn changed(change: impl FnOnce(&mut v1::Record)) -> Vec<u8> {
    let mut record = sample::record(7).record;
    change(&mut record);
    record.encode_to_vec()
}

pub(crate) fn subject_keys(record: &v1::Record) -> Vec<Vec<u8>> {
    record::subject_keys(record).iter().map(|key| key.0.to_vec()).collect()
}

/// The subject keys of a record of each kind, by which a reader shows that it derives them.
fn of_each_kind() -> Value {
    let of = |(kind, body): (&str, Body)| {
        let record = with_body(body);
        let keys = hashes(&record::subject_keys(&record));
        let valid = ValidRecord::from_record(record).expect("valid");
        let (bytes, id) = (hex_of(&valid.bytes), valid.id);
        json!({ "kind": kind, "record": bytes, "record_id": id, "subject_keys": keys })
    };
    bodies().into_iter().map(of).collect::<Vec<_>>().into()
}

/// One of each kind that trade is of, with every field that is a subject.
fn bodies() -> Vec<(&'static str, Body)> {
    let party = |id: &str| v1::Party { id: id.into(), ..Default::default() };
    let (mrn, ucr) = (|| "24NL7".to_owned(), || "NL7-U".to_owned());
    let container_ids = || vec!["CSQU3054383".to_owned(), "MSKU1234565".to_owned()];
    vec![
        (
            "declaration_status",
            Body::DeclarationStatus(v1::DeclarationStatus {
                declaration_reference: "LRN7".into(),
                mrn: mrn(),
                ..Default::default()
            }),
        ),
        (
            "transport_document",
            Body::TransportDocument(v1::TransportDocument {
                id: "MAEU7".into(),
                ucr: ucr(),
                container_ids: container_ids(),
                parties: vec![party("NL1"), party("")],
                ..Default::default()
            }),
        ),
        (
            "event",
            Body::Event(v1::Event {
                epcs: vec!["urn:epc:id:sscc:7".into(), "https://id.gs1.org/01/7/21/aB".into()],
                ..Default::default()
            }),
        ),
        (
            "certificate",
            Body::Certificate(v1::Certificate {
                id: "EUR1-7".into(),
                holder: Some(party("NL2")),
                ..Default::default()
            }),
        ),
        (
            "inspection",
            Body::Inspection(v1::Inspection {
                mrn: mrn(),
                container_ids: container_ids(),
                ..Default::default()
            }),
        ),
        (
            "enforcement_action",
            Body::EnforcementAction(v1::EnforcementAction {
                case_id: "C7".into(),
                mrn: mrn(),
                party: Some(party("NL3")),
                ..Default::default()
            }),
        ),
        (
            "risk_alert",
            Body::RiskAlert(v1::RiskAlert {
                alert_id: "R7".into(),
                about: vec![
                    v1::Subject { scheme: 2, id: mrn() },
                    v1::Subject { scheme: 7, id: "NL4".into() },
                ],
                ..Default::default()
            }),
        ),
        (
            "assistance_request",
            Body::AssistanceRequest(v1::AssistanceRequest {
                case_id: "A7".into(),
                ..Default::default()
            }),
        ),
        (
            "assistance_response",
            Body::AssistanceResponse(v1::AssistanceResponse {
                case_id: "A7".into(),
                ..Default::default()
            }),
        ),
        (
            "trader_status",
            Body::TraderStatus(v1::TraderStatus {
                trader: Some(party("NL5")),
                status: v1::trader_status::Status::Granted as i32,
                ..Default::default()
            }),
        ),
    ]
}

/// A declaration with each field that has a rule.
fn full() -> v1::Record {
    let money = || Some(v1::Money { amount: "-12.50".into(), currency: "EUR".into() });
    let item = v1::GoodsItem {
        ucr: "NL7-I".into(),
        value: money(),
        statistical_value: money(),
        net_mass_kg: "999999999999999999.999999".into(),
        gross_mass_kg: "0".into(),
        supplementary_quantity: "1.0".into(),
        container_ids: vec!["TCLU4265148".into()],
        taxes: vec![v1::Tax {
            rate: "6.5".into(),
            base: money(),
            amount: money(),
            ..Default::default()
        }],
        parties: vec![v1::Party { id: "NL7".into(), ..Default::default() }],
        ..Default::default()
    };
    let declaration = v1::Declaration {
        regime: v1::declaration::Regime::AsReferenced as i32,
        reference: "LRN7".into(),
        mrn: "24NL7".into(),
        ucr: "NL7-U".into(),
        invoice_total: money(),
        gross_mass_kg: "1".into(),
        container_ids: vec!["MSKU1234565".into()],
        parties: vec![v1::Party { id: "NL6".into(), ..Default::default() }],
        items: vec![item],
        ..Default::default()
    };
    v1::Record {
        references: vec![v1::Reference {
            relation: 1,
            record_id: vec![2; 32],
            ground: 0,
            agency: String::new(),
        }],
        ..with_body(Body::Declaration(declaration))
    }
}

/// Records that break one rule each. None is large.
pub(crate) fn mutants() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let declaration = |change: &dyn Fn(&mut v1::Declaration)| {
        changed(|r| {
            if let Some(Body::Declaration(declaration)) = &mut r.body {
                change(declaration);
            }
        })
    };
    let subject = |scheme, id: &str| v1::Subject { scheme, id: id.into() };
    let subjects = |list: Vec<v1::Subject>| changed(|r| r.subjects = list);
    let reference = |relation, length| {
        changed(|r| {
            r.references = vec![v1::Reference {
                relation,
                record_id: vec![1; length],
                ground: 0,
                agency: String::new(),
            }]
        })
    };
    let referring = |change: &dyn Fn(&mut v1::Reference)| {
        changed(|r| {
            let record_id = vec![1; 32];
            let mut reference = v1::Reference { relation: 1, record_id, ..Default::default() };
            change(&mut reference);
            r.references = vec![reference];
        })
    };
    let with = |body| with_body(body).encode_to_vec();
    let named = |name: &str| changed(|r| r.submitter = name.into());
    let epc = |id: &str| Body::Event(v1::Event { epcs: vec![id.into()], ..Default::default() });
    let genuine = sample::record(7).bytes;
    let money = |amount: &str| Some(v1::Money { amount: amount.into(), ..Default::default() });
    let tax = v1::Tax { rate: "6,5".into(), ..Default::default() };
    let status = v1::DeclarationStatus { taxes: vec![tax.clone()], ..Default::default() };
    let alert = v1::RiskAlert { about: vec![subject(0, "X")], ..Default::default() };
    let (first, second) = (vec![1; 185], vec![2; 185]);
    let unknown = || Some(v1::Source { mapping: 2, ..Default::default() });
    vec![
        ("RECORD_MALFORMED", "a record cut short", genuine[..genuine.len() - 1].to_vec()),
        ("RECORD_MALFORMED", "text that is no UTF-8", {
            let at = genuine.windows(3).position(|w| w == b"LRN").expect("its reference");
            let mut bytes = genuine.to_vec();
            bytes[at] = 0xff;
            bytes
        }),
        (
            "RECORD_NOT_CANONICAL",
            "a record with a field more",
            [&genuine[..], &[0x98, 0x06, 1]].concat(),
        ),
        ("RECORD_NOT_CANONICAL", "two bodies", {
            let event = with(Body::Event(v1::Event::default()));
            [&genuine[..], &event[event.len() - 3..]].concat()
        }),
        ("RECORD_SALT", "a salt of 31 bytes", changed(|r| r.salt.truncate(31))),
        ("RECORD_ROLE", "no role", changed(|r| r.submitter_role = 0)),
        ("RECORD_ROLE", "an unknown role", changed(|r| r.submitter_role = 7)),
        (
            "RECORD_CERTIFICATE",
            "a certificate's hash of 31 bytes",
            changed(|r| r.submitter_certificate.truncate(31)),
        ),
        (
            "RECORD_CERTIFICATE",
            "what a node states itself, with a certificate",
            changed(|r| r.submitter_role = v1::Role::Node as i32),
        ),
        ("RECORD_AUTHORITY", "a declaration of a node", {
            changed(|r| {
                r.submitter_role = v1::Role::Node as i32;
                r.submitter_certificate.clear();
            })
        }),
        ("RECORD_AGENCY", "an agency in lower case", changed(|r| r.agency = "nl-douane".into())),
        ("RECORD_AGENCY", "an agency of one letter", changed(|r| r.agency = "N".into())),
        ("RECORD_SUBMITTER", "no submitter", changed(|r| r.submitter.clear())),
        ("RECORD_SUBMITTER", "a submitter of 65 bytes", changed(|r| r.submitter = "x".repeat(65))),
        ("RECORD_SUBMITTER", "a submitter with a line end", named("bro\nker")),
        ("RECORD_SUBMITTER", "a submitter that turns what follows", named("bro\u{202e}ker")),
        ("RECORD_SUBMITTER", "a submitter with what is not seen", named("bro\u{200b}ker")),
        ("RECORD_SUBMITTER", "a submitter with a blank that is a letter", named("bro\u{3164}ker")),
        ("RECORD_SUBMITTER", "a submitter with another space", named("bro\u{a0}ker")),
        ("RECORD_SUBMITTER", "a submitter with a space at the end", named("broker ")),
        ("RECORD_SUBMITTER", "a submitter that is not in NFC", named("Ko\u{308}ln")),
        ("RECORD_SUBMITTER", "a submitter that begins with a mark", named("\u{308}x")),
        ("RECORD_SUBMITTER", "a submitter with an unassigned character", named("bro\u{378}ker")),
        ("RECORD_SUBMITTER", "a submitter with a private character", named("bro\u{e000}ker")),
        ("RECORD_REFERENCE", "a reference of no relation", reference(0, 32)),
        ("RECORD_REFERENCE", "a reference of an unknown relation", reference(6, 32)),
        ("RECORD_REFERENCE", "a reference to 31 bytes", reference(1, 31)),
        ("RECORD_REFERENCE", "a reference on an unknown ground", { referring(&|r| r.ground = 3) }),
        ("RECORD_REFERENCE", "a guessed reference in a record that names no importer", {
            changed(|r| {
                let reference = v1::Reference {
                    relation: 1,
                    record_id: vec![1; 32],
                    ground: v1::reference::Ground::ByFolder as i32,
                    agency: String::new(),
                };
                (r.references, r.source) = (vec![reference], None);
            })
        }),
        ("RECORD_REFERENCE", "a reference to its own agency, by name", {
            referring(&|r| r.agency = "NL-DOUANE".into())
        }),
        ("RECORD_REFERENCE", "a reference to no agency's", referring(&|r| r.agency = "x".into())),
        ("RECORD_SUBJECT", "a subject of no scheme", subjects(vec![subject(0, "X")])),
        ("RECORD_SUBJECT", "a subject of an unknown scheme", subjects(vec![subject(12, "X")])),
        ("RECORD_SUBJECT", "a subject of a negative scheme", subjects(vec![subject(-1, "X")])),
        ("RECORD_SUBJECT", "a subject without an id", subjects(vec![subject(4, "")])),
        (
            "RECORD_SUBJECT",
            "a subject's id of 257 bytes",
            subjects(vec![subject(4, &"x".repeat(257))]),
        ),
        ("RECORD_SUBJECT", "a subject twice", subjects(vec![subject(4, "X"), subject(4, "X")])),
        (
            "RECORD_SUBJECT",
            "subjects that are not sorted",
            subjects(vec![subject(4, "X"), subject(2, "X")]),
        ),
        ("RECORD_SUBJECT", "an MRN in lower case", subjects(vec![subject(2, "26nl1")])),
        ("RECORD_SUBJECT", "an MRN with a hyphen", subjects(vec![subject(2, "26NL-1")])),
        (
            "RECORD_SUBJECT",
            "an MRN with a no-break space",
            declaration(&|d| d.mrn = "26NL\u{a0}1".into()),
        ),
        ("RECORD_SUBJECT", "a UCR in lower case", declaration(&|d| d.ucr = "6nl1".into())),
        ("RECORD_SUBJECT", "a container with a hyphen", subjects(vec![subject(4, "CSQU305438-3")])),
        ("RECORD_SUBJECT", "a container with a letter of another script", {
            declaration(&|d| d.container_ids = vec!["\u{421}SQU3054383".into()])
        }),
        ("RECORD_SUBJECT", "an item's container with a space", {
            declaration(&|d| {
                let container_ids = vec!["CSQU 3054383".into()];
                d.items = vec![v1::GoodsItem { container_ids, ..Default::default() }];
            })
        }),
        (
            "RECORD_SUBJECT",
            "a reference with a space",
            declaration(&|d| d.reference = "L 1".into()),
        ),
        ("RECORD_SUBJECT", "a reference too long for its agency", {
            declaration(&|d| d.reference = "L".repeat(247))
        }),
        ("RECORD_SUBJECT", "a reference of no agency", subjects(vec![subject(3, "LRN1")])),
        ("RECORD_SUBJECT", "a trader in lower case", {
            declaration(&|d| d.parties = vec![v1::Party { id: "nl1".into(), ..Default::default() }])
        }),
        ("RECORD_SUBJECT", "a certificate in lower case", subjects(vec![subject(6, "é1")])),
        ("RECORD_SUBJECT", "a certificate that is not in NFKC", subjects(vec![subject(6, "①")])),
        ("RECORD_SUBJECT", "a case with what is not seen", subjects(vec![subject(9, "A\u{ad}1")])),
        (
            "RECORD_SUBJECT",
            "a case that begins with a mark",
            subjects(vec![subject(9, "\u{301}A")]),
        ),
        ("RECORD_SUBJECT", "an EPC that is no URI", with(epc("4012345"))),
        ("RECORD_SUBJECT", "an EPC with a scheme in capitals", with(epc("URN:epc:id:sscc:7"))),
        ("RECORD_SUBJECT", "an EPC with a host in capitals", with(epc("https://ID.gs1.org/01/7"))),
        ("RECORD_SUBJECT", "an EPC of 257 bytes", with(epc(&format!("urn:{}", "x".repeat(253))))),
        (
            "RECORD_SUBJECT",
            "a validator key in capitals",
            subjects(vec![subject(10, &"0A".repeat(32))]),
        ),
        ("RECORD_SUBJECT", "an agency in lower case", subjects(vec![subject(11, "nl-douane")])),
        (
            "RECORD_SUBJECT",
            "an alert about nothing that is a subject",
            with(Body::RiskAlert(alert)),
        ),
        ("RECORD_BODY", "no body", changed(|r| r.body = None)),
        ("RECORD_ABOUT_NOTHING", "an event that says what of nothing", {
            let event = Body::Event(v1::Event::default());
            v1::Record { subjects: Vec::new(), ..with_body(event) }.encode_to_vec()
        }),
        ("RECORD_ENUMERATION", "an unknown mapping", changed(|r| r.source = unknown())),
        ("RECORD_ROLE", "an unknown mapping, and no role, which is asked before", {
            changed(|r| (r.source, r.submitter_role) = (unknown(), 0))
        }),
        ("RECORD_ENUMERATION", "a declaration of no regime", declaration(&|d| d.regime = 0)),
        (
            "RECORD_ENUMERATION",
            "a declaration of an unknown regime",
            declaration(&|d| d.regime = 5),
        ),
        (
            "RECORD_ENUMERATION",
            "a trader of no status",
            with(Body::TraderStatus(Default::default())),
        ),
        ("RECORD_DECIMAL", "an exponent", declaration(&|d| d.gross_mass_kg = "1e3".into())),
        (
            "RECORD_DECIMAL",
            "digits of another script",
            declaration(&|d| d.gross_mass_kg = "١".into()),
        ),
        (
            "RECORD_DECIMAL",
            "a number and a line feed",
            declaration(&|d| d.gross_mass_kg = "1\n".into()),
        ),
        (
            "RECORD_DECIMAL",
            "nineteen digits",
            declaration(&|d| d.invoice_total = money(&"1".repeat(19))),
        ),
        (
            "RECORD_DECIMAL",
            "an amount without digits",
            declaration(&|d| d.invoice_total = money("")),
        ),
        (
            "RECORD_DECIMAL",
            "a comma in an item's tax",
            declaration(&|d| {
                d.items = vec![v1::GoodsItem { taxes: vec![tax.clone()], ..Default::default() }];
            }),
        ),
        (
            "RECORD_DECIMAL",
            "no digit after an item's point",
            declaration(&|d| {
                d.items = vec![v1::GoodsItem { net_mass_kg: "1.".into(), ..Default::default() }];
            }),
        ),
        ("RECORD_DECIMAL", "a comma in a status's tax", with(Body::DeclarationStatus(status))),
        ("RECORD_MISBEHAVIOUR", "misbehaviour that says nothing", {
            with(Body::Misbehaviour(v1::Misbehaviour { first, second }))
        }),
        ("RECORD_REGISTRY_CHANGE", "a change without a proposal", {
            with(Body::RegistryChange(Default::default()))
        }),
        ("RECORD_AGREEMENT_CHANGE", "a change of an agreement that says nothing", {
            with(Body::AgreementChange(Default::default()))
        }),
    ]
}
