//! Making the proofs that a [`crate::proofs::verifier::Verifier`] checks.

use std::sync::Arc;

use customhouse_proto::v1;

use crate::{
    chain::{
        ChainReader, RecordPlace,
        reader::{CommittedTransaction, history_entry},
    },
    finality::{certificate::Certificate, header::Header},
    hash::Hash,
    history::{HistoryEntry, bucket_of, head_of},
    merkle::{self, Tree},
    store::{StoreError, Table, table, tile::TileReader},
    transaction::{SlotOutcome, TransactionHeader, outcome, record_place},
};

impl ChainReader {
    /// The receipt of a record, against the header of the block that committed it. `None` where the
    /// record is not committed. What is made here was checked against that header's log root.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn receipt(&self, record_id: &Hash) -> Result<Option<v1::Receipt>, StoreError> {
        let Some(place) = self.place(record_id)? else { return Ok(None) };
        Ok(self.receipts(&[place], usize::MAX)?.pop())
    }

    /// The receipts of records that are committed, by their places: one a place, in their order. What the
    /// records of one transaction have in common is read and made once, where its places follow each other. A
    /// record of more bytes than `record_bytes_max` is left out of its receipt.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn receipts(
        &self,
        places: &[RecordPlace],
        record_bytes_max: usize,
    ) -> Result<Vec<v1::Receipt>, StoreError> {
        let mut tiles = TileReader::new(self.store());
        let mut block: Option<BlockOutcomes> = None;
        let mut last: Option<TransactionProof> = None;
        let mut receipts = Vec::with_capacity(places.len());
        for place in places {
            let proof = match last.take() {
                Some(proof) if proof.transaction.log_index == place.log_index => proof,
                _ => self.transaction_proof(place.log_index, &mut tiles, &mut block)?,
            };
            receipts.push(last.insert(proof).receipt(place.position, record_bytes_max)?);
        }
        Ok(receipts)
    }

    /// What the receipts of a transaction's records have in common.
    fn transaction_proof(
        &self,
        log_index: u64,
        tiles: &mut TileReader<'_>,
        block: &mut Option<BlockOutcomes>,
    ) -> Result<TransactionProof, StoreError> {
        let corrupt =
            |what| StoreError::corrupt(Table::Transactions, &table::number(log_index), what);
        let transaction =
            self.transaction_at(log_index)?.ok_or_else(|| corrupt("a record's is missing"))?;
        let signed = TransactionHeader::decode(&transaction.parts.header)
            .map_err(|_| corrupt("it has no header"))?;
        let members = self.shared.members_as_of(transaction.header.height)?;
        let agreements = self.shared.agreements_root_as_of(transaction.header.height)?;
        let registry = members
            .prove_signer(&signed.signer)
            .ok_or_else(|| corrupt("its signer is not in the registry"))?;
        let log_path = merkle::path_bytes(&log_path(&transaction, tiles)?);
        let (_, certificate) = self.committed_header(transaction.header.height)?;
        let slots = Tree::of(&transaction.parts.slots);
        let parts = &transaction.parts;
        let common = v1::Receipt {
            transaction_header: parts.header.to_vec(),
            transaction_signature: parts.signature.to_vec(),
            log_index,
            log_path,
            header: transaction.header.encode(),
            certificate: certificate_bytes(certificate.as_ref()),
            registry_entry: registry.entry,
            registry_index: registry.index,
            registry_count: registry.count,
            registry_path: merkle::path_bytes(&registry.path),
            agreements_root: agreements.0.to_vec(),
            ..Default::default()
        };
        let of_block = match block.take() {
            Some(of_block) if of_block.height == transaction.header.height => of_block,
            _ => self.block_outcomes(&transaction.header)?,
        };
        let of_block = block.insert(of_block);
        let place = log_index - transaction.header.log_start;
        let missing = || corrupt("the outcomes of its block are without it");
        let outcomes = usize::try_from(place).ok().and_then(|place| of_block.slots.get(place));
        let outcomes = outcomes.ok_or_else(missing)?.clone();
        let outcomes_path = of_block.tree.inclusion_path(place).map_err(|_| missing())?;
        let common = v1::Receipt { outcomes_path: merkle::path_bytes(&outcomes_path), ..common };
        let outcomes_tree = outcome::slot_tree(&outcomes);
        Ok(TransactionProof { transaction, slots, outcomes, outcomes_tree, common })
    }

    fn block_outcomes(&self, header: &Header) -> Result<BlockOutcomes, StoreError> {
        let slots = self.outcomes(header)?;
        let roots: Vec<_> = slots.iter().map(|slots| outcome::slot_root(slots)).collect();
        let tree = outcome::block_tree(&roots);
        Ok(BlockOutcomes { height: header.height, slots, tree })
    }

    /// The proof of all history entries of a subject, as of the tip. The entries were checked
    /// against their bucket's head.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn history_proof(&self, subject_key: &Hash) -> Result<v1::HistoryProof, StoreError> {
        let bits = self.genesis().history_bits;
        let bucket = bucket_of(subject_key, bits);
        let (tip, head, path) = {
            let state = self.shared.state();
            (Arc::clone(&state.tip), state.history.head(bucket), state.history.path(bucket))
        };
        let entries = self.bucket_entries(bucket, bits, tip.header.history_size)?;
        if head_of(&entries) != head {
            let what = "the bucket's entries do not give its head";
            return Err(StoreError::corrupt(Table::History, &bucket.to_be_bytes(), what));
        }
        Ok(v1::HistoryProof {
            subject_key: subject_key.0.to_vec(),
            bucket_entries: entries.iter().flat_map(HistoryEntry::encode).collect(),
            path: merkle::path_bytes(&path),
            header: tip.header.encode(),
            certificate: certificate_bytes(tip.certificate.as_ref()),
        })
    }

    /// A bucket's entries in block order. In the table they are in key order.
    pub(super) fn bucket_entries(
        &self,
        bucket: u32,
        bits: u32,
        history_size: u64,
    ) -> Result<Vec<HistoryEntry>, StoreError> {
        let mut first = Hash::ZERO;
        first.0[..4].copy_from_slice(&(bucket << (32 - bits)).to_be_bytes());
        let in_bucket = |key: &[u8]| {
            let first = key.first_chunk().map(|bytes| u32::from_be_bytes(*bytes) >> (32 - bits));
            first == Some(bucket)
        };
        let mut entries = self
            .store()
            .scan_while(Table::History, first.as_bytes(), in_bucket)
            .map(|row| history_entry(&row?.0))
            .filter(|entry| entry.as_ref().map_or(true, |entry| entry.log_index < history_size))
            .collect::<Result<Vec<_>, _>>()?;
        entries.sort_unstable_by_key(HistoryEntry::block_order);
        Ok(entries)
    }

    /// The path from an older to a newer log size, `0 < from ≤ to ≤` the tip's.
    ///
    /// # Errors
    /// [`StoreError::OutOfRange`] for other sizes; else the store's.
    pub fn consistency(&self, from: u64, to: u64) -> Result<Vec<Hash>, StoreError> {
        if to > self.tip().header.log_size {
            return Err(StoreError::OutOfRange);
        }
        let mut tiles = TileReader::new(self.store());
        merkle::consistency_path(from, to, |node| tiles.node(node))
    }

    /// The proof that the log of the header at one height is a prefix of that at another,
    /// `from_height ≤ to_height ≤` the tip's.
    ///
    /// # Errors
    /// [`StoreError::OutOfRange`] for other heights; else the store's.
    pub fn consistency_proof(
        &self,
        from_height: u64,
        to_height: u64,
    ) -> Result<v1::ConsistencyProof, StoreError> {
        if from_height > to_height || to_height > self.tip().header.height {
            return Err(StoreError::OutOfRange);
        }
        let (from, from_certificate) = self.committed_header(from_height)?;
        let (to, to_certificate) = self.committed_header(to_height)?;
        // The empty log is a prefix of every log, and RFC 6962 has no path for it.
        let path = match from.log_size {
            0 => Vec::new(),
            size => self.consistency(size, to.log_size)?,
        };
        Ok(v1::ConsistencyProof {
            from_header: from.encode(),
            from_certificate: certificate_bytes(from_certificate.as_ref()),
            to_header: to.encode(),
            to_certificate: certificate_bytes(to_certificate.as_ref()),
            path: merkle::path_bytes(&path),
        })
    }
}

/// What became of the slots of a block's transactions, and the tree over it.
struct BlockOutcomes {
    height: u64,
    slots: Vec<Vec<SlotOutcome>>,
    tree: Tree,
}

/// A transaction, with what the receipts of its records have in common.
struct TransactionProof {
    transaction: CommittedTransaction,
    slots: Tree,
    outcomes: Vec<SlotOutcome>,
    outcomes_tree: Tree,
    /// Without record and slot.
    common: v1::Receipt,
}

impl TransactionProof {
    fn receipt(&self, position: u32, record_bytes_max: usize) -> Result<v1::Receipt, StoreError> {
        let log_index = self.transaction.log_index;
        let corrupt =
            |what| StoreError::corrupt(Table::Transactions, &table::number(log_index), what);
        let slot_path = self.slots.inclusion_path(position.into());
        let slot_path = slot_path.map_err(|_| corrupt("a record's slot is missing"))?;
        if !self.outcomes.get(position as usize).is_some_and(SlotOutcome::is_applied) {
            return Err(corrupt("a record's slot does not count"));
        }
        let outcome_path = self.outcomes_tree.inclusion_path(position.into());
        let outcome_path = outcome_path.map_err(|_| corrupt("a record's outcome is missing"))?;
        let parts = &self.transaction.parts;
        let (place, slot) = (record_place(parts, position), parts.slots.get(position as usize));
        // Of a sealed record the bytes are elsewhere, and the receipt speaks of its id.
        let record = place.and_then(|place| parts.records.get(place));
        let shown = record.filter(|record| record.len() <= record_bytes_max);
        Ok(v1::Receipt {
            record: shown.map(|record| record.to_vec()).unwrap_or_default(),
            slot: slot.ok_or_else(|| corrupt("a record's slot is missing"))?.to_vec(),
            slot_index: position,
            slot_path: merkle::path_bytes(&slot_path),
            outcome_path: merkle::path_bytes(&outcome_path),
            ..self.common.clone()
        })
    }
}

/// The path of a transaction in the log as of the block that committed it.
fn log_path(
    transaction: &CommittedTransaction,
    tiles: &mut TileReader<'_>,
) -> Result<Vec<Hash>, StoreError> {
    let (log_index, header) = (transaction.log_index, &transaction.header);
    let path = merkle::inclusion_path(log_index, header.log_size, |node| tiles.node(node))?;
    let parts = &transaction.parts;
    let leaf = merkle::leaf_hash_of_parts(&[&parts.header, &parts.signature]);
    merkle::verify_inclusion(&leaf, log_index, header.log_size, &path, &header.log_root).map_err(
        |error| {
            let what = format!("the log's tiles do not lead to its root: {error}");
            StoreError::corrupt(Table::Tiles, &log_index.to_be_bytes(), what)
        },
    )?;
    Ok(path)
}

pub(super) fn certificate_bytes(certificate: Option<&Certificate>) -> Vec<u8> {
    certificate.map(Certificate::encode).unwrap_or_default()
}
