//! Measures a network of four agencies on this machine.
//!
//! Every figure of the network comes from four real node processes with their stores on disk, every
//! sync real, and from clients that speak gRPC with mutual TLS to them. The clients run in this
//! process, on the same processors as the nodes. What concerns one store or one proof alone is
//! measured on chains that this process makes. Nothing here decides whether a test passes.

mod baseline;
mod catch_up;
mod cluster;
mod feed;
mod growing;
mod idle;
mod load;
mod machine;
mod offline;
mod one_dead;
mod proofs;
mod receipts;
mod report;
mod store_check;
mod usage;
mod work;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context as _;
use clap::Parser;

use crate::{
    cluster::Cluster,
    load::{Load, Pace},
    report::{Report, Section},
    work::Kind,
};

/// Measure records/s, latency, processor time, disk, memory, receipts and catching up, on four
/// nodes of this machine.
#[derive(Parser)]
pub(crate) struct Args {
    /// The program whose nodes are measured.
    #[arg(long, value_name = "PROGRAM")]
    customhouse: PathBuf,
    /// Also write the figures as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// How long each load lasts.
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    seconds: u64,
    /// Five seconds a load, and fewer repetitions: to see that all is well.
    #[arg(long)]
    quick: bool,
    /// The ledger that is grown has at most this many records: a power of ten, up to 10,000,000.
    /// That many take a quarter of an hour and 10 GB of disk.
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    records_max: u64,
    /// Only these sections.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "SECTION")]
    only: Vec<Section>,
    /// Where the network is laid out, in a directory of its own that is removed at the end. It
    /// should be on a disk, for the syncs to be real.
    #[arg(long, value_name = "DIR", default_value = "/var/tmp")]
    dir: PathBuf,
    /// Leave the network's directory, with the nodes' logs.
    #[arg(long)]
    keep: bool,
}

impl Args {
    fn load_time(&self) -> Duration {
        Duration::from_secs(if self.quick { 5 } else { self.seconds.max(1) })
    }

    fn repetitions(&self, full: usize) -> usize {
        if self.quick { full.div_ceil(5) } else { full }
    }

    fn has(&self, section: Section) -> bool {
        self.only.is_empty() || self.only.contains(&section)
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = tokio::runtime::Runtime::new().context("no runtime");
    match runtime.and_then(|runtime| runtime.block_on(measure(&args))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(args: &Args) -> anyhow::Result<()> {
    let mut report = Report::new(machine::describe());
    measure_offline(args, &mut report)?;
    if args.has(Section::Idle) {
        let cluster = Cluster::start(args).await?;
        idle::measure(&cluster, args, &mut report).await?;
        cluster.stop().await?;
    }
    for kind in [Kind::ClientSigned, Kind::NodeSigned] {
        let both = args.has(Section::Receipts) || args.has(Section::Feed);
        let receipts = kind == Kind::NodeSigned && both;
        if receipts || args.has(Section::CatchUp) || args.has(kind.section()) {
            let mut cluster = Cluster::start(args).await?;
            measure_load(&mut cluster, kind, args, &mut report).await?;
            cluster.stop().await?;
        }
    }
    if args.has(Section::OneDead) {
        for kind in [Kind::ClientSigned, Kind::NodeSigned] {
            let mut cluster = Cluster::start(args).await?;
            one_dead::measure(&mut cluster, kind, args, &mut report).await?;
            cluster.stop().await?;
        }
    }
    report.print()?;
    if let Some(file) = &args.json {
        std::fs::write(file, report.to_json())
            .with_context(|| format!("{} cannot be written", file.display()))?;
    }
    Ok(())
}

/// What needs no network.
fn measure_offline(args: &Args, report: &mut Report) -> anyhow::Result<()> {
    if args.has(Section::Baseline) {
        baseline::measure(&args.dir, args.repetitions(1000), report)?;
    }
    if args.has(Section::StoreCheck) {
        let records = if args.quick { 40_000 } else { 400_000 };
        store_check::measure(&args.dir, records, report)?;
    }
    if args.has(Section::Proofs) {
        proofs::measure(report)?;
    }
    if args.has(Section::GrowingLedger) {
        let records_max = if args.quick { 100_000 } else { args.records_max };
        growing::measure(&args.dir, records_max, report)?;
    }
    Ok(())
}

/// Full load, then half of what was reached, and then what a node that was away needs to be back.
async fn measure_load(
    cluster: &mut Cluster,
    kind: Kind,
    args: &Args,
    report: &mut Report,
) -> anyhow::Result<()> {
    let section = kind.section();
    let load = Load { kind, pace: Pace::Full, time: args.load_time(), returns: None };
    let full = load.run(cluster).await?;
    let full = full.report(section, report);
    let per_second = full.records_per_second() / 2.0;
    let pace = Pace::Fixed { per_second };
    let load = Load { kind, pace, time: args.load_time(), returns: None };
    load.run(cluster).await?.report_half(section, report);
    if args.has(Section::Receipts) && kind == Kind::NodeSigned {
        receipts::measure(cluster, &full.samples, report).await?;
    }
    if args.has(Section::Feed) && kind == Kind::NodeSigned {
        feed::measure(cluster, report).await?;
    }
    if args.has(Section::CatchUp) {
        catch_up::measure(cluster, kind, args, report).await?;
    }
    Ok(())
}
