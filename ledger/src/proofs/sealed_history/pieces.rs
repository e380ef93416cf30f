//! Pieces of a bucket, which pages carry, and how they are joined.

use std::collections::BTreeMap;

use customhouse_proto::v1;

use super::{answer::Coverage, error::AgencyHistoryError};
use crate::{hash::Hash, history::HistoryEntry};

/// A run of a bucket's entries that leads from one head to another.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Piece {
    subject_key: Hash,
    from: u64,
    /// The entry behind its last.
    to: u64,
    before: Hash,
    pub(super) after: Hash,
    /// Whether `after` is said to be the head under the history root.
    pub(super) is_last: bool,
    /// Those of the subject.
    entries: Vec<HistoryEntry>,
}

impl Piece {
    /// Reads a piece with these entries. Whether the head after the last is under the history root is for the caller
    /// to check, and so is what of it is [about](Self::about) the subject.
    pub(super) fn read(
        history: &v1::SealedHistory,
        entries: &[HistoryEntry],
    ) -> Result<Self, AgencyHistoryError> {
        let wrong = AgencyHistoryError::Piece;
        let from = history.from_entry;
        let before = match (from, &history.head_before[..]) {
            (0, []) => Hash::ZERO,
            (0, _) => return Err(wrong("the first piece has no head before it")),
            (_, head) => Hash::from_slice(head)
                .map_err(|_| wrong("32 bytes are needed of the head before a later piece"))?,
        };
        let is_last = history.head_after.is_empty();
        // A piece without entries leads nowhere; an empty bucket is one piece.
        if entries.is_empty() && !(is_last && from == 0) {
            return Err(wrong("no entries, in a piece that is not a whole bucket"));
        }
        let to = u64::try_from(entries.len()).ok().and_then(|count| from.checked_add(count));
        let to = to.ok_or(wrong("more entries than can be counted"))?;
        let after = entries.iter().fold(before, |head, entry| entry.chain(&head));
        if !is_last {
            if !history.path.is_empty() {
                return Err(wrong("a path and a head after it, where one of them is needed"));
            }
            if history.head_after != after.as_bytes() {
                return Err(wrong("its entries do not give the head after it"));
            }
        }
        let (subject_key, entries) = (Hash::ZERO, Vec::new());
        Ok(Self { subject_key, from, to, before, after, is_last, entries })
    }

    /// The same, with the key that the agency has the subject under and the entries of that.
    pub(super) fn about(self, subject_key: Hash, entries: Vec<HistoryEntry>) -> Self {
        Self { subject_key, entries, ..self }
    }
}

/// The pieces of one bucket that were given, by their first entry. Never empty.
pub(super) struct Pieces(BTreeMap<u64, Piece>);

impl Pieces {
    pub(super) fn of(piece: Piece) -> Self {
        Self(BTreeMap::from([(piece.from, piece)]))
    }

    /// Adds one. The same again changes nothing; another at the same place contradicts it.
    pub(super) fn add(&mut self, piece: Piece) -> Result<(), ()> {
        let present = self.0.entry(piece.from).or_insert_with(|| piece.clone());
        if *present == piece { Ok(()) } else { Err(()) }
    }

    /// What the pieces come to, one after the other from the first entry on. That a piece is where it says follows
    /// from its head: it is the one that the entries before it give.
    pub(super) fn joined(&self) -> Result<Coverage, ()> {
        let (mut from, mut head, mut entries) = (0, Hash::ZERO, Vec::new());
        loop {
            let Some(piece) = self.0.get(&from) else {
                return Ok(Coverage::PieceMissing { from_entry: from });
            };
            if piece.before != head {
                return Err(());
            }
            entries.extend_from_slice(&piece.entries);
            if piece.is_last {
                let subject_key = piece.subject_key;
                return Ok(Coverage::Proven { subject_key, entries });
            }
            (from, head) = (piece.to, piece.after);
        }
    }
}
