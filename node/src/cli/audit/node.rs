//! Comparing receipts with a node: its head must be certified, and its log must continue theirs.

use std::fmt;

use customhouse_ledger::{header::Header, merkle};
use serde::Serialize;

use super::{Fork, Seen, Verdict, validators};
use crate::cli::{connect::Connection, output::one_line};

#[derive(Serialize)]
pub(super) struct Comparison {
    pub(super) verdict: Verdict,
    node: String,
    head_height: u64,
    reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fork: Option<Fork>,
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.node, self.verdict, one_line(&self.reason))
    }
}

/// Asks the node for its head and for the consistency of its log with the newest header seen.
pub(super) async fn compare(
    seen: &mut Seen,
    connection: &Connection,
) -> anyhow::Result<Comparison> {
    let (header, certificate) = connection.client.header(None).await?;
    let certificate = certificate.map(|certificate| certificate.encode()).unwrap_or_default();
    // After the head, so that no change comes between the two.
    validators::follow_node(&mut seen.verifier, connection).await?;
    let mut comparison = Comparison {
        verdict: Verdict::Verified,
        node: connection.profile.node.clone(),
        head_height: header.height,
        reason: String::new(),
        fork: None,
    };
    let finalized_by = match seen.verifier.verify_final(&header.encode(), &certificate) {
        Ok((_, signers)) => signers.len(),
        Err(error) => {
            comparison.verdict = Verdict::Invalid;
            comparison.reason = format!("its head is not certified: {error}");
            return Ok(comparison);
        }
    };
    let newest = seen.newest().cloned();
    if let Err(fork) = seen.note(&header, finalized_by) {
        comparison.verdict = Verdict::Fork;
        comparison.reason = format!("another certified block at height {}", fork.height);
        comparison.fork = Some(fork);
    } else if let Some(newest) = newest {
        (comparison.verdict, comparison.reason) = continues(&newest, &header, connection).await;
    } else {
        comparison.reason = "its head is certified; there was no receipt to compare it with".into();
    }
    Ok(comparison)
}

/// Whether the longer of two certified logs begins with the shorter.
async fn continues(a: &Header, b: &Header, connection: &Connection) -> (Verdict, String) {
    let (from, to) = if a.log_size <= b.log_size { (a, b) } else { (b, a) };
    let path = match connection.client.consistency_proof(from.log_size, to.log_size).await {
        Ok(path) => path,
        // The receipts may be newer than what this node has.
        Err(error) => {
            let reason = format!("no proof that its log continues the receipts': {error}");
            return (Verdict::NotEnoughEvidence, reason);
        }
    };
    let consistent =
        merkle::verify_consistency(from.log_size, to.log_size, &from.log_root, &to.log_root, &path);
    match consistent {
        Ok(()) => {
            let reason = format!(
                "its log of {} transactions continues the receipts' of {}",
                b.log_size, a.log_size
            );
            (Verdict::Verified, reason)
        }
        Err(error) => {
            let reason = format!(
                "its proof does not show that its log continues the receipts' ({error}); \
                 ask another node"
            );
            (Verdict::NotEnoughEvidence, reason)
        }
    }
}
