//! Guesses at a sealed record, by a member that is no party: it has every byte that the chain has of it, and 10,000
//! candidates, one of which is what the record says but for its salt. Each named attack does no better than chance, and
//! each finds the record where the weakness is planted that it is there for.

use customhouse_ledger::{
    agency::AgencyCode,
    hash::{Hash, Tag},
    record::{ValidRecord, dedupe_key, field_tree, subject_keys, subjects},
    sealed_subject,
    transaction::{DedupeScope, EpochId, Slot, SlotForm},
    vrf::VrfSecretKey,
};
use customhouse_proto::v1::{self, record::Body};
use prost::Message as _;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

const CANDIDATES: usize = 10_000;
const SUBMITTER: &str = "broker";

/// A weakness that is planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weakness {
    None,
    /// Subject keys are hashes that anybody computes.
    PlainSubjectKeys,
    /// The salt follows from what the record says.
    DerivedSalt,
    /// The dedupe key is a hash of submitter and key.
    PlainDedupeKey,
    /// The slot has as many bytes as the record.
    Padded,
    /// The salt is among the leaves, and so comes with all fields that are shown.
    SaltAsLeaf,
}

/// What the non-party has.
struct Known {
    /// All bytes of the slot.
    slot: Vec<u8>,
    /// All keys that the history has it under.
    index_keys: Vec<Hash>,
    /// Where fields are shown to it: the leaves, with their salts.
    leaves: Vec<u8>,
}

fn agency() -> AgencyCode {
    "NL-DOUANE".parse().expect("a code")
}

fn epoch() -> EpochId {
    EpochId { agreement: Hash([4; 32]), number: 1 }
}

/// What a record may say, under a zero salt.
fn candidate(number: usize) -> v1::Record {
    let declaration = v1::Declaration {
        regime: 1,
        mrn: format!("26NL{number:014}"),
        reference: "X".repeat(1 + number % 7),
        ..Default::default()
    };
    v1::Record {
        salt: vec![0; 32],
        agency: agency().to_string(),
        submitter: SUBMITTER.into(),
        submitter_role: v1::Role::Broker as i32,
        submitter_certificate: vec![6; 32],
        body: Some(Body::Declaration(declaration)),
        ..Default::default()
    }
}

fn client_key(number: usize) -> String {
    format!("order {number}")
}

fn derived_salt(record: &v1::Record) -> Vec<u8> {
    Tag::RECORD
        .hash(&[&v1::Record { salt: Vec::new(), ..record.clone() }.encode_to_vec()])
        .0
        .to_vec()
}

fn root(record: &v1::Record) -> Hash {
    field_tree::record_id(&record.encode_to_vec(), &record.salt).expect("leaves")
}

/// The slot of a record as a node makes it, with a weakness or without, and what is shown of it.
fn lodge(number: usize, weakness: Weakness, random: &mut ChaCha8Rng) -> Known {
    let mut record = candidate(number);
    record.salt = match weakness {
        Weakness::DerivedSalt => derived_salt(&record),
        _ => random.random::<[u8; 32]>().to_vec(),
    };
    let valid = ValidRecord::from_record(record.clone()).expect("valid");
    let secret = VrfSecretKey::from_seed(&random.random());
    let sealed = |subject: &v1::Subject| sealed_subject::key_of(&secret, &agency(), subject);
    let mut keys: Vec<_> = match weakness {
        Weakness::PlainSubjectKeys => subject_keys(&record),
        _ => subjects(&record).iter().map(|s| sealed(s).expect("a key")).collect(),
    };
    keys.sort_unstable();
    let slot = Slot {
        record_id: valid.id,
        form: SlotForm::Sealed(epoch()),
        subject_keys: keys,
        dedupe_key: match weakness {
            Weakness::PlainDedupeKey => dedupe_key(&agency(), SUBMITTER, &client_key(number)),
            // An HMAC under a secret of the agency is to others as random as this.
            _ => Hash(random.random()),
        },
        scope: DedupeScope::Agency,
    };
    let mut bytes = slot.encode();
    if weakness == Weakness::Padded {
        bytes.resize(valid.bytes.len() + 200, 0);
    }
    let mut leaves = Vec::new();
    let show = |path: &[u8], value: &[u8]| {
        leaves.extend(field_tree::leaf_salt_of(&record.salt, path));
        leaves.extend(path);
        leaves.extend(value);
    };
    show_all(&record, show);
    if weakness == Weakness::SaltAsLeaf {
        leaves.extend(&record.salt);
    }
    Known { slot: bytes, index_keys: slot.index_keys(&agency()), leaves }
}

/// All leaves of a record, as the tree has them.
fn show_all(record: &v1::Record, mut show: impl FnMut(&[u8], &[u8])) {
    let shown = field_tree::walk(&record.encode_to_vec(), &mut |path, _, value| {
        show(path, value);
        Ok::<_, field_tree::FieldTreeError>(())
    });
    shown.expect("leaves");
}

fn has(bytes: &[u8], word: &[u8]) -> bool {
    bytes.windows(word.len()).any(|window| window == word)
}

/// An attack: what of the candidates fits what is known.
type Attack = fn(&Known, usize) -> bool;

/// Each attack, with the weakness that it is there for.
const ATTACKS: [(&str, Attack, Weakness); 6] = [
    (
        "record id without salt, or with one that follows from the record",
        record_id,
        Weakness::DerivedSalt,
    ),
    ("subject keys", subject, Weakness::PlainSubjectKeys),
    ("dedupe key", dedupe, Weakness::PlainDedupeKey),
    ("size of the slot", size, Weakness::Padded),
    ("salt among what is shown", salt_shown, Weakness::SaltAsLeaf),
    ("leaf count", leaf_count, Weakness::None),
];

fn record_id(known: &Known, number: usize) -> bool {
    let plain = candidate(number);
    let derived = v1::Record { salt: derived_salt(&plain), ..plain.clone() };
    [plain, derived].iter().any(|guess| has(&known.slot, &root(guess).0))
}

fn subject(known: &Known, number: usize) -> bool {
    let keys = subject_keys(&candidate(number));
    let indexed: Vec<_> = keys.iter().map(|key| epoch().index_key(&agency(), key)).collect();
    keys.iter().any(|key| has(&known.slot, &key.0))
        || indexed.iter().chain(&keys).any(|key| known.index_keys.contains(key))
}

fn dedupe(known: &Known, number: usize) -> bool {
    has(&known.slot, &dedupe_key(&agency(), SUBMITTER, &client_key(number)).0)
}

fn size(known: &Known, number: usize) -> bool {
    known.slot.len()
        == ValidRecord::from_record(candidate(number)).expect("valid").bytes.len() + 200
}

/// Whether a salt that is shown opens the id: then the fields that are not shown can be guessed.
fn salt_shown(known: &Known, number: usize) -> bool {
    let ends_with_salt = known.leaves.len().checked_sub(32).map(|at| known.leaves[at..].to_vec());
    let guess = ends_with_salt.map(|salt| v1::Record { salt, ..candidate(number) });
    guess.is_some_and(|guess| has(&known.slot, &root(&guess).0))
}

/// The number of leaves is hashed into the id, and stands nowhere.
fn leaf_count(known: &Known, number: usize) -> bool {
    let mut count = 0_u32;
    show_all(&candidate(number), |_, _| count += 1);
    has(&known.slot, &count.to_be_bytes()) && has(&known.slot, &count.to_le_bytes())
}

/// Which candidates an attack takes for the record.
fn taken(attack: Attack, known: &Known) -> Vec<usize> {
    (0..CANDIDATES).filter(|number| attack(known, *number)).collect()
}

#[test]
fn who_is_no_party_guesses_no_better_than_chance() {
    let seed: u64 = rand::random();
    eprintln!("seed {seed}");
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let secret = random.random_range(0..CANDIDATES);
    let known = lodge(secret, Weakness::None, &mut random);
    for (name, attack, _) in ATTACKS {
        let taken = taken(attack, &known);
        // What takes all or none says nothing.
        let says_nothing = taken.is_empty() || taken.len() == CANDIDATES;
        assert!(says_nothing, "{name}: {} candidates are left of {CANDIDATES}", taken.len());
    }
}

#[test]
fn each_attack_finds_the_weakness_that_it_is_there_for() {
    let seed: u64 = rand::random();
    eprintln!("seed {seed}");
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    for (name, attack, weakness) in ATTACKS {
        if weakness == Weakness::None {
            continue;
        }
        let secret = random.random_range(0..CANDIDATES);
        let taken = taken(attack, &lodge(secret, weakness, &mut random));
        let found = taken.contains(&secret) && taken.len() < CANDIDATES;
        assert!(found, "{name}: {weakness:?} is not found: {} candidates", taken.len());
    }
}
