//! The reporter: puts proof that a validator broke a rule on the chain, once
//! ([`customhouse_ledger::finality::evidence`]).
//!
//! Every node that sees a breach holds the proof of it. They take turns, in the order of the validators: a
//! node that finds the breach on the chain when its turn comes says nothing. Two reports at once do no harm
//! either: the second is a no-op, because a breach has one dedupe key on the chain. One breach is enough to
//! name a culprit, so the driver tells no more than one of a validator in a while. A report is signed by the
//! node's key and goes through the outbox like a client's transaction, so that it survives a restart from
//! there on.

use std::time::Duration;

use customhouse_ledger::{
    agency::AgencyCode, chain::ChainReader, finality::evidence::Evidence, keys::SigningKey,
    transaction::VerifiedTransaction,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    clock,
    identity::{ClientIdentity, Role},
    services::Services,
    submissions::Submissions,
};

/// How long each node leaves to the one before it.
const TURN: Duration = Duration::from_secs(2);
/// The submitter of a report.
const SUBMITTER: &str = "node";

pub(crate) struct Reporter {
    reader: ChainReader,
    submissions: Submissions,
    agency: AgencyCode,
    signing_key: SigningKey,
}

impl Reporter {
    /// The reporter of a node, which signs its reports with this key.
    pub(crate) fn of(node: &Services, signing_key: SigningKey) -> Self {
        Self {
            reader: node.reader.clone(),
            submissions: node.submissions.clone(),
            agency: node.agency,
            signing_key,
        }
    }

    /// Runs until the driver has ended, or `stop`: what then still waits for this node's turn, which
    /// may be minutes away, is left to the others.
    pub(crate) async fn run(self, evidence: mpsc::Receiver<Evidence>, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.report_all(evidence) => {}
        }
    }

    async fn report_all(&self, mut evidence: mpsc::Receiver<Evidence>) {
        while let Some(evidence) = evidence.recv().await {
            tokio::time::sleep(TURN * self.turn(&evidence)).await;
            if let Err(error) = self.report(&evidence).await {
                let culprit = evidence.culprit();
                tracing::error!(%culprit, error, "a breach of the rules could not be reported");
            }
        }
    }

    /// How many others come first: the validators before this one, without the culprit; for an
    /// observer all.
    fn turn(&self, evidence: &Evidence) -> u32 {
        let validators = &self.reader.tip().validators;
        let before = validators.as_slice().iter().take_while(|v| v.agency != self.agency);
        let count = before.filter(|validator| validator.key != evidence.culprit()).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    async fn report(&self, evidence: &Evidence) -> Result<(), String> {
        let known = self.reader.misbehaviour(&evidence.dedupe_key());
        if known.map_err(|error| error.to_string())?.is_some() {
            return Ok(());
        }
        let parameters = self.reader.tip().parameters;
        let transaction = VerifiedTransaction::report(
            evidence,
            SUBMITTER,
            self.agency,
            clock::unix_ms() + parameters.transaction_lifetime_ms_max,
            &self.reader.chain_id(),
            &self.signing_key,
        );
        let transaction = transaction.map_err(|error| error.to_string())?;
        let (agency, name, role) = (self.agency, SUBMITTER.to_owned(), Role::Operator);
        let node = ClientIdentity { agency, name, role, certificate: [0; 32] };
        let accepted = self.submissions.submit_transaction(&node, transaction).await;
        let accepted = accepted.map_err(|refusal| refusal.to_string())?;
        let (culprit, (height, view)) = (evidence.culprit(), evidence.place());
        let record = accepted.record_id;
        tracing::warn!(%culprit, height, view, %record, "a breach of the rules is being recorded");
        Ok(())
    }
}
