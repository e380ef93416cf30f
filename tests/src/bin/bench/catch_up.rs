//! A node that was away while the others went on.

use std::time::{Duration, Instant};

use crate::{
    Args,
    cluster::Cluster,
    load::{Load, Pace},
    report::{Goal, Report, Section},
    work::Kind,
};

/// How many times faster than the network commits a node should be that catches up.
const RATIO_GOAL: f64 = 5.0;

/// Kills a node, loads the others, starts it again, and times its way to the newest block.
pub(crate) async fn measure(
    cluster: &mut Cluster,
    kind: Kind,
    args: &Args,
    report: &mut Report,
) -> anyhow::Result<()> {
    let away = cluster.nodes.len() - 1;
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
    node.until(|_| true).await?;
    let answered = begun.elapsed();
    node.until(|status| status.height >= missed.height).await?;
    let all = begun.elapsed();
    let cpu_s = cluster.usage()?.get(away).map_or(0.0, |usage| usage.cpu_s);
    let mut figure = |name: &str, value, unit| {
        report.figure(section, format!("{signed}, {name}"), value, unit);
    };
    figure("blocks behind", missed.blocks as f64, "");
    figure("start until it answers", answered.as_secs_f64(), "s");
    figure("start until it has the newest block", all.as_secs_f64(), "s");
    figure("processor time of 10,000 records", cpu_s / missed.records as f64 * 1e4, "s");
    let caught_up = missed.records as f64 / all.as_secs_f64();
    figure("caught up, the start included", caught_up, "records/s");
    let name = format!("{signed}, caught up to committed");
    report.goal(section, name, caught_up / committed, "", Goal::AtLeast(RATIO_GOAL));
    Ok(())
}
