//! What may happen to a node.

use customhouse_ledger::agreement::vote::VoteKind;

use super::catalogue::{Catalogue, Fact, Facts, leader_of};

/// One thing that may happen to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happening {
    /// The timer of its view fires.
    Timer,
    /// It crashes and starts from its journal.
    Restart,
    /// A proposal by its view's leader comes.
    Proposal,
    /// The votes of this many others for one ballot come, one by one.
    Votes(u32),
    /// A certificate of a ballot comes.
    Certificate,
    /// A certificate comes whose signatures are all but one made up.
    Forgery,
}

/// A happening and the fact that it is about.
#[derive(Clone, Copy, Debug)]
pub struct Possible {
    pub what: Happening,
    pub fact: Option<Fact>,
    pub bit: Facts,
}

/// All that may happen, each where what it needs has been said.
pub fn all(catalogue: &Catalogue, restarts: bool, forgeries: bool) -> Vec<Possible> {
    let mut all = vec![Possible { what: Happening::Timer, fact: None, bit: 0 }];
    if restarts {
        all.push(Possible { what: Happening::Restart, fact: None, bit: 0 });
    }
    for (at, &fact) in catalogue.facts.iter().enumerate() {
        let mut add = |what| all.push(Possible { what, fact: Some(fact), bit: 1 << at });
        match fact {
            Fact::Proposal { .. } => add(Happening::Proposal),
            Fact::Vote { .. } => {
                (1..=3).for_each(|count| add(Happening::Votes(count)));
                add(Happening::Certificate);
                if forgeries {
                    add(Happening::Forgery);
                }
            }
        }
    }
    all
}

impl Possible {
    /// Whether it can happen to a node with this key, given what each key has said to it.
    pub fn is_enabled(&self, key: usize, said: &[Facts; 4]) -> bool {
        let says = |by: usize| said[by] & self.bit != 0;
        let count = |of: &dyn Fn(usize) -> bool| (0..4).filter(|&by| of(by) && says(by)).count();
        match (self.what, self.fact) {
            (Happening::Proposal, Some(fact)) => {
                let by = leader_of_fact(fact);
                by != key && says(by)
            }
            (Happening::Votes(needed), _) => count(&|by| by != key) >= needed as usize,
            (Happening::Certificate, _) => count(&|_| true) >= 3,
            _ => true,
        }
    }

    /// Who signs what comes: some of those who said it.
    pub fn signers(&self, key: usize, said: &[Facts; 4]) -> Vec<usize> {
        let says = |by: &usize| said[*by] & self.bit != 0;
        match self.what {
            Happening::Votes(count) => {
                (0..4).filter(|by| *by != key).filter(says).take(count as usize).collect()
            }
            _ => (0..4).filter(says).take(3).collect(),
        }
    }
}

/// The key that leads a fact's view.
pub fn leader_of_fact(fact: Fact) -> usize {
    LEADERS[(fact.view() - 1) as usize % 4]
}

/// The leaders of views 1 to 4 at height 1; see [`leader_of`].
const LEADERS: [usize; 4] = [2, 3, 0, 1];

#[test]
fn leaders_are_those_of_the_crate() {
    assert_eq!(LEADERS, [1, 2, 3, 4].map(leader_of));
    let nullify = Fact::Vote { kind: VoteKind::Nullify, view: 3, block: None };
    assert_eq!(leader_of_fact(nullify), 0);
}
