//! What a transaction's signature covers.

use crate::{
    agency::AgencyCode,
    hash::{Hash, Tag},
    keys::{KeyError, PublicKey, Signature},
    layout::{LayoutError, Reader, Writer},
};

/// What a transaction's signature covers, fixed layout of [`TransactionHeader::LENGTH`] bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionHeader {
    /// Which chain it is for.
    pub chain_id: Hash,
    /// The key that signs it: registered for the agency.
    pub signer: PublicKey,
    /// The agency that answers for it.
    pub agency: AgencyCode,
    /// Unix milliseconds: no block of a later time may include it.
    pub not_after_ms: u64,
    /// 1 to [`crate::limits::SLOTS_MAX`].
    pub slot_count: u32,
    /// RFC 6962 root over the slots' canonical bytes.
    pub records_root: Hash,
}

impl TransactionHeader {
    /// Bytes of the layout.
    pub const LENGTH: usize = 32 + 32 + 16 + 8 + 4 + 32;

    /// The fixed layout.
    pub fn encode(&self) -> Vec<u8> {
        Writer::with_capacity(Self::LENGTH)
            .hash(&self.chain_id)
            .bytes(self.signer.as_bytes())
            .bytes(self.agency.as_bytes())
            .u64(self.not_after_ms)
            .u32(self.slot_count)
            .hash(&self.records_root)
            .finish()
    }

    /// Reads the fixed layout.
    ///
    /// # Errors
    /// Another length, a signer that is not a key, an agency that is not a code.
    pub fn decode(bytes: &[u8]) -> Result<Self, LayoutError> {
        let mut reader = Reader::new(bytes);
        let header = Self {
            chain_id: reader.hash("chain_id")?,
            signer: reader.public_key("signer")?,
            agency: reader.agency("agency")?,
            not_after_ms: reader.u64("not_after_ms")?,
            slot_count: reader.u32("slot_count")?,
            records_root: reader.hash("records_root")?,
        };
        reader.finish()?;
        Ok(header)
    }

    /// The transaction id: tagged hash of the layout. One id is committed once.
    pub fn id(&self) -> Hash {
        Tag::TRANSACTION.hash(&[&self.encode()])
    }

    /// Checks a signature over this header.
    ///
    /// # Errors
    /// [`KeyError::Signature`].
    pub fn verify(&self, signature: &Signature) -> Result<(), KeyError> {
        self.signer.verify(&Tag::TRANSACTION_SIGNATURE.message(&[&self.encode()]), signature)
    }

    /// The leaf of the log: header bytes and signature. It shows commitments and no trade data.
    pub fn leaf(&self, signature: &Signature) -> Vec<u8> {
        [&self.encode()[..], &signature.0].concat()
    }
}
