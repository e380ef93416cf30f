//! `customhouse vault encryption-key` and `vault dedupe-secret`: what is registered of a vault, exchanged.

use std::{fmt, path::PathBuf};

use clap::Subcommand;
use customhouse_files::passphrase::PassphraseSource;
use customhouse_ledger::{agency::AgencyCode, hash::Hash};
use customhouse_node::sealed::upkeep::{self, EncryptionKeys};
use serde::Serialize;

use super::{ConfigArgs, explained, section};
use crate::output::{Output, lossy_option};

#[derive(Subcommand)]
pub(crate) enum EncryptionKeyCommand {
    /// Make the next key that others can seal to.
    #[command(after_help = ENCRYPTION_KEY_HELP)]
    New(ConfigArgs),
}

#[derive(Subcommand)]
pub(crate) enum DedupeSecretCommand {
    /// Make the next secret of dedupe keys.
    #[command(after_help = DEDUPE_NEW_HELP)]
    New(ConfigArgs),
    /// Write the secret to a file, under a passphrase, for another node of the agency.
    #[command(after_help = DEDUPE_SHARE_HELP)]
    Export(FileArgs),
    /// Take the secret that another node of the agency has exported.
    #[command(after_help = DEDUPE_SHARE_HELP)]
    Import(FileArgs),
}

#[derive(clap::Args)]
pub(crate) struct FileArgs {
    #[command(flatten)]
    of: ConfigArgs,
    /// The file of the secret.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Where its passphrase is: `prompt`, `file:PATH` or `credential:NAME`.
    #[arg(long, value_name = "WHERE", default_value = "prompt")]
    passphrase: PassphraseSource,
}

const ENCRYPTION_KEY_HELP: &str = "\
A key is exchanged in two changes of the registry. The new one is added: from the height on at which it counts
everybody seals to it. The old one ends when nothing that was sealed to it is under way any more, which is
when every party's node has delivered what it sealed before that height. The vault keeps the old one, and opens
with it what comes late.

The node is stopped meanwhile. Make a backup of the vault before the key is registered.

Examples:
  customhouse vault encryption-key new --config nl/node.toml";

const DEDUPE_NEW_HELP: &str = "\
The secret of before counts on for 400 days, so that a retry of what was lodged under it is recognised; a later
retry is a new record. Nodes of one agency share the secret: export it to each other one before its check is
registered, because a node without it does not start then.

The node is stopped meanwhile.

Examples:
  customhouse vault dedupe-secret new --config nl/node.toml";

const DEDUPE_SHARE_HELP: &str = "\
All nodes of an agency make dedupe keys of sealed records with one secret, so that each knows what another has
taken. Hand the file over in a safe way, the passphrase in another, and remove it afterwards. The node is
stopped meanwhile.

Examples:
  customhouse vault dedupe-secret export --config nl/node.toml dedupe.secret --passphrase prompt
  customhouse vault dedupe-secret import --config nl-2/node.toml dedupe.secret --passphrase file:word";

#[derive(Serialize)]
struct NewKey {
    agency: AgencyCode,
    #[serde(flatten)]
    keys: EncryptionKeys,
    propose: String,
}

pub(super) fn encryption_key(command: &EncryptionKeyCommand, output: Output) -> anyhow::Result<()> {
    let EncryptionKeyCommand::New(args) = command;
    let config = args.read()?;
    let keys = upkeep::new_encryption_key(section(&config)?).map_err(explained)?;
    let agency = config.agency;
    let propose = format!(
        "customhouse registry propose --add {agency}:encryption={} --out key.proposal",
        keys.new
    );
    output.print(&NewKey { agency, keys, propose })?;
    Ok(())
}

impl fmt::Display for NewKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { keys, propose, .. } = self;
        writeln!(f, "encryption key  {}", keys.new)?;
        write!(f, "Have it registered:\n  {propose}")?;
        if let [newest, ..] = &keys.old[..] {
            write!(
                f,
                "\nWhen nothing that was sealed to the old one is under way any more, end it:\n  \
                 customhouse registry propose --end {newest} --out end.proposal\n\
                 The vault keeps it, for what comes late."
            )?;
        }
        Ok(())
    }
}

#[derive(Serialize)]
struct DedupeView {
    #[serde(skip)]
    done: &'static str,
    check: Hash,
    #[serde(serialize_with = "lossy_option", skip_serializing_if = "Option::is_none")]
    file: Option<PathBuf>,
    propose: String,
}

pub(super) fn dedupe_secret(command: &DedupeSecretCommand, output: Output) -> anyhow::Result<()> {
    let (of, file) = match command {
        DedupeSecretCommand::New(args) => (args, None),
        DedupeSecretCommand::Export(args) | DedupeSecretCommand::Import(args) => {
            (&args.of, Some(args.file.clone()))
        }
    };
    let config = of.read()?;
    let (section, agency) = (section(&config)?, config.agency);
    let (done, check) = match command {
        DedupeSecretCommand::New(_) => ("made", upkeep::new_dedupe_secret(section, agency)),
        DedupeSecretCommand::Export(FileArgs { file, passphrase, .. }) => {
            ("exported", upkeep::export_dedupe_secret(section, agency, file, passphrase))
        }
        DedupeSecretCommand::Import(FileArgs { file, passphrase, .. }) => {
            ("imported", upkeep::import_dedupe_secret(section, agency, file, passphrase))
        }
    };
    let check = check.map_err(explained)?;
    let propose = format!(
        "customhouse registry propose --dedupe-check {agency}={check} --out check.proposal"
    );
    output.print(&DedupeView { done, check, file, propose })?;
    Ok(())
}

impl fmt::Display for DedupeView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { done, check, file, propose } = self;
        write!(f, "{done}: the secret with check {check}")?;
        if let Some(file) = file {
            write!(f, " ({})", file.display())?;
        }
        write!(
            f,
            "\nWhen every node of the agency has it, have its check registered, where it is not:\n  {propose}"
        )
    }
}
