//! What can be checked by anyone who holds the genesis, trusting no node.

use crate::{
    certificate::{Certificate, CertificateError},
    genesis::Genesis,
    hash::Hash,
    header::Header,
    layout::LayoutError,
    validators::ValidatorSet,
    vote::VoteKind,
};

/// Checks headers, receipts and history proofs against one genesis. In this version the validators
/// are those of the genesis at every height.
#[derive(Clone, Debug)]
pub struct Verifier {
    chain_id: Hash,
    genesis_header: Header,
    history_bits: u32,
    validators: ValidatorSet,
}

/// Why a header is not known to be final.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FinalityError {
    /// The header is not its layout.
    #[error("header: {0}")]
    Header(#[from] LayoutError),
    /// Rules that this code does not know.
    #[error("header: version {0} of the rules is not known")]
    Version(u16),
    /// A header of another chain.
    #[error("header: of chain {found}, not of {expected}")]
    WrongChain {
        /// The genesis's.
        expected: Hash,
        /// The header's.
        found: Hash,
    },
    /// At height 0, but not the header that follows from the genesis, or with a certificate.
    #[error("header: not the one that follows from the genesis")]
    Genesis,
    /// Decided by other validators than the genesis names.
    #[error("header: decided by other validators than those of the genesis")]
    Validators,
    /// The certificate is not well-formed, or no quorum signed it.
    #[error("certificate: {0}")]
    Certificate(#[from] CertificateError),
    /// A certificate, but no finalization.
    #[error("certificate: a {0:?} certificate where a finalization is needed")]
    Kind(VoteKind),
    /// A finalization of another height.
    #[error("certificate: for height {found}, the header has {expected}")]
    Height {
        /// The header's.
        expected: u64,
        /// The certificate's.
        found: u64,
    },
    /// A finalization of another block.
    #[error("certificate: for block {found}, the header is {expected}")]
    BlockHash {
        /// The header's.
        expected: Hash,
        /// The certificate's.
        found: Hash,
    },
}

impl FinalityError {
    /// A stable code for clients and metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Header(_) => "HEADER_MALFORMED",
            Self::Version(_) => "HEADER_VERSION",
            Self::WrongChain { .. } => "WRONG_CHAIN",
            Self::Genesis => "HEADER_NOT_GENESIS",
            Self::Validators => "HEADER_VALIDATORS",
            Self::Certificate(CertificateError::Layout(_)) => "CERTIFICATE_MALFORMED",
            Self::Certificate(_) => "CERTIFICATE_INVALID",
            Self::Kind(_) => "CERTIFICATE_KIND",
            Self::Height { .. } => "CERTIFICATE_HEIGHT",
            Self::BlockHash { .. } => "CERTIFICATE_BLOCK_HASH",
        }
    }
}

impl Verifier {
    /// A verifier that trusts this genesis.
    pub fn new(genesis: &Genesis) -> Self {
        Self {
            chain_id: genesis.chain_id(),
            genesis_header: genesis.header(),
            history_bits: genesis.history_bits,
            validators: genesis.validators(),
        }
    }

    /// The chain that the genesis begins.
    pub fn chain_id(&self) -> Hash {
        self.chain_id
    }

    /// The validators that a quorum is counted among.
    pub fn validators(&self) -> &ValidatorSet {
        &self.validators
    }

    /// k of the history index.
    pub(crate) fn history_bits(&self) -> u32 {
        self.history_bits
    }

    /// Reads a header and its finalization, checks that a quorum finalized it, and tells who did:
    /// validator indexes, ascending. The header at height 0 has an empty certificate and must be
    /// the one that follows from the genesis.
    ///
    /// # Errors
    /// [`FinalityError`].
    pub fn verify_final(
        &self,
        header: &[u8],
        certificate: &[u8],
    ) -> Result<(Header, Vec<usize>), FinalityError> {
        let header = Header::decode(header)?;
        if header.height == 0 {
            let genuine = certificate.is_empty() && header == self.genesis_header;
            return if genuine { Ok((header, vec![])) } else { Err(FinalityError::Genesis) };
        }
        let certificate = Certificate::decode(certificate)?;
        verify_finalization(&header, &certificate, &self.chain_id, &self.validators)?;
        Ok((header, certificate.signers().collect()))
    }
}

/// Checks that a quorum of these validators, who decide the header's height, finalized it on this
/// chain.
///
/// # Errors
/// [`FinalityError`].
pub fn verify_finalization(
    header: &Header,
    certificate: &Certificate,
    chain_id: &Hash,
    validators: &ValidatorSet,
) -> Result<(), FinalityError> {
    if header.version != Header::VERSION {
        return Err(FinalityError::Version(header.version));
    }
    if header.chain_id != *chain_id {
        let (expected, found) = (*chain_id, header.chain_id);
        return Err(FinalityError::WrongChain { expected, found });
    }
    if header.validators_hash != validators.hash() {
        return Err(FinalityError::Validators);
    }
    let ballot = &certificate.ballot;
    if ballot.kind != VoteKind::Finalize {
        return Err(FinalityError::Kind(ballot.kind));
    }
    if ballot.height != header.height {
        return Err(FinalityError::Height { expected: header.height, found: ballot.height });
    }
    let block_hash = header.hash();
    if ballot.block_hash != block_hash {
        return Err(FinalityError::BlockHash { expected: block_hash, found: ballot.block_hash });
    }
    Ok(certificate.verify(chain_id, validators)?)
}
