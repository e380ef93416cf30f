//! Compares this node's clock with those of the other validators.
//!
//! A block's time is its leader's, and validators vote for it only where their own clocks are near it.
//! So a node whose clock is wrong proposes what nobody votes for, votes for nobody, and signs transactions
//! that live too long or not at all; and it notices none of that by itself. Here it asks its peers for the
//! time, again and again. By how much its clock is ahead of theirs is the median over the validators that
//! answered, which f liars do not move out of what the honest say; where so few have answered that they
//! could, it is the least that an honest one may have said. Where it is more than the chain's parameters
//! allow, the clock is *wrong*: the node says so, proposes nothing, and takes no submissions, until the
//! clock is right again. A certified header from the future tells the same where no peer answers: somebody
//! honest voted for it, so the time was no more ahead of that clock than the parameters allow, and this
//! clock is behind that one by the rest. A leader that lies may always give the latest time that a quorum
//! votes for: that alone never makes a slower clock count as wrong.

use std::{collections::BTreeMap, time::Duration};

use customhouse_ledger::{agency::AgencyCode, chain::ChainReader, keys::PublicKey};
use customhouse_proto::v1::{self, sync_request::Request, sync_response::Response};
use futures::future::join_all;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use super::unix_ms;
use crate::{clock::ClockState, metrics::Metrics, network::NetworkHandle, tasks::Tasks};

/// Time between two looks at the clock, and between two rounds of questions while it is not known to be
/// right.
const INTERVAL: Duration = Duration::from_secs(3);
/// Looks at a clock that was right from one round of questions to the next: a round costs every node of an
/// idle network a message to each other one, and its answer.
const LOOKS: u32 = 5;
/// A clock that has gone on by this many milliseconds more or less than time has was set.
const SET_MS: u64 = 500;
/// An answer that takes longer says too little about the time.
const ROUND_TRIP_MAX: Duration = Duration::from_secs(2);
/// While the clock is not right, that is said this often.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// Compares the clock until its node stops.
pub(crate) struct Comparison {
    agency: AgencyCode,
    reader: ChainReader,
    network: NetworkHandle,
    metrics: Metrics,
    state: watch::Sender<ClockState>,
}

impl Comparison {
    /// The comparison of the clock of an agency's node: what is found goes to `state`.
    pub(crate) fn new(
        agency: AgencyCode,
        (reader, network, metrics): (ChainReader, NetworkHandle, Metrics),
        state: watch::Sender<ClockState>,
    ) -> Self {
        Self { agency, reader, network, metrics, state }
    }

    /// Compares from now on.
    pub(crate) fn start(self, tasks: &Tasks) {
        let stop = tasks.shutdown().clone();
        tasks.spawn("comparison of clocks", async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.run() => {}
            }
        });
    }

    async fn run(&self) {
        let mut told: Option<Instant> = None;
        loop {
            let answers = self.round().await;
            let before = *self.state.borrow();
            let now = self.judge(&answers, before);
            self.metrics.clock(now.ahead_ms.unwrap_or(0), now.wrong);
            self.state.send_if_modified(|state| std::mem::replace(state, now) != now);
            if now.wrong != before.wrong || told.is_some_and(|told| told.elapsed() > TOLD_EVERY) {
                told = now.wrong.then(Instant::now);
                self.tell(now);
            }
            rest(now).await;
        }
    }

    fn tell(&self, state: ClockState) {
        let ahead_ms = state.ahead_ms.unwrap_or(0);
        let allowed_ms = self.reader.tip().parameters.time_skew_ms_max;
        if state.wrong {
            tracing::error!(
                ahead_ms,
                allowed_ms,
                "this node's clock is not that of the other agencies: it proposes no blocks and takes no \
                 submissions until the clock is set right"
            );
        } else {
            tracing::info!(ahead_ms, allowed_ms, "this node's clock is right again");
        }
    }

    /// By how much this clock is ahead of each validator's that answers now.
    async fn round(&self) -> BTreeMap<AgencyCode, i64> {
        let peers: Vec<_> = {
            let connected = self.network.connected();
            let connected = connected.borrow();
            connected.iter().map(|peer| (peer.agency, peer.key)).collect()
        };
        let asked = peers
            .into_iter()
            .map(|(agency, key)| async move { Some((agency, self.ahead_of(key).await?)) });
        let validators = self.reader.tip().validators.clone();
        let votes = |agency: &AgencyCode| validators.as_slice().iter().any(|v| v.agency == *agency);
        let answers = join_all(asked).await.into_iter().flatten();
        answers.filter(|(agency, _)| *agency != self.agency && votes(agency)).collect()
    }

    async fn ahead_of(&self, peer: PublicKey) -> Option<i64> {
        let (began, sent_ms) = (Instant::now(), unix_ms());
        let request = v1::SyncRequest { request: Some(Request::Clock(v1::ClockRequest {})) };
        let asked = timeout(ROUND_TRIP_MAX, self.network.request(peer, request)).await;
        let Some(Response::Clock(answer)) = asked.ok()?.ok()?.response else { return None };
        // From the time that passed, and not from the clock, which may have been set meanwhile.
        let half_ms = u64::try_from(began.elapsed().as_millis() / 2).ok()?;
        Some(difference(sent_ms.saturating_add(half_ms), answer.unix_ms))
    }

    /// What these answers and the newest header say.
    fn judge(&self, answers: &BTreeMap<AgencyCode, i64>, before: ClockState) -> ClockState {
        let tip = self.reader.tip();
        let allowed_ms = tip.parameters.time_skew_ms_max;
        let faulty_max = tip.validators.faulty_max();
        let ahead_ms = ahead_of_the_honest(answers.values().copied().collect(), faulty_max);
        let after_tip = difference(unix_ms(), tip.header.time_ms);
        state(ahead_ms, after_tip, allowed_ms, before)
    }
}

/// Waits for the time of the next round.
async fn rest(state: ClockState) {
    let (began, was_ms) = (Instant::now(), unix_ms());
    for _ in 0..looks(state) {
        sleep(INTERVAL).await;
        let passed_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        if was_set(was_ms, passed_ms, unix_ms()) {
            return;
        }
    }
}

/// Looks at a clock of this state until the next round.
fn looks(state: ClockState) -> u32 {
    if state.ahead_ms.is_some() && !state.wrong { LOOKS } else { 1 }
}

/// Whether a clock was set between two looks at it, with this time in between.
fn was_set(was_ms: u64, passed_ms: u64, is_ms: u64) -> bool {
    is_ms.abs_diff(was_ms.saturating_add(passed_ms)) > SET_MS
}

/// What follows from what the others' clocks and the newest header say, and from what was known before.
fn state(
    ahead_ms: Option<i64>,
    after_tip_ms: i64,
    allowed_ms: u64,
    before: ClockState,
) -> ClockState {
    let behind_a_voter_ms = after_tip_ms.min(0).unsigned_abs().saturating_sub(allowed_ms);
    let is_before_tip = behind_a_voter_ms > allowed_ms;
    match ahead_ms {
        Some(ahead) => {
            ClockState { ahead_ms, wrong: ahead.unsigned_abs() > allowed_ms || is_before_tip }
        }
        None if is_before_tip => ClockState { ahead_ms: Some(after_tip_ms), wrong: true },
        // What was found stands until something else is.
        None if before.wrong => before,
        None => ClockState::default(),
    }
}

fn difference(a: u64, b: u64) -> i64 {
    let difference = i128::from(a) - i128::from(b);
    i64::try_from(difference).unwrap_or(if difference < 0 { i64::MIN } else { i64::MAX })
}

/// By how much a clock is ahead, where at most `faulty_max` of those that say so lie; `None` where all of
/// them may. It is the least of what could be true, which accuses this clock least.
fn ahead_of_the_honest(mut all: Vec<i64>, faulty_max: usize) -> Option<i64> {
    all.sort_unstable();
    let last = all.len().checked_sub(1)?;
    // More clocks than can lie say at least this, and more than can lie say at most that.
    let (at_least, at_most) = (*all.get(last.checked_sub(faulty_max)?)?, *all.get(faulty_max)?);
    // Where enough are honest the median is one of theirs, or between two of them.
    let (low, high) = match at_least <= at_most {
        true => (at_least, at_most),
        false => (all[last / 2], all[all.len() / 2]),
    };
    Some(0.clamp(low, high))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_the_clock_is_what_somebody_honest_says() {
        const HOUR: i64 = 3_600_000;
        for (answers, faulty_max, expected) in [
            (vec![], 0, None),
            (vec![HOUR], 0, Some(HOUR)),
            (vec![HOUR], 1, None),
            (vec![HOUR, HOUR + 5, 0], 1, Some(HOUR)),
            // One liar of three, in either direction.
            (vec![2, -3, 9 * HOUR], 1, Some(2)),
            (vec![2, -3, -9 * HOUR], 1, Some(-3)),
            // One of two: the clock is not called wrong for it.
            (vec![1, HOUR], 1, Some(1)),
            (vec![-HOUR, -1], 1, Some(-1)),
            (vec![-5, HOUR], 1, Some(0)),
            (vec![HOUR, HOUR + 5], 1, Some(HOUR)),
            // Two liars, where three or four of six have answered.
            (vec![3, HOUR, HOUR], 2, Some(3)),
            (vec![-HOUR, 3, -HOUR], 2, Some(0)),
            (vec![-HOUR, -HOUR, 4, 5], 2, Some(0)),
            (vec![HOUR, 7, HOUR, 5], 2, Some(7)),
            (vec![HOUR, HOUR + 1, HOUR + 2], 2, Some(HOUR)),
            (vec![HOUR, 7, HOUR, 5, 6], 2, Some(7)),
            (vec![HOUR, 7, HOUR, 5, 6, -HOUR], 2, Some(6)),
            (vec![i64::MIN, i64::MIN], 0, Some(i64::MIN)),
        ] {
            let found = ahead_of_the_honest(answers.clone(), faulty_max);
            assert_eq!(found, expected, "{answers:?}, {faulty_max} may lie");
        }
    }

    #[test]
    fn a_clock_that_goes_on_as_time_does_was_not_set() {
        assert!(!was_set(1_000_000, 3_000, 1_003_000) && !was_set(1_000_000, 3_000, 1_003_400));
        assert!(was_set(1_000_000, 3_000, 1_004_000) && was_set(1_000_000, 3_000, 1_000_000));
        assert!(was_set(1_000_000, 3_000, 0) && was_set(0, 0, u64::MAX));
    }

    #[test]
    fn a_clock_that_is_not_known_to_be_right_is_compared_again_at_the_next_look() {
        assert_eq!(looks(ClockState::default()), 1);
        assert_eq!(looks(ClockState { ahead_ms: Some(40_000), wrong: true }), 1);
        assert_eq!(looks(ClockState { ahead_ms: Some(0), wrong: false }), LOOKS);
    }

    #[test]
    fn a_header_as_late_as_a_quorum_votes_for_makes_no_slower_clock_wrong() {
        const ALLOWED: u64 = 30_000;
        let right = ClockState::default();
        let is_wrong = |ahead, after_tip| state(ahead, after_tip, ALLOWED, right).wrong;
        // A second behind those who voted, and these voted for a time that is just allowed.
        assert!(!is_wrong(Some(-1_000), -31_000) && !is_wrong(None, -31_000));
        assert!(!is_wrong(None, -60_000), "as far apart as clocks may be");
        assert!(is_wrong(None, -60_001) && is_wrong(Some(0), i64::MIN));
        assert!(is_wrong(Some(30_001), 0) && is_wrong(Some(-30_001), -30_001));
        // A header from long ago says nothing: the chain was idle.
        assert!(!is_wrong(None, i64::MAX) && !is_wrong(Some(5), 600_000));
        let wrong = ClockState { ahead_ms: Some(40_000), wrong: true };
        assert_eq!(state(None, 0, ALLOWED, wrong), wrong, "until somebody answers");
    }

    #[test]
    fn a_difference_of_any_two_times_is_a_number() {
        for (a, b, expected) in
            [(5, 3, 2), (3, 5, -2), (u64::MAX, 0, i64::MAX), (0, u64::MAX, i64::MIN)]
        {
            assert_eq!(difference(a, b), expected);
        }
    }
}
