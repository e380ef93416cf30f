//! The records that belong to a history by a link: the declaration whose movement reference number came with
//! a later status, what amends or cancels it, what answers to it.
//!
//! From each record of a page its references are followed to earlier records, and from each declaration so
//! reached to the records that refer to it: those are found under its own reference. That is what a node
//! tells; a proof covers the subject keys that it names, and no link.

use std::collections::{BTreeSet, VecDeque};

use customhouse_ledger::{
    chain::{ChainReader, CommittedRecord},
    hash::Hash,
    record::subject::{Subjects, keys_of},
    store::StoreError,
};
use customhouse_proto::v1::{self, record::Body};
use prost::Message as _;

/// Bytes of a record that is given with the others.
const SHOWN_BYTES_MAX: usize = 64 * 1024;
/// Linked records of one page, and bytes of them.
const LINKED_MAX: usize = 64;
const LINKED_BYTES_MAX: usize = 512 * 1024;
/// Links from a record of the page to a linked one.
const HOPS_MAX: u32 = 4;
/// Records that are read for the links of one page.
const READ_MAX: usize = 512;
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

/// A search from the records of a page.
struct Search<'a> {
    reader: &'a ChainReader,
    found: Linked,
    /// Ids of the records that are on the page or were found.
    known: BTreeSet<Hash>,
    /// What is to be followed yet, with its number of links.
    queue: VecDeque<(Followed, u32)>,
    read: usize,
    bytes: usize,
}

/// A record whose links are followed.
struct Followed {
    id: Hash,
    agency: String,
    record: v1::Record,
}

/// Finds what is linked with these records of a subject's history.
///
/// # Errors
/// [`StoreError`].
pub fn linked(reader: &ChainReader, page: &[v1::HistoryItem]) -> Result<Linked, StoreError> {
    let mut search = Search {
        reader,
        found: Linked::default(),
        known: BTreeSet::new(),
        queue: VecDeque::new(),
        read: 0,
        bytes: 0,
    };
    for item in page {
        // What is on the chain was checked before it was committed.
        let (Ok(id), Ok(record)) =
            (Hash::from_slice(&item.record_id), v1::Record::decode(&item.record[..]))
        else {
            continue;
        };
        search.known.insert(id);
        search.queue.push_back((Followed { id, agency: record.agency.clone(), record }, 0));
    }
    while let Some((followed, hops)) = search.queue.pop_front() {
        if hops >= HOPS_MAX {
            search.found.cut |= !followed.record.references.is_empty();
            continue;
        }
        search.earlier(&followed, hops)?;
        search.later(&followed, hops)?;
    }
    Ok(search.found)
}

impl Search<'_> {
    /// The records that one refers to.
    fn earlier(&mut self, followed: &Followed, hops: u32) -> Result<(), StoreError> {
        for reference in &followed.record.references {
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
            let Some(place) = self.reader.place_of(&id, &agency)? else { continue };
            if let Some(target) = self.read((place.log_index, place.position))? {
                self.take(target, (followed.id, reference.relation, true), hops)?;
            }
        }
        Ok(())
    }

    /// The records that refer to a declaration, as far as they name its reference.
    fn later(&mut self, followed: &Followed, hops: u32) -> Result<(), StoreError> {
        let Some(Body::Declaration(declaration)) = &followed.record.body else { return Ok(()) };
        if declaration.reference.is_empty() {
            return Ok(());
        }
        let mut subjects = Subjects::of(&followed.agency);
        subjects.add_reference(&declaration.reference);
        for key in keys_of(&subjects.into_sorted()) {
            let from = (0, 0);
            let count = UNDER_REFERENCE_MAX + 1;
            let places = self.reader.subject_places(&key, from, false, count)?;
            self.found.cut |= places.len() > UNDER_REFERENCE_MAX;
            for place in places.into_iter().take(UNDER_REFERENCE_MAX) {
                let Some(later) = self.read(place)? else { return Ok(()) };
                let refers = |reference: &&v1::Reference| reference.record_id == followed.id.0;
                let Ok(record) = v1::Record::decode(later.bytes.clone()) else { continue };
                if let Some(reference) = record.references.iter().find(refers)
                    && !self.known.contains(&later.id)
                {
                    self.take(later, (followed.id, reference.relation, false), hops)?;
                }
            }
        }
        Ok(())
    }

    /// Reads a record, where there is room for another.
    fn read(
        &mut self,
        (log_index, position): (u64, u32),
    ) -> Result<Option<CommittedRecord>, StoreError> {
        if self.read >= READ_MAX {
            self.found.cut = true;
            return Ok(None);
        }
        self.read += 1;
        self.reader.record_at(log_index, position)
    }

    fn take(
        &mut self,
        target: CommittedRecord,
        (through, relation, is_earlier): (Hash, i32, bool),
        hops: u32,
    ) -> Result<(), StoreError> {
        // A large one is read by itself.
        let shown = target.bytes.len() <= SHOWN_BYTES_MAX;
        self.bytes += if shown { target.bytes.len() } else { 0 };
        if self.found.items.len() >= LINKED_MAX || self.bytes > LINKED_BYTES_MAX {
            self.found.cut = true;
            return Ok(());
        }
        self.known.insert(target.id);
        let place = v1::RecordPlace {
            height: target.header.height,
            time_ms: target.header.time_ms,
            log_index: target.place.log_index,
            slot_index: target.place.position,
            transaction_id: target.transaction_id.0.to_vec(),
        };
        let record_id = target.id.0.to_vec();
        let record = if shown { target.bytes.to_vec() } else { Vec::new() };
        let length = target.bytes.len() as u64;
        let item = v1::HistoryItem { record_id, record, place: Some(place), length };
        self.found.items.push(v1::LinkedItem {
            item: Some(item),
            through_record_id: through.0.to_vec(),
            relation,
            is_earlier,
        });
        if let Ok(record) = v1::Record::decode(target.bytes) {
            let agency = target.place.agency.to_string();
            self.queue.push_back((Followed { id: target.id, agency, record }, hops + 1));
        }
        Ok(())
    }
}
