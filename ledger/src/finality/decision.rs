//! How a height was decided: what a node held about it, kept for a while, and handed to whoever has
//! to find out who divided a chain ([`crate::proofs::fork`]).
//!
//! Nothing in a [`Decision`] is trusted. Reading one checks its form and its limits; the signatures
//! are checked where they are used.

use customhouse_proto::v1;
use prost::{
    Message as _,
    encoding::{self, DecodeContext},
};

use crate::{
    finality::{
        certificate::{Certificate, CertificateError},
        evidence::Claim,
        header::Header,
        vote::VoteKind,
    },
    layout::LayoutError,
    limits::{
        CERTIFICATE_BYTES_MAX, DECISIONS_BYTES_MAX, DECISIONS_MAX, GROUNDS_BYTES_MAX,
        STATEMENTS_MAX,
    },
};

/// What a node held about a height beside what decided it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grounds {
    /// Notarizations and nullifications of its views; of a node that halted also those that
    /// contradicted each other.
    pub certificates: Vec<Certificate>,
    /// What the leaders of its last views proposed.
    pub claims: Vec<Claim>,
}

/// How a height was decided, as one node tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The height.
    pub height: u64,
    /// The block and its finalization; `None` where the node halted before it committed the height.
    pub decided: Option<(Header, Certificate)>,
    /// What else it held.
    pub grounds: Grounds,
}

/// Why bytes are not decisions.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecisionError {
    /// Not protobuf of this message.
    #[error("not a file of decisions: {0}")]
    Decode(#[from] prost::DecodeError),
    /// More of something than there may be.
    #[error("{found} {what}, at most {max} are allowed")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// The most there may be.
        max: usize,
    },
    /// A header or proposal is not its layout.
    #[error("height {height}: {source}")]
    Layout {
        /// Height of the decision.
        height: u64,
        /// What is wrong.
        source: LayoutError,
    },
    /// A certificate is not its layout.
    #[error("height {height}: {source}")]
    Certificate {
        /// Height of the decision.
        height: u64,
        /// What is wrong.
        source: CertificateError,
    },
    /// A part speaks of another height than the decision.
    #[error("height {height}: {what} of height {found}")]
    Height {
        /// Height of the decision.
        height: u64,
        /// The part.
        what: &'static str,
        /// What it speaks of.
        found: u64,
    },
    /// A header without a finalization, or the other way round.
    #[error("height {0}: a header without a finalization, or a finalization without a header")]
    Half(u64),
    /// Decisions are not strictly ascending by height, or one is of height 0, which nobody decided.
    #[error("height {0}: not above the one before it")]
    Order(u64),
}

impl DecisionError {
    /// A stable code for clients and scripts.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Decode(_) => "DECISIONS_MALFORMED",
            Self::TooMany { .. } => "DECISIONS_TOO_MANY",
            Self::Layout { .. } => "DECISION_LAYOUT",
            Self::Certificate { .. } => "DECISION_CERTIFICATE",
            Self::Height { .. } => "DECISION_HEIGHT",
            Self::Half(_) => "DECISION_HALF",
            Self::Order(_) => "DECISIONS_ORDER",
        }
    }
}

impl Grounds {
    /// Whether there is nothing in them.
    pub fn is_empty(&self) -> bool {
        self.certificates.is_empty() && self.claims.is_empty()
    }

    /// Adds what is not there yet.
    pub fn join(&mut self, other: Self) {
        for certificate in other.certificates {
            if !self.certificates.contains(&certificate) {
                self.certificates.push(certificate);
            }
        }
        for claim in other.claims {
            if !self.claims.contains(&claim) {
                self.claims.push(claim);
            }
        }
    }

    /// The same, cut to the limits. Finalizations are kept before notarizations, these before
    /// nullifications, and later views before earlier ones: a fork that is noticed is usually a
    /// recent one.
    pub fn limited(mut self) -> Self {
        let rank = |certificate: &Certificate| match certificate.ballot.kind {
            VoteKind::Finalize => 0,
            VoteKind::Notarize => 1,
            VoteKind::Nullify => 2,
        };
        self.certificates.sort_by_key(|c| (rank(c), std::cmp::Reverse(c.ballot.view)));
        self.claims.sort_by_key(|claim| std::cmp::Reverse(claim.proposed.view));
        self.claims.truncate(STATEMENTS_MAX / 8);
        let mut bytes = self.claims.len() * ROW_BYTES_OF_CLAIM;
        let mut fits = |certificate: &Certificate| {
            bytes += certificate.encode().len() + ROW_OVERHEAD_BYTES;
            bytes <= GROUNDS_BYTES_MAX
        };
        let count = self.certificates.iter().take(STATEMENTS_MAX).take_while(|c| fits(c)).count();
        self.certificates.truncate(count);
        self
    }
}

/// The most that an element of a list costs beside its bytes.
const ROW_OVERHEAD_BYTES: usize = 8;
const ROW_BYTES_OF_CLAIM: usize = crate::finality::evidence::STATEMENT_BYTES + ROW_OVERHEAD_BYTES;

impl Decision {
    /// The protobuf message.
    pub fn to_proto(&self) -> v1::Decision {
        let (header, certificate) = match &self.decided {
            Some((header, certificate)) => (header.encode(), certificate.encode()),
            None => Default::default(),
        };
        v1::Decision {
            height: self.height,
            header,
            certificate,
            certificates: self.grounds.certificates.iter().map(Certificate::encode).collect(),
            proposals: self.grounds.claims.iter().map(Claim::encode).collect(),
        }
    }

    /// Checks the form of a protobuf message; no signature.
    ///
    /// # Errors
    /// [`DecisionError`].
    pub fn from_proto(decision: &v1::Decision) -> Result<Self, DecisionError> {
        let height = decision.height;
        at_most("certificates", decision.certificates.len(), STATEMENTS_MAX)?;
        at_most("proposals", decision.proposals.len(), STATEMENTS_MAX)?;
        let of_height = |what, found| match found == height {
            true => Ok(()),
            false => Err(DecisionError::Height { height, what, found }),
        };
        let certificate = |bytes: &Vec<u8>| -> Result<Certificate, DecisionError> {
            at_most("bytes of a certificate", bytes.len(), CERTIFICATE_BYTES_MAX)?;
            let read = Certificate::decode(bytes)
                .map_err(|source| DecisionError::Certificate { height, source })?;
            of_height("a certificate", read.ballot.height)?;
            Ok(read)
        };
        let decided = match (decision.header.is_empty(), decision.certificate.is_empty()) {
            (true, true) => None,
            (false, false) => {
                let header = Header::decode(&decision.header)
                    .map_err(|source| DecisionError::Layout { height, source })?;
                of_height("a header", header.height)?;
                Some((header, certificate(&decision.certificate)?))
            }
            _ => return Err(DecisionError::Half(height)),
        };
        let claim = |bytes: &Vec<u8>| -> Result<Claim, DecisionError> {
            let read =
                Claim::decode(bytes).map_err(|source| DecisionError::Layout { height, source })?;
            of_height("a proposal", read.proposed.height)?;
            Ok(read)
        };
        let grounds = Grounds {
            certificates: decision
                .certificates
                .iter()
                .map(certificate)
                .collect::<Result<_, _>>()?,
            claims: decision.proposals.iter().map(claim).collect::<Result<_, _>>()?,
        };
        Ok(Self { height, decided, grounds })
    }
}

/// A file of decisions.
pub fn encode(decisions: &[Decision]) -> Vec<u8> {
    let decisions = decisions.iter().map(Decision::to_proto).collect();
    v1::Decisions { decisions }.encode_to_vec()
}

/// Reads a file of decisions; no signature is checked.
///
/// # Errors
/// [`DecisionError`]: among others heights that are not strictly ascending, or limits exceeded;
/// [`DECISIONS_BYTES_MAX`] is looked at before anything is decoded.
pub fn decode(bytes: &[u8]) -> Result<Vec<Decision>, DecisionError> {
    at_most("bytes", bytes.len(), DECISIONS_BYTES_MAX)?;
    // Before they are decoded: empty ones would take fifty times the memory of their bytes.
    at_most("decisions", fields(bytes)?, DECISIONS_MAX)?;
    let file = v1::Decisions::decode(bytes)?;
    let mut before = 0;
    let mut decisions = Vec::with_capacity(file.decisions.len());
    for decision in &file.decisions {
        if decision.height <= before {
            return Err(DecisionError::Order(decision.height));
        }
        before = decision.height;
        decisions.push(Decision::from_proto(decision)?);
    }
    Ok(decisions)
}

/// How many fields a message has, without decoding any.
fn fields(mut bytes: &[u8]) -> Result<usize, prost::DecodeError> {
    let mut count = 0;
    while !bytes.is_empty() {
        let (tag, wire_type) = encoding::decode_key(&mut bytes)?;
        encoding::skip_field(wire_type, tag, &mut bytes, DecodeContext::default())?;
        count += 1;
    }
    Ok(count)
}

fn at_most(what: &'static str, found: usize, max: usize) -> Result<(), DecisionError> {
    if found <= max { Ok(()) } else { Err(DecisionError::TooMany { what, found, max }) }
}
