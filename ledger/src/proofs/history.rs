//! Checking that these are all the history entries of a subject, as of a final header.

use customhouse_proto::v1;

use crate::{
    canonical::{self, CanonicalError},
    finality::header::Header,
    hash::{Hash, LengthError},
    history::{HistoryEntry, bucket_of, head_of},
    layout::LayoutError,
    limits::HISTORY_PROOF_BYTES_MAX,
    merkle::{self, PathBytesError, ProofError},
    proofs::verifier::{FinalityError, Verifier},
};

/// All history entries of one subject, as of a final header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedHistory {
    /// The final header; its time says how old the answer is.
    pub header: Header,
    /// Indexes of the validators that finalized it, ascending; none at height 0.
    pub finalized_by: Vec<usize>,
    /// The subject.
    pub subject_key: Hash,
    /// Its entries, in block order; no entries prove that there is no record about it.
    pub entries: Vec<HistoryEntry>,
}

/// Why a history proof was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HistoryProofError {
    /// More than [`HISTORY_PROOF_BYTES_MAX`].
    #[error("history proof: {0} bytes, at most {HISTORY_PROOF_BYTES_MAX} are allowed")]
    TooLarge(usize),
    /// Not a history proof in its one encoding.
    #[error("history proof: {0}")]
    Canonical(#[from] CanonicalError),
    /// Not 32 bytes.
    #[error("subject_key: {0}")]
    SubjectKey(LengthError),
    /// A proof about another subject than the one asked for.
    #[error("subject_key: {found}, the proof of {asked} was asked for")]
    OtherSubject {
        /// The one asked for.
        asked: Hash,
        /// The proof's.
        found: Hash,
    },
    /// A path element is not 32 bytes.
    #[error("path: {0}")]
    PathBytes(PathBytesError),
    /// Not a whole number of entries.
    #[error("bucket_entries: {0}")]
    Entries(#[from] LayoutError),
    /// An entry of another bucket.
    #[error("bucket_entries[{0}]: of another bucket")]
    OtherBucket(usize),
    /// Not in block order, or twice.
    #[error("bucket_entries[{0}]: not in block order")]
    Order(usize),
    /// An entry beyond what the header's history root covers.
    #[error("bucket_entries[{0}]: beyond the header's history")]
    Beyond(usize),
    /// The header is not known to be final.
    #[error("{0}")]
    Finality(#[from] FinalityError),
    /// The entries are not those that the header's history root stands for.
    #[error("the bucket's entries do not lead to the header's history root: {0}")]
    HistoryRoot(ProofError),
}

impl HistoryProofError {
    /// A stable code for clients and scripts.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLarge(_) => "HISTORY_PROOF_TOO_LARGE",
            Self::Canonical(CanonicalError::Decode(_)) => "HISTORY_PROOF_MALFORMED",
            Self::Canonical(CanonicalError::NotCanonical) => "HISTORY_PROOF_NOT_CANONICAL",
            Self::SubjectKey(_) => "HISTORY_SUBJECT_KEY",
            Self::OtherSubject { .. } => "HISTORY_OTHER_SUBJECT",
            Self::PathBytes(_) => "HISTORY_PATH_MALFORMED",
            Self::Entries(_) => "HISTORY_ENTRIES_MALFORMED",
            Self::OtherBucket(_) => "HISTORY_OTHER_BUCKET",
            Self::Order(_) => "HISTORY_ORDER",
            Self::Beyond(_) => "HISTORY_BEYOND_HEADER",
            Self::Finality(error) => error.code(),
            Self::HistoryRoot(_) => "HISTORY_ROOT",
        }
    }
}

impl Verifier {
    /// Checks the canonical bytes of a [`v1::HistoryProof`] about this subject. A genuine proof about
    /// another subject is refused, so that no damage to the bytes goes unnoticed.
    ///
    /// # Errors
    /// As [`Verifier::verify_history`]; [`HistoryProofError::OtherSubject`].
    pub fn verify_history_of(
        &self,
        subject_key: &Hash,
        bytes: &[u8],
    ) -> Result<VerifiedHistory, HistoryProofError> {
        let history = self.verify_history(bytes)?;
        if history.subject_key == *subject_key {
            return Ok(history);
        }
        let (asked, found) = (*subject_key, history.subject_key);
        Err(HistoryProofError::OtherSubject { asked, found })
    }

    /// Checks the canonical bytes of a [`v1::HistoryProof`] about whichever subject it names.
    ///
    /// # Errors
    /// [`HistoryProofError`]: the first thing that is wrong.
    pub fn verify_history(&self, bytes: &[u8]) -> Result<VerifiedHistory, HistoryProofError> {
        if bytes.len() > HISTORY_PROOF_BYTES_MAX {
            return Err(HistoryProofError::TooLarge(bytes.len()));
        }
        let proof: v1::HistoryProof = canonical::decode(bytes)?;
        let subject_key =
            Hash::from_slice(&proof.subject_key).map_err(HistoryProofError::SubjectKey)?;
        let path = merkle::read_path(&proof.path).map_err(HistoryProofError::PathBytes)?;
        let (header, finalized_by) = self.verify_final(&proof.header, &proof.certificate)?;
        let bucket = bucket_of(&subject_key, self.history_bits());
        let entries = self.bucket_entries(&proof.bucket_entries, bucket, header.history_size)?;
        let leaf = merkle::leaf_hash(head_of(&entries).as_bytes());
        let buckets = 1 << self.history_bits();
        merkle::verify_inclusion(&leaf, bucket.into(), buckets, &path, &header.history_root)
            .map_err(HistoryProofError::HistoryRoot)?;
        let entries = entries.into_iter().filter(|entry| entry.key == subject_key).collect();
        Ok(VerifiedHistory { header, finalized_by, subject_key, entries })
    }

    /// Reads entries of a bucket, which are in block order and within what the header covers.
    ///
    /// # Errors
    /// The first of the entries' own rules that is broken.
    pub(super) fn bucket_entries(
        &self,
        bytes: &[u8],
        bucket: u32,
        history_size: u64,
    ) -> Result<Vec<HistoryEntry>, HistoryProofError> {
        let entries = bytes
            .chunks(HistoryEntry::LENGTH)
            .map(HistoryEntry::decode)
            .collect::<Result<Vec<_>, _>>()?;
        let mut before = None;
        for (index, entry) in entries.iter().enumerate() {
            if bucket_of(&entry.key, self.history_bits()) != bucket {
                return Err(HistoryProofError::OtherBucket(index));
            }
            if before.is_some_and(|before| before >= entry.block_order()) {
                return Err(HistoryProofError::Order(index));
            }
            if entry.log_index >= history_size {
                return Err(HistoryProofError::Beyond(index));
            }
            before = Some(entry.block_order());
        }
        Ok(entries)
    }
}
