//! What an envelope is for, and its bytes.

use customhouse_ledger::{
    agency::AgencyCode,
    hash::{Hash, Tag},
    layout::Writer,
};

use crate::sealed::{SealedKind, SealedPlace};

/// What is in an envelope: one of one kind does not open as another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnvelopeKind {
    /// A record, with its salt and whatever travels with it.
    Record,
    /// The key of an attachment or a source.
    AttachmentKey,
    /// The secret of an agreement's epoch.
    EpochSecret,
    /// The terms of an agreement.
    Terms,
    /// A batch of control records.
    Control,
}

impl EnvelopeKind {
    /// Its byte in the layout.
    pub fn to_byte(self) -> u8 {
        match self {
            Self::Record => 1,
            Self::AttachmentKey => 2,
            Self::EpochSecret => 3,
            Self::Terms => 4,
            Self::Control => 5,
        }
    }
}

/// What an envelope is for: it opens for the same and for nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnvelopeContext {
    /// The chain.
    pub chain_id: Hash,
    /// The agency that seals it.
    pub from: AgencyCode,
    /// The agency that opens it.
    pub to: AgencyCode,
    /// What is in it.
    pub kind: EnvelopeKind,
    /// The id of the record, attachment, agreement or batch.
    pub id: Hash,
    /// The epoch of the agreement; 0 where there is none.
    pub epoch: u32,
}

impl EnvelopeContext {
    /// Bytes of the layout: chain id (32) ‖ from (16) ‖ to (16) ‖ kind (1) ‖ id (32) ‖ epoch (4).
    pub const LENGTH: usize = 32 + 2 * AgencyCode::LENGTH + 1 + 32 + 4;

    /// The layout.
    pub fn to_bytes(&self) -> Vec<u8> {
        let out = Writer::with_capacity(Self::LENGTH).hash(&self.chain_id);
        let out = out.bytes(self.from.as_bytes()).bytes(self.to.as_bytes());
        out.u8(self.kind.to_byte()).hash(&self.id).u32(self.epoch).finish()
    }

    /// Where the envelope is kept in the sender's vault until it is delivered. The id of the place has the
    /// recipient in it, and all else: an envelope of one record to one agency does not open as that to another.
    pub fn place(&self) -> SealedPlace {
        SealedPlace {
            chain_id: self.chain_id,
            agency: self.from,
            record_id: Tag::ENVELOPE.hash(&[&self.to_bytes()]),
            kind: SealedKind::Envelope,
        }
    }

    /// HPKE's `info`.
    pub(super) fn info(&self) -> Vec<u8> {
        Tag::ENVELOPE.message(&[&self.to_bytes()])
    }
}
