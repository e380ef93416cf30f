//! Values at rest: the only place where bincode is used. Fixed-width big-endian
//! integers, a size limit, and no byte left over.

use bincode::{
    Decode, Encode,
    config::{self, BigEndian, Configuration, Fixint, Limit},
};

use sha2::{Digest as _, Sha256};

use crate::{
    authority::{RecordKind, Stated, Target},
    finality::{
        certificate::Certificate,
        decision::Grounds,
        evidence::Claim,
        header::{Block, Header},
    },
    hash::Hash,
    store::{Store, StoreError, Table},
    transaction::{EpochId, SlotOutcome},
};

/// Most bytes of a value: a pending block of 65,536 leaves and its header.
const VALUE_BYTES_MAX: usize = 4 << 20;

const CONFIG: Configuration<BigEndian, Fixint, Limit<VALUE_BYTES_MAX>> =
    config::standard().with_big_endian().with_fixed_int_encoding().with_limit::<VALUE_BYTES_MAX>();

/// A value of a table.
pub(crate) trait Row: Encode + Decode<()> {}

impl<V: Encode + Decode<()>> Row for V {}

/// The kind of a sealed record, which the chain does not know.
const SEALED: u8 = 0;

/// The epoch under which a record is shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct SharedRow {
    agreement: [u8; 32],
    epoch: u32,
}

impl SharedRow {
    pub(crate) fn new(epoch: &EpochId) -> Self {
        Self { agreement: epoch.agreement.0, epoch: epoch.number }
    }

    pub(crate) fn epoch(&self) -> EpochId {
        EpochId { agreement: Hash(self.agreement), number: self.epoch }
    }
}

/// Where a record is, and what is asked of it where another refers to it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct PlaceRow {
    pub(crate) log_index: u64,
    pub(crate) position: u32,
    kind: u8,
    submitter: String,
}

/// What became of a block's slots: how many each transaction has, and which of them are not applied, as
/// transaction, position and outcome.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub(crate) struct OutcomesRow {
    slots: Vec<u16>,
    others: Vec<(u32, u32, Vec<u8>)>,
}

/// What a dedupe key stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct DedupeRow {
    pub(crate) log_index: u64,
    pub(crate) position: u32,
    record_id: [u8; 32],
}

/// A header with its certificate; the certificate is empty at height 0.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct HeaderRow {
    header: Vec<u8>,
    certificate: Vec<u8>,
}

/// A block stored for voting.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct BlockRow {
    header: Vec<u8>,
    leaves: Vec<[u8; 32]>,
}

/// What the decision of a height rested on: certificates and proposals, each in its layout.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct GroundsRow {
    certificates: Vec<Vec<u8>>,
    proposals: Vec<Vec<u8>>,
}

/// Which rows a table has: how many, and their hashes combined by exclusive or, which takes a hash out
/// again when it is put in twice. It shows loss, not forgery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub(crate) struct RowsRow {
    pub(crate) count: u64,
    hashes: [u8; 32],
}

/// The newest committed block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct TipRow {
    pub(crate) height: u64,
    pub(crate) block_hash: [u8; 32],
}

impl RowsRow {
    /// Counts a row in.
    pub(crate) fn add(&mut self, hash: &Hash) {
        self.count = self.count.wrapping_add(1);
        self.combine(hash);
    }

    /// Counts a row out.
    pub(crate) fn remove(&mut self, hash: &Hash) {
        self.count = self.count.wrapping_sub(1);
        self.combine(hash);
    }

    fn combine(&mut self, hash: &Hash) {
        self.hashes.iter_mut().zip(hash.0).for_each(|(byte, other)| *byte ^= other);
    }

    /// The hash of a row.
    pub(crate) fn hash(key: &[u8], value: &[u8]) -> Hash {
        let hasher = Sha256::new().chain_update((key.len() as u64).to_be_bytes());
        Hash(hasher.chain_update(key).chain_update(value).finalize().into())
    }
}

impl PlaceRow {
    /// `stated` is of the record; `None` where it is sealed.
    pub(crate) fn new(log_index: u64, position: u32, stated: Option<&Stated>) -> Self {
        let kind = stated.map_or(SEALED, |stated| stated.kind.number());
        let submitter = stated.map(|stated| stated.submitter.clone()).unwrap_or_default();
        Self { log_index, position, kind, submitter }
    }

    /// Whether the chain has its slot alone.
    pub(crate) fn is_sealed(&self) -> bool {
        self.kind == SEALED
    }

    /// What is asked of the record; `None` where its kind is none.
    pub(crate) fn target(&self) -> Option<Target> {
        let kind = match self.kind {
            SEALED => None,
            number => Some(RecordKind::numbered(number)?),
        };
        Some(Target { kind, submitter: self.submitter.clone() })
    }
}

impl OutcomesRow {
    pub(crate) fn new(outcomes: &[Vec<SlotOutcome>]) -> Self {
        let mut row = Self::default();
        for (transaction, outcomes) in (0..).zip(outcomes) {
            row.slots.push(u16::try_from(outcomes.len()).expect("at most SLOTS_MAX"));
            let others = (0..).zip(outcomes).filter(|(_, outcome)| !outcome.is_applied());
            row.others.extend(others.map(|(position, o)| (transaction, position, o.encode())));
        }
        row
    }

    /// The outcomes by transaction; `None` where the row is not one.
    pub(crate) fn outcomes(&self) -> Option<Vec<Vec<SlotOutcome>>> {
        let applied = |slots: &u16| vec![SlotOutcome::Applied; usize::from(*slots)];
        let mut outcomes: Vec<_> = self.slots.iter().map(applied).collect();
        for (transaction, position, other) in &self.others {
            let slot = outcomes.get_mut(*transaction as usize)?.get_mut(*position as usize)?;
            *slot = SlotOutcome::decode(other)?;
        }
        Some(outcomes)
    }
}

impl DedupeRow {
    pub(crate) fn new(log_index: u64, position: u32, record_id: &Hash) -> Self {
        Self { log_index, position, record_id: record_id.0 }
    }

    pub(crate) fn record_id(&self) -> Hash {
        Hash(self.record_id)
    }
}

impl HeaderRow {
    pub(crate) fn new(header: &Header, certificate: Option<&Certificate>) -> Self {
        let certificate = certificate.map(Certificate::encode).unwrap_or_default();
        Self { header: header.encode(), certificate }
    }

    /// `None` where the parts do not decode, or do not belong together.
    pub(crate) fn parts(&self) -> Option<(Header, Option<Certificate>)> {
        let header = Header::decode(&self.header).ok()?;
        if self.certificate.is_empty() {
            return (header.height == 0).then_some((header, None));
        }
        let certificate = Certificate::decode(&self.certificate).ok()?;
        let belongs = certificate.ballot.block_hash == header.hash();
        belongs.then_some((header, Some(certificate)))
    }
}

impl BlockRow {
    pub(crate) fn new(block: &Block) -> Self {
        let leaves = block.leaves.iter().map(|leaf| leaf.0).collect();
        Self { header: block.header.encode(), leaves }
    }

    /// `None` where the header does not decode.
    pub(crate) fn block(&self) -> Option<Block> {
        let leaves = self.leaves.iter().map(|leaf| Hash(*leaf)).collect();
        Some(Block { header: Header::decode(&self.header).ok()?, leaves })
    }
}

impl GroundsRow {
    /// The row of grounds that are within their limits.
    pub(crate) fn new(grounds: &Grounds) -> Self {
        let certificates = grounds.certificates.iter().map(Certificate::encode).collect();
        Self { certificates, proposals: grounds.claims.iter().map(Claim::encode).collect() }
    }

    /// `None` where a part does not decode.
    pub(crate) fn grounds(&self) -> Option<Grounds> {
        let certificates = self.certificates.iter().map(|bytes| Certificate::decode(bytes).ok());
        let claims = self.proposals.iter().map(|bytes| Claim::decode(bytes).ok());
        Some(Grounds {
            certificates: certificates.collect::<Option<_>>()?,
            claims: claims.collect::<Option<_>>()?,
        })
    }
}

/// A value's bytes.
pub(crate) fn encode<V: Encode>(value: &V) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_into(&mut bytes, value);
    bytes
}

/// Appends a value's bytes.
pub(crate) fn encode_into<V: Encode>(bytes: &mut Vec<u8>, value: &V) {
    bincode::encode_into_std_write(value, bytes, CONFIG)
        .expect("rows are bounded and always encode");
}

/// Reads a value that was read from a row.
pub(crate) fn decode<V: Decode<()>>(
    table: Table,
    key: &[u8],
    bytes: &[u8],
) -> Result<V, StoreError> {
    match bincode::decode_from_slice(bytes, CONFIG) {
        Ok((value, length)) if length == bytes.len() => Ok(value),
        Ok(_) => Err(StoreError::corrupt(table, key, "bytes after the value")),
        Err(error) => Err(StoreError::corrupt(table, key, error)),
    }
}

impl Store {
    /// Reads one row's value.
    pub(crate) fn value<V: Decode<()>>(
        &self,
        table: Table,
        key: impl AsRef<[u8]>,
    ) -> Result<Option<V>, StoreError> {
        let key = key.as_ref();
        self.read(table, key)?.map(|bytes| decode(table, key, &bytes)).transpose()
    }
}
