//! Indexes are made anew.

use super::{
    checked::{change, check_at, dump, lived},
    *,
};
use crate::{
    chain::{
        check::StoreCheck,
        rebuild::{RebuildError, StoreRebuild},
        rows::INDEXES,
    },
    finality::decision::Grounds,
    store::{
        Table,
        table::{self, META_DECISIONS},
    },
};

/// The rebuild on one thread; ends after `blocks_max` blocks of the second pass.
fn rebuild(fixture: &Fixture, blocks_max: usize) -> Result<(), RebuildError> {
    let options = StoreOptions::default();
    let mut rebuild = StoreRebuild::open(fixture.folder.path(), &fixture.genesis, &options)?;
    let reader = rebuild.reader();
    let verified = |block: crate::chain::check::StoredBlock| block.verify(&reader.chain_id());
    for block in reader.blocks() {
        rebuild.survey(block.and_then(verified))?;
    }
    drop(reader);
    rebuild.begin()?;
    let reader = rebuild.reader();
    let verified = |block: crate::chain::check::StoredBlock| block.verify(&reader.chain_id());
    for block in reader.blocks().take(blocks_max) {
        rebuild.apply(block.and_then(verified))?;
    }
    if blocks_max < usize::MAX {
        return Ok(());
    }
    rebuild.finish().map(drop)
}

/// Damages every index: one row each is changed, one taken out.
fn damage_indexes(fixture: &Fixture) {
    for table in INDEXES {
        let rows = dump(fixture.folder.path()).expect("readable");
        let mut of_table = rows.into_iter().filter(|(found, ..)| *found == table);
        let (_, first, value) = of_table.next().expect("a row");
        change(fixture, table, &first, Some(&[&value[..], &[9]].concat()), None);
        if let Some((_, second, _)) = of_table.next() {
            change(fixture, table, &second, None, None);
        }
    }
}

#[test]
fn damaged_indexes_are_as_before_after_a_rebuild() {
    let fixture = Fixture::new();
    let tip = lived(&fixture).tip();
    let genuine = dump(fixture.folder.path()).expect("readable");
    damage_indexes(&fixture);
    assert!(!check_at(fixture.folder.path(), &fixture.genesis).expect("opened").is_sound());
    rebuild(&fixture, usize::MAX).expect("headers and transactions are sound");
    assert_eq!(dump(fixture.folder.path()), Ok(genuine));
    let report = check_at(fixture.folder.path(), &fixture.genesis).expect("opened");
    assert_eq!(report.damage, []);
    let mut chain = fixture.open();
    assert_eq!(chain.tip(), tip);
    commit(&mut chain, &[fixture.transaction(1, 200..204)]);
}

#[test]
fn a_store_that_is_half_rebuilt_does_not_open_until_it_is_rebuilt() {
    let fixture = Fixture::new();
    drop(lived(&fixture));
    let genuine = dump(fixture.folder.path()).expect("readable");
    for blocks in [0, 1, 3] {
        rebuild(&fixture, blocks).expect("so far");
        assert_eq!(fixture.try_open().err(), Some(StoreError::HalfRebuilt), "{blocks} blocks");
        let report = check_at(fixture.folder.path(), &fixture.genesis).expect("opened");
        assert!(report.damage[0].what.contains("half rebuilt"), "{:?}", report.damage);
    }
    rebuild(&fixture, usize::MAX).expect("sound");
    assert_eq!(dump(fixture.folder.path()), Ok(genuine));
    drop(fixture.open());
}

#[test]
fn a_rebuild_that_was_killed_between_two_tables_is_told_and_run_again() {
    let fixture = Fixture::new();
    drop(lived(&fixture));
    let genuine = dump(fixture.folder.path()).expect("readable");
    rebuild(&fixture, 0).expect("so far");
    let options = rocksdb::Options::default();
    let tables = Table::ALL.map(Table::name);
    let mut database =
        rocksdb::DB::open_cf(&options, fixture.folder.path(), tables).expect("opened");
    database.drop_cf(INDEXES[0].name()).expect("there");
    drop(database);
    let refused = check_at(fixture.folder.path(), &fixture.genesis).err();
    assert_eq!(refused, Some(StoreError::HalfRebuilt));
    rebuild(&fixture, usize::MAX).expect("sound");
    assert_eq!(dump(fixture.folder.path()), Ok(genuine));
}

#[test]
fn where_headers_or_transactions_are_damaged_nothing_is_changed() {
    for table in [Table::Headers, Table::Transactions] {
        for take_out in [false, true] {
            let fixture = Fixture::new();
            drop(lived(&fixture));
            let rows = dump(fixture.folder.path()).expect("readable");
            let (_, key, mut value) =
                rows.into_iter().filter(|(found, ..)| *found == table).nth(2).expect("a row");
            // In a signature of the finalization, or in a record.
            *value.last_mut().expect("not empty") ^= 1;
            change(&fixture, table, &key, (!take_out).then_some(&value), None);
            let before = dump(fixture.folder.path()).expect("readable");
            match rebuild(&fixture, usize::MAX) {
                Err(RebuildError::Damaged(damage)) => assert_eq!(damage.table, table.name()),
                other => panic!("{table:?}: {other:?}"),
            }
            assert_eq!(dump(fixture.folder.path()).as_ref(), Ok(&before));
            let mark = (Table::Meta, Box::from(table::META_REBUILD), Box::default());
            assert!(!before.contains(&mark));
        }
    }
}

#[test]
fn a_store_that_lost_its_last_headers_is_not_rebuilt() {
    let fixture = Fixture::new();
    let height = lived(&fixture).tip().header.height;
    change(&fixture, Table::Headers, &table::number(height), None, None);
    match rebuild(&fixture, usize::MAX) {
        Err(RebuildError::Damaged(damage)) => assert_eq!(damage.height, Some(height)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_half_rebuilt_store_shows_its_damage_when_it_is_opened() {
    let fixture = Fixture::new();
    drop(lived(&fixture));
    let first = || {
        let options = StoreOptions::default();
        let check = StoreCheck::open(fixture.folder.path(), &fixture.genesis, &options, &[0; 32]);
        check.expect("opened").first_damage().cloned()
    };
    assert_eq!(first(), None);
    change(&fixture, Table::Meta, table::META_REBUILD, Some(&[]), None);
    assert!(first().is_some());
}

#[test]
fn a_decision_that_was_lost_is_missed_until_the_indexes_are_made_anew() {
    let fixture = Fixture::new();
    let folder = fixture.folder.path();
    drop(lived(&fixture));
    let rows = dump(folder).expect("readable");
    let (_, key, _) = rows.iter().find(|(table, ..)| *table == Table::Decisions).expect("one");
    change(&fixture, Table::Decisions, key, None, None);
    let missed = |rows: &str| {
        let report = check_at(folder, &fixture.genesis).expect("opened");
        let [damage] = &report.damage[..] else { panic!("{:?}", report.damage) };
        assert_eq!((damage.table, &*damage.what), ("decisions", rows));
    };
    missed("0 rows, and not the 1 that were written");
    let mut chain = fixture.open();
    let staged = prepare(&chain, &[]).staged;
    let certificate = finalization(&chain, &staged.block().header);
    let grounds = Grounds { certificates: vec![certificate.clone()], claims: Vec::new() };
    chain.commit_with(staged, certificate, grounds).expect("committed");
    drop(chain);
    missed("1 rows, and not the 2 that were written");
    rebuild(&fixture, usize::MAX).expect("headers and transactions are sound");
    let report = check_at(folder, &fixture.genesis).expect("opened");
    assert!(report.is_sound() && !report.decisions_unchecked, "{report:?}");

    // As an earlier version left it.
    change(&fixture, Table::Meta, META_DECISIONS, None, None);
    let report = check_at(folder, &fixture.genesis).expect("opened");
    assert!(report.is_sound() && report.decisions_unchecked, "{report:?}");
}
