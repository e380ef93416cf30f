//! What committed records refer to stays where it is held. A record's word is not taken for what there is: it may
//! be a lie.

use std::{fs, io};

use customhouse_ledger::hash::Hash;

use super::{Attachments, State, Unclaimed, paths::move_file, room::cost};

/// What there is of an attachment that a committed record refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// It is held, and stays.
    Held,
    /// It is not held.
    Missing,
    /// No file is it: that of this root has another size, which the root binds. The record lies.
    Never,
}

/// Roots of whose file the size is remembered once it is proven: proving it reads all its leaf hashes.
const PROVEN_SIZES_MAX: usize = 4096;

impl Attachments {
    /// A committed record refers to an attachment: where it is held, it stays.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn claim(&self, root: &Hash, size: u64) -> io::Result<Claim> {
        {
            let mut state = self.state();
            if state.sizes.get(root).is_some_and(|right| *right != size) {
                return Ok(Claim::Never);
            }
            let unclaimed = state.unclaimed.get(root).filter(|file| file.size == size).cloned();
            if let Some(file) = unclaimed
                && self.claim_unclaimed(&mut state, root, &file)?
            {
                return Ok(Claim::Held);
            }
        }
        if self.is_held(root, size) {
            return Ok(Claim::Held);
        }
        // The length alone says nothing: what is damaged may have another. That it cannot be read was told of.
        let Ok(Some(file)) = self.read(root) else { return Ok(Claim::Missing) };
        let right = file.size();
        let mut state = self.state();
        if state.sizes.len() >= PROVEN_SIZES_MAX {
            state.sizes.clear();
        }
        state.sizes.insert(*root, right);
        Ok(if right == size { Claim::Missing } else { Claim::Never })
    }

    /// Moves a file of a client to those that stay. Says whether it was there.
    pub(super) fn claim_unclaimed(
        &self,
        state: &mut State,
        root: &Hash,
        Unclaimed { owner, size, .. }: &Unclaimed,
    ) -> io::Result<bool> {
        let from = self.inner.paths.unclaimed_file(owner, root);
        let was_held = self.is_held(root, *size);
        let moved = if was_held {
            fs::remove_file(&from)
        } else {
            move_file(&from, &self.inner.paths.held_file(root))
        };
        let is_gone = match moved {
            // Somebody has removed it: nothing is to wait for it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            moved => moved.map(|()| false)?,
        };
        if was_held || is_gone {
            state.room.gone(owner, cost(*size), false);
        } else {
            state.room.claimed(owner, cost(*size));
        }
        state.unclaimed.remove(root);
        Ok(was_held || !is_gone)
    }
}
