//! `customhouse submit declarations-csv`.

use std::{
    collections::{HashMap, hash_map::Entry},
    io::BufReader,
};

use anyhow::Context as _;
use customhouse_files::readfile;
use customhouse_formats::{Imported, csv_rows};
use customhouse_proto::v1;

use super::{Batch, Report, RowsArgs, finish, shown};
use crate::{connect::Connection, progress};

/// Rows held in memory at a time.
const ROWS_AT_A_TIME: usize = 16_384;

pub(super) async fn submit(args: &RowsArgs, connection: &Connection) -> anyhow::Result<Report> {
    let name = shown(&args.file);
    let file = readfile::open(&args.file).with_context(|| name.clone())?;
    let mut report = Report::begin(connection).await?;
    let batch = Batch::new(connection, args.submit.patience(), report.height_before);
    let bar = progress::counter("rows");
    let mut rows = csv_rows(BufReader::new(file), &name)?;
    let mut left = args.limit.unwrap_or(usize::MAX);
    let mut firsts: HashMap<String, String> = HashMap::new();
    while left > 0 {
        let read = left.min(ROWS_AT_A_TIME);
        left -= read;
        let (mut part, mut ended) = (Vec::new(), true);
        // What was read counts, and not what came of it: all rows of a part may be malformed.
        for (number, row) in (1..).zip(rows.by_ref().take(read)) {
            ended = number < read;
            match row {
                Ok(row) => match firsts.entry(row.idempotency_key.clone()) {
                    Entry::Occupied(first) => {
                        bar.suspend(|| report.add_duplicate(&row.label, first.get()));
                    }
                    Entry::Vacant(place) => {
                        place.insert(row.label.clone());
                        part.push(row);
                    }
                },
                Err(error) => bar.suspend(|| report.add_unread(&error)),
            }
        }
        for row in &part {
            bar.suspend(|| report.add_warnings(&row.label, &row.warnings, args.warnings));
        }
        let ends = batch.submit(part.iter().map(submission).collect(), &bar).await?;
        for (row, end) in part.iter().zip(ends) {
            bar.suspend(|| report.add_end(&row.label, "declaration", end));
        }
        if ended {
            break;
        }
    }
    report.limited = left == 0 && rows.next().is_some();
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
