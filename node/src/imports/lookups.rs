//! Looking for declarations on the ledger, by what messages say of them.
//!
//! A history leads to candidates and answers nothing: whoever lodges a record may state any subject of it, and so
//! be first in the history of another's reference or MRN. What a declaration itself says counts; and where the
//! declarations of several submitters say it, a person decides.
//!
//! A declaration is lodged before it has an MRN, so that others can say its MRN and it does not. What the office of
//! its own agency, or of this one, has answered under an MRN is therefore looked at as well: nobody else can state
//! such an answer.
//!
//! The histories are everybody's to fill, so the work is cut into turns, and there is an end to it: what could
//! not be looked at is said of each message that needed it. All histories are listed first, and then each
//! transaction is read once, however many messages and subjects lead to it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque, btree_map::Entry},
    ops::ControlFlow,
    time::{Duration, Instant},
};

use customhouse_formats::{CANDIDATES_MAX, DeclarationKey, MessageRole, SoughtBy, Warning};
use customhouse_ledger::{
    agency::AgencyCode,
    authority::Role,
    chain::{ChainReader, CommittedRecord, RecordPlace},
    hash::Hash,
    store::StoreError,
};
use customhouse_proto::v1::{self, declaration::Regime, reference::Relation, subject::Scheme};
use prost::Message as _;

use crate::{identity::ClientIdentity, view::View};

/// A history of more records than this waits until the others are looked at: few have as many by themselves.
const CROWDED: usize = 64;

/// What the look-ups of a batch may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    /// Records of one subject that are looked at: its first.
    pub(crate) records_of_subject: usize,
    /// Records of all subjects.
    pub(crate) records: usize,
    /// Bytes of the transactions that carry them.
    pub(crate) bytes: usize,
    /// How long a turn holds a thread that reads for others too; a transaction is looked at to its end.
    pub(crate) turn: Duration,
    /// Time of all turns.
    pub(crate) time: Duration,
}

impl Budget {
    /// Room for 16,384 messages about declarations that were lodged one a transaction, some of them large.
    pub(crate) const OF_BATCH: Self = Self {
        records_of_subject: 1024,
        records: 131_072,
        bytes: 1 << 30,
        turn: Duration::from_millis(50),
        time: Duration::from_secs(10),
    };
}

/// Who sends the messages.
#[derive(Clone, Debug)]
pub(crate) struct Asker {
    pub(crate) agency: AgencyCode,
    submitter: String,
    /// An office amends and cancels what others of its agency lodged.
    is_office: bool,
}

impl Asker {
    /// A client of this agency's node.
    pub(crate) fn of(client: &ClientIdentity, agency: AgencyCode) -> Self {
        let is_office = client.role.speaks_as() == Some(Role::Office);
        Self { agency, submitter: client.name.clone(), is_office }
    }
}

/// Whose declarations a message may be about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// Those that the asker may amend and cancel.
    Amendable,
    /// The asker's where there is one: a trader's message names its own declaration. Or else anybody's.
    OwnFirst,
    Anybody,
}

impl Whose {
    pub(crate) fn of(role: MessageRole) -> Self {
        match role {
            MessageRole::Additional(Relation::Amends | Relation::Cancels) => Self::Amendable,
            MessageRole::Additional(_) => Self::OwnFirst,
            MessageRole::Declaration | MessageRole::Status => Self::Anybody,
        }
    }
}

/// A declaration that says what was looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// Where it is in the log.
    place: (u64, u32),
    pub(crate) id: Hash,
    pub(crate) agency: AgencyCode,
    submitter: String,
    mrn: String,
}

/// What is looked for, as it is found.
pub(crate) struct Lookups {
    asker: Asker,
    budget: Budget,
    looks: Vec<Look>,
    by: HashMap<SoughtBy, usize>,
    /// Histories that are not listed yet.
    unlisted: VecDeque<usize>,
    /// Records that are not looked at yet.
    unread: BTreeSet<Unread>,
    records: usize,
    bytes: usize,
    time: Duration,
}

/// What is found by one reference or MRN.
struct Look {
    by: SoughtBy,
    candidates: Vec<Candidate>,
    /// Whether all records about it were looked at.
    is_whole: bool,
}

/// A record that a look leads to. They are looked at in this order, once all histories are listed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Unread {
    /// Whether an answer leads to it, and not the history.
    is_answered: bool,
    is_crowded: bool,
    log_index: u64,
    position: u32,
    look: usize,
}

impl Lookups {
    pub(crate) fn new(asker: Asker) -> Self {
        Self::within(Budget::OF_BATCH, asker)
    }

    pub(crate) fn within(budget: Budget, asker: Asker) -> Self {
        let (looks, by, unlisted, unread) = Default::default();
        let (records, bytes, time) = Default::default();
        Self { asker, budget, looks, by, unlisted, unread, records, bytes, time }
    }

    pub(crate) fn asker(&self) -> &Asker {
        &self.asker
    }

    /// Adds a declaration that is to be looked for.
    pub(crate) fn ask(&mut self, key: &DeclarationKey) {
        for by in sought(key) {
            if self.by.contains_key(&by) {
                continue;
            }
            let place = self.looks.len();
            self.looks.push(Look { by: by.clone(), candidates: Vec::new(), is_whole: true });
            self.by.insert(by, place);
            self.unlisted.push_back(place);
        }
    }

    /// Looks for a while; says whether it is at its end. Reads the store.
    pub(crate) fn turn(&mut self, view: &View) -> Result<ControlFlow<()>, StoreError> {
        let began = Instant::now();
        loop {
            if self.time + began.elapsed() > self.budget.time || self.bytes > self.budget.bytes {
                self.give_up();
            }
            if !self.step(view)? {
                return Ok(ControlFlow::Break(()));
            }
            if began.elapsed() >= self.budget.turn {
                self.time += began.elapsed();
                return Ok(ControlFlow::Continue(()));
            }
        }
    }

    /// The declaration that a message is about, or why that is unclear; nothing where the ledger has none. The
    /// reference is asked first.
    pub(crate) fn answer(
        &self,
        key: &DeclarationKey,
        whose: Whose,
    ) -> Option<Result<&Candidate, Warning>> {
        let mut not_own = None;
        for look in sought(key).filter_map(|by| self.looks.get(*self.by.get(&by)?)) {
            match self.answer_by(look, key, whose) {
                // Another may lead to one that is.
                Some(Err(warning @ Warning::NotOwn { .. })) => not_own = not_own.or(Some(warning)),
                Some(answer) => return Some(answer),
                None => {}
            }
        }
        not_own.map(Err)
    }

    fn answer_by<'a>(
        &self,
        look: &'a Look,
        key: &DeclarationKey,
        whose: Whose,
    ) -> Option<Result<&'a Candidate, Warning>> {
        let is_own =
            |c: &Candidate| c.agency == self.asker.agency && c.submitter == self.asker.submitter;
        // As in a batch: two MRNs are two declarations.
        let agrees =
            |c: &Candidate| [&c.mrn, &key.mrn].contains(&&String::new()) || c.mrn == key.mrn;
        let mut candidates: Vec<_> = look.candidates.iter().filter(|c| agrees(c)).collect();
        let first = candidates.iter().min_by_key(|c| c.place).map(|c| c.id.0);
        let mut others_count = true;
        match whose {
            Whose::Amendable if self.asker.is_office => {
                candidates.retain(|c| c.agency == self.asker.agency);
            }
            Whose::OwnFirst if self.asker.is_office => {}
            Whose::OwnFirst if !candidates.iter().any(|c| is_own(c)) => {}
            Whose::Amendable | Whose::OwnFirst => {
                candidates.retain(|c| is_own(c));
                others_count = false;
            }
            Whose::Anybody => {}
        }
        // What one submitter lodged again is one declaration: the first stands for it.
        candidates.sort_unstable_by_key(|c| c.place);
        let mut known = HashSet::new();
        candidates.retain(|c| known.insert((c.agency, &*c.submitter)));
        match candidates[..] {
            [one] if look.is_whole || !others_count => Some(Ok(one)),
            [] if look.is_whole => first.map(|id| Err(Warning::NotOwn { by: look.by.clone(), id })),
            [] | [_] => Some(Err(Warning::NotLookedAt(look.by.clone()))),
            [..] => {
                let ids = candidates.iter().take(CANDIDATES_MAX).map(|c| c.id.0).collect();
                let (by, count) = (look.by.clone(), candidates.len());
                Some(Err(Warning::SeveralDeclarations { by, ids, count }))
            }
        }
    }

    /// Lists a history, or looks at a transaction. False where there is none left.
    fn step(&mut self, view: &View) -> Result<bool, StoreError> {
        if let Some(look) = self.unlisted.pop_front() {
            self.list(look, view)?;
            return Ok(true);
        }
        let Some(&first) = self.unread.first() else { return Ok(false) };
        let transaction = view.reader().transaction_at(first.log_index)?;
        self.bytes += transaction.as_ref().map_or(0, |transaction| transaction.encoded.len());
        let own = self.asker.agency;
        let mut said: BTreeMap<u32, Option<Said>> = BTreeMap::new();
        let of_first = |next: &Unread| {
            let of = |unread: &Unread| (unread.is_answered, unread.is_crowded, unread.log_index);
            of(next) == of(&first)
        };
        while let Some(next) = self.unread.first().copied().filter(of_first) {
            self.unread.pop_first();
            let Some(transaction) = &transaction else { continue };
            let said = match said.entry(next.position) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(free) => {
                    let record = transaction.record(next.position);
                    let seen = record.map(|record| view.seen(record)).transpose()?;
                    let place = (transaction.log_index, next.position);
                    free.insert(seen.and_then(|(record, _)| Said::read(&record, place, &own)))
                }
            };
            match said {
                Some(Said::Declared(found)) => {
                    self.looks[next.look].consider(found, &own, next.is_answered);
                }
                Some(Said::Answered { mrn, to })
                    if !next.is_answered
                        && self.looks[next.look].by == SoughtBy::Mrn(mrn.clone()) =>
                {
                    self.follow(next, to, view.reader())?;
                }
                _ => {}
            }
        }
        Ok(true)
    }

    /// Has the declarations looked at that were answered.
    fn follow(
        &mut self,
        answer: Unread,
        to: &[(Hash, AgencyCode)],
        reader: &ChainReader,
    ) -> Result<(), StoreError> {
        for (id, agency) in to {
            let Some(place) = reader.place_of(id, agency)? else { continue };
            let RecordPlace { log_index, position, .. } = place;
            self.unread.insert(Unread { is_answered: true, log_index, position, ..answer });
        }
        Ok(())
    }

    fn list(&mut self, place: usize, view: &View) -> Result<(), StoreError> {
        let look = &mut self.looks[place];
        let room = self.budget.records_of_subject.min(self.budget.records - self.records);
        let keys = view.subject_keys(&subject(&look.by, &self.asker.agency));
        let mut found = view.places(&keys, (0, 0), false, room + 1)?;
        if found.len() > room {
            look.is_whole = false;
            found.truncate(room);
        }
        self.records += found.len();
        let is_crowded = found.len() > CROWDED;
        self.unread.extend(found.into_iter().map(|(log_index, position)| Unread {
            is_answered: false,
            is_crowded,
            log_index,
            position,
            look: place,
        }));
        Ok(())
    }

    fn give_up(&mut self) {
        let unread = std::mem::take(&mut self.unread).into_iter().map(|unread| unread.look);
        for look in self.unlisted.drain(..).chain(unread) {
            self.looks[look].is_whole = false;
        }
    }
}

impl Look {
    fn consider(&mut self, found: &Declared, agency: &AgencyCode, is_answered: bool) {
        let says = match &self.by {
            // A reference is unique within its agency only.
            SoughtBy::Reference(reference) => {
                found.candidate.agency == *agency && found.reference == *reference
            }
            SoughtBy::Mrn(mrn) => found.candidate.mrn == *mrn,
        };
        if says || is_answered {
            self.candidates.push(found.candidate.clone());
        }
    }
}

/// What a record says, as far as it is looked at.
enum Said {
    Declared(Declared),
    /// An office has answered these, under this MRN: that of this agency, or of the declarations' own.
    Answered {
        mrn: String,
        to: Vec<(Hash, AgencyCode)>,
    },
}

struct Declared {
    reference: String,
    candidate: Candidate,
}

impl Said {
    /// What the record in a slot says; nothing where it is neither, or is a message about a declaration.
    fn read(record: &CommittedRecord, place: (u64, u32), own: &AgencyCode) -> Option<Self> {
        let (id, agency) = (record.id, record.place.agency);
        // What is on the chain was checked before it was committed, and what is held before it was kept.
        let record = OfRecord::decode(record.bytes.clone()?).ok()?;
        if let Some(OfDeclaration { regime, reference, mrn }) = record.declaration {
            if regime == Regime::AsReferenced as i32 {
                return None;
            }
            let submitter = record.submitter;
            let candidate = Candidate { place, id, agency, submitter, mrn };
            return Some(Self::Declared(Declared { reference, candidate }));
        }
        let mrn = record.status?.mrn;
        if record.submitter_role != v1::Role::Office as i32 {
            return None;
        }
        let target = |reference: &v1::Reference| {
            let id = Hash::from_slice(&reference.record_id).ok()?;
            let of =
                if reference.agency.is_empty() { agency } else { reference.agency.parse().ok()? };
            // Of another agency's office, only what it says of that agency's own declarations.
            let counts = agency == *own || of == agency;
            (reference.relation() == Relation::RespondsTo && counts).then_some((id, of))
        };
        let to = record.references.iter().filter_map(target).collect();
        Some(Self::Answered { mrn, to })
    }
}

/// Of a record, what is looked at. The other fields are passed over without being read: a record has up to a
/// quarter of a million.
#[derive(Clone, PartialEq, prost::Message)]
struct OfRecord {
    #[prost(string, tag = "3")]
    submitter: String,
    #[prost(message, repeated, tag = "4")]
    references: Vec<v1::Reference>,
    #[prost(int32, tag = "7")]
    submitter_role: i32,
    #[prost(message, optional, tag = "16")]
    declaration: Option<OfDeclaration>,
    #[prost(message, optional, tag = "17")]
    status: Option<OfStatus>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct OfDeclaration {
    #[prost(int32, tag = "1")]
    regime: i32,
    #[prost(string, tag = "4")]
    reference: String,
    #[prost(string, tag = "5")]
    mrn: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct OfStatus {
    #[prost(string, tag = "5")]
    mrn: String,
}

/// By what a declaration is looked for, in the order in which it decides.
fn sought(key: &DeclarationKey) -> impl Iterator<Item = SoughtBy> {
    let filled = |text: &String| (!text.is_empty()).then(|| text.clone());
    let reference = filled(&key.reference).map(SoughtBy::Reference);
    let mrn = filled(&key.mrn).map(SoughtBy::Mrn);
    [reference, mrn].into_iter().flatten()
}

fn subject(by: &SoughtBy, agency: &AgencyCode) -> v1::Subject {
    let (scheme, id) = match by {
        SoughtBy::Reference(reference) => {
            (Scheme::DeclarationReference, format!("{agency}/{reference}"))
        }
        SoughtBy::Mrn(mrn) => (Scheme::Mrn, mrn.clone()),
    };
    v1::Subject { scheme: scheme as i32, id }
}

#[cfg(test)]
mod tests;
