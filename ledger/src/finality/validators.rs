//! The set of validators that decides a height.

use crate::{
    agency::AgencyCode,
    hash::{Hash, Tag},
    keys::PublicKey,
    limits::VALIDATORS_MAX,
};

/// A validator: an agency and the key that votes for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Validator {
    /// The agency. One vote each.
    pub agency: AgencyCode,
    /// Its voting key.
    pub key: PublicKey,
}

/// Validators in the order of their agency codes; the position is the validator's index.
///
/// With n validators, f = ⌊(n−1)/3⌋ may be faulty and a quorum is n − f.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidatorSet {
    /// The first height that they decide. A set that comes back is another one.
    from: u64,
    validators: Vec<Validator>,
}

/// The list is not a validator set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValidatorSetError {
    /// No validator.
    #[error("a validator set needs at least one validator")]
    Empty,
    /// More than [`VALIDATORS_MAX`].
    #[error("more than {} validators", VALIDATORS_MAX)]
    TooMany,
    /// Two validators of one agency.
    #[error("agency {0} has two validators")]
    DuplicateAgency(AgencyCode),
    /// One key for two agencies.
    #[error("key {0} votes for two agencies")]
    DuplicateKey(PublicKey),
}

impl ValidatorSet {
    /// Makes a set from validators in any order, which decides from height 1 on: that of a genesis.
    ///
    /// # Errors
    /// An empty or too long list, an agency or a key that occurs twice.
    pub fn new(mut validators: Vec<Validator>) -> Result<Self, ValidatorSetError> {
        validators.sort_unstable();
        if validators.is_empty() {
            return Err(ValidatorSetError::Empty);
        }
        if validators.len() > VALIDATORS_MAX {
            return Err(ValidatorSetError::TooMany);
        }
        for pair in validators.windows(2) {
            if pair[0].agency == pair[1].agency {
                return Err(ValidatorSetError::DuplicateAgency(pair[0].agency));
            }
        }
        let mut keys: Vec<_> = validators.iter().map(|v| v.key).collect();
        keys.sort_unstable();
        if let Some(pair) = keys.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(ValidatorSetError::DuplicateKey(pair[0]));
        }
        Ok(Self { from: 1, validators })
    }

    /// The same validators, deciding from another height on.
    pub fn deciding_from(self, from: u64) -> Self {
        Self { from, ..self }
    }

    /// The first height that they decide.
    pub fn from(&self) -> u64 {
        self.from
    }

    /// The validators, by index.
    pub fn as_slice(&self) -> &[Validator] {
        &self.validators
    }

    /// n.
    pub fn count(&self) -> usize {
        self.validators.len()
    }

    /// f: how many may be faulty.
    pub fn faulty_max(&self) -> usize {
        (self.count() - 1) / 3
    }

    /// q = n − f.
    pub fn quorum(&self) -> usize {
        self.count() - self.faulty_max()
    }

    /// The index of a voting key.
    pub fn index_of(&self, key: &PublicKey) -> Option<usize> {
        self.validators.iter().position(|v| v.key == *key)
    }

    /// The validator at an index.
    pub fn at(&self, index: usize) -> Option<&Validator> {
        self.validators.get(index)
    }

    /// Tagged hash of the first height that they decide (u64), the count (u32) and each validator's agency
    /// (16 bytes) and key (32). The height tells a set that comes back from itself: a chain of changes that
    /// lacks some of them never leads to it.
    pub fn hash(&self) -> Hash {
        let mut bytes = Vec::with_capacity(12 + self.count() * 48);
        bytes.extend_from_slice(&self.from.to_be_bytes());
        let count = u32::try_from(self.count()).expect("at most COUNT_MAX");
        bytes.extend_from_slice(&count.to_be_bytes());
        for validator in &self.validators {
            bytes.extend_from_slice(validator.agency.as_bytes());
            bytes.extend_from_slice(validator.key.as_bytes());
        }
        Tag::VALIDATORS.hash(&[&bytes])
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::keys::SigningKey;

    pub(crate) fn keys(n: u8) -> Vec<SigningKey> {
        (1..=n).map(|i| SigningKey::from_seed(&[i; 32])).collect()
    }

    pub(crate) fn set(n: u8) -> ValidatorSet {
        let validator = |(i, key): (usize, &SigningKey)| Validator {
            agency: format!("A{i:03}").parse().expect("a code"),
            key: key.public(),
        };
        ValidatorSet::new(keys(n).iter().enumerate().map(validator).collect()).expect("a set")
    }

    #[test]
    fn quorums_leave_room_for_a_third_of_faulty_validators() {
        for (n, f, q) in [
            (1, 0, 1),
            (2, 0, 2),
            (3, 0, 3),
            (4, 1, 3),
            (5, 1, 4),
            (6, 1, 5),
            (7, 2, 5),
            (10, 3, 7),
        ] {
            let set = set(n);
            assert_eq!((set.faulty_max(), set.quorum()), (f, q), "n = {n}");
        }
    }

    #[test]
    fn one_agency_has_one_vote() {
        let mut list = set(4).as_slice().to_vec();
        list[1].agency = list[0].agency;
        assert!(matches!(
            ValidatorSet::new(list.clone()),
            Err(ValidatorSetError::DuplicateAgency(_))
        ));
        let mut list = set(4).as_slice().to_vec();
        list[1].key = list[0].key;
        assert!(matches!(ValidatorSet::new(list), Err(ValidatorSetError::DuplicateKey(_))));
        assert_eq!(ValidatorSet::new(vec![]), Err(ValidatorSetError::Empty));
    }
}
