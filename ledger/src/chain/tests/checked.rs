//! A whole store is checked: a sound one passes, and all damage is named, or means nothing.

use std::{fs, path::PathBuf};

use super::*;
use crate::{
    chain::{
        check::{CheckReport, DAMAGE_MAX, StoreCheck},
        rows::INDEXES,
    },
    finality::decision::Grounds,
    store::{Store, Table, table},
};

/// The check on one thread.
pub(super) fn check_at(folder: &Path, genesis: &Genesis) -> Result<CheckReport, StoreError> {
    let mut check = StoreCheck::open(folder, genesis, &StoreOptions::default(), &[7; 32])?;
    let pass = |check: &mut StoreCheck| {
        let reader = check.reader();
        for block in reader.blocks() {
            let verified = block.and_then(|block| block.verify(&reader.chain_id()));
            if !check.apply(verified) {
                break;
            }
        }
    };
    for file in check.files() {
        let state = file.read(|_| ());
        check.add_file(&file, state);
    }
    pass(&mut check);
    if !check.is_stopped() {
        let tables = check.tables();
        let sums = tables.iter().map(|table| table.scan(|_| ())).collect();
        if check.compare(sums) {
            check.begin_to_locate();
            pass(&mut check);
        }
    }
    Ok(check.finish())
}

/// Table, key, value.
type Dumped = (Table, Box<[u8]>, Box<[u8]>);

/// All rows of all tables.
pub(super) fn dump(folder: &Path) -> Result<Vec<Dumped>, StoreError> {
    let store = Store::open_to_read(folder, &StoreOptions::default())?.store;
    let rows = Table::ALL.into_iter().flat_map(|table| {
        store.whole(table).map(move |row| row.map(|(key, value)| (table, key, value)))
    });
    rows.collect()
}

/// A chain with what chains have: files and a log, records that came twice in a block and later, a
/// change of the members and one of a parameter, what a decision rested on, and two blocks stored for voting.
pub(super) fn lived(fixture: &Fixture) -> Chain {
    let mut chain = fixture.open();
    let transactions: Vec<_> = (0..3).map(|i| fixture.transaction(1, i * 2..i * 2 + 2)).collect();
    commit(&mut chain, &transactions);
    changes::apply_new_agency(&mut chain);
    sealed::apply_sealed(fixture, &mut chain);
    // One record and one key of the first transaction come again; one key comes twice here.
    let again = |key: &str| (1, key.to_owned());
    let repeated =
        fixture.transaction_with_keys(1, [again("key 1"), again("other"), again("more")]);
    let renewed = fixture.transaction_with_keys(1, [(70, "key 0".to_owned()), (71, "new".into())]);
    let twice = fixture.transaction_with_keys(1, [(72, "twice".to_owned()), (73, "twice".into())]);
    commit(&mut chain, &[repeated, renewed, twice]);
    chain.shared.store.flush().expect("flushed");
    commit(&mut chain, &[fixture.transaction(2, 80..84)]);
    changes::apply_new_heartbeat(&mut chain);
    let staged = prepare(&chain, &[]).staged;
    let certificate = finalization(&chain, &staged.block().header);
    let grounds = Grounds { certificates: vec![certificate.clone()], claims: Vec::new() };
    chain.commit_with(staged, certificate, grounds).expect("committed");
    for (view, number) in [(1, 90), (2, 91)] {
        let transactions = [fixture.transaction(1, number..number + 1)];
        let context = context_in(&chain, view);
        let staged = chain.prepare(&context, transactions).expect("readable").staged;
        chain.store_pending(staged.block(), staged.transactions()).expect("stored");
    }
    chain
}

pub(super) fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir(folder).expect("a folder").map(|e| e.expect("an entry").path());
    entries.map(|path| (path.clone(), fs::read(&path).expect("readable"))).collect()
}

#[test]
fn a_sound_store_is_sound_and_no_file_of_it_is_changed() {
    let fixture = Fixture::new();
    let folder = fixture.folder.path();
    drop(fixture.open());
    let empty = check_at(folder, &fixture.genesis).expect("opened");
    assert!(empty.is_sound() && empty.height == 0, "{empty:?}");
    let tip = lived(&fixture).tip();
    let before = contents(folder);
    let report = check_at(folder, &fixture.genesis).expect("opened");
    assert_eq!(report.damage, []);
    assert!(report.is_sound());
    assert_eq!((report.height, report.block_hash), (tip.header.height, tip.hash));
    assert_eq!((report.transactions, report.records), (tip.header.log_size, 6 + 1 + 5 + 7 + 4 + 1));
    assert_eq!(before, contents(folder));
    let rows = dump(folder).expect("readable");
    let of_index = rows.iter().filter(|(table, ..)| INDEXES.contains(table)).count();
    assert_eq!(report.index_rows, of_index as u64);
    assert!(
        Table::ALL.iter().all(|table| rows.iter().any(|(found, ..)| found == table)),
        "no table is empty"
    );
}

#[test]
fn a_store_that_is_open_or_another_chains_is_not_looked_at() {
    let fixture = Fixture::new();
    let folder = fixture.folder.path();
    assert_eq!(check_at(folder, &fixture.genesis), Err(StoreError::Missing(folder.to_owned())));
    let chain = lived(&fixture);
    assert_eq!(check_at(folder, &fixture.genesis), Err(StoreError::Locked(folder.to_owned())));
    drop(chain);
    let checked = StoreCheck::open(folder, &fixture.genesis, &StoreOptions::default(), &[0; 32]);
    let refused = fixture.try_open().err().expect("a check has it");
    assert_eq!(refused, StoreError::Locked(folder.to_owned()));
    drop(checked);
    let other = check_at(folder, &genesis(5)).expect_err("another chain");
    assert_eq!(other.code(), "STORE_OTHER_GENESIS");
}

/// Changes a row, takes it out, puts one in.
#[test]
fn damage_of_any_table_is_named_with_table_and_key() {
    let fixture = Fixture::new();
    drop(lived(&fixture));
    let rows = dump(fixture.folder.path()).expect("readable");
    for table in Table::ALL {
        // No record that came again: whether that is a no-op would have to be read from these rows.
        let of_table = rows.iter().filter(|(found, _, value)| {
            let places = matches!(table, Table::Records | Table::Dedupe);
            *found == table && (!places || value[..8] == 11_u64.to_be_bytes())
        });
        let of_table: Vec<_> = of_table.collect();
        let (_, key, value) = of_table[of_table.len() / 2];
        let mut other = value.to_vec();
        // A history entry has no value.
        match other.last_mut() {
            Some(last) => *last ^= 1,
            None => other.push(1),
        }
        let mut surplus = key.to_vec();
        *surplus.last_mut().expect("no key is empty") ^= 0x55;
        damage_is_named(&fixture, table, key, Some(&other), table.name());
        // A removed block that was stored for voting leaves its bodies behind.
        match table {
            Table::Pending => damage_is_named(&fixture, table, key, None, "transactions"),
            _ => damage_is_named(&fixture, table, key, None, table.name()),
        }
        damage_is_named(&fixture, table, &surplus, Some(value), table.name());
    }
    assert!(check_at(fixture.folder.path(), &fixture.genesis).expect("opened").is_sound());
}

/// Rows as somebody writes them who wants to be entitled to what is not shared.
#[test]
fn a_row_of_an_agreement_or_of_what_is_shared_that_no_block_gives_is_named() {
    let fixture = Fixture::new();
    drop(lived(&fixture));
    let rows = dump(fixture.folder.path()).expect("readable");
    let of_table = |table| rows.iter().find(|(found, ..)| *found == table).expect("a row");
    let (_, key, event) = of_table(Table::Agreements);
    let mut next = key.to_vec();
    next[7] += 77;
    damage_is_named(&fixture, Table::Agreements, &next, Some(event), "agreements");
    let (_, key, epoch) = of_table(Table::Shared);
    let mut other = epoch.to_vec();
    *other.last_mut().expect("an epoch") += 1;
    damage_is_named(&fixture, Table::Shared, key, Some(&other), "shared");
    let mut elsewhere = key.to_vec();
    elsewhere[55] ^= 1;
    damage_is_named(&fixture, Table::Shared, &elsewhere, Some(epoch), "shared");
    // An open slot that counts, as if it were sealed.
    let open = fixture.transaction(1, 0..2);
    let open = table::shared(&open.slots()[1].record_id, &open.header().agency, 0, 1);
    damage_is_named(&fixture, Table::Shared, &open, Some(epoch), "shared");
}

/// Puts or removes a row, checks, and takes that back.
fn damage_is_named(
    fixture: &Fixture,
    table: Table,
    key: &[u8],
    changed: Option<&[u8]>,
    named_table: &str,
) {
    let mut before = None;
    change(fixture, table, key, changed, Some(&mut before));
    let report = check_at(fixture.folder.path(), &fixture.genesis);
    change(fixture, table, key, before.as_deref(), None);
    let (shown, length) = (hex::encode(key), changed.map(<[u8]>::len));
    let at = format!("{} {shown}, {length:?} bytes put in, there were {before:?}", table.name());
    let report = match report {
        Ok(report) => report,
        // Of another format or genesis.
        Err(error) => {
            assert!(table == Table::Meta && !error.is_corruption(), "{at}: {error}");
            return;
        }
    };
    let named = report.damage.iter().any(|damage| {
        let is_row = damage.key == shown || shown.starts_with(&damage.key);
        damage.table == named_table && (is_row || named_table != table.name())
    });
    assert!(named, "{at}: {:?}", report.damage);
    let is_chain = matches!(table, Table::Headers | Table::Transactions) && before.is_some();
    assert!(is_chain || report.stopped_at.is_none(), "{at}: {report:?}");
    assert!(report.damage_count <= 3, "{at}: {:?}", report.damage);
}

/// Puts or removes a row of a closed store.
pub(super) fn change(
    fixture: &Fixture,
    table: Table,
    key: &[u8],
    value: Option<&[u8]>,
    before: Option<&mut Option<Vec<u8>>>,
) {
    let store = Store::open(fixture.folder.path(), &StoreOptions::default()).expect("opened");
    if let Some(before) = before {
        *before = store.read(table, key).expect("readable").map(|value| value.to_vec());
    }
    let mut batch = store.batch();
    match value {
        Some(value) => batch.put(table, key, value),
        None => batch.delete(table, key),
    }
    batch.write().expect("written");
}

#[test]
fn what_is_missing_from_the_chain_stops_the_check_there() {
    for table in [Table::Headers, Table::Transactions] {
        let fixture = Fixture::new();
        let chain = lived(&fixture);
        let log_start = chain.reader().header(3).expect("read").expect("there").header.log_start;
        let leaf = chain.shared.store.log_leaves(log_start, log_start + 1).expect("read")[0];
        drop(chain);
        let key = match table {
            Table::Headers => table::number(3).to_vec(),
            _ => table::numbered(log_start, &leaf).to_vec(),
        };
        change(&fixture, table, &key, None, None);
        let report = check_at(fixture.folder.path(), &fixture.genesis).expect("opened");
        assert_eq!((report.height, report.stopped_at), (2, Some(3)));
        let [damage] = &report.damage[..] else { panic!("{:?}", report.damage) };
        assert_eq!(
            (damage.height, damage.table, &*damage.what),
            (Some(3), table.name(), "missing")
        );
    }
}

#[test]
fn much_damage_is_counted_and_the_first_of_it_named() {
    let fixture = Fixture::new();
    let mut chain = fixture.open();
    for block in 0..3 {
        commit(&mut chain, &[fixture.transaction(1, block * 50..block * 50 + 50)]);
    }
    let mut batch = chain.shared.store.batch();
    for row in chain.shared.store.whole(Table::Records) {
        batch.delete(Table::Records, row.expect("readable").0);
    }
    batch.write().expect("written");
    drop(chain);
    let report = check_at(fixture.folder.path(), &fixture.genesis).expect("opened");
    assert_eq!((report.damage.len(), report.damage_count), (DAMAGE_MAX, 150));
}

/// A quorum that breaks the rule about equal records: what it takes for not yet committed is out of the
/// tables while its block is made, or what it takes for committed is in them.
#[test]
fn a_record_that_a_quorum_applied_twice_or_passed_over_is_found() {
    for is_applied_twice in [true, false] {
        let fixture = Fixture::new();
        let mut chain = fixture.open();
        let first = fixture.transaction(1, 0..1);
        commit(&mut chain, &[Arc::clone(&first)]);
        let number = if is_applied_twice { 0 } else { 7 };
        let second = fixture.transaction(1, number..number + 1);
        // Another transaction of the same record.
        let not_after_ms = fixture.genesis.time_ms + 3_000_000;
        let again = [(number, format!("key {number}"))];
        let again = transaction(1, 129, again, not_after_ms, &fixture.genesis.chain_id());
        let slot = &second.slots()[0];
        let key = table::dedupe(Some(&second.header().agency), &slot.dedupe_key);
        let first_key = table::dedupe(Some(&first.header().agency), &first.slots()[0].dedupe_key);
        let row = chain.shared.store.read(Table::Dedupe, first_key).expect("readable");
        let row = row.expect("committed").to_vec();
        let mut batch = chain.shared.store.batch();
        if is_applied_twice {
            batch.delete(Table::Dedupe, key);
            batch.delete(Table::Records, table::record(&slot.record_id, &second.header().agency));
        } else {
            batch.put(Table::Dedupe, key, row);
        }
        batch.write().expect("written");
        let committed = commit(&mut chain, &[again]);
        let is_applied = committed.outcomes[0][0] == crate::chain::SlotOutcome::Applied;
        assert_eq!(is_applied, is_applied_twice);
        if !is_applied_twice {
            let mut batch = chain.shared.store.batch();
            batch.delete(Table::Dedupe, key);
            batch.write().expect("written");
        }
        drop(chain);
        let report = check_at(fixture.folder.path(), &fixture.genesis).expect("opened");
        let tables: BTreeSet<_> = report.damage.iter().map(|damage| damage.table).collect();
        match is_applied_twice {
            true => assert_eq!(tables, BTreeSet::from(["dedupe", "records"]), "{report:?}"),
            false => {
                assert_eq!((tables, report.stopped_at), (BTreeSet::from(["headers"]), Some(2)))
            }
        }
    }
}
