//! `customhouse vault backup`, `backups`, `restore` and `mirror`: where else a vault is.

use std::{fmt, path::PathBuf, process::ExitCode};

use customhouse_node::{
    config::{BackupSection, NodeConfig, backups_kept},
    sealed::upkeep::{self, BackupReport},
};
use serde::Serialize;

use super::{ConfigArgs, explained, section};
use crate::{
    command::Done,
    failure::WrongUsage,
    output::{Output, lossy, one_line},
};

#[derive(clap::Args)]
pub(crate) struct BackupArgs {
    #[command(flatten)]
    of: ConfigArgs,
    /// The directory of backups; else the configuration's [vault.backup] says.
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
    /// How many of the newest are kept there, at least 1; else the configuration's [vault.backup] says.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    keep: Option<u32>,
}

#[derive(clap::Args)]
pub(crate) struct BackupsArgs {
    /// The node's configuration: its section [vault.backup] says where they are.
    #[arg(long, value_name = "FILE", required_unless_present = "from")]
    config: Option<PathBuf>,
    /// The directory of backups.
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    from: Option<PathBuf>,
}

#[derive(clap::Args)]
pub(crate) struct RestoreArgs {
    /// A backup, such as backups/vault-000007, or a mirror.
    #[arg(value_name = "FROM")]
    from: PathBuf,
    /// The vault's directory, which is not there yet or empty; else the configuration says.
    #[arg(value_name = "INTO", required_unless_present = "config")]
    into: Option<PathBuf>,
    /// The node's configuration: its section [vault] says where the vault is.
    #[arg(long, value_name = "FILE", conflicts_with = "into")]
    config: Option<PathBuf>,
}

#[derive(clap::Args)]
pub(crate) struct MirrorArgs {
    #[command(flatten)]
    of: ConfigArgs,
    /// The mirror's directory, on a disk of another machine; else the configuration's [vault] says.
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
}

pub(super) const BACKUP_HELP: &str = "\
A backup has the root key and all that is under it as they are now, and opens with the passphrase of now. It is
read back and opened before an older one is removed. It belongs on another disk than the vault's, and never
beside a backup of the store: whoever has both reads everything. What is purged is gone when the last backup
from before is.

A node that runs with [vault.backup] in its configuration makes a backup itself after the vault has changed;
this command is for one that is stopped.

Examples:
  customhouse vault backup --config nl/node.toml
  customhouse vault backup --config nl/node.toml --to vault-backups --keep 3";

pub(super) const BACKUPS_HELP: &str = "\
Exit codes: 0 all can be read; 1 one cannot, or there is none; 2 wrong usage.

Examples:
  customhouse vault backups --config nl/node.toml
  customhouse --output json vault backups --from vault-backups | jq '.backups[-1].path'";

pub(super) const RESTORE_HELP: &str = "\
The vault that is put back opens what was sealed before the backup and not purged by then. What was sealed under
groups that were begun after it is lost here: other holders and the agency's other nodes have it. A mirror is
never older than the vault: where there is one, restore from it; its root key is there only where a passphrase
protects it. The passphrase is the one that the vault had then.

Examples:
  customhouse vault restore vault-backups/vault-000007 nl/vault
  customhouse vault restore /mnt/second/customhouse --config nl/node.toml";

pub(super) const MIRROR_HELP: &str = "\
The mirror has what is sealed before anybody is told that it was accepted, and the keys, which nobody opens
without the root key. That is there too where a passphrase protects it; a plain one never leaves its directory,
so that a mirror of such a vault is of no use without a backup of the vault. What was sealed before the mirror
was made is not in it. A mirror of this vault that is there already is brought up.

The node is stopped meanwhile, and then started with `mirror` in its configuration.

Examples:
  customhouse vault mirror --config nl/node.toml /mnt/second/customhouse";

#[derive(Serialize)]
#[serde(transparent)]
struct Made(BackupReport);

impl fmt::Display for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

pub(super) fn backup(args: &BackupArgs, output: Output) -> anyhow::Result<()> {
    let config = args.of.read()?;
    let section = section(&config)?;
    let configured = section.backup.as_ref();
    let directory = args.to.clone().or_else(|| configured.map(|to| to.directory.clone()));
    let missing =
        || WrongUsage("where to? Name --to, or [vault.backup] in the configuration".into());
    let keep = args.keep.and_then(|keep| usize::try_from(keep).ok());
    let keep = keep.or(configured.map(|to| to.keep)).unwrap_or_else(backups_kept);
    let to = BackupSection { directory: directory.ok_or_else(missing)?, keep };
    output.print(&Made(upkeep::back_up(section, &to).map_err(explained)?))?;
    Ok(())
}

#[derive(Serialize)]
struct BackupsView {
    #[serde(serialize_with = "lossy")]
    directory: PathBuf,
    backups: Vec<BackupReport>,
    wrong: Vec<Wrong>,
}

#[derive(Serialize)]
struct Wrong {
    code: &'static str,
    error: String,
}

pub(super) fn backups(args: &BackupsArgs, output: Output) -> Done {
    let directory = match (&args.from, &args.config) {
        (Some(from), _) => from.clone(),
        (None, Some(file)) => {
            let config = NodeConfig::read(file)?;
            let backup = section(&config)?.backup.clone();
            let missing =
                || WrongUsage("where? Name --from, or [vault.backup] in the configuration".into());
            backup.ok_or_else(missing)?.directory
        }
        (None, None) => unreachable!("clap asks for one of them"),
    };
    anyhow::ensure!(
        directory.exists(),
        "{} is not there: no backup was made yet (`customhouse vault backup`), or its disk is not mounted",
        directory.display()
    );
    let (mut backups, mut wrong) = (Vec::new(), Vec::new());
    for found in upkeep::backups(&directory)? {
        match found {
            Ok(backup) => backups.push(backup),
            Err(error) => wrong.push(Wrong { code: error.code(), error: error.to_string() }),
        }
    }
    let is_well = !backups.is_empty() && wrong.is_empty();
    output.print(&BackupsView { directory, backups, wrong })?;
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl fmt::Display for BackupsView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.backups.iter().map(ToString::to_string);
        let wrong = self.wrong.iter().map(|wrong| format!("WRONG: {}", one_line(&wrong.error)));
        let lines: Vec<_> = lines.chain(wrong).collect();
        match lines.is_empty() {
            true => write!(f, "{}: no backup", one_line(&self.directory.display().to_string())),
            false => f.write_str(&lines.join("\n")),
        }
    }
}

#[derive(Serialize)]
struct Restored {
    vault: String,
    #[serde(serialize_with = "lossy")]
    directory: PathBuf,
}

pub(super) fn restore(args: &RestoreArgs, output: Output) -> anyhow::Result<()> {
    let into = match (&args.into, &args.config) {
        (Some(into), _) => into.clone(),
        (None, Some(file)) => section(&NodeConfig::read(file)?)?.directory.clone(),
        (None, None) => unreachable!("clap asks for one of them"),
    };
    let vault = upkeep::restore(&args.from, &into).map_err(|error| of_which(args, error.into()))?;
    output.print(&Restored { vault, directory: into })?;
    Ok(())
}

/// The error, and which backup may be meant where the directory of all was named.
fn of_which(args: &RestoreArgs, error: anyhow::Error) -> anyhow::Error {
    let newest =
        upkeep::backups(&args.from).ok().and_then(|found| found.into_iter().flatten().last());
    match newest {
        Some(newest) => error.context(format!(
            "{} is a directory of backups: name one of them, such as the newest, {}",
            args.from.display(),
            newest.path.display()
        )),
        None => error,
    }
}

impl fmt::Display for Restored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { vault, directory } = self;
        write!(
            f,
            "vault {vault} was put back into {}\n\
             It opens with the passphrase of then, and goes on with new groups. `root_key` in the configuration \
             says where the passphrase is; see `customhouse vault show`.",
            directory.display()
        )
    }
}

#[derive(Serialize)]
struct Mirrored {
    #[serde(serialize_with = "lossy")]
    directory: PathBuf,
    #[serde(flatten)]
    made: upkeep::MirrorMade,
    /// Whether the configuration names it already.
    configured: bool,
}

pub(super) fn mirror(args: &MirrorArgs, output: Output) -> anyhow::Result<()> {
    let config = args.of.read()?;
    let section = section(&config)?;
    let directory = args.directory.clone().or_else(|| section.mirror.clone());
    let missing = || WrongUsage("where to? Name a directory, or `mirror` under [vault]".to_owned());
    let directory = directory.ok_or_else(missing)?;
    let made = upkeep::mirror(section, &directory).map_err(explained)?;
    let directory = std::path::absolute(&directory).unwrap_or(directory);
    let configured = section
        .mirror
        .as_deref()
        .is_some_and(|named| std::path::absolute(named).is_ok_and(|named| named == directory));
    output.print(&Mirrored { directory, made, configured })?;
    Ok(())
}

impl fmt::Display for Mirrored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { directory, made, configured } = self;
        let shown = directory.display();
        let done = if made.was_there { "brought up" } else { "made" };
        writeln!(f, "{done} {shown}: it has the keys of generation {}", made.generation)?;
        writeln!(
            f,
            "{}",
            match made.has_root_key {
                true => "A vault can be put back from it, with the vault's passphrase.",
                false =>
                    "It has no root key, because that is plain: without a backup of the vault it opens nothing.",
            }
        )?;
        write!(f, "What was sealed before it was made is not in it.")?;
        if !configured {
            write!(
                f,
                "\nThe section [vault] of the configuration must say, in place of single_copy:\n  mirror = {}",
                serde_json::Value::from(shown.to_string())
            )?;
        }
        Ok(())
    }
}
