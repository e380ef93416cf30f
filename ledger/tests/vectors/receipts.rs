//! Receipts, and receipts changed in one thing.

use customhouse_ledger::{
    agreement::Agreements,
    authority::SlotRefused,
    finality::{header::Header, vote::VoteKind},
    limits::RECEIPT_BYTES_MAX,
    merkle::{Tree, path_bytes},
    transaction::{SlotOutcome, outcome},
};
use customhouse_proto::v1::{self, record::Body, slot::Form};
use prost::Message as _;
use serde_json::{Value, json};

use super::{
    cases::{Cases, Given, with_cases},
    damage::{self, shorter},
    forgery::Forgery,
    hex_of, proofs, records,
    sample::{self, Head, OWN_KEY, STATUSES_KEY, Sample, encode_steps, key},
    transactions,
};

/// As of the block that committed it.
pub(crate) fn message(sample: &Sample, log_index: usize, position: usize) -> v1::Receipt {
    let index = log_index as u64;
    let of = |head: &&Head| index < head.block.header.log_size;
    let head = sample.heads.iter().find(of).expect("committed");
    let log = &head.log;
    let transaction = &sample.transactions[log_index];
    let parts = transaction.parts();
    let slots = Tree::of(&parts.slots);
    // The registry that the block was checked against has another root than the one after it.
    let registry = head.registry.prove_signer(&transaction.header().signer).expect("registered");
    let slots_outcomes = outcome::slot_tree(&sample::applied(transaction));
    let (place, header) = (index - head.block.header.log_start, &head.block.header);
    let of_block = &sample.transactions[header.log_start as usize..header.log_size as usize];
    let roots: Vec<_> = of_block.iter().map(|t| outcome::slot_root(&sample::applied(t))).collect();
    let block_outcomes = outcome::block_tree(&roots);
    v1::Receipt {
        record: parts.records[position].to_vec(),
        slot: parts.slots[position].to_vec(),
        slot_index: position as u32,
        slot_path: path_bytes(&slots.inclusion_path(position as u64).expect("a slot")),
        transaction_header: parts.header.to_vec(),
        transaction_signature: parts.signature.to_vec(),
        log_index: index,
        log_path: path_bytes(&log.inclusion_path(index).expect("a leaf")),
        header: head.block.header.encode(),
        certificate: head.certificate.encode(),
        registry_entry: registry.entry,
        registry_index: registry.index,
        registry_count: registry.count,
        registry_path: path_bytes(&registry.path),
        agreements_root: Agreements::default().root().0.to_vec(),
        outcome_path: path_bytes(&slots_outcomes.inclusion_path(position as u64).expect("a slot")),
        outcomes_path: path_bytes(&block_outcomes.inclusion_path(place).expect("a transaction")),
        steps: Vec::new(),
    }
}

pub(crate) fn receipt(sample: &Sample) -> Value {
    let genuine = message(sample, 2, 1);
    let bytes = genuine.encode_to_vec();
    let mut cases = Cases::new("receipt");
    cases.valid("with its record", bytes.clone());
    let without = v1::Receipt { record: vec![], ..genuine.clone() };
    cases.valid("without its record", without.encode_to_vec());
    cases.valid("made by hand", Forgery::new(sample).receipt(sample));
    cases.refused("RECEIPT_TOO_LARGE", "too many bytes", Given::Zeros(RECEIPT_BYTES_MAX + 1));
    damage::encoding(&mut cases, &bytes, "RECEIPT");
    let mut mutants = Mutants { cases: &mut cases, sample, genuine };
    mutants.final_header();
    mutants.transaction();
    mutants.slot();
    mutants.record();
    mutants.registry();
    mutants.speaker();
    mutants.sealed();
    mutants.outcome();
    after_a_change(&mut cases, sample);
    let file = json!({
        "receipt": hex_of(&bytes),
        "record_id": sample.transactions[2].slots()[1].record_id,
    });
    with_cases(file, [cases])
}

struct Mutants<'a> {
    cases: &'a mut Cases,
    sample: &'a Sample,
    genuine: v1::Receipt,
}

impl Mutants<'_> {
    fn refused(&mut self, code: &str, change: &str, make: impl FnOnce(&mut v1::Receipt)) {
        let mut receipt = self.genuine.clone();
        make(&mut receipt);
        self.cases.refused(code, change, receipt.encode_to_vec());
    }

    fn forged(&mut self, code: &str, change: &str, make: impl FnOnce(&mut Forgery)) {
        let mut forgery = Forgery::new(self.sample);
        make(&mut forgery);
        self.cases.refused(code, change, forgery.receipt(self.sample));
    }

    /// Header and certificate are those of every proof; all of their mutants are in votes.json.
    fn final_header(&mut self) {
        let header = self.sample.head(1).block.header.clone();
        let notarization = self.sample.certificate(&header, VoteKind::Notarize).encode();
        let later = Header { time_ms: header.time_ms + 1, ..header }.encode();
        self.refused("HEADER_MALFORMED", "no header", |r| r.header.clear());
        self.refused("CERTIFICATE_MALFORMED", "no certificate", |r| r.certificate.clear());
        self.refused("CERTIFICATE_KIND", "a notarization", |r| r.certificate = notarization);
        let other = self.sample.head(2).certificate.encode();
        self.refused("CERTIFICATE_HEIGHT", "another certificate", |r| r.certificate = other);
        self.refused("CERTIFICATE_BLOCK_HASH", "another header", |r| r.header = later);
        self.refused("CERTIFICATE_INVALID", "a damaged signature", |r| {
            *r.certificate.last_mut().expect("not empty") ^= 1;
        });
        self.forged("HEADER_VERSION", "rules of another version", |f| f.header.version = 2);
        self.forged("WRONG_CHAIN", "a header of another chain", |f| f.header.chain_id.0[0] ^= 1);
        self.forged("VALIDATOR_STEP_MISSING", "a header of other validators", |f| {
            f.header.validators_hash.0[0] ^= 1;
        });
        self.forged("HEADER_NOT_GENESIS", "a header at height 0", |f| f.header.height = 0);
    }

    fn transaction(&mut self) {
        let other = message(self.sample, 3, 2);
        self.refused("TRANSACTION_HEADER", "a transaction header cut short", |r| {
            r.transaction_header.truncate(123);
        });
        self.refused("TRANSACTION_HEADER", "a signer of low order", |r| {
            r.transaction_header[32..64].copy_from_slice(&[0; 32]);
        });
        self.refused("TRANSACTION_HEADER", "an agency code in lower case", |r| {
            r.transaction_header[64] = b'n';
        });
        self.forged("WRONG_CHAIN", "a transaction of another chain", |f| f.chain_id.0[0] ^= 1);
        self.refused("BAD_SIGNATURE", "another signature", |r| {
            r.transaction_signature.clone_from(&other.transaction_signature);
        });
        self.refused("BAD_SIGNATURE", "a signature cut short", |r| {
            r.transaction_signature.truncate(63);
        });
        self.refused("BAD_SIGNATURE", "the signature's scalar not reduced", |r| {
            damage::add_order(&mut r.transaction_signature[32..]);
        });
        self.refused("RECEIPT_LOG_INDEX", "a log index after the block", |r| r.log_index = 5);
        self.refused("RECEIPT_LOG_PATH", "another log index", |r| r.log_index = 3);
        self.refused("RECEIPT_LOG_PATH", "a shorter log path", |r| shorter(&mut r.log_path));
        self.refused("RECEIPT_LOG_PATH", "a longer log path", |r| r.log_path.extend([0; 32]));
        self.refused("RECEIPT_LOG_PATH", "another log path", |r| r.log_path[63] ^= 1);
        self.refused("RECEIPT_PATH_MALFORMED", "a byte after the log path", |r| {
            r.log_path.push(0);
        });
    }

    fn slot(&mut self) {
        let other = message(self.sample, 3, 2);
        self.refused("RECEIPT_SLOT_PATH", "another slot", |r| r.slot.clone_from(&other.slot));
        self.refused("RECEIPT_SLOT_PATH", "another position", |r| r.slot_index = 2);
        self.refused("RECEIPT_SLOT_PATH", "a position after the last", |r| r.slot_index = 3);
        self.refused("RECEIPT_SLOT_PATH", "a shorter slot path", |r| shorter(&mut r.slot_path));
        self.refused("RECEIPT_PATH_MALFORMED", "a hash of the slot path cut short", |r| {
            r.slot_path.truncate(31);
        });
        self.refused("SLOT_MALFORMED", "no slot", |r| r.slot.clear());
        self.forged("SLOT_MALFORMED", "a sealed slot without an epoch", |f| {
            f.slot.form = Form::Sealed as i32;
        });
        self.forged("SLOT_MALFORMED", "a slot with an agreement", |f| {
            f.slot.agreement = vec![1; 32]
        });
    }

    fn record(&mut self) {
        let other = message(self.sample, 3, 2);
        self.refused("RECORD_ID", "another record", |r| r.record.clone_from(&other.record));
        for (code, change, record) in records::mutants() {
            self.refused(code, change, |r| r.record = record);
        }
        self.forged("SUBJECT_KEYS", "a subject key withheld", |f| drop(f.slot.subject_keys.pop()));
        self.forged("SUBJECT_KEYS", "a subject key of another record", |f| {
            f.slot.subject_keys[0][31] ^= 1;
        });
        self.forged("RECORD_AGENCY", "a record of another agency", |f| {
            let mut record = v1::Record::decode(&f.record[..]).expect("a record");
            record.agency = "DE-ZOLL".into();
            // Nothing that is a subject within its agency only.
            let event_id = "ni:///sha-256;7".into();
            record.body = Some(Body::Event(v1::Event { event_id, ..Default::default() }));
            f.carry(&record);
            f.slot.subject_keys = records::subject_keys(&record);
        });
    }

    /// Who signed may say this, and nobody else's name.
    fn speaker(&mut self) {
        type Change<'a> = &'a dyn Fn(&mut v1::Record);
        let cases: [(&str, &str, u8, Change<'_>); 6] = [
            ("SIGNER_SUBMITTER", "another submitter's name", OWN_KEY, &|r| {
                r.submitter = "operator".into();
            }),
            ("SIGNER_ROLE", "a broker in the role of the office", OWN_KEY, &|r| {
                r.submitter_role = v1::Role::Office as i32;
            }),
            ("SIGNER_CERTIFICATE", "a submitter's own key with a certificate", OWN_KEY, &|r| {
                r.submitter_certificate = vec![0xce; 32];
            }),
            ("SIGNER_MAPPING", "a submitter's own key with a node's word", OWN_KEY, &|r| {
                let mapping = v1::source::Mapping::Checked as i32;
                r.source = Some(v1::Source { mapping, ..Default::default() });
            }),
            ("SIGNER_KIND", "a declaration by a key for statuses", STATUSES_KEY, &|r| {
                r.submitter = "Machine 7".into();
                r.submitter_role = v1::Role::Office as i32;
            }),
            ("SIGNER_CERTIFICATE", "a node's key without a certificate", 131, &|_| {}),
        ];
        let own = |forgery: &mut Forgery, signer: u8, change: Change<'_>| {
            let mut record = v1::Record::decode(&forgery.record[..]).expect("a record");
            record.submitter_certificate.clear();
            change(&mut record);
            forgery.signer = signer;
            forgery.carry(&record);
        };
        for (code, what, signer, change) in cases {
            self.forged(code, what, |f| own(f, signer, change));
        }
        let mut forgery = Forgery::new(self.sample);
        own(&mut forgery, OWN_KEY, &|_| {});
        self.cases.valid("signed by a submitter's own key", forgery.receipt(self.sample));
    }

    /// Slots that are not open. Their record may be shown all the same.
    fn sealed(&mut self) {
        let sample = self.sample;
        let sealed = |forgery: &mut Forgery| forgery.slot = transactions::sealed(61);
        // As it is in the vault: with the id that its slot has, under keys that follow from no byte of it.
        let shown = |forgery: &mut Forgery| {
            let id = std::mem::take(&mut forgery.slot.record_id);
            forgery.slot = v1::Slot { record_id: id, ..transactions::sealed(61) };
        };
        let hidden = |forgery: &mut Forgery| {
            sealed(forgery);
            forgery.record.clear();
        };
        let mut valid = |name: &str, make: &dyn Fn(&mut Forgery)| {
            let mut forgery = Forgery::new(sample);
            make(&mut forgery);
            self.cases.valid(name, forgery.receipt(sample));
        };
        valid("of a sealed slot", &hidden);
        valid("of a sealed slot, with its record", &shown);
        // Who lodged it, and under what, is with its bytes.
        valid("of a sealed slot, with a record that its client signed", &|f| {
            let mut record = v1::Record::decode(&f.record[..]).expect("a record");
            record.submitter_certificate.clear();
            f.carry(&record);
            shown(f);
        });
        valid("of a grant", &|f| {
            f.slot = transactions::granted(61);
            f.record.clear();
        });
        self.forged("RECORD_ID", "a sealed slot with another record", sealed);
        self.forged("RECORD_AGENCY", "a sealed slot with a record of another agency", |f| {
            let mut record = v1::Record::decode(&f.record[..]).expect("a record");
            record.agency = "DE-ZOLL".into();
            f.carry(&record);
            shown(f);
        });
        self.forged("SIGNER_SEALED", "a sealed slot by a submitter's own key", |f| {
            hidden(f);
            f.signer = OWN_KEY;
        });
        self.forged(
            "SIGNER_SEALED",
            "a sealed slot by a submitter's own key, with its record",
            |f| {
                let mut record = v1::Record::decode(&f.record[..]).expect("a record");
                record.submitter_certificate.clear();
                f.carry(&record);
                shown(f);
                f.signer = OWN_KEY;
            },
        );
        self.forged("SIGNER_SEALED", "a grant by a submitter's own key", |f| {
            f.slot = transactions::granted(61);
            f.record.clear();
            f.signer = OWN_KEY;
        });
    }

    /// The slot counted.
    fn outcome(&mut self) {
        let repeat = SlotOutcome::Duplicate { log_index: 0, position: 0 };
        self.forged("RECEIPT_OUTCOME", "of a repeat", |f| f.outcomes = vec![repeat]);
        for (reason, _) in SlotRefused::ALL {
            self.forged("RECEIPT_OUTCOME", "of a slot that was refused", |f| {
                f.outcomes = vec![SlotOutcome::Refused(reason)];
            });
        }
        self.forged("RECEIPT_OUTCOME", "of a transaction with more outcomes", |f| {
            f.outcomes = vec![SlotOutcome::Applied; 2];
        });
        self.refused("RECEIPT_OUTCOME", "a shorter path", |r| shorter(&mut r.outcome_path));
        self.refused("RECEIPT_OUTCOME", "another path", |r| r.outcomes_path[0] ^= 1);
        self.refused("RECEIPT_OUTCOME", "no path", |r| r.outcomes_path.clear());
        self.refused("RECEIPT_PATH_MALFORMED", "half a hash of the outcome's path", |r| {
            r.outcome_path.truncate(16);
        });
        self.refused("REGISTRY_PATH", "another agreements root", |r| r.agreements_root[0] ^= 1);
        self.refused("REGISTRY_PATH", "no agreements root", |r| r.agreements_root.clear());
    }

    fn registry(&mut self) {
        let other = key(132).public();
        let other = self.sample.genesis.registry.prove_signer(&other).expect("registered").entry;
        let agency = self.sample.genesis.registry.entries().next().expect("one").encode_to_vec();
        self.refused("REGISTRY_ENTRY_MALFORMED", "no registry entry", |r| r.registry_entry.clear());
        self.refused("REGISTRY_ENTRY_MALFORMED", "a registry entry with a field more", |r| {
            r.registry_entry.extend([0xf8, 0x07, 1]);
        });
        self.refused("REGISTRY_SIGNER", "an agency's entry", |r| r.registry_entry = agency);
        self.refused("REGISTRY_SIGNER", "another signer's entry", |r| r.registry_entry = other);
        self.forged("REGISTRY_AGENCY", "the key of another agency", |f| f.signer = 130);
        self.forged("REGISTRY_PERIOD", "a key that had ended", |f| {
            f.signer_entry().end_height = 1;
        });
        self.forged("REGISTRY_PERIOD", "a key that did not count yet", |f| {
            f.signer_entry().from_height = 2;
        });
        self.refused("REGISTRY_PATH", "another registry count", |r| r.registry_count += 1);
        self.refused("REGISTRY_PATH", "another registry index", |r| r.registry_index -= 1);
        self.refused("REGISTRY_PATH", "a shorter registry path", |r| shorter(&mut r.registry_path));
        self.refused("REGISTRY_PATH", "another registry path", |r| r.registry_path[0] ^= 1);
        self.refused("RECEIPT_PATH_MALFORMED", "half a hash of the registry path", |r| {
            r.registry_path.truncate(16);
        });
    }
}

/// Receipts of blocks 3 and 4, which others than the genesis's validators decided.
fn after_a_change(cases: &mut Cases, sample: &Sample) {
    let [first, second] = sample.steps();
    let last = message(sample, 7, 0);
    let bytes = last.encode_to_vec();
    let chain = |steps: &[_]| hex_of(encode_steps(steps));
    let whole = chain(&[first.clone(), second]);
    let case = cases.valid("after two changes of the validators", bytes.clone());
    case["validator_chain"] = whole.clone();
    let case = cases.valid("of the block that changes them", message(sample, 6, 0).encode_to_vec());
    case["validator_chain"] = chain(std::slice::from_ref(&first));
    cases.refused("VALIDATOR_STEP_MISSING", "without the validator chain", bytes.clone());
    let case = cases.refused("VALIDATOR_STEP_MISSING", "with an older validator chain", bytes);
    case["validator_chain"] = chain(&[first]);
    let before = v1::Receipt { log_index: 1, ..last.clone() }.encode_to_vec();
    let case = cases.refused("RECEIPT_LOG_INDEX", "a log index before the block", before);
    case["validator_chain"] = whole.clone();
    // What the genesis's validators signed after they were replaced.
    let mut late = Forgery::new(sample);
    late.header.height = 2;
    late.header.validators_hash = sample.validators(4).hash();
    let case =
        cases.refused("HEADER_VALIDATORS", "a header of later validators", late.receipt(sample));
    case["validator_chain"] = whole.clone();
    with_steps(cases, sample, &whole);
}

/// Receipts that have the changes of the validators in them.
fn with_steps(cases: &mut Cases, sample: &Sample, whole: &Value) {
    let all: Vec<_> = sample.steps().iter().map(|step| step.to_proto()).collect();
    let with = |steps: &[v1::ValidatorStep]| {
        v1::Receipt { steps: steps.to_vec(), ..message(sample, 7, 0) }.encode_to_vec()
    };
    cases.valid("with the changes of the validators in it", with(&all));
    let case = cases.valid("with changes that are known too", with(&all));
    case["validator_chain"] = whole.clone();
    let case = cases.valid("with a change of two that are known", with(&all[1..]));
    case["validator_chain"] = whole.clone();
    cases.refused("VALIDATOR_STEP_MISSING", "with the first change alone", with(&all[..1]));
    cases.refused("VALIDATOR_STEP_MISSING", "with the second change alone", with(&all[1..]));
    let twice = [&all[..1], &all[..]].concat();
    cases.refused("STEP_ORDER", "with a change twice in it", with(&twice));
    let change = |change: &dyn Fn(&mut v1::ValidatorStep)| {
        let mut steps = all.clone();
        change(&mut steps[0]);
        with(&steps)
    };
    let signature = |step: &mut v1::ValidatorStep| {
        *step.certificate.last_mut().expect("not empty") ^= 1;
    };
    cases.refused("CERTIFICATE_INVALID", "a damaged signature of a change", change(&signature));
    let case = cases.refused("STEP_ORDER", "a damaged change that is known", change(&signature));
    case["validator_chain"] = whole.clone();
    let fewer = |step: &mut v1::ValidatorStep| step.validators.truncate(1);
    cases.refused("STEP_VALIDATORS", "a change without its validators", change(&fewer));
    let header = |step: &mut v1::ValidatorStep| step.header.truncate(337);
    cases.refused("STEP_MALFORMED", "a change with a header cut short", change(&header));
    let certificate = |step: &mut v1::ValidatorStep| step.certificate.truncate(60);
    cases.refused("STEP_MALFORMED", "a change with a certificate cut short", change(&certificate));
    let reversed = |step: &mut v1::ValidatorStep| step.validators.reverse();
    cases.refused("STEP_MALFORMED", "a change to unsorted validators", change(&reversed));
    for (what, step) in proofs::forks(sample) {
        let with_it = [step.to_proto(), all[1].clone()];
        let case = cases.refused("STEP_FORK", &format!("with {what}"), with(&with_it));
        case["validator_chain"] = whole.clone();
    }
}
