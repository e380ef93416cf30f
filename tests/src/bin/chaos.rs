//! Kills, restarts and wipes the nodes of a real network under load, many times, and checks that
//! nothing that was acknowledged is lost and that each node comes back by itself.

use std::{fmt, time::Instant};

use clap::Parser;
use customhouse_tests::{
    cluster::Cluster,
    faults::{blackout, kill_and_restart, leave_and_return},
    load::{Load, nothing_is_lost_though_wiped},
    readers::Readers,
};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// The case that all records are about.
const CASE: &str = "chaos";
/// Cycles between two lines of progress.
const TOLD_EVERY: u32 = 20;
/// After this many kills, all nodes are killed at once instead of one.
const BLACKOUT_EVERY: u32 = 10;

/// Kill, restart and wipe the nodes of a real network under load, and check every acknowledgement
///
/// The program that the nodes run is the one that CUSTOMHOUSE_BIN names.
#[derive(Parser)]
#[command(after_help = "Exit codes: 0 all held; 101 something did not hold, and is named")]
struct Args {
    /// Cycles of kill -9 under load; every tenth kills all nodes at once
    #[arg(long, default_value_t = 300)]
    kills: u32,
    /// Restarts, every other one with the node's store taken away, that must reach the head unaided
    #[arg(long, default_value_t = 20)]
    restarts: u32,
    /// Nodes
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(4..=7))]
    nodes: u8,
    /// Clients at each node
    #[arg(long, default_value_t = 1)]
    clients: usize,
    /// Repeats a run's schedule
    #[arg(long)]
    seed: Option<u64>,
}

#[tokio::main]
async fn main() {
    let args = Args::parse();
    let seed = args.seed.unwrap_or_else(|| u64::from(std::process::id()));
    say(format_args!("seed {seed}"));
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let start = Instant::now();
    let mut cluster = Cluster::start(usize::from(args.nodes)).await;
    let readers = Readers::start(&cluster);
    let mut load = Load::start(&cluster, args.clients, CASE);
    let mut blackouts = 0;
    for cycle in 1..=args.kills {
        if cycle.is_multiple_of(BLACKOUT_EVERY) {
            blackout(&mut cluster, &mut load, &mut random).await;
            blackouts += 1;
        } else {
            kill_and_restart(&mut cluster, &mut load, &mut random).await;
        }
        tell("kills", cycle, args.kills, &load);
    }
    for number in 1..=args.restarts {
        let node = random.random_range(0..cluster.size());
        let wipe = number.is_multiple_of(2);
        leave_and_return(&mut cluster, &mut load, &readers, (node, wipe)).await;
        tell("restarts", number, args.restarts, &load);
    }
    let progress = load.progress();
    let acknowledged = load.stop().await;
    let reads = readers.stop().await;
    let all: Vec<usize> = (0..cluster.size()).collect();
    let head = cluster.same_head(&all, 1).await;
    nothing_is_lost_though_wiped(&cluster, CASE, &acknowledged).await;
    cluster.nobody_lied();
    say(format_args!(
        "kill -9 cycles        {} ({blackouts} of all nodes at once)\n\
         restarts and wipes    {}, each reached the head unaided\n\
         acknowledged          {}, each on all nodes at its place, receipts verified\n\
         lost                  0\n\
         evidence              0\n\
         reads checked         {reads}\n\
         height                {}\n\
         longest standstill    {:.1} s without an acknowledgement from any node\n\
         took                  {} s",
        args.kills,
        args.restarts,
        acknowledged.len(),
        head.height,
        progress.longest_gap.as_secs_f64(),
        start.elapsed().as_secs()
    ));
}

fn tell(what: &str, done: u32, of: u32, load: &Load) {
    if done.is_multiple_of(TOLD_EVERY) || done == of {
        let progress = load.progress();
        let gap = progress.longest_gap.as_secs_f64();
        say(format_args!(
            "{done} of {of} {what}, {} acknowledged, longest standstill {gap:.1} s",
            progress.count
        ));
    }
}

#[allow(clippy::print_stdout, reason = "it is a program that prints")]
fn say(text: fmt::Arguments<'_>) {
    println!("{text}");
}
