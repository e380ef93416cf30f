//! How a sealed record stands at this node, and what was told of its delivery.

use customhouse_ledger::{
    keys::{PublicKey, Signature},
    layout::{Reader, Writer},
};

/// Whether a record's slot is on the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Not yet, as far as this node knows.
    Pending {
        /// Until when it may be committed, Unix milliseconds.
        not_after_ms: u64,
    },
    /// It is.
    Committed,
}

/// What was found when a record's bytes were held against its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Nothing yet: its slot has not come, or the epoch's secret is not here.
    NotYet,
    /// They are what the slot says.
    Right,
    /// The slot has other subject keys: whoever looks for a subject does not find it.
    SubjectKeys,
    /// It is of a kind that the agreement does not cover.
    Kind,
}

/// A sealed record of which this node has the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Whether its slot is on the chain.
    pub standing: Standing,
    /// What was found.
    pub check: Check,
}

impl Check {
    const ALL: [Self; 4] = [Self::NotYet, Self::Right, Self::SubjectKeys, Self::Kind];

    fn number(self) -> u8 {
        match self {
            Self::NotYet => 0,
            Self::Right => 1,
            Self::SubjectKeys => 2,
            Self::Kind => 3,
        }
    }

    fn numbered(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|check| check.number() == number)
    }

    /// A stable code, where something is wrong.
    pub fn code(self) -> Option<&'static str> {
        match self {
            Self::NotYet | Self::Right => None,
            Self::SubjectKeys => Some("SEALED_SUBJECT_KEYS"),
            Self::Kind => Some("SEALED_KIND"),
        }
    }
}

impl Row {
    /// Standing (1: 0 pending, 1 committed), check (1), `not_after_ms` (8; 0 where it is committed).
    pub(super) fn encode(&self) -> Vec<u8> {
        let (standing, not_after_ms) = match self.standing {
            Standing::Pending { not_after_ms } => (0, not_after_ms),
            Standing::Committed => (1, 0),
        };
        let out = Writer::with_capacity(10).u8(standing).u8(self.check.number());
        out.u64(not_after_ms).finish()
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let (standing, check) = (reader.u8("standing").ok()?, reader.u8("check").ok()?);
        let not_after_ms = reader.u64("not after").ok()?;
        let standing = match (standing, not_after_ms) {
            (0, not_after_ms) => Standing::Pending { not_after_ms },
            (1, 0) => Standing::Committed,
            _ => return None,
        };
        reader.rest().is_empty().then_some(Self { standing, check: Check::numbered(check)? })
    }
}

/// An agency's word that it holds a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// When the word came, Unix milliseconds.
    pub at_ms: u64,
    /// The key that signed it.
    pub signer: PublicKey,
    /// Its signature.
    pub signature: Signature,
}

impl Delivery {
    /// Time (8), key (32), signature (64).
    pub(super) fn encode(&self) -> Vec<u8> {
        let out = Writer::with_capacity(104).u64(self.at_ms).bytes(self.signer.as_bytes());
        out.bytes(&self.signature.0).finish()
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (at_ms, rest) = bytes.split_first_chunk::<8>()?;
        let (signer, signature) = rest.split_at_checked(32)?;
        Some(Self {
            at_ms: u64::from_be_bytes(*at_ms),
            signer: PublicKey::from_slice(signer).ok()?,
            signature: Signature::from_slice(signature).ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use customhouse_ledger::keys::SigningKey;

    use super::*;

    #[test]
    fn each_row_is_read_as_it_was_written_and_no_other_bytes_are() {
        for check in Check::ALL {
            for standing in [Standing::Committed, Standing::Pending { not_after_ms: 7 }] {
                let row = Row { standing, check };
                assert_eq!(Row::decode(&row.encode()), Some(row));
            }
        }
        let row = Row { standing: Standing::Committed, check: Check::Right }.encode();
        for wrong in
            [&row[..9], &[&row[..], &[0]].concat(), &[2, 0, 0], &[1, 9, 0, 0, 0, 0, 0, 0, 0, 0]]
        {
            assert_eq!(Row::decode(wrong), None);
        }
    }

    #[test]
    fn a_delivery_is_read_as_it_was_written() {
        let key = SigningKey::from_seed(&[3; 32]);
        let delivery = Delivery { at_ms: 9, signer: key.public(), signature: key.sign(b"held") };
        assert_eq!(Delivery::decode(&delivery.encode()), Some(delivery));
        assert_eq!(Delivery::decode(&delivery.encode()[1..]), None);
    }
}
