//! What can be checked by anyone who holds the genesis, trusting no node.

use std::sync::Arc;

use customhouse_proto::v1;

use crate::{
    canonical,
    finality::{
        certificate::{Certificate, CertificateError},
        header::Header,
        validators::{Validator, ValidatorSet, ValidatorSetError},
        vote::VoteKind,
    },
    hash::Hash,
    keys::PublicKey,
    layout::LayoutError,
    limits::VALIDATORS_MAX,
    registry::genesis::Genesis,
};

#[cfg(test)]
mod tests;

/// Most bytes of an encoded step: twice what 256 validators need when all have signed.
const STEP_BYTES_MAX: usize = 64 * 1024;

/// Before each step of a [`v1::ValidatorChain`]: field 1, length-delimited.
const STEP_TAG: u8 = 1 << 3 | 2;

/// What an answer rests on: the certificate with the fewest signers, of all that lead to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rests {
    /// Who signed it, in number.
    pub signers: usize,
    /// Those who could have.
    pub validators: usize,
    /// Those who had to.
    pub quorum: usize,
    /// Changes of the validators that lead to it.
    pub changes: usize,
}

/// Checks headers, receipts and history proofs against one genesis.
///
/// It begins with the validators of the genesis. Where they have changed since, it is led from set
/// to set by the [`ValidatorStep`]s ([`Verifier::follow`]): the header that announced a set, final
/// by the set before. So it rests on the genesis, and on no past set having had more than f leaked
/// keys, which is why keys that were retired are destroyed.
#[derive(Clone, Debug)]
pub struct Verifier {
    chain_id: Hash,
    genesis_header: Header,
    history_bits: u32,
    /// The sets by the first height that each decides, ascending. Never empty.
    sets: Vec<KnownSet>,
    /// The steps that led to the sets after the first.
    steps: Vec<Arc<ValidatorStep>>,
}

/// Validators that are known.
#[derive(Clone, Debug)]
struct KnownSet {
    /// The first height that they decide.
    from: u64,
    /// Hash of the block that announced them.
    announced_by: Hash,
    /// How many of those before finalized that block; 0 for the genesis.
    signers: usize,
    validators: ValidatorSet,
}

/// A change of the validators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidatorStep {
    /// The header of the block that announced it.
    pub header: Header,
    /// Its finalization, by those who decided before.
    pub certificate: Certificate,
    /// Who decides from the next height on.
    pub validators: ValidatorSet,
}

/// Why a verifier does not follow a step.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// A validator, the header or the certificate is malformed.
    #[error("validator step: {0}")]
    Malformed(String),
    /// Not after the steps before.
    #[error("validator step at height {found}: the step before announced from height {from} on")]
    Order {
        /// The step's height.
        found: u64,
        /// First height of the newest set known.
        from: u64,
    },
    /// Its header is not final by the validators before.
    #[error("validator step at height {0}: {1}")]
    Finality(u64, FinalityError),
    /// Its header announces no other validators, or others than those that came with it.
    #[error("validator step at height {0}: its header does not announce these validators")]
    Validators(u64),
    /// Final, and not what is known of its height: the validators divided the chain.
    #[error(
        "validator step at height {0}: final, and not what the known chain of changes has at that \
         height, which proves a fork; keep both chains"
    )]
    Fork(u64),
}

impl StepError {
    /// A stable code for clients and metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "STEP_MALFORMED",
            Self::Order { .. } => "STEP_ORDER",
            Self::Finality(_, error) => error.code(),
            Self::Validators(_) => "STEP_VALIDATORS",
            Self::Fork(_) => "STEP_FORK",
        }
    }
}

impl ValidatorStep {
    /// Whether the header announces others than it was decided by, and those that came along.
    fn is_announced(&self) -> bool {
        let announced = self.header.next_validators_hash;
        announced != self.header.validators_hash && announced == self.validators.hash()
    }

    /// The message.
    pub fn to_proto(&self) -> v1::ValidatorStep {
        let entry = |validator: &Validator| v1::ValidatorEntry {
            agency: validator.agency.to_string(),
            public_key: validator.key.as_bytes().to_vec(),
        };
        v1::ValidatorStep {
            header: self.header.encode(),
            certificate: self.certificate.encode(),
            validators: self.validators.as_slice().iter().map(entry).collect(),
        }
    }

    /// Reads the message.
    ///
    /// # Errors
    /// [`StepError::Malformed`].
    pub fn from_proto(proto: &v1::ValidatorStep) -> Result<Self, StepError> {
        let malformed = |error: &dyn std::fmt::Display| StepError::Malformed(error.to_string());
        if proto.validators.len() > VALIDATORS_MAX {
            return Err(malformed(&ValidatorSetError::TooMany));
        }
        let read = |entry: &v1::ValidatorEntry| {
            let agency = entry.agency.parse().map_err(|error| malformed(&error))?;
            let key =
                PublicKey::from_slice(&entry.public_key).map_err(|error| malformed(&error))?;
            Ok(Validator { agency, key })
        };
        let validators = proto.validators.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        if !validators.is_sorted() {
            return Err(StepError::Malformed("validators: not ascending".to_owned()));
        }
        let header = Header::decode(&proto.header).map_err(|error| malformed(&error))?;
        let from = header.height.saturating_add(1);
        Ok(Self {
            header,
            certificate: Certificate::decode(&proto.certificate)
                .map_err(|error| malformed(&error))?,
            validators: ValidatorSet::new(validators)
                .map_err(|error| malformed(&error))?
                .deciding_from(from),
        })
    }
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
    /// Decided by other validators than those of its height.
    #[error("header: decided by other validators than those of height {0}")]
    Validators(u64),
    /// Decided by other validators than the newest known: a step to them is missing.
    #[error(
        "header: height {height} was decided by validators that announce themselves between heights \
         {known_from} and {height}, and that step is missing: get the validator chain from a node \
         (`customhouse audit validator-chain`, `Audit.GetValidatorChain`) and give it along"
    )]
    StepMissing {
        /// The header's height.
        height: u64,
        /// First height of the newest set known.
        known_from: u64,
    },
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
            Self::Validators(_) => "HEADER_VALIDATORS",
            Self::StepMissing { .. } => "VALIDATOR_STEP_MISSING",
            Self::Certificate(error) => error.code(),
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
            sets: vec![KnownSet {
                from: 1,
                announced_by: genesis.header().hash(),
                signers: 0,
                validators: genesis.validators(),
            }],
            steps: Vec::new(),
        }
    }

    /// Takes the next change of the validators. One that it took before is taken again, if it is
    /// certified.
    ///
    /// # Errors
    /// [`StepError`]; nothing is changed then.
    pub fn follow(&mut self, step: &ValidatorStep) -> Result<(), StepError> {
        let (height, from) = (step.header.height, self.known_from());
        if height < from {
            return self.compare(step);
        }
        if height == u64::MAX {
            return Err(StepError::Order { found: height, from });
        }
        verify_finalization(&step.header, &step.certificate, &self.chain_id, self.validators())
            .map_err(|error| StepError::Finality(height, self.name_missing_step(error)))?;
        if !step.is_announced() {
            return Err(StepError::Validators(height));
        }
        self.sets.push(KnownSet {
            from: height + 1,
            announced_by: step.header.hash(),
            signers: step.certificate.signers().count(),
            validators: step.validators.clone(),
        });
        self.steps.push(Arc::new(step.clone()));
        Ok(())
    }

    /// Compares a step with what is known of its height. Two that are certified and do not agree are a
    /// fork; one that is not certified says nothing.
    fn compare(&self, step: &ValidatorStep) -> Result<(), StepError> {
        let (found, from) = (step.header.height, self.known_from());
        let validators = self.validators_at(found);
        let certified =
            verify_finalization(&step.header, &step.certificate, &self.chain_id, validators);
        // Nobody decided the height of the genesis, and no step announced its validators.
        if found == 0 || certified.is_err() || !step.is_announced() {
            return Err(StepError::Order { found, from });
        }
        match self.sets[1..].iter().find(|set| set.from == found + 1) {
            Some(known) if known.announced_by == step.header.hash() => Ok(()),
            // Another block of its height announced others, or none there did: the same validators decided on
            // without a change, as the next step that is known says.
            _ => Err(StepError::Fork(found)),
        }
    }

    /// Takes the changes of a chain of them, strictly ascending.
    ///
    /// # Errors
    /// [`StepError`]: of the first that cannot be followed; those before it were taken.
    pub fn follow_chain(&mut self, chain: &v1::ValidatorChain) -> Result<(), StepError> {
        let mut from = 0;
        for step in &chain.steps {
            from = self.follow_from(from, &ValidatorStep::from_proto(step)?)?;
        }
        Ok(())
    }

    /// Takes a change that must not be below a height. Gives the least height of the next.
    fn follow_from(&mut self, from: u64, step: &ValidatorStep) -> Result<u64, StepError> {
        let found = step.header.height;
        if found < from {
            return Err(StepError::Order { found, from });
        }
        self.follow(step)?;
        // Nothing follows at the largest height.
        Ok(found + 1)
    }

    /// Takes the changes of an encoded [`v1::ValidatorChain`], one after the other, so that a file
    /// needs no more memory than its bytes: what is not a chain would decode to many times as much.
    ///
    /// # Errors
    /// As [`Verifier::follow_chain`]; [`StepError::Malformed`] for another encoding than the one;
    /// [`StepError::Order`] for a step that repeats one of the file.
    pub fn follow_encoded(&mut self, mut chain: &[u8]) -> Result<(), StepError> {
        let malformed = |what: &str| StepError::Malformed(what.to_owned());
        let mut from = 0;
        while let Some((tag, mut rest)) = chain.split_first() {
            let before = rest.len();
            let length = prost::decode_length_delimiter(&mut rest);
            let length = length.map_err(|error| malformed(&error.to_string()))?;
            let minimal = before - rest.len() == prost::length_delimiter_len(length);
            if *tag != STEP_TAG || !minimal || length > rest.len().min(STEP_BYTES_MAX) {
                return Err(malformed("not a chain of steps in its one encoding"));
            }
            let (step, after) = rest.split_at(length);
            let step = canonical::decode(step).map_err(|error| malformed(&error.to_string()))?;
            from = self.follow_from(from, &ValidatorStep::from_proto(&step)?)?;
            chain = after;
        }
        Ok(())
    }

    /// The changes that were taken, ascending: anyone who verifies from the genesis on needs them too.
    pub fn steps(&self) -> impl ExactSizeIterator<Item = &ValidatorStep> {
        self.steps.iter().map(AsRef::as_ref)
    }

    /// First height of the newest set known.
    pub fn known_from(&self) -> u64 {
        self.newest().from
    }

    fn newest(&self) -> &KnownSet {
        self.sets.last().expect("begins with the genesis's")
    }

    /// If the newest set known did not decide a header, a later one did.
    fn name_missing_step(&self, error: FinalityError) -> FinalityError {
        match error {
            FinalityError::Validators(height) if height >= self.known_from() => {
                FinalityError::StepMissing { height, known_from: self.known_from() }
            }
            other => other,
        }
    }

    /// The chain that the genesis begins.
    pub fn chain_id(&self) -> Hash {
        self.chain_id
    }

    /// The changes of the validators that were followed: the first height of the new set, and how many
    /// of the set before finalized it.
    pub fn changes(&self) -> impl Iterator<Item = (u64, usize)> {
        self.sets[1..].iter().map(|set| (set.from, set.signers))
    }

    /// What a header of a height rests on that so many have finalized: the certificate with the fewest signers,
    /// of its own and of the changes that lead to its validators.
    pub fn rests(&self, signers: usize, height: u64) -> Rests {
        let mut rests = self.rests_of(signers, height);
        for (from, signers) in self.changes().take_while(|(from, _)| *from <= height) {
            rests.changes += 1;
            let change = self.rests_of(signers, from.saturating_sub(1));
            if change.signers <= rests.signers {
                rests = Rests { changes: rests.changes, ..change };
            }
        }
        rests
    }

    fn rests_of(&self, signers: usize, height: u64) -> Rests {
        let validators = self.validators_at(height);
        Rests { signers, validators: validators.count(), quorum: validators.quorum(), changes: 0 }
    }

    /// The newest validators known.
    pub fn validators(&self) -> &ValidatorSet {
        &self.newest().validators
    }

    /// The validators that decide a height, as far as the steps tell.
    pub fn validators_at(&self, height: u64) -> &ValidatorSet {
        let after = self.sets.partition_point(|set| set.from <= height);
        &self.sets[after.saturating_sub(1)].validators
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
        let validators = self.validators_at(header.height);
        verify_finalization(&header, &certificate, &self.chain_id, validators)
            .map_err(|error| self.name_missing_step(error))?;
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
    // Last, so that a damaged header is told from one that others decided.
    if header.validators_hash != validators.hash() {
        return Err(FinalityError::Validators(header.height));
    }
    Ok(certificate.verify(chain_id, validators)?)
}
