//! What may happen to a node.

use customhouse_ledger::finality::vote::VoteKind;

use super::{
    catalogue::{Catalogue, Fact, Facts, leader_of},
    search::Model,
};

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
    /// The node of this key loses its journal and starts again, once: it must be told what others hold of
    /// its key.
    Loss(usize),
    /// Some of the others tell it that, or say that they do.
    Told([Option<Teller>; 4]),
}

/// What it is that one tells who is asked what it holds of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Teller {
    /// What it holds, from this height.
    Honest,
    /// What it holds, having committed this height.
    Committed,
    /// A liar: nothing.
    Nothing,
    /// A liar: nothing, from far ahead.
    Far,
    /// A liar: a signature that is made up.
    Forged,
}

/// A happening and the fact that it is about.
#[derive(Clone, Copy, Debug)]
pub struct Possible {
    pub what: Happening,
    pub fact: Option<Fact>,
    pub bit: Facts,
}

/// All that may happen, each where what it needs has been said.
pub fn all(catalogue: &Catalogue, model: &Model) -> Vec<Possible> {
    let Model { restarts, forgeries, .. } = *model;
    let mut all = vec![Possible { what: Happening::Timer, fact: None, bit: 0 }];
    if restarts {
        all.push(Possible { what: Happening::Restart, fact: None, bit: 0 });
    }
    if let Some(loser) = model.loser {
        all.extend(after_a_loss(catalogue, loser, model.faulty));
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

/// The loss of a journal, and what any of the others may tell then.
fn after_a_loss(catalogue: &Catalogue, loser: usize, faulty: usize) -> Vec<Possible> {
    let finalize = |fact: &Fact| matches!(fact, Fact::Vote { kind: VoteKind::Finalize, .. });
    let bits = (0..catalogue.facts.len()).filter(|at| finalize(&catalogue.facts[*at]));
    let finalizations = bits.fold(0, |set, at| set | 1 << at);
    let mut tellers = vec![[None; 4]];
    for by in (0..4).filter(|by| *by != loser) {
        let tells: &[Teller] = match by == faulty {
            true => &[Teller::Nothing, Teller::Far, Teller::Forged],
            false => &[Teller::Honest, Teller::Committed],
        };
        let with = |others: &[Option<Teller>; 4], teller: &Teller| {
            let mut all = *others;
            all[by] = Some(*teller);
            all
        };
        let more: Vec<_> =
            tellers.iter().flat_map(|others| tells.iter().map(|t| with(others, t))).collect();
        tellers.extend(more);
    }
    let told = tellers.into_iter().filter(|tellers| *tellers != [None; 4]).map(|tellers| {
        let committed = tellers.contains(&Some(Teller::Committed));
        let bit = if committed { finalizations } else { 0 };
        Possible { what: Happening::Told(tellers), fact: None, bit }
    });
    let loss = Possible { what: Happening::Loss(loser), fact: None, bit: 0 };
    [loss].into_iter().chain(told).collect()
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
            (Happening::Loss(of), _) => of == key,
            // Where one that has committed tells, three must have finalized something.
            (Happening::Told(_), _) => self.bit == 0 || said_by_three(said) & self.bit != 0,
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

fn said_by_three([a, b, c, d]: &[Facts; 4]) -> Facts {
    (a & b & (c | d)) | (c & d & (a | b))
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
