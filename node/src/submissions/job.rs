//! What the submissions' worker is asked to do.

use std::sync::Arc;

use customhouse_ledger::{chain::BlockOutcome, hash::Hash, transaction::VerifiedTransaction};
use tokio::sync::oneshot;

use super::{
    ends::Told,
    outcome::{Accepted, SubmissionRefusal},
    prepare::Prepared,
};

/// What the worker is asked to do.
pub(super) enum Job {
    Records {
        records: Vec<Prepared>,
        reply: oneshot::Sender<Vec<Result<Accepted, SubmissionRefusal>>>,
    },
    Transaction {
        transaction: Arc<VerifiedTransaction>,
        reply: oneshot::Sender<Result<Accepted, SubmissionRefusal>>,
    },
    WaitRecord {
        record_id: Hash,
        reply: oneshot::Sender<Result<Told, SubmissionRefusal>>,
    },
    WaitTransaction {
        id: Hash,
        reply: oneshot::Sender<Result<Told, SubmissionRefusal>>,
    },
    Committed(Arc<BlockOutcome>),
    /// Asks for a sign of life.
    Ping(oneshot::Sender<()>),
    /// Commits were missed: every pending transaction is looked up on the ledger.
    LookAgain,
}
