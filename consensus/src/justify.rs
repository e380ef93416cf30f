//! What a proposal rests on (rule 1 of [the specification](crate)).

use customhouse_ledger::{finality::vote::VoteKind, hash::Hash};

use crate::height::Height;

/// Most views that are asked for at once.
const MISSING_MAX: usize = 32;

impl Height {
    /// Whether a block may be proposed in `view` resting on `parent_view`: it is new (0) or was
    /// notarized in that view, and every view between was nullified.
    ///
    /// # Errors
    /// The first views whose certificates are missing; empty where no certificate could help,
    /// because another block was notarized in `parent_view`.
    pub(crate) fn justify(
        &self,
        view: u64,
        parent_view: u64,
        block_hash: &Hash,
    ) -> Result<(), Vec<u64>> {
        let mut missing = Vec::new();
        if parent_view > 0 {
            match self.certificate(VoteKind::Notarize, parent_view) {
                Some(held) if held.ballot.block_hash == *block_hash => {}
                Some(_) => return Err(Vec::new()),
                None => missing.push(parent_view),
            }
        }
        for between in parent_view.saturating_add(1)..view {
            if missing.len() >= MISSING_MAX {
                break;
            }
            if self.certificate(VoteKind::Nullify, between).is_none() {
                missing.push(between);
            }
        }
        if missing.is_empty() { Ok(()) } else { Err(missing) }
    }
}
