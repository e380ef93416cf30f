//! What others remember of a store's newest blocks. A store that lost its last blocks is sound in
//! itself; only those who remember more can tell.

use std::path::Path;

use customhouse_consensus::Entry;
use customhouse_ledger::{
    chain::check::Damage, finality::header::Header, hash::Hash, keys::PublicKey,
};

use crate::journal::{JournalError, SignerJournal};

/// A height that was committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// The height.
    pub height: u64,
    /// Its block, where that is known.
    pub block_hash: Option<Hash>,
    /// Who says so, as in "the saved head a.head".
    pub from: String,
}

impl Known {
    /// A head that was saved.
    pub fn head(path: &Path, header: &Header) -> Self {
        let from = format!("the saved head {}", path.display());
        Self { height: header.height, block_hash: Some(header.hash()), from }
    }

    /// What a signer's journal shows: its key was at work on a height, so the one before was
    /// committed; and it was shortened when a height had been committed, which is its floor.
    ///
    /// # Errors
    /// The journal is missing, damaged, or not this key's.
    pub fn journal(path: &Path, key: &PublicKey) -> Result<Self, JournalError> {
        let recovered = SignerJournal::read(path, key)?;
        let entries = recovered.payloads.iter().filter_map(|bytes| Entry::decode(bytes).ok());
        let entries = entries.filter(|entry| !matches!(entry, Entry::Watermark(_)));
        let newest = entries.map(|entry| entry.height()).max().unwrap_or(0);
        let height = newest.saturating_sub(1).max(recovered.floor);
        let from = format!("the signer's journal {}", path.display());
        Ok(Self { height, block_hash: None, from })
    }

    /// What is wrong with a store that ends at `tip` and has this block at the known height.
    pub(super) fn missed(&self, tip: u64, stored: Option<Hash>) -> Option<Damage> {
        let Self { height, block_hash, from } = self;
        let what = match stored {
            None => format!(
                "the store ends at height {tip}, {from} knows of height {height}: blocks were lost, or \
                 the store was put back from a backup. A node that is started fetches them from its \
                 peers, and signs nothing that its journal knows better"
            ),
            Some(stored) if block_hash.is_some_and(|known| known != stored) => {
                format!("{from} has another block at height {height}: proof of a fork, keep both")
            }
            Some(_) => return None,
        };
        Some(Damage { height: Some(*height), table: "(tip)", key: String::new(), what })
    }
}

#[cfg(test)]
mod tests {
    use customhouse_ledger::{
        finality::vote::{Ballot, Vote, VoteKind},
        keys::SigningKey,
    };

    use super::*;

    #[test]
    fn a_journal_knows_the_height_below_the_one_that_was_signed_at() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("validator.journal");
        let key = SigningKey::from_seed(&[1; 32]);
        SignerJournal::create(&path, &key.public()).expect("created");
        assert_eq!(Known::journal(&path, &key.public()).expect("read").height, 0);
        let (mut journal, _) = SignerJournal::open(&path, &key.public()).expect("opened");
        let vote = |height| {
            let block_hash = Hash([9; 32]);
            let ballot = Ballot { kind: VoteKind::Finalize, height, view: 1, block_hash };
            Entry::Vote(Vote::sign(ballot, &Hash([7; 32]), &key)).encode()
        };
        journal.append(&[vote(5), vote(7), Entry::Watermark(90).encode()]).expect("appended");
        let known =
            Known::journal(&path, &key.public()).expect("read, although another has it open");
        assert_eq!(known.height, 6);
        let journal_is_ahead = known.missed(4, None).expect("two blocks");
        assert!(journal_is_ahead.what.contains("ends at height 4"), "{journal_is_ahead}");
        assert_eq!(known.missed(6, Some(Hash([1; 32]))), None);
        let other = SigningKey::from_seed(&[2; 32]).public();
        let refused = Known::journal(&path, &other).expect_err("of another key");
        assert!(matches!(refused, JournalError::OtherKey { .. }), "{refused}");
        journal.compact(40, &[]).expect("compacted");
        assert_eq!(Known::journal(&path, &key.public()).expect("read").height, 40);
    }

    #[test]
    fn a_head_of_another_block_is_a_fork() {
        let from = "the saved head a.head".to_owned();
        let known = Known { height: 3, block_hash: Some(Hash([1; 32])), from };
        assert_eq!(known.missed(9, Some(Hash([1; 32]))), None);
        let damage = known.missed(9, Some(Hash([2; 32]))).expect("another block");
        assert!(damage.what.contains("fork"), "{damage}");
    }
}
