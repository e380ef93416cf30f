//! `customhouse submit declarations-csv`.

use std::io::BufReader;

use anyhow::Context as _;
use customhouse_node::{
    import::{Imported, csv_rows},
    readfile,
};
use customhouse_proto::v1;

use super::{Batch, Report, RowsArgs, finish, shown};
use crate::cli::{connect::Connection, progress};

/// Rows held in memory at a time.
const ROWS_AT_A_TIME: usize = 16_384;

pub(super) async fn submit(args: &RowsArgs, connection: &Connection) -> anyhow::Result<Report> {
    let name = shown(&args.file);
    let file = readfile::open(&args.file).with_context(|| name.clone())?;
    let mut report = Report::begin(connection).await?;
    let batch = Batch::new(connection, args.submit.patience(), report.height_before);
    let bar = progress::counter("rows");
    let mut rows = csv_rows(BufReader::new(file), &name)?.take(args.limit.unwrap_or(usize::MAX));
    loop {
        let mut part = Vec::new();
        for row in rows.by_ref().take(ROWS_AT_A_TIME) {
            match row {
                Ok(row) => part.push(row),
                Err(error) => bar.suspend(|| report.add_malformed(&error)),
            }
        }
        if part.is_empty() {
            break;
        }
        for row in &part {
            bar.suspend(|| report.add_warnings(&row.label, &row.warnings, args.warnings));
        }
        let ends = batch.submit(part.iter().map(submission).collect(), &bar).await?;
        for (row, end) in part.iter().zip(ends) {
            bar.suspend(|| report.add_end(&row.label, "declaration", end));
        }
    }
    bar.finish_and_clear();
    finish(report, &args.submit, connection).await
}

/// What is submitted of an imported message.
pub(super) fn submission(imported: &Imported) -> v1::RecordSubmission {
    v1::RecordSubmission {
        record: Some(imported.record.clone()),
        idempotency_key: imported.idempotency_key.clone(),
    }
}
