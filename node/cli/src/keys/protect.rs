//! `customhouse keys protect` and `keys unprotect`.

use std::{
    collections::BTreeSet,
    fmt,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use customhouse_files::{
    keyfile::KeyFile,
    passphrase::{Passphrase, PassphraseSource},
};
use serde::Serialize;

use crate::{
    failure::WrongUsage,
    output::{Output, one_line},
};

#[derive(clap::Args)]
pub(crate) struct ProtectArgs {
    /// Key files.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Where the passphrase is that they are to be under: `prompt`, `file:PATH` or `credential:NAME`.
    #[arg(long, value_name = "WHERE", default_value = "prompt")]
    passphrase: PassphraseSource,
    /// Where the passphrase is that they are under now, of those that are under one.
    #[arg(long, value_name = "WHERE")]
    from: Option<PassphraseSource>,
}

#[derive(clap::Args)]
pub(crate) struct UnprotectArgs {
    /// Key files.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Where the passphrase is that they are under.
    #[arg(long, value_name = "WHERE", default_value = "prompt")]
    passphrase: PassphraseSource,
}

pub(super) const PROTECT_HELP: &str = "\
The keys stay what they are. Each file is replaced by one that is encrypted (scrypt and AES-256, as OpenSSL
opens it), and what was there before is overwritten. All files are read before the first is changed. It is
against whoever gets hold of the disk or a backup of it, and not against whoever has the passphrase beside it:
give it at the terminal, from another disk, or as a credential of systemd. A passphrase that is lost is a key
that is lost.

A node is told where the passphrase of its files is: `passphrase = \"credential:keys\"` under [keys] of its
configuration. All of its files that are under a passphrase are under the same. It may run meanwhile, and reads
the files when it is started.

Examples:
  customhouse keys protect nl/keys/*.key --passphrase prompt
  customhouse keys protect acme/submitter.key --passphrase file:word
  customhouse keys protect nl/keys/*.key --from file:old-word --passphrase file:new-word";

pub(super) const UNPROTECT_HELP: &str = "\
Examples:
  customhouse keys unprotect nl/keys/*.key --passphrase file:word";

pub(super) fn protect(args: &ProtectArgs, output: Output) -> anyhow::Result<()> {
    let from = args.from.as_ref();
    let before = protected(&args.files)?;
    let present = match before.contains(&true) {
        true => from.map(|source| source.ask("the key files as they are")).transpose()?,
        false => None,
    };
    check(&args.files, &before, present.as_ref())?;
    let next = args.passphrase.choose("the key files")?;
    change(&args.files, &before, present.as_ref(), Some(&next))?;
    output.print(&Changed { files: shown(&args.files), protected: true })?;
    Ok(())
}

pub(super) fn unprotect(args: &UnprotectArgs, output: Output) -> anyhow::Result<()> {
    let before = protected(&args.files)?;
    let present = match before.contains(&true) {
        true => Some(args.passphrase.ask("the key files")?),
        false => None,
    };
    check(&args.files, &before, present.as_ref())?;
    change(&args.files, &before, present.as_ref(), None)?;
    output.print(&Changed { files: shown(&args.files), protected: false })?;
    Ok(())
}

/// Which of them are under a passphrase. None is named twice: it would be another file the second time.
fn protected(files: &[PathBuf]) -> anyhow::Result<Vec<bool>> {
    let mut named = BTreeSet::new();
    for file in files {
        let real = file.canonicalize().unwrap_or_else(|_| file.clone());
        if !named.insert(real) {
            anyhow::bail!(WrongUsage(format!("{} is named twice: name it once", file.display())));
        }
    }
    let is_protected = |file: &PathBuf| Ok(KeyFile::read_public(file)?.is_protected);
    files.iter().map(is_protected).collect()
}

/// Whether all can be read, before one is changed.
fn check(files: &[PathBuf], before: &[bool], present: Option<&Passphrase>) -> anyhow::Result<()> {
    for (file, is_protected) in files.iter().zip(before) {
        KeyFile::read_with(file, present.filter(|_| *is_protected))?;
    }
    Ok(())
}

fn change(
    files: &[PathBuf],
    before: &[bool],
    present: Option<&Passphrase>,
    next: Option<&Passphrase>,
) -> anyhow::Result<()> {
    for (file, is_protected) in files.iter().zip(before) {
        // Nothing is written anew that is under none, and is to be.
        if *is_protected || next.is_some() {
            KeyFile::protect(file, present.filter(|_| *is_protected), next)
                .context("the files that are named before this one were changed, and no other")?;
        }
    }
    Ok(())
}

fn shown(files: &[PathBuf]) -> Vec<String> {
    files.iter().map(|file: &PathBuf| Path::display(file).to_string()).collect()
}

#[derive(Serialize)]
struct Changed {
    files: Vec<String>,
    protected: bool,
}

impl fmt::Display for Changed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.protected { "under the passphrase" } else { "under no passphrase" };
        let lines: Vec<_> =
            self.files.iter().map(|file| format!("{how}: {}", one_line(file))).collect();
        f.write_str(&lines.join("\n"))
    }
}
