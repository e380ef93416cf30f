//! A fork: how two nodes tell of one height, and whom that names.

use customhouse_ledger::{
    finality::{
        certificate::Certificate,
        decision::{self, Decision, Grounds},
        evidence::Claim,
        header::{Block, Header},
        vote::{Ballot, Proposal, Vote, VoteKind},
    },
    hash::Hash,
    limits::DECISIONS_BYTES_MAX,
    proofs::fork::{Conclusion, examine, height_to_examine},
    registry::genesis::Genesis,
};
use customhouse_proto::v1;
use prost::Message as _;
use serde_json::{Value, json};

use super::{
    cases::{Cases, Given, with_cases},
    hex_of,
    sample::{Sample, key},
};

/// A certificate of the validators with these key seeds.
fn certificate(genesis: &Genesis, ballot: Ballot, signers: [u8; 3]) -> Certificate {
    let sign = |seed| Vote::sign(ballot, &genesis.chain_id(), &key(seed));
    Certificate::from_votes(ballot, &signers.map(sign), &genesis.validators()).expect("a quorum")
}

/// The sample's block, finalized in view 1 by validators 1, 2 and 4; and another, after a
/// nullification of view 1, in view 2 by 1, 2 and 3.
pub(crate) fn fork(sample: &Sample) -> Value {
    let (genesis, header) = (&sample.genesis, &sample.head(1).block.header);
    let other = Header {
        time_ms: header.time_ms + 1,
        proposer: *key(3).public().as_bytes(),
        view: 2,
        ..header.clone()
    };
    let ballot = |kind, view, block_hash| Ballot { kind, height: 1, view, block_hash };
    let (first_hash, second_hash) = (header.hash(), other.hash());
    let of_first = |kind| certificate(genesis, ballot(kind, 1, first_hash), [1, 2, 4]);
    let of_second = |kind| certificate(genesis, ballot(kind, 2, second_hash), [1, 2, 3]);
    let proposal = |block: Block, view, leader| {
        Claim::of(&Proposal::sign(block, view, 0, &genesis.chain_id(), &key(leader)))
    };
    let second_block = Block { header: other.clone(), leaves: sample.head(1).block.leaves.clone() };
    let one = Decision {
        height: 1,
        decided: Some((header.clone(), of_first(VoteKind::Finalize))),
        grounds: Grounds {
            certificates: vec![of_first(VoteKind::Notarize)],
            claims: vec![proposal(sample.head(1).block.clone(), 1, 2)],
        },
    };
    let nullification = certificate(genesis, ballot(VoteKind::Nullify, 1, Hash::ZERO), [1, 2, 3]);
    let other = Decision {
        height: 1,
        decided: Some((other, of_second(VoteKind::Finalize))),
        grounds: Grounds {
            certificates: vec![nullification, of_second(VoteKind::Notarize)],
            claims: vec![proposal(second_block, 2, 3)],
        },
    };
    let late = Decision { grounds: Grounds::default(), ..other.clone() };
    // As of a node that committed the first block, and halted when it saw the second's finalization.
    let mut halted = one.clone();
    halted.grounds.certificates.insert(0, of_second(VoteKind::Finalize));
    let holders = [1, 2, 3].map(|seed| key(seed).public());
    let cases = cases(&one, &late, &halted);
    let file = json!({
        "height": 1,
        "one": hex_of(decision::encode(&[one])),
        "other": hex_of(decision::encode(&[other])),
        "other_caught_up": hex_of(decision::encode(&[late])),
        "halted": hex_of(decision::encode(&[halted])),
        "culprits": [key(1).public(), key(2).public()],
        "missing": {
            "notarization_of": second_hash,
            "view": 2,
            "ask": holders,
        },
    });
    with_cases(file, [cases])
}

fn cases(one: &Decision, late: &Decision, halted: &Decision) -> Cases {
    let mut cases = Cases::new("decisions");
    let genuine = v1::Decisions { decisions: vec![one.to_proto()] };
    cases.valid("of one height", genuine.encode_to_vec());
    cases.valid("of a node that caught up", decision::encode(std::slice::from_ref(late)));
    cases.valid("of a node that halted", decision::encode(std::slice::from_ref(halted)));
    cases.valid("of nothing", vec![]);
    let unknown = [&genuine.encode_to_vec()[..], &[0x98, 0x06, 1]].concat();
    cases.valid("with an unknown field", unknown);
    let large = Given::Zeros(DECISIONS_BYTES_MAX + 1);
    cases.refused("DECISIONS_TOO_MANY", "too many bytes", large);
    let mut refused = |code: &str, change: &str, make: &dyn Fn(&mut v1::Decisions)| {
        let mut decisions = genuine.clone();
        make(&mut decisions);
        cases.refused(code, change, decisions.encode_to_vec());
    };
    refused("DECISIONS_ORDER", "a height twice", &|d| d.decisions.push(d.decisions[0].clone()));
    refused("DECISIONS_ORDER", "of height 0", &|d| d.decisions[0].height = 0);
    refused("DECISION_HEIGHT", "of another height", &|d| d.decisions[0].height = 2);
    refused("DECISION_HEIGHT", "a header of another height", &|d| d.decisions[0].header[41] = 2);
    refused("DECISION_HEIGHT", "a certificate of another height", &|d| {
        d.decisions[0].certificates[0][8] = 2;
    });
    refused("DECISION_HEIGHT", "a proposal of another height", &|d| {
        d.decisions[0].proposals[0][8] = 2;
    });
    refused("DECISION_HALF", "no finalization", &|d| d.decisions[0].certificate.clear());
    refused("DECISION_HALF", "no header", &|d| d.decisions[0].header.clear());
    refused("DECISION_LAYOUT", "a header cut short", &|d| d.decisions[0].header.truncate(305));
    refused("DECISION_LAYOUT", "a proposal cut short", &|d| {
        d.decisions[0].proposals[0].truncate(184)
    });
    refused("DECISION_LAYOUT", "a proposal by no key", &|d| {
        d.decisions[0].proposals[0][89..121].fill(0);
    });
    refused("DECISION_LAYOUT", "a vote among the proposals", &|d| {
        d.decisions[0].proposals[0][0] = 1;
    });
    refused("DECISION_CERTIFICATE", "a certificate cut short", &|d| {
        d.decisions[0].certificates[0].truncate(60);
    });
    refused("DECISIONS_TOO_MANY", "a certificate of too many bytes", &|d| {
        d.decisions[0].certificates[0].resize(16_468, 0);
    });
    let cut = genuine.encode_to_vec();
    cases.refused("DECISIONS_MALFORMED", "the last byte missing", &cut[..cut.len() - 1]);
    cases
}

/// What the published files show is what is published beside them.
pub(crate) fn check(vector: &Value, genesis: &Genesis) {
    let read = |name: &str| {
        let bytes = hex::decode(vector[name].as_str().expect("text")).expect("hexadecimal");
        let decisions = decision::decode(&bytes).expect("decisions");
        assert_eq!(decision::encode(&decisions), bytes, "one encoding");
        decisions.into_iter().next().expect("one")
    };
    let (chain_id, validators) = (genesis.chain_id(), genesis.validators());
    let (one, other, late) = (read("one"), read("other"), read("other_caught_up"));
    let halted = read("halted");
    let to_examine = |decisions: &[&Decision]| {
        height_to_examine(decisions.iter().copied(), &chain_id, |_| &validators)
    };
    assert_eq!(to_examine(&[&one, &other]), Some(1));
    assert_eq!(to_examine(&[&halted]), Some(1), "by itself");
    assert_eq!(to_examine(&[&one, &one]), None);
    let examination = examine(1, &[&one, &other], &chain_id, &validators).expect("final");
    assert_eq!(examination.conclusion, Conclusion::Proven);
    let culprits: Vec<_> = examination.culprits.iter().map(|c| c.validator.key).collect();
    assert_eq!(json!(culprits), vector["culprits"]);
    for too_little in [&[&one, &late][..], &[&halted]] {
        let examination = examine(1, too_little, &chain_id, &validators).expect("final");
        let Conclusion::NotEnough(missing) = examination.conclusion else { panic!("not enough") };
        let holders: Vec<_> = missing.holders.iter().map(|holder| holder.key).collect();
        assert_eq!(json!(holders), vector["missing"]["ask"]);
    }
}
