//! Comparing a certified header that one has with a node's: its head must be certified, and its log must
//! continue the header's.

use customhouse_ledger::{
    finality::header::Header,
    hash::Hash,
    merkle,
    proofs::verifier::{FinalityError, Verifier},
};

use crate::{asked::AskedNode, head::Certified, seen::may_follow, validators, verdict::Verdict};

/// What a node's head says, held against what was known.
#[derive(Debug)]
pub struct HeadComparison {
    /// What it comes to.
    pub verdict: Verdict,
    /// A sentence.
    pub reason: String,
    /// With [`Verdict::Verified`]: the path between the two logs; empty where none is needed.
    pub path: Vec<Hash>,
    /// With [`Verdict::Fork`]: the certified header that contradicts the known one.
    pub other: Option<Certified>,
}

impl HeadComparison {
    /// A finding with no more than its reason.
    pub fn new(verdict: Verdict, reason: impl Into<String>) -> Self {
        Self { verdict, reason: reason.into(), path: Vec::new(), other: None }
    }

    /// A fork, with the header that contradicts the known one.
    pub fn fork(reason: impl Into<String>, other: Certified) -> Self {
        Self { other: Some(other), ..Self::new(Verdict::Fork, reason) }
    }
}

/// Asks a node for its head, and lets the verifier follow the changes of validators that lead to it. The
/// inner error says why the head is not certified.
pub async fn head(
    verifier: &mut Verifier,
    node: AskedNode<'_>,
) -> anyhow::Result<Result<Certified, FinalityError>> {
    let (header, certificate) = node.client.header(None).await?;
    // After the head, so that no change comes between the two.
    validators::follow_node(verifier, node).await?;
    let certificate = certificate.map(|certificate| certificate.encode()).unwrap_or_default();
    Ok(Certified::check(&header.encode(), certificate, verifier))
}

/// The certified header that a node has at a height; `None` where it gives none.
pub async fn header_at(height: u64, verifier: &Verifier, node: AskedNode<'_>) -> Option<Certified> {
    let (header, certificate) = node.client.header(Some(height)).await.ok()?;
    let certificate = certificate.map(|certificate| certificate.encode()).unwrap_or_default();
    let found = Certified::check(&header.encode(), certificate, verifier).ok()?;
    (found.header.height == height).then_some(found)
}

/// What a node's certified head says beside the newest that is known, if there is any.
pub async fn against(
    known: Option<&Header>,
    head: &Certified,
    verifier: &Verifier,
    node: AskedNode<'_>,
) -> HeadComparison {
    match known {
        None => HeadComparison::new(
            Verdict::Verified,
            "its head is certified; there was nothing to compare it with",
        ),
        Some(known) => continues(known, head, verifier, node).await,
    }
}

/// What two certified headers say by themselves: two blocks of one height, and different logs of one
/// size, are a fork; two logs of one size leave nothing to prove, and an empty one is the beginning
/// of any. Time only goes on, and a log only grows.
pub fn without_proof(known: &Header, head: &Certified) -> Option<HeadComparison> {
    let found = &head.header;
    if known.height == found.height && known.hash() != found.hash() {
        let reason = format!("another certified block at height {}", known.height);
        return Some(HeadComparison::fork(reason, head.clone()));
    }
    if known.log_size == found.log_size && known.log_root != found.log_root {
        let reason = format!(
            "heights {} and {} certify different logs of {} transactions",
            known.height, found.height, known.log_size
        );
        return Some(HeadComparison::fork(reason, head.clone()));
    }
    let (below, above) = match known.height <= found.height {
        true => (known, found),
        false => (found, known),
    };
    if below.height < above.height && !may_follow(below, above) {
        let reason = format!(
            "the certified headers of heights {} and {} are not of one chain",
            below.height, above.height
        );
        return Some(HeadComparison::fork(reason, head.clone()));
    }
    if known.log_size == found.log_size {
        let reason = format!("both certify the same log of {} transactions", known.log_size);
        return Some(HeadComparison::new(Verdict::Verified, reason));
    }
    if known.height > found.height {
        let reason = format!(
            "its head is older than what was seen, height {} after {}: it is behind, or shows an old \
             head as its newest; ask it again, or another node",
            found.height, known.height
        );
        return Some(HeadComparison::new(Verdict::NotEnoughEvidence, reason));
    }
    let reason = "there were no transactions yet";
    (known.log_size == 0).then(|| HeadComparison::new(Verdict::Verified, reason))
}

/// Whether a node's log continues the known one, and its block of the known height is the known one:
/// another one, certified, is the proof of a fork, also where only the roots beside the log differ; and two
/// blocks of one height convict those who signed both.
async fn continues(
    known: &Header,
    head: &Certified,
    verifier: &Verifier,
    node: AskedNode<'_>,
) -> HeadComparison {
    let finding = match without_proof(known, head) {
        Some(decided) => decided,
        None => proven(known, &head.header, node).await,
    };
    // The genesis's is known to both, and the newest was compared.
    if known.height == 0 || known.height >= head.header.height {
        return finding;
    }
    match header_at(known.height, verifier, node).await {
        Some(own) if own.header.hash() == known.hash() => finding,
        Some(other) => {
            let reason = format!("another certified block at height {}", known.height);
            HeadComparison::fork(reason, other)
        }
        None if finding.verdict == Verdict::Verified => {
            let reason = format!(
                "its log continues what was seen, but it does not show its certified block of height \
                 {}; ask it again, or another node",
                known.height
            );
            HeadComparison::new(Verdict::NotEnoughEvidence, reason)
        }
        None => finding,
    }
}

/// Asks for the proof that the longer log begins with the shorter.
async fn proven(from: &Header, to: &Header, node: AskedNode<'_>) -> HeadComparison {
    let path = match node.client.consistency_proof(from.log_size, to.log_size).await {
        Ok(path) => path,
        Err(error) => {
            let reason = format!("no proof that its log continues what was seen: {error}");
            return HeadComparison::new(Verdict::NotEnoughEvidence, reason);
        }
    };
    let (from_size, to_size) = (from.log_size, to.log_size);
    match merkle::verify_consistency(from_size, to_size, &from.log_root, &to.log_root, &path) {
        Ok(()) => {
            let reason =
                format!("the log of {to_size} transactions continues the log of {from_size}");
            HeadComparison { path, ..HeadComparison::new(Verdict::Verified, reason) }
        }
        Err(error) => {
            let reason = format!(
                "its proof does not show that its log continues what was seen ({error}); ask another \
                 node"
            );
            HeadComparison::new(Verdict::NotEnoughEvidence, reason)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::genesis;

    fn verdict(known: &Header, found: Header) -> Option<Verdict> {
        let head = Certified { header: found, certificate: vec![], signers: 3 };
        without_proof(known, &head).map(|finding| finding.verdict)
    }

    #[test]
    fn two_certified_headers_tell_some_things_by_themselves() {
        let first =
            Header { height: 5, log_size: 7, log_root: Hash([1; 32]), ..genesis().header() };
        let time_ms = first.time_ms + 1;
        let later = Header { height: 9, time_ms, log_start: 7, ..first.clone() };
        assert_eq!(verdict(&first, first.clone()), Some(Verdict::Verified), "the same");
        assert_eq!(verdict(&first, later.clone()), Some(Verdict::Verified), "empty blocks between");
        assert_eq!(verdict(&later, first.clone()), Some(Verdict::Verified), "the same log");
        let twin = Header { time_ms: first.time_ms + 1, ..first.clone() };
        assert_eq!(verdict(&first, twin), Some(Verdict::Fork), "two blocks of a height");
        let other = Header { log_root: Hash([2; 32]), ..later.clone() };
        assert_eq!(verdict(&first, other.clone()), Some(Verdict::Fork), "two logs of a size");
        let longer = Header { log_size: 8, ..other };
        assert_eq!(verdict(&first, longer.clone()), None, "a proof is needed");
        assert_eq!(verdict(&longer, first.clone()), Some(Verdict::NotEnoughEvidence), "old as new");
        let backdated = Header { time_ms: 1, ..longer.clone() };
        assert_eq!(verdict(&first, backdated), Some(Verdict::Fork), "not of one chain");
        let shorter = Header { log_start: 3, log_size: 3, ..longer };
        assert_eq!(verdict(&first, shorter), Some(Verdict::Fork), "a log that shrinks");
        let empty = Header { height: 1, time_ms: 1, log_size: 0, ..first.clone() };
        assert_eq!(verdict(&empty, later), Some(Verdict::Verified), "nothing was before");
    }
}
