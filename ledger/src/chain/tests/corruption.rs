//! Damaged files and values: an error that names them, never a wrong answer.

use std::{fs, path::PathBuf};

use super::{checked::check_at, *};
use crate::store::{Table, table};

/// Everything a reader can tell, or the first error.
fn read_all(folder: &Path, genesis: &Genesis) -> Result<Vec<Vec<u8>>, StoreError> {
    let chain = open_at(folder, genesis)?;
    let reader = chain.reader();
    let mut all = Vec::new();
    for height in 0..=chain.tip().header.height {
        let block = reader.block(height)?.ok_or(StoreError::OutOfRange)?;
        all.push(block.block.header.encode());
        for bytes in block.transactions {
            let read = VerifiedTransaction::from_bytes(bytes, &genesis.chain_id());
            let transaction = read.expect("what is served is what was committed");
            for slot in transaction.slots() {
                let receipt = reader.receipt(&slot.record_id)?.ok_or(StoreError::OutOfRange)?;
                all.push(receipt.record);
                let history = reader.history(&slot.subject_keys[0], None, 100)?;
                all.extend(history.iter().map(HistoryEntry::encode));
            }
            all.push(transaction.encoded().to_vec());
        }
    }
    Ok(all)
}

fn files(folder: &Path, suffix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == suffix));
    files.sort();
    files
}

fn copy(from: &Path) -> TempDir {
    let to = tempfile::tempdir().expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        fs::copy(&path, to.path().join(path.file_name().expect("a name"))).expect("copied");
    }
    to
}

fn grown(fixture: &Fixture) -> Chain {
    let mut chain = fixture.open();
    for block in 0..4 {
        let first = block * 100;
        let transactions: Vec<_> =
            (0..5).map(|i| fixture.transaction(1, first + i * 4..first + i * 4 + 4)).collect();
        commit(&mut chain, &transactions);
    }
    chain
}

#[test]
fn a_flipped_byte_in_a_table_or_blob_file_is_never_served() {
    let fixture = Fixture::new();
    let chain = grown(&fixture);
    chain.shared.store.flush().expect("flushed");
    drop(chain);
    let genuine = read_all(fixture.folder.path(), &fixture.genesis).expect("sound");
    let (mut found, mut harmless) = (0, 0);
    for suffix in ["sst", "blob"] {
        let paths = files(fixture.folder.path(), suffix);
        assert!(!paths.is_empty(), "no {suffix} file");
        for path in paths {
            let length = fs::metadata(&path).expect("a file").len() as usize;
            for part in 0..6 {
                let damaged = copy(fixture.folder.path());
                let target = damaged.path().join(path.file_name().expect("a name"));
                let mut bytes = fs::read(&target).expect("readable");
                bytes[(length - 1) * part / 6 + part] ^= 0x10;
                fs::write(&target, bytes).expect("written");
                match read_all(damaged.path(), &fixture.genesis) {
                    Ok(read) => {
                        assert_eq!(read, genuine, "{} part {part}", target.display());
                        harmless += 1;
                    }
                    Err(_) => found += 1,
                }
            }
        }
    }
    eprintln!("{found} flips found, {harmless} without effect");
    assert!(found > harmless, "checksums are on");
}

#[test]
fn a_torn_tail_of_the_write_ahead_log_costs_unacknowledged_rows_only() {
    let fixture = Fixture::new();
    let chain = grown(&fixture);
    let tip = chain.tip();
    drop(chain);
    let logs = files(fixture.folder.path(), "log");
    let log = logs.iter().max_by_key(|path| fs::metadata(path).expect("a file").len());
    let log = log.expect("a write-ahead log");
    // What a crash in the middle of a write leaves: part of a record after the last.
    let torn = copy(fixture.folder.path());
    let target = torn.path().join(log.file_name().expect("a name"));
    let mut bytes = fs::read(&target).expect("readable");
    bytes.extend_from_slice(&[0x11; 20]);
    fs::write(&target, &bytes).expect("written");
    let reader = ChainReader::open(torn.path(), &fixture.genesis, &StoreOptions::default());
    assert_eq!(reader.expect("sound").tip(), tip);
    let report = check_at(torn.path(), &fixture.genesis).expect("readable");
    assert!(report.is_sound(), "a crash is no damage: {:?}", report.damage);
    assert_eq!(report.torn.len(), 1, "and it is told: {:?}", report.torn);
    let lengthened = copy(torn.path());
    assert_eq!(open_at(torn.path(), &fixture.genesis).expect("sound").tip(), tip);
    // Zeros that were to be written, over more than a block.
    let target = lengthened.path().join(log.file_name().expect("a name"));
    let mut bytes = fs::read(log).expect("readable");
    bytes.resize(bytes.len() + 70_000, 0);
    fs::write(&target, &bytes).expect("written");
    assert_eq!(open_at(lengthened.path(), &fixture.genesis).expect("sound").tip(), tip);
    // Damage in the middle is not a torn tail.
    let damaged = copy(fixture.folder.path());
    let target = damaged.path().join(log.file_name().expect("a name"));
    let mut bytes = fs::read(&target).expect("readable");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(&target, &bytes).expect("written");
    let refused = open_at(damaged.path(), &fixture.genesis).err().expect("damaged");
    assert!(refused.is_corruption(), "{refused}");
}

#[test]
fn a_value_that_is_not_its_rows_is_named_with_table_and_key() {
    let fixture = Fixture::new();
    let chain = grown(&fixture);
    let reader = chain.reader();
    let transaction = fixture.transaction(1, 0..4);
    let (id, record_id) = (transaction.id(), transaction.slots()[0].record_id);
    let agency = transaction.header().agency;
    let dedupe_key = transaction.slots()[0].dedupe_key;
    let body = table::numbered(0, &transaction.leaf_hash());
    type Read<'a> = &'a dyn Fn() -> Option<StoreError>;
    let cases: [(Table, &[u8], Read<'_>); 6] = [
        (Table::Records, &table::record(&record_id, &agency), &|| reader.record(&record_id).err()),
        (Table::Dedupe, &table::dedupe(Some(&agency), &dedupe_key), &|| {
            reader.dedupe(&agency, &dedupe_key).err()
        }),
        (Table::Headers, &table::number(1), &|| reader.header(1).err()),
        (Table::Transactions, &body, &|| reader.transaction_at(0).err()),
        (Table::TransactionIds, id.as_bytes(), &|| reader.transaction(&id).err()),
        (Table::Tiles, &table::tile(0, 0), &|| reader.block(1).err()),
    ];
    for (table, key, read) in cases {
        let genuine =
            chain.shared.store.read(table, key).expect("readable").expect("a row").to_vec();
        for damaged in [&genuine[..genuine.len() - 1], &[&genuine[..], &[0]].concat(), &[0xff; 9]] {
            overwrite(&chain, table, key, damaged);
            match read() {
                Some(StoreError::Corrupt { table: name, key: shown, .. }) => {
                    assert_eq!((name, shown), (table.name(), hex::encode(key)));
                }
                other => panic!("{table:?}: {other:?}"),
            }
        }
        overwrite(&chain, table, key, &genuine);
        assert_eq!(read(), None, "{table:?}");
    }
}

#[test]
fn a_history_with_a_missing_entry_is_not_proven() {
    let fixture = Fixture::new();
    let chain = grown(&fixture);
    let subject = fixture.transaction(1, 0..4).slots()[2].subject_keys[0];
    let reader = chain.reader();
    assert!(reader.history_proof(&subject).is_ok());
    let entry = reader.history(&subject, None, 1).expect("readable")[0];
    let mut batch = chain.shared.store.batch();
    batch.delete(Table::History, entry.encode());
    batch.write().expect("written");
    let refused = reader.history_proof(&subject).expect_err("incomplete");
    assert!(refused.is_corruption(), "{refused}");
}

#[test]
fn a_store_whose_indexes_are_not_the_tips_does_not_open() {
    let tile = table::tile(0, 0);
    let cases: [(Table, &[u8]); 4] = [
        (Table::Tiles, &tile),
        (Table::Heads, &[]),
        (Table::Headers, &table::number(4)),
        (Table::Meta, table::META_TIP),
    ];
    for (table, key) in cases {
        let fixture = Fixture::new();
        let chain = grown(&fixture);
        let row = chain.shared.store.scan_while(table, key, |_| true).next();
        let (key, mut value) = row.expect("a row").expect("readable");
        value[8] ^= 1;
        overwrite(&chain, table, &key, &value);
        drop(chain);
        let refused = fixture.try_open().err().expect("damaged");
        assert!(refused.is_corruption(), "{table:?}: {refused}");
    }
}

#[test]
fn a_store_that_lost_its_pointer_does_not_begin_at_nothing() {
    let fixture = Fixture::new();
    drop(grown(&fixture));
    fs::remove_file(fixture.folder.path().join("CURRENT")).expect("removed");
    let refused = fixture.try_open().err().expect("damaged");
    assert_eq!(refused.code(), "STORE_POINTER_LOST");
}

fn overwrite(chain: &Chain, table: Table, key: &[u8], value: &[u8]) {
    let mut batch = chain.shared.store.batch();
    batch.put(table, key, value);
    batch.write().expect("written");
}
