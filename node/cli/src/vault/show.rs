//! `customhouse vault show`.

use std::{collections::BTreeMap, fmt};

use customhouse_audit::time;
use customhouse_node::sealed::upkeep::report::{
    BackupsReport, ContentsReport, MirrorReport, VaultReport,
};
use serde::Serialize;

use super::{ConfigArgs, explained, section};
use crate::output::{Output, one_line};

pub(super) const HELP: &str = "\
Of a vault that its node has open only what can be told from outside is shown, and no passphrase is asked
for: which vault it is, its generation, what protects it, its mirror and its backups. For the rest the node
is stopped.

Examples:
  customhouse vault show --config nl/node.toml
  customhouse --output json vault show --config nl/node.toml | jq .contents.encryption_keys";

#[derive(Serialize)]
#[serde(transparent)]
struct View(VaultReport);

pub(super) fn run(args: &ConfigArgs, output: Output) -> anyhow::Result<()> {
    let config = args.read()?;
    let report = VaultReport::of(section(&config)?, config.agency).map_err(explained)?;
    output.print(&View(report))?;
    Ok(())
}

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let VaultReport { directory, vault, generation, root_key, contents, mirror, backups } =
            &self.0;
        writeln!(f, "vault           {vault}, generation {generation}")?;
        writeln!(f, "directory       {}", one_line(&directory.display().to_string()))?;
        writeln!(
            f,
            "root key        {}",
            match *root_key {
                "plain" => "plain: whoever has the directory has everything",
                _ => "under a passphrase",
            }
        )?;
        match contents {
            Some(contents) => write_contents(f, contents)?,
            None => writeln!(
                f,
                "contents        not shown: the vault is open in another process, its node's; stop it to see them"
            )?,
        }
        match mirror {
            Some(mirror) => write_mirror(f, mirror, *generation)?,
            None => {
                writeln!(f, "mirror          none: what this disk loses is lost (single_copy)")?
            }
        }
        match backups {
            Some(backups) => write_backups(f, backups, *generation),
            None => write!(f, "backups         none are made: [vault.backup] is not there"),
        }
    }
}

fn write_contents(f: &mut fmt::Formatter<'_>, contents: &ContentsReport) -> fmt::Result {
    let mut months: BTreeMap<&str, usize> = BTreeMap::new();
    contents.groups.iter().for_each(|group| *months.entry(&*group.month).or_default() += 1);
    let months: Vec<_> =
        months.iter().map(|(month, count)| format!("{count} of {month}")).collect();
    write!(f, "groups          {}", contents.groups.len())?;
    if !months.is_empty() {
        write!(f, ": {}", months.join(", "))?;
    }
    let closed = contents.groups.iter().filter(|group| group.closed).count();
    if closed > 0 {
        write!(f, "; {closed} about to be ended")?;
    }
    writeln!(f, "\nepoch secrets   {}", contents.epochs.len())?;
    for epoch in &contents.epochs {
        let until = time::shown(epoch.until_s.saturating_mul(1000));
        writeln!(
            f,
            "                {} epoch {}, kept until {until}",
            epoch.agreement, epoch.epoch
        )?;
    }
    writeln!(f, "encryption keys {}", contents.encryption_keys.len())?;
    for key in &contents.encryption_keys {
        writeln!(f, "                {key}")?;
    }
    writeln!(f, "dedupe secrets  {}, by their checks", contents.dedupe.len())?;
    for secret in &contents.dedupe {
        write!(f, "                {}", secret.check)?;
        match secret.until_s {
            Some(until) => {
                writeln!(f, ", counts until {}", time::shown(until.saturating_mul(1000)))?
            }
            None => writeln!(f)?,
        }
    }
    if contents.renewal_due {
        writeln!(f, "renewal         due: older copies of the keys open what was removed")?;
    }
    Ok(())
}

fn write_mirror(f: &mut fmt::Formatter<'_>, mirror: &MirrorReport, generation: u64) -> fmt::Result {
    write!(f, "mirror          {}: ", one_line(&mirror.directory.display().to_string()))?;
    if let Some(wrong) = &mirror.wrong {
        return writeln!(f, "WRONG: {}", one_line(wrong));
    }
    match mirror.generation {
        Some(there) if there == generation => write!(f, "has the keys")?,
        Some(there) => write!(f, "has the keys of generation {there}")?,
        None => write!(f, "has no keys yet")?,
    }
    match mirror.has_root_key {
        true => writeln!(f, ", and a vault can be put back from it"),
        false => writeln!(f, ", and no root key: without a backup of the vault it opens nothing"),
    }
}

fn write_backups(
    f: &mut fmt::Formatter<'_>,
    backups: &BackupsReport,
    generation: u64,
) -> fmt::Result {
    let BackupsReport { directory, readable, newest, wrong } = backups;
    write!(f, "backups         {readable} in {}", one_line(&directory.display().to_string()))?;
    if let Some(newest) = newest {
        write!(f, "; the newest is {}, generation {}", newest.number, newest.generation)?;
        if newest.generation < generation {
            write!(f, ", OLDER than the vault")?;
        }
    }
    for wrong in wrong {
        write!(f, "\n                WRONG: {}", one_line(wrong))?;
    }
    Ok(())
}
