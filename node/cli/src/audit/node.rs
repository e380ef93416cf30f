//! Comparing certified headers that one has with a node's: its head must be certified, and its log must
//! continue theirs.

use std::fmt;

use customhouse_audit::{
    compare::{HeadComparison, against, head},
    seen::{Fork, Seen},
    verdict::Verdict,
};
use serde::Serialize;

use crate::{connect::Connection, output::one_line};

#[derive(Serialize)]
pub(super) struct Comparison {
    pub(super) verdict: Verdict,
    node: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    head_height: Option<u64>,
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
pub(super) async fn compare(
    seen: &mut Seen,
    connection: &Connection,
) -> anyhow::Result<Comparison> {
    let node = connection.profile.node.clone();
    let newest = seen.newest().cloned();
    let found = match head(&mut seen.verifier, connection.node()).await? {
        Err(error) => {
            let finding = HeadComparison::new(
                Verdict::of_finality(&error),
                format!("its head is not certified: {error}"),
            );
            (None, finding)
        }
        Ok(head) => {
            let finding = against(newest.as_ref(), &head, &seen.verifier, connection.node()).await;
            (Some(head), finding)
        }
    };
    let (head, finding) = found;
    let both = newest.zip(finding.other.as_ref());
    let fork = both.and_then(|(known, other)| Fork::between(&known, &other.header));
    let head_height = head.as_ref().map(|head| head.header.height);
    if let Some(head) = head {
        // A second block of that height is in the finding already.
        let _in_the_finding = seen.note(&head.header, head.signers);
    }
    let HeadComparison { verdict, reason, .. } = finding;
    Ok(Comparison { verdict, node, head_height, reason, fork })
}
