//! `customhouse query list` and `query follow`.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    process::ExitCode,
    str::FromStr,
    time::Duration,
};

use anyhow::Context as _;
use customhouse_client::{Client, ClientError};
use customhouse_files::{newfile, readfile};
use customhouse_ledger::hash::Hash;
use customhouse_proto::v1::{self, subscribe_request::From};
use serde::Serialize;
use tonic::Code;

use super::{INCOMPLETE, record::RecordView};
use crate::{command::Done, connect::Connection, output::Output, subject::parse_subject};

/// Most records of a page.
const PAGE_SIZE: u32 = 500;
/// Bytes of a cursor's file.
const CURSOR_BYTES_MAX: usize = 64;
/// Pause before a feed that broke is asked for again.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(clap::Args)]
struct FilterArgs {
    /// Only of this kind, such as declaration or declaration_status; may be given more than once.
    #[arg(long, value_name = "KIND")]
    kind: Vec<String>,
    /// Only of this agency; may be given more than once.
    #[arg(long, value_name = "CODE")]
    agency: Vec<String>,
    /// Only lodged by this name; may be given more than once.
    #[arg(long, value_name = "NAME")]
    submitter: Vec<String>,
    /// Only about this subject, SCHEME:ID; may be given more than once.
    #[arg(long, value_name = "SUBJECT", value_parser = parse_subject)]
    subject: Vec<v1::Subject>,
    /// Only committed at this time or later: Unix milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 0, hide_default_value = true)]
    since: u64,
    /// Only committed before this time: Unix milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 0, hide_default_value = true)]
    until: u64,
    /// Only with goods whose code begins so; may be given more than once.
    #[arg(long, value_name = "DIGITS")]
    hs: Vec<String>,
    /// Only from, to or of the origin of this country; may be given more than once.
    #[arg(long, value_name = "CC")]
    country: Vec<String>,
}

impl FilterArgs {
    fn filter(self) -> v1::RecordFilter {
        v1::RecordFilter {
            kinds: self.kind,
            agencies: self.agency,
            submitters: self.submitter,
            subjects: self.subject,
            subject_keys: Vec::new(),
            from_time_ms: self.since,
            until_time_ms: self.until,
            hs_prefixes: self.hs,
            countries: self.country,
        }
    }
}

#[derive(clap::Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// The newest first.
    #[arg(long)]
    newest_first: bool,
    /// At most this many records.
    #[arg(long, value_name = "RECORDS", default_value_t = 100)]
    limit: usize,
}

#[derive(clap::Args)]
pub(crate) struct FollowArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// Where to begin: genesis, height:N, or a cursor such as 512:3.
    #[arg(long, value_name = "PLACE", default_value = "genesis")]
    from: Start,
    /// Begin at the cursor in this file where it is there, whatever --from says; and keep it up to date.
    #[arg(long, value_name = "FILE")]
    cursor_file: Option<PathBuf>,
    /// End when everything that the node has was printed.
    #[arg(long)]
    once: bool,
}

pub(super) const LIST_HELP: &str = "\
Each line of --output json is a record. Pages are fetched until the limit is reached.

Exit codes: 0 these are all; 2 there are more records than were printed, which is said; 1 no answer.

Examples:
  customhouse --profile acme query list --kind declaration --country BR --hs 0901
  customhouse --profile acme query list --newest-first --limit 20 --agency NL-DOUANE";

pub(super) const FOLLOW_HELP: &str = "\
Prints each record once, in the order of the ledger, and begins again by itself where the connection breaks.
A cursor is good at every node of the network. The cursor file is written after the records were printed:
after a crash the last may be printed again, with the same cursor, and none is left out.

Examples:
  customhouse --profile acme --output json query follow --cursor-file feed.cursor
  customhouse --profile acme query follow --from height:812 --kind risk_alert";

/// A place that a feed begins at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    Height(u64),
    Cursor(v1::Cursor),
}

impl FromStr for Start {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?}: genesis, height:N or a cursor such as 512:3 expected");
        if text == "genesis" {
            return Ok(Self::Cursor(v1::Cursor::default()));
        }
        let (before, after) = text.split_once(':').ok_or_else(wrong)?;
        if before == "height" {
            return after.parse().map(Self::Height).map_err(|_| wrong());
        }
        let log_index = before.parse().map_err(|_| wrong())?;
        let position = after.parse().map_err(|_| wrong())?;
        Ok(Self::Cursor(v1::Cursor { log_index, position }))
    }
}

/// A record with the place after it.
#[derive(Serialize)]
struct ListedView {
    cursor: String,
    agency: String,
    submitter: String,
    #[serde(flatten)]
    record: RecordView,
}

impl fmt::Display for ListedView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.record)
    }
}

fn shown(cursor: v1::Cursor) -> String {
    format!("{}:{}", cursor.log_index, cursor.position)
}

/// A record that is too large for a list is fetched by itself.
///
/// # Errors
/// The outer error is of the record, the inner of the call for it.
async fn view_of(
    client: &Client,
    listed: v1::ListedRecord,
) -> anyhow::Result<Result<ListedView, ClientError>> {
    let v1::ListedRecord { record_id, agency, submitter, place, record, record_bytes, .. } = listed;
    let record = match record.len() == record_bytes as usize {
        true => record,
        false => match client.record(Hash::from_slice(&record_id)?).await {
            Ok(whole) => whole.record,
            Err(error) => return Ok(Err(error)),
        },
    };
    let cursor = shown(listed.cursor.unwrap_or_default());
    let record = RecordView::of(&record_id, &record, place)?;
    Ok(Ok(ListedView { cursor, agency, submitter, record }))
}

pub(super) async fn list(args: ListArgs, output: Output, connection: &Connection) -> Done {
    let mut request = v1::ListRecordsRequest {
        filter: Some(args.filter.filter()),
        newest_first: args.newest_first,
        ..Default::default()
    };
    let mut left = args.limit;
    loop {
        request.page_size = u32::try_from(left).unwrap_or(PAGE_SIZE).clamp(1, PAGE_SIZE);
        let page = connection.client.list_records(request.clone()).await?;
        let more = left == 0 && !page.records.is_empty();
        for record in page.records.into_iter().take(left) {
            output.line(&view_of(&connection.client, record).await??)?;
            left -= 1;
        }
        if more {
            note!("there are more records than these {}", args.limit);
            return Ok(ExitCode::from(INCOMPLETE));
        }
        if page.at_end {
            if left == args.limit {
                note!("no record is of these");
            }
            return Ok(ExitCode::SUCCESS);
        }
        request.from = page.next;
    }
}

pub(super) async fn follow(args: FollowArgs, output: Output, connection: &Connection) -> Done {
    let FollowArgs { filter, from, cursor_file, once } = args;
    let filter = filter.filter();
    let mut from = match cursor_file.as_deref().map(read_cursor).transpose()?.flatten() {
        Some(kept) => Start::Cursor(kept),
        None => from,
    };
    let mut printed = 0_u64;
    loop {
        let request = v1::SubscribeRequest {
            from: Some(match from {
                Start::Height(height) => From::Height(height),
                Start::Cursor(cursor) => From::Cursor(cursor),
            }),
            filter: Some(filter.clone()),
            without_records: false,
        };
        let trouble = match connection.client.subscribe(request).await {
            Ok(mut feed) => 'feed: loop {
                match feed.message().await {
                    Ok(Some(message)) => {
                        let height = message.height;
                        let newest = message.freshness.as_ref().map_or(0, |fresh| fresh.height);
                        for record in message.records {
                            let after = record.cursor;
                            match view_of(&connection.client, record).await? {
                                Ok(view) => output.line(&view)?,
                                Err(error) => break 'feed passing(error)?,
                            }
                            printed += 1;
                            // Where the rest of the message cannot be had, the feed goes on behind this one.
                            from = after.map_or(from, Start::Cursor);
                        }
                        // There is none before the height that was asked for.
                        from = message.cursor.map_or(from, Start::Cursor);
                        if let (Some(file), Start::Cursor(cursor)) = (&cursor_file, from) {
                            write_cursor(file, cursor)?;
                        }
                        if once && height >= newest {
                            note!("{printed} printed: the node has no more up to height {height}");
                            return Ok(ExitCode::SUCCESS);
                        }
                    }
                    Ok(None) => break "the feed ended".to_owned(),
                    Err(status) => break passing(status.into())?,
                }
            },
            Err(error) => passing(error)?,
        };
        note!("{trouble}; asking again");
        tokio::time::sleep(PAUSE).await;
    }
}

/// What is said of a failure after which it is worth asking again.
fn passing(error: ClientError) -> Result<String, ClientError> {
    let passes = match &error {
        ClientError::Connect { .. } => true,
        ClientError::Refused(refused) => !matches!(
            refused.code,
            Code::InvalidArgument
                | Code::OutOfRange
                | Code::PermissionDenied
                | Code::Unauthenticated
                | Code::Unimplemented
        ),
        _ => false,
    };
    if passes { Ok(error.to_string()) } else { Err(error) }
}

fn read_cursor(file: &Path) -> anyhow::Result<Option<v1::Cursor>> {
    let name = || file.display().to_string();
    let bytes = match readfile::bytes(file, CURSOR_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(name),
    };
    let text = String::from_utf8(bytes).with_context(name)?;
    match text.trim().parse::<Start>().map_err(anyhow::Error::msg).with_context(name)? {
        Start::Cursor(cursor) => Ok(Some(cursor)),
        Start::Height(_) => anyhow::bail!("{}: a cursor such as 512:3 expected", name()),
    }
}

fn write_cursor(file: &Path, cursor: v1::Cursor) -> anyhow::Result<()> {
    let text = format!("{}\n", shown(cursor));
    newfile::replace(file, text.as_bytes(), 0o644).with_context(|| file.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_is_shown_and_kept_whole_in_its_file() {
        let cursor = v1::Cursor { log_index: 512, position: 3 };
        assert_eq!(shown(cursor).parse(), Ok(Start::Cursor(cursor)));
        assert_eq!("genesis".parse(), Ok(Start::Cursor(v1::Cursor::default())));
        assert_eq!("height:812".parse(), Ok(Start::Height(812)));
        for wrong in ["", "512", "512:", ":3", "height:", "height:-1", "512:3:4", "a:b"] {
            assert!(wrong.parse::<Start>().is_err(), "{wrong}");
        }
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("feed.cursor");
        assert_eq!(read_cursor(&file).expect("none yet"), None);
        for position in [3, 4] {
            let cursor = v1::Cursor { position, ..cursor };
            write_cursor(&file, cursor).expect("writable");
            assert_eq!(read_cursor(&file).expect("there"), Some(cursor));
        }
    }
}
