//! What is signed and certified.

use customhouse_ledger::{
    agency::AgencyCode,
    finality::{
        certificate::Certificate,
        evidence::Evidence,
        header::{Block, Header},
        vote::{Ballot, Proposal, Vote, VoteKind},
    },
    hash::{Hash, Tag},
};
use serde_json::{Value, json};

use super::{
    cases::{Cases, with_cases},
    damage, hashes, hex_of,
    sample::{self, Head, Sample, key},
    transactions,
};

pub(crate) fn keys() -> Value {
    let vector = |seed: u8| {
        let message = Tag::VOTE.message(&[b"abc"]);
        let signature = key(seed).sign(&message);
        json!({
            "seed": hex_of([seed; 32]),
            "public_key": key(seed).public(),
            "message": hex_of(&message),
            "signature": hex_of(signature.0),
        })
    };
    let keys = [1, 2, 3, 4, 65, 131].map(vector).to_vec();
    with_cases(json!({ "keys": keys }), [agency_codes(), public_keys(), signatures()])
}

fn agency_codes() -> Cases {
    let mut cases = Cases::new("agency_code");
    for code in ["NL-DOUANE", "XI", "ABCDEFGHIJKLMNO9"] {
        let layout: AgencyCode = code.parse().expect("a code");
        cases.valid(code, &layout.as_bytes()[..]);
    }
    let refused: [(&str, &[u8]); 7] = [
        ("one letter", b"N\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
        ("nothing", &[0; 16]),
        ("lower case", b"nl\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
        ("a letter after zeros", b"NL\0X\0\0\0\0\0\0\0\0\0\0\0\0"),
        ("a space", b"NL DOUANE\0\0\0\0\0\0\0"),
        ("15 bytes", b"NL\0\0\0\0\0\0\0\0\0\0\0\0\0"),
        ("17 bytes", b"NL\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
    ];
    for (change, layout) in refused {
        cases.refused("AGENCY_CODE", change, layout);
    }
    cases
}

/// Little-endian 2^255 − 19 + this.
pub(crate) fn above_the_prime(more: u8) -> [u8; 32] {
    let mut bytes = [0xff; 32];
    (bytes[0], bytes[31]) = (0xed + more, 0x7f);
    bytes
}

fn public_keys() -> Cases {
    let mut cases = Cases::new("public_key");
    let bytes = |first: u8| {
        let mut bytes = [0; 32];
        bytes[0] = first;
        bytes.to_vec()
    };
    cases.valid("of seed 1", &key(1).public().as_bytes()[..]);
    cases.valid("y is 3", bytes(3));
    cases.valid("y is 3, not reduced", &above_the_prime(3)[..]);
    cases.refused("KEY_LENGTH", "31 bytes", vec![3; 31]);
    cases.refused("KEY_LENGTH", "33 bytes", [bytes(3), vec![0]].concat());
    cases.refused("KEY_NOT_A_POINT", "y is 2", bytes(2));
    cases.refused("KEY_LOW_ORDER", "the neutral element", bytes(1));
    cases.refused("KEY_LOW_ORDER", "a point of order 4", bytes(0));
    cases.refused("KEY_LOW_ORDER", "the neutral element, not reduced", &above_the_prime(1)[..]);
    let mut minus_zero = bytes(1);
    minus_zero[31] = 0x80;
    cases.refused("KEY_LOW_ORDER", "the neutral element with a sign", minus_zero);
    cases
}

/// Key, signature and message one after the other.
fn signatures() -> Cases {
    let mut cases = Cases::new("signature");
    let message = Tag::VOTE.message(&[b"abc"]);
    let signature = key(1).sign(&message).0;
    let public = *key(1).public().as_bytes();
    let signed =
        |key: &[u8; 32], signature: &[u8], message: &[u8]| [&key[..], signature, message].concat();
    cases.valid("of seed 1", signed(&public, &signature, &message));
    cases.valid("over nothing", signed(&public, &key(1).sign(b"").0, b""));
    let mut unreduced = signature;
    damage::add_order(&mut unreduced[32..]);
    let refused = [
        ("over another message", signed(&public, &signature, &message[1..])),
        ("by another key", signed(key(2).public().as_bytes(), &signature, &message)),
        ("a scalar that is not reduced", signed(&public, &unreduced, &message)),
        (
            "R of low order",
            signed(&public, &[&[1][..], &[0; 31], &signature[32..]].concat(), &message),
        ),
        ("R no point", signed(&public, &[&[2][..], &[0; 31], &signature[32..]].concat(), &message)),
        ("zeros", signed(&public, &[0; 64], &message)),
        ("cut short", signed(&public, &signature[..63], b"")),
    ];
    for (change, bytes) in refused {
        cases.refused("BAD_SIGNATURE", change, bytes);
    }
    let identity = [&[1][..], &[0; 31]].concat();
    cases.refused(
        "KEY_LOW_ORDER",
        "by a key of low order",
        [&identity[..], &identity, &[0; 32]].concat(),
    );
    cases
}

pub(crate) fn header(sample: &Sample) -> Value {
    let Head { block, entries, .. } = sample.head(1);
    let Block { header, leaves } = block;
    let file = json!({
        "fields": {
            "version": header.version,
            "chain_id": header.chain_id,
            "height": header.height,
            "time_ms": header.time_ms,
            "parent_hash": header.parent_hash,
            "log_start": header.log_start,
            "log_size": header.log_size,
            "log_root": header.log_root,
            "history_size": header.history_size,
            "history_root": header.history_root,
            "registry_root": header.registry_root,
            "outcomes_root": header.outcomes_root,
            "validators_hash": header.validators_hash,
            "next_validators_hash": header.next_validators_hash,
            "proposer": hex_of(header.proposer),
            "view": header.view,
        },
        "header": hex_of(header.encode()),
        "block_hash": header.hash(),
        "leaves": hashes(leaves),
        "history_entries": entries.iter().map(|entry| hex_of(entry.encode())).collect::<Vec<_>>(),
    });
    let mut cases = Cases::new("header");
    cases.valid("of height 1", header.encode());
    cases.valid("of the genesis", sample.genesis.header().encode());
    cases.refused("HEADER_MALFORMED", "the last byte missing", &header.encode()[..305]);
    cases.refused("HEADER_MALFORMED", "a byte more", [header.encode(), vec![0]].concat());
    cases.refused("HEADER_MALFORMED", "nothing", vec![]);
    cases.refused("HEADER_MALFORMED", "two headers", header.encode().repeat(2));
    with_cases(file, [cases, final_headers(sample)])
}

/// A header, then its certificate.
fn final_headers(sample: &Sample) -> Cases {
    let Head { block: Block { header, .. }, certificate, .. } = sample.head(1);
    let joined = |header: &Header, certificate: &[u8]| [&header.encode()[..], certificate].concat();
    let finalized = certificate.encode();
    let resigned =
        |header: &Header| joined(header, &sample.certificate(header, VoteKind::Finalize).encode());
    let mut cases = Cases::new("final_header");
    cases.valid("of height 1", joined(header, &finalized));
    cases.valid("of the genesis", joined(&sample.genesis.header(), &[]));
    let late = resigned(&sample.head(4).block.header);
    cases.valid("of height 4", late.clone())["validator_chain"] = hex_of(sample.chain());
    cases.refused("VALIDATOR_STEP_MISSING", "without the validator chain", late);
    let mut refused = |code: &str, change: &str, bytes: Vec<u8>| {
        cases.refused(code, change, bytes);
    };
    refused("HEADER_MALFORMED", "a header cut short", header.encode()[..305].to_vec());
    let genesis = sample.genesis.header();
    let other = Header { time_ms: 1, ..genesis.clone() };
    refused("HEADER_NOT_GENESIS", "another header at height 0", joined(&other, &[]));
    refused("HEADER_NOT_GENESIS", "the genesis with a certificate", joined(&genesis, &finalized));
    refused("HEADER_VERSION", "other rules", resigned(&Header { version: 2, ..header.clone() }));
    let other = Header { chain_id: Hash([1; 32]), ..header.clone() };
    refused("WRONG_CHAIN", "of another chain", resigned(&other));
    let other = Header { validators_hash: Hash([1; 32]), ..header.clone() };
    refused("VALIDATOR_STEP_MISSING", "of other validators", resigned(&other));
    for (kind, change) in
        [(VoteKind::Notarize, "a notarization"), (VoteKind::Nullify, "a nullification")]
    {
        let certificate = sample.certificate(header, kind).encode();
        refused("CERTIFICATE_KIND", change, joined(header, &certificate));
    }
    let other = Header { height: 2, ..header.clone() };
    refused("CERTIFICATE_HEIGHT", "the certificate of another height", joined(&other, &finalized));
    let other = Header { view: 2, ..header.clone() };
    refused("CERTIFICATE_BLOCK_HASH", "another view", joined(&other, &finalized));
    for (code, change, certificate) in broken(sample) {
        refused(code, change, joined(header, &certificate));
    }
    let case = cases.refused("HEADER_VALIDATORS", "of later validators", {
        resigned(&Header { validators_hash: sample.validators(4).hash(), ..header.clone() })
    });
    case["validator_chain"] = hex_of(sample.chain());
    cases
}

/// Finalizations of block 1 that are not certificates.
fn broken(sample: &Sample) -> Vec<(&'static str, &'static str, Vec<u8>)> {
    const BITMAP: usize = 51;
    let genuine = sample.head(1).certificate.encode();
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = genuine.clone();
        change(&mut bytes);
        bytes
    };
    let (malformed, invalid) = ("CERTIFICATE_MALFORMED", "CERTIFICATE_INVALID");
    vec![
        (malformed, "no certificate", vec![]),
        (malformed, "the last byte missing", genuine[..genuine.len() - 1].to_vec()),
        (malformed, "a byte more", [&genuine[..], &[0]].concat()),
        (malformed, "of no kind", changed(&|c| c[0] = 4)),
        (malformed, "cut short before the bitmap", genuine[..BITMAP].to_vec()),
        (malformed, "a signature missing", genuine[..genuine.len() - 64].to_vec()),
        (malformed, "a signer more than signatures", changed(&|c| c[BITMAP] |= 0x20)),
        (
            malformed,
            "a bitmap of 33 bytes",
            changed(&|c| {
                c[BITMAP - 1] = 33;
                c.splice(BITMAP + 1..BITMAP + 1, [0; 32]);
            }),
        ),
        (
            invalid,
            "a bitmap of two bytes",
            changed(&|c| {
                c[BITMAP - 1] = 2;
                c.insert(BITMAP + 1, 0);
            }),
        ),
        (invalid, "a validator that does not exist", changed(&|c| c[BITMAP] = 0b1100_1000)),
        (
            invalid,
            "two signers",
            changed(&|c| {
                c[BITMAP] = 0b1100_0000;
                c.truncate(BITMAP + 1 + 128);
            }),
        ),
        (invalid, "another signer", changed(&|c| c[BITMAP] = 0b1110_0000)),
        (invalid, "a signature twice", changed(&|c| c.copy_within(52..116, 116))),
        (invalid, "signatures in another order", changed(&|c| c[BITMAP + 1..].rotate_left(64))),
        (invalid, "a damaged signature", changed(&|c| c[60] ^= 1)),
        (invalid, "another view", changed(&|c| c[16] = 2)),
        (
            invalid,
            "a scalar that is not reduced",
            changed(&|c| {
                damage::add_order(&mut c[BITMAP + 1 + 32..BITMAP + 1 + 64]);
            }),
        ),
    ]
}

pub(crate) fn votes(sample: &Sample) -> Value {
    let (chain_id, header) = (sample.genesis.chain_id(), &sample.head(1).block.header);
    let kinds = [VoteKind::Notarize, VoteKind::Nullify, VoteKind::Finalize];
    let vote = |kind: VoteKind| {
        let ballot = sample::ballot(header, kind);
        let vote = Vote::sign(ballot, &chain_id, &key(1));
        json!({
            "kind": kind as u8,
            "height": ballot.height,
            "view": ballot.view,
            "block_hash": ballot.block_hash,
            "signed_message": hex_of(ballot.message(&chain_id)),
            "validator": vote.validator,
            "signature": hex_of(vote.signature.0),
        })
    };
    let certificates = kinds.map(|kind| {
        let certificate = sample.certificate(header, kind);
        let signers: Vec<_> = certificate.signers().collect();
        json!({ "kind": kind as u8, "signers": signers, "certificate": hex_of(certificate.encode()) })
    });
    let proposal = Proposal::sign(sample.head(1).block.clone(), 3, 1, &chain_id, &key(4));
    let message = proposal.proposed().message(&chain_id);
    let file = json!({
        "chain_id": chain_id,
        "votes": kinds.map(vote).to_vec(),
        "certificates": certificates.to_vec(),
        "proposal": {
            "height": header.height,
            "view": proposal.view,
            "parent_view": proposal.parent_view,
            "block_hash": header.hash(),
            "leaves": proposal.block.leaves,
            "leaves_hash": proposal.block.leaves_hash(),
            "signed_message": hex_of(message),
            "leader": proposal.leader,
            "signature": hex_of(proposal.signature.0),
        },
    });
    with_cases(file, [certificate_cases(sample)])
}

fn certificate_cases(sample: &Sample) -> Cases {
    let header = &sample.head(1).block.header;
    let mut cases = Cases::new("certificate");
    for (name, kind) in [
        ("a notarization", VoteKind::Notarize),
        ("a nullification", VoteKind::Nullify),
        ("a finalization", VoteKind::Finalize),
    ] {
        cases.valid(name, sample.certificate(header, kind).encode());
    }
    for (code, change, bytes) in broken(sample) {
        cases.refused(code, change, bytes);
    }
    let of_nothing = |kind| {
        let ballot = Ballot { block_hash: Hash::ZERO, ..sample::ballot(header, kind) };
        let vote = |seed| Vote::sign(ballot, &sample.genesis.chain_id(), &key(seed));
        let votes = [1, 2, 4].map(vote);
        Certificate::from_votes(ballot, &votes, &sample.genesis.validators()).expect("a quorum")
    };
    let bytes = of_nothing(VoteKind::Finalize).encode();
    cases.refused("CERTIFICATE_INVALID", "a finalization of no block", bytes);
    let mut bytes = of_nothing(VoteKind::Nullify).encode();
    bytes[17] = 1;
    cases.refused("CERTIFICATE_INVALID", "a nullification of a block", bytes);
    cases
}

/// Two votes for two blocks in one view.
pub(crate) fn misbehaviour(sample: &Sample) -> Value {
    let (chain_id, header) = (sample.genesis.chain_id(), &sample.head(1).block.header);
    let vote = |block_hash| {
        let ballot = Ballot { block_hash, ..sample::ballot(header, VoteKind::Notarize) };
        Vote::sign(ballot, &chain_id, &key(1))
    };
    let evidence = Evidence::Votes(vote(header.hash()), vote(Hash([7; 32])));
    let report = evidence.to_proto();
    let (height, view) = evidence.place();
    let file = json!({
        "chain_id": chain_id,
        "culprit": evidence.culprit(),
        "height": height,
        "view": view,
        "first": hex_of(report.first),
        "second": hex_of(report.second),
        "dedupe_key": evidence.dedupe_key(),
    });
    transactions::misbehaviour(sample, file)
}
