//! The tables that are small, or whose rows are at hand after the last block: heads, registry,
//! meta, blocks stored for voting, and what decisions rested on.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    chain::check::{Damage, StoreCheck},
    finality::{decision::Grounds, header::Block, validators::ValidatorSet},
    hash::Hash,
    store::{
        Table,
        table::{
            self, META_DECISIONS, META_FORMAT, META_GENESIS, META_REBUILD, META_TIP, read_numbered,
        },
        tile::ChangedTiles,
        value::{self, BlockRow, GroundsRow, RowsRow, TipRow},
    },
    transaction::VerifiedTransaction,
};

impl StoreCheck {
    pub(super) fn check_rest(&mut self) {
        self.check_heads();
        self.check_registry();
        self.check_meta();
        self.check_pending();
        self.check_decisions();
    }

    fn wrong(&mut self, height: Option<u64>, table: Table, key: &[u8], what: impl ToString) {
        self.damage.push(Damage::new(height, table, key, what));
    }

    /// Calls `each` for every row of a table that can be read, and says whether that is all of them.
    fn each_row(&mut self, table: Table, mut each: impl FnMut(&mut Self, &[u8], &[u8])) -> bool {
        let shared = std::sync::Arc::clone(&self.chain.shared);
        let (mut last, mut complete) = (Box::default(), true);
        for row in shared.store.whole(table) {
            match row {
                Ok((key, value)) => {
                    each(self, &key, &value);
                    last = key;
                }
                Err(error) => {
                    self.damage.push(Damage::unread(None, table, &last, error));
                    complete = false;
                }
            }
        }
        complete
    }

    fn check_heads(&mut self) {
        let shared = std::sync::Arc::clone(&self.chain.shared);
        let state = shared.state();
        let mut expected = state.history.heads().peekable();
        let key = |bucket: u32| table::bucket(bucket);
        let mut rows = 0;
        self.each_row(Table::Heads, |check, found, value| {
            rows += 1;
            while let Some((bucket, _)) = expected.next_if(|(bucket, _)| key(*bucket)[..] < *found)
            {
                check.wrong(None, Table::Heads, &key(bucket), "missing");
            }
            match expected.next_if(|(bucket, _)| key(*bucket) == *found) {
                None => check.wrong(None, Table::Heads, found, "of a bucket that has no entries"),
                Some((_, head)) if head.0 != *value => {
                    check.wrong(None, Table::Heads, found, "another value");
                }
                Some(_) => {}
            }
        });
        for (bucket, _) in expected {
            self.wrong(None, Table::Heads, &key(bucket), "missing");
        }
        self.index_rows += rows;
    }

    fn check_registry(&mut self) {
        let mut expected = self.chain.shared.members().rows();
        self.each_row(Table::Registry, |check, key, value| {
            check.index_rows += 1;
            match expected.remove(key) {
                None => check.wrong(None, Table::Registry, key, "follows from no block"),
                Some(entry) if entry != *value => {
                    check.wrong(None, Table::Registry, key, "another value");
                }
                Some(_) => {}
            }
        });
        for key in expected.keys() {
            self.wrong(None, Table::Registry, key, "missing");
        }
    }

    /// Format and genesis were checked when the store was opened.
    fn check_meta(&mut self) {
        let tip = self.tip();
        let newest = TipRow { height: tip.header.height, block_hash: tip.hash.0 };
        match self.chain.shared.store.value::<TipRow>(Table::Meta, META_TIP) {
            Ok(Some(stored)) if stored == newest => {}
            Ok(Some(stored)) if stored.height > newest.height => {
                let key = table::number(newest.height + 1);
                let what = format!("missing, and all up to the tip, which is {}", stored.height);
                self.wrong(Some(newest.height + 1), Table::Headers, &key, what);
            }
            Ok(Some(_)) => self.wrong(None, Table::Meta, META_TIP, "not the newest block"),
            Ok(None) => self.wrong(None, Table::Meta, META_TIP, "missing"),
            Err(error) => self.damage.push(error.into()),
        }
        self.each_row(Table::Headers, |check, key, _| {
            if *key > table::number(newest.height)[..] {
                check.wrong(None, Table::Headers, key, "of no block");
            }
        });
        self.each_row(Table::Meta, |check, key, _| {
            if ![META_DECISIONS, META_FORMAT, META_GENESIS, META_REBUILD, META_TIP].contains(&key) {
                check.wrong(None, Table::Meta, key, "not a row of this table");
            }
        });
    }

    /// Each block stored for voting is on the tip and has its bodies, and there are no others.
    fn check_pending(&mut self) {
        let tip = self.tip();
        let next = tip.header.height + 1;
        let mut bodies = BTreeSet::new();
        let edge = self.chain.edge.clone();
        self.each_row(Table::Pending, |check, key, bytes| {
            let row = value::decode::<BlockRow>(Table::Pending, key, bytes);
            let block = match row.map(|row| row.block()) {
                Ok(block) => block,
                Err(error) => return check.damage.push(error.into()),
            };
            let is_right = |block: &Block| {
                let header = &block.header;
                let (mut edge, mut tiles) = (edge.clone(), ChangedTiles::new());
                block.leaves.iter().for_each(|leaf| edge.append(*leaf, &mut tiles));
                read_numbered(key) == Some((next, block.hash()))
                    && (header.height, header.parent_hash) == (next, tip.hash)
                    && header.log_start == tip.header.log_size
                    && (header.log_size, header.log_root) == (edge.size(), edge.root())
            };
            let Some(block) = block.filter(is_right) else {
                return check.wrong(Some(next), Table::Pending, key, "not a block on the tip");
            };
            bodies.extend((block.header.log_start..).zip(block.leaves));
        });
        self.check_bodies_after(tip.header.log_size, bodies);
    }

    fn check_bodies_after(&mut self, log_size: u64, mut bodies: BTreeSet<(u64, Hash)>) {
        let shared = std::sync::Arc::clone(&self.chain.shared);
        let from = table::number(log_size);
        for row in shared.store.scan_while(Table::Transactions, &from, |_| true) {
            let (key, bytes) = match row {
                Ok(row) => row,
                Err(error) => {
                    self.damage.push(Damage::unread(None, Table::Transactions, &from, error));
                    return;
                }
            };
            if !read_numbered(&key).is_some_and(|place| bodies.remove(&place)) {
                self.wrong(None, Table::Transactions, &key, "of no block that is stored");
                continue;
            }
            let read = VerifiedTransaction::from_bytes(bytes.into(), &shared.chain_id);
            let leaf = read_numbered(&key).map(|(_, leaf)| leaf);
            match read {
                Ok(transaction) if Some(transaction.leaf_hash()) == leaf => {}
                Ok(_) => self.wrong(None, Table::Transactions, &key, "another than its key says"),
                Err(error) => self.wrong(None, Table::Transactions, &key, error),
            }
        }
        for (log_index, leaf) in bodies {
            let key = table::numbered(log_index, &leaf);
            self.wrong(None, Table::Transactions, &key, "missing, of a block stored for voting");
        }
    }

    /// What decisions rested on is evidence against others: all of it is signed.
    fn check_decisions(&mut self) {
        let tip = self.tip();
        let (mut sets, mut found) = (BTreeMap::new(), RowsRow::default());
        let complete = self.each_row(Table::Decisions, |check, key, bytes| {
            found.add(&RowsRow::hash(key, bytes));
            let height = key.try_into().map(u64::from_be_bytes).ok();
            let height = height.filter(|height| (1..=tip.header.height + 1).contains(height));
            let Some(height) = height else {
                return check.wrong(None, Table::Decisions, key, "not a height up to the tip");
            };
            let row = value::decode::<GroundsRow>(Table::Decisions, key, bytes);
            match row.map(|row| row.grounds()) {
                Err(error) => check.damage.push(Damage { height: Some(height), ..error.into() }),
                Ok(None) => {
                    let what = "not what a decision rested on";
                    check.wrong(Some(height), Table::Decisions, key, what);
                }
                Ok(Some(grounds)) => {
                    let from = tip.registry.validator_change_heights();
                    let from = from.range(..height).next_back().copied();
                    let validators =
                        sets.entry(from).or_insert_with(|| tip.registry.validators_at(height).ok());
                    if let Err(what) =
                        verify_grounds(&grounds, height, &tip.header.chain_id, validators.as_ref())
                    {
                        check.wrong(Some(height), Table::Decisions, key, what);
                    }
                }
            }
        });
        if complete {
            self.check_which_decisions(found);
        }
    }

    /// Whether the rows are those that were put there: they follow from no block, so nothing else tells.
    fn check_which_decisions(&mut self, found: RowsRow) {
        match self.chain.shared.store.value::<RowsRow>(Table::Meta, META_DECISIONS) {
            Ok(Some(written)) if written == found => {}
            Ok(Some(RowsRow { count, .. })) => {
                let what = format!("{} rows, and not the {count} that were written", found.count);
                self.wrong(None, Table::Decisions, &[], what);
            }
            // An earlier version wrote no such row, and the next decision will; or nothing was decided yet.
            Ok(None) => self.decisions_unchecked = found.count > 0,
            Err(error) => self.damage.push(error.into()),
        }
    }
}

fn verify_grounds(
    grounds: &Grounds,
    height: u64,
    chain_id: &Hash,
    validators: Option<&ValidatorSet>,
) -> Result<(), String> {
    let validators = validators.ok_or("no validators are known at this height")?;
    for certificate in &grounds.certificates {
        if certificate.ballot.height != height {
            return Err(format!("a certificate of height {}", certificate.ballot.height));
        }
        certificate.verify(chain_id, validators).map_err(|error| error.to_string())?;
    }
    for claim in &grounds.claims {
        if claim.proposed.height != height {
            return Err(format!("a proposal of height {}", claim.proposed.height));
        }
        if !claim.is_signed(chain_id) {
            return Err("a proposal whose signature does not verify".to_owned());
        }
    }
    Ok(())
}
