//! Bits flipped in the files of a store: all of those that rows come from are found, wherever they are.

use std::{fs, fs::File, os::unix::fs::FileExt as _};

use super::{
    checked::{check_at, contents, dump, lived},
    *,
};
use crate::{
    chain::check::{CheckReport, StoreCheck},
    store::{FileState, Table, files::tests::write_as_before},
};

/// The files that, as `store check --help` says, are not looked at.
const NOTES: [&str; 4] = ["IDENTITY", "LOCK", "LOG", "OPTIONS-"];

/// Flips a bit of a file where it is.
fn flip(file: &File, bit: u64) {
    let mut byte = [0];
    file.read_exact_at(&mut byte, bit / 8).expect("within the file");
    file.write_all_at(&[byte[0] ^ 1 << (bit % 8)], bit / 8).expect("written");
}

fn editable(path: &Path) -> File {
    File::options().read(true).write(true).open(path).expect("a file")
}

#[test]
fn every_bit_of_every_table_and_blob_file_is_covered() {
    let fixture = Fixture::new();
    let folder = fixture.folder.path();
    let chain = lived(&fixture);
    chain.shared.store.flush().expect("flushed");
    drop(chain);
    let options = StoreOptions::default();
    let mut check = StoreCheck::open(folder, &fixture.genesis, &options, &[0; 32]).expect("opened");
    let files = check.files();
    let names: Vec<_> = files.iter().map(|file| file.name().to_owned()).collect();
    let on_disk = contents(folder).into_keys().filter(|path| {
        path.extension().is_some_and(|extension| extension == "sst" || extension == "blob")
    });
    let on_disk: Vec<_> = on_disk
        .map(|path| path.file_name().expect("a name").to_string_lossy().into_owned())
        .collect();
    assert_eq!(names, on_disk);
    assert!(names.len() > Table::ALL.len(), "a file of each table, and blobs: {names:?}");
    let mut tables = BTreeSet::new();
    for file in &files {
        assert_eq!(file.read(|_| ()), FileState::Sound, "{}", file.name());
        let written = editable(&folder.join(file.name()));
        for bit in 0..file.bytes() * 8 {
            flip(&written, bit);
            let state = file.read(|_| ());
            flip(&written, bit);
            let at = format!("{} byte {} bit {}", file.name(), bit / 8, bit % 8);
            let FileState::Damaged(StoreError::Corrupt { table, what, .. }) = state else {
                panic!("{at}: {state:?}");
            };
            assert!(what.contains(file.name()), "{at}: {what}");
            tables.insert(table);
        }
        written.set_len(file.bytes() - 1).expect("cut");
        assert!(matches!(file.read(|_| ()), FileState::Damaged(_)), "{} cut", file.name());
    }
    assert_eq!(tables, Table::ALL.map(Table::name).into(), "each is named");
}

/// xorshift64*.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}

/// Flips that are tried in each file with the whole check.
const FLIPS_A_FILE: u64 = 20;
/// Flips in each file that is not looked at.
const FLIPS_IN_NOTES: u64 = 5;

#[test]
fn a_bit_flipped_in_any_file_that_rows_come_from_is_found_by_the_whole_check() {
    let seed = std::env::var("FLIP_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or(0x5eed);
    let mut numbers = Numbers(seed);
    let fixture = Fixture::new();
    let folder = fixture.folder.path();
    let tip = lived(&fixture).tip();
    let genuine = dump(folder).expect("readable");
    let (mut found, mut harmless) = (BTreeMap::<String, u32>::new(), Vec::new());
    for (path, bytes) in contents(folder) {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let is_note = NOTES.iter().any(|note| name.starts_with(note));
        let (bits, file) = (bytes.len() as u64 * 8, editable(&path));
        let tries = match &*name {
            "CURRENT" => bits,
            _ if is_note => FLIPS_IN_NOTES.min(bits),
            _ => FLIPS_A_FILE.min(bits),
        };
        for part in 0..tries {
            let (from, to) = (bits * part / tries, bits * (part + 1) / tries);
            let bit = from + numbers.below(to - from);
            flip(&file, bit);
            let report = check_at(folder, &fixture.genesis);
            let is_sound = report.as_ref().is_ok_and(CheckReport::is_sound);
            let rows = is_sound.then(|| dump(folder));
            flip(&file, bit);
            let at = format!("seed {seed}: {name} byte {} bit {}", bit / 8, bit % 8);
            match report {
                Err(error) => assert!(error.is_corruption(), "{at}: {error}"),
                Ok(report) if !report.is_sound() => {}
                Ok(report) => {
                    assert!(is_note, "{at}: not found");
                    assert_eq!((report.height, report.block_hash), (tip.header.height, tip.hash));
                    assert_eq!(rows, Some(Ok(genuine.clone())), "{at}");
                    harmless.push(name.clone());
                    continue;
                }
            }
            *found.entry(name.clone()).or_default() += 1;
        }
    }
    eprintln!("seed {seed}: found {found:?}, without effect {harmless:?}");
    for kind in ["CURRENT", "MANIFEST-", ".log", ".sst", ".blob"] {
        assert!(found.keys().any(|name| name.contains(kind)), "{kind}: {found:?}");
    }
    assert!(check_at(folder, &fixture.genesis).expect("put back").is_sound());
}

/// RocksDB would take some of these for the end of the log, and drop what follows without a word.
#[test]
fn no_node_starts_on_a_log_or_manifest_with_a_flipped_bit() {
    let mut numbers = Numbers(0x5eed);
    let fixture = Fixture::new();
    drop(lived(&fixture));
    let files = contents(fixture.folder.path());
    for (path, bytes) in &files {
        let name = path.file_name().expect("a name").to_string_lossy();
        // Logs that are no longer needed are empty.
        let is_log = name.starts_with("MANIFEST-") || name.ends_with(".log") && !bytes.is_empty();
        if !is_log {
            continue;
        }
        // The first record's head, the last bytes, and some in between.
        let bits = bytes.len() as u64 * 8;
        let between: Vec<_> = (0..20).map(|_| numbers.below(bits)).collect();
        for bit in (0..56).chain(bits - 8..bits).chain(between) {
            let copy = tempfile::tempdir().expect("a folder");
            for (other, bytes) in &files {
                let to = copy.path().join(other.file_name().expect("a name"));
                fs::write(to, bytes).expect("written");
            }
            flip(&editable(&copy.path().join(&*name)), bit);
            let at = format!("{name} byte {} bit {}", bit / 8, bit % 8);
            let error =
                open_at(copy.path(), &fixture.genesis).err().unwrap_or_else(|| panic!("{at}"));
            assert!(error.is_corruption(), "{at}: {error}");
        }
    }
}

#[test]
fn a_pointer_that_is_damaged_is_named_and_no_node_starts_on_it() {
    let fixture = Fixture::new();
    let folder = fixture.folder.path();
    drop(lived(&fixture));
    let path = folder.join("CURRENT");
    let current = fs::read_to_string(&path).expect("text");
    for damaged in ["", "MANIFEST-", "MANIFEST-999999\n", current.trim_end(), "\u{fffd}\n"] {
        fs::write(&path, damaged).expect("written");
        let starts = fixture.try_open().err().expect("damaged");
        let check = check_at(folder, &fixture.genesis).expect_err("damaged");
        assert_eq!(starts, check, "{damaged:?}");
        assert!(check.is_corruption(), "{damaged:?}: {check}");
        let text = check.to_string();
        for part in ["CURRENT", current.trim_end(), "restore a backup"] {
            assert!(text.contains(part), "{damaged:?}: {text} lacks {part}");
        }
    }
    fs::write(&path, current).expect("put back");
    assert!(check_at(folder, &fixture.genesis).expect("opened").is_sound());
}

#[test]
fn files_that_an_earlier_version_wrote_are_told_to_be_unchecked() {
    let (fixture, before) = (Fixture::new(), tempfile::tempdir().expect("a folder"));
    drop(lived(&fixture));
    let rows = dump(fixture.folder.path()).expect("readable");
    let of_rows = rows.iter().map(|(table, key, value)| (*table, &**key, &**value));
    write_as_before(before.path(), of_rows);
    let report = check_at(before.path(), &fixture.genesis).expect("opened");
    assert!(report.is_sound(), "{report:?}");
    assert!(report.files == 0 && report.files_unchecked.len() > Table::ALL.len(), "{report:?}");
    // What is written from now on has checksums.
    let mut chain = open_at(before.path(), &fixture.genesis).expect("opened");
    commit(&mut chain, &[fixture.transaction(1, 200..204)]);
    chain.shared.store.flush().expect("flushed");
    drop(chain);
    let later = check_at(before.path(), &fixture.genesis).expect("opened");
    assert!(later.is_sound() && later.files > 0, "{later:?}");
    assert_eq!(later.files_unchecked, report.files_unchecked);
    // Its length is known in any case.
    let cut = editable(&before.path().join(&report.files_unchecked[0]));
    cut.set_len(cut.metadata().expect("a file").len() + 1).expect("lengthened");
    let report = check_at(before.path(), &fixture.genesis).expect("opened");
    let is_told = report.damage.iter().any(|damage| damage.what.contains("that were written"));
    assert!(is_told, "{report:?}");
}
