//! Of which breaches the driver tells the reporter.
//!
//! A report is a transaction, for which a block is made, at whose height the culprit can break a rule again:
//! so no more than one breach of a validator is told in a while, or it could fill the chain and the log with
//! nothing else.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use customhouse_ledger::keys::PublicKey;

/// Breaches that may wait to be reported. More are reported by others, or when they are seen again.
pub(crate) const EVIDENCE_MAX: usize = 256;
/// Of one validator, how long after a breach the next is told.
const TOLD_AGAIN: Duration = Duration::from_secs(600);
/// Culprits that are remembered: more than can be validators at a time.
const CULPRITS_MAX: usize = 512;

/// Which validators were told of lately.
#[derive(Debug, Default)]
pub(crate) struct Breaches {
    told: BTreeMap<PublicKey, Instant>,
}

impl Breaches {
    /// Whether a validator's breach is to be told now, in the log and on the chain. It is remembered as told
    /// then.
    pub(crate) fn is_news(&mut self, culprit: PublicKey, now: Instant) -> bool {
        let is_recent = |told: &Instant| now.saturating_duration_since(*told) < TOLD_AGAIN;
        if self.told.get(&culprit).is_some_and(is_recent) {
            return false;
        }
        if self.told.len() >= CULPRITS_MAX {
            self.told.retain(|_, told| is_recent(told));
        }
        self.told.insert(culprit, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use customhouse_ledger::keys::SigningKey;

    use super::*;

    #[test]
    fn a_validator_that_breaks_a_rule_again_and_again_is_told_of_once_in_a_while() {
        let key = |seed| SigningKey::from_seed(&[seed; 32]).public();
        let (mut breaches, start) = (Breaches::default(), Instant::now());
        assert!(breaches.is_news(key(1), start) && breaches.is_news(key(2), start));
        let mut told = 0;
        for seconds in 1..3600 {
            let now = start + Duration::from_secs(seconds);
            told += u32::from(breaches.is_news(key(1), now));
        }
        assert_eq!(told, 5, "every ten minutes of an hour");
        assert!(breaches.is_news(key(2), start + TOLD_AGAIN));
    }
}
