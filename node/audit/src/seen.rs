//! The certified headers of an audit: what its answer rests on, and whether two of them divide the chain.

use std::{collections::BTreeMap, fmt, ops::Bound};

use customhouse_ledger::{
    finality::header::Header,
    hash::Hash,
    proofs::{
        receipt::VerifiedReceipt,
        verifier::{Rests, Verifier},
    },
};
use serde::Serialize;

use crate::time;

/// What an answer rests on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Basis {
    chain_id: Hash,
    validators: usize,
    quorum: usize,
    /// Changes of the validators that were followed, each certified by those before.
    validator_changes: usize,
    /// The smallest number of signers of all certificates looked at, those of the changes included.
    finalized_by_least: Option<usize>,
    /// Newest header seen.
    head_height: Option<u64>,
    head_time_ms: Option<u64>,
}

impl fmt::Display for Basis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let genesis = self.chain_id.short();
        match (self.finalized_by_least, self.head_height.zip(self.head_time_ms)) {
            (Some(least), Some((height, time_ms))) => write!(
                f,
                "{least} of {} validators, genesis {genesis}…, head height {height}, {}; \
                 assumes that fewer than {} of their keys are in wrong hands{}",
                self.validators,
                time::age(time_ms),
                2 * self.quorum - self.validators,
                match self.validator_changes {
                    0 => String::new(),
                    changes => format!(
                        ", and as few of those of each other set of validators (changes: {changes})"
                    ),
                }
            ),
            _ => write!(f, "nothing: no certified header, genesis {genesis}…"),
        }
    }
}

/// Headers that a quorum finalized, by height: two of one height are a fork.
pub struct Seen {
    /// Follows the changes of the validators.
    pub verifier: Verifier,
    headers: BTreeMap<u64, Header>,
    /// What the header rests on whose certificate, or a change that leads to it, has the fewest signers.
    least: Option<Rests>,
    /// Changes of the validators that lead to a header.
    changes: usize,
}

/// Two certified blocks that are not of one chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fork {
    /// Heights of the blocks; the first is not above the second.
    heights: [u64; 2],
    blocks: [Hash; 2],
    contradiction: Contradiction,
}

/// What two certified headers say that cannot be so on one chain: there is one block a height, time goes
/// on, the log grows, and a block names the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Contradiction {
    /// Two blocks of one height.
    Height,
    /// The higher is not later.
    Time,
    /// The log of the lower goes beyond where the higher begins.
    LogStart,
    /// Two logs of one size.
    LogRoot,
    /// The higher names another block before it.
    Parent,
}

impl Contradiction {
    /// The contradiction between two headers, the first of which is not above the second.
    pub fn of(below: &Header, above: &Header) -> Option<Self> {
        if below.height == above.height {
            (below.hash() != above.hash()).then_some(Self::Height)
        } else if below.time_ms >= above.time_ms {
            Some(Self::Time)
        } else if below.log_size > above.log_start {
            Some(Self::LogStart)
        } else if below.log_size == above.log_size && below.log_root != above.log_root {
            Some(Self::LogRoot)
        } else if below.height + 1 == above.height && above.parent_hash != below.hash() {
            Some(Self::Parent)
        } else {
            None
        }
    }
}

/// Whether the certified header of a lower height and that of a higher one can be of one chain, by what
/// they say themselves.
pub fn may_follow(below: &Header, above: &Header) -> bool {
    Contradiction::of(below, above).is_none()
}

impl Fork {
    /// `None` where the two can be of one chain, by what they say themselves.
    pub fn between(one: &Header, other: &Header) -> Option<Self> {
        let (below, above) = if one.height <= other.height { (one, other) } else { (other, one) };
        Some(Self {
            heights: [below.height, above.height],
            blocks: [below.hash(), above.hash()],
            contradiction: Contradiction::of(below, above)?,
        })
    }
}

impl fmt::Display for Fork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ([below, above], [first, second]) = (self.heights, self.blocks);
        let why = match self.contradiction {
            Contradiction::Height => {
                return write!(
                    f,
                    "a quorum finalized two blocks at height {below}: {first} and {second}"
                );
            }
            Contradiction::Time => "the higher is not later than the lower",
            Contradiction::LogStart => "the log of the lower goes beyond where the higher begins",
            Contradiction::LogRoot => "they certify different logs of one size",
            Contradiction::Parent => "the higher names another block before it",
        };
        write!(
            f,
            "quorums finalized block {first} of height {below} and block {second} of height {above}, \
             which are not of one chain: {why}"
        )
    }
}

impl Seen {
    /// Nothing is seen yet.
    pub fn new(verifier: Verifier) -> Self {
        Self { verifier, headers: BTreeMap::new(), least: None, changes: 0 }
    }

    /// Notes a certified header.
    ///
    /// # Errors
    /// It cannot be of one chain with one that was noted before.
    pub fn note(&mut self, header: &Header, finalized_by: usize) -> Result<(), Fork> {
        self.note_by(header, self.verifier.rests(finalized_by, header.height))
    }

    /// Notes the header of a receipt, which may have led to its validators itself.
    ///
    /// # Errors
    /// As [`Seen::note`].
    pub fn note_receipt(&mut self, receipt: &VerifiedReceipt) -> Result<(), Fork> {
        self.note_by(&receipt.header, receipt.rests_on)
    }

    fn note_by(&mut self, header: &Header, rests: Rests) -> Result<(), Fork> {
        if header.height > 0 {
            self.changes = self.changes.max(rests.changes);
            if self.least.is_none_or(|least| rests.signers < least.signers) {
                self.least = Some(rests);
            }
        }
        let height = header.height;
        let below = self.headers.range(..height).next_back().map(|(_, below)| below);
        let after = (Bound::Excluded(height), Bound::Unbounded);
        let above = self.headers.range(after).next().map(|(_, above)| above);
        let same = self.headers.get(&height);
        for known in [same, below, above].into_iter().flatten() {
            if let Some(fork) = Fork::between(known, header) {
                return Err(fork);
            }
        }
        self.headers.entry(height).or_insert_with(|| header.clone());
        Ok(())
    }

    /// The highest.
    pub fn newest(&self) -> Option<&Header> {
        self.headers.values().next_back()
    }

    /// What an answer that looked at these rests on.
    pub fn basis(&self) -> Basis {
        // Of the header or change that rests on the fewest; all changes count that were followed.
        let all = self.verifier.rests(usize::MAX, u64::MAX);
        let least = self.least.map(|least| if all.signers <= least.signers { all } else { least });
        let Rests { validators, quorum, .. } = least.unwrap_or(all);
        Basis {
            chain_id: self.verifier.chain_id(),
            validators,
            quorum,
            validator_changes: self.changes.max(all.changes),
            finalized_by_least: least.map(|least| least.signers),
            head_height: self.newest().map(|header| header.height),
            head_time_ms: self.newest().map(|header| header.time_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use customhouse_ledger::{
        finality::{
            certificate::Certificate,
            validators::{Validator, ValidatorSet},
            vote::{Ballot, Vote, VoteKind},
        },
        keys::SigningKey,
        proofs::verifier::ValidatorStep,
    };

    use super::*;
    use crate::samples::genesis;

    #[test]
    fn a_second_certified_block_of_one_height_is_the_proof_of_a_fork() {
        let genesis = genesis();
        let mut seen = Seen::new(Verifier::new(&genesis));
        let first = Header { height: 5, ..genesis.header() };
        let second = Header { time_ms: first.time_ms + 1, ..first.clone() };
        assert_eq!(seen.note(&first, 3), Ok(()));
        assert_eq!(seen.note(&first, 4), Ok(()), "the same block again is none");
        let fork = seen.note(&second, 3).expect_err("a fork");
        assert_eq!((fork.heights, fork.blocks), ([5, 5], [first.hash(), second.hash()]));
        assert!(fork.to_string().starts_with("a quorum finalized two blocks at height 5: "));
        // What liars may certify.
        let last = Header { height: u64::MAX, ..genesis.header() };
        assert!(Seen::new(Verifier::new(&genesis)).note(&last, 3).is_ok());
    }

    /// Three of four change one of them; all of the new ones certify what comes later.
    #[test]
    fn an_answer_rests_on_the_changes_of_validators_too() {
        let genesis = genesis();
        let key = |seed: u8| SigningKey::from_seed(&[seed; 32]);
        let before = genesis.validators();
        let after = before.as_slice().iter().enumerate().map(|(index, validator)| {
            let key = if index == 3 { key(9).public() } else { validator.key };
            Validator { key, ..*validator }
        });
        let after = ValidatorSet::new(after.collect()).expect("a set");
        let next_validators_hash = after.hash();
        let header = Header { height: 5, next_validators_hash, ..genesis.header() };
        let (kind, block_hash) = (VoteKind::Finalize, header.hash());
        let ballot = Ballot { kind, height: 5, view: 1, block_hash };
        let votes = [1, 2, 3].map(|seed| Vote::sign(ballot, &genesis.chain_id(), &key(seed)));
        let certificate = Certificate::from_votes(ballot, &votes, &before);
        let certificate = certificate.expect("a quorum");
        let mut verifier = Verifier::new(&genesis);
        let step = ValidatorStep { header, certificate, validators: after };
        verifier.follow(&step).expect("certified");
        let mut seen = Seen::new(verifier);
        seen.note(&Header { height: 9, ..genesis.header() }, 4).expect("no fork");
        let basis = seen.basis();
        assert_eq!((basis.finalized_by_least, basis.validator_changes), (Some(3), 1));
        assert!(basis.to_string().ends_with("(changes: 1)"), "{basis}");
    }

    #[test]
    fn certified_headers_that_cannot_be_of_one_chain_are_a_fork_whichever_comes_first() {
        let genesis = genesis();
        let at = |height: u64, log: u64| Header {
            height,
            time_ms: 1000 * height,
            log_start: log,
            log_size: log + 1,
            log_root: Hash([1; 32]),
            ..genesis.header()
        };
        let (first, later) = (at(5, 7), at(9, 20));
        let wrong = [
            (Header { time_ms: 1, ..later.clone() }, Contradiction::Time),
            (Header { log_start: 7, ..later.clone() }, Contradiction::LogStart),
            (Header { log_start: 0, log_size: 0, ..later.clone() }, Contradiction::LogStart),
            (
                Header { log_start: 8, log_size: 8, log_root: Hash([2; 32]), ..later.clone() },
                Contradiction::LogRoot,
            ),
            (Header { height: 6, ..later.clone() }, Contradiction::Parent),
        ];
        let noted = |headers: [&Header; 2]| {
            let mut seen = Seen::new(Verifier::new(&genesis));
            headers.map(|header| seen.note(header, 3))
        };
        assert_eq!(noted([&first, &later]), [Ok(()), Ok(())]);
        assert_eq!(noted([&later, &first]), [Ok(()), Ok(())]);
        for (other, contradiction) in wrong {
            let heights = [5, other.height];
            let blocks = [first.hash(), other.hash()];
            let fork = Fork { heights, blocks, contradiction };
            assert_eq!(noted([&first, &other]), [Ok(()), Err(fork.clone())], "{other:?}");
            assert_eq!(noted([&other, &first]), [Ok(()), Err(fork.clone())], "{other:?}");
            let said = fork.to_string();
            let both = [(5, first.hash()), (other.height, other.hash())];
            for (height, block) in both {
                assert!(said.contains(&format!("block {block} of height {height}")), "{said}");
            }
        }
    }

    #[test]
    fn an_answer_says_what_it_rests_on() {
        let genesis = genesis();
        let mut seen = Seen::new(Verifier::new(&genesis));
        assert!(seen.basis().to_string().starts_with("nothing"));
        let at = |height| Header { height, time_ms: height, ..genesis.header() };
        seen.note(&at(812), 4).expect("no fork");
        seen.note(&at(7), 3).expect("no fork");
        let text = seen.basis().to_string();
        let chain = genesis.chain_id().short();
        let expected = format!("3 of 4 validators, genesis {chain}…, head height 812, ");
        assert!(text.starts_with(&expected), "{text}");
        assert!(text.ends_with("fewer than 2 of their keys are in wrong hands"), "{text}");
    }
}
