//! The published proof of all sealed records about a subject, changed in one thing, each refused for that.

use customhouse_ledger::{
    agreement::{self, own_id},
    finality::{header::Header, vote::VoteKind},
    hash::Hash,
    history::HistoryEntry,
    merkle::{Tree, path_bytes},
    registry, sealed_subject,
};
use customhouse_proto::v1::{self, subject::Scheme};
use prost::Message as _;

use super::{
    agreements::{self, code as agency_of},
    cases::Cases,
    damage::{self, shorter},
    sealed_histories::{DE, NL, SealedBlock, in_pieces, mrn, secret},
};

pub(crate) fn refused(cases: &mut Cases, block: &SealedBlock<'_>) {
    let genuine = &block.proof_of_first();
    let mut mutants = Mutants { cases, block, genuine };
    mutants.question();
    mutants.agreement();
    mutants.keys();
    mutants.buckets();
    mutants.pieces();
}

/// The proof, changed in one thing.
struct Mutants<'a> {
    cases: &'a mut Cases,
    block: &'a SealedBlock<'a>,
    genuine: &'a v1::SealedHistoryProof,
}

impl Mutants<'_> {
    fn refused(&mut self, code: &str, change: &str, make: impl Fn(&mut v1::SealedHistoryProof)) {
        let mut proof = self.genuine.clone();
        make(&mut proof);
        self.cases.refused(code, change, proof.encode_to_vec());
    }

    fn question(&mut self) {
        self.refused("VRF_SUBJECT", "no scheme", |p| p.subject_scheme = 0);
        self.refused("VRF_SUBJECT", "an unknown scheme", |p| p.subject_scheme = u32::MAX);
        self.refused("VRF_SUBJECT", "an id in lower case", |p| p.subject_id.make_ascii_lowercase());
        let code = "VRF_PROOF_INVALID";
        self.refused(code, "another scheme", |p| p.subject_scheme = Scheme::Ucr as u32);
        self.refused(code, "a proof of another subject", |p| p.subject_id = mrn(2).id);
        for (change, page, count) in [
            ("no page", 0, 0),
            ("a count that is not the page's number", 1, 2),
            ("a page behind the last", 2, 1),
            ("a page above the most", 65_537, 0),
        ] {
            let make = |p: &mut v1::SealedHistoryProof| (p.page, p.page_count) = (page, count);
            self.refused("SEALED_HISTORY_PAGE", change, make);
        }
        self.refused("HEADER_MALFORMED", "no header", |p| p.header.clear());
        self.refused("CERTIFICATE_MALFORMED", "no certificate", |p| p.certificate.clear());
        self.refused("CERTIFICATE_BLOCK_HASH", "another history root", |p| p.header[140] ^= 1);
    }

    fn agreement(&mut self) {
        let code = "SEALED_HISTORY_PATH_MALFORMED";
        self.refused(code, "a hash of the agreement's path cut short", |p| {
            p.agreement_path.truncate(31);
        });
        let code = "SEALED_HISTORY_AGREEMENT";
        self.refused(code, "no path of the agreement", |p| p.agreement_path.clear());
        self.refused(code, "a longer path of the agreement", |p| p.agreement_path.extend([0; 32]));
        self.refused(code, "another path of the agreement", |p| p.agreement_path[0] ^= 1);
        self.refused(code, "another place of the agreement", |p| p.agreement_index ^= 1);
        self.refused(code, "another count of agreements", |p| p.agreement_count += 1);
        self.refused(code, "no agreements", |p| p.agreement_count = 0);
        self.refused(code, "another head of agreements", |p| p.agreements_head[0] ^= 1);
        self.refused(code, "a head of agreements of 31 bytes", |p| p.agreements_head.truncate(31));
        self.refused(code, "another members root", |p| p.members_root[0] ^= 1);
        self.refused(code, "no members root", |p| p.members_root.clear());
        let change = |make: &dyn Fn(&mut v1::AgreementEntry), p: &mut v1::SealedHistoryProof| {
            let mut entry = v1::AgreementEntry::decode(&p.agreement_entry[..]).expect("an entry");
            make(&mut entry);
            p.agreement_entry = entry.encode_to_vec();
        };
        self.refused(code, "an epoch left out of the agreement", |p| {
            change(&|entry| drop(entry.epochs.pop()), p);
            p.histories.truncate(2);
        });
        self.refused(code, "a party left out of the agreement", |p| {
            change(&|entry| drop(entry.epochs[1].parties.remove(1)), p);
            p.histories.remove(3);
        });
        self.refused(code, "another key of an epoch", |p| {
            change(&|entry| entry.epochs[0].public_key = secret(2).public().as_bytes().to_vec(), p);
        });
        let sample = self.block.sample;
        let older = agreements::after(sample, 2).prove(&self.block.agreement).expect("there");
        self.refused(code, "the agreement as it was at an older height", |p| {
            p.agreement_entry.clone_from(&older.entry);
            p.agreement_path = path_bytes(&older.path);
            p.agreements_head = older.head.0.to_vec();
            p.histories.truncate(2);
        });
        let own = own_id(&agency_of(NL));
        let own = self.block.agreements.prove(&own).expect("there");
        self.refused("SEALED_HISTORY_PARTY", "an agency's own agreement in its place", |p| {
            p.agreement_entry.clone_from(&own.entry);
            p.agreement_index = own.index;
            p.agreement_path = path_bytes(&own.path);
        });
        self.certified_nonsense();
    }

    /// What a quorum would have to certify, which no honest one does.
    fn certified_nonsense(&mut self) {
        let block = self.block;
        let entry = v1::AgreementEntry { id: block.agreement.0.to_vec(), epochs: vec![] };
        let entry = entry.encode_to_vec();
        let (head, tree) = (Hash::ZERO, Tree::of(&[&entry]).root());
        let members = block.sample.head(1).registry.members_root();
        let agreements = agreement::root(1, &tree, &head);
        let header =
            Header { registry_root: registry::root(&members, &agreements), ..block.header.clone() };
        let certificate = block.sample.certificate(&header, VoteKind::Finalize).encode();
        self.refused("SEALED_HISTORY_ENTRY", "a certified agreement without epochs", |p| {
            (p.agreement_entry, p.agreement_index) = (entry.clone(), 0);
            (p.agreement_count, p.agreement_path) = (1, Vec::new());
            p.agreements_head = head.0.to_vec();
            (p.header, p.certificate) = (header.encode(), certificate.clone());
            p.histories.clear();
        });
    }

    fn keys(&mut self) {
        let code = "SEALED_HISTORY_PARTY";
        self.refused(code, "an epoch beyond those of the header", |p| p.histories[4].epoch = 3);
        self.refused(code, "no epoch", |p| p.histories[0].epoch = 0);
        self.refused(code, "a party of a later epoch", |p| p.histories[0].agency = DE.into());
        self.refused(code, "an agency in lower case", |p| {
            p.histories[0].agency = "be-douane".into()
        });
        let code = "SEALED_HISTORY_ORDER";
        self.refused(code, "a history twice", |p| p.histories.insert(0, p.histories[0].clone()));
        self.refused(code, "histories that are not sorted", |p| p.histories.swap(0, 1));
        self.refused("VRF_PROOF_LENGTH", "a proof of 79 bytes", |p| {
            p.histories[0].vrf_proof.truncate(79);
        });
        self.refused("VRF_PROOF_GAMMA", "a Gamma that is no point", |p| {
            p.histories[0].vrf_proof[..32].fill(0x02);
        });
        self.refused("VRF_PROOF_SCALAR", "a number that is not reduced", |p| {
            damage::add_order(&mut p.histories[0].vrf_proof[48..]);
        });
        let code = "VRF_PROOF_INVALID";
        self.refused(code, "a Gamma of low order", |p| {
            p.histories[0].vrf_proof[..32].copy_from_slice(&[&[1][..], &[0; 31]].concat());
        });
        self.refused(code, "another Gamma", |p| {
            let other = p.histories[1].vrf_proof[..32].to_vec();
            p.histories[0].vrf_proof[..32].copy_from_slice(&other);
        });
        self.refused(code, "a changed challenge", |p| p.histories[0].vrf_proof[40] ^= 1);
        self.refused(code, "the proof of another agency", |p| {
            p.histories[1].vrf_proof = p.histories[0].vrf_proof.clone();
        });
        let block = self.block;
        let other_epoch = sealed_subject::prove(&secret(2), &agency_of(NL), &mrn(1)).expect("one");
        self.refused(code, "a proof by another epoch's key", |p| {
            p.histories[1].vrf_proof = other_epoch.to_bytes().to_vec();
        });
        let random = Hash([0x5a; 32]);
        self.refused(code, "a key at random, and its true absence", |p| {
            let proof = p.histories[1].vrf_proof.clone();
            let mut changed = block.of_key(1, NL, &random, proof);
            changed.vrf_proof[..32].copy_from_slice(secret(1).public().as_bytes());
            p.histories[1] = changed;
        });
        self.refused("HISTORY_OTHER_BUCKET", "the entries of another key's bucket", |p| {
            let (first, other) = (p.histories[1].clone(), &mut p.histories[4]);
            (other.bucket_entries, other.path) = (first.bucket_entries, first.path);
        });
        self.refused("HISTORY_ROOT", "the true absence of a key at random", |p| {
            let proof = p.histories[1].vrf_proof.clone();
            p.histories[1] = block.of_key(1, NL, &random, proof);
        });
    }

    fn buckets(&mut self) {
        const LENGTH: usize = HistoryEntry::LENGTH;
        // Six of the first bucket, of which NL's is one.
        let entries = |p: &mut v1::SealedHistoryProof, make: &dyn Fn(&mut Vec<u8>)| {
            make(&mut p.histories[1].bucket_entries);
        };
        let code = "HISTORY_ROOT";
        self.refused(code, "a false absence: the entries withheld", |p| entries(p, &Vec::clear));
        self.refused(code, "an entry withheld", |p| entries(p, &|e| drop(e.drain(..LENGTH))));
        self.refused(code, "the last entry withheld", |p| {
            entries(p, &|e| e.truncate(e.len() - LENGTH));
        });
        self.refused(code, "an entry of another position", |p| entries(p, &|e| e[LENGTH - 1] ^= 1));
        self.refused(code, "a shorter path", |p| shorter(&mut p.histories[1].path));
        self.refused(code, "a longer path", |p| p.histories[1].path.extend([0; 32]));
        self.refused(code, "another path", |p| p.histories[1].path[0] ^= 1);
        self.refused("HISTORY_PATH_MALFORMED", "a hash of the path cut short", |p| {
            p.histories[1].path.truncate(31);
        });
        self.refused("HISTORY_ENTRIES_MALFORMED", "half an entry", |p| {
            entries(p, &|e| e.truncate(22));
        });
        self.refused("HISTORY_ORDER", "an entry twice", |p| {
            entries(p, &|e| e.extend_from_within(e.len() - LENGTH..));
        });
        self.refused("HISTORY_BEYOND_HEADER", "an entry of a later block", |p| {
            entries(p, &|e| {
                let last = e[e.len() - LENGTH..].to_vec();
                e.extend([&last[..39], &[3], &last[40..]].concat());
            });
        });
    }

    fn pieces(&mut self) {
        let [first, middle, last] = &in_pieces(&self.genuine.histories[1], 2)[..] else {
            panic!("six entries")
        };
        let code = "SEALED_HISTORY_PIECE";
        type Change<'a> = (&'a str, &'a v1::SealedHistory, &'a dyn Fn(&mut v1::SealedHistory));
        let faults: [Change<'_>; 11] = [
            ("a head before the first piece", first, &|h| h.head_before = vec![0; 32]),
            ("no head before a later piece", middle, &|h| h.head_before.clear()),
            ("a head of 31 bytes before a piece", middle, &|h| h.head_before.truncate(31)),
            ("another head before a piece", middle, &|h| h.head_before[0] ^= 1),
            ("another head after a piece", first, &|h| h.head_after[0] ^= 1),
            ("a head of 31 bytes after a piece", first, &|h| h.head_after.truncate(31)),
            ("a path of a piece that is not the last", first, &|h| h.path.clone_from(&last.path)),
            ("a piece without entries", middle, &|h| {
                h.bucket_entries.clear();
                h.head_after.clone_from(&h.head_before);
            }),
            ("a last piece without entries", last, &|h| h.bucket_entries.clear()),
            ("an entry of a piece left out", first, &|h| h.bucket_entries.truncate(44)),
            ("more entries than can be counted", middle, &|h| h.from_entry = u64::MAX),
        ];
        for (change, piece, make) in faults {
            let mut piece = piece.clone();
            make(&mut piece);
            self.refused(code, change, |p| p.histories[1] = piece.clone());
        }
        let code = "HISTORY_ROOT";
        self.refused(code, "another head before the last piece", |p| {
            p.histories[1] = last.clone();
            p.histories[1].head_before[0] ^= 1;
        });
        self.refused(code, "neither a path nor a head after a piece", |p| {
            p.histories[1] = first.clone();
            p.histories[1].head_after.clear();
        });
    }
}
