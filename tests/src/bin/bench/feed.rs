//! How fast a subscriber catches up, and how fast receipts come in bulk.

use std::time::Instant;

use anyhow::Context as _;
use customhouse_ledger::hash::Hash;
use customhouse_proto::v1;

use crate::{
    cluster::Cluster,
    report::{Goal, Report, Section},
};

/// What is to be reached.
const RECORDS_GOAL: f64 = 20_000.0;
/// Receipts that are fetched.
const RECEIPTS: usize = 16_384;
/// Of one call.
const RECEIPTS_A_CALL: usize = 4096;

/// Follows the whole ledger of a node from the genesis, with all bytes and without; then fetches receipts.
pub(crate) async fn measure(cluster: &Cluster, report: &mut Report) -> anyhow::Result<()> {
    let client = &cluster.nodes[0].broker;
    let mut ids = Vec::new();
    for (without_records, name) in [(false, "caught up"), (true, "caught up without bytes")] {
        ids.clear();
        let request = v1::SubscribeRequest { without_records, ..Default::default() };
        let begun = Instant::now();
        let mut feed = client.subscribe(request).await?;
        while let Some(message) = feed.message().await? {
            let newest = message.freshness.context("no freshness")?.height;
            for record in &message.records {
                ids.push(Hash::from_slice(&record.record_id)?);
            }
            if message.height >= newest {
                break;
            }
        }
        let per_second = ids.len() as f64 / begun.elapsed().as_secs_f64();
        let goal = Goal::AtLeast(RECORDS_GOAL);
        report.goal(Section::Feed, name, per_second, "records/s", goal);
    }
    report.figure(Section::Feed, "records", ids.len() as f64, "");
    ids.truncate(RECEIPTS);
    let (begun, mut receipts) = (Instant::now(), 0);
    for ids in ids.chunks(RECEIPTS_A_CALL) {
        let mut batches = client.receipts(ids).await?;
        while let Some(batch) = batches.message().await? {
            receipts += batch.results.iter().filter(|result| result.receipt.is_some()).count();
        }
    }
    anyhow::ensure!(receipts == ids.len(), "{receipts} receipts of {}", ids.len());
    let per_second = receipts as f64 / begun.elapsed().as_secs_f64();
    report.figure(Section::Feed, "receipts in bulk", per_second, "receipts/s");
    Ok(())
}
