//! Checking that one final header's log is a prefix of another's.
//!
//! An auditor keeps the newest final header it has seen. From whoever shows it a later one it asks
//! for this proof: nothing that was in the log has been taken out, put in or changed since.

use customhouse_proto::v1;

use crate::{
    canonical::{self, CanonicalError},
    finality::header::Header,
    limits::CONSISTENCY_PROOF_BYTES_MAX,
    merkle::{self, PathBytesError, ProofError},
    proofs::verifier::{FinalityError, Verifier},
};

#[cfg(test)]
mod tests;

/// Two final headers, the log of one a prefix of the other's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedConsistency {
    /// The older header; the same as the newer where the heights are equal.
    pub from: Header,
    /// Indexes of the validators that finalized it, ascending; none at height 0.
    pub from_finalized_by: Vec<usize>,
    /// The newer header.
    pub to: Header,
    /// Indexes of the validators that finalized it, ascending; none at height 0.
    pub to_finalized_by: Vec<usize>,
}

/// Why a consistency proof was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConsistencyError {
    /// More than [`CONSISTENCY_PROOF_BYTES_MAX`].
    #[error("consistency proof: {0} bytes, at most {CONSISTENCY_PROOF_BYTES_MAX} are allowed")]
    TooLarge(usize),
    /// Not a consistency proof in its one encoding.
    #[error("consistency proof: {0}")]
    Canonical(#[from] CanonicalError),
    /// The header at this end, `from` or `to`, is not known to be final.
    #[error("{0}_{1}")]
    Finality(&'static str, FinalityError),
    /// The older header is above the newer.
    #[error("from_header: height {from} is above {to}, the height of to_header")]
    Heights {
        /// The older header's.
        from: u64,
        /// The newer header's.
        to: u64,
    },
    /// Two final headers of one height: the validators divided the chain.
    #[error(
        "from_header and to_header: two final blocks of height {0}, which proves a fork; keep both \
         and find out who signed twice (`customhouse audit fork`)"
    )]
    Fork(u64),
    /// The newer log is smaller than the older: no honest quorum finalizes that.
    #[error("to_header: its log has {to} transactions, fewer than the {from} of from_header")]
    LogSizes {
        /// Of the older header.
        from: u64,
        /// Of the newer header.
        to: u64,
    },
    /// A path that is not whole hashes.
    #[error("path: {0}")]
    PathBytes(PathBytesError),
    /// The path has more or fewer hashes than the two log sizes ask for.
    #[error("path: {0}")]
    PathLength(ProofError),
    /// The path leads to another log root than the older header's.
    #[error("path: does not lead to the log root of from_header")]
    FromRoot,
    /// The path leads to another log root than the newer header's.
    #[error("path: does not lead to the log root of to_header")]
    ToRoot,
}

impl ConsistencyError {
    /// A stable code for clients and scripts.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLarge(_) => "CONSISTENCY_PROOF_TOO_LARGE",
            Self::Canonical(CanonicalError::Decode(_)) => "CONSISTENCY_PROOF_MALFORMED",
            Self::Canonical(CanonicalError::NotCanonical) => "CONSISTENCY_PROOF_NOT_CANONICAL",
            Self::Finality(_, error) => error.code(),
            Self::Heights { .. } => "CONSISTENCY_HEIGHTS",
            Self::Fork(_) => "CONSISTENCY_FORK",
            Self::LogSizes { .. } => "CONSISTENCY_LOG_SIZES",
            Self::PathBytes(_) => "CONSISTENCY_PATH_MALFORMED",
            Self::PathLength(_) => "CONSISTENCY_PATH_LENGTH",
            Self::FromRoot => "CONSISTENCY_FROM_ROOT",
            Self::ToRoot => "CONSISTENCY_TO_ROOT",
        }
    }
}

impl Verifier {
    /// Checks the canonical bytes of a [`v1::ConsistencyProof`].
    ///
    /// # Errors
    /// [`ConsistencyError`]: the first thing that is wrong, from the certified headers to the path.
    pub fn verify_consistency(
        &self,
        bytes: &[u8],
    ) -> Result<VerifiedConsistency, ConsistencyError> {
        if bytes.len() > CONSISTENCY_PROOF_BYTES_MAX {
            return Err(ConsistencyError::TooLarge(bytes.len()));
        }
        let proof: v1::ConsistencyProof = canonical::decode(bytes)?;
        let (from, from_finalized_by) = self
            .verify_final(&proof.from_header, &proof.from_certificate)
            .map_err(|error| ConsistencyError::Finality("from", error))?;
        let (to, to_finalized_by) = self
            .verify_final(&proof.to_header, &proof.to_certificate)
            .map_err(|error| ConsistencyError::Finality("to", error))?;
        if from.height > to.height {
            return Err(ConsistencyError::Heights { from: from.height, to: to.height });
        }
        if from.height == to.height && from != to {
            return Err(ConsistencyError::Fork(from.height));
        }
        check_logs(&from, &to, &proof.path)?;
        Ok(VerifiedConsistency { from, from_finalized_by, to, to_finalized_by })
    }
}

/// The empty log is a prefix of every log; RFC 6962 has no path for it, so there is none.
fn check_logs(from: &Header, to: &Header, path: &[u8]) -> Result<(), ConsistencyError> {
    if from.log_size > to.log_size {
        return Err(ConsistencyError::LogSizes { from: from.log_size, to: to.log_size });
    }
    let path = merkle::read_path(path).map_err(ConsistencyError::PathBytes)?;
    if from.log_size == 0 {
        return match path[..] {
            [] if from.log_root != merkle::empty_root() => Err(ConsistencyError::FromRoot),
            [] if to.log_size == 0 && to.log_root != from.log_root => Err(ConsistencyError::ToRoot),
            [] => Ok(()),
            _ => Err(ConsistencyError::PathLength(ProofError::PathTooLong)),
        };
    }
    let (from_root, to_root) = (&from.log_root, &to.log_root);
    merkle::verify_consistency(from.log_size, to.log_size, from_root, to_root, &path).map_err(
        |error| match error {
            ProofError::OldRoot => ConsistencyError::FromRoot,
            ProofError::Root => ConsistencyError::ToRoot,
            length => ConsistencyError::PathLength(length),
        },
    )
}
