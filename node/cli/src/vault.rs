//! `customhouse vault`.

use std::{path::PathBuf, process::ExitCode};

use clap::Subcommand;
use customhouse_node::{
    config::{NodeConfig, VaultSection},
    sealed::keys::SealingKeysError,
};

use super::{command::Done, failure::WrongUsage, output::Output};

mod copies;
mod making;
mod secrets;
mod show;

#[derive(Subcommand)]
pub(crate) enum VaultCommand {
    /// Show what a vault has, without its secrets, and where its mirror and backups are.
    #[command(after_help = show::HELP)]
    Show(ConfigArgs),
    /// Make a vault for a node that has none.
    #[command(after_help = making::NEW_HELP)]
    New(making::NewArgs),
    /// Protect a vault in another way, or by another passphrase.
    #[command(after_help = making::PASSPHRASE_HELP)]
    Passphrase(making::PassphraseArgs),
    /// Copy a vault to a directory of its backups.
    #[command(after_help = copies::BACKUP_HELP)]
    Backup(copies::BackupArgs),
    /// List the backups of a vault.
    #[command(after_help = copies::BACKUPS_HELP)]
    Backups(copies::BackupsArgs),
    /// Put a vault back from a backup, or from a mirror.
    #[command(after_help = copies::RESTORE_HELP)]
    Restore(copies::RestoreArgs),
    /// Make the mirror of a vault, its second place, and fill it with the keys.
    #[command(after_help = copies::MIRROR_HELP)]
    Mirror(copies::MirrorArgs),
    /// Exchange the key that others seal to.
    #[command(subcommand)]
    EncryptionKey(secrets::EncryptionKeyCommand),
    /// Exchange the secret of dedupe keys, or share it with another node of the agency.
    #[command(subcommand)]
    DedupeSecret(secrets::DedupeSecretCommand),
}

/// Which vault.
#[derive(clap::Args)]
pub(crate) struct ConfigArgs {
    /// The node's configuration: its section [vault] says where the vault is.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

impl ConfigArgs {
    fn read(&self) -> anyhow::Result<NodeConfig> {
        Ok(NodeConfig::read(&self.config)?)
    }
}

/// The section of a configuration, which must have one.
fn section(config: &NodeConfig) -> anyhow::Result<&VaultSection> {
    let missing = || {
        let file = config.file.display();
        WrongUsage(format!(
            "{file} has no section [vault]: `customhouse vault new --config {file}` makes a vault and says what to \
             write there"
        ))
    };
    Ok(config.vault.as_ref().ok_or_else(missing)?)
}

/// What to do where a node has the vault open.
const RUNNING: &str = "the vault is in use by its node: stop the node first";

/// The error, and what to do where it is a running node's vault.
fn explained(error: SealingKeysError) -> anyhow::Error {
    match error.is_open_elsewhere() {
        true => anyhow::Error::new(error).context(RUNNING),
        false => error.into(),
    }
}

pub(crate) fn run(command: VaultCommand, output: Output) -> Done {
    match command {
        VaultCommand::Show(args) => show::run(&args, output)?,
        VaultCommand::New(args) => making::new(&args, output)?,
        VaultCommand::Passphrase(args) => making::passphrase(args, output)?,
        VaultCommand::Backup(args) => copies::backup(&args, output)?,
        VaultCommand::Backups(args) => return copies::backups(&args, output),
        VaultCommand::Restore(args) => copies::restore(&args, output)?,
        VaultCommand::Mirror(args) => copies::mirror(&args, output)?,
        VaultCommand::EncryptionKey(command) => secrets::encryption_key(&command, output)?,
        VaultCommand::DedupeSecret(command) => secrets::dedupe_secret(&command, output)?,
    }
    Ok(ExitCode::SUCCESS)
}
