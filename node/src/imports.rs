//! Batches of raw messages: mapped by the formats that are read, linked among themselves, and to what is on the
//! ledger. Lodging them is the services'.
//!
//! A batch is held whole until it is lodged, because any message may be about any other; so what one may hold
//! is limited, in what comes in and in what is made of it.

use std::{collections::HashMap, ops::ControlFlow};

use customhouse_formats::{
    DeclarationKey, Format, ImportError, Imported, LinkTarget, Links, Outcome, RawMessage, Skipped,
    import, link_batch,
};
use customhouse_ledger::{
    agency::AgencyCode,
    authority::{self, RecordKind},
    chain::ChainReader,
    hash::Hash,
    record::{RecordError, subject::subject_key},
    store::StoreError,
};
use customhouse_proto::v1::{
    self, declaration::Regime, record::Body, source::Mapping, subject::Scheme,
};
use prost::Message as _;

use crate::identity::Role;

/// Most bytes of a message's name.
pub(crate) const LABEL_BYTES_MAX: usize = 1024;
/// Bytes that a result takes beside its record, about.
const RESULT_BYTES: usize = 2048;
/// Records of one subject that are looked through for its declaration, and of all subjects of a batch.
const SUBJECT_RECORDS_MAX: usize = 256;
const LOOKED_THROUGH_MAX: usize = 65_536;

/// What a batch may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchLimits {
    /// Bytes of messages.
    pub(crate) content_bytes: usize,
    /// Results: one a message, or one a row.
    pub(crate) results: usize,
    /// Bytes of the records that are made of them.
    pub(crate) record_bytes: usize,
}

/// Why a batch takes no more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BatchRefused {
    /// A message's fields.
    #[error("message {0}: {1}")]
    Message(usize, String),
    /// More than its limits.
    #[error("more than {limit} {of} in one batch: send it in several, nothing was lodged")]
    TooMuch { limit: usize, of: &'static str },
}

/// Messages, and what became of each.
pub(crate) struct Batch {
    limits: BatchLimits,
    content_bytes: usize,
    record_bytes: usize,
    messages: usize,
    /// In order.
    pub(crate) items: Vec<Item>,
    /// The messages that became records, in order.
    pub(crate) imported: Vec<Imported>,
    /// Of each of them, where it is on the ledger.
    pub(crate) ids: Vec<Option<Hash>>,
    /// The agencies of what was found on the ledger of others.
    elsewhere: HashMap<Hash, AgencyCode>,
}

/// A result.
pub(crate) struct Item {
    /// The message's place among those sent.
    pub(crate) message: usize,
    pub(crate) outcome: ItemOutcome,
}

/// What became of a message or row.
pub(crate) enum ItemOutcome {
    /// Its place among those imported.
    Imported(usize),
    Skipped(Skipped),
    Malformed(String, ImportError),
}

impl Batch {
    pub(crate) fn new(limits: BatchLimits) -> Self {
        let (items, imported, ids, elsewhere) = Default::default();
        let (content_bytes, record_bytes, messages) = (0, 0, 0);
        Self { limits, content_bytes, record_bytes, messages, items, imported, ids, elsewhere }
    }

    /// Whether so many bytes more of messages may come.
    pub(crate) fn has_room(&self, bytes: usize) -> Result<(), BatchRefused> {
        let limit = self.limits.content_bytes;
        match self.content_bytes.saturating_add(bytes) <= limit {
            true => Ok(()),
            false => Err(BatchRefused::TooMuch { limit, of: "bytes of messages" }),
        }
    }

    /// Maps a message. Takes CPU time in proportion to it.
    pub(crate) fn add(
        &mut self,
        format: Option<&dyn Format>,
        message: &v1::ImportMessage,
    ) -> Result<(), BatchRefused> {
        let number = self.messages;
        let wrong = |reason: &str| Err(BatchRefused::Message(number, reason.to_owned()));
        let v1::ImportMessage { label, content, record_id, lines_before } = message;
        if label.len() > LABEL_BYTES_MAX {
            return wrong("label: more than 1,024 bytes");
        }
        let known = match &record_id[..] {
            [] => None,
            id => match Hash::from_slice(id) {
                Ok(id) => Some(id),
                Err(_) => return wrong("record_id: 32 bytes expected"),
            },
        };
        self.has_room(content.len())?;
        self.content_bytes += content.len();
        self.messages += 1;
        let lines_before = usize::try_from(*lines_before).unwrap_or(usize::MAX);
        let raw = RawMessage { label, content, lines_before };
        let mut refused = Ok(());
        let before = self.imported.len();
        import(format, &raw, &mut |outcome| {
            refused = self.take(number, label, outcome);
            if refused.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        refused?;
        if known.is_some() && self.imported.len() == before + 1 {
            self.ids[before] = known;
        }
        Ok(())
    }

    fn take(
        &mut self,
        message: usize,
        label: &str,
        outcome: Result<Outcome, ImportError>,
    ) -> Result<(), BatchRefused> {
        let too_much = |limit, of| Err(BatchRefused::TooMuch { limit, of });
        if self.items.len() >= self.limits.results {
            return too_much(self.limits.results, "results");
        }
        let outcome = match outcome {
            Ok(Outcome::Imported(mut imported)) => {
                if let Some(source) = &mut imported.record.source {
                    source.set_mapping(Mapping::Checked);
                }
                let detached = imported.detached.as_ref().map_or(0, Vec::len);
                self.record_bytes += imported.record.encoded_len() + detached + RESULT_BYTES;
                if self.record_bytes > self.limits.record_bytes {
                    return too_much(self.limits.record_bytes, "bytes of records");
                }
                self.imported.push(*imported);
                self.ids.push(None);
                ItemOutcome::Imported(self.imported.len() - 1)
            }
            Ok(Outcome::Skipped(skipped)) => ItemOutcome::Skipped(skipped),
            Err(error) => ItemOutcome::Malformed(label.to_owned(), error),
        };
        self.items.push(Item { message, outcome });
        Ok(())
    }

    /// Finds what each message is about: in the batch, or else on the ledger of any agency. Reads the store.
    pub(crate) fn link(
        &mut self,
        reader: &ChainReader,
        agency: &AgencyCode,
    ) -> Result<Links, StoreError> {
        let mut search = Search::new(reader, agency);
        let links = link_batch(&self.imported, |key| search.declaration(key).map(|id| id.0));
        self.elsewhere.extend(search.elsewhere);
        search.failed.map_or(Ok(links), Err)
    }

    /// The agency of a record that was found on the ledger, where it is another than this one.
    pub(crate) fn agency_of(&self, id: &Hash) -> &str {
        self.elsewhere.get(id).map_or("", AgencyCode::as_str)
    }

    /// What a link leads to, where that is on the ledger.
    pub(crate) fn target(&self, to: LinkTarget) -> Option<Hash> {
        match to {
            LinkTarget::Batch(index) => self.ids.get(index).copied().flatten(),
            LinkTarget::Ledger(id) => Some(Hash(id)),
        }
    }

    /// Looks for targets of links in the batch that are not lodged with it: somebody has lodged them before.
    pub(crate) fn find_lodged(
        &mut self,
        targets: &[usize],
        reader: &ChainReader,
        agency: &AgencyCode,
    ) -> Result<(), StoreError> {
        let mut search = Search::new(reader, agency);
        for &index in targets {
            if self.ids[index].is_none() {
                self.ids[index] = search.declaration(&self.imported[index].key);
            }
        }
        self.elsewhere.extend(search.elsewhere);
        search.failed.map_or(Ok(()), Err)
    }
}

/// Declarations that are looked for on the ledger, each once.
struct Search<'r> {
    reader: &'r ChainReader,
    agency: &'r AgencyCode,
    known: HashMap<DeclarationKey, Option<Hash>>,
    /// Those found of other agencies.
    elsewhere: HashMap<Hash, AgencyCode>,
    looked_through: usize,
    failed: Option<StoreError>,
}

impl<'r> Search<'r> {
    fn new(reader: &'r ChainReader, agency: &'r AgencyCode) -> Self {
        let (known, elsewhere) = Default::default();
        Self { reader, agency, known, elsewhere, looked_through: 0, failed: None }
    }

    /// The declaration that has this reference at this agency, or this MRN.
    fn declaration(&mut self, key: &DeclarationKey) -> Option<Hash> {
        if let Some(known) = self.known.get(key) {
            return *known;
        }
        let reference =
            (Scheme::DeclarationReference, format!("{}/{}", self.agency, key.reference));
        let subjects = [
            Some(reference).filter(|_| !key.reference.is_empty()),
            Some((Scheme::Mrn, key.mrn.clone())).filter(|_| !key.mrn.is_empty()),
        ];
        let mut found = None;
        for (scheme, id) in subjects.into_iter().flatten() {
            found = match self.of_subject(&v1::Subject { scheme: scheme as i32, id }) {
                Ok(found) => found,
                Err(error) => {
                    self.failed = Some(error);
                    return None;
                }
            };
            if found.is_some() {
                break;
            }
        }
        self.known.insert(key.clone(), found);
        found
    }

    fn of_subject(&mut self, subject: &v1::Subject) -> Result<Option<Hash>, StoreError> {
        if self.looked_through >= LOOKED_THROUGH_MAX {
            return Ok(None);
        }
        for entry in self.reader.history(&subject_key(subject), None, SUBJECT_RECORDS_MAX)? {
            self.looked_through += 1;
            let record = self.reader.record_at(entry.log_index, entry.position)?;
            if let Some(record) = record.filter(|record| is_declaration(&record.bytes)) {
                if record.place.agency != *self.agency {
                    self.elsewhere.insert(record.id, record.place.agency);
                }
                return Ok(Some(record.id));
            }
        }
        Ok(None)
    }
}

/// Whether a record is a declaration, and not a message about one.
fn is_declaration(bytes: &[u8]) -> bool {
    let body = v1::Record::decode(bytes).ok().and_then(|record| record.body);
    match body {
        Some(Body::Declaration(declaration)) => declaration.regime() != Regime::AsReferenced,
        _ => false,
    }
}

/// Why a client in this role may not state what a message says; nothing where it may. The rule is the
/// ledger's: it is asked here so that what is not for this client is told before it is tried.
pub(crate) fn not_for(role: Role, record: &v1::Record) -> Option<String> {
    let kind = RecordKind::of(record.body.as_ref()?);
    let speaker = role.speaks_as()?;
    let refused = authority::check_kind(speaker, kind).err()?;
    Some(RecordError::Authority(refused).to_string())
}
