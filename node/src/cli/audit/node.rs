//! Comparing certified headers that one has with a node's: its head must be certified, and its log must
//! continue theirs.

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
    pub(super) reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fork: Option<Fork>,
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.node, self.verdict, one_line(&self.reason))
    }
}

/// Asks the node for its head and for the consistency of its log with the newest header seen.
/// Gives the head with its certificate, too.
pub(super) async fn compare(
    seen: &mut Seen,
    connection: &Connection,
) -> anyhow::Result<(Header, Vec<u8>, Comparison)> {
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
            return Ok((header, certificate, comparison));
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
        comparison.reason = "its head is certified; there was nothing to compare it with".into();
    }
    Ok((header, certificate, comparison))
}

/// What two certified headers say by themselves: of two logs of one size there is nothing left to prove,
/// and an empty one is the beginning of any.
fn without_proof(from: &Header, to: &Header) -> Option<(Verdict, String)> {
    if from.log_size == to.log_size && from.log_root != to.log_root {
        let reason = format!(
            "heights {} and {} certify different logs of {} transactions",
            from.height, to.height, from.log_size
        );
        return Some((Verdict::Fork, reason));
    }
    let nothing_to_prove = from.log_size == to.log_size || from.log_size == 0;
    nothing_to_prove.then(|| {
        let reason = match from.log_size == to.log_size {
            true => format!("both certify the same log of {} transactions", to.log_size),
            false => "there were no transactions yet".to_owned(),
        };
        (Verdict::Verified, reason)
    })
}

/// Whether the longer of two certified logs begins with the shorter.
async fn continues(a: &Header, b: &Header, connection: &Connection) -> (Verdict, String) {
    let (from, to) = if a.log_size <= b.log_size { (a, b) } else { (b, a) };
    if let Some(decided) = without_proof(from, to) {
        return decided;
    }
    let path = match connection.client.consistency_proof(from.log_size, to.log_size).await {
        Ok(path) => path,
        // What one has may be newer than what this node has.
        Err(error) => {
            let reason = format!("no proof that its log continues what was seen: {error}");
            return (Verdict::NotEnoughEvidence, reason);
        }
    };
    let consistent =
        merkle::verify_consistency(from.log_size, to.log_size, &from.log_root, &to.log_root, &path);
    match consistent {
        Ok(()) => {
            let reason = format!(
                "the log of {} transactions continues the log of {}",
                to.log_size, from.log_size
            );
            (Verdict::Verified, reason)
        }
        Err(error) => {
            let reason = format!(
                "its proof does not show that its log continues what was seen ({error}); \
                 ask another node"
            );
            (Verdict::NotEnoughEvidence, reason)
        }
    }
}

#[cfg(test)]
mod tests {
    use customhouse_ledger::hash::Hash;

    use super::*;
    use crate::cli::audit::tests::genesis;

    #[test]
    fn two_certified_logs_of_one_size_are_the_same_or_the_proof_of_a_fork() {
        let first =
            Header { height: 5, log_size: 7, log_root: Hash([1; 32]), ..genesis().header() };
        let verdict = |later: &Header| without_proof(&first, later).map(|(verdict, _)| verdict);
        let later = Header { height: 9, ..first.clone() };
        assert_eq!(verdict(&later), Some(Verdict::Verified), "empty blocks between them");
        let other = Header { log_root: Hash([2; 32]), ..later.clone() };
        assert_eq!(verdict(&other), Some(Verdict::Fork));
        assert_eq!(verdict(&Header { log_size: 8, ..other }), None, "a proof is needed");
        let empty = Header { log_size: 0, ..first.clone() };
        let decided = without_proof(&empty, &later).map(|(verdict, _)| verdict);
        assert_eq!(decided, Some(Verdict::Verified), "nothing was before");
    }
}
