//! The proof of all sealed records about a subject, of chains made at random, against a scan of all slots.

use customhouse_proto::v1::subject::Scheme;
use proptest::prelude::*;
use prost::Message as _;

use super::{
    sealed::{code, node},
    *,
};
use crate::{
    agency::AgencyCode,
    agreement::{AgreementChange, EpochProposal},
    chain::{RecordPlace, SealedHistoryUnmade, SlotOutcome},
    proofs::{
        sealed_history::{AgencyHistory, ContradictedReceipt, Coverage, VerifiedSealedHistory},
        verifier::Verifier,
    },
    sealed_subject,
    transaction::{DedupeScope, EpochId, Slot, SlotForm},
    vrf::VrfSecretKey,
};

const DAY: u64 = 24 * 60 * 60 * 1000;

/// What is tried in a block. Numbers choose among what there is; what breaks a rule is in no block, or counts not.
#[derive(Clone, Debug)]
enum Step {
    /// The next epoch of one of three agreements, among these agencies and whoever has to stay.
    Agree {
        agreement: usize,
        parties: Vec<u8>,
    },
    Leave {
        agreement: usize,
        agency: u8,
    },
    Lodge {
        agency: u8,
        slots: Vec<NewSlot>,
    },
}

#[derive(Clone, Debug)]
struct NewSlot {
    agreement: usize,
    epoch: u32,
    /// Of the pool.
    subjects: BTreeSet<usize>,
    /// Whose keys it has, where they are another agency's or epoch's.
    copied: Option<(u8, u32)>,
    /// A grant of one of the records so far, instead of a record.
    granted: Option<usize>,
}

const POOL: usize = 4;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let parties = || prop::collection::btree_set(1_u8..=4, 1..4).prop_map(Vec::from_iter);
    let slot = (
        0_usize..3,
        1_u32..4,
        prop::collection::btree_set(0..POOL - 1, 0..3),
        prop::option::weighted(0.3, (1_u8..=4, 1_u32..4)),
        prop::option::weighted(0.3, 0_usize..20),
    )
        .prop_map(|(agreement, epoch, subjects, copied, granted)| NewSlot {
            agreement,
            epoch,
            subjects,
            copied,
            granted,
        });
    let slots = prop::collection::vec(slot, 1..5);
    let step = prop_oneof![
        3 => (0_usize..3, parties())
            .prop_map(|(agreement, parties)| Step::Agree { agreement, parties }),
        1 => (0_usize..3, 1_u8..=4)
            .prop_map(|(agreement, agency)| Step::Leave { agreement, agency }),
        6 => (1_u8..=4, slots).prop_map(|(agency, slots)| Step::Lodge { agency, slots }),
    ];
    prop::collection::vec(step, 1..24)
}

/// The last of the pool is never lodged.
fn subject(number: usize) -> v1::Subject {
    v1::Subject { scheme: Scheme::Mrn as i32, id: format!("26NL{number:014}") }
}

fn secret(agreement: usize, epoch: u32) -> VrfSecretKey {
    let seed = 10 + 60 * agreement as u8 + u8::try_from(epoch).expect("few");
    VrfSecretKey::from_seed(&[seed; 32])
}

struct Lodged {
    place: RecordPlace,
    slot: Slot,
}

/// A chain, and all slots that counted.
struct Grown {
    fixture: Fixture,
    chain: Chain,
    agreements: [Option<Hash>; 3],
    lodged: Vec<Lodged>,
    records: Vec<(u8, Hash)>,
    numbers: u64,
}

impl Grown {
    fn new() -> Self {
        let fixture = Fixture::new();
        let chain = fixture.open();
        let (lodged, records) = (Vec::new(), Vec::new());
        Self { fixture, chain, agreements: [None; 3], lodged, records, numbers: 0 }
    }

    fn take(&mut self, step: &Step) {
        let transaction = match step {
            Step::Agree { agreement, parties } => self.epoch(*agreement, parties),
            Step::Leave { agreement, agency } => {
                let known = self.agreements[*agreement];
                let reader = self.chain.reader().agreements();
                let Some(known) = known.and_then(|id| reader.get(&id).cloned()) else { return };
                let epoch = known.next_number() - 1;
                let leave = AgreementChange::Leave { agreement: known.id, epoch };
                self.fixture.changes(*agency, &leave)
            }
            Step::Lodge { agency, slots } => {
                let slots: Vec<_> =
                    slots.iter().filter_map(|new| self.slot(*agency, new)).collect();
                if slots.is_empty() {
                    return;
                }
                self.fixture.alone(*agency, &slots)
            }
        };
        let Candidate { staged, .. } = prepare(&self.chain, &[transaction]);
        let certificate = finalization(&self.chain, &staged.block().header);
        let block = self.chain.commit(staged, certificate).expect("committed");
        for (log_index, (transaction, outcomes)) in
            (block.header.log_start..).zip(block.transactions.iter().zip(&block.outcomes))
        {
            let agency = transaction.header().agency;
            let slots = transaction.slots().iter().zip(outcomes);
            for (position, (slot, outcome)) in (0..).zip(slots) {
                if *outcome == SlotOutcome::Applied {
                    let place = RecordPlace { log_index, position, agency };
                    self.lodged.push(Lodged { place, slot: slot.clone() });
                }
            }
        }
    }

    fn epoch(&mut self, agreement: usize, parties: &[u8]) -> Arc<VerifiedTransaction> {
        let known = self.agreements[agreement];
        let agreements = self.chain.reader().agreements();
        let known = known.and_then(|id| agreements.get(&id));
        let (number, changes) = known.map_or((1, 0), |known| (known.next_number(), known.changes));
        let mut all: BTreeSet<_> = parties.iter().map(|party| code(*party)).collect();
        if let Some(known) = known {
            let newest = known.newest();
            all.extend(newest.parties.iter().filter(|party| !newest.left.contains(party)));
        } else {
            // An agreement of one agency alone is its own.
            all.extend([code(1), code(2)]);
        }
        let (time_ms, chain_id) = (self.fixture.genesis.time_ms, self.fixture.genesis.chain_id());
        let proposal = EpochProposal::from_proto(v1::AgreementEpoch {
            agreement: known.map(|known| known.id.0.to_vec()).unwrap_or_default(),
            number,
            parties: all.iter().map(ToString::to_string).collect(),
            public_key: secret(agreement, number).public().as_bytes().to_vec(),
            from_ms: time_ms,
            until_ms: time_ms + 30 * DAY,
            terms_hash: vec![agreement as u8; 32],
            not_after_ms: time_ms + DAY,
            changes,
        });
        let proposal = proposal.expect("well-formed");
        let numbered = |agency: &AgencyCode| (1..=4).find(|n| code(*n) == *agency).expect("one");
        let approvals =
            all.iter().map(|party| proposal.approve(&chain_id, &node(numbered(party)))).collect();
        let lodges = numbered(all.first().expect("two"));
        let change = AgreementChange::epoch(proposal, approvals).expect("one of each");
        self.agreements[agreement] = Some(change.agreement());
        self.fixture.changes(lodges, &change)
    }

    fn slot(&mut self, agency: u8, new: &NewSlot) -> Option<Slot> {
        let under = EpochId { agreement: self.agreements[new.agreement]?, number: new.epoch };
        let (whose, epoch) = new.copied.unwrap_or((agency, new.epoch));
        let secret = secret(new.agreement, epoch);
        let key = |number: &usize| sealed_subject::key_of(&secret, &code(whose), &subject(*number));
        let keys: BTreeSet<_> = new.subjects.iter().map(|n| key(n).expect("a key")).collect();
        let subject_keys = Vec::from_iter(keys);
        let own: Vec<_> = self.records.iter().filter(|(owner, _)| *owner == agency).collect();
        if let (Some(number), false) = (new.granted, own.is_empty()) {
            let (_, record_id) = own[number % own.len()];
            return Some(Slot::grant(*record_id, under, subject_keys));
        }
        self.numbers += 1;
        let mut record_id = Hash([7; 32]);
        record_id.0[..8].copy_from_slice(&self.numbers.to_be_bytes());
        self.records.push((agency, record_id));
        Some(Slot {
            record_id,
            form: SlotForm::Sealed(under),
            subject_keys,
            dedupe_key: record_id,
            scope: DedupeScope::Agency,
        })
    }

    /// The pages of a proof, encoded; without the secret of one epoch, where one is named.
    fn pages(&self, agreement: usize, of: usize, without: u32, bytes_max: usize) -> Vec<Vec<u8>> {
        let secrets = |epoch| (epoch != without).then(|| secret(agreement, epoch));
        let reader = self.chain.reader();
        let id = self.agreements[agreement].expect("agreed");
        let pages = reader.sealed_history_pages(&id, &subject(of), secrets, bytes_max);
        pages.expect("made").map(|page| page.expect("readable").encode_to_vec()).collect()
    }

    /// The places of all slots of an agency in an epoch that have the key, by looking at every one.
    fn scanned(&self, under: EpochId, agency: &AgencyCode, key: &Hash) -> Vec<(u64, u32)> {
        let is_its = |lodged: &&Lodged| {
            lodged.place.agency == *agency
                && lodged.slot.form.epoch() == Some(under)
                && lodged.slot.subject_keys.contains(key)
        };
        let places = self.lodged.iter().filter(is_its);
        places.map(|lodged| (lodged.place.log_index, lodged.place.position)).collect()
    }

    /// The proof says of every agency and epoch what a scan finds, and nothing of an epoch without its secret.
    fn check(&self, agreement: usize, of: usize, without: u32, found: &VerifiedSealedHistory) {
        let id = self.agreements[agreement].expect("agreed");
        let agreements = self.chain.reader().agreements();
        let known = agreements.get(&id).expect("agreed");
        let mut pairs = Vec::new();
        for (number, epoch) in (1..).zip(&known.epochs) {
            for agency in &epoch.parties {
                pairs.push((number, *agency));
                let secret = secret(agreement, number);
                let key = sealed_subject::key_of(&secret, agency, &subject(of)).expect("a key");
                let under = EpochId { agreement: id, number };
                let scanned = self.scanned(under, agency, &key);
                let is_its = |h: &&AgencyHistory| (h.epoch, h.agency) == (number, *agency);
                let history = found.histories.iter().find(is_its).expect("named");
                match &history.coverage {
                    Coverage::NotShown => assert_eq!(number, without),
                    Coverage::Proven { subject_key, entries } => {
                        let places: Vec<_> =
                            entries.iter().map(|e| (e.log_index, e.position)).collect();
                        assert_eq!((subject_key, &places), (&key, &scanned), "{number} {agency}");
                    }
                    Coverage::PieceMissing { .. } => panic!("all pages were given"),
                }
            }
        }
        let named: Vec<_> = found.histories.iter().map(|h| (h.epoch, h.agency)).collect();
        assert_eq!(named, pairs);
        assert_eq!(found.is_complete(), !pairs.iter().any(|(number, _)| *number == without));
        assert_eq!(found.header, self.chain.tip().header);
    }

    /// Every slot's receipt is placed where the proof lists it.
    fn check_receipts(&self, found: &VerifiedSealedHistory) {
        let verifier = Verifier::new(&self.fixture.genesis);
        for lodged in &self.lodged {
            let receipts = self.chain.reader().receipts(&[lodged.place], 0).expect("readable");
            let receipt = verifier.verify_receipt(&receipts[0].encode_to_vec()).expect("genuine");
            let place = (lodged.place.log_index, lodged.place.position);
            let listed = found.slots().any(|(_, e)| (e.log_index, e.position) == place);
            let placed = found.place_of(&receipt).expect("no contradiction");
            assert_eq!(placed.map(|e| (e.log_index, e.position)), listed.then_some(place));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_proof_of_any_chain_lists_what_a_scan_of_all_slots_finds(
        steps in steps(),
        without in 0_u32..4,
        bytes_max in 0_usize..6000,
    ) {
        let mut grown = Grown::new();
        for step in &steps {
            grown.take(step);
        }
        let verifier = Verifier::new(&grown.fixture.genesis);
        let agreed = (0..3).filter(|n| {
            let id = grown.agreements[*n];
            id.is_some_and(|id| grown.chain.reader().agreements().get(&id).is_some())
        });
        for (agreement, of) in agreed.flat_map(|n| (0..POOL).map(move |of| (n, of))) {
            let pages = grown.pages(agreement, of, without, bytes_max);
            let found = verifier.verify_sealed_history_of(&subject(of), &pages);
            let found = found.expect("genuine");
            prop_assert!(found.pages_missing.is_empty() && found.has_last_page);
            grown.check(agreement, of, without, &found);
            grown.check_receipts(&found);
            // In any order, and in one page.
            let whole = grown.pages(agreement, of, without, usize::MAX);
            prop_assert_eq!(whole.len(), 1);
            for pages in [pages.iter().rev().collect::<Vec<_>>(), whole.iter().collect()] {
                let again = verifier.verify_sealed_history(&pages).expect("genuine");
                prop_assert_eq!(&again, &found);
            }
            // What a page that is missing had is covered by nobody, and nothing else is said otherwise.
            for left_out in 0..pages.len() {
                let others = (0..pages.len()).filter(|page| *page != left_out).map(|p| &pages[p]);
                let Ok(partial) = verifier.verify_sealed_history(others) else {
                    prop_assert_eq!(pages.len(), 1);
                    continue;
                };
                prop_assert!(!partial.pages_missing.is_empty() || !partial.has_last_page);
                for (history, whole) in partial.histories.iter().zip(&found.histories) {
                    prop_assert!(!history.is_proven() || history == whole);
                }
            }
        }
    }
}

/// Two agencies, two epochs, and three slots about the first subject.
fn small() -> Grown {
    let mut grown = Grown::new();
    let plain = |epoch, subjects: &[usize]| NewSlot {
        agreement: 0,
        epoch,
        subjects: subjects.iter().copied().collect(),
        copied: None,
        granted: None,
    };
    for step in [
        Step::Agree { agreement: 0, parties: vec![1, 2] },
        Step::Lodge { agency: 1, slots: vec![plain(1, &[0, 1]), plain(1, &[1])] },
        Step::Agree { agreement: 0, parties: vec![1, 2] },
        Step::Lodge { agency: 2, slots: vec![plain(2, &[0])] },
        Step::Lodge { agency: 1, slots: vec![plain(2, &[0])] },
    ] {
        grown.take(&step);
    }
    assert_eq!(grown.lodged.iter().filter(|l| l.slot.form != SlotForm::Open).count(), 4);
    grown
}

#[test]
fn a_copied_key_of_another_agency_or_epoch_hits_nothing() {
    let mut grown = small();
    let copy = |copied| NewSlot {
        agreement: 0,
        epoch: 1,
        subjects: BTreeSet::from([0]),
        copied: Some(copied),
        granted: None,
    };
    let before = grown.pages(0, 0, 0, usize::MAX);
    grown.take(&Step::Lodge { agency: 2, slots: vec![copy((1, 1)), copy((2, 2))] });
    assert_eq!(grown.lodged.len(), 8, "they count");
    let verifier = Verifier::new(&grown.fixture.genesis);
    let [before, after] = [before, grown.pages(0, 0, 0, usize::MAX)]
        .map(|pages| verifier.verify_sealed_history(pages).expect("genuine"));
    assert_eq!(before.histories, after.histories);
    assert_eq!(after.slots().count(), 3);
    grown.check(0, 0, 0, &after);
}

#[test]
fn the_answer_says_exactly_what_it_covers() {
    let grown = small();
    let verifier = Verifier::new(&grown.fixture.genesis);
    let id = grown.agreements[0].expect("agreed");
    let found = |without, bytes| {
        let pages = grown.pages(0, 0, without, bytes);
        verifier.verify_sealed_history(pages).expect("genuine")
    };
    let whole = found(0, usize::MAX);
    let height = whole.header.height;
    let covers = |which: &str, what: &str| {
        format!(
            "{which}, as asserted by the lodging agencies, for agreement {id}, {what}, at height {height}"
        )
    };
    assert_eq!(whole.covers(), covers("complete", "epochs 1 to 2, agencies A001, A002"));
    assert_eq!(whole.not_covered(), Vec::<String>::new());
    let partial = found(2, usize::MAX);
    assert_eq!(partial.covers(), covers("complete for these only", "epoch 1, agencies A001, A002"));
    let [named] = &partial.not_covered()[..] else { panic!("one") };
    assert!(named.starts_with("epoch 2, agencies A001, A002: no proof was given"), "{named}");
    let nothing = Grown::pages(&grown, 0, 0, 0, 0);
    let first = verifier.verify_sealed_history(&nothing[..1]).expect("genuine");
    assert!(!first.is_complete() && !first.has_last_page);
}

#[test]
fn a_receipt_that_contradicts_a_history_is_named() {
    let grown = small();
    let verifier = Verifier::new(&grown.fixture.genesis);
    let receipts: Vec<_> = grown.lodged.iter().map(|lodged| lodged.place).collect();
    let receipts = grown.chain.reader().receipts(&receipts, 0).expect("readable");
    let receipts: Vec<_> = receipts
        .iter()
        .map(|receipt| verifier.verify_receipt(&receipt.encode_to_vec()).expect("genuine"))
        .collect();
    let found = |of| verifier.verify_sealed_history(grown.pages(0, of, 0, usize::MAX)).expect("ok");
    let (mut withheld, mut invented) = (found(0), found(0));
    for (history, other) in invented.histories.iter_mut().zip(found(1).histories) {
        if let Coverage::Proven { entries, .. } = &mut history.coverage {
            entries.extend_from_slice(other.entries());
        }
    }
    for history in &mut withheld.histories {
        if let Coverage::Proven { entries, .. } = &mut history.coverage {
            entries.clear();
        }
    }
    let says = |history: &VerifiedSealedHistory| {
        receipts.iter().filter_map(|receipt| history.place_of(receipt).err()).collect::<Vec<_>>()
    };
    assert_eq!(says(&found(0)), []);
    assert_eq!(says(&withheld), [ContradictedReceipt::NotListed; 3]);
    assert_eq!(says(&invented), [ContradictedReceipt::WithoutKey]);
}

#[test]
fn a_proof_that_cannot_be_made_says_why() {
    let grown = small();
    let (reader, id) = (grown.chain.reader(), grown.agreements[0].expect("agreed"));
    let secrets = |epoch| Some(secret(0, epoch));
    let made = |id: &Hash, subject: &v1::Subject, secrets: &dyn Fn(u32) -> Option<VrfSecretKey>| {
        reader.sealed_history_proof(id, subject, secrets).map(|page| page.histories.len())
    };
    assert_eq!(made(&id, &subject(0), &secrets), Ok(4));
    assert_eq!(made(&id, &subject(0), &|_| None), Ok(0));
    let unknown = Hash([1; 32]);
    let refused = Err(SealedHistoryUnmade::Agreement(unknown));
    assert_eq!(made(&unknown, &subject(0), &secrets), refused);
    let other = |epoch| Some(secret(1, epoch));
    assert_eq!(made(&id, &subject(0), &other), Err(SealedHistoryUnmade::Secret(1)));
    let spelt = v1::Subject { id: "26nl".into(), ..subject(0) };
    let Err(SealedHistoryUnmade::Subject(error)) = made(&id, &spelt, &secrets) else {
        panic!("refused")
    };
    assert_eq!(error.code(), "VRF_SUBJECT");
}
