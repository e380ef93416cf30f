//! `customhouse store check`.

use std::{fmt, path::PathBuf, process::ExitCode, time::Instant};

use customhouse_audit::{head::saved_header, validators::follow_file};
use customhouse_files::keyfile::KeyFile;
use customhouse_ledger::{
    chain::check::{CheckReport, Damage},
    proofs::verifier::Verifier,
    store::StoreError,
};
use customhouse_node::{
    config::journal_path,
    journal::JournalError,
    store::{self, Known},
};
use serde::Serialize;

use super::{Access, Place, StoreArgs, bars::Bars, explained};
use crate::{
    command::Done,
    output::{Output, lossy},
};

#[derive(clap::Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// A head that `audit consistency` saved, which the store must have. May be given several times.
    #[arg(long, value_name = "FILE")]
    head: Vec<PathBuf>,
    /// With --head, the changes of validators since the genesis, as `audit validator-chain` wrote them:
    /// needed where they changed before the head.
    #[arg(long, value_name = "FILE", requires = "head")]
    validator_chain: Option<PathBuf>,
}

pub(super) const HELP: &str = "\
Follows the chain from the genesis: every hash, finalization, signature and rule of every record, all
roots, and every row of every index. Nothing of the store is changed, and nothing of it is believed.
The node must be stopped. Damage is named with height, table (RocksDB column family) and key, the
first 100 places of it; where the chain itself cannot be followed, the check ends there and says so.

A store that lost its last blocks is sound in itself. So the signer's journal, which lies beside the
validator key, is asked which height it knows of, and so is a head that you saved with
`customhouse audit consistency`. A head that no quorum signed and a journal of another key are refused.

Read first, each as a whole and against the checksum that RocksDB made when it wrote it, is every
table and blob file: so also their filters, indexes, properties and footers, of which rows show nothing.
Files that an earlier version wrote have no such checksum; they are counted as unchecked, and of these
every block of rows is checked. CURRENT, the MANIFEST and the write-ahead logs are checked too. Not
looked at, because nothing that is served comes from them, are IDENTITY, OPTIONS, LOG and LOCK.

Damaged indexes are made anew by `customhouse store rebuild`. Where headers or transactions are
damaged, restore a backup, or remove the store's folder: the node fetches the ledger from its peers.

Exit codes: 0 sound; 1 damaged, or half rebuilt; 2 the store could not be looked at, for example because
its node is running; 64 wrong arguments.

Examples:
  customhouse store check --config nl/node.toml
  customhouse store check --config nl/node.toml --head nl.head
  customhouse store check --data-dir restored --genesis genesis.json
  customhouse --output json store check --config nl/node.toml | jq '.damage[]'";

/// The answer.
#[derive(Serialize)]
struct CheckView {
    verdict: &'static str,
    #[serde(serialize_with = "lossy")]
    store: PathBuf,
    #[serde(flatten)]
    report: Option<CheckReport>,
    /// What keeps RocksDB from opening the store.
    #[serde(skip_serializing_if = "Option::is_none")]
    not_opened: Option<Damage>,
    #[serde(skip)]
    half_rebuilt: bool,
    /// Signer's journals that could not be read, and why: what they know was not looked at.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_compared: Vec<String>,
    seconds: f64,
    records_per_second: f64,
}

pub(super) fn run(args: &CheckArgs, output: Output) -> Done {
    let place = args.store.place(Access::Read).map_err(explained)?;
    let mut not_compared = Vec::new();
    let known = known(args, &place, &mut not_compared)?;
    let (bars, begun) = (Bars::new(), Instant::now());
    let show = |progress| bars.show(progress);
    let checked = store::check(&place.path, &place.genesis, &place.options, &known, &show);
    let seconds = begun.elapsed().as_secs_f64();
    bars.finish();
    let half_rebuilt = matches!(checked, Err(StoreError::HalfRebuilt));
    let (report, not_opened) = match checked {
        Ok(report) => (Some(report), None),
        Err(error) => match store::damage_of(&error) {
            Some(damage) => (None, Some(damage)),
            None => return Err(explained(error)),
        },
    };
    let sound = report.as_ref().is_some_and(CheckReport::is_sound);
    let records = report.as_ref().map_or(0, |report| report.records);
    output.print(&CheckView {
        verdict: if sound { "sound" } else { "damaged" },
        store: place.path,
        report,
        not_opened,
        half_rebuilt,
        not_compared,
        seconds,
        records_per_second: (records as f64 / seconds.max(1e-3)).round(),
    })?;
    Ok(ExitCode::from(u8::from(!sound)))
}

/// What others remember of the newest blocks.
fn known(
    args: &CheckArgs,
    place: &Place,
    not_compared: &mut Vec<String>,
) -> anyhow::Result<Vec<Known>> {
    let mut known = Vec::new();
    let mut verifier = Verifier::new(&place.genesis);
    if let Some(file) = &args.validator_chain {
        follow_file(&mut verifier, file)?;
    }
    for path in &args.head {
        // What no quorum signed says nothing about a store.
        known.push(Known::head(path, &saved_header(path, &verifier)?));
    }
    for key in &place.validator_keys {
        let journal = journal_path(key);
        // Which key it is, a file that is under a passphrase says too.
        let read = KeyFile::read_public(key).map_err(|error| error.to_string());
        let found = read.and_then(|key| match Known::journal(&journal, &key.public_key) {
            Err(error @ JournalError::OtherKey { .. }) => Ok(Err(error)),
            found => found.map(Ok).map_err(|error| error.to_string()),
        });
        match found {
            Ok(found) => known.push(found?),
            Err(why) => {
                note!("customhouse: {why}. What it knows is not compared");
                not_compared.push(why);
            }
        }
    }
    Ok(known)
}

impl fmt::Display for CheckView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(damage) = &self.not_opened {
            writeln!(f, "{damage}")?;
            write!(f, "DAMAGED: the store cannot be opened")?;
            return match self.half_rebuilt {
                true => Ok(()),
                false => write!(f, "; restore a backup, or remove its folder"),
            };
        }
        let Some(report) = &self.report else { return Ok(()) };
        for damage in &report.damage {
            writeln!(f, "{damage}")?;
        }
        for torn in &report.torn {
            writeln!(f, "{torn}")?;
        }
        if !report.files_unchecked.is_empty() {
            writeln!(
                f,
                "{} of {} files have no checksum, because an earlier version wrote them: checked are \
                 their rows only, and not what else is in them",
                report.files_unchecked.len(),
                report.files + report.files_unchecked.len() as u64,
            )?;
        }
        if report.decisions_unchecked {
            writeln!(
                f,
                "whether rows of `decisions` are missing cannot be told: an earlier version wrote the last"
            )?;
        }
        let more = report.damage_count - report.damage.len() as u64;
        if more > 0 {
            writeln!(f, "… and {more} more")?;
        }
        if let Some(height) = report.stopped_at {
            writeln!(
                f,
                "the chain cannot be followed at height {height}: nothing from there on was checked, \
                 nor any index"
            )?;
        }
        writeln!(
            f,
            "height {}, block {}, {} transactions, {} records, {} index rows, {:.1} s, {} records/s",
            report.height,
            report.block_hash,
            report.transactions,
            report.records,
            report.index_rows,
            self.seconds,
            self.records_per_second
        )?;
        match report.damage_count {
            0 => write!(f, "sound"),
            1 => write!(f, "DAMAGED in 1 place"),
            count => write!(f, "DAMAGED in {count} places"),
        }
    }
}
