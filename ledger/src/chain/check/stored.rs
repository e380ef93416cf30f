//! A store's blocks in order, read in two scans, and what can be checked of each by itself.

use std::{iter::Peekable, sync::Arc};

use bytes::Bytes;

use crate::{
    chain::{ChainState, check::Damage},
    finality::{certificate::Certificate, header::Header},
    hash::Hash,
    limits::BLOCK_TRANSACTIONS_MAX,
    store::{
        Row, Store, StoreError, Table,
        table::{self, read_numbered},
        value::{self, HeaderRow, TipRow},
    },
    transaction::VerifiedTransaction,
};

/// Reads a store's blocks, on any thread.
pub struct BlockReader(Arc<ChainState>);

/// A block as it is stored: nothing is checked but that its rows are in their places.
pub struct StoredBlock {
    header: Header,
    certificate: Option<Certificate>,
    /// Leaf hashes of the rows' keys, with the transactions' bytes.
    bodies: Vec<(Hash, Bytes)>,
    damage: Vec<Damage>,
}

/// A block whose transactions keep every rule that can be checked without the chain's state.
pub struct VerifiedBlock {
    pub(in crate::chain) header: Header,
    pub(in crate::chain) certificate: Option<Certificate>,
    pub(in crate::chain) transactions: Vec<Arc<VerifiedTransaction>>,
    /// Rows that should not be there.
    pub(in crate::chain) damage: Vec<Damage>,
}

impl BlockReader {
    pub(in crate::chain) fn new(shared: Arc<ChainState>) -> Self {
        Self(shared)
    }

    /// All blocks, from the genesis's on. After an error there are no more.
    pub fn blocks(&self) -> StoredBlocks<'_> {
        let store = &self.0.store;
        StoredBlocks {
            store,
            headers: store.whole(Table::Headers),
            bodies: store.whole(Table::Transactions).peekable(),
            tip: self.tip(),
            height: 0,
            log_size: 0,
            ended: false,
        }
    }

    /// Which chain it is.
    pub fn chain_id(&self) -> Hash {
        self.0.chain_id
    }

    /// How many blocks there are, as far as the row of the tip tells; 0 where it does not.
    pub fn blocks_expected(&self) -> u64 {
        self.tip().map_or(0, |tip| tip.saturating_add(1))
    }

    fn tip(&self) -> Option<u64> {
        let row = self.0.store.value::<TipRow>(Table::Meta, table::META_TIP);
        row.ok().flatten().map(|tip| tip.height)
    }
}

impl StoredBlock {
    /// Bytes of its transactions.
    pub fn bytes(&self) -> usize {
        self.bodies.iter().map(|(_, bytes)| bytes.len()).sum()
    }

    /// Checks its transactions, each by itself.
    ///
    /// # Errors
    /// The first that breaks a rule.
    pub fn verify(self, chain_id: &Hash) -> Result<VerifiedBlock, Damage> {
        let Self { header, certificate, bodies, damage } = self;
        let verify = |(log_index, (leaf, bytes)): (u64, (Hash, Bytes))| {
            let wrong = |what: &dyn ToString| {
                let key = table::numbered(log_index, &leaf);
                Damage::new(Some(header.height), Table::Transactions, &key, what.to_string())
            };
            let verified = VerifiedTransaction::from_bytes(bytes, chain_id);
            let transaction = verified.map_err(|error| wrong(&error))?;
            match transaction.leaf_hash() == leaf {
                true => Ok(Arc::new(transaction)),
                false => Err(wrong(&"another transaction than its key says")),
            }
        };
        let transactions =
            (header.log_start..).zip(bodies).map(verify).collect::<Result<_, _>>()?;
        Ok(VerifiedBlock { header, certificate, transactions, damage })
    }
}

/// The blocks of a store.
pub struct StoredBlocks<'a> {
    store: &'a Store,
    headers: Rows<'a>,
    bodies: Peekable<Rows<'a>>,
    tip: Option<u64>,
    height: u64,
    log_size: u64,
    ended: bool,
}

type Rows<'a> = Box<dyn Iterator<Item = Result<Row, StoreError>> + 'a>;

impl Iterator for StoredBlocks<'_> {
    type Item = Result<StoredBlock, Damage>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let row = self.headers.next();
        let is_after_tip = |row: &Result<Row, StoreError>| {
            let is_next = |(key, _): &Row| **key == table::number(self.height);
            self.tip.is_some_and(|tip| self.height == tip.saturating_add(1))
                && row.as_ref().is_ok_and(|row| !is_next(row))
        };
        // A header further beyond the tip is not a block of the chain.
        let block = row.filter(|row| !is_after_tip(row)).map(|row| self.read(row));
        self.ended = !matches!(block, Some(Ok(_)));
        block
    }
}

impl StoredBlocks<'_> {
    fn read(&mut self, row: Result<Row, StoreError>) -> Result<StoredBlock, Damage> {
        let (height, key) = (self.height, table::number(self.height));
        let wrong =
            |what: &dyn ToString| Damage::new(Some(height), Table::Headers, &key, what.to_string());
        let (found, bytes) =
            row.map_err(|error| Damage::unread(Some(height), Table::Headers, &key, error))?;
        if *found != key {
            return Err(wrong(&"missing"));
        }
        let row: HeaderRow = value::decode(Table::Headers, &key, &bytes)
            .map_err(|error| Damage { height: Some(height), ..error.into() })?;
        let parts = row.parts().filter(|(header, _)| header.height == height);
        let (header, certificate) = parts.ok_or_else(|| wrong(&"not this height's header"))?;
        let count = header.log_size.checked_sub(header.log_start);
        if header.log_start != self.log_size
            || count.is_none_or(|count| count > BLOCK_TRANSACTIONS_MAX as u64)
        {
            return Err(wrong(&"its transactions do not begin where the log ends"));
        }
        let mut damage = Vec::new();
        let bodies = (header.log_start..header.log_size)
            .map(|log_index| self.body(log_index, &mut damage))
            .collect::<Result<_, _>>()?;
        self.height += 1;
        self.log_size = header.log_size;
        Ok(StoredBlock { header, certificate, bodies, damage })
    }

    /// The transaction at a log index. Of several, which only damage can leave there, the one that
    /// the log's tile names.
    fn body(&mut self, log_index: u64, damage: &mut Vec<Damage>) -> Result<(Hash, Bytes), Damage> {
        let height = Some(self.height);
        let mut found: Option<(Hash, Bytes)> = None;
        loop {
            let place = match self.bodies.peek() {
                Some(Ok((key, _))) => read_numbered(key),
                Some(Err(_)) if found.is_none() => None,
                _ => break,
            };
            if place.is_some_and(|(index, _)| index > log_index) {
                break;
            }
            let Some(row) = self.bodies.next() else { break };
            let (key, value) = row.map_err(|error| {
                let key = table::number(log_index);
                Damage::unread(height, Table::Transactions, &key, error)
            })?;
            let surplus = |key: &[u8]| {
                Damage::new(height, Table::Transactions, key, "of no block that is stored")
            };
            match (place, &found) {
                (Some((index, leaf)), None) if index == log_index => {
                    found = Some((leaf, Bytes::from(value)));
                }
                (Some((index, leaf)), Some((other, _))) if index == log_index => {
                    let named = self.store.log_leaves(log_index, log_index + 1).ok();
                    if named.is_some_and(|leaves| leaves.contains(&leaf)) {
                        damage.push(surplus(&table::numbered(log_index, other)));
                        found = Some((leaf, Bytes::from(value)));
                    } else {
                        damage.push(surplus(&key));
                    }
                }
                _ => damage.push(surplus(&key)),
            }
        }
        let key = table::number(log_index);
        found.ok_or_else(|| Damage::new(height, Table::Transactions, &key, "missing"))
    }
}
