use customhouse_files::frames::{FRAME_HEADER_BYTES, MARK_BYTES, mark};
use customhouse_ledger::keys::SigningKey;
use tempfile::TempDir;

use super::*;

fn key(seed: u8) -> PublicKey {
    SigningKey::from_seed(&[seed; 32]).public()
}

fn fresh() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("validator.journal");
    SignerJournal::create(&path, &key(1)).expect("created");
    (directory, path)
}

fn append_and_close(path: &Path, payloads: &[Vec<u8>]) {
    let (mut journal, _) = SignerJournal::open(path, &key(1)).expect("opened");
    journal.append(payloads).expect("appended");
}

#[test]
fn what_was_appended_is_there_after_reopening() {
    let (_directory, path) = fresh();
    append_and_close(&path, &[b"one".to_vec(), b"two".to_vec()]);
    append_and_close(&path, &[b"three".to_vec()]);
    let (_journal, recovered) = SignerJournal::open(&path, &key(1)).expect("opened");
    assert_eq!(recovered.payloads, [b"one".to_vec(), b"two".to_vec(), b"three".to_vec()]);
    assert_eq!((recovered.floor, recovered.torn_bytes), (0, 0));
}

/// The journal's file as an append of these left it that was cut short before its sync was marked.
fn without_last_mark(path: &Path) -> Vec<u8> {
    let mut whole = std::fs::read(path).expect("read");
    whole.truncate(whole.len() - MARK_BYTES);
    whole
}

fn reopened(path: &Path, bytes: &[u8]) -> Result<Recovered, JournalError> {
    std::fs::write(path, bytes).expect("written");
    SignerJournal::open(path, &key(1)).map(|(_journal, recovered)| recovered)
}

#[test]
fn every_torn_tail_is_cut_and_the_rest_kept() {
    let (_directory, path) = fresh();
    append_and_close(&path, &[b"first".to_vec(), b"second".to_vec()]);
    let whole = without_last_mark(&path);
    let kept = whole.len() - FRAME_HEADER_BYTES - 6;
    for length in kept..whole.len() {
        let recovered = reopened(&path, &whole[..length]).expect("opened");
        assert_eq!(recovered.payloads, [b"first".to_vec()], "{length} bytes");
        assert_eq!(recovered.torn_bytes, (length - kept) as u64);
    }
    let recovered = reopened(&path, &whole).expect("opened");
    assert_eq!(recovered.payloads, [b"first".to_vec(), b"second".to_vec()]);
}

#[test]
fn a_hole_in_an_append_that_was_cut_short_is_cut_off_and_what_was_sent_kept() {
    let (_directory, path) = fresh();
    append_and_close(&path, &[b"sent".to_vec()]);
    append_and_close(&path, &[vec![1; 9_000], vec![2; 9_000], vec![3; 9_000]]);
    let whole = without_last_mark(&path);
    let entry = FRAME_HEADER_BYTES + 9_000;
    let begin = whole.len() - 3 * entry;
    // Pages of the file that were never written, while later ones were.
    for page in (begin.next_multiple_of(4096)..whole.len()).step_by(4096) {
        for rubbish in [0, 0xa5, 0xff] {
            let mut torn = whole.clone();
            let end = (page + 4096).min(torn.len());
            torn[page..end].fill(rubbish);
            let recovered = reopened(&path, &torn).expect("opened");
            let before = (page - begin) / entry;
            assert_eq!(recovered.payloads.len(), 1 + before, "page at {page} of {rubbish}");
            assert_eq!(recovered.payloads[0], b"sent");
            let cut = torn.len() - begin - before * entry;
            assert_eq!(recovered.torn_bytes, cut as u64);
        }
    }
}

#[test]
fn the_same_damage_to_what_was_sent_stops_the_key() {
    let (_directory, path) = fresh();
    append_and_close(&path, &[vec![1; 9_000], vec![2; 9_000]]);
    let sent = std::fs::read(&path).expect("read");
    let (mut journal, _) = SignerJournal::open(&path, &key(1)).expect("opened");
    journal.append(&[vec![3; 9_000]]).expect("appended");
    drop(journal);
    let cut_short = without_last_mark(&path);
    for whole in [sent, cut_short] {
        for page in [4096, 8192, 12_288] {
            for rubbish in [0, 0xa5] {
                let mut damaged = whole.clone();
                damaged[page..page + 4096].fill(rubbish);
                let refused = reopened(&path, &damaged).expect_err("refused");
                assert!(matches!(refused, JournalError::Damaged { .. }), "{page}: {refused}");
                let read = SignerJournal::read(&path, &key(1)).expect_err("refused");
                assert_eq!(read.to_string(), refused.to_string());
            }
        }
    }
}

#[test]
fn neither_a_payload_nor_an_older_file_can_look_like_a_mark() {
    let (_directory, path) = fresh();
    let (mut journal, _) = SignerJournal::open(&path, &key(1)).expect("opened");
    let begin = journal.length;
    // As of another file: the offset is right, the nonce is not.
    let place = begin + FRAME_HEADER_BYTES as u64 + 5_000;
    let mut payload = vec![7; 9_000];
    payload[5_000..5_000 + MARK_BYTES].copy_from_slice(&mark(place, [0; 8]));
    journal.append(&[payload]).expect("appended");
    drop(journal);
    let mut torn = without_last_mark(&path);
    torn[1_000..1_500].fill(0);
    let recovered = reopened(&path, &torn).expect("opened");
    assert_eq!((recovered.payloads.len(), recovered.torn_bytes), (0, torn.len() as u64 - begin));
}

#[test]
fn a_damaged_entry_or_header_stops_the_key() {
    let (_directory, path) = fresh();
    append_and_close(&path, &[b"first".to_vec(), b"ends in zero\0".to_vec()]);
    let whole = std::fs::read(&path).expect("read");
    let entries = HEADER_BYTES + MARK_BYTES;
    let payload_of_last = whole.len() - MARK_BYTES - 3;
    let places = [0, 9, 41, 50, HEADER_BYTES - 1, HEADER_BYTES, entries, entries + 3];
    for place in places.into_iter().chain([entries + FRAME_HEADER_BYTES, payload_of_last]) {
        let mut damaged = whole.clone();
        damaged[place] ^= 0x10;
        let refused = reopened(&path, &damaged).expect_err("refused");
        assert!(matches!(refused, JournalError::Damaged { .. }), "byte {place}: {refused}");
    }
}

#[test]
fn the_journal_of_another_version_is_called_that_and_not_damaged() {
    let (_directory, path) = fresh();
    let mut earlier = b"CHJRNL1\n".to_vec();
    earlier.extend_from_slice(key(1).as_bytes());
    earlier.extend_from_slice(&0_u64.to_be_bytes());
    earlier.extend_from_slice(&crc32c::crc32c(&earlier).to_be_bytes());
    let refused = reopened(&path, &earlier).expect_err("refused");
    assert!(matches!(refused, JournalError::OtherVersion(_)), "{refused}");
    assert!(refused.to_string().contains("Run the version that wrote it"), "{refused}");
    assert_eq!(std::fs::read(&path).expect("there"), earlier, "for that version it stays as it is");
}

/// A disk writes sectors in any order, and a power cut leaves some of them as they were, or never written.
#[test]
fn whichever_sectors_of_an_append_are_lost_all_that_was_sent_is_read_and_a_prefix_of_the_rest() {
    const SECTOR: usize = 512;
    let (_directory, path) = fresh();
    let payloads = |lengths: [usize; 3]| lengths.map(|length| vec![length as u8; length]);
    let (sent, unsent) = (payloads([900, 0, 301]), payloads([700, 40, 1900]));
    append_and_close(&path, &sent);
    let (mut journal, _) = SignerJournal::open(&path, &key(1)).expect("opened");
    // What is durable; the mark behind it was never synced.
    let durable = without_last_mark(&path);
    journal.append(&unsent).expect("appended");
    drop(journal);
    let written = without_last_mark(&path);
    let all: Vec<_> = sent.iter().chain(&unsent).cloned().collect();
    let sectors = durable.len() / SECTOR..written.len().div_ceil(SECTOR);
    for lost in 0_u32..1 << sectors.len() {
        let mut left = written.clone();
        for (bit, sector) in sectors.clone().enumerate().filter(|(bit, _)| lost >> bit & 1 == 1) {
            let begin = (sector * SECTOR).max(durable.len());
            let end = left.len().min((sector + 1) * SECTOR);
            left[begin..end].fill(0);
            // Nor is the file any longer then, where nothing behind it is there.
            if lost >> bit == (1 << (sectors.len() - bit)) - 1 {
                left.truncate(begin);
                break;
            }
        }
        std::fs::write(&path, &left).expect("written");
        let read = SignerJournal::read(&path, &key(1));
        let read = read.unwrap_or_else(|error| panic!("sectors {lost:b}: {error}")).payloads;
        assert!(read.len() >= sent.len() && all.starts_with(&read), "sectors {lost:b}");
        assert_eq!(read.len() == all.len(), lost == 0, "sectors {lost:b}");
    }
}

/// The directory of a journal as a disk has it: what was not synced is gone after a power cut, though
/// everybody could read it.
pub(super) mod disk {
    use std::{
        cell::{Cell, RefCell},
        collections::HashMap,
        fs::{self, File},
        io,
        os::{fd::AsRawFd as _, unix::fs::MetadataExt as _},
        path::Path,
    };

    thread_local! {
        static FAILS: Cell<bool> = const { Cell::new(false) };
        /// Contents by inode, as of their last sync.
        static FILES: RefCell<HashMap<u64, Vec<u8>>> = RefCell::default();
        static NAMES: RefCell<HashMap<String, u64>> = RefCell::default();
    }

    /// Makes syncs fail from now on, or not.
    pub(crate) fn fail(fails: bool) {
        FAILS.set(fails);
    }

    pub(crate) fn before_sync() -> io::Result<()> {
        if FAILS.get() { Err(io::Error::other("a fault that was planted")) } else { Ok(()) }
    }

    pub(crate) fn after_sync(file: &File) {
        let path = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).expect("open");
        if !path.is_dir() {
            let inode = file.metadata().expect("open").ino();
            let bytes = fs::read(&path).expect("readable");
            return FILES.with_borrow_mut(|files| drop(files.insert(inode, bytes)));
        }
        let entries = fs::read_dir(path).expect("readable").map(|entry| entry.expect("readable"));
        let named = entries.map(|entry| {
            let name = entry.file_name().into_string().expect("a text");
            (name, entry.metadata().expect("there").ino())
        });
        let named = named.collect();
        NAMES.with_borrow_mut(|names| *names = named);
    }

    /// The directory has what is durable, and nothing else.
    pub(crate) fn cut_power(directory: &Path) {
        for entry in fs::read_dir(directory).expect("readable") {
            fs::remove_file(entry.expect("readable").path()).expect("removed");
        }
        NAMES.with_borrow(|names| {
            for (name, inode) in names {
                let bytes = FILES.with_borrow(|files| files.get(inode).cloned());
                fs::write(directory.join(name), bytes.unwrap_or_default()).expect("written");
            }
        });
    }
}

#[test]
fn what_a_start_has_read_outlives_a_power_cut_though_its_sync_had_failed() {
    let (directory, path) = fresh();
    let (mut journal, _) = SignerJournal::open(&path, &key(1)).expect("opened");
    journal.append(&[b"durable".to_vec()]).expect("appended");
    // Or it was killed between the write and the sync: what follows is the same.
    disk::fail(true);
    journal.append(&[b"in memory only".to_vec()]).expect_err("its sync fails");
    drop(journal);
    SignerJournal::open(&path, &key(1)).expect_err("nothing is believed that cannot be synced");
    disk::fail(false);
    let (journal, read) = SignerJournal::open(&path, &key(1)).expect("opened");
    assert_eq!(read.payloads, [b"durable".to_vec(), b"in memory only".to_vec()]);
    // It votes again by what it read, and has nothing new to persist.
    drop(journal);
    disk::cut_power(directory.path());
    let (_journal, after) = SignerJournal::open(&path, &key(1)).expect("opened");
    assert_eq!(after, read, "nothing that may have been sent is forgotten");
}

#[test]
fn what_was_never_synced_nor_read_is_gone_after_a_power_cut() {
    let (directory, path) = fresh();
    let (mut journal, _) = SignerJournal::open(&path, &key(1)).expect("opened");
    journal.append(&[b"durable".to_vec()]).expect("appended");
    disk::fail(true);
    journal.append(&[b"in memory only".to_vec()]).expect_err("its sync fails");
    disk::fail(false);
    drop(journal);
    disk::cut_power(directory.path());
    let (_journal, read) = SignerJournal::open(&path, &key(1)).expect("opened");
    assert_eq!(read.payloads, [b"durable".to_vec()]);
}

#[test]
fn after_an_error_nothing_more_is_appended() {
    let (_directory, path) = fresh();
    let (mut journal, _) = SignerJournal::open(&path, &key(1)).expect("opened");
    disk::fail(true);
    journal.append(&[b"one".to_vec()]).expect_err("its sync fails");
    disk::fail(false);
    journal.append(&[b"two".to_vec()]).expect_err("what the disk holds is unknown");
    drop(journal);
    let (mut journal, _) = SignerJournal::open(&path, &key(1)).expect("opened");
    disk::fail(true);
    journal.compact(3, &[]).expect_err("its sync fails");
    disk::fail(false);
    journal.append(&[b"two".to_vec()]).expect_err("which file has the name is unknown");
}

#[test]
fn a_link_to_a_journal_stays_one_and_two_links_to_one_are_one_journal() {
    let (directory, path) = fresh();
    let links = ["one.journal", "two.journal"].map(|name| directory.path().join(name));
    links.iter().for_each(|link| std::os::unix::fs::symlink(&path, link).expect("made"));
    let (mut journal, _) = SignerJournal::open(&links[0], &key(1)).expect("opened");
    journal.append(&[b"one".to_vec()]).expect("appended");
    let refused = SignerJournal::open(&links[1], &key(1)).expect_err("refused");
    assert!(matches!(refused, JournalError::Locked(_)), "{refused}");
    assert!(links[0].is_symlink());
    drop(journal);
    let (_journal, read) = SignerJournal::open(&path, &key(1)).expect("opened");
    assert_eq!(read.payloads, [b"one".to_vec()]);
}

#[test]
fn a_second_process_with_the_key_is_refused() {
    let (_directory, path) = fresh();
    let first = SignerJournal::open(&path, &key(1)).expect("opened");
    let refused = SignerJournal::open(&path, &key(1)).expect_err("refused");
    assert!(matches!(refused, JournalError::Locked(_)), "{refused}");
    drop(first);
    SignerJournal::open(&path, &key(1)).expect("free again");
}

#[test]
fn a_missing_journal_and_another_keys_journal_are_refused() {
    let (directory, path) = fresh();
    let absent = directory.path().join("absent.journal");
    let missing = SignerJournal::open(&absent, &key(1)).expect_err("refused");
    assert!(matches!(missing, JournalError::Missing(_)), "{missing}");
    let other = SignerJournal::open(&path, &key(2)).expect_err("refused");
    assert!(matches!(other, JournalError::OtherKey { .. }), "{other}");
    let twice = SignerJournal::create(&path, &key(1)).expect_err("refused");
    assert!(matches!(twice, JournalError::Exists(_)), "{twice}");
}

#[test]
fn compaction_keeps_what_it_is_given_and_raises_the_floor() {
    let (_directory, path) = fresh();
    let (mut journal, _) = SignerJournal::open(&path, &key(1)).expect("opened");
    journal.append(&[b"old".to_vec(), b"new".to_vec()]).expect("appended");
    journal.compact(8, &[b"new".to_vec()]).expect("compacted");
    journal.append(&[b"newer".to_vec()]).expect("appended");
    drop(journal);
    let (_journal, recovered) = SignerJournal::open(&path, &key(1)).expect("opened");
    assert_eq!(recovered.payloads, [b"new".to_vec(), b"newer".to_vec()]);
    assert_eq!(recovered.floor, 8);
}
