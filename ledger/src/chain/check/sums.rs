//! Comparing tables without looking rows up: counts, and sums of keyed hashes.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::{
    chain::{ChainState, check::Damage, rows::Rows},
    store::{Table, tile::TILE_HASHES},
};

/// The tables that are compared in this way. The other indexes are small or at hand.
pub(super) const SUMMED: [Table; 11] = [
    Table::Heights,
    Table::Leaves,
    Table::TransactionIds,
    Table::Outcomes,
    Table::Records,
    Table::Dedupe,
    Table::Tiles,
    Table::History,
    Table::Shared,
    Table::Agreements,
    Table::AgreementRoots,
];

/// Rows between two reports of progress.
const PROGRESS_ROWS: u64 = 4096;

/// Hashes rows under a key.
#[derive(Clone)]
pub(super) struct RowHasher(Sha256);

/// A multiset of rows: how many, and the sum of their hashes modulo 2^256.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RowSum {
    count: u64,
    /// The least significant word first.
    sum: [u64; 4],
}

impl RowHasher {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        // A whole block of SHA-256, so that the key's part is hashed once.
        let mut block = [0; 64];
        block[..32].copy_from_slice(key);
        Self(Sha256::new_with_prefix(block))
    }

    fn hash(&self, key: &[u8], value: &[u8]) -> [u8; 32] {
        let mut hasher = self.0.clone();
        hasher.update((key.len() as u64).to_be_bytes());
        hasher.update(key);
        hasher.update(value);
        hasher.finalize().into()
    }

    pub(super) fn summing<'a>(&'a self, sums: &'a mut [RowSum; SUMMED.len()]) -> Summing<'a> {
        Summing { hasher: self, sums }
    }
}

impl RowSum {
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    fn add(&mut self, hasher: &RowHasher, key: &[u8], value: &[u8]) {
        self.count += 1;
        let hash = hasher.hash(key, value);
        let (words, _) = hash.as_chunks::<8>();
        let mut carry = false;
        for (limb, word) in self.sum.iter_mut().zip(words) {
            let (partial, first) = limb.overflowing_add(u64::from_be_bytes(*word));
            let (total, second) = partial.overflowing_add(u64::from(carry));
            (*limb, carry) = (total, first || second);
        }
    }
}

/// Adds up the rows that blocks give.
pub(super) struct Summing<'a> {
    hasher: &'a RowHasher,
    sums: &'a mut [RowSum; SUMMED.len()],
}

impl Rows for Summing<'_> {
    fn row(&mut self, table: Table, key: &[u8], value: &[u8]) {
        // A tile counts once, when it is full or at the end.
        if table == Table::Tiles && value.len() < TILE_HASHES * 32 {
            return;
        }
        self.row_at_the_end(table, key, value);
    }

    fn row_at_the_end(&mut self, table: Table, key: &[u8], value: &[u8]) {
        if let Some(place) = SUMMED.iter().position(|summed| *summed == table) {
            self.sums[place].add(self.hasher, key, value);
        }
    }
}

/// A table to be scanned.
pub struct TableCheck {
    shared: Arc<ChainState>,
    table: Table,
    hasher: RowHasher,
}

/// What scanning a table gave.
pub struct TableSum {
    pub(super) table: Table,
    pub(super) sum: RowSum,
    pub(super) damage: Vec<Damage>,
    /// Whether it could be read to its end.
    pub(super) complete: bool,
}

impl TableCheck {
    pub(super) fn new(shared: &Arc<ChainState>, table: Table, hasher: RowHasher) -> Self {
        Self { shared: Arc::clone(shared), table, hasher }
    }

    /// Reads the whole table. `progress` is told now and then how many more rows were read.
    pub fn scan(&self, mut progress: impl FnMut(u64)) -> TableSum {
        let (table, store) = (self.table, &self.shared.store);
        let (mut sum, mut damage, mut last) = (RowSum::default(), Vec::new(), Box::default());
        let mut complete = true;
        for row in store.whole(table) {
            match row {
                Ok((key, value)) => {
                    sum.add(&self.hasher, &key, &value);
                    last = key;
                }
                Err(error) => {
                    let found = Damage::unread(None, table, &last, error);
                    let what = format!("after this key: {}", found.what);
                    damage.push(Damage { what, ..found });
                    complete = false;
                    break;
                }
            }
            if sum.count.is_multiple_of(PROGRESS_ROWS) {
                progress(PROGRESS_ROWS);
            }
        }
        progress(sum.count % PROGRESS_ROWS);
        TableSum { table, sum, damage, complete }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(hasher: &RowHasher, rows: &[(&[u8], &[u8])]) -> RowSum {
        let mut sum = RowSum::default();
        rows.iter().for_each(|(key, value)| sum.add(hasher, key, value));
        sum
    }

    #[test]
    fn a_sum_is_of_the_rows_whatever_their_order() {
        let hasher = RowHasher::new(&[7; 32]);
        let rows: [(&[u8], &[u8]); 3] = [(b"a", b"1"), (b"b", b"2"), (b"ab", b"")];
        let whole = sum(&hasher, &rows);
        assert_eq!(whole, sum(&hasher, &[rows[2], rows[0], rows[1]]));
        let others: [&[(&[u8], &[u8])]; 5] = [
            &rows[..2],
            &[rows[0], rows[1], rows[2], rows[2]],
            &[rows[0], rows[1], (b"a", b"b")],
            &[(b"a", b"2"), (b"b", b"1"), rows[2]],
            &[],
        ];
        for other in others {
            assert_ne!(whole, sum(&hasher, other), "{other:?}");
        }
        assert_ne!(whole, sum(&RowHasher::new(&[8; 32]), &rows), "another key");
    }

    #[test]
    fn sums_carry_over_all_limbs() {
        let hasher = RowHasher::new(&[1; 32]);
        let mut full = RowSum { count: 0, sum: [u64::MAX; 4] };
        full.add(&hasher, b"k", b"v");
        let mut from_zero = sum(&hasher, &[(b"k", b"v")]);
        // 2^256 − 1 + x = x − 1.
        let mut borrow = true;
        for limb in &mut from_zero.sum {
            (*limb, borrow) = limb.overflowing_sub(u64::from(borrow));
        }
        assert_eq!(full.sum, from_zero.sum);
    }
}
