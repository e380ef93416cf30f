//! `customhouse vault new` and `vault passphrase`: a vault that is made, and what protects it.

use std::{fmt, path::PathBuf};

use customhouse_node::{
    config::{NodeConfig, RootKeyProtection},
    sealed::upkeep::{self, Registrable},
};
use serde::Serialize;

use super::{ConfigArgs, explained, section};
use crate::{
    failure::WrongUsage,
    output::{Output, lossy},
};

#[derive(clap::Args)]
pub(crate) struct NewArgs {
    #[command(flatten)]
    of: ConfigArgs,
    /// Where to, if the configuration has no [vault] yet; `vault` beside the configuration where absent.
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// What protects its root key, if the configuration has no [vault] yet: `plain` (the directory's mode alone), or
    /// a passphrase, from `prompt`, `file:PATH` or `credential:NAME`.
    #[arg(long, value_name = "HOW")]
    root_key: Option<RootKeyProtection>,
}

#[derive(clap::Args)]
pub(crate) struct PassphraseArgs {
    #[command(flatten)]
    of: ConfigArgs,
    /// What is to protect the root key from now on: `plain`, `prompt`, `file:PATH` or `credential:NAME`.
    #[arg(long, value_name = "HOW")]
    root_key: RootKeyProtection,
}

pub(super) const NEW_HELP: &str = "\
Where the configuration has a section [vault], the vault is made as it says; else where --directory and
--root-key say, and the answer has the section to write. A vault is never written over. `keys new` makes one
together with an agency's keys.

What the vault has to be known by is registered by all agencies together: the key that others seal to, and the
check of the secret that dedupe keys are made with. All nodes of an agency share that secret: a second node
takes it over with `vault dedupe-secret import`, and has its own check registered by nobody.

Examples:
  customhouse vault new --config nl/node.toml
  customhouse vault new --config nl/node.toml --root-key credential:vault
  customhouse vault new --config nl/node.toml --directory nl/vault --root-key file:nl-passphrase";

pub(super) const PASSPHRASE_HELP: &str = "\
The present passphrase comes from where the configuration says; the new one from where --root-key says, which
is another file where both are files. At a terminal it is asked for twice. The root key is made anew with it:
a copy of the old files and the old passphrase open nothing that is written from now on. Backups of before open
with the passphrase of then. The configuration is not changed: the answer says what to write there.

The node is stopped meanwhile.

Examples:
  customhouse vault passphrase --config nl/node.toml --root-key prompt
  customhouse vault passphrase --config nl/node.toml --root-key credential:vault";

#[derive(Serialize)]
struct NewView {
    #[serde(serialize_with = "lossy")]
    directory: PathBuf,
    root_key: String,
    #[serde(flatten)]
    registrable: Registrable,
    /// The command that has it registered, but for the profile.
    propose: String,
    /// What is to be written into the configuration, where it has no such section.
    #[serde(skip_serializing_if = "Option::is_none")]
    section: Option<String>,
}

pub(super) fn new(args: &NewArgs, output: Output) -> anyhow::Result<()> {
    let config = args.of.read()?;
    let (directory, root_key, section) = place(args, &config)?;
    let made = upkeep::create(&directory, &root_key.0, config.agency).map_err(explained)?;
    output.print(&NewView {
        directory,
        root_key: root_key.to_string(),
        registrable: made,
        propose: format!(
            "customhouse registry propose {} --out vault.proposal",
            made.options(config.agency)
        ),
        section,
    })?;
    Ok(())
}

/// Where the vault is to be and what protects it; and the section, where the configuration has none.
fn place(
    args: &NewArgs,
    config: &NodeConfig,
) -> anyhow::Result<(PathBuf, RootKeyProtection, Option<String>)> {
    if let Some(section) = &config.vault {
        if args.directory.is_some() || args.root_key.is_some() {
            let reason = format!(
                "--directory and --root-key are for a configuration without [vault], and {} has it: change it \
                 there, or leave them out",
                config.file.display()
            );
            anyhow::bail!(WrongUsage(reason));
        }
        return Ok((section.directory.clone(), section.root_key.clone(), None));
    }
    let beside = || config.file.with_file_name("vault");
    let directory = args.directory.clone().unwrap_or_else(beside);
    let directory = std::path::absolute(&directory).unwrap_or(directory);
    let plain = || "plain".parse().expect("a protection");
    let root_key = args.root_key.clone().unwrap_or_else(plain).absolute();
    let section = format!(
        "[vault]\ndirectory = {}\nroot_key = {}\n\
         # One of these two: a directory on another machine's disk (`customhouse vault mirror`), or none.\n\
         # mirror = \"…\"\nsingle_copy = true",
        quoted(&directory.display().to_string()),
        quoted(&root_key.to_string())
    );
    Ok((directory, root_key, Some(section)))
}

/// A text as TOML has it: JSON's strings are a part of TOML's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

impl fmt::Display for NewView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { directory, root_key, registrable, propose, section } = self;
        writeln!(f, "made {}, root key: {root_key}", directory.display())?;
        writeln!(f, "encryption key  {}", hex::encode(registrable.encryption_key.as_bytes()))?;
        writeln!(f, "dedupe check    {}", registrable.dedupe_check)?;
        if let Some(section) = section {
            writeln!(f, "\nWrite into the configuration:\n{section}")?;
        }
        write!(f, "\nHave it registered, where it is not:\n  {propose}")
    }
}

#[derive(Serialize)]
struct ProtectedView {
    #[serde(serialize_with = "lossy")]
    directory: PathBuf,
    root_key: String,
    /// The line of the configuration's section.
    line: String,
    /// Whether the mirror does not have the change yet.
    mirror_behind: bool,
}

pub(super) fn passphrase(args: PassphraseArgs, output: Output) -> anyhow::Result<()> {
    let config = args.of.read()?;
    let section = section(&config)?;
    let root_key = args.root_key.absolute();
    let done = upkeep::protect(section, &root_key.0);
    let mirror_behind =
        done.as_ref().is_err_and(customhouse_node::sealed::keys::SealingKeysError::was_done);
    if let Err(error) = done {
        if !mirror_behind {
            return Err(explained(error));
        }
        // Else nobody would know that the configuration has to change.
        note!("customhouse: {error}");
    }
    output.print(&ProtectedView {
        directory: section.directory.clone(),
        line: format!("root_key = {}", quoted(&root_key.to_string())),
        root_key: root_key.to_string(),
        mirror_behind,
    })?;
    Ok(())
}

impl fmt::Display for ProtectedView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { directory, root_key, line, .. } = self;
        writeln!(
            f,
            "{}: the root key was made anew, {}",
            directory.display(),
            match &**root_key {
                "plain" => "and nothing but the directory's mode protects it",
                _ => "under the new passphrase",
            }
        )?;
        write!(
            f,
            "The section [vault] of the configuration must say:\n  {line}\n\
             Make a backup now: earlier ones open with the protection of then."
        )
    }
}
