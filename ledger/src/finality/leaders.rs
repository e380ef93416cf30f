//! Who leads a view: a function of the validators and of certified headers, and of nothing else.
//!
//! Leaders take turns. One that was *passed over* goes to the end of the order, so that a validator
//! that is down or slow does not cost every n-th height a timeout:
//!
//! - The header of a committed block names the view w in which it was first proposed. A new block is
//!   justified in w only where every view before it was nullified by a quorum, so a certified header
//!   proves that the leaders of the views 1 to w − 1 were passed over. (A block that is proposed
//!   again keeps its header: about the views between the two nothing is proven, and nothing
//!   follows.)
//! - Heights are counted in *terms* of [`term`] heights. Whoever was passed over is at the end until
//!   the term is over, and is then tried like everyone else: one that works again is back, one that
//!   does not costs one timeout a term.
//! - A leader whose block is committed is at the end no longer, whichever view the block came from.
//! - At most f are at the end, those that were passed over last. More than f need not be; and among
//!   the n − f others more are honest than faulty, whichever they are. So the faulty, who on a slow
//!   network may succeed in having honest leaders passed over, cannot take the first views for
//!   themselves.
//! - Where the validators change, everybody begins anew.
//!
//! It only reorders: in every height all n lead before any leads again, so a validator at the end
//! loses nothing but its place. The order at a height follows from at most [`LEADERS_TERM_MAX`] certified
//! headers before it ([`Leaders::first_needed`]); a node that was restarted, wiped, or that has just
//! caught up has the same as all others.

use crate::{
    finality::{header::Header, validators::ValidatorSet},
    keys::PublicKey,
    limits::LEADERS_TERM_MAX,
};

/// Heights of a term for each validator.
const TERM_OF_ONE: u64 = 64;

/// Heights of a term of these validators.
pub fn term(validators: &ValidatorSet) -> u64 {
    (validators.count() as u64 * TERM_OF_ONE).min(LEADERS_TERM_MAX)
}

/// The order in which validators lead the views of the next height.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leaders {
    /// At the end of the order: at most f, the one passed over last at the very end.
    passed_over: Vec<PublicKey>,
}

impl Leaders {
    /// The leader of a view of the height that these validators decide. Views count from 1.
    pub fn leader(&self, validators: &ValidatorSet, height: u64, view: u64) -> PublicKey {
        let n = validators.count() as u64;
        let turn = (view % n + n - 1) % n;
        self.order(validators, height)[turn as usize]
    }

    /// All validators' keys, each once, in the order in which they lead.
    pub fn order(&self, validators: &ValidatorSet, height: u64) -> Vec<PublicKey> {
        let keys = validators.as_slice().iter().map(|validator| validator.key);
        let mut order: Vec<_> = keys.filter(|key| !self.passed_over.contains(key)).collect();
        // Those that are left share the first views evenly.
        let n = (order.len() as u64).max(1);
        order.rotate_left(((height % n + 1) % n) as usize);
        let is_validator = |key: &&PublicKey| validators.index_of(key).is_some();
        order.extend(self.passed_over.iter().filter(is_validator));
        order
    }

    /// Who is at the end of the order.
    pub fn passed_over(&self) -> &[PublicKey] {
        &self.passed_over
    }

    /// Takes the header of a committed block, which these validators decided: after that, the order
    /// is that of the next height.
    pub fn commit(&mut self, header: &Header, validators: &ValidatorSet) {
        let changed = header.validators_hash != header.next_validators_hash;
        if changed || header.height.is_multiple_of(term(validators)) {
            self.passed_over.clear();
            return;
        }
        // The views before these were led by the same validators.
        let first = header.view.saturating_sub(validators.count() as u64).max(1);
        let order = self.clone();
        for view in first..header.view {
            let key = order.leader(validators, header.height, view);
            self.passed_over.retain(|held| *held != key);
            self.passed_over.push(key);
        }
        self.passed_over.retain(|key| *key.as_bytes() != header.proposer);
        let excess = self.passed_over.len().saturating_sub(validators.faulty_max());
        self.passed_over.drain(..excess);
    }

    /// The lowest height whose header matters for the order after a height: beginning with nobody
    /// passed over and taking the headers from there on ([`Leaders::commit`]) gives it.
    pub fn first_needed(height: u64, validators: &ValidatorSet) -> u64 {
        height - height % term(validators) + 1
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, sync::LazyLock};

    use proptest::prelude::*;

    use super::*;
    use crate::{
        finality::validators::tests::{keys, set},
        hash::Hash,
        registry::genesis::tests::genesis,
    };

    static GENESIS: LazyLock<Header> = LazyLock::new(|| genesis(4).header());

    /// A header of a block that was first proposed in this view, by its leader.
    fn header(leaders: &Leaders, validators: &ValidatorSet, height: u64, view: u64) -> Header {
        let proposer = *leaders.leader(validators, height, view).as_bytes();
        Header { height, view, proposer, ..GENESIS.clone() }
    }

    /// Commits a block of each of these views, from a height on.
    fn commit_all(leaders: &mut Leaders, validators: &ValidatorSet, from: u64, views: &[u64]) {
        for (height, view) in (from..).zip(views) {
            let header = header(leaders, validators, height, *view);
            leaders.commit(&header, validators);
        }
    }

    /// What a network commits in which one validator is down: the views of the blocks.
    fn views_without(
        leaders: &mut Leaders,
        validators: &ValidatorSet,
        dead: &PublicKey,
        heights: std::ops::Range<u64>,
    ) -> Vec<u64> {
        let mut views = Vec::new();
        for height in heights {
            let leads = |view: &u64| leaders.leader(validators, height, *view) != *dead;
            let view = (1..).find(leads).expect("another leads");
            let header = header(leaders, validators, height, view);
            leaders.commit(&header, validators);
            views.push(view);
        }
        views
    }

    #[test]
    fn where_all_is_well_leaders_take_turns() {
        let (keys, validators) = (keys(4), set(4));
        let mut leaders = Leaders::default();
        for height in 1..=1_000 {
            for view in 1..=9 {
                let turn = (height + view) % 4;
                let expected = keys[turn as usize].public();
                assert_eq!(leaders.leader(&validators, height, view), expected);
            }
            commit_all(&mut leaders, &validators, height, &[1]);
        }
    }

    #[test]
    fn a_dead_leader_costs_one_view_a_term() {
        for n in [4, 5, 7, 10] {
            let (validators, dead) = (set(n), keys(n)[1].public());
            let term = term(&validators);
            let mut leaders = Leaders::default();
            let views = views_without(&mut leaders, &validators, &dead, 1..term * 10 + 1);
            for (index, of_term) in views.chunks(term as usize).enumerate() {
                let later: Vec<_> = of_term.iter().filter(|view| **view > 1).collect();
                assert_eq!(later, [&2], "n = {n}, term {index}");
                let tried = of_term.iter().position(|view| *view > 1);
                assert!(tried < Some(usize::from(n)), "n = {n}, term {index}: at {tried:?}");
            }
        }
    }

    #[test]
    fn the_others_share_the_first_views_of_a_dead_one_evenly() {
        let (validators, dead) = (set(4), keys(4)[1].public());
        let mut leaders = Leaders::default();
        views_without(&mut leaders, &validators, &dead, 1..10);
        assert_eq!(leaders.passed_over(), [dead]);
        for other in keys(4).iter().filter(|key| key.public() != dead) {
            let leads = |height: &u64| leaders.leader(&validators, *height, 1) == other.public();
            assert_eq!((10..40).filter(leads).count(), 10);
        }
        for height in 10..40 {
            assert_eq!(leaders.leader(&validators, height, 4), dead, "the last of all");
        }
    }

    #[test]
    fn one_that_works_again_is_back_in_the_next_term() {
        let (validators, dead) = (set(4), keys(4)[1].public());
        let term = term(&validators);
        let mut leaders = Leaders::default();
        views_without(&mut leaders, &validators, &dead, 1..20);
        let ones = vec![1; term as usize * 2];
        commit_all(&mut leaders, &validators, 20, &ones[..(term - 20) as usize]);
        assert_eq!(leaders.passed_over(), [dead], "to the end of the term");
        commit_all(&mut leaders, &validators, term, &ones);
        assert_eq!(leaders.passed_over(), []);
        let of_dead = (term * 3..).find(|height| leaders.leader(&validators, *height, 1) == dead);
        assert!(of_dead < Some(term * 3 + 4));
    }

    #[test]
    fn a_block_from_the_end_of_the_order_brings_its_leader_back() {
        let validators = set(4);
        let mut leaders = Leaders::default();
        commit_all(&mut leaders, &validators, 1, &[2]);
        let [late] = *leaders.passed_over() else { panic!("one is passed over") };
        // All three others fail: the last view of the height is the late validator's.
        let of_late = header(&leaders, &validators, 2, 4);
        assert_eq!(of_late.proposer, *late.as_bytes());
        leaders.commit(&of_late, &validators);
        assert!(!leaders.passed_over().contains(&late));
    }

    #[test]
    fn at_most_f_are_at_the_end_and_those_were_passed_over_last() {
        for (n, f) in [(1, 0), (2, 0), (3, 0), (4, 1), (6, 1), (7, 2), (10, 3)] {
            let validators = set(n);
            for view in 1..=3 * u64::from(n) {
                let mut leaders = Leaders::default();
                let before = leaders.clone();
                commit_all(&mut leaders, &validators, 1, &[view]);
                let proposer = before.leader(&validators, 1, view);
                let mut last: Vec<_> = (1..view)
                    .rev()
                    .map(|view| before.leader(&validators, 1, view))
                    .filter(|key| *key != proposer)
                    .take(f.min(usize::from(n) - 1))
                    .collect();
                last.reverse();
                assert_eq!(leaders.passed_over(), last, "n = {n}, view {view}");
            }
        }
    }

    #[test]
    fn other_validators_begin_anew() {
        let validators = set(4);
        let mut leaders = Leaders::default();
        commit_all(&mut leaders, &validators, 1, &[2]);
        assert_eq!(leaders.passed_over().len(), 1);
        let change = header(&leaders, &validators, 2, 1);
        let change = Header { next_validators_hash: Hash([9; 32]), ..change };
        leaders.commit(&change, &validators);
        assert_eq!(leaders, Leaders::default());
    }

    #[test]
    fn a_term_of_many_validators_is_still_quickly_read() {
        assert_eq!([4, 7, 200].map(|n| term(&set(n))), [256, 448, LEADERS_TERM_MAX]);
        let validators = set(4);
        let needed = [0, 1, 255, 256, 257].map(|h| Leaders::first_needed(h, &validators));
        assert_eq!(needed, [1, 1, 1, 257, 257]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn whatever_was_committed_all_lead_before_any_leads_again(
            n in 1_u8..=13,
            views in prop::collection::vec(prop_oneof![4 => Just(1_u64), 1 => 1_u64..40], 1..200),
            from in any::<u32>(),
            height in any::<u64>(),
        ) {
            let validators = set(n);
            let all: BTreeSet<_> = keys(n).iter().map(|key| key.public()).collect();
            let mut leaders = Leaders::default();
            for (height, view) in (u64::from(from)..).zip(&views) {
                commit_all(&mut leaders, &validators, height, &[*view]);
            }
            for first in [1, u64::from(n) + 1, u64::MAX - 40] {
                let leads = |view| leaders.leader(&validators, height, first + view);
                let round: BTreeSet<_> = (0..u64::from(n)).map(leads).collect();
                prop_assert_eq!(&round, &all);
            }
            prop_assert!(leaders.passed_over().len() <= validators.faulty_max());
        }

        #[test]
        fn a_node_that_reads_the_headers_again_has_the_same_order(
            n in 1_u8..=7,
            views in prop::collection::vec(prop_oneof![6 => Just(1_u64), 1 => 1_u64..20], 1..900),
            change in prop::option::of(1_u64..900),
        ) {
            let validators = set(n);
            let mut leaders = Leaders::default();
            let mut headers = vec![GENESIS.clone()];
            for (height, view) in (1..).zip(&views) {
                let mut header = header(&leaders, &validators, height, *view);
                if Some(height) == change {
                    header.validators_hash = Hash([9; 32]);
                }
                leaders.commit(&header, &validators);
                headers.push(header);
                if height % 97 == 0 || height == views.len() as u64 {
                    let first = Leaders::first_needed(height, &validators);
                    let mut again = Leaders::default();
                    for header in &headers[first as usize..] {
                        again.commit(header, &validators);
                    }
                    prop_assert_eq!(&again, &leaders, "at height {}", height);
                }
            }
        }
    }
}
