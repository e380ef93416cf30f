//! The records that belong to a history by a link: the declaration whose movement reference number came with
//! a later status, what amends or cancels it, what answers to it.
//!
//! From each record of a page its references are followed to earlier records, and from each declaration so
//! reached to the records that refer to it: those are found under its own reference. That is what a node
//! tells; a proof covers the subject keys that it names, and no link.

use std::{
    collections::{BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use customhouse_ledger::{
    chain::{CommittedRecord, CommittedTransaction},
    hash::Hash,
    record::subject::Subjects,
    store::StoreError,
};
use customhouse_proto::v1::{self, record::Body};
use prost::Message as _;

use crate::view::View;

/// A record with what is said of it where it is sealed.
type Found = (CommittedRecord, Option<v1::Sealed>);

/// Bytes of a record that is given with the others.
const SHOWN_BYTES_MAX: usize = 64 * 1024;
/// Linked records of one page, and bytes of them.
const LINKED_MAX: usize = 64;
const LINKED_BYTES_MAX: usize = 512 * 1024;
/// Links from a record of the page to a linked one.
const HOPS_MAX: u32 = 4;
/// Records that are read for the links of one page.
const READ_MAX: usize = 512;
/// Bytes that are read for a page: its own records, and the transactions that its links lead to. The last of
/// these may go beyond.
pub(super) const READ_BYTES_MAX: usize = 32 * 1024 * 1024;
/// How long the search may take; a record is looked at to its end.
const TIME_MAX: Duration = Duration::from_millis(500);
/// Records under one declaration's reference that are looked at.
const UNDER_REFERENCE_MAX: usize = 128;

/// What is linked with the records of a page.
#[derive(Debug, Default)]
pub struct Linked {
    /// The records, each once, in the order in which they were reached.
    pub items: Vec<v1::LinkedItem>,
    /// Whether a limit ended the search: there may be others.
    pub cut: bool,
}

/// Finds what is linked with these records of a subject's history.
///
/// # Errors
/// [`StoreError`].
pub fn linked(view: &View, page: &[v1::HistoryItem]) -> Result<Linked, StoreError> {
    Ok(Search::run(view, page)?.found)
}

/// A search from the records of a page.
pub(super) struct Search<'a> {
    view: &'a View,
    pub(super) found: Linked,
    /// Ids of the records that are on the page or were found.
    known: BTreeSet<Hash>,
    /// What is to be followed yet, with its number of links.
    queue: VecDeque<(Followed, u32)>,
    /// The transaction that was read last: records that refer to each other often came together.
    last: Option<CommittedTransaction>,
    read: usize,
    pub(super) read_bytes: usize,
    bytes: usize,
    began: Instant,
    /// Whether a limit has ended it.
    has_ended: bool,
}

/// What is followed of a record. The record itself may be large, and hundreds wait.
struct Followed {
    id: Hash,
    agency: String,
    references: Vec<v1::Reference>,
    /// A declaration's own; empty for other records.
    reference: String,
}

impl Followed {
    fn of(id: Hash, record: v1::Record) -> Self {
        let reference = match record.body {
            Some(Body::Declaration(declaration)) => declaration.reference,
            _ => String::new(),
        };
        Self { id, agency: record.agency, references: record.references, reference }
    }
}

impl<'a> Search<'a> {
    /// Searches to the end, or to a limit.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(super) fn run(view: &'a View, page: &[v1::HistoryItem]) -> Result<Self, StoreError> {
        let lengths = page.iter().map(|item| usize::try_from(item.length).unwrap_or(usize::MAX));
        let mut search = Self {
            view,
            found: Linked::default(),
            known: BTreeSet::new(),
            queue: VecDeque::new(),
            last: None,
            read: 0,
            read_bytes: lengths.fold(0, usize::saturating_add),
            bytes: 0,
            began: Instant::now(),
            has_ended: false,
        };
        for item in page {
            // What is on the chain was checked before it was committed.
            let (Ok(id), Ok(record)) =
                (Hash::from_slice(&item.record_id), v1::Record::decode(&item.record[..]))
            else {
                continue;
            };
            search.known.insert(id);
            search.queue.push_back((Followed::of(id, record), 0));
        }
        while !search.has_ended
            && let Some((followed, hops)) = search.queue.pop_front()
        {
            if hops >= HOPS_MAX {
                search.found.cut |= !followed.references.is_empty();
                continue;
            }
            search.earlier(&followed, hops)?;
            search.later(&followed, hops)?;
        }
        Ok(search)
    }

    /// The records that one refers to.
    fn earlier(&mut self, followed: &Followed, hops: u32) -> Result<(), StoreError> {
        for reference in &followed.references {
            let agency = match &reference.agency[..] {
                "" => &followed.agency,
                other => other,
            };
            let (Ok(id), Ok(agency)) = (Hash::from_slice(&reference.record_id), agency.parse())
            else {
                continue;
            };
            if self.known.contains(&id) {
                continue;
            }
            let Some(place) = self.view.reader().place_of(&id, &agency)? else { continue };
            if let Some(target) = self.read((place.log_index, place.position))? {
                self.take(target, (followed.id, reference.relation, true), hops);
            }
            if self.has_ended {
                break;
            }
        }
        Ok(())
    }

    /// The records that refer to a declaration, as far as they name its reference.
    fn later(&mut self, followed: &Followed, hops: u32) -> Result<(), StoreError> {
        if followed.reference.is_empty() {
            return Ok(());
        }
        let mut subjects = Subjects::of(&followed.agency);
        subjects.add_reference(&followed.reference);
        for subject in subjects.into_sorted() {
            let (from, count) = ((0, 0), UNDER_REFERENCE_MAX + 1);
            let places = self.view.places(&self.view.subject_keys(&subject), from, false, count)?;
            self.found.cut |= places.len() > UNDER_REFERENCE_MAX;
            for place in places.into_iter().take(UNDER_REFERENCE_MAX) {
                let later = self.read(place)?;
                if self.has_ended {
                    return Ok(());
                }
                let Some((later, sealed)) = later else { continue };
                let refers = |reference: &&v1::Reference| reference.record_id == followed.id.0;
                let Ok(record) = v1::Record::decode(later.bytes.clone().unwrap_or_default()) else {
                    continue;
                };
                if let Some(reference) = record.references.iter().find(refers)
                    && !self.known.contains(&later.id)
                {
                    self.take((later, sealed), (followed.id, reference.relation, false), hops);
                }
            }
        }
        Ok(())
    }

    /// Reads a record. `None` where it is not there, and where no other may be read: that ends the search.
    fn read(&mut self, (log_index, position): (u64, u32)) -> Result<Option<Found>, StoreError> {
        let is_spent = self.found.items.len() >= LINKED_MAX
            || self.read >= READ_MAX
            || self.began.elapsed() > TIME_MAX;
        if is_spent {
            self.end();
            return Ok(None);
        }
        self.read += 1;
        if self.last.as_ref().is_none_or(|last| last.log_index != log_index) {
            if self.read_bytes >= READ_BYTES_MAX {
                self.end();
                return Ok(None);
            }
            // Before there is another.
            self.last = None;
            self.last = self.view.reader().transaction_at(log_index)?;
            self.read_bytes += self.last.as_ref().map_or(0, |read| read.encoded.len());
        }
        let record = self.last.as_ref().and_then(|transaction| transaction.record(position));
        record.map(|record| self.view.seen(record)).transpose()
    }

    /// There may be others, and they are not looked for.
    fn end(&mut self) {
        (self.has_ended, self.found.cut) = (true, true);
    }

    fn take(
        &mut self,
        (target, sealed): Found,
        (through, relation, is_earlier): (Hash, i32, bool),
        hops: u32,
    ) {
        // A large one is read by itself.
        let bytes = target.bytes.unwrap_or_default();
        let shown = bytes.len() <= SHOWN_BYTES_MAX;
        self.bytes += if shown { bytes.len() } else { 0 };
        if self.bytes > LINKED_BYTES_MAX {
            return self.end();
        }
        self.known.insert(target.id);
        let place = v1::RecordPlace {
            height: target.header.height,
            time_ms: target.header.time_ms,
            log_index: target.place.log_index,
            slot_index: target.place.position,
            transaction_id: target.transaction_id.0.to_vec(),
            sealed,
        };
        let record_id = target.id.0.to_vec();
        let record = if shown { bytes.to_vec() } else { Vec::new() };
        let length = bytes.len() as u64;
        let item = v1::HistoryItem { record_id, record, place: Some(place), length };
        self.found.items.push(v1::LinkedItem {
            item: Some(item),
            through_record_id: through.0.to_vec(),
            relation,
            is_earlier,
        });
        if let Ok(record) = v1::Record::decode(bytes) {
            let agency = target.place.agency.to_string();
            let followed = Followed { agency, ..Followed::of(target.id, record) };
            self.queue.push_back((followed, hops + 1));
        }
    }
}
