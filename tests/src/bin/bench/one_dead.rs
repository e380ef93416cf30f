//! The same load on four nodes, on three of them, and on three to which the fourth returns.

use std::time::Duration;

use crate::{
    Args,
    cluster::Cluster,
    load::{Load, Outcome, Pace},
    report::{Goal, Report, Section},
    work::Kind,
};

const SECTION: Section = Section::OneDead;
/// The share of what four nodes reach that three of them should reach.
const RATIO_GOAL: f64 = 0.9;

/// Kills a node and starts it again, and compares. What the first failures of the dead leader cost
/// is told apart from what it costs to be three.
pub(crate) async fn measure(
    cluster: &mut Cluster,
    kind: Kind,
    args: &Args,
    report: &mut Report,
) -> anyhow::Result<()> {
    let signed = kind.name();
    let full = |time, returns| Load { kind, pace: Pace::Full, time, returns };
    let (time, last) = (args.load_time(), cluster.nodes.len() - 1);
    let healthy = full(time, None).run(cluster).await?;
    let healthy = tell(&format!("{signed}, healthy"), healthy, cluster, report).await?;
    cluster.kill_node(last).await?;
    let noticing = full(time.min(Duration::from_secs(5)), None).run(cluster).await?;
    tell(&format!("{signed}, one just died"), noticing, cluster, report).await?;
    let dead = full(time, None).run(cluster).await?;
    let dead = tell(&format!("{signed}, one dead"), dead, cluster, report).await?;
    let goal = Goal::AtLeast(RATIO_GOAL);
    report.goal(SECTION, format!("{signed}, one dead to healthy"), dead / healthy, "", goal);
    let returning = full(time, Some(last)).run(cluster).await?;
    let back = (returning.elapsed - returning.answered).as_secs_f64();
    tell(&format!("{signed}, returning"), returning, cluster, report).await?;
    let name = format!("{signed}, returned node behind the end by");
    report.figure(SECTION, name, back, "s");
    Ok(())
}

/// Reports a load, and gives its records a second.
async fn tell(
    what: &str,
    mut outcome: Outcome,
    cluster: &Cluster,
    report: &mut Report,
) -> anyhow::Result<f64> {
    // The clients of the nodes that were up all the time: a returning node may take longer.
    let per_second = outcome.records as f64 / outcome.answered.as_secs_f64();
    report.figure(SECTION, what, per_second, "records/s");
    report.times(SECTION, what, &mut outcome.times_ms, None);
    let mut later_views = 0;
    for height in outcome.height - outcome.blocks + 1..=outcome.height {
        let (header, _) = cluster.nodes[0].operator.header(Some(height)).await?;
        later_views += u32::from(header.view > 1);
    }
    report.figure(SECTION, format!("{what}, blocks"), outcome.blocks as f64, "");
    report.figure(SECTION, format!("{what}, in later views"), f64::from(later_views), "");
    Ok(per_second)
}
