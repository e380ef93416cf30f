//! Receipt files.

use std::{collections::BTreeSet, path::Path};

use anyhow::Context as _;
use customhouse_client::{ClientError, contract::REQUEST_RECORDS_MAX};
use customhouse_files::newfile;
use customhouse_ledger::hash::Hash;
use customhouse_proto::v1;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use prost::Message as _;

use super::{report::Report, shown};
use crate::{audit::validator_chain, connect::Connection, progress};

/// Files written at a time.
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
    let wanted: Vec<Hash> = wanted.into_iter().filter(|id| !file(id).exists()).collect();
    for ids in wanted.chunks(REQUEST_RECORDS_MAX) {
        let mut batches = connection.client.receipts(ids).await.context("receipts")?;
        while let Some(batch) = batches.message().await.map_err(ClientError::from)? {
            let write = async |result| {
                let (id, bytes) = receipt_of(result, connection).await?;
                let path = file(&id);
                // The disk is waited for, file by file.
                let written = tokio::task::spawn_blocking(move || {
                    newfile::write(&path, &bytes, 0o644).with_context(|| shown(&path))
                });
                written.await?
            };
            let mut written = stream::iter(batch.results).map(write).buffer_unordered(AT_A_TIME);
            while written.try_next().await?.is_some() {
                bar.inc(1);
            }
        }
    }
    bar.finish_and_clear();
    validator_chain::write_beside(dir, connection).await?;
    for record in &mut report.records {
        record.receipt = Some(file(&record.record_id));
    }
    Ok(())
}

/// A receipt's record and its bytes. One whose record is too large to be given with many others is asked for
/// by itself.
async fn receipt_of(
    result: v1::ReceiptResult,
    connection: &Connection,
) -> anyhow::Result<(Hash, Vec<u8>)> {
    let v1::ReceiptResult { record_id, receipt, reason_code, reason } = result;
    let id = Hash::from_slice(&record_id).context("an answer without a record's id")?;
    let receipt = receipt.with_context(|| format!("receipt of {id}: {reason_code}: {reason}"))?;
    if !receipt.record.is_empty() {
        return Ok((id, receipt.encode_to_vec()));
    }
    Ok((id, connection.client.whole_receipt(id, false).await?.encode_to_vec()))
}
