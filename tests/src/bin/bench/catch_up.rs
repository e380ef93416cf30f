//! A node that was away while the others went on.

use std::time::{Duration, Instant};

use crate::{
    Args,
    cluster::Cluster,
    load::{Load, Pace},
    report::{Report, Section},
    work::Kind,
};

/// Kills a node, loads the others, starts it again, and times its way to the newest block.
pub(crate) async fn measure(
    cluster: &mut Cluster,
    args: &Args,
    report: &mut Report,
) -> anyhow::Result<()> {
    let away = cluster.nodes.len() - 1;
    cluster.kill_node(away).await?;
    let time = args.load_time().max(Duration::from_secs(2)) / 2;
    let load = Load { kind: Kind::NodeSigned, pace: Pace::Full, time, returns: None };
    let missed = load.run(cluster).await?;
    let section = Section::CatchUp;
    let per_second = missed.records_per_second();
    report.figure(section, "committed by three of four nodes", per_second, "records/s");
    let begun = Instant::now();
    cluster.start_node(away)?;
    let node = &cluster.nodes[away];
    let up = node.until(|_| true).await?;
    let answered = begun.elapsed();
    let behind = missed.height - up.height;
    node.until(|status| status.height >= missed.height).await?;
    let (all, fetching) = (begun.elapsed(), begun.elapsed() - answered);
    report.figure(section, "start until it answers", answered.as_secs_f64(), "s");
    report.figure(section, "blocks behind when it answers", behind as f64, "");
    report.figure(section, "from the answer to the newest block", fetching.as_secs_f64(), "s");
    let per_second = missed.records as f64 / all.as_secs_f64();
    report.figure(section, "caught up, the start included", per_second, "records/s");
    Ok(())
}
