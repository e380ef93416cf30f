//! `customhouse store restore`.

use std::{fmt, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use customhouse_ledger::{
    chain::check::CheckReport,
    store::{self as ledger, BackupOwner, StoreError},
};
use customhouse_node::store::Restore;
use serde::Serialize;

use super::{Access, StoreArgs, bars::Bars, explained};
use crate::{
    command::Done,
    failure::WrongUsage,
    output::{Output, lossy},
};

#[derive(clap::Args)]
pub(crate) struct RestoreArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// The directory of backups; else the configuration's [backup] says.
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
    /// Which backup, by its number; else the newest.
    #[arg(long, value_name = "ID")]
    backup: Option<u32>,
    /// Check each file against the checksums that backup and store have of it, and that the store opens,
    /// but not every row from the genesis on.
    #[arg(long)]
    quick: bool,
}

pub(super) const HELP: &str = "\
Puts a backup back as the store of a stopped node, whose folder `store` in the data directory must be
gone or empty: stop the node first, and move the folder away. Every file is checked against its
checksum, and the store is then checked in full, as `customhouse store check` does; what is not right
is not put there. The answer says whose the backup is, and one of another chain is refused.

Leave the signer's journal as it is, beside the validator key: it knows what the key has signed since
the backup, and no backup has one. The node follows, fetches the blocks that it lacks from its peers
by itself, and signs again when it has them.

Exit codes: 0 restored; 1 the backup is damaged; 2 not done for another reason; 64 wrong arguments.

Examples:
  customhouse store restore --config nl/node.toml
  customhouse store restore --data-dir restored --genesis genesis.json --from backups --backup 12";

#[derive(Serialize)]
struct RestoreView {
    backup: u32,
    /// Whose it is, where the directory says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<BackupOwner>,
    #[serde(serialize_with = "lossy")]
    store: PathBuf,
    restored: bool,
    /// The report of the full check.
    #[serde(skip_serializing_if = "Option::is_none")]
    report: Option<CheckReport>,
}

pub(super) fn run(args: &RestoreArgs, output: Output) -> Done {
    let place = args.store.place(Access::Write).map_err(explained)?;
    let named = place.backup.as_ref().map(|section| section.directory.clone());
    let from = args.from.clone().or(named);
    let where_from = "where from? Name --from, or [backup] in the configuration";
    let from = from.ok_or_else(|| WrongUsage(where_from.to_owned()))?;
    let backups = ledger::backups(&from)?;
    let newest = || backups.last().map(|backup| backup.id);
    let id =
        args.backup.or_else(newest).with_context(|| format!("no backup in {}", from.display()))?;
    anyhow::ensure!(
        backups.iter().any(|backup| backup.id == id),
        "no backup {id} in {}; there are: {}",
        from.display(),
        backups.iter().map(|backup| backup.id.to_string()).collect::<Vec<_>>().join(", ")
    );
    let owner = ledger::backup_owner(&from)?;
    let (expected, other) = (place.genesis.chain_id(), owner.as_ref().map(|owner| owner.chain_id));
    if let Some(found) = other.filter(|found| *found != expected) {
        let error = anyhow::Error::new(StoreError::OtherGenesis { expected, found });
        return Err(error.context(format!("backups in {}", from.display())));
    }
    if let Some(parent) = place.path.parent() {
        std::fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
    }
    let bars = Bars::new();
    let show = |progress| bars.show(progress);
    let restore = Restore {
        from: &from,
        id,
        to: &place.path,
        genesis: &place.genesis,
        options: &place.options,
    };
    let restored = restore.run(args.quick, &show);
    bars.finish();
    let report = match restored {
        Ok(report) => report,
        Err(error) if error.is_corruption() => {
            output.failed(&error.into());
            return Ok(ExitCode::FAILURE);
        }
        Err(error) => return Err(explained(error)),
    };
    let restored = report.as_ref().is_none_or(CheckReport::is_sound);
    output.print(&RestoreView { backup: id, owner, store: place.path, restored, report })?;
    Ok(ExitCode::from(u8::from(!restored)))
}

impl fmt::Display for RestoreView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { backup, owner, store, restored, report } = self;
        if let Some(owner) = owner {
            writeln!(f, "of {owner}")?;
        }
        for damage in report.iter().flat_map(|report| &report.damage) {
            writeln!(f, "{damage}")?;
        }
        match (restored, report) {
            (false, _) => write!(f, "backup {backup} is DAMAGED; nothing was restored"),
            (true, None) => write!(f, "backup {backup} restored to {}", store.display()),
            (true, Some(report)) => write!(
                f,
                "backup {backup} restored to {}: height {}, {} records, sound",
                store.display(),
                report.height,
                report.records
            ),
        }
    }
}
