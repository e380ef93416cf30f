//! How large receipts are, and what checking them takes.

use std::time::Instant;

use customhouse_ledger::{hash::Hash, proofs::verifier::Verifier};
use prost::Message as _;

use crate::{
    cluster::Cluster,
    report::{Report, Section},
};

/// Fetches the receipts of these records, and verifies them against the genesis.
pub(crate) async fn measure(
    cluster: &Cluster,
    record_ids: &[Hash],
    report: &mut Report,
) -> anyhow::Result<()> {
    let verifier = Verifier::new(&cluster.genesis);
    let node = &cluster.nodes[0];
    let (mut fetched, mut verified, mut bytes) = (vec![], vec![], 0);
    for record_id in record_ids {
        let begun = Instant::now();
        let receipt = node.operator.receipt(*record_id, false).await?.encode_to_vec();
        fetched.push(begun.elapsed().as_secs_f64() * 1e3);
        bytes += receipt.len();
        let begun = Instant::now();
        verifier.verify_receipt(&receipt)?;
        verified.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    let section = Section::Receipts;
    let mean = bytes as f64 / record_ids.len().max(1) as f64;
    report.figure(section, "receipt with its record", mean, "bytes");
    report.times(section, "fetched", &mut fetched, None);
    report.times(section, "verified offline", &mut verified, None);
    Ok(())
}
