//! `customhouse submit declarations-csv`: the node imports the rows, in parts of the file.

use std::{
    collections::{HashMap, hash_map::Entry},
    io::{BufRead, BufReader, Read as _},
};

use anyhow::Context as _;
use customhouse_files::readfile;
use customhouse_formats::{ImportError, KOREAN_COLUMNS};
use customhouse_proto::v1::{self, import_options::Lodge, import_result::Outcome};

use super::{
    Report, RowsArgs, finish,
    import::{Imported, Importer, is_for_others},
    shown,
};
use crate::{connect::Connection, progress};

/// Rows, and bytes of them, that are imported at a time: a node takes as many.
const ROWS_AT_A_TIME: usize = 8192;
const BYTES_AT_A_TIME: usize = 4 << 20;
/// Most bytes of a line that are handed on: what is longer is malformed, and the node says so.
const LINE_BYTES_MAX: u64 = 16 * 1024;

pub(super) async fn submit(args: &RowsArgs, connection: &Connection) -> anyhow::Result<Report> {
    let name = shown(&args.file);
    let file = readfile::open(&args.file).with_context(|| name.clone())?;
    let mut report = Report::begin(connection).await?;
    let lodge = if args.dry_run { Lodge::Nothing } else { Lodge::All };
    let how = (&args.submit, report.height_before);
    let importer = Importer::new(connection, "rows", lodge, how);
    let bar = progress::counter("rows");
    let mut parts = Parts::new(BufReader::new(file), &name, args.limit)?;
    let mut firsts: HashMap<String, String> = HashMap::new();
    let mut cut_off: Option<String> = None;
    while let Some(Part { message, rows, failed }) = parts.next_part() {
        // The others would wait for as long as the one that was cut off, for nothing. They are counted.
        if let Some(reason) = &cut_off {
            report.add_unanswered(&name, rows, reason);
            continue;
        }
        let imported = importer.import(&mut [message], &bar).await?;
        if let Some(reason) = &imported.cut_off {
            let answered = imported.all.len();
            bar.suspend(|| report.add_unanswered(&name, rows.saturating_sub(answered), reason));
        }
        cut_off = imported.cut_off;
        let imported = imported.all;
        let labels: HashMap<u32, String> =
            imported.iter().map(|row| (row.result.number, row.result.label.clone())).collect();
        let is_of_header = imported.len() == 1 && is_of_header(&imported[0].result);
        for Imported { result, end } in imported {
            let label = &result.label;
            bar.suspend(|| match &result.outcome {
                Some(Outcome::Imported(imported)) => {
                    let key = imported.idempotency_key.clone();
                    match firsts.entry(key) {
                        // A row of an earlier part: it is there already, under the same key.
                        Entry::Occupied(first) => return report.add_duplicate(label, first.get()),
                        Entry::Vacant(place) => drop(place.insert(label.clone())),
                    }
                    report.add_warnings(label, &imported.warnings, args.warnings);
                    match end {
                        Some(end) if is_for_others(&end) => report.add_left_out(label, end),
                        Some(end) => report.add_end(label, "declaration", end),
                        None => report.add_planned(label, "declaration", imported, None),
                    }
                }
                Some(Outcome::Malformed(malformed)) => report.add_malformed(label, malformed),
                Some(Outcome::DuplicateOf(first)) => {
                    report.add_duplicate(label, labels.get(first).map_or("", String::as_str));
                }
                Some(Outcome::Skipped(skipped)) => {
                    report.add_skipped(label, &skipped.root, &skipped.reason);
                }
                None => {}
            });
        }
        if let Some(error) = failed {
            bar.suspend(|| report.add_unreadable(&error));
        }
        if is_of_header {
            break;
        }
    }
    report.limited = parts.limited;
    bar.finish_and_clear();
    finish(report, &args.submit, connection).await
}

/// Whether nothing can be made of a file, because its header is another's.
fn is_of_header(result: &v1::ImportResult) -> bool {
    matches!(&result.outcome, Some(Outcome::Malformed(malformed)) if malformed.line == 1)
}

/// A part of a file of rows.
struct Part {
    message: v1::ImportMessage,
    /// How many are not empty.
    rows: usize,
    /// What went wrong after it.
    failed: Option<ImportError>,
}

/// A file of rows, in parts with its header before each.
struct Parts<R> {
    lines: Lines<R>,
    name: String,
    header: Vec<u8>,
    /// Lines read after the header.
    lines_before: usize,
    /// Rows that may still be read.
    left: usize,
    ended: bool,
    /// Whether there are more rows than may be read.
    limited: bool,
}

impl<R: BufRead> Parts<R> {
    /// # Errors
    /// The header cannot be read.
    fn new(reader: R, name: &str, limit: Option<usize>) -> anyhow::Result<Self> {
        let mut lines = Lines { reader, after_return: false };
        let header = lines.next_line().with_context(|| name.to_owned())?;
        let header = header.with_context(|| {
            format!("{name}:1: column {:?}: the file is empty", KOREAN_COLUMNS[0])
        })?;
        let (name, left) = (name.to_owned(), limit.unwrap_or(usize::MAX));
        Ok(Self { lines, name, header, lines_before: 0, left, ended: false, limited: false })
    }

    /// The next part.
    fn next_part(&mut self) -> Option<Part> {
        if self.ended {
            return None;
        }
        let mut content = self.header.clone();
        content.push(b'\n');
        let lines_before = u32::try_from(self.lines_before).unwrap_or(u32::MAX);
        let (mut rows, mut written, mut failed) = (0, 0, None);
        while rows < ROWS_AT_A_TIME && content.len() < BYTES_AT_A_TIME {
            match self.lines.next_line() {
                Ok(Some(line)) => {
                    if !line.is_empty() && self.left == 0 {
                        (self.ended, self.limited) = (true, true);
                        break;
                    }
                    self.left -= usize::from(!line.is_empty());
                    written += usize::from(!line.is_empty());
                    rows += 1;
                    self.lines_before += 1;
                    content.extend_from_slice(&line);
                    content.push(b'\n');
                }
                Ok(None) => {
                    self.ended = true;
                    break;
                }
                Err(error) => {
                    self.ended = true;
                    let (file, reason) = (self.name.clone(), error.to_string());
                    failed = Some(ImportError::Read { file, reason });
                    break;
                }
            }
        }
        let is_first = lines_before == 0;
        // The header alone is looked at once: it may be another file's.
        if rows == 0 && !is_first && failed.is_none() {
            return None;
        }
        let label = self.name.clone();
        let message = v1::ImportMessage { label, content, lines_before, ..Default::default() };
        Some(Part { message, rows: written, failed })
    }
}

/// Lines that end with a line feed, a carriage return, or both.
struct Lines<R> {
    reader: R,
    after_return: bool,
}

impl<R: BufRead> Lines<R> {
    /// The next line without its end. Of one that is too long, so much that it still is.
    fn next_line(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        let mut any = false;
        loop {
            let available = self.reader.fill_buf()?;
            if available.is_empty() {
                return Ok(Some(line).filter(|_| any));
            }
            if std::mem::take(&mut self.after_return) && available[0] == b'\n' {
                self.reader.consume(1);
                continue;
            }
            any = true;
            let end = available.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let taken = end.unwrap_or(available.len());
            let room = LINE_BYTES_MAX.saturating_sub(line.len() as u64);
            // What is too long is read past, not kept.
            available[..taken].take(room).read_to_end(&mut line)?;
            self.after_return = end.is_some_and(|end| available[end] == b'\r');
            self.reader.consume(taken + usize::from(end.is_some()));
            if end.is_some() {
                return Ok(Some(line));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str, limit: Option<usize>) -> (Vec<(u32, String)>, bool) {
        let mut parts = Parts::new(text.as_bytes(), "a.csv", limit).expect("a header");
        let mut found = Vec::new();
        while let Some(Part { message, .. }) = parts.next_part() {
            let content = String::from_utf8(message.content).expect("text");
            found.push((message.lines_before, content));
        }
        (found, parts.limited)
    }

    #[test]
    fn a_file_is_cut_at_its_lines_with_the_header_before_each_part() {
        let rows: String = (0..ROWS_AT_A_TIME + 2).map(|n| format!("{n}\r\n")).collect();
        let (found, limited) = parts(&format!("h\r\n{rows}"), None);
        let cut = u32::try_from(ROWS_AT_A_TIME).expect("small");
        assert_eq!(found.iter().map(|(before, _)| *before).collect::<Vec<_>>(), [0, cut]);
        assert!(found[0].1.starts_with("h\n0\n1\n"), "the header first");
        assert_eq!(found[1].1, format!("h\n{cut}\n{}\n", cut + 1));
        assert!(!limited);
    }

    #[test]
    fn no_more_rows_are_read_than_the_limit_and_whether_there_are_more_is_known() {
        for (text, limit, content, limited) in [
            ("h\na\n\nb\nc\n", Some(2), "h\na\n\nb\n", true),
            ("h\na\nb\n\n", Some(2), "h\na\nb\n\n", false),
            ("h\na", Some(9), "h\na\n", false),
            ("h\n", None, "h\n", false),
            ("h\na\rb\r", None, "h\na\nb\n", false),
        ] {
            assert_eq!(parts(text, limit), (vec![(0, content.to_owned())], limited), "{text:?}");
        }
        assert!(Parts::new(&b""[..], "a.csv", None).is_err());
    }
}
