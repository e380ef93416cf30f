//! What checking a whole store takes (`customhouse store check`), with a signature that many records
//! share and with one a record.

use std::{path::Path, time::Instant};

use anyhow::ensure;
use customhouse_ledger::{chain::Chain, registry::genesis::Genesis, store::StoreOptions};
use customhouse_node::store;

use crate::{
    offline::{self, Kind},
    report::{Goal, Report, Section},
    usage::Usage,
};

/// Records a second that are to be reached on two cores, with 100 records a signature.
const GOAL: f64 = 100_000.0;

/// Makes stores of `records` records with 100 a signature, and of a fifth of that with one.
pub(crate) fn measure(dir: &Path, records: u64, report: &mut Report) -> anyhow::Result<()> {
    for (a_signature, records, goal) in
        [(100, records, Some(Goal::AtLeast(GOAL))), (1, records / 5, None)]
    {
        let dir = tempfile::tempdir_in(dir)?;
        let genesis = offline::genesis()?;
        grow(dir.path(), &genesis, a_signature, records)?;
        let (begun, before) = (Instant::now(), Usage::of(std::process::id())?.cpu_s);
        let options = StoreOptions::default();
        let checked = store::check(dir.path(), &genesis, &options, &[], &|_| ())?;
        let per_second = checked.records as f64 / begun.elapsed().as_secs_f64();
        let cpu_s = Usage::of(std::process::id())?.cpu_s - before;
        ensure!(checked.is_sound() && checked.records == records, "{:?}", checked.damage);
        let name = format!("records checked, {a_signature} a signature");
        match goal {
            Some(goal) => report.goal(Section::StoreCheck, name, per_second, "records/s", goal),
            None => report.figure(Section::StoreCheck, name, per_second, "records/s"),
        }
        let name = format!("processor time of 100,000, {a_signature} a signature");
        report.figure(Section::StoreCheck, name, cpu_s / records as f64 * 1e5, "s");
    }
    Ok(())
}

fn grow(dir: &Path, genesis: &Genesis, a_signature: u64, records: u64) -> anyhow::Result<()> {
    let mut chain = Chain::open(dir, genesis, &StoreOptions::default())?;
    let mut blocks = Kind { a_signature, containers: 0 }.blocks(genesis, 0..records);
    blocks.try_for_each(|transactions| offline::commit(&mut chain, genesis, transactions?))
}
