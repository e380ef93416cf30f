//! History proofs, consistency proofs and validator chains, and the same changed in one thing.

use std::slice;

use customhouse_ledger::{
    finality::{header::Header, validators::ValidatorSet, vote::VoteKind},
    hash::Hash,
    history::{HistoryEntry, bucket_of},
    limits::{CONSISTENCY_PROOF_BYTES_MAX, HISTORY_PROOF_BYTES_MAX},
    merkle::path_bytes,
    proofs::verifier::ValidatorStep,
};
use customhouse_proto::v1;
use prost::Message as _;
use serde_json::{Value, json};

use super::{
    cases::{Cases, Given, with_cases},
    damage::{self, shorter},
    hashes, hex_of,
    sample::{self, Head, Sample, encode_steps},
};

/// About a subject, as of a height.
pub(crate) fn about(sample: &Sample, height: usize, subject_key: &Hash) -> v1::HistoryProof {
    let Head { block, certificate, entries, history, .. } = sample.head(height);
    let bits = sample.genesis.history_bits;
    let bucket = bucket_of(subject_key, bits);
    let of_bucket = entries.iter().filter(|entry| bucket_of(&entry.key, bits) == bucket);
    v1::HistoryProof {
        subject_key: subject_key.0.to_vec(),
        bucket_entries: of_bucket.flat_map(HistoryEntry::encode).collect(),
        path: path_bytes(&history.path(bucket)),
        header: block.header.encode(),
        certificate: certificate.encode(),
    }
}

pub(crate) fn history_proof(sample: &Sample) -> Value {
    const LENGTH: usize = HistoryEntry::LENGTH;
    let subject_key = sample.transactions[2].slots()[1].subject_keys[0];
    let genuine = about(sample, 1, &subject_key);
    let bytes = genuine.encode_to_vec();
    let mut cases = Cases::new("history_proof");
    cases.valid("all records about a subject", bytes.clone());
    let mut absent = subject_key;
    absent.0[31] ^= 1;
    let in_bucket = about(sample, 1, &absent).encode_to_vec();
    cases.valid("no record about a subject, in a bucket of others", in_bucket);
    let nobody = (0..=u8::MAX).map(|first| Hash([first; 32]));
    let nobody = nobody.map(|key| about(sample, 1, &key)).find(|p| p.bucket_entries.is_empty());
    let nobody = nobody.expect("an empty bucket");
    cases.valid("no record about a subject, in an empty bucket", nobody.encode_to_vec());
    let of_change = sample.transactions[5].slots()[0].subject_keys[0];
    let later = about(sample, 4, &of_change).encode_to_vec();
    cases.valid("after two changes of the validators", later.clone())["validator_chain"] =
        hex_of(sample.chain());
    let large = Given::Zeros(HISTORY_PROOF_BYTES_MAX + 1);
    cases.refused("HISTORY_PROOF_TOO_LARGE", "too many bytes", large);
    damage::encoding(&mut cases, &bytes, "HISTORY_PROOF");
    cases.refused("VALIDATOR_STEP_MISSING", "without the validator chain", later);
    let invented = HistoryEntry { key: subject_key, log_index: 5, position: 0 }.encode();
    let mut refused = |code: &str, change: &str, make: &dyn Fn(&mut v1::HistoryProof)| {
        let mut proof = genuine.clone();
        make(&mut proof);
        cases.refused(code, change, proof.encode_to_vec());
    };
    refused("HISTORY_SUBJECT_KEY", "a subject key cut short", &|p| p.subject_key.truncate(31));
    refused("HISTORY_PATH_MALFORMED", "a hash of the path cut short", &|p| p.path.truncate(31));
    refused("HEADER_MALFORMED", "no header", &|p| p.header.clear());
    refused("CERTIFICATE_MALFORMED", "no certificate", &|p| p.certificate.clear());
    refused("CERTIFICATE_BLOCK_HASH", "another history root", &|p| p.header[140] ^= 1);
    refused("HISTORY_ROOT", "the entries withheld", &|p| p.bucket_entries.clear());
    refused("HISTORY_ROOT", "the last entry withheld", &|p| {
        p.bucket_entries.truncate(p.bucket_entries.len() - LENGTH);
    });
    refused("HISTORY_ROOT", "an entry of another subject", &|p| p.bucket_entries[31] ^= 1);
    refused("HISTORY_ROOT", "an entry of another position", &|p| {
        let last = p.bucket_entries.len() - 1;
        p.bucket_entries[last] ^= 8;
    });
    refused("HISTORY_ENTRIES_MALFORMED", "half an entry", &|p| p.bucket_entries.truncate(22));
    refused("HISTORY_OTHER_BUCKET", "the subject of another bucket", &|p| p.subject_key[0] ^= 1);
    refused("HISTORY_ORDER", "an entry twice", &|p| {
        p.bucket_entries.extend_from_within(p.bucket_entries.len() - LENGTH..);
    });
    refused("HISTORY_ORDER", "the first entry last", &|p| p.bucket_entries.rotate_left(LENGTH));
    refused("HISTORY_BEYOND_HEADER", "an entry of a later block", &|p| {
        p.bucket_entries.extend(&invented);
    });
    refused("HISTORY_ROOT", "a shorter path", &|p| shorter(&mut p.path));
    refused("HISTORY_ROOT", "a longer path", &|p| p.path.extend([0; 32]));
    refused("HISTORY_ROOT", "another path", &|p| p.path[0] ^= 1);
    let asked = asked_for(&genuine, &subject_key, &absent);
    let file = json!({
        "subject_key": subject_key,
        "bucket": bucket_of(&subject_key, sample.genesis.history_bits),
        "proof": hex_of(bytes),
    });
    with_cases(file, [cases, asked])
}

/// The key that was asked for, then a proof. `other` is of the same bucket.
fn asked_for(genuine: &v1::HistoryProof, asked: &Hash, other: &Hash) -> Cases {
    let joined =
        |asked: &Hash, proof: &v1::HistoryProof| [&asked.0[..], &proof.encode_to_vec()].concat();
    let of_other = v1::HistoryProof { subject_key: other.0.to_vec(), ..genuine.clone() };
    let mut withheld = genuine.clone();
    withheld.bucket_entries.clear();
    let mut elsewhere = *asked;
    elsewhere.0[0] ^= 1;
    let mut cases = Cases::new("history_proof_of");
    cases.valid("of the key that was asked for", joined(asked, genuine));
    cases.valid("of one without records", joined(other, &of_other));
    let code = "HISTORY_OTHER_SUBJECT";
    cases.refused(code, "of a key without records in its place", joined(asked, &of_other));
    cases.refused(code, "of a key with records in its place", joined(other, genuine));
    cases.refused(code, "of a key of another bucket", joined(&elsewhere, genuine));
    cases.refused("HISTORY_ROOT", "the entries withheld", joined(asked, &withheld));
    cases
}

/// The proof between these headers, both final by the validators of their heights.
fn between(sample: &Sample, from: &Header, to: &Header, path: Vec<Hash>) -> v1::ConsistencyProof {
    let finalized = |header: &Header| match header.height {
        0 => Vec::new(),
        _ => sample.certificate(header, VoteKind::Finalize).encode(),
    };
    v1::ConsistencyProof {
        from_header: from.encode(),
        from_certificate: finalized(from),
        to_header: to.encode(),
        to_certificate: finalized(to),
        path: path_bytes(&path),
    }
}

/// The proof between two heights, 0 to 4.
pub(crate) fn of_heights(sample: &Sample, from: usize, to: usize) -> v1::ConsistencyProof {
    let (older, newer) = (header(sample, from), header(sample, to));
    between(sample, &older, &newer, path(sample, older.log_size, to))
}

fn header(sample: &Sample, height: usize) -> Header {
    match height {
        0 => sample.genesis.header(),
        _ => sample.head(height).block.header.clone(),
    }
}

/// The path from a log size to that of a height; none from the empty log.
fn path(sample: &Sample, from: u64, to: usize) -> Vec<Hash> {
    match to {
        0 => vec![],
        _ => sample.head(to).log.consistency_path(from).unwrap_or_default(),
    }
}

pub(crate) fn consistency_proof(sample: &Sample) -> Value {
    let header = |height| header(sample, height);
    let path = |from, to| path(sample, from, to);
    let proof = |from, to| of_heights(sample, from, to);
    let genuine = proof(1, 2);
    let bytes = genuine.encode_to_vec();
    let mut cases = Cases::new("consistency_proof");
    cases.valid("of two heads", bytes.clone());
    cases.valid("of the genesis and a head", proof(0, 2).encode_to_vec());
    cases.valid("of the genesis and itself", proof(0, 0).encode_to_vec());
    cases.valid("of a head and itself", proof(2, 2).encode_to_vec());
    for from in 1..4 {
        let name = format!("of heights {from} and 4, after two changes of the validators");
        let case = cases.valid(&name, proof(from, 4).encode_to_vec());
        case["validator_chain"] = hex_of(sample.chain());
    }
    let large = Given::Zeros(CONSISTENCY_PROOF_BYTES_MAX + 1);
    cases.refused("CONSISTENCY_PROOF_TOO_LARGE", "too many bytes", large);
    damage::encoding(&mut cases, &bytes, "CONSISTENCY_PROOF");
    let missing = proof(1, 4).encode_to_vec();
    cases.refused("VALIDATOR_STEP_MISSING", "without the validator chain", missing);
    let mut refused = |code: &str, change: &str, make: &dyn Fn(&mut v1::ConsistencyProof)| {
        let mut proof = genuine.clone();
        make(&mut proof);
        cases.refused(code, change, proof.encode_to_vec());
    };
    refused("HEADER_MALFORMED", "no older header", &|p| p.from_header.clear());
    refused("CERTIFICATE_MALFORMED", "no newer certificate", &|p| p.to_certificate.clear());
    refused("CERTIFICATE_HEIGHT", "the newer certificate twice", &|p| {
        p.from_certificate.clone_from(&p.to_certificate);
    });
    refused("CERTIFICATE_BLOCK_HASH", "another log root", &|p| p.to_header[98] ^= 1);
    refused("CONSISTENCY_PATH_MALFORMED", "a hash cut short", &|p| p.path.truncate(31));
    refused("CONSISTENCY_PATH_LENGTH", "a shorter path", &|p| shorter(&mut p.path));
    refused("CONSISTENCY_PATH_LENGTH", "no path", &|p| p.path.clear());
    refused("CONSISTENCY_PATH_LENGTH", "a longer path", &|p| p.path.extend([0; 32]));
    refused("CONSISTENCY_FROM_ROOT", "another first hash", &|p| p.path[0] ^= 1);
    refused("CONSISTENCY_TO_ROOT", "another hash beside the older log", &|p| p.path[32] ^= 1);
    let (one, two) = (header(1), header(2));
    let mut made = |code: &str, change: &str, from: &Header, to: &Header, path: Vec<Hash>| {
        cases.refused(code, change, between(sample, from, to, path).encode_to_vec());
    };
    made("CONSISTENCY_HEIGHTS", "the newer header first", &two, &one, path(5, 2));
    let other = Header { time_ms: two.time_ms + 1, ..two.clone() };
    made("CONSISTENCY_FORK", "two blocks of one height", &two, &other, vec![]);
    let smaller = Header { log_size: 4, ..two.clone() };
    made("CONSISTENCY_LOG_SIZES", "a smaller newer log", &one, &smaller, vec![]);
    let same_size = Header { log_size: 5, ..two.clone() };
    made("CONSISTENCY_TO_ROOT", "another root of the same size", &one, &same_size, vec![]);
    let empty = Header { log_size: 0, ..one.clone() };
    made("CONSISTENCY_FROM_ROOT", "an empty log with a root", &empty, &two, vec![]);
    made("CONSISTENCY_PATH_LENGTH", "a path from the empty log", &header(0), &two, path(5, 2));
    let empty = Header { log_size: 0, ..two.clone() };
    made("CONSISTENCY_TO_ROOT", "an empty newer log with a root", &header(0), &empty, vec![]);
    let file = json!({
        "proof": hex_of(bytes),
        "from": { "height": 1, "log_size": one.log_size, "log_root": one.log_root },
        "to": { "height": 2, "log_size": two.log_size, "log_root": two.log_root },
        "path": hashes(&path(5, 2)),
    });
    with_cases(file, [cases])
}

pub(crate) fn validator_chain(sample: &Sample) -> Value {
    let [first, second] = sample.steps();
    let steps = [first.clone(), second.clone()];
    let bytes = encode_steps(&steps);
    let mut cases = Cases::new("validator_chain");
    cases.valid("of two changes", bytes.clone());
    cases.valid("of the first change alone", encode_steps(&steps[..1]));
    cases.valid("of no change", vec![]);
    encodings(&mut cases, &bytes, &steps);
    let mut refused = |code: &str, change: &str, steps: &[ValidatorStep]| {
        cases.refused(code, change, encode_steps(steps));
    };
    refused("VALIDATOR_STEP_MISSING", "the first step missing", &steps[1..]);
    refused("VALIDATOR_STEP_MISSING", "the second step first", &[second.clone(), first.clone()]);
    refused("STEP_ORDER", "a step twice", &[first.clone(), first.clone()]);
    let again = [first.clone(), second.clone(), first.clone()];
    refused("STEP_ORDER", "the first step again at the end", &again);
    let at_genesis = ValidatorStep {
        header: sample.genesis.header(),
        validators: sample.validators(1),
        ..first.clone()
    };
    refused("STEP_ORDER", "a step at height 0", &[at_genesis]);
    let others = ValidatorStep { validators: sample.validators(4), ..first.clone() };
    refused("STEP_VALIDATORS", "others than were announced", &[others]);
    let Head { block, certificate, .. } = sample.head(1);
    let unchanged = ValidatorStep {
        header: block.header.clone(),
        certificate: certificate.clone(),
        validators: sample.validators(1),
    };
    refused("STEP_VALIDATORS", "a header that announces no change", &[unchanged]);
    let resigned = |header: Header, kind| ValidatorStep {
        certificate: sample.certificate(&header, kind),
        header,
        ..first.clone()
    };
    let header = &first.header;
    let version = Header { version: 2, ..header.clone() };
    refused("HEADER_VERSION", "of other rules", &[resigned(version, VoteKind::Finalize)]);
    let chain = Header { chain_id: Hash([1; 32]), ..header.clone() };
    refused("WRONG_CHAIN", "of another chain", &[resigned(chain, VoteKind::Finalize)]);
    let notarized = resigned(header.clone(), VoteKind::Notarize);
    refused("CERTIFICATE_KIND", "a notarization", &[notarized]);
    let height = ValidatorStep { certificate: second.certificate.clone(), ..first.clone() };
    refused("CERTIFICATE_HEIGHT", "the certificate of another step", &[height]);
    let later = Header { time_ms: header.time_ms + 1, ..header.clone() };
    let block = ValidatorStep { header: later, ..first.clone() };
    refused("CERTIFICATE_BLOCK_HASH", "another header", &[block]);
    let mut damaged = bytes.clone();
    let at = bytes.windows(64).position(|w| {
        let votes = first.certificate.votes(&sample.validators(2));
        w == votes[0].signature.0
    });
    damaged[at.expect("a signature")] ^= 1;
    cases.refused("CERTIFICATE_INVALID", "a damaged signature", damaged);
    put_together(&mut cases, sample, &steps);
    let back = Back::new(sample);
    back.cases(&mut cases);
    let [away, returned, again] = &back.steps;
    let hash = |height| sample.validators(height).hash();
    let file = json!({
        "chain": hex_of(bytes),
        "chain_of_a_set_that_comes_back": hex_of(encode_steps(&back.steps)),
        "validators_hashes_of_a_set_that_comes_back": {
            "from_1": hash(1),
            "from_3": away.validators.hash(),
            "from_4": returned.validators.hash(),
            "from_6": again.validators.hash(),
        },
        "validators_hashes": { "from_1": hash(1), "from_3": hash(3), "from_4": hash(4) },
    });
    with_cases(file, [cases])
}

/// Steps that the genesis's validators certified beside those of the sample: another block of the first step's
/// height, and one of a height that has no step. Each proves a fork.
pub(crate) fn forks(sample: &Sample) -> [(&'static str, ValidatorStep); 2] {
    let genesis = sample.validators(1);
    let certified = |height: u64| {
        let next = sample.validators(3).deciding_from(height + 1);
        step(sample, height, &genesis, [1, 2, 4], &next, next.hash())
    };
    let other = "another certified step than the one that is known of its height";
    [(other, certified(2)), ("a certified step of a height where none is known", certified(1))]
}

/// A chain that is put together with one that is known.
fn put_together(cases: &mut Cases, sample: &Sample, known: &[ValidatorStep; 2]) {
    let whole = hex_of(encode_steps(known));
    let valid = cases.valid("of what is known of it", encode_steps(known));
    valid["validator_chain"] = whole.clone();
    let mut refused = |code: &str, change: &str, steps: &[ValidatorStep]| {
        let case = cases.refused(code, change, encode_steps(steps));
        case["validator_chain"] = whole.clone();
    };
    for (what, step) in forks(sample) {
        refused("STEP_FORK", what, slice::from_ref(&step));
        refused("STEP_FORK", &format!("{what}, and what is known"), &[step, known[1].clone()]);
    }
    let [first, second] = known;
    refused("STEP_ORDER", "a known step twice", &[first.clone(), first.clone()]);
    refused("STEP_ORDER", "known steps in another order", &[second.clone(), first.clone()]);
    let uncertified = ValidatorStep { certificate: second.certificate.clone(), ..first.clone() };
    refused("STEP_ORDER", "a known step that is not certified", &[uncertified]);
    let stranger = ValidatorStep { validators: second.validators.clone(), ..first.clone() };
    refused("STEP_ORDER", "a known step with others than it announced", &[stranger]);
    let at_genesis = ValidatorStep {
        header: sample.genesis.header(),
        validators: sample.validators(1),
        ..first.clone()
    };
    refused("STEP_ORDER", "a step at height 0 behind what is known", &[at_genesis]);
}

/// Validators that are exchanged at height 2, come back at height 3, and are exchanged again at height 5.
struct Back<'a> {
    sample: &'a Sample,
    steps: [ValidatorStep; 3],
}

impl<'a> Back<'a> {
    fn new(sample: &'a Sample) -> Self {
        let genesis = sample.validators(1);
        let from = |validators: &ValidatorSet, height| validators.clone().deciding_from(height);
        let (away, again) = (from(&sample.validators(3), 3), from(&genesis, 4));
        let last = from(&sample.validators(4), 6);
        let steps = [
            step(sample, 2, &genesis, [1, 2, 4], &away, away.hash()),
            step(sample, 3, &away, [5, 2, 4], &again, again.hash()),
            step(sample, 5, &again, [1, 2, 4], &last, last.hash()),
        ];
        Self { sample, steps }
    }

    fn cases(&self, cases: &mut Cases) {
        cases.valid("of a set that comes back", encode_steps(&self.steps));
        let mut refused = |code: &str, change: &str, steps: &[ValidatorStep]| {
            cases.refused(code, change, encode_steps(steps));
        };
        let [away, _, again] = &self.steps;
        let lacking = "a set that came back, without the steps between";
        refused("VALIDATOR_STEP_MISSING", lacking, slice::from_ref(again));
        let lacking = "a set that came back, without the step that brought it back";
        refused("VALIDATOR_STEP_MISSING", lacking, &[away.clone(), again.clone()]);
        let as_before = self.announcing(&self.sample.validators(1));
        let change = "a set that comes back under the hash that it had";
        refused("STEP_VALIDATORS", change, &[away.clone(), as_before]);
    }

    /// The step that brings them back, with the hash of others.
    fn announcing(&self, others: &ValidatorSet) -> ValidatorStep {
        let [away, returned, _] = &self.steps;
        let (by, next) = (&away.validators, &returned.validators);
        step(self.sample, 3, by, [5, 2, 4], next, others.hash())
    }
}

fn step(
    sample: &Sample,
    height: u64,
    by: &ValidatorSet,
    signers: [u8; 3],
    next: &ValidatorSet,
    announced: Hash,
) -> ValidatorStep {
    let header = Header {
        height,
        time_ms: sample.genesis.time_ms + height * 1000,
        validators_hash: by.hash(),
        next_validators_hash: announced,
        view: 1,
        ..sample.genesis.header()
    };
    let chain_id = sample.genesis.chain_id();
    let certificate = sample::certificate(&chain_id, by, &header, VoteKind::Finalize, signers);
    ValidatorStep { header, certificate, validators: next.clone() }
}

/// Bytes that are not a chain of steps.
fn encodings(cases: &mut Cases, bytes: &[u8], steps: &[ValidatorStep]) {
    let mut malformed = |change: &str, bytes: Vec<u8>| {
        cases.refused("STEP_MALFORMED", change, bytes);
    };
    let proto = steps[0].to_proto();
    let changed = |change: &dyn Fn(&mut v1::ValidatorStep)| {
        let mut step = proto.clone();
        change(&mut step);
        v1::ValidatorChain { steps: vec![step] }.encode_to_vec()
    };
    malformed("the last byte missing", bytes[..bytes.len() - 1].to_vec());
    malformed("a field more", [bytes, &[0x10, 1]].concat());
    malformed("a field of another number", [&[0x12], &bytes[1..]].concat());
    // A step's length has two bytes.
    let long = [&bytes[..2], &[bytes[2] | 0x80, 0], &bytes[3..]].concat();
    malformed("a length of more bytes than it needs", long);
    malformed("an empty step", vec![0x0a, 0]);
    malformed("a field more in a step", {
        let step = [proto.encode_to_vec(), vec![0x98, 0x06, 1]].concat();
        let length = [step.len() as u8 | 0x80, (step.len() >> 7) as u8];
        [&[0x0a][..], &length, &step].concat()
    });
    malformed("a header cut short", changed(&|s| s.header.truncate(305)));
    malformed("a certificate cut short", changed(&|s| s.certificate.truncate(60)));
    malformed("no validators", changed(&|s| s.validators.clear()));
    malformed("validators that are not sorted", changed(&|s| s.validators.reverse()));
    malformed("a validator twice", changed(&|s| s.validators.insert(0, s.validators[0].clone())));
    malformed("a validator of low order", changed(&|s| s.validators[0].public_key.fill(0)));
    malformed(
        "an agency in lower case",
        changed(&|s| s.validators[0].agency.make_ascii_lowercase()),
    );
}
