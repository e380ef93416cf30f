//! What a filter takes, and how far links are followed.

use std::{sync::Arc, time::Duration};

use customhouse_ledger::{
    agreement::{AgreementChange, EpochProposal, own_id},
    chain::{BlockContext, Chain, LogWalk},
    finality::{
        certificate::Certificate,
        vote::{Ballot, Vote, VoteKind},
    },
    hash::Hash,
    limits::{RECORD_BYTES_MAX, TRANSACTION_BYTES_MAX},
    record::ValidRecord,
    record::subject::subject_key,
    store::StoreOptions,
    transaction::{DedupeScope, EpochId, NewSlot, Slot, SlotForm, VerifiedTransaction},
};
use customhouse_proto::v1::{self, record::Body};
use tempfile::TempDir;

use super::{
    Budget, Listed, LogPlace,
    linked::{READ_BYTES_MAX, Search},
    list,
};
use crate::{
    node::tests::{genesis, key},
    view::View,
};

const BUDGET: Budget =
    Budget { records: 100, bytes: 1 << 20, slots: 1000, time: Duration::from_secs(60) };

fn filter(change: impl FnOnce(&mut v1::RecordFilter)) -> Listed {
    let mut filter = v1::RecordFilter::default();
    change(&mut filter);
    Listed::of(Some(filter), |subject| vec![subject_key(subject)]).expect("a filter")
}

fn record(body: Body) -> v1::Record {
    v1::Record { submitter: "broker".into(), body: Some(body), ..Default::default() }
}

fn declaration() -> v1::Record {
    let item = |hs: &str, origin: &str| v1::GoodsItem {
        hs_code: hs.into(),
        country_origin: origin.into(),
        ..Default::default()
    };
    record(Body::Declaration(v1::Declaration {
        country_departure: "BR".into(),
        country_destination: "NL".into(),
        items: vec![item("0901110000", "CO"), item("8471300000", "CN")],
        ..Default::default()
    }))
}

#[test]
fn a_declaration_is_found_by_its_goods_and_its_countries() {
    let certificate = record(Body::Certificate(v1::Certificate {
        country_origin: "CO".into(),
        hs_codes: vec!["090121".into()],
        ..Default::default()
    }));
    let hs = |prefix: &str| filter(|f| f.hs_prefixes = vec!["99".into(), prefix.into()]);
    let country = |code: &str| filter(|f| f.countries = vec![code.into()]);
    let table = [
        (hs("0901"), true, true),
        (hs("847130"), true, false),
        (hs("1"), false, false),
        (country("CO"), true, true),
        (country("BR"), true, false),
        (country("NL"), true, false),
        (country("DE"), false, false),
        (filter(|f| f.kinds = vec!["certificate".into(), "event".into()]), false, true),
        (filter(|f| f.submitters = vec!["broker".into()]), true, true),
        (filter(|f| f.submitters = vec!["brok".into()]), false, false),
        (Listed::default(), true, true),
    ];
    for (filter, of_declaration, of_certificate) in table {
        assert_eq!(filter.takes(&declaration()), of_declaration, "{filter:?}");
        assert_eq!(filter.takes(&certificate), of_certificate, "{filter:?}");
    }
    // Each field narrows.
    let both = filter(|f| {
        f.hs_prefixes = vec!["0901".into()];
        f.countries = vec!["DE".into()];
    });
    assert!(!both.takes(&declaration()));
}

#[test]
fn a_filter_that_is_wrong_names_its_field() {
    let wrong = |change: &dyn Fn(&mut v1::RecordFilter)| {
        let mut filter = v1::RecordFilter::default();
        change(&mut filter);
        Listed::of(Some(filter), |subject| vec![subject_key(subject)]).expect_err("refused").field
    };
    assert_eq!(wrong(&|f| f.kinds = vec!["declarations".into()]), "kinds");
    assert_eq!(wrong(&|f| f.agencies = vec!["nl".into()]), "agencies");
    assert_eq!(wrong(&|f| f.submitters = vec!["a".into(); 65]), "submitters");
    assert_eq!(wrong(&|f| f.subjects = vec![v1::Subject::default()]), "subjects");
    assert_eq!(wrong(&|f| f.subject_keys = vec![vec![0; 31]]), "subject_keys");
    assert_eq!(wrong(&|f| f.hs_prefixes = vec![String::new()]), "hs_prefixes");
    assert_eq!(wrong(&|f| f.countries = vec!["nl".into()]), "countries");
}

/// A ledger of one agency that validates by itself.
struct Ledger {
    chain: Chain,
    _folder: TempDir,
}

impl Ledger {
    fn new() -> Self {
        let (folder, genesis) = (tempfile::tempdir().expect("a folder"), genesis(1));
        let chain = Chain::open(folder.path(), &genesis, &StoreOptions::default());
        Self { chain: chain.expect("new"), _folder: folder }
    }

    /// Commits records in one transaction; gives their ids, and the transaction's bytes.
    fn commit(&mut self, records: Vec<v1::Record>) -> (Vec<Hash>, usize) {
        let record = |record: v1::Record| {
            let dedupe_key = Hash(record.salt[..].try_into().expect("32 bytes"));
            (ValidRecord::from_record(record).expect("valid"), dedupe_key)
        };
        let records: Vec<_> = records.into_iter().map(record).collect();
        let (chain_id, unix_ms) = (self.chain.chain_id(), crate::clock::unix_ms());
        let agency = "AGENCY-0".parse().expect("a code");
        let signed =
            VerifiedTransaction::sign(&records, agency, unix_ms + 60_000, &chain_id, &key(3, 0));
        let transaction = signed.expect("valid");
        let ids = transaction.slots().iter().map(|slot| slot.record_id).collect();
        let bytes = transaction.encoded().len();
        self.commit_transaction(transaction);
        (ids, bytes)
    }

    fn commit_transaction(&mut self, transaction: VerifiedTransaction) {
        let (chain_id, unix_ms) = (self.chain.chain_id(), crate::clock::unix_ms());
        let (tip, view) = (self.chain.tip(), 1);
        let proposer = tip.leaders.leader(&tip.validators, tip.header.height + 1, view);
        let context = BlockContext { view, proposer, time_ms: unix_ms, bytes_max: u64::MAX };
        let prepared = self.chain.prepare(&context, [Arc::new(transaction)]).expect("readable");
        let header = &prepared.staged.block().header;
        let (height, block_hash) = (header.height, header.hash());
        let ballot = Ballot { kind: VoteKind::Finalize, height, view, block_hash };
        let vote = Vote::sign(ballot, &chain_id, &key(1, 0));
        let certificate = Certificate::from_votes(ballot, &[vote], &tip.validators);
        let certificate = certificate.expect("a quorum of one");
        let committed = self.chain.commit(prepared.staged, certificate).expect("committed");
        assert_eq!(committed.transactions.len(), 1);
    }

    /// Commits an epoch of the agency's own, and gives its name.
    fn agree(&mut self) -> EpochId {
        let (chain_id, unix_ms) = (self.chain.chain_id(), crate::clock::unix_ms());
        let agency = "AGENCY-0".parse().expect("a code");
        let proposal = EpochProposal::from_proto(v1::AgreementEpoch {
            agreement: own_id(&agency).0.to_vec(),
            number: 1,
            parties: vec!["AGENCY-0".into()],
            public_key: key(9, 0).public().as_bytes().to_vec(),
            from_ms: unix_ms - 1000,
            until_ms: unix_ms + 3_600_000,
            terms_hash: vec![7; 32],
            not_after_ms: unix_ms + 60_000,
            changes: 0,
        });
        let proposal = proposal.expect("well-formed");
        let approvals = vec![proposal.approve(&chain_id, &key(3, 0))];
        let change = AgreementChange::epoch(proposal, approvals).expect("approved");
        let until = unix_ms + 60_000;
        let signed = VerifiedTransaction::change_agreement(
            &change,
            "AGENCY-0",
            agency,
            until,
            &chain_id,
            &key(3, 0),
        );
        self.commit_transaction(signed.expect("valid"));
        EpochId { agreement: change.agreement(), number: 1 }
    }

    /// What a page of these records leads to.
    fn search(&self, page: &[Hash], test: impl FnOnce(Search<'_>)) {
        let reader = self.chain.reader();
        let item = |id: &Hash| {
            let record = reader.record(id).expect("readable").expect("there").bytes;
            let record = record.expect("open");
            let (record_id, length) = (id.0.to_vec(), record.len() as u64);
            v1::HistoryItem { record_id, record: record.to_vec(), length, place: None }
        };
        let items: Vec<_> = page.iter().map(item).collect();
        let view = View::open(reader.clone(), "AGENCY-0".parse().expect("a code"));
        test(Search::run(&view, &items).expect("readable"));
    }
}

/// A record with this many bytes of source that says to be evidence of others.
fn evidence(number: u8, bytes: usize, of: &[Hash]) -> v1::Record {
    let content = (0..bytes).map(|index| (index * 31) as u8 ^ number).collect();
    let references = of.iter().map(|id| v1::Reference {
        relation: v1::reference::Relation::Evidences as i32,
        record_id: id.0.to_vec(),
        ..Default::default()
    });
    let mrn = format!("MRN{number}");
    v1::Record {
        salt: vec![number; 32],
        submitter_role: v1::Role::Broker as i32,
        submitter_certificate: vec![6; 32],
        agency: "AGENCY-0".into(),
        references: references.collect(),
        source: Some(v1::Source { format: "test".into(), content, ..Default::default() }),
        ..record(Body::Declaration(v1::Declaration { regime: 1, mrn, ..Default::default() }))
    }
}

#[test]
fn links_to_large_records_are_followed_only_as_far_as_a_page_may_read() {
    let mut ledger = Ledger::new();
    let mut large = |number| ledger.commit(vec![evidence(number, RECORD_BYTES_MAX - 4096, &[])]);
    let (targets, bytes): (Vec<_>, Vec<_>) = (1..=12).map(&mut large).unzip();
    let small = evidence(100, 10, &targets.concat());
    let (small, _) = ledger.commit(vec![small]);
    ledger.search(&small, |search| {
        assert!(bytes.iter().sum::<usize>() > READ_BYTES_MAX + TRANSACTION_BYTES_MAX);
        assert!(search.read_bytes < READ_BYTES_MAX + TRANSACTION_BYTES_MAX);
        assert!(search.found.cut, "there are others");
        assert!(search.found.items.len() >= READ_BYTES_MAX / RECORD_BYTES_MAX);
    });
}

#[test]
fn as_many_links_as_are_given_end_the_search_and_a_transaction_is_read_once() {
    let mut ledger = Ledger::new();
    let records = (1..=80).map(|number| evidence(number, 1000, &[]));
    let (targets, bytes) = ledger.commit(records.collect());
    let referring = [evidence(100, 10, &targets[..40]), evidence(101, 10, &targets[40..])];
    let (page, _) = ledger.commit(referring.into());
    ledger.search(&page[..1], |search| {
        assert_eq!((search.found.items.len(), search.found.cut), (40, false));
        assert!(search.read_bytes < 2 * bytes, "{} bytes for {bytes}", search.read_bytes);
    });
    ledger.search(&page, |search| {
        assert_eq!((search.found.items.len(), search.found.cut), (64, true));
    });
}

#[test]
fn a_sealed_record_is_listed_by_its_slot_beside_open_ones() {
    let mut ledger = Ledger::new();
    let epoch = ledger.agree();
    let own = v1::Record {
        salt: vec![5; 32],
        agency: "AGENCY-0".into(),
        submitter: "broker".into(),
        submitter_role: v1::Role::Broker as i32,
        submitter_certificate: vec![1; 32],
        body: Some(Body::Event(v1::Event { event_id: "E1".into(), ..Default::default() })),
        ..Default::default()
    };
    let open = ValidRecord::from_record(own).expect("valid");
    let sealed = |byte: u8| {
        NewSlot::Alone(Slot {
            record_id: Hash([byte; 32]),
            form: SlotForm::Sealed(epoch),
            subject_keys: vec![Hash([7; 32])],
            dedupe_key: Hash([byte; 32]),
            scope: DedupeScope::Agency,
        })
    };
    let slots = [sealed(1), NewSlot::Open(&open, Hash([3; 32])), sealed(2)];
    let (chain_id, unix_ms) = (ledger.chain.chain_id(), crate::clock::unix_ms());
    let agency = "AGENCY-0".parse().expect("a code");
    let until = unix_ms + 60_000;
    let signed = VerifiedTransaction::sign_slots(&slots, agency, until, &chain_id, &key(3, 0));
    ledger.commit_transaction(signed.expect("valid"));
    let reader = ledger.chain.reader();
    let view = View::open(reader.clone(), agency);
    let listed = |filter: &Listed| {
        let (mut walk, budget) = (LogWalk::new(reader.clone()), BUDGET);
        let begin = LogPlace { log_index: 1, position: 0 };
        let found = list((&view, &mut walk), filter, (begin, 2, false), (budget, false));
        found.expect("readable").expect("a place").records
    };
    let all = listed(&Listed::default());
    let told = |record: &v1::ListedRecord| {
        let sealed = record.place.as_ref().and_then(|place| place.sealed.clone());
        (record.record_id[0], record.kind.clone(), record.record.len(), sealed.map(|s| s.epoch))
    };
    let sealed = |byte| (byte, String::new(), 0, Some(1));
    let (id, length) = (open.id.0[0], open.bytes.len());
    let expected = [sealed(1), (id, "event".to_owned(), length, None), sealed(2)];
    assert_eq!(all.iter().map(told).collect::<Vec<_>>(), expected);
    // Under the key that the history has it, and under none that a filter would find an open one by.
    let key = epoch.index_key(&agency, &Hash([7; 32]));
    assert_eq!(listed(&filter(|f| f.subject_keys = vec![key.0.to_vec()])).len(), 2);
    assert_eq!(listed(&filter(|f| f.subject_keys = vec![vec![7; 32]])).len(), 0);
    assert_eq!(listed(&filter(|f| f.kinds = vec!["event".into()])).len(), 1);
}
