//! A node that was away while the others went on.

use std::time::{Duration, Instant};

use crate::{
    Args,
    cluster::Cluster,
    load::{Load, Pace},
    report::{Goal, Report, Section},
    work::Kind,
};

/// How many times faster a node that catches up should be than the network commits.
const RATIO_GOAL: f64 = 5.0;

/// Kills a node, loads the others, starts it again, and times its way to the newest block: from its
/// start, and from when it answers. In between it recovers its store after the kill, which takes as
/// long however far behind it is.
pub(crate) async fn measure(
    cluster: &mut Cluster,
    kind: Kind,
    args: &Args,
    report: &mut Report,
) -> anyhow::Result<()> {
    let away = cluster.nodes.len() - 1;
    let before = cluster.nodes[away].until(|_| true).await?.log_size;
    cluster.kill_node(away).await?;
    let time = args.load_time().max(Duration::from_secs(2));
    let load = Load { kind, pace: Pace::Full, time, returns: None };
    let missed = load.run(cluster).await?;
    let section = Section::CatchUp;
    let signed = kind.name();
    let committed = missed.records_per_second();
    let name = format!("{signed}, committed by three of four nodes");
    report.figure(section, name, committed, "records/s");
    let begun = Instant::now();
    cluster.start_node(away)?;
    let node = &cluster.nodes[away];
    let first = node.until(|_| true).await?.log_size;
    let answered = begun.elapsed();
    let last = node.until(|status| status.height >= missed.height).await?.log_size;
    let all = begun.elapsed();
    let cpu_s = cluster.usage()?.get(away).map_or(0.0, |usage| usage.cpu_s);
    let mut figure = |name: &str, value, unit| {
        report.figure(section, format!("{signed}, {name}"), value, unit);
    };
    figure("blocks behind", missed.blocks as f64, "");
    figure("start until it answers", answered.as_secs_f64(), "s");
    figure("start until it has the newest block", all.as_secs_f64(), "s");
    figure("processor time of 10,000 records", cpu_s / missed.records as f64 * 1e4, "s");
    figure("caught up, the start included", missed.records as f64 / all.as_secs_f64(), "records/s");
    let part = (last - first) as f64 / (last - before).max(1) as f64;
    let caught_up = part * missed.records as f64 / (all - answered).as_secs_f64();
    figure("caught up, from its first answer", caught_up, "records/s");
    let name = format!("{signed}, caught up to committed");
    report.goal(section, name, caught_up / committed, "", Goal::AtLeast(RATIO_GOAL));
    Ok(())
}
