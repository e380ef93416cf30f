//! What became of a transaction's slots in its block, and the root that a block's header has over it
//! (docs/FORMATS.md, *Outcomes*): so that a receipt proves that its slot counted, and not only that it is on
//! the log, where a repeat and a refused slot are too.

use crate::{
    authority::SlotRefused,
    hash::Hash,
    merkle::{self, Tree},
};

/// What becomes of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotOutcome {
    /// The record is new.
    Applied,
    /// A no-op: the dedupe key, or the record itself, was committed before.
    Duplicate {
        /// Log index of the transaction with the first slot.
        log_index: u64,
        /// Position of the first slot in its transaction.
        position: u32,
    },
    /// A no-op that takes neither the dedupe key nor the record's id: it may come again.
    Refused(SlotRefused),
}

impl SlotOutcome {
    /// The bytes of its leaf: a code (1), then the place of the first slot (8, 4) or the reason's number (2).
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Applied => vec![1],
            Self::Duplicate { log_index, position } => {
                [&[2][..], &log_index.to_be_bytes(), &position.to_be_bytes()].concat()
            }
            Self::Refused(reason) => [&[3][..], &reason.number().to_be_bytes()].concat(),
        }
    }

    /// Reads a leaf's bytes; `None` where they are not one.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (code, rest) = bytes.split_first()?;
        match (code, rest.len()) {
            (1, 0) => Some(Self::Applied),
            (2, 12) => {
                let (log_index, position) = rest.split_first_chunk()?;
                Some(Self::Duplicate {
                    log_index: u64::from_be_bytes(*log_index),
                    position: u32::from_be_bytes(position.try_into().ok()?),
                })
            }
            (3, 2) => {
                let number = u16::from_be_bytes(rest.try_into().ok()?);
                let known = SlotRefused::ALL.into_iter().find(|(_, known)| *known == number);
                known.map(|(reason, _)| Self::Refused(reason))
            }
            _ => None,
        }
    }

    /// Whether the slot's record counts since this block.
    pub fn is_applied(&self) -> bool {
        *self == Self::Applied
    }
}

/// The tree over the outcomes of a transaction's slots.
pub fn slot_tree(outcomes: &[SlotOutcome]) -> Tree {
    Tree::of(&outcomes.iter().map(SlotOutcome::encode).collect::<Vec<_>>())
}

/// The tree over a block's transactions, whose leaves are the roots of their slots' trees. Its root is the
/// header's.
pub fn block_tree(slot_roots: &[Hash]) -> Tree {
    Tree::of(&slot_roots.iter().map(|root| root.0).collect::<Vec<_>>())
}

/// The root over the outcomes of a block's transactions.
pub fn block_root<'a>(transactions: impl IntoIterator<Item = &'a [SlotOutcome]>) -> Hash {
    let roots = transactions.into_iter().map(slot_root);
    merkle::root_of_hashes(roots.map(|root| merkle::leaf_hash(root.as_bytes())))
}

/// The root over the outcomes of a transaction's slots.
pub fn slot_root(outcomes: &[SlotOutcome]) -> Hash {
    merkle::root_of_hashes(outcomes.iter().map(|outcome| merkle::leaf_hash(&outcome.encode())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_outcome_round_trips_and_nothing_else_is_one() {
        let mut all = vec![
            SlotOutcome::Applied,
            SlotOutcome::Duplicate { log_index: 7, position: 3 },
            SlotOutcome::Duplicate { log_index: u64::MAX, position: u32::MAX },
        ];
        all.extend(SlotRefused::ALL.map(|(reason, _)| SlotOutcome::Refused(reason)));
        for outcome in &all {
            let bytes = outcome.encode();
            assert_eq!(SlotOutcome::decode(&bytes), Some(*outcome));
            assert_eq!(SlotOutcome::decode(&bytes[1..]), None, "{outcome:?}");
            assert_eq!(SlotOutcome::decode(&[&bytes[..], &[0]].concat()), None, "{outcome:?}");
        }
        for bytes in [&[][..], &[0], &[4], &[3, 0, 0], &[3, 0, 99]] {
            assert_eq!(SlotOutcome::decode(bytes), None, "{bytes:?}");
        }
        let parts: [&[SlotOutcome]; 3] = [&all[..2], &all[2..3], &all[3..]];
        let roots: Vec<_> = parts.iter().map(|part| slot_tree(part).root()).collect();
        assert_eq!(block_root(parts), block_tree(&roots).root());
        assert_eq!(block_root([]), merkle::empty_root());
    }
}
