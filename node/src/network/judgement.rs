//! The node's judgement of what a peer sent, on its way back to whoever took it in.
//!
//! A judgement is about one message and whoever handed it over, by whichever way it came. Gossip that
//! travelled together is judged message by message. It is passed on as it came when every message of it
//! was verified: whoever gets it holds its forwarder to all of it. What was accepted of other gossip
//! goes on by itself, also where something beside it is wrong: it was verified, and whoever put the two
//! together must not be able to stop it. A message that others have or get without this one goes on only
//! together with what is accepted.

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

/// Says what to do with a message of a peer, and whether it was at fault. Gossip is passed on only when
/// it is accepted, and only within about three seconds of its coming; what was pushed or answered goes no
/// further in any case. A judgement that is dropped without a word means that the message is ignored.
#[derive(Debug)]
pub struct PendingJudgement {
    judged: Arc<Judged>,
    /// Which of those that travelled together.
    index: u32,
}

/// What came of a message, or of those that travelled together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// All was verified, and some of it accepted.
    Accepted,
    /// Some was accepted, some was not verified, and nothing was wrong. A bit for each message, from the
    /// lowest on.
    InPart(u64),
    /// Nothing was accepted, and nobody is at fault.
    Ignored,
    /// Something was wrong: whoever handed it over has one more fault, for this reason. What was accepted
    /// beside it, a bit for each message, goes on.
    Rejected(&'static str, u64),
}

impl Judgement {
    /// A bit for each message that was accepted, from the lowest on. Where all were verified, each counts.
    pub fn accepted(&self) -> u64 {
        match self {
            Self::Accepted => u64::MAX,
            Self::InPart(accepted) | Self::Rejected(_, accepted) => *accepted,
            Self::Ignored => 0,
        }
    }
}

/// Is told once what came of it.
type Judge = Box<dyn FnOnce(Judgement) + Send + Sync>;

/// The judgement of all that travelled together, given when the last pending one of it is gone.
struct Judged {
    count: usize,
    accepted: AtomicU64,
    /// Those that were accepted, and those that were verified and need not be passed on.
    verified: AtomicU64,
    rejected: OnceLock<&'static str>,
    /// Taken out when the judgement is given.
    judge: Option<Judge>,
}

impl PendingJudgement {
    /// For the first of `count` messages, at most 64, that travelled together. `judge` is told what came
    /// of them when the last judgement is gone.
    pub fn told_to(count: usize, judge: impl FnOnce(Judgement) + Send + Sync + 'static) -> Self {
        let (accepted, verified) = (AtomicU64::new(0), AtomicU64::new(0));
        let rejected = OnceLock::new();
        let judged = Judged { count, accepted, verified, rejected, judge: Some(Box::new(judge)) };
        Self { judged: Arc::new(judged), index: 0 }
    }

    /// One for another message that travelled with it, by its place among them.
    pub fn another(&self, index: u32) -> Self {
        Self { judged: Arc::clone(&self.judged), index }
    }

    /// Verified, and of use to others: pass it on.
    pub fn accept(self) {
        self.judged.accepted.fetch_or(self.bit(), Ordering::AcqRel);
        self.verified();
    }

    /// Verified, and others have it or get it without this: not worth passing on by itself.
    pub fn verified(self) {
        self.judged.verified.fetch_or(self.bit(), Ordering::AcqRel);
    }

    fn bit(&self) -> u64 {
        1_u64.checked_shl(self.index).unwrap_or(0)
    }

    /// Neither passed on nor held against anyone: too old, of no use, or nothing that can be judged now.
    pub fn ignore(self) {}

    /// Wrong in a way that an honest peer would have noticed before sending it. Counted as a fault of
    /// the peer that sent it.
    pub fn reject(self, reason: &'static str) {
        // The first reason is as good as the others.
        let _ = self.judged.rejected.set(reason);
    }
}

impl Judged {
    fn judgement(&self) -> Judgement {
        let accepted = self.accepted.load(Ordering::Acquire);
        let verified = self.verified.load(Ordering::Acquire);
        match self.rejected.get() {
            Some(reason) => Judgement::Rejected(reason, accepted),
            None if accepted == 0 => Judgement::Ignored,
            None if verified.count_ones() as usize == self.count => Judgement::Accepted,
            None => Judgement::InPart(accepted),
        }
    }
}

impl Drop for Judged {
    fn drop(&mut self) {
        let judgement = self.judgement();
        if let Some(judge) = self.judge.take() {
            judge(judgement);
        }
    }
}

impl fmt::Debug for Judged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Judged").field(&self.judgement()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    type Said = fn(PendingJudgement);

    fn judged(count: usize, judgements: &[(u32, Said)]) -> Judgement {
        let (judge, told) = mpsc::sync_channel(1);
        let tell = move |judgement| judge.send(judgement).expect("the test waits");
        let judgement = PendingJudgement::told_to(count, tell);
        let others: Vec<_> =
            judgements.iter().map(|(index, _)| judgement.another(*index)).collect();
        drop(judgement);
        for (judgement, (_, judge)) in others.into_iter().zip(judgements) {
            assert!(told.try_recv().is_err(), "not before the last");
            judge(judgement);
        }
        told.try_recv().expect("told at the last")
    }

    #[test]
    fn what_travelled_together_is_accepted_when_all_of_it_is() {
        let accept: Said = PendingJudgement::accept;
        let ignore: Said = PendingJudgement::ignore;
        let reject: Said = |judgement| judgement.reject("wrong");
        assert_eq!(judged(1, &[(0, accept)]), Judgement::Accepted);
        assert_eq!(judged(2, &[(0, accept), (1, accept)]), Judgement::Accepted);
        assert_eq!(judged(2, &[(0, ignore), (1, accept)]), Judgement::InPart(2));
        assert_eq!(judged(3, &[(2, accept), (0, accept)]), Judgement::InPart(5));
        assert_eq!(judged(2, &[(0, ignore), (1, ignore)]), Judgement::Ignored);
        assert_eq!(judged(2, &[(0, accept), (1, reject)]), Judgement::Rejected("wrong", 1));
        assert_eq!(judged(1, &[(0, reject)]), Judgement::Rejected("wrong", 0));
        let known: Said = PendingJudgement::verified;
        assert_eq!(judged(1, &[(0, known)]), Judgement::Ignored);
        assert_eq!(judged(2, &[(0, known), (1, known)]), Judgement::Ignored);
        assert_eq!(judged(2, &[(0, known), (1, accept)]), Judgement::Accepted);
        assert_eq!(judged(3, &[(0, known), (1, accept), (2, ignore)]), Judgement::InPart(2));
        assert_eq!(judged(2, &[(0, known), (1, reject)]), Judgement::Rejected("wrong", 0));
        let all: Vec<_> = (0..64).map(|index| (index, accept)).collect();
        assert_eq!(judged(64, &all), Judgement::Accepted);
        assert_eq!(judged(64, &all[1..]), Judgement::InPart(u64::MAX - 1));
    }
}
