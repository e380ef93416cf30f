//! `customhouse store rebuild`.

use std::{fmt, path::PathBuf, process::ExitCode, time::Instant};

use customhouse_ledger::{chain::rebuild::RebuildError, hash::Hash};
use customhouse_node::store::{self, Rebuilt};
use serde::Serialize;

use super::{Access, StoreArgs, bars::Bars, explained};
use crate::{
    command::Done,
    output::{Output, lossy},
};

#[derive(clap::Args)]
pub(crate) struct RebuildArgs {
    #[command(flatten)]
    store: StoreArgs,
}

pub(super) const HELP: &str = "\
Makes all indexes of a stopped node's store anew from its headers and transactions. These are checked
first, and where they are damaged themselves nothing is changed. What decisions rested on follows from
no block: what is left of it is taken for all from then on. It may be interrupted, also by a
crash: no node starts on a half rebuilt store, and running the command again begins anew.

Exit codes: 0 done; 1 headers or transactions are damaged; 2 not done for another reason, for example
because the node is running; 64 wrong arguments.

Examples:
  customhouse store rebuild --config nl/node.toml && customhouse store check --config nl/node.toml
  customhouse store rebuild --data-dir nl/data --genesis genesis.json";

#[derive(Serialize)]
struct RebuildView {
    #[serde(serialize_with = "lossy")]
    store: PathBuf,
    height: u64,
    block_hash: Hash,
    records: u64,
    seconds: f64,
}

pub(super) fn run(args: &RebuildArgs, output: Output) -> Done {
    let place = args.store.place(Access::Write).map_err(explained)?;
    let (bars, begun) = (Bars::new(), Instant::now());
    let show = |progress| bars.show(progress);
    let rebuilt = store::rebuild(&place.path, &place.genesis, &place.options, &show);
    bars.finish();
    let Rebuilt { height, block_hash, records } = match rebuilt {
        Ok(rebuilt) => rebuilt,
        Err(RebuildError::Store(error)) if !error.is_corruption() => return Err(explained(error)),
        Err(damaged) => {
            output.failed(&damaged.into());
            return Ok(ExitCode::FAILURE);
        }
    };
    let (store, seconds) = (place.path, begun.elapsed().as_secs_f64());
    output.print(&RebuildView { store, height, block_hash, records, seconds })?;
    Ok(ExitCode::SUCCESS)
}

impl fmt::Display for RebuildView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "all indexes are made anew: height {}, block {}, {} records, {:.1} s",
            self.height, self.block_hash, self.records, self.seconds
        )
    }
}
