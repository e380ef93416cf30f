//! Changes of agreements: by themselves, what becomes of the agreements, and what is in force when.

use customhouse_ledger::{
    agency::AgencyCode,
    agreement::{
        AgreementApproval, AgreementChange, Agreements, EpochProposal, KnownMembers, LodgedAt,
        NOTICE_MS, own_id, terms::AgreementTerms,
    },
    authority::{RecordKind, Role},
    hash::{Hash, Tag},
    keys::{PublicKey, SigningKey},
    limits::{AGREEMENT_KEPT_MS, EPOCH_MS_MAX, EPOCHS_MAX},
    registry::Registry,
};
use customhouse_proto::v1::{
    self, agreement_change::Change, agreement_terms::Route, subject::Scheme,
};
use prost::Message as _;
use serde_json::{Value, json};

use super::{
    cases::{Cases, with_cases},
    hex_of,
    sample::{Sample, key},
};

const DAY_MS: u64 = 24 * 60 * 60 * 1000;
/// The members, with the seeds of their nodes' signing keys.
const NODES: [(&str, u8); 4] =
    [("BE-DOUANE", 129), ("DE-ZOLL", 130), ("NL-DOUANE", 131), ("XI-HMRC", 132)];

/// The genesis's members, at height 1.
struct Registered<'a>(&'a Registry);

impl KnownMembers for Registered<'_> {
    fn is_member(&self, agency: &AgencyCode) -> bool {
        self.0.is_open_agency(agency, 1)
    }

    fn is_node_of(&self, key: &PublicKey, agency: &AgencyCode) -> bool {
        let signer = self.0.signer_at(key, 1);
        signer.is_some_and(|signer| signer.agency == *agency && signer.role == Role::Node)
    }
}

pub(crate) fn node(agency: &str) -> SigningKey {
    key(NODES.iter().find(|(code, _)| *code == agency).expect("a member").1)
}

pub(crate) fn code(agency: &str) -> AgencyCode {
    agency.parse().expect("a code")
}

/// An epoch of thirty days from the genesis's time on, with a key of its own.
fn epoch(
    sample: &Sample,
    agreement: Option<Hash>,
    number: u32,
    parties: &[&str],
) -> v1::AgreementEpoch {
    let from_ms = sample.genesis.time_ms;
    v1::AgreementEpoch {
        agreement: agreement.map(|id| id.0.to_vec()).unwrap_or_default(),
        number,
        parties: parties.iter().map(|code| (*code).to_owned()).collect(),
        public_key: key(200 + number as u8).public().as_bytes().to_vec(),
        from_ms,
        until_ms: from_ms + 30 * DAY_MS,
        terms_hash: vec![0x7e; 32],
        not_after_ms: from_ms + DAY_MS,
        changes: number - 1,
    }
}

/// Approved by a node of each party.
fn approved(sample: &Sample, proto: v1::AgreementEpoch) -> AgreementChange {
    let proposal = EpochProposal::from_proto(proto.clone()).expect("well-formed");
    let approve = |party: &String| proposal.approve(&sample.genesis.chain_id(), &node(party));
    let approvals = proto.parties.iter().map(approve).collect();
    AgreementChange::epoch(proposal, approvals).expect("one of each")
}

/// The first epoch of BE-DOUANE's and NL-DOUANE's agreement.
pub(crate) fn first(sample: &Sample) -> AgreementChange {
    approved(sample, epoch(sample, None, 1, &["BE-DOUANE", "NL-DOUANE"]))
}

pub(crate) fn agreement(sample: &Sample) -> Value {
    let chain_id = sample.genesis.chain_id();
    let change = first(sample);
    let AgreementChange::Epoch(proposal, approvals) = &change else { panic!("an epoch") };
    let described = |(party, approval): (&AgencyCode, &AgreementApproval)| {
        let parts = [chain_id.0, *approval.signer.as_bytes(), proposal.hash().0];
        json!({
            "agency": party,
            "public_key": approval.signer,
            "signed_message": hex_of(Tag::AGREEMENT_APPROVAL.message(&parts.each_ref().map(|part| &part[..]))),
            "signature": hex_of(approval.signature.0),
        })
    };
    let own_ids =
        NODES.map(|(agency, _)| json!({ "agency": agency, "agreement": own_id(&code(agency)) }));
    let file = json!({
        "chain_id": chain_id,
        "epoch": hex_of(proposal.to_proto().encode_to_vec()),
        "epoch_hash": proposal.hash(),
        "agreement": proposal.agreement(),
        "approvals": proposal.parties().iter().zip(approvals).map(described).collect::<Vec<_>>(),
        "own": own_ids,
        "terms": terms(),
        "none": Agreements::default().root(),
        "notice_ms": NOTICE_MS,
        "kept_ms": AGREEMENT_KEPT_MS,
        "changes": changes(sample),
    });
    with_cases(file, [cases(sample)])
}

/// Terms with nothing but what they must have, and with all that they may have.
fn terms() -> Value {
    let least = v1::AgreementTerms {
        salt: vec![0x5a; 32],
        purpose: "control of transit".into(),
        legal_basis: "a treaty".into(),
        retention_months: 36,
        erase_days: 30,
        ..Default::default()
    };
    let route = |from: &str, to: &str| Route { from: from.into(), to: to.into() };
    let all = v1::AgreementTerms {
        kinds: RecordKind::bits(&[RecordKind::Declaration, RecordKind::Inspection]),
        chapters: vec![1, 27, 99],
        routes: vec![route("BE", "NL"), route("NL", "BE")],
        offices: vec!["BE101000".into(), "NL000396".into()],
        field_set: "asean-15".into(),
        onward_sharing: true,
        holders: 1,
        patience_ms: 10_000,
        schemes: vec![Scheme::Mrn as i32, Scheme::Container as i32],
        ..least.clone()
    };
    let described = |terms: v1::AgreementTerms| {
        let terms = AgreementTerms::from_proto(terms).expect("valid");
        json!({ "bytes": hex_of(terms.to_bytes()), "terms_hash": terms.hash() })
    };
    [least, all].map(described).to_vec().into()
}

/// Who lodges what and how long after the genesis's time, milliseconds.
fn lodged(sample: &Sample) -> Vec<(&'static str, u64, AgreementChange)> {
    let id = first(sample).agreement();
    let own = own_id(&code("NL-DOUANE"));
    let leave = |epoch| AgreementChange::Leave { agreement: id, epoch };
    let second = v1::AgreementEpoch {
        from_ms: sample.genesis.time_ms + DAY_MS,
        ..epoch(sample, Some(id), 2, &["BE-DOUANE", "DE-ZOLL", "NL-DOUANE"])
    };
    let late = v1::AgreementEpoch {
        until_ms: sample.genesis.time_ms + 100 * DAY_MS,
        not_after_ms: sample.genesis.time_ms + 62 * DAY_MS,
        ..epoch(sample, Some(own), 2, &["NL-DOUANE"])
    };
    let third = epoch(sample, Some(id), 3, &["DE-ZOLL", "NL-DOUANE"]);
    let third = v1::AgreementEpoch { changes: 3, ..third };
    vec![
        ("NL-DOUANE", 1000, first(sample)),
        ("NL-DOUANE", 2000, approved(sample, epoch(sample, Some(own), 1, &["NL-DOUANE"]))),
        ("BE-DOUANE", 3000, approved(sample, second)),
        ("BE-DOUANE", 4000, leave(2)),
        ("DE-ZOLL", 5000, approved(sample, third)),
        // What is 31 days over leaves the tree with this one.
        ("NL-DOUANE", 61 * DAY_MS, approved(sample, late)),
    ]
}

/// The agreements after the first so many changes of the vectors, one a block. After two there are an agreement of one
/// epoch and an agency's own; with the third that one has two.
pub(crate) fn after(sample: &Sample, count: usize) -> Agreements {
    let (genesis, members) = (&sample.genesis, Registered(&sample.genesis.registry));
    let mut agreements = Agreements::default();
    for (height, (agency, after_ms, change)) in (1..).zip(lodged(sample)).take(count) {
        let at = LodgedAt { agency: code(agency), height, time_ms: genesis.time_ms + after_ms };
        agreements.apply(&change, &at, &members).expect("valid");
    }
    agreements
}

/// The agreements after each of the changes, one a block.
fn changes(sample: &Sample) -> Value {
    let (genesis, members) = (&sample.genesis, Registered(&sample.genesis.registry));
    let (mut agreements, mut described) = (Agreements::default(), Vec::new());
    for (height, (agency, after_ms, change)) in (1..).zip(lodged(sample)) {
        let at = LodgedAt { agency: code(agency), height, time_ms: genesis.time_ms + after_ms };
        change.verify(&genesis.chain_id()).expect("signed");
        agreements.apply(&change, &at, &members).expect("valid");
        let kept = |agreement: &customhouse_ledger::agreement::Agreement| {
            agreements.prove(&agreement.id).map(|proof| hex_of(proof.entry))
        };
        described.push(json!({
            "agency": agency,
            "height": height,
            "time_ms": at.time_ms,
            "change": hex_of(change.to_proto().encode_to_vec()),
            "agreement": change.agreement(),
            "dedupe_key": change.dedupe_key(&at.agency),
            "entries": agreements.all().filter_map(kept).collect::<Vec<_>>(),
            "agreements_root": agreements.root(),
            "slots": slots(sample, &agreements),
        }));
    }
    described.into()
}

/// Who may lodge under which epoch when, in a block that finds these agreements.
fn slots(sample: &Sample, agreements: &Agreements) -> Value {
    let (id, own) = (first(sample).agreement(), own_id(&code("NL-DOUANE")));
    let members = Registered(&sample.genesis.registry);
    let mut asked = Vec::new();
    for (agreement, number) in [(id, 1), (id, 2), (id, 3), (id, 4), (own, 1)] {
        for agency in ["BE-DOUANE", "NL-DOUANE"] {
            for after_ms in [
                6000,
                NOTICE_MS + 3999,
                NOTICE_MS + 4000,
                NOTICE_MS + 5000,
                DAY_MS,
                DAY_MS + NOTICE_MS,
                30 * DAY_MS - 1,
                30 * DAY_MS,
            ] {
                let (agency, time_ms) = (code(agency), sample.genesis.time_ms + after_ms);
                let found = agreements.check_slot((&agreement, number), &agency, time_ms, &members);
                asked.push(json!({
                    "agreement": agreement,
                    "epoch": number,
                    "agency": agency,
                    "time_ms": time_ms,
                    "code": found.err().map(|refused| refused.code()),
                }));
            }
        }
    }
    asked.into()
}

fn cases(sample: &Sample) -> Cases {
    let mut cases = Cases::new("agreement_change");
    let names = [
        "a first epoch",
        "an agency's own first epoch",
        "an epoch with one party more",
        "leaving",
        "an epoch without who has left",
        "an agency's own next epoch",
    ];
    for (name, (.., change)) in names.iter().zip(lodged(sample)) {
        cases.valid(name, change.to_proto().encode_to_vec());
    }
    let sixteen: Vec<_> = (10..26).map(|number| format!("A{number}")).collect();
    let many = unsigned(sample, &|e| e.parties.clone_from(&sixteen));
    cases.valid("sixteen parties, of whoever signed for them", many);
    let bytes = first(sample).to_proto().encode_to_vec();
    cases.refused("MALFORMED", "the last byte missing", &bytes[..bytes.len() - 1]);
    cases.refused("NOT_CANONICAL", "an unknown field", [&bytes[..], &[0x98, 0x06, 1]].concat());
    of_epoch(&mut cases, sample);
    approvals(&mut cases, sample);
    leaving(&mut cases, sample);
    cases
}

/// The first epoch changed, with an approval of one key for each party, whoever's that is.
fn unsigned(sample: &Sample, make: &dyn Fn(&mut v1::AgreementEpoch)) -> Vec<u8> {
    let mut epoch = epoch(sample, None, 1, &["BE-DOUANE", "NL-DOUANE"]);
    make(&mut epoch);
    let proposal = EpochProposal::from_proto(epoch.clone()).ok();
    let approval = match proposal {
        Some(proposal) => proposal.approve(&sample.genesis.chain_id(), &key(131)).to_proto(),
        None => first(sample).to_proto().approvals[0].clone(),
    };
    let approvals = vec![approval; epoch.parties.len()];
    v1::AgreementChange { change: Some(Change::Epoch(epoch)), approvals }.encode_to_vec()
}

fn of_epoch(cases: &mut Cases, sample: &Sample) {
    type Fault<'a> = (&'a str, &'a str, &'a dyn Fn(&mut v1::AgreementEpoch));
    let seventeen: Vec<_> = (10..27).map(|number| format!("A{number}")).collect();
    let [own, others] = ["NL-DOUANE", "BE-DOUANE"].map(|agency| own_id(&code(agency)).0.to_vec());
    let alone = |e: &mut v1::AgreementEpoch| e.parties = vec!["NL-DOUANE".into()];
    let faults: [Fault<'_>; 22] = [
        ("AGREEMENT_PARTIES", "no parties", &|e| e.parties.clear()),
        ("AGREEMENT_PARTIES", "seventeen parties", &|e| e.parties.clone_from(&seventeen)),
        ("AGREEMENT_PARTIES", "parties that are not sorted", &|e| e.parties.reverse()),
        ("AGREEMENT_PARTIES", "a party twice", &|e| e.parties[1] = e.parties[0].clone()),
        ("AGREEMENT_PARTIES", "a party in lower case", &|e| e.parties[0] = "be-douane".into()),
        ("AGREEMENT_NUMBER", "no number", &|e| e.number = 0),
        ("AGREEMENT_NUMBER", "a number above the last", &|e| {
            (e.number, e.agreement) = (EPOCHS_MAX + 1, vec![1; 32]);
        }),
        ("AGREEMENT_NUMBER", "no number and an id, which is asked later", &|e| {
            (e.number, e.agreement) = (0, vec![1; 32]);
        }),
        ("AGREEMENT_ID", "a first epoch with an id", &|e| e.agreement = vec![1; 32]),
        ("AGREEMENT_ID", "a second epoch without an id", &|e| e.number = 2),
        ("AGREEMENT_ID", "a second epoch with an id of 31 bytes", &|e| {
            (e.number, e.agreement) = (2, vec![1; 31]);
        }),
        ("AGREEMENT_ID", "an agency alone, without its own id", &|e| alone(e)),
        ("AGREEMENT_ID", "an agency alone, under another's own id", &|e| {
            alone(e);
            e.agreement.clone_from(&others);
        }),
        ("AGREEMENT_ID", "two, under an agency's own id", &|e| e.agreement.clone_from(&own)),
        ("AGREEMENT_KEY", "a key of 31 bytes", &|e| e.public_key.truncate(31)),
        ("AGREEMENT_KEY", "a key of low order", &|e| e.public_key = vec![0; 32]),
        ("AGREEMENT_KEY", "a key that is not an encoding", &|e| {
            // The y of 3 and 2^255 - 19 together, which is taken modulo that.
            e.public_key = [&[0xf0][..], &[0xff; 30], &[0x7f]].concat();
        }),
        ("AGREEMENT_PERIOD", "no time", &|e| e.until_ms = e.from_ms),
        ("AGREEMENT_PERIOD", "an end before the beginning", &|e| e.until_ms = e.from_ms - 1),
        ("AGREEMENT_PERIOD", "too long", &|e| e.until_ms = e.from_ms + EPOCH_MS_MAX + 1),
        ("AGREEMENT_FIELD", "a hash of the terms of 31 bytes", &|e| e.terms_hash.truncate(31)),
        ("AGREEMENT_FIELD", "no hash of the terms", &|e| e.terms_hash.clear()),
    ];
    for (code, change, make) in faults {
        cases.refused(code, change, unsigned(sample, make));
    }
    let longest = unsigned(sample, &|e| e.until_ms = e.from_ms + EPOCH_MS_MAX);
    cases.valid("the longest epoch", longest);
    let last = unsigned(sample, &|e| (e.number, e.agreement) = (EPOCHS_MAX, vec![1; 32]));
    cases.valid("the last epoch", last);
}

fn approvals(cases: &mut Cases, sample: &Sample) {
    let genuine = first(sample).to_proto();
    let mut refused = |code: &str, change: &str, make: &dyn Fn(&mut v1::AgreementChange)| {
        let mut changed = genuine.clone();
        make(&mut changed);
        cases.refused(code, change, changed.encode_to_vec());
    };
    refused("AGREEMENT_FIELD", "no change", &|c| c.change = None);
    refused("AGREEMENT_APPROVAL_COUNT", "an approval missing", &|c| drop(c.approvals.pop()));
    refused("AGREEMENT_APPROVAL_COUNT", "an approval too many", &|c| {
        c.approvals.push(c.approvals[0].clone());
    });
    refused("AGREEMENT_APPROVAL_KEY", "an approver's key of low order", &|c| {
        c.approvals[1].public_key.fill(0);
    });
    refused("AGREEMENT_APPROVAL_KEY", "an approval cut short", &|c| {
        c.approvals[0].signature.truncate(63);
    });
    refused("AGREEMENT_APPROVAL", "a damaged approval", &|c| c.approvals[1].signature[9] ^= 1);
    refused("AGREEMENT_APPROVAL", "an approval under another's name", &|c| {
        c.approvals[0].public_key = c.approvals[1].public_key.clone();
    });
    refused("AGREEMENT_APPROVAL", "approvals of another epoch", &|c| {
        let Some(Change::Epoch(epoch)) = &mut c.change else { panic!("an epoch") };
        epoch.terms_hash[0] ^= 1;
    });
    let proposal = EpochProposal::from_proto(epoch(sample, None, 1, &["BE-DOUANE", "NL-DOUANE"]));
    let proposal = proposal.expect("well-formed");
    refused("AGREEMENT_APPROVAL", "approvals for another chain", &|c| {
        let approve = |seed| proposal.approve(&Hash([1; 32]), &key(seed)).to_proto();
        c.approvals = [129, 131].map(approve).to_vec();
    });
    // Whose keys these are is the chain's to check.
    let swapped = v1::AgreementChange {
        approvals: genuine.approvals.iter().rev().cloned().collect(),
        ..genuine.clone()
    };
    cases.valid("approvals of each other's keys", swapped.encode_to_vec());
}

fn leaving(cases: &mut Cases, sample: &Sample) {
    let agreement = first(sample).agreement().0.to_vec();
    let leave = v1::AgreementLeave { agreement, epoch: 2 };
    let approvals = first(sample).to_proto().approvals[..1].to_vec();
    let mut refused = |code: &str, change: &str, leave: v1::AgreementLeave, approvals| {
        let bytes = v1::AgreementChange { change: Some(Change::Leave(leave)), approvals };
        cases.refused(code, change, bytes.encode_to_vec());
    };
    let short = v1::AgreementLeave { agreement: leave.agreement[..31].to_vec(), ..leave.clone() };
    refused("AGREEMENT_FIELD", "leaving an agreement of 31 bytes", short, vec![]);
    let none = v1::AgreementLeave { epoch: 0, ..leave.clone() };
    refused("AGREEMENT_NUMBER", "leaving no epoch", none, vec![]);
    let above = v1::AgreementLeave { epoch: EPOCHS_MAX + 1, ..leave.clone() };
    refused("AGREEMENT_NUMBER", "leaving an epoch above the last", above, vec![]);
    refused("AGREEMENT_APPROVAL_COUNT", "leaving with an approval", leave, approvals);
}
