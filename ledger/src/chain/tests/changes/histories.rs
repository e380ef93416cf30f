//! Whole histories of changes, made at random, and what everybody reads out of them afterwards.

use proptest::prelude::*;

use super::*;
use crate::{
    finality::validators::ValidatorSet,
    registry::{Registry, parameters::Parameters},
};

/// What is tried at a height. Numbers choose among what there is.
#[derive(Clone, Debug)]
enum Step {
    /// An agency joins and gets its vote, unless one of this code is there.
    Join(u8),
    /// Its validator's key, or the one that it signs with, is exchanged for a new one, or ends.
    Exchange { agency: u8, votes: bool, ends: bool },
    /// The heartbeat is set, or has its default again.
    Set(Option<u64>),
    /// Records of whoever signs.
    Records,
    /// The chain is opened again.
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => (5_u8..8).prop_map(Step::Join),
        4 => (1_u8..8, any::<bool>(), any::<bool>())
            .prop_map(|(agency, votes, ends)| Step::Exchange { agency, votes, ends }),
        2 => prop::option::of(1000_u64..2000).prop_map(Step::Set),
        2 => Just(Step::Records),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..24)
}

/// A chain, and what was seen of it at each height.
struct History {
    fixture: Fixture,
    chain: Option<Chain>,
    /// The registry after each height, and its validators and parameters of the next.
    seen: Vec<(Hash, ValidatorSet, Parameters)>,
    records: Vec<Hash>,
    /// Seed of the next key. The peer and signing keys of agencies have seeds above 64 and 128.
    seed: u8,
}

impl History {
    fn new() -> Self {
        let fixture = Fixture::new();
        let chain = fixture.open();
        let mut history =
            Self { fixture, chain: Some(chain), seen: vec![], records: vec![], seed: 10 };
        history.see();
        history
    }

    fn chain(&self) -> &Chain {
        self.chain.as_ref().expect("open")
    }

    fn see(&mut self) {
        let tip = self.chain().tip();
        assert_eq!(tip.registry.root_without_agreements(), tip.header.registry_root);
        assert_eq!(tip.validators.hash(), tip.header.next_validators_hash);
        self.seen.push((
            tip.registry.root_without_agreements(),
            tip.validators.clone(),
            tip.parameters,
        ));
    }

    fn commit(&mut self, transaction: Arc<VerifiedTransaction>) {
        let before = self.chain().tip();
        let chain = self.chain.as_mut().expect("open");
        let prepared = prepare(chain, slice::from_ref(&transaction));
        // A voter comes to the same block.
        let block = prepared.staged.block().clone();
        let voted = chain.validate(&block, slice::from_ref(&transaction)).expect("readable");
        assert_eq!(voted.expect("valid").block(), &block);
        let committed = commit(chain, &[transaction]);
        let tip = chain.tip();
        let [old, new] = [&before.validators, &tip.validators];
        let lost = |a: &ValidatorSet, b: &ValidatorSet| {
            let gone = a.as_slice().iter().filter(|v| !b.as_slice().contains(v));
            gone.map(|v| v.agency).collect::<BTreeSet<_>>()
        };
        let changed: BTreeSet<_> = lost(old, new).union(&lost(new, old)).copied().collect();
        assert!(changed.len() <= 1, "{changed:?}");
        assert_eq!(committed.header.validators_hash, old.hash());
        self.see();
    }

    fn fresh(&mut self) -> u8 {
        let seed = self.seed;
        let is_taken = |seed: &u8| (64..=72).contains(seed) || (128..=136).contains(seed);
        self.seed = (seed + 1..).find(|seed| !is_taken(seed)).expect("short histories");
        seed
    }

    /// The open entry of an agency's validator's or signing key.
    fn open_entry(&self, agency: u8, votes: bool) -> Option<v1::RegistryEntry> {
        let (tip, name) = (self.chain().tip(), name(agency));
        let is_it = |entry: &&v1::RegistryEntry| match &entry.entry {
            Some(Entry::Validator(own)) => votes && own.agency == name,
            Some(Entry::SigningKey(own)) => !votes && own.agency == name,
            _ => false,
        };
        tip.registry.entries().find(|e| e.end_height == 0 && is_it(e)).cloned()
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Join(code) => {
                let known = has_agency(&self.chain().tip().registry, code);
                if !known {
                    let joined = change(self.chain(), &agency(code), &[]);
                    self.commit(joined);
                }
                if self.open_entry(code, true).is_none() {
                    let seed = self.fresh();
                    let vote = change(self.chain(), &[validator(code, seed)], &[]);
                    self.commit(vote);
                }
            }
            Step::Exchange { agency, votes, ends } => {
                // Agency 1 submits all changes; somebody must go on voting.
                let last = votes && ends && self.chain().tip().validators.count() == 1;
                let Some(ended) = self.open_entry(agency, votes) else { return };
                if last || (agency == 1 && !votes) {
                    return;
                }
                let seed = self.fresh();
                let new = if votes { validator(agency, seed) } else { signing_key(agency, seed) };
                let added = if ends { vec![] } else { vec![new] };
                let exchange = change(self.chain(), &added, slice::from_ref(&ended));
                self.commit(Arc::clone(&exchange));
                let replayed = exchange.registry_change().expect("it is one");
                let replayed = submitted(self.chain(), replayed);
                assert_eq!(refused(self.chain(), replayed).code(), "REGISTRY_ROOT");
            }
            Step::Set(value) => {
                let tip = self.chain().tip();
                let ended: Vec<_> = open_heartbeat(&tip.registry).into_iter().collect();
                let added: Vec<_> = value.map(heartbeat).into_iter().collect();
                if added.is_empty() && ended.is_empty() {
                    return;
                }
                let set = change(self.chain(), &added, &ended);
                self.commit(set);
                let default = Parameters::default().heartbeat_ms;
                let in_force = self.chain().tip().parameters.heartbeat_ms;
                assert_eq!(in_force, value.unwrap_or(default));
            }
            Step::Records => {
                let number = self.seen.len() as u64;
                let transaction = self.fixture.transaction(1, number..number + 1);
                self.records.push(transaction.slots()[0].record_id);
                self.commit(transaction);
            }
            Step::Reopen => {
                let before = self.chain().tip();
                self.chain = None;
                self.chain = Some(self.fixture.open());
                assert_eq!(self.chain().tip(), before);
            }
        }
    }

    /// All that was seen is still read, and proven to anyone who has the genesis and the steps.
    fn check(&self) {
        let reader = self.chain().reader();
        let mut verifier = Verifier::new(&self.fixture.genesis);
        let steps = reader.validator_changes(0, usize::MAX).expect("readable");
        let steps = steps.iter().map(|step| step.to_proto()).collect();
        let steps = v1::ValidatorChain { steps };
        verifier.follow_encoded(&steps.encode_to_vec()).expect("genuine");
        for (height, (root, next, parameters)) in (0..).zip(&self.seen) {
            let at = reader.registry().parameters_at(height + 1);
            assert_eq!(at.as_ref(), Ok(parameters), "after {height}");
            assert_eq!(
                reader.registry().as_of(height).root_without_agreements(),
                *root,
                "after {height}"
            );
            assert_eq!(reader.validators_at(height + 1).as_ref(), Some(next), "after {height}");
            assert_eq!(verifier.validators_at(height + 1), next, "after {height}");
        }
        for record in &self.records {
            let receipt = reader.receipt(record).expect("readable").expect("committed");
            verifier.verify_receipt(&receipt.encode_to_vec()).expect("genuine");
        }
    }
}

fn has_agency(registry: &Registry, code: u8) -> bool {
    let name = name(code);
    registry.entries().any(|e| matches!(&e.entry, Some(Entry::Agency(own)) if own.agency == name))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_was_seen_at_a_height_is_read_and_proven_ever_after(steps in steps()) {
        let mut history = History::new();
        for step in &steps {
            history.take(step);
        }
        history.check();
    }
}

#[test]
fn an_encoded_chain_of_steps_is_followed_step_by_step_and_has_one_encoding() {
    let fixture = Fixture::new();
    let mut chain = fixture.open();
    join(&mut chain);
    let steps = chain.reader().validator_changes(0, 10).expect("readable");
    let steps = steps.iter().map(|step| step.to_proto()).collect();
    let bytes = v1::ValidatorChain { steps }.encode_to_vec();
    let follow = |bytes: &[u8]| {
        let mut verifier = Verifier::new(&fixture.genesis);
        verifier.follow_encoded(bytes).map(|()| verifier.validators().count())
    };
    assert_eq!(follow(&bytes), Ok(5));
    assert_eq!(follow(&[]), Ok(4), "no change yet");
    let twice = follow(&[&bytes[..], &bytes].concat());
    assert_eq!(twice.expect_err("not ascending").code(), "STEP_ORDER");
    let length = bytes.len() - 3;
    assert_eq!(prost::length_delimiter_len(length), 2, "after the tag");
    let long = [&bytes[..2], &[bytes[2] | 0x80, 0], &bytes[3..]].concat();
    let other_field = [&[0x12], &bytes[1..]].concat();
    let unknown_field = [&bytes[..], &[0x10, 1]].concat();
    // Decoded as a message, each pair of bytes would take some 70.
    let empty_steps = [10, 0].repeat(1 << 20);
    let large_step = [&[10, 0x80, 0x80, 8][..], &vec![0; 1 << 17]].concat();
    let cut = (1..bytes.len()).map(|length| bytes[..length].to_vec());
    let wrong = [long, other_field, unknown_field, empty_steps, large_step];
    for wrong in cut.chain(wrong) {
        assert_eq!(follow(&wrong).expect_err("refused").code(), "STEP_MALFORMED");
    }
}
