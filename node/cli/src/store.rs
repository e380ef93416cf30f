//! `customhouse store`.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::Subcommand;
use customhouse_ledger::{
    agency::AgencyCode,
    registry::genesis::Genesis,
    store::{FolderLock, StoreError, StoreOptions},
};
use customhouse_node::config::{BackupSection, NodeConfig};

use super::{command::Done, connect::ConnectArgs, failure, output::Output};

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
    /// Keeps its node from being started meanwhile.
    _in_use: Option<FolderLock>,
}

/// What is to be done with a store.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

impl StoreArgs {
    /// The store. Its node must not run, not even with another folder open than this one.
    fn place(&self, access: Access) -> anyhow::Result<Place> {
        if let (Some(data_dir), Some(genesis)) = (&self.data_dir, &self.genesis) {
            return Ok(Place {
                path: data_dir.join("store"),
                genesis: super::genesis::read(genesis)?,
                options: StoreOptions::default(),
                agency: None,
                validator_keys: Vec::new(),
                backup: None,
                _in_use: in_use(data_dir, access)?,
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
            _in_use: in_use(&config.data_dir, access)?,
        })
    }
}

/// Nothing is made where there is nothing.
fn in_use(data_dir: &Path, access: Access) -> anyhow::Result<Option<FolderLock>> {
    let taken = match access {
        Access::Write if data_dir.is_dir() => FolderLock::exclusive(data_dir).map(Some),
        _ => FolderLock::shared(data_dir),
    };
    Ok(taken?)
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
fn explained(error: impl Into<anyhow::Error>) -> anyhow::Error {
    with_hint(error.into(), "stop the node first, or work on a restored backup")
}

/// The error, and what to do where it is a running node's store.
fn with_hint(error: anyhow::Error, hint: &'static str) -> anyhow::Error {
    match error.downcast_ref() {
        Some(StoreError::Locked(_)) => error.context(hint),
        _ => error,
    }
}
