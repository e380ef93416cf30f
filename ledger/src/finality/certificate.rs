//! Certificates: a quorum of validators said the same thing.

use crate::{
    finality::{
        validators::ValidatorSet,
        vote::{Ballot, Vote, VoteKind},
    },
    hash::Hash,
    keys::Signature,
    layout::{LayoutError, Reader, Writer},
    limits::VALIDATORS_MAX,
};

/// q votes for one ballot.
///
/// Layout: kind (1), height (8), view (8), block hash (32), bitmap length in bytes (2), bitmap,
/// signatures (64 each) in validator order. Bit i of the bitmap, most significant first, is
/// validator i. Nodes may hold different valid certificates for one block, so a certificate is
/// never inside hashed state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// What was agreed.
    pub ballot: Ballot,
    bitmap: Vec<u8>,
    signatures: Vec<Signature>,
}

/// Why a certificate was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// The bytes are not the layout.
    #[error("certificate layout: {0}")]
    Layout(#[from] LayoutError),
    /// The bitmap is not ⌈n/8⌉ bytes long.
    #[error("the signer bitmap is for another number of validators")]
    BitmapLength,
    /// A bit beyond the last validator is set.
    #[error("the signer bitmap names a validator that does not exist")]
    UnknownSigner,
    /// The number of signatures is not the number of bits set.
    #[error("{signatures} signatures for {signers} signers")]
    SignatureCount {
        /// Bits set.
        signers: usize,
        /// Signatures present.
        signatures: usize,
    },
    /// Fewer than a quorum signed.
    #[error("{signers} signers where a quorum is {quorum}")]
    NoQuorum {
        /// Bits set.
        signers: usize,
        /// Signers needed.
        quorum: usize,
    },
    /// The signature of the validator at this index does not verify.
    #[error("the signature of validator {0} does not verify")]
    Signature(usize),
    /// A nullification names a block, or another certificate names none.
    #[error("the block hash does not fit the kind of certificate")]
    BlockHash,
}

impl CertificateError {
    /// A stable code for clients and metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Layout(_) => "CERTIFICATE_MALFORMED",
            _ => "CERTIFICATE_INVALID",
        }
    }
}

impl Certificate {
    /// Gathers votes for one ballot. Votes for other ballots, votes of non-validators and repeats
    /// are left out; the votes' signatures must have been checked. `None` where fewer than a quorum
    /// remain.
    pub fn from_votes<'a>(
        ballot: Ballot,
        votes: impl IntoIterator<Item = &'a Vote>,
        validators: &ValidatorSet,
    ) -> Option<Self> {
        let mut by_index = vec![None; validators.count()];
        for vote in votes {
            if let Some(index) = validators.index_of(&vote.validator)
                && vote.ballot == ballot
            {
                by_index[index] = Some(vote.signature);
            }
        }
        let mut bitmap = vec![0; validators.count().div_ceil(8)];
        for (index, _) in by_index.iter().enumerate().filter(|(_, s)| s.is_some()) {
            bitmap[index / 8] |= 0x80 >> (index % 8);
        }
        let signatures: Vec<_> = by_index.into_iter().flatten().collect();
        (signatures.len() >= validators.quorum()).then_some(Self { ballot, bitmap, signatures })
    }

    /// The layout.
    pub fn encode(&self) -> Vec<u8> {
        let bitmap_length = u16::try_from(self.bitmap.len()).expect("a bitmap of 256 bits at most");
        let mut writer = Writer::with_capacity(51 + self.bitmap.len() + 64 * self.signatures.len())
            .u8(self.ballot.kind as u8)
            .u64(self.ballot.height)
            .u64(self.ballot.view)
            .hash(&self.ballot.block_hash)
            .u16(bitmap_length)
            .bytes(&self.bitmap);
        for signature in &self.signatures {
            writer = writer.bytes(&signature.0);
        }
        writer.finish()
    }

    /// Reads the layout. The certificate means nothing until [`Certificate::verify`].
    ///
    /// # Errors
    /// [`CertificateError::Layout`].
    pub fn decode(bytes: &[u8]) -> Result<Self, CertificateError> {
        let mut reader = Reader::new(bytes);
        let kind = VoteKind::from_byte(reader.u8("kind")?).ok_or(LayoutError::Invalid("kind"))?;
        let ballot = Ballot {
            kind,
            height: reader.u64("height")?,
            view: reader.u64("view")?,
            block_hash: reader.hash("block_hash")?,
        };
        let bitmap_length = usize::from(reader.u16("bitmap_length")?);
        if bitmap_length > VALIDATORS_MAX.div_ceil(8) {
            return Err(LayoutError::Invalid("bitmap_length").into());
        }
        let bitmap = reader.take(bitmap_length, "bitmap")?.to_vec();
        let signers = bitmap.iter().map(|byte| byte.count_ones() as usize).sum();
        let signatures =
            (0..signers).map(|_| reader.signature("signatures")).collect::<Result<_, _>>()?;
        reader.finish()?;
        Ok(Self { ballot, bitmap, signatures })
    }

    /// Checks that a quorum of these validators signed this ballot on this chain.
    ///
    /// # Errors
    /// Everything but [`CertificateError::Layout`].
    pub fn verify(
        &self,
        chain_id: &Hash,
        validators: &ValidatorSet,
    ) -> Result<(), CertificateError> {
        if (self.ballot.kind == VoteKind::Nullify) != (self.ballot.block_hash == Hash::ZERO) {
            return Err(CertificateError::BlockHash);
        }
        if self.bitmap.len() != validators.count().div_ceil(8) {
            return Err(CertificateError::BitmapLength);
        }
        let signers: Vec<usize> = self.signers().collect();
        if signers.last().is_some_and(|&last| last >= validators.count()) {
            return Err(CertificateError::UnknownSigner);
        }
        if signers.len() != self.signatures.len() {
            return Err(CertificateError::SignatureCount {
                signers: signers.len(),
                signatures: self.signatures.len(),
            });
        }
        if signers.len() < validators.quorum() {
            let quorum = validators.quorum();
            return Err(CertificateError::NoQuorum { signers: signers.len(), quorum });
        }
        let message = self.ballot.message(chain_id);
        for (&index, signature) in signers.iter().zip(&self.signatures) {
            let validator = validators.at(index).ok_or(CertificateError::UnknownSigner)?;
            validator
                .key
                .verify(&message, signature)
                .map_err(|_| CertificateError::Signature(index))?;
        }
        Ok(())
    }

    /// Indexes of the validators that signed, ascending.
    pub fn signers(&self) -> impl Iterator<Item = usize> + '_ {
        let bit = |index: &usize| self.bitmap[index / 8] & (0x80 >> (index % 8)) != 0;
        (0..self.bitmap.len() * 8).filter(bit)
    }

    /// The votes that it was made of, cast by these validators.
    pub fn votes(&self, validators: &ValidatorSet) -> Vec<Vote> {
        let vote = |(index, signature): (usize, &Signature)| {
            let validator = validators.at(index)?.key;
            Some(Vote { ballot: self.ballot, validator, signature: *signature })
        };
        self.signers().zip(&self.signatures).filter_map(vote).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finality::validators::tests::{keys, set};

    const CHAIN: Hash = Hash([1; 32]);

    fn ballot() -> Ballot {
        Ballot { kind: VoteKind::Finalize, height: 3, view: 1, block_hash: Hash([9; 32]) }
    }

    fn certificate(signers: &[usize]) -> Option<Certificate> {
        let keys = keys(4);
        let votes: Vec<_> =
            signers.iter().map(|&i| Vote::sign(ballot(), &CHAIN, &keys[i])).collect();
        Certificate::from_votes(ballot(), &votes, &set(4))
    }

    #[test]
    fn a_quorum_of_votes_makes_a_certificate() {
        assert_eq!(certificate(&[0, 1]), None);
        assert_eq!(certificate(&[0, 1, 1, 1]), None, "one vote counts once");
        for signers in [&[0, 1, 2][..], &[3, 1, 0], &[0, 1, 2, 3]] {
            let certificate = certificate(signers).expect("a quorum");
            assert_eq!(certificate.verify(&CHAIN, &set(4)), Ok(()));
            assert_eq!(Certificate::decode(&certificate.encode()), Ok(certificate));
        }
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        let bytes = certificate(&[0, 2, 3]).expect("a quorum").encode();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let outcome = Certificate::decode(&flipped)
                .and_then(|certificate| certificate.verify(&CHAIN, &set(4)));
            assert!(outcome.is_err(), "bit {bit}");
        }
    }

    #[test]
    fn every_other_length_is_refused() {
        let bytes = certificate(&[0, 2, 3]).expect("a quorum").encode();
        for length in 0..bytes.len() {
            assert!(Certificate::decode(&bytes[..length]).is_err(), "{length} bytes");
        }
        assert!(Certificate::decode(&[&bytes[..], &[0]].concat()).is_err());
    }

    #[test]
    fn fewer_than_a_quorum_is_refused_even_where_it_is_well_formed() {
        let whole = certificate(&[0, 1, 2]).expect("a quorum");
        let short = Certificate {
            bitmap: vec![0b1100_0000],
            signatures: whole.signatures[..2].to_vec(),
            ..whole
        };
        let decoded = Certificate::decode(&short.encode()).expect("well-formed");
        let refused = Err(CertificateError::NoQuorum { signers: 2, quorum: 3 });
        assert_eq!(decoded.verify(&CHAIN, &set(4)), refused);
    }
}
