//! Whether enough validators have told what they hold of this node's key for it to sign. A journal that was
//! rolled back with its store does not know what the key has signed; a peer may.
//!
//! What a validator holds of a height is what came to it while it was at that height or at the one before
//! (`receive`): one that has committed the height has dropped it, and does not count. One that was further
//! behind when the key spoke has heard nothing, and counts all the same, for nobody can tell. So this keeps a
//! key from contradicting itself before those who listened; it does not keep a chain whole where such a
//! loss and liars together are more than f.

use std::collections::BTreeMap;

use customhouse_ledger::{
    agency::AgencyCode, finality::validators::ValidatorSet, keys::PublicKey, limits::VALIDATORS_MAX,
};

use crate::{core::Core, input::PeerTag};

/// A peer of an agency.
pub(crate) type Teller = (AgencyCode, PeerTag);

/// Most peers that are remembered to have told. Where there are more, those of the agencies that decide the
/// height have the room.
const PEERS_MAX: usize = 4 * VALIDATORS_MAX;
/// Most peers of one agency that are remembered. Where there are more, those that told before are forgotten.
const PEERS_OF_ONE_MAX: usize = 4;

/// Who has told what it holds of this node's key, and whether the key waits for that.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    /// Whether the key waits for it at all: then also wherever the validators change.
    asks: bool,
    /// Whether it waits now.
    waits: bool,
    /// The height that each peer had committed when it told last. A store that was put back may be lower than
    /// before: its node remembers in its journal what it has signed itself, and must be heard again.
    tips: BTreeMap<(AgencyCode, PeerTag), u64>,
}

impl Told {
    /// Nobody has told yet, and the key waits.
    pub(crate) fn nothing() -> Self {
        Self { asks: true, waits: true, tips: BTreeMap::new() }
    }

    /// The same of another key, about which nobody has told.
    pub(crate) fn of_another_key(&self) -> Self {
        if self.asks { Self::nothing() } else { Self::default() }
    }

    /// Other validators decide from here on: those that told may not be enough of these.
    pub(crate) fn weigh_again(&mut self) {
        self.waits = self.asks;
    }

    fn note(&mut self, (agency, peer): Teller, tip_height: u64, validators: &ValidatorSet) {
        let decides = |agency: &AgencyCode| {
            validators.as_slice().iter().any(|validator| validator.agency == *agency)
        };
        if !self.tips.contains_key(&(agency, peer)) {
            if self.of_agency(agency).count() >= PEERS_OF_ONE_MAX {
                self.tips.retain(|(of, _), _| *of != agency);
            }
            if self.tips.len() >= PEERS_MAX {
                if !decides(&agency) {
                    return;
                }
                self.tips.retain(|(agency, _), _| decides(agency));
            }
        }
        self.tips.insert((agency, peer), tip_height);
    }

    /// What an agency's peers told: each how far it was.
    fn of_agency(&self, agency: AgencyCode) -> impl Iterator<Item = u64> {
        let all = (agency, PeerTag(0))..=(agency, PeerTag(u64::MAX));
        self.tips.range(all).map(|(_, tip)| *tip)
    }

    /// Whether a key may sign at a height that these validators decide: a quorum of them has told, the key
    /// itself counted. One that had committed the height holds nothing of it any more, so it has told of
    /// later heights only.
    pub(crate) fn is_enough(
        &self,
        key: &PublicKey,
        validators: &ValidatorSet,
        height: u64,
    ) -> bool {
        self.count(key, validators, |tip| tip < height) + 1 >= validators.quorum()
    }

    /// How many validators beside a key's own have told, being as far as that.
    pub(crate) fn count(
        &self,
        key: &PublicKey,
        validators: &ValidatorSet,
        is_as_far: impl Fn(u64) -> bool,
    ) -> usize {
        let others = validators.as_slice().iter().filter(|validator| validator.key != *key);
        // Which of an agency's peers is the validator's node cannot be seen: the one that is furthest counts.
        let tips = others.filter_map(|validator| self.of_agency(validator.agency).max());
        tips.filter(|tip| is_as_far(*tip)).count()
    }
}

impl Core {
    /// A peer of this agency has told what it holds of this node's key, and how far it is. That counts
    /// whatever it told: a liar can as well tell nothing.
    pub(crate) fn take_teller(&mut self, teller: Teller, tip_height: u64) {
        if self.told.asks {
            self.told.note(teller, tip_height, &self.height.validators);
            self.weigh_told();
        }
    }

    /// Lets the key sign where it waited and enough have told.
    pub(crate) fn weigh_told(&mut self) {
        let Some(key) = self.signer else { return };
        if self.have_told_enough(&key) {
            self.told.waits = false;
        }
    }

    /// Whether the key waits for more validators to tell what they hold of it ([`Core::unasked`]).
    pub fn is_unasked(&self) -> bool {
        self.told.waits
    }
}

#[cfg(test)]
mod tests {
    use customhouse_ledger::{
        finality::validators::{Validator, ValidatorSet},
        keys::SigningKey,
    };

    use super::*;

    fn code(number: usize) -> AgencyCode {
        format!("A{number:03}").parse().expect("a code")
    }

    #[test]
    fn agencies_without_end_leave_room_for_those_that_decide() {
        let key = |number: usize| SigningKey::from_seed(&[number as u8; 32]).public();
        let validator = |number| Validator { agency: code(number), key: key(number) };
        let validators = ValidatorSet::new((0..4).map(validator).collect()).expect("a set");
        let mut told = Told::nothing();
        let of = |number: usize| (code(number), PeerTag(number as u64));
        told.note(of(1), 6, &validators);
        for peer in 0..100 {
            told.note((code(4), PeerTag(peer)), 0, &validators);
            assert!(told.tips.len() <= 1 + PEERS_OF_ONE_MAX);
        }
        for stranger in 4..4 + 2 * PEERS_MAX {
            told.note(of(stranger), 0, &validators);
            assert!(told.tips.len() <= PEERS_MAX);
        }
        assert!(!told.is_enough(&key(0), &validators, 7));
        told.note(of(2), 6, &validators);
        assert!(told.tips.len() <= PEERS_MAX);
        assert_eq!(told.tips.get(&of(1)), Some(&6), "it keeps its place");
        assert!(told.is_enough(&key(0), &validators, 7));
    }
}
