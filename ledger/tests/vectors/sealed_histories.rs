//! Proofs of all sealed records about a subject, and the same changed in one thing. They are of blocks that never were,
//! signed all through: the sample's chain has no sealed records.

use std::slice;

use customhouse_ledger::{
    agreement::{Agreements, own_id},
    finality::{header::Header, vote::VoteKind},
    hash::Hash,
    history::{HistoryEntry, HistoryTree, bucket_of},
    limits::SEALED_HISTORY_PROOF_BYTES_MAX,
    merkle::{Tree, path_bytes},
    proofs::{
        sealed_history::{AgencyHistory, Coverage, VerifiedSealedHistory},
        verifier::Verifier,
    },
    registry::{self, genesis::Genesis},
    sealed_subject,
    transaction::{DedupeScope, EpochId, NewSlot, Slot, SlotForm, VerifiedTransaction, outcome},
    vrf::VrfSecretKey,
};
use customhouse_proto::v1::{self, subject::Scheme};
use prost::Message as _;
use serde_json::{Value, json};

use super::{
    agreements::{self, code as agency_of, node},
    cases::{Cases, Given, with_cases},
    damage, hex_of,
    outcome::pages,
    sample::{NOT_AFTER_MS, Sample, applied},
    sealed_faults,
};

const BE: &str = "BE-DOUANE";
pub(crate) const DE: &str = "DE-ZOLL";
pub(crate) const NL: &str = "NL-DOUANE";
/// Entries that were lodged to make one bucket longer.
const AIMED: u8 = 5;

pub(crate) fn mrn(number: u8) -> v1::Subject {
    v1::Subject { scheme: Scheme::Mrn as i32, id: format!("24NL{number:014}") }
}

/// The secret of an epoch, whose public key the agreement's vectors have.
pub(crate) fn secret(epoch: u32) -> VrfSecretKey {
    VrfSecretKey::from_seed(&[200 + epoch as u8; 32])
}

fn subject_key(epoch: u32, agency: &str, subject: &v1::Subject) -> Hash {
    sealed_subject::key_of(&secret(epoch), &agency_of(agency), subject).expect("a subject")
}

/// A block with sealed records under an agreement of two epochs.
pub(crate) struct SealedBlock<'a> {
    pub(crate) sample: &'a Sample,
    pub(crate) agreement: Hash,
    pub(crate) agreements: Agreements,
    transactions: Vec<VerifiedTransaction>,
    entries: Vec<HistoryEntry>,
    history: HistoryTree,
    pub(crate) header: Header,
}

/// What is lodged, by whom. The third of NL's slots has the key that BE has the subject under.
fn lodged(agreement: Hash, bits: u32) -> Vec<(&'static str, Vec<Slot>)> {
    let under = |number| EpochId { agreement, number };
    let sealed = |number: u8, epoch, mut subject_keys: Vec<Hash>| {
        subject_keys.sort_unstable();
        let (record_id, dedupe_key) = (Hash([number; 32]), Hash([0x80 | number; 32]));
        let (form, scope) = (SlotForm::Sealed(under(epoch)), DedupeScope::Agency);
        Slot { record_id, form, subject_keys, dedupe_key, scope }
    };
    let key = subject_key;
    let first = vec![
        sealed(1, 1, vec![key(1, NL, &mrn(1)), key(1, NL, &mrn(2))]),
        sealed(2, 1, vec![key(1, NL, &mrn(2))]),
        sealed(3, 1, vec![key(1, BE, &mrn(1))]),
    ];
    // Whoever lodges can make keys that fall into a bucket.
    let bucket = bucket_of(&under(1).index_key(&agency_of(NL), &key(1, NL, &mrn(1))), bits);
    let is_there = |key: &Hash| bucket_of(&under(2).index_key(&agency_of(BE), key), bits) == bucket;
    let tried = (0_u64..).map(|n| Hash([n.to_be_bytes(); 4].concat().try_into().expect("32")));
    let aimed = tried.filter(is_there).take(AIMED.into()).collect();
    let granted = Slot::grant(Hash([1; 32]), under(2), vec![key(2, NL, &mrn(1))]);
    vec![
        (NL, first),
        (BE, vec![sealed(4, 2, vec![key(2, BE, &mrn(1))]), sealed(5, 2, aimed)]),
        (NL, vec![granted]),
    ]
}

impl<'a> SealedBlock<'a> {
    /// At a height of the sample's, 1 to 4.
    pub(crate) fn new(sample: &'a Sample, height: usize) -> Self {
        let agreements = agreements::after(sample, 3);
        let agreement = agreements::first(sample).agreement();
        let (genesis, bits) = (&sample.genesis, sample.genesis.history_bits);
        let signed = |(agency, slots): (&str, Vec<Slot>)| {
            let slots: Vec<_> = slots.into_iter().map(NewSlot::Alone).collect();
            let (chain_id, key) = (genesis.chain_id(), node(agency));
            VerifiedTransaction::sign_slots(
                &slots,
                agency_of(agency),
                NOT_AFTER_MS,
                &chain_id,
                &key,
            )
            .expect("valid")
        };
        let transactions: Vec<_> = lodged(agreement, bits).into_iter().map(signed).collect();
        let mut entries = Vec::new();
        for (log_index, transaction) in (0..).zip(&transactions) {
            for (position, slot) in (0..).zip(transaction.slots()) {
                let keys = slot.index_keys(&transaction.header().agency);
                entries.extend(keys.into_iter().map(|key| HistoryEntry {
                    key,
                    log_index,
                    position,
                }));
            }
        }
        let mut history = HistoryTree::empty(bits);
        history.commit(&history.stage(&entries));
        let log = log_of(&transactions);
        let outcomes: Vec<_> = transactions.iter().map(applied).collect();
        let head = sample.head(height);
        let header = Header {
            log_start: 0,
            log_size: log.size(),
            log_root: log.root(),
            history_size: log.size(),
            history_root: history.root(),
            registry_root: registry::root(&head.registry.members_root(), &agreements.root()),
            outcomes_root: outcome::block_root(outcomes.iter().map(Vec::as_slice)),
            ..head.block.header.clone()
        };
        Self { sample, agreement, agreements, transactions, entries, history, header }
    }

    /// The published proof.
    pub(crate) fn proof_of_first(&self) -> v1::SealedHistoryProof {
        self.proof(&mrn(1))
    }

    /// The proof about a subject, in one page.
    fn proof(&self, subject: &v1::Subject) -> v1::SealedHistoryProof {
        let pairs = [(1, BE), (1, NL), (2, BE), (2, DE), (2, NL)];
        let histories = pairs.map(|(epoch, agency)| self.history(epoch, agency, subject)).to_vec();
        v1::SealedHistoryProof { histories, ..self.page(subject, 1) }
    }

    /// A page that is the last, without histories.
    fn page(&self, subject: &v1::Subject, number: u32) -> v1::SealedHistoryProof {
        let shown = self.agreements.prove(&self.agreement).expect("in the tree");
        let members = self.sample.head(self.header.height as usize).registry.members_root();
        v1::SealedHistoryProof {
            agreement_entry: shown.entry,
            agreement_index: shown.index,
            agreement_count: shown.count,
            agreement_path: path_bytes(&shown.path),
            agreements_head: shown.head.0.to_vec(),
            members_root: members.0.to_vec(),
            header: self.header.encode(),
            certificate: self.certificate(),
            subject_scheme: subject.scheme as u32,
            subject_id: subject.id.clone(),
            page: number,
            page_count: number,
            histories: Vec::new(),
        }
    }

    fn certificate(&self) -> Vec<u8> {
        self.sample.certificate(&self.header, VoteKind::Finalize).encode()
    }

    fn history(&self, epoch: u32, agency: &str, subject: &v1::Subject) -> v1::SealedHistory {
        let key = subject_key(epoch, agency, subject);
        let proof = sealed_subject::prove(&secret(epoch), &agency_of(agency), subject);
        self.of_key(epoch, agency, &key, proof.expect("a subject").to_bytes().to_vec())
    }

    /// The whole bucket of a subject key, whatever proves that.
    pub(crate) fn of_key(
        &self,
        epoch: u32,
        agency: &str,
        key: &Hash,
        vrf_proof: Vec<u8>,
    ) -> v1::SealedHistory {
        let bits = self.sample.genesis.history_bits;
        let under = EpochId { agreement: self.agreement, number: epoch };
        let bucket = bucket_of(&under.index_key(&agency_of(agency), key), bits);
        let entries = self.entries.iter().filter(|entry| bucket_of(&entry.key, bits) == bucket);
        v1::SealedHistory {
            epoch,
            agency: agency.to_owned(),
            vrf_proof,
            from_entry: 0,
            head_before: Vec::new(),
            bucket_entries: entries.flat_map(HistoryEntry::encode).collect(),
            path: path_bytes(&self.history.path(bucket)),
            head_after: Vec::new(),
        }
    }

    /// The receipt of a slot.
    fn receipt(&self, log_index: usize, position: usize) -> v1::Receipt {
        let transaction = &self.transactions[log_index];
        let (parts, place) = (transaction.parts(), log_index as u64);
        let registry = &self.sample.head(self.header.height as usize).registry;
        let signer = registry.prove_signer(&transaction.header().signer).expect("registered");
        let roots: Vec<_> =
            self.transactions.iter().map(|t| outcome::slot_root(&applied(t))).collect();
        let path = |tree: &Tree, index| path_bytes(&tree.inclusion_path(index).expect("a leaf"));
        v1::Receipt {
            slot: parts.slots[position].to_vec(),
            slot_index: position as u32,
            slot_path: path(&Tree::of(&parts.slots), position as u64),
            transaction_header: parts.header.to_vec(),
            transaction_signature: parts.signature.to_vec(),
            log_index: place,
            log_path: path(&log_of(&self.transactions), place),
            header: self.header.encode(),
            certificate: self.certificate(),
            registry_entry: signer.entry,
            registry_index: signer.index,
            registry_count: signer.count,
            registry_path: path_bytes(&signer.path),
            agreements_root: self.agreements.root().0.to_vec(),
            outcome_path: path(&outcome::slot_tree(&applied(transaction)), position as u64),
            outcomes_path: path(&outcome::block_tree(&roots), place),
            ..Default::default()
        }
    }
}

fn log_of(transactions: &[VerifiedTransaction]) -> Tree {
    Tree::new(transactions.iter().map(VerifiedTransaction::leaf_hash).collect())
}

/// A bucket in pieces of so many entries.
pub(crate) fn in_pieces(whole: &v1::SealedHistory, count: usize) -> Vec<v1::SealedHistory> {
    let entries = whole.bucket_entries.chunks(count * HistoryEntry::LENGTH);
    let (mut pieces, mut head): (Vec<v1::SealedHistory>, _) = (Vec::new(), Hash::ZERO);
    for entries in entries {
        let read = entries.chunks(HistoryEntry::LENGTH).map(HistoryEntry::decode);
        let after = read.fold(head, |head, entry| entry.expect("an entry").chain(&head));
        let is_first = pieces.is_empty();
        pieces.push(v1::SealedHistory {
            from_entry: (pieces.len() * count) as u64,
            head_before: if is_first { Vec::new() } else { head.0.to_vec() },
            bucket_entries: entries.to_vec(),
            path: Vec::new(),
            head_after: after.0.to_vec(),
            ..whole.clone()
        });
        head = after;
    }
    let last = pieces.last_mut().expect("entries");
    (last.path, last.head_after) = (whole.path.clone(), Vec::new());
    pieces
}

/// Each page with its length before it.
fn joined(pages: &[v1::SealedHistoryProof]) -> Vec<u8> {
    let page = |page: &v1::SealedHistoryProof| {
        let bytes = page.encode_to_vec();
        [&(bytes.len() as u32).to_be_bytes()[..], &bytes].concat()
    };
    pages.iter().flat_map(page).collect()
}

/// What a proof comes to, as the vectors say it.
fn answer(history: &VerifiedSealedHistory) -> Value {
    let places = |entries: &[HistoryEntry]| -> Value {
        entries.iter().map(|entry| json!([entry.log_index, entry.position])).collect()
    };
    let of = |history: &AgencyHistory| {
        let (key, slots, missing) = match &history.coverage {
            Coverage::Proven { subject_key, entries } => {
                (json!(subject_key), places(entries), Value::Null)
            }
            Coverage::NotShown => (Value::Null, Value::Null, Value::Null),
            Coverage::PieceMissing { from_entry } => (Value::Null, Value::Null, json!(from_entry)),
        };
        json!({
            "epoch": history.epoch,
            "agency": history.agency,
            "subject_key": key,
            "slots": slots,
            "missing_from_entry": missing,
        })
    };
    json!({
        "height": history.header.height,
        "agreement": history.agreement,
        "scheme": history.subject.scheme,
        "id": history.subject.id,
        "complete": history.is_complete(),
        "histories": history.histories.iter().map(of).collect::<Vec<_>>(),
        "pages_missing": history.pages_missing,
        "has_last_page": history.has_last_page,
    })
}

fn verified(verifier: &Verifier, structure: &str, bytes: &[u8]) -> VerifiedSealedHistory {
    let given = if structure == "sealed_history_pages" { pages(bytes) } else { Some(vec![bytes]) };
    verifier.verify_sealed_history(given.expect("pages")).expect("genuine")
}

pub(crate) fn sealed_history_proof(sample: &Sample) -> Value {
    let block = SealedBlock::new(sample, 1);
    let mut cases = Cases::new("sealed_history_proof");
    valid(&mut cases, &block);
    let genuine = block.proof(&mrn(1));
    let bytes = genuine.encode_to_vec();
    let large = Given::Zeros(SEALED_HISTORY_PROOF_BYTES_MAX + 1);
    cases.refused("SEALED_HISTORY_TOO_LARGE", "too many bytes", large);
    damage::encoding(&mut cases, &bytes, "SEALED_HISTORY");
    sealed_faults::refused(&mut cases, &block);
    let file = json!({
        "epoch_seeds": { "1": hex_of([201; 32]), "2": hex_of([202; 32]) },
        "agreement": block.agreement,
        "proof": hex_of(&bytes),
        "receipt": hex_of(block.receipt(0, 0).encode_to_vec()),
        "receipt_of_the_grant": hex_of(block.receipt(2, 0).encode_to_vec()),
        "receipt_of_the_copied_key": hex_of(block.receipt(0, 2).encode_to_vec()),
    });
    with_cases(file, [cases, of_pages(&block), asked_for(&genuine)])
}

/// Publishes a proof that is taken, with what it comes to.
fn told(
    cases: &mut Cases,
    sample: &Sample,
    name: &str,
    structure: &str,
    bytes: Vec<u8>,
    chain: &[u8],
) {
    let mut verifier = Verifier::new(&sample.genesis);
    verifier.follow_encoded(chain).expect("a chain");
    let answer = answer(&verified(&verifier, structure, &bytes));
    let case = cases.valid(name, bytes);
    case["answer"] = answer;
    if !chain.is_empty() {
        case["validator_chain"] = hex_of(chain);
    }
}

fn valid(cases: &mut Cases, block: &SealedBlock<'_>) {
    let (genuine, sample) = (block.proof(&mrn(1)), block.sample);
    let structure = "sealed_history_proof";
    let mut tell = |name: &str, make: &dyn Fn(&mut v1::SealedHistoryProof)| {
        let mut proof = genuine.clone();
        make(&mut proof);
        told(cases, sample, name, structure, proof.encode_to_vec(), &[]);
    };
    tell("all slots about a subject", &|_| {});
    tell("an epoch left out, which is not covered then", &|p| p.histories.truncate(2));
    tell("an agency left out, which is not covered then", &|p| drop(p.histories.remove(3)));
    tell("nothing but the agreement", &|p| p.histories.clear());
    tell("the first page of some", &|p| (p.page, p.page_count) = (1, 0));
    tell("the last page of three", &|p| (p.page, p.page_count) = (3, 3));
    for (name, number) in [("another subject", 2), ("a subject that nobody has lodged", 9)] {
        let bytes = block.proof(&mrn(number)).encode_to_vec();
        told(cases, sample, name, structure, bytes, &[]);
    }
    let later = SealedBlock::new(sample, 4).proof(&mrn(1)).encode_to_vec();
    let name = "after two changes of the validators";
    told(cases, sample, name, structure, later.clone(), &sample.chain());
    cases.refused("VALIDATOR_STEP_MISSING", "without the validator chain", later);
}

/// Several pages of one proof.
fn of_pages(block: &SealedBlock<'_>) -> Cases {
    let structure = "sealed_history_pages";
    let mut cases = Cases::new(structure);
    let whole = block.proof(&mrn(1));
    let histories = &whole.histories;
    let pieces = in_pieces(&histories[1], 2);
    // The second page has a piece of a bucket and nothing else.
    let of = |number, is_last: bool, histories: &[v1::SealedHistory]| v1::SealedHistoryProof {
        page_count: if is_last { number } else { 0 },
        histories: histories.to_vec(),
        ..block.page(&mrn(1), number)
    };
    let pages = [
        of(1, false, &[histories[0].clone(), pieces[0].clone()]),
        of(2, false, &pieces[1..2]),
        of(3, true, &[&pieces[2..], &histories[2..]].concat()),
    ];
    let [one, two, three] = &pages;
    let picked = |pages: &[&v1::SealedHistoryProof]| -> Vec<_> {
        pages.iter().map(|page| (*page).clone()).collect()
    };
    for (name, given) in [
        ("all pages", picked(&[one, two, three])),
        ("all pages in another order", picked(&[three, one, two])),
        ("a page twice", picked(&[one, two, two, three])),
        ("the first page missing", picked(&[two, three])),
        ("the second page missing", picked(&[one, three])),
        ("the last page missing", picked(&[one, two])),
        ("a page of a bucket's middle alone", picked(&[two])),
    ] {
        told(&mut cases, block.sample, name, structure, joined(&given), &[]);
    }
    let later = Header { time_ms: block.header.time_ms + 1, ..block.header.clone() };
    let of_later = v1::SealedHistoryProof {
        certificate: block.sample.certificate(&later, VoteKind::Finalize).encode(),
        header: later.encode(),
        ..two.clone()
    };
    let own = own_id(&agency_of(NL));
    let own = block.agreements.prove(&own).expect("there");
    let of_own = v1::SealedHistoryProof {
        agreement_entry: own.entry,
        agreement_index: own.index,
        agreement_path: path_bytes(&own.path),
        ..block.page(&mrn(1), 2)
    };
    for (name, page) in [("of another head", &of_later), ("of an own agreement", &of_own)] {
        let name = format!("a page {name}, alone");
        told(&mut cases, block.sample, &name, structure, joined(slice::from_ref(page)), &[]);
    }
    let mut refused = |code: &str, change: &str, pages: &[v1::SealedHistoryProof]| {
        cases.refused(code, change, joined(pages));
    };
    let other = "SEALED_HISTORY_OTHER_PAGE";
    let about_other = block.page(&mrn(2), 2);
    refused(other, "pages about two subjects", &[one.clone(), about_other]);
    refused(other, "pages of two heads", &[one.clone(), of_later]);
    refused(other, "pages of two agreements", &[one.clone(), of_own]);
    let last = |page: &v1::SealedHistoryProof| of(page.page, true, &page.histories);
    refused(other, "two last pages", &[one.clone(), last(two), three.clone()]);
    refused(other, "a page behind the last", &[last(one), two.clone()]);
    let shorter = of(2, false, &in_pieces(&histories[1], 1)[2..3]);
    refused(other, "two pieces from one entry on", &[two.clone(), shorter]);
    let mut moved = pieces[2].clone();
    moved.from_entry = 2;
    let skipping = of(2, true, &[moved]);
    refused(
        "SEALED_HISTORY_JOIN",
        "a piece left out, and the next in its place",
        &[one.clone(), skipping],
    );
    let mut false_piece = two.clone();
    false_piece.histories[0].head_after[5] ^= 1;
    refused(
        "SEALED_HISTORY_PIECE",
        "a page that is wrong by itself",
        &[one.clone(), false_piece, three.clone()],
    );
    cases.refused("SEALED_HISTORY_NO_PAGE", "no page", Vec::new());
    let cut = &joined(&pages)[..100];
    cases.refused("SEALED_HISTORY_MALFORMED", "a page cut short", cut);
    cases
}

/// The subject that was asked for, then a proof.
fn asked_for(genuine: &v1::SealedHistoryProof) -> Cases {
    let asked = |subject: &v1::Subject, proof: &v1::SealedHistoryProof| {
        let (scheme, length) = (subject.scheme.to_be_bytes(), subject.id.len() as u32);
        let parts = [&scheme[..], &length.to_be_bytes(), subject.id.as_bytes()];
        [&parts.concat()[..], &proof.encode_to_vec()].concat()
    };
    let mut cases = Cases::new("sealed_history_proof_of");
    cases.valid("of the subject that was asked for", asked(&mrn(1), genuine));
    let code = "SEALED_HISTORY_OTHER_SUBJECT";
    cases.refused(code, "of another subject", asked(&mrn(2), genuine));
    let other = v1::Subject { scheme: Scheme::Ucr as i32, ..mrn(1) };
    cases.refused(code, "of another scheme", asked(&other, genuine));
    let nothing = v1::SealedHistoryProof { histories: Vec::new(), ..genuine.clone() };
    cases.refused(code, "of another subject, without histories", asked(&mrn(2), &nothing));
    let renamed = v1::SealedHistoryProof { subject_id: mrn(2).id, ..genuine.clone() };
    cases.refused("VRF_PROOF_INVALID", "renamed as what was asked for", asked(&mrn(2), &renamed));
    cases
}

/// Every valid case comes to what is said beside it, and the receipts stand where the proof lists their slots.
pub(crate) fn check(file: &Value, genesis: &Genesis) {
    let bytes = |value: &Value| hex::decode(value.as_str().expect("text")).expect("hexadecimal");
    let mut told = 0;
    for case in file["valid"].as_array().expect("a list") {
        let mut verifier = Verifier::new(genesis);
        if case["validator_chain"].is_string() {
            verifier.follow_encoded(&bytes(&case["validator_chain"])).expect("a chain");
        }
        if case["answer"].is_object() {
            let structure = case["structure"].as_str().expect("text");
            let found = answer(&verified(&verifier, structure, &bytes(&case["bytes"])));
            assert_eq!(found, case["answer"], "{}", case["name"]);
            told += 1;
        }
    }
    assert!(told > 10, "{told}");
    let verifier = Verifier::new(genesis);
    let proof = bytes(&file["proof"]);
    let history = verifier.verify_sealed_history([&proof]).expect("genuine");
    for (name, place) in [
        ("receipt", Some((0, 0))),
        ("receipt_of_the_grant", Some((2, 0))),
        ("receipt_of_the_copied_key", None),
    ] {
        let receipt = verifier.verify_receipt(&bytes(&file[name])).expect("genuine");
        let found = history.place_of(&receipt).expect("no contradiction");
        assert_eq!(found.map(|entry| (entry.log_index, entry.position)), place, "{name}");
    }
    // The bit goes round, so that every byte and every place in a byte has its turn.
    for byte in 0..proof.len() {
        let mut flipped = proof.clone();
        flipped[byte] ^= 1 << (byte % 8);
        assert!(verifier.verify_sealed_history([&flipped]).is_err(), "byte {byte}");
    }
}
