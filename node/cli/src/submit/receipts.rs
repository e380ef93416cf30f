//! Receipt files.

use std::{collections::BTreeSet, path::Path};

use anyhow::Context as _;
use customhouse_files::newfile;
use customhouse_ledger::hash::Hash;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use prost::Message as _;

use super::{report::Report, shown};
use crate::{audit::validator_chain, connect::Connection, progress};

/// Receipts fetched at a time.
const AT_A_TIME: usize = 16;

/// Fetches the receipt of every record of a report whose file is not there yet, and the validator
/// chain that they are verified with.
pub(super) async fn write_all(
    report: &mut Report,
    dir: &Path,
    connection: &Connection,
) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir).with_context(|| shown(dir))?;
    let file = |id: &Hash| dir.join(format!("{id}.receipt"));
    let wanted: BTreeSet<Hash> = report.records.iter().map(|record| record.record_id).collect();
    let bar = progress::bar(wanted.len(), "receipts");
    let fetches = wanted.into_iter().filter(|id| !file(id).exists()).map(|id| {
        let bar = bar.clone();
        async move {
            let receipt = connection.client.receipt(id, false).await;
            let receipt = receipt.with_context(|| format!("receipt of {id}"))?;
            let path = file(&id);
            let bytes = receipt.encode_to_vec();
            newfile::write(&path, &bytes, 0o644).with_context(|| shown(&path))?;
            bar.inc(1);
            anyhow::Ok(())
        }
    });
    stream::iter(fetches).buffer_unordered(AT_A_TIME).try_collect::<()>().await?;
    bar.finish_and_clear();
    validator_chain::write_beside(dir, connection).await?;
    for record in &mut report.records {
        record.receipt = Some(file(&record.record_id));
    }
    Ok(())
}
