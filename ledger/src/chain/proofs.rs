//! Making the proofs that a [`crate::proofs::verifier::Verifier`] checks.

use std::sync::Arc;

use customhouse_proto::v1;

use crate::{
    chain::{
        ChainReader,
        reader::{CommittedTransaction, history_entry},
    },
    finality::certificate::Certificate,
    hash::Hash,
    history::{HistoryEntry, bucket_of, head_of},
    merkle::{self, Tree},
    registry,
    store::{StoreError, Table, table, tile::TileReader},
    transaction::{SlotOutcome, TransactionHeader, outcome},
};

impl ChainReader {
    /// The receipt of a record, against the header of the block that committed it. `None` where the
    /// record is not committed. What is made here was checked against that header's log root.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn receipt(&self, record_id: &Hash) -> Result<Option<v1::Receipt>, StoreError> {
        let Some(place) = self.place(record_id)? else { return Ok(None) };
        let corrupt = |what| StoreError::corrupt(Table::Records, record_id.as_bytes(), what);
        let transaction = self
            .transaction_at(place.log_index)?
            .ok_or_else(|| corrupt("its transaction is missing"))?;
        let signed = TransactionHeader::decode(&transaction.parts.header)
            .map_err(|_| corrupt("its transaction has no header"))?;
        let registry = self
            .shared
            .members_as_of(transaction.header.height)?
            .prove_signer(&signed.signer)
            .ok_or_else(|| corrupt("its signer is not in the registry"))?;
        let slot_position = u64::from(place.position);
        let slots = Tree::of(&transaction.parts.slots);
        let slot_path = slots.inclusion_path(slot_position);
        let slot_path = slot_path.map_err(|_| corrupt("its slot is missing"))?;
        let log_path = self.log_path(&transaction)?;
        let (outcome_path, outcomes_path) = self.outcome_paths(&transaction, place.position)?;
        let (_, certificate) = self.committed_header(transaction.header.height)?;
        let position = place.position as usize;
        let parts = &transaction.parts;
        let part = |list: &[bytes::Bytes]| list.get(position).map(|bytes| bytes.to_vec());
        Ok(Some(v1::Receipt {
            record: part(&parts.records).ok_or_else(|| corrupt("its bytes are missing"))?,
            slot: part(&parts.slots).ok_or_else(|| corrupt("its slot is missing"))?,
            slot_index: place.position,
            slot_path: merkle::path_bytes(&slot_path),
            transaction_header: parts.header.to_vec(),
            transaction_signature: parts.signature.to_vec(),
            log_index: place.log_index,
            log_path: merkle::path_bytes(&log_path),
            header: transaction.header.encode(),
            certificate: certificate_bytes(certificate.as_ref()),
            registry_entry: registry.entry,
            registry_index: registry.index,
            registry_count: registry.count,
            registry_path: merkle::path_bytes(&registry.path),
            agreements_root: registry::agreements_root().0.to_vec(),
            outcome_path: merkle::path_bytes(&outcome_path),
            outcomes_path: merkle::path_bytes(&outcomes_path),
        }))
    }

    /// The paths of a slot's outcome: under those of its transaction, and of these under those of the block.
    fn outcome_paths(
        &self,
        transaction: &CommittedTransaction,
        position: u32,
    ) -> Result<(Vec<Hash>, Vec<Hash>), StoreError> {
        let header = &transaction.header;
        let key = table::number(header.height);
        let corrupt = |what| StoreError::corrupt(Table::Outcomes, &key, what);
        let outcomes = self.outcomes(header)?;
        let place = transaction.log_index - header.log_start;
        let of_transaction = usize::try_from(place).ok().and_then(|place| outcomes.get(place));
        let of_transaction = of_transaction.ok_or_else(|| corrupt("without this transaction"))?;
        if !of_transaction.get(position as usize).is_some_and(SlotOutcome::is_applied) {
            return Err(corrupt("the record's slot does not count"));
        }
        let missing = |_| corrupt("without this slot");
        let roots: Vec<_> = outcomes.iter().map(|slots| outcome::slot_root(slots)).collect();
        let slots = outcome::slot_tree(of_transaction).inclusion_path(u64::from(position));
        let transactions = outcome::block_tree(&roots).inclusion_path(place);
        Ok((slots.map_err(missing)?, transactions.map_err(missing)?))
    }

    /// The path of a transaction in the log as of the block that committed it.
    fn log_path(&self, transaction: &CommittedTransaction) -> Result<Vec<Hash>, StoreError> {
        let (log_index, header) = (transaction.log_index, &transaction.header);
        let mut tiles = TileReader::new(self.store());
        let path = merkle::inclusion_path(log_index, header.log_size, |node| tiles.node(node))?;
        let parts = &transaction.parts;
        let leaf = merkle::leaf_hash_of_parts(&[&parts.header, &parts.signature]);
        merkle::verify_inclusion(&leaf, log_index, header.log_size, &path, &header.log_root)
            .map_err(|error| {
                let what = format!("the log's tiles do not lead to its root: {error}");
                StoreError::corrupt(Table::Tiles, &log_index.to_be_bytes(), what)
            })?;
        Ok(path)
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
    fn bucket_entries(
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

fn certificate_bytes(certificate: Option<&Certificate>) -> Vec<u8> {
    certificate.map(Certificate::encode).unwrap_or_default()
}
