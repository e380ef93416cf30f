//! `customhouse audit decisions`: what a node held about how heights were decided, as a file.

use std::{
    fmt,
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use customhouse_audit::verdict::Verdict;
use customhouse_files::newfile;
use customhouse_ledger::{
    finality::decision::{self, Decision},
    limits::{DECISIONS_BYTES_MAX, DECISIONS_MAX},
};
use serde::Serialize;

use crate::{
    connect::ConnectArgs,
    failure::WrongUsage,
    output::{Output, lossy, one_line},
    progress,
};

#[derive(clap::Args)]
pub(crate) struct DecisionsArgs {
    /// The height; the first, where --to is given.
    #[arg(long, value_name = "HEIGHT", value_parser = clap::value_parser!(u64).range(1..))]
    height: u64,
    /// The last height.
    #[arg(long, value_name = "HEIGHT")]
    to: Option<u64>,
    /// Where to write them; must not exist.
    #[arg(short, long, value_name = "FILE")]
    out: PathBuf,
    /// Read the store of a node that is stopped, or a copy of it, instead of asking the profile's.
    #[arg(long, value_name = "DIR", requires = "genesis")]
    store: Option<PathBuf>,
    /// The genesis of the network; needed with --store only.
    #[arg(long, value_name = "FILE", requires = "store")]
    genesis: Option<PathBuf>,
}

pub(super) const HELP: &str = "\
A node keeps, with each of the last 10,000 heights, the certificates that its decision rested on and
what the leaders proposed. A node that halted because certificates contradict each other keeps those
too; it does not run, so read its store, or a copy: no file of that is changed. Nothing in what is
written is secret, and whoever reads it checks every signature in it: see `customhouse help audit fork`.

Exit codes: 0 written; 2 not to be had; 64 wrong arguments.

Examples:
  customhouse --profile net/NL-DOUANE/clients/auditor audit decisions --height 812 -o nl.decisions
  customhouse audit decisions --height 800 --to 812 -o de.decisions \\
    --store net/DE-ZOLL/data/store --genesis net/genesis.json";

#[derive(Serialize)]
struct Exported {
    #[serde(serialize_with = "lossy")]
    file: PathBuf,
    from_height: u64,
    to_height: u64,
    certificates: usize,
    proposals: usize,
    /// Heights of which only block and finalization are known.
    without_grounds: Vec<u64>,
}

pub(super) async fn export(
    args: &DecisionsArgs,
    output: Output,
    connect: &ConnectArgs,
) -> anyhow::Result<Verdict> {
    let heights = args.height..=args.to.unwrap_or(args.height);
    let count = heights.clone().take(DECISIONS_MAX + 1).count();
    if count == 0 || count > DECISIONS_MAX {
        bail!(WrongUsage(format!("--to: 1 to {DECISIONS_MAX} heights go into a file")));
    }
    let name = || args.out.display().to_string();
    newfile::is_free(&args.out).with_context(name)?;
    let decisions = match (&args.store, &args.genesis) {
        (Some(store), Some(genesis)) => of_store(store, genesis, heights)?,
        _ => {
            let connection = connect.connect().await?;
            let bar = progress::bar(count, "heights");
            let mut decisions = Vec::with_capacity(count);
            for height in heights {
                decisions.push(connection.client.decision(height).await?);
                bar.inc(1);
            }
            bar.finish_and_clear();
            decisions
        }
    };
    let bytes = decision::encode(&decisions);
    if bytes.len() > DECISIONS_BYTES_MAX {
        bail!(
            "{} bytes, at most {DECISIONS_BYTES_MAX} go into a file: export fewer heights",
            bytes.len()
        );
    }
    newfile::output(&args.out, &bytes).with_context(name)?;
    output.print(&Exported::of(args, &decisions))?;
    Ok(Verdict::Verified)
}

/// The decisions of a store that no node uses.
#[cfg(feature = "node")]
fn of_store(
    store: &Path,
    genesis: &Path,
    heights: RangeInclusive<u64>,
) -> anyhow::Result<Vec<Decision>> {
    use customhouse_ledger::{chain::ChainReader, store::StoreOptions};

    let genesis = crate::genesis::read(genesis)?;
    let reader = ChainReader::open(store, &genesis, &StoreOptions::default())
        .with_context(|| format!("{} (`store` in a node's data directory)", store.display()))?;
    let read = |height| {
        let newest = reader.tip().header.height;
        let missing = || format!("height {height} is not committed, the newest is {newest}");
        reader.decision(height)?.with_context(missing)
    };
    heights.map(read).collect()
}

/// There is no store without a node.
#[cfg(not(feature = "node"))]
fn of_store(_: &Path, _: &Path, _: RangeInclusive<u64>) -> anyhow::Result<Vec<Decision>> {
    bail!(WrongUsage(
        "--store: this program reads no stores; `customhouse audit decisions` does".to_owned()
    ))
}

impl Exported {
    fn of(args: &DecisionsArgs, decisions: &[Decision]) -> Self {
        let grounds = || decisions.iter().map(|decision| &decision.grounds);
        let without = decisions.iter().filter(|decision| decision.grounds.is_empty());
        Self {
            file: args.out.clone(),
            from_height: args.height,
            to_height: args.to.unwrap_or(args.height),
            certificates: grounds().map(|grounds| grounds.certificates.len()).sum(),
            proposals: grounds().map(|grounds| grounds.claims.len()).sum(),
            without_grounds: without.map(|decision| decision.height).collect(),
        }
    }
}

impl fmt::Display for Exported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from_height, to_height, certificates, proposals, .. } = self;
        match from_height == to_height {
            true => write!(f, "height {from_height}")?,
            false => write!(f, "heights {from_height} to {to_height}")?,
        }
        let file = self.file.to_string_lossy();
        write!(
            f,
            ", beside the finalizations: certificates {certificates}, proposals {proposals}"
        )?;
        write!(f, ", written to {}", one_line(&file))?;
        match self.without_grounds.len() {
            0 => Ok(()),
            count => write!(
                f,
                "\n{count} of these heights have no more than block and finalization here: they are \
                 too old, or this node caught up"
            ),
        }
    }
}
