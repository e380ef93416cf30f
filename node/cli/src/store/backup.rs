//! `customhouse store backup`.

use std::{fmt, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use customhouse_client::ClientError;
use customhouse_ledger::{chain::Chain, store::StoreError};
use customhouse_node::config::backups_kept;
use customhouse_proto::v1::CreateBackupResponse;
use serde::Serialize;
use tonic::Code;

use super::{Access, Place, StoreArgs, with_hint};
use crate::{
    command::{Done, block_on},
    connect::ConnectArgs,
    failure::WrongUsage,
    output::Output,
};

#[derive(clap::Args)]
pub(crate) struct BackupArgs {
    /// The configuration of a stopped node. Without it and --data-dir, the node of the profile is asked.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A stopped node's data directory, where there is no configuration at hand.
    #[arg(long, value_name = "DIR", requires_all = ["genesis", "to"], conflicts_with = "config")]
    data_dir: Option<PathBuf>,
    /// The genesis of the network, with --data-dir.
    #[arg(long, value_name = "FILE", requires = "data_dir")]
    genesis: Option<PathBuf>,
    /// The directory of backups, outside the store, of a stopped node; else the configuration's [backup] says.
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
    /// How many of the newest are kept there, at least 1; else the configuration's [backup] says.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    keep: Option<u32>,
}

pub(super) const HELP: &str = "\
A running node makes the backup itself, into the directory that [backup] of its configuration names,
and goes on meanwhile; the profile is an operator's. Of a stopped node it is made directly. Files that
an earlier backup has are not copied again, so that one rotten file spoils all that share it. So the
whole new backup is read back and compared with its checksums, also what it shares, before an old one is
removed: a damaged file is named then, and nothing is removed. (What the system still has in memory of a
file that it has just written is read from there.) Copy the directory to another place afterwards, and
prove a backup now and then by a `store restore` elsewhere.

Each node's store needs a directory of its own, in which the file OWNER says whose it is. Another store
is refused there, also one that was made anew in place of the first.

The signer's journal is never part of a backup: who puts an old one back lets the key sign twice. Keep
it where it is, beside the validator key. A key whose journal is lost is replaced by a new one
(`customhouse help registry`). Nor is the outbox, which holds what was accepted and is not yet final.

Exit codes: 0 done; 1 the store or a backup is damaged; 2 not done for another reason; 64 wrong arguments.

Examples:
  customhouse --profile nl/ops store backup
  customhouse store backup --config nl/node.toml
  customhouse store backup --data-dir nl/data --genesis genesis.json --to backups";

#[derive(Serialize)]
struct BackupView {
    id: u32,
    directory: String,
    height: u64,
    bytes: u64,
    files: u32,
}

const RUNNING: &str = "its node is running: ask it, with --profile";

pub(super) fn run(args: BackupArgs, output: Output, connect: &ConnectArgs) -> Done {
    let BackupArgs { config, data_dir, genesis, to, keep } = args;
    let made = if config.is_some() || data_dir.is_some() {
        let place = StoreArgs { config, data_dir, genesis }.place(Access::Read);
        let keep = keep.and_then(|keep| usize::try_from(keep).ok());
        place
            .and_then(|place| directly(&place, to, keep))
            .map_err(|error| with_hint(error, RUNNING))
    } else {
        let reason = "--to and --keep are for a stopped node; a running one has [backup] in its \
                      configuration";
        let wrong = || WrongUsage(reason.to_owned());
        anyhow::ensure!(to.is_none() && keep.is_none(), wrong());
        asked(connect)
    };
    let view = match made {
        Err(error) if is_damage(&error) => {
            output.failed(&error);
            return Ok(ExitCode::FAILURE);
        }
        made => made?,
    };
    output.print(&view)?;
    Ok(ExitCode::SUCCESS)
}

/// Has the running node make it.
fn asked(connect: &ConnectArgs) -> anyhow::Result<BackupView> {
    let mut made = None;
    block_on(async {
        let node = connect.connect().await?;
        made = Some(node.client.create_backup().await?);
        Ok(ExitCode::SUCCESS)
    })?;
    Ok(BackupView::of(made.context("no answer")?))
}

/// Whether it is the store or a backup that is damaged, as this process or the node found.
fn is_damage(error: &anyhow::Error) -> bool {
    let told = |error: &ClientError| match error {
        ClientError::Refused(refused) => refused.code == Code::DataLoss,
        _ => false,
    };
    error.downcast_ref().is_some_and(StoreError::is_corruption)
        || error.downcast_ref().is_some_and(told)
}

fn directly(place: &Place, to: Option<PathBuf>, keep: Option<usize>) -> anyhow::Result<BackupView> {
    let section = place.backup.as_ref();
    let directory =
        to.or_else(|| section.map(|section| section.directory.clone())).ok_or_else(|| {
            WrongUsage("where to? Name --to, or [backup] in the configuration".to_owned())
        })?;
    let keep = keep.or(section.map(|section| section.keep)).unwrap_or_else(backups_kept);
    anyhow::ensure!(place.path.join("CURRENT").exists(), StoreError::Missing(place.path.clone()));
    let chain = Chain::open(&place.path, &place.genesis, &place.options)?;
    let backup = chain.reader().back_up(&directory, keep, place.agency)?;
    Ok(BackupView {
        id: backup.id,
        directory: std::path::absolute(&directory).unwrap_or(directory).display().to_string(),
        height: chain.tip().header.height,
        bytes: backup.bytes,
        files: backup.files,
    })
}

impl BackupView {
    fn of(made: CreateBackupResponse) -> Self {
        let CreateBackupResponse { id, directory, height, bytes, files } = made;
        Self { id, directory, height, bytes, files }
    }
}

impl fmt::Display for BackupView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, directory, height, bytes, files } = self;
        write!(f, "backup {id} in {directory}: height {height}, {files} files, {bytes} bytes")
    }
}
