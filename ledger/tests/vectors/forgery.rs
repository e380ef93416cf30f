//! Receipts of a block that never was, signed all through: for what no honest chain holds.

use customhouse_ledger::{
    agreement::Agreements,
    finality::{header::Header, vote::VoteKind},
    hash::{Hash, Tag},
    merkle::{Tree, path_bytes},
    record::field_tree,
    registry,
    transaction::{SlotOutcome, TransactionHeader, outcome},
};
use customhouse_proto::v1::{self, registry_entry::Entry};
use prost::Message as _;

use super::sample::{NOT_AFTER_MS, Sample, key};

/// What the receipt is made of. As it is made first, it verifies.
pub(crate) struct Forgery {
    pub(crate) chain_id: Hash,
    /// Seed of the key that signs.
    pub(crate) signer: u8,
    pub(crate) agency: &'static str,
    pub(crate) record: Vec<u8>,
    pub(crate) slot: v1::Slot,
    pub(crate) entries: Vec<v1::RegistryEntry>,
    pub(crate) header: Header,
    /// What became of the transaction's one slot.
    pub(crate) outcomes: Vec<SlotOutcome>,
}

impl Forgery {
    pub(crate) fn new(sample: &Sample) -> Self {
        let parts = sample.transactions[0].parts();
        Self {
            chain_id: sample.genesis.chain_id(),
            signer: 131,
            agency: "NL-DOUANE",
            record: parts.records[0].to_vec(),
            slot: v1::Slot::decode(parts.slots[0].clone()).expect("a slot"),
            entries: sample.genesis.registry.entries().cloned().collect(),
            header: sample.head(1).block.header.clone(),
            outcomes: vec![SlotOutcome::Applied],
        }
    }

    /// The entry that registers the signer.
    pub(crate) fn signer_entry(&mut self) -> &mut v1::RegistryEntry {
        let signer = key(self.signer).public();
        let is_signer = |entry: &&mut v1::RegistryEntry| match &entry.entry {
            Some(Entry::SigningKey(signing)) => signing.public_key == signer.as_bytes(),
            _ => false,
        };
        self.entries.iter_mut().find(is_signer).expect("registered")
    }

    /// The slot carries this record, whatever else it says.
    pub(crate) fn carry(&mut self, record: &v1::Record) {
        self.record = record.encode_to_vec();
        let id = field_tree::record_id(&self.record, &record.salt).unwrap_or_default();
        self.slot.record_id = id.0.to_vec();
    }

    pub(crate) fn receipt(mut self, sample: &Sample) -> Vec<u8> {
        let slot = self.slot.encode_to_vec();
        let transaction = TransactionHeader {
            chain_id: self.chain_id,
            signer: key(self.signer).public(),
            agency: self.agency.parse().expect("a code"),
            not_after_ms: NOT_AFTER_MS,
            slot_count: 1,
            records_root: Tree::of(&[&slot]).root(),
        };
        let message = Tag::TRANSACTION_SIGNATURE.message(&[&transaction.encode()]);
        let signature = key(self.signer).sign(&message);
        let entry = self.signer_entry().encode_to_vec();
        let leaves: Vec<_> = self.entries.iter().map(v1::RegistryEntry::encode_to_vec).collect();
        let index = leaves.iter().position(|leaf| *leaf == entry).expect("one of them") as u64;
        let (tree, count) = (Tree::of(&leaves), leaves.len() as u64);
        let header = Header {
            log_start: 0,
            log_size: 1,
            log_root: Tree::of(&[transaction.leaf(&signature)]).root(),
            registry_root: registry::root(
                &registry::members_root(count, &tree.root()),
                &Agreements::default().root(),
            ),
            outcomes_root: outcome::block_root([&self.outcomes[..]]),
            ..self.header
        };
        let path = tree.inclusion_path(index).expect("an entry");
        v1::Receipt {
            record: self.record,
            slot,
            transaction_header: transaction.encode(),
            transaction_signature: signature.0.to_vec(),
            certificate: sample.certificate(&header, VoteKind::Finalize).encode(),
            header: header.encode(),
            registry_entry: entry,
            registry_index: index,
            registry_count: count,
            registry_path: path_bytes(&path),
            agreements_root: Agreements::default().root().0.to_vec(),
            ..Default::default()
        }
        .encode_to_vec()
    }
}
