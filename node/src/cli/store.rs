//! `customhouse store`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::Subcommand;
use customhouse_ledger::{
    agency::AgencyCode,
    genesis::Genesis,
    store::{StoreError, StoreOptions},
};
use customhouse_node::config::{BackupSection, NodeConfig};

use super::{ConnectArgs, Done, Output, failure};

mod backup;
mod bars;
mod check;
mod rebuild;
mod restore;

#[derive(Subcommand)]
pub(crate) enum StoreCommand {
    /// Check a stopped node's whole store, from the genesis on.
    #[command(after_help = check::HELP)]
    Check(check::CheckArgs),
    /// Make all indexes of a stopped node's store anew.
    #[command(after_help = rebuild::HELP)]
    Rebuild(rebuild::RebuildArgs),
    /// Copy a node's store to a directory of backups, also while it runs.
    #[command(after_help = backup::HELP)]
    Backup(backup::BackupArgs),
    /// Put a backup back as a stopped node's store, and check it.
    #[command(after_help = restore::HELP)]
    Restore(restore::RestoreArgs),
}

/// Which store.
#[derive(clap::Args)]
struct StoreArgs {
    /// The node's configuration.
    #[arg(long, value_name = "FILE", required_unless_present = "data_dir")]
    config: Option<PathBuf>,
    /// The node's data directory, where there is no configuration at hand.
    #[arg(long, value_name = "DIR", requires = "genesis", conflicts_with = "config")]
    data_dir: Option<PathBuf>,
    /// The genesis of the network, with --data-dir.
    #[arg(long, value_name = "FILE", requires = "data_dir")]
    genesis: Option<PathBuf>,
}

/// A store to work on.
struct Place {
    path: PathBuf,
    genesis: Genesis,
    options: StoreOptions,
    /// Whose node has it, where a configuration says it.
    agency: Option<AgencyCode>,
    /// The validator keys whose journals belong to it.
    validator_keys: Vec<PathBuf>,
    /// Where its backups are.
    backup: Option<BackupSection>,
}

impl StoreArgs {
    fn place(&self) -> anyhow::Result<Place> {
        if let (Some(data_dir), Some(genesis)) = (&self.data_dir, &self.genesis) {
            let genesis = super::genesis::read(genesis)?;
            let options = StoreOptions::default();
            let (path, validator_keys) = (data_dir.join("store"), Vec::new());
            return Ok(Place {
                path,
                genesis,
                options,
                agency: None,
                validator_keys,
                backup: None,
            });
        }
        let config = self.config.as_ref().context("--config or --data-dir is needed")?;
        let config = NodeConfig::read(config)?;
        let keys = std::iter::once(&config.keys.validator).chain(&config.keys.next_validator);
        Ok(Place {
            path: config.store_path(),
            genesis: config.read_genesis()?,
            options: StoreOptions::default(),
            agency: Some(config.agency),
            backup: config.backup.clone(),
            validator_keys: keys.cloned().collect(),
        })
    }
}

/// Exit code where the store could not be looked at, because 1 says that it is damaged.
const NOT_DONE: u8 = 2;

pub(crate) fn run(command: StoreCommand, output: Output, connect: &ConnectArgs) -> Done {
    let done = match command {
        StoreCommand::Check(args) => check::run(&args, output),
        StoreCommand::Rebuild(args) => rebuild::run(&args, output),
        StoreCommand::Backup(args) => backup::run(args, output, connect),
        StoreCommand::Restore(args) => restore::run(&args, output),
    };
    done.or_else(|error| match failure::is_wrong_usage(&error) {
        true => Err(error),
        false => {
            output.failed(&error);
            Ok(ExitCode::from(NOT_DONE))
        }
    })
}

/// Says what to do about a store that a node has open.
fn explained(error: StoreError) -> anyhow::Error {
    let is_locked = matches!(error, StoreError::Locked(_));
    let error = anyhow::Error::new(error);
    if is_locked {
        error.context("stop the node first, or work on a restored backup")
    } else {
        error
    }
}
