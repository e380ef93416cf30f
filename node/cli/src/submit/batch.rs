//! Brings submissions to their end: as a stream, again after a broken connection, and each once.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use customhouse_client::{Client, ClientError};
use customhouse_ledger::hash::Hash;
use customhouse_proto::v1::{self, Phase};
use futures::{StreamExt as _, stream};
use indicatif::ProgressBar;
use tonic::Code;

use crate::{connect::Connection, output::one_line};

/// Pause between two attempts.
pub(super) const PAUSE_MIN: Duration = Duration::from_millis(200);
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(5);
/// How often a transaction that expired is submitted again.
pub(super) const EXPIRIES_MAX: u32 = 3;
/// The reason code of a submission whose key stands for another body.
const ALREADY_EXISTS: &str = "ALREADY_EXISTS";

/// How a submission ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// On the ledger.
    Final {
        record_id: Hash,
        height: u64,
        /// It was there before.
        before: bool,
    },
    /// The same message was submitted earlier, with other references; that record stands.
    Otherwise { record_id: Hash },
    /// Refused, with code and reason.
    Rejected { code: String, reason: String },
    /// Not ended within the patience: perhaps accepted, not final.
    Unfinished { reason: String },
}

/// Submits batches.
pub(super) struct Batch<'c> {
    client: &'c Client,
    patience: Duration,
    height_before: u64,
}

/// A batch under way.
struct Progress {
    submissions: Arc<Vec<v1::RecordSubmission>>,
    index: HashMap<String, usize>,
    ends: Vec<Option<End>>,
    expiries: Vec<u32>,
    /// Why the last attempt did not end everything.
    trouble: String,
}

impl<'c> Batch<'c> {
    pub(super) fn new(connection: &'c Connection, patience: Duration, height_before: u64) -> Self {
        Self { client: &connection.client, patience, height_before }
    }

    /// Submits and waits until each has ended, or none has for as long as the patience lasts. One
    /// end a submission, in order; submissions with one key are one.
    ///
    /// # Errors
    /// Where the node refuses the client or the call itself, so that trying again is of no use.
    pub(super) async fn submit(
        &self,
        submissions: Vec<v1::RecordSubmission>,
        bar: &ProgressBar,
    ) -> Result<Vec<End>, ClientError> {
        let keys: Vec<String> = submissions.iter().map(|s| s.idempotency_key.clone()).collect();
        let mut progress = Progress::of(submissions);
        let (mut pause, mut last) = (PAUSE_MIN, Instant::now());
        while progress.is_under_way() {
            let before = progress.ended();
            self.attempt(&mut progress, bar).await?;
            if progress.ended() > before {
                (pause, last) = (PAUSE_MIN, Instant::now());
            } else if last.elapsed() > self.patience {
                break;
            }
            if progress.is_under_way() {
                bar.set_message(one_line(&progress.trouble).into_owned());
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
        let unfinished = End::Unfinished { reason: progress.trouble.clone() };
        let end = |key: &String| progress.end_of(key).unwrap_or_else(|| unfinished.clone());
        Ok(keys.iter().map(end).collect())
    }

    /// One stream of all that has not ended.
    async fn attempt(&self, progress: &mut Progress, bar: &ProgressBar) -> Result<(), ClientError> {
        let mut answers = match self.client.stream_records(progress.remaining()).await {
            Ok(answers) => answers,
            Err(error) => return progress.interrupted(error),
        };
        loop {
            match tokio::time::timeout(self.patience, answers.next()).await {
                Ok(Some(Ok(answer))) => {
                    if progress.take(answer, self.height_before) {
                        bar.inc(1);
                    }
                }
                Ok(Some(Err(status))) => return progress.interrupted(status.into()),
                Ok(None) => return Ok(()),
                Err(_) => {
                    let seconds = self.patience.as_secs();
                    progress.trouble = format!("nothing became final for {seconds} s");
                    return Ok(());
                }
            }
        }
    }
}

impl Progress {
    fn of(mut submissions: Vec<v1::RecordSubmission>) -> Self {
        let mut index = HashMap::new();
        submissions.retain(|submission| {
            let next = index.len();
            let key = submission.idempotency_key.clone();
            index.insert(key, next).is_none_or(|first| {
                // A repeat stands for its first.
                index.insert(submission.idempotency_key.clone(), first);
                false
            })
        });
        let count = submissions.len();
        Self {
            submissions: Arc::new(submissions),
            index,
            ends: vec![None; count],
            expiries: vec![0; count],
            trouble: String::new(),
        }
    }

    fn is_under_way(&self) -> bool {
        self.ends.iter().any(Option::is_none)
    }

    fn ended(&self) -> usize {
        self.ends.iter().flatten().count()
    }

    fn end_of(&self, key: &str) -> Option<End> {
        self.ends.get(*self.index.get(key)?)?.clone()
    }

    /// Requests for all that has not ended, made as the stream asks for them.
    fn remaining(&self) -> impl futures::Stream<Item = v1::StreamRecordsRequest> + Send + 'static {
        let remaining: Vec<usize> =
            (0..self.ends.len()).filter(|&index| self.ends[index].is_none()).collect();
        let submissions = self.submissions.clone();
        stream::iter(remaining).map(move |index| v1::StreamRecordsRequest {
            submission: submissions.get(index).cloned(),
            wait: true,
        })
    }

    /// Notes an answer; whether it ended a submission.
    fn take(&mut self, answer: v1::RecordResult, height_before: u64) -> bool {
        let Some(&index) = self.index.get(&answer.idempotency_key) else { return false };
        let end = match answer.phase() {
            Phase::Final | Phase::Rejected => end_of(&answer, height_before),
            Phase::Expired => self.expired(index),
            Phase::Accepted => {
                self.trouble = "accepted, and not final yet".into();
                None
            }
            Phase::Unspecified => {
                self.trouble = format!("not taken yet: {}", answer.reason);
                None
            }
        };
        let ended = end.is_some() && self.ends[index].is_none();
        if ended {
            self.ends[index] = end;
        }
        ended
    }

    fn expired(&mut self, index: usize) -> Option<End> {
        self.trouble = "expired before it became final".into();
        self.expiries[index] += 1;
        let reason = self.trouble.clone();
        (self.expiries[index] > EXPIRIES_MAX)
            .then(|| End::Rejected { code: "EXPIRED".into(), reason })
    }

    /// A broken connection, a node that restarts or is full: what has not ended is tried again.
    fn interrupted(&mut self, error: ClientError) -> Result<(), ClientError> {
        if !passes(&error) {
            return Err(error);
        }
        self.trouble = error.to_string();
        Ok(())
    }
}

/// Whether what went wrong may pass: a broken connection, a node that restarts or is full.
pub(super) fn passes(error: &ClientError) -> bool {
    match error {
        ClientError::Connect { .. } => true,
        ClientError::Refused(refused) => matches!(
            refused.code,
            Code::Unavailable
                | Code::ResourceExhausted
                | Code::Unknown
                | Code::Cancelled
                | Code::Aborted
                | Code::Internal
                | Code::DeadlineExceeded
        ),
        ClientError::Endpoint { .. }
        | ClientError::Certificate(_)
        | ClientError::File { .. }
        | ClientError::Answer(_) => false,
    }
}

/// How a submission ended, where it has.
pub(super) fn end_of(answer: &v1::RecordResult, height_before: u64) -> Option<End> {
    match answer.phase() {
        Phase::Final => Hash::from_slice(&answer.record_id).ok().map(|record_id| End::Final {
            record_id,
            height: answer.height,
            before: answer.height <= height_before,
        }),
        Phase::Rejected => Some(rejected(answer)),
        Phase::Expired | Phase::Accepted | Phase::Unspecified => None,
    }
}

fn rejected(answer: &v1::RecordResult) -> End {
    match Hash::from_slice(&answer.record_id) {
        Ok(record_id) if answer.reason_code == ALREADY_EXISTS => End::Otherwise { record_id },
        _ => End::Rejected { code: answer.reason_code.clone(), reason: answer.reason.clone() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(keys: &[&str]) -> Progress {
        let submission = |key: &&str| v1::RecordSubmission {
            record: None,
            idempotency_key: (*key).to_owned(),
            open: true,
            agreement: Vec::new(),
        };
        Progress::of(keys.iter().map(submission).collect())
    }

    fn answer(key: &str, phase: Phase) -> v1::RecordResult {
        v1::RecordResult {
            idempotency_key: key.into(),
            record_id: vec![7; 32],
            phase: phase as i32,
            height: 5,
            ..Default::default()
        }
    }

    fn remaining(progress: &Progress) -> Vec<String> {
        let requests = futures::executor::block_on(progress.remaining().collect::<Vec<_>>());
        requests.into_iter().filter_map(|r| Some(r.submission?.idempotency_key)).collect()
    }

    #[test]
    fn submissions_with_one_key_are_one() {
        let mut progress = progress(&["a", "b", "a", "c", "b"]);
        assert_eq!(remaining(&progress), ["a", "b", "c"]);
        assert!(progress.take(answer("c", Phase::Final), 0));
        assert!(matches!(progress.end_of("c"), Some(End::Final { .. })));
        assert_eq!(progress.end_of("a"), None);
        assert_eq!(remaining(&progress), ["a", "b"]);
    }

    #[test]
    fn only_final_and_rejected_end_a_submission() {
        let mut progress = progress(&["a"]);
        for phase in [Phase::Accepted, Phase::Unspecified, Phase::Expired] {
            assert!(!progress.take(answer("a", phase), 0), "{phase:?}");
        }
        assert!(progress.take(answer("a", Phase::Final), 0));
        assert!(!progress.take(answer("a", Phase::Final), 0), "ended once");
        assert!(!progress.take(answer("unknown", Phase::Final), 0));
    }

    #[test]
    fn what_expires_again_and_again_is_given_up() {
        let mut progress = progress(&["a"]);
        let ended = (0..=EXPIRIES_MAX).map(|_| progress.take(answer("a", Phase::Expired), 0));
        assert_eq!(ended.collect::<Vec<_>>(), [false, false, false, true]);
    }

    #[test]
    fn a_record_that_was_there_before_is_told_from_a_new_one() {
        for (height_before, before) in [(4, false), (5, true)] {
            let mut progress = progress(&["a"]);
            progress.take(answer("a", Phase::Final), height_before);
            let expected = End::Final { record_id: Hash([7; 32]), height: 5, before };
            assert_eq!(progress.end_of("a"), Some(expected));
        }
    }

    #[test]
    fn a_key_that_stands_for_another_body_names_the_record_that_stands() {
        let exists =
            v1::RecordResult { reason_code: ALREADY_EXISTS.into(), ..answer("a", Phase::Rejected) };
        assert_eq!(rejected(&exists), End::Otherwise { record_id: Hash([7; 32]) });
    }
}
