//! Batches of raw messages: mapped by the formats that are read, linked among themselves, and to what is on the
//! ledger. Lodging them is the services'.
//!
//! A batch is held whole until it is lodged, because any message may be about any other; so what one may hold
//! is limited, in what comes in and in what is made of it.

pub(crate) mod lookups;

use std::{collections::HashMap, ops::ControlFlow};

use customhouse_formats::{
    Format, ImportError, Imported, LinkTarget, Links, OnLedger, Outcome, RawMessage, Skipped,
    import, link_batch,
};
use customhouse_ledger::{
    agency::AgencyCode,
    authority::{self, RecordKind},
    hash::Hash,
    record::RecordError,
};
use customhouse_proto::v1::{self, source::Mapping};
use prost::Message as _;

pub(crate) use self::lookups::{Asker, Lookups};
use self::lookups::{Candidate, Whose};
use crate::identity::Role;

/// Most bytes of a message's name.
pub(crate) const LABEL_BYTES_MAX: usize = 1024;
/// Bytes that a result takes beside its record, about.
const RESULT_BYTES: usize = 2048;

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

    /// What must be looked for on the ledger before the batch can be linked.
    pub(crate) fn to_link(&self, asker: Asker) -> Lookups {
        let mut lookups = Lookups::new(asker);
        // What it answers for one message changes nothing of what is asked for the others.
        link_batch(&self.imported, |index| {
            lookups.ask(&self.imported[index].key);
            None
        });
        lookups
    }

    /// Finds what each message is about: in the batch, or else among what was looked for on the ledger.
    pub(crate) fn link(&mut self, lookups: &Lookups) -> Links {
        let mut unclear = Vec::new();
        let links = link_batch(&self.imported, |index| {
            let message = &self.imported[index];
            match lookups.answer(&message.key, Whose::of(message.role))? {
                Ok(Candidate { id, agency, .. }) => {
                    if *agency != lookups.asker().agency {
                        self.elsewhere.insert(*id, *agency);
                    }
                    Some(OnLedger::One(id.0))
                }
                Err(warning) => {
                    unclear.push((index, warning));
                    Some(OnLedger::Unclear)
                }
            }
        });
        for (index, warning) in unclear {
            self.imported[index].warnings.push(warning);
        }
        links
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

    /// What must be looked for on the ledger of the messages that others are about and that are not lodged with
    /// them: somebody has lodged them before.
    pub(crate) fn to_find_lodged(&self, links: &Links, asker: Asker) -> Lookups {
        let mut lookups = Lookups::new(asker);
        for (_, target) in self.not_lodged(links) {
            lookups.ask(&self.imported[target].key);
        }
        lookups
    }

    /// Takes where those messages are, as far as that was found.
    pub(crate) fn find_lodged(&mut self, links: &Links, lookups: &Lookups) {
        for (from, target) in self.not_lodged(links) {
            match lookups.answer(&self.imported[target].key, Whose::Anybody) {
                Some(Ok(Candidate { id, agency, .. })) => {
                    self.ids[target] = Some(*id);
                    if *agency != lookups.asker().agency {
                        self.elsewhere.insert(*id, *agency);
                    }
                }
                Some(Err(warning)) => self.imported[from].warnings.push(warning),
                None => {}
            }
        }
    }

    /// Messages, each with the one of the batch that it is about and of which it is not known where it is.
    fn not_lodged(&self, links: &Links) -> Vec<(usize, usize)> {
        let of_batch = links.links.iter().filter_map(|link| match link.to {
            LinkTarget::Batch(target) => Some((link.from, target)),
            LinkTarget::Ledger(_) => None,
        });
        of_batch.filter(|(_, target)| self.ids[*target].is_none()).collect()
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
