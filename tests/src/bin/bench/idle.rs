//! One record at a time, on a network that has nothing else to do.

use std::time::{Duration, Instant};

use customhouse_proto::v1;

use crate::{
    Args,
    cluster::Cluster,
    report::{Goal, Report, Section},
    work,
};

/// Records submitted.
const RECORDS: usize = 800;
/// Pause between a record's end and the next: the other nodes commit it meanwhile.
const REST: Duration = Duration::from_millis(20);
/// What the median should be below.
const MEDIAN_MS: f64 = 5.0;

/// Submits through one node, and tells the cases apart in which that node was the leader.
pub(crate) async fn measure(
    cluster: &Cluster,
    args: &Args,
    report: &mut Report,
) -> anyhow::Result<()> {
    let gateway = &cluster.nodes[0];
    let mut taken = Vec::new();
    let before = cpu_s(cluster)?;
    for number in 0..args.repetitions(RECORDS) {
        let submission = work::submission(gateway.agency, number as u64);
        let begun = Instant::now();
        let results = gateway.broker.submit_records(vec![submission], true).await?;
        let time_ms = begun.elapsed().as_secs_f64() * 1e3;
        let [result] = &results[..] else { anyhow::bail!("{} results for one", results.len()) };
        anyhow::ensure!(result.phase() == v1::Phase::Final, "not final: {result:?}");
        taken.push((result.height, time_ms));
        tokio::time::sleep(REST).await;
    }
    let cpu_ms = (cpu_s(cluster)? - before) * 1e3 / taken.len() as f64;
    report.figure(Section::Idle, "processor time of one record, all nodes", cpu_ms, "ms");
    let validators = cluster.genesis.validators();
    let own = validators.as_slice().iter().find(|validator| validator.agency == gateway.agency);
    let (mut all, mut led, mut followed, mut later_views) = (vec![], vec![], vec![], 0);
    for (height, time_ms) in taken {
        let (header, _) = gateway.operator.header(Some(height)).await?;
        all.push(time_ms);
        if own.is_some_and(|own| *own.key.as_bytes() == header.proposer) {
            led.push(time_ms);
        } else {
            followed.push(time_ms);
        }
        later_views += u32::from(header.view > 1);
    }
    let section = Section::Idle;
    report.times(section, "final, one at a time", &mut all, Some(Goal::Below(MEDIAN_MS)));
    report.times(section, "final where the gateway leads", &mut led, None);
    report.times(section, "final where another leads", &mut followed, None);
    report.figure(section, "blocks that took more than one view", f64::from(later_views), "");
    Ok(())
}

fn cpu_s(cluster: &Cluster) -> anyhow::Result<f64> {
    Ok(cluster.usage()?.iter().map(|usage| usage.cpu_s).sum())
}
