//! Lists of records, and feeds of them as they are committed.

use std::{sync::Arc, time::Duration};

use customhouse_ledger::chain::LogWalk;
use customhouse_proto::v1::{self, subscribe_request::From};
use futures::{Stream, stream};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use crate::{
    listing::{self, Budget, FilterError, Listed, ListedRecords, LogPlace, NoSuchPlace},
    sealed::Holdings,
    serve::{
        quotas::{self, AnswerBytes, AnswerRoom},
        reads::{freshness, holding, read},
        refused::Refused,
    },
    services::Services,
    view::View,
};

const PAGE_SIZE_DEFAULT: u32 = 100;
const PAGE_SIZE_MAX: u32 = 1000;
/// What a call looks at.
const SLOTS_MAX: usize = 20_000;
const TIME_MAX: Duration = Duration::from_millis(50);
/// Bytes of a page, under gRPC's usual limit of 4 MiB.
const PAGE_BYTES_MAX: usize = 3 * 1024 * 1024;
/// Bytes and records of a feed's message. The first record of one may have more bytes.
const BATCH_BYTES: usize = 256 * 1024;
const BATCH_RECORDS: usize = 1024;
/// How often a feed without records says how far it is.
const PROGRESS: Duration = Duration::from_secs(1);

impl std::convert::From<FilterError> for Refused {
    fn from(error: FilterError) -> Self {
        Self::new(Code::InvalidArgument, "FILTER", error.to_string())
    }
}

impl std::convert::From<NoSuchPlace> for Refused {
    fn from(error: NoSuchPlace) -> Self {
        Self::new(Code::OutOfRange, "CURSOR", error.to_string())
    }
}

/// A page of the records that a filter takes.
pub(super) async fn page(
    node: &Arc<Services>,
    view: View,
    request: v1::ListRecordsRequest,
) -> Result<v1::ListRecordsResponse, Refused> {
    let v1::ListRecordsRequest { filter, newest_first, from, page_size, without_records } = request;
    let filter = Listed::of(filter, |subject| view.subject_keys(subject))?;
    let records = match page_size {
        0 => PAGE_SIZE_DEFAULT,
        1..=PAGE_SIZE_MAX => page_size,
        _ => {
            let reason = format!("page_size: at most {PAGE_SIZE_MAX}, {page_size} asked for");
            return Err(Refused::new(Code::OutOfRange, "PAGE_SIZE", reason));
        }
    };
    let tip = node.reader.tip();
    let log_size = tip.header.log_size;
    let from = from.map(LogPlace::of).transpose()?;
    let end = LogPlace { log_index: log_size, position: 0 };
    if let Some(from) = from.filter(|from| *from > end) {
        let index = from.log_index;
        let reason = format!("from: log index {index} is beyond this node's log of {log_size}");
        return Err(Refused::new(Code::OutOfRange, "FUTURE_CURSOR", reason));
    }
    let budget = Budget {
        records: records as usize,
        bytes: PAGE_BYTES_MAX,
        slots: SLOTS_MAX,
        time: TIME_MAX,
    };
    let found = read(node, move |reader| {
        // Time bounds hold for later pages too; what is outside is not looked at.
        let (first, last) = (listing::oldest(reader, &filter)?, listing::newest(reader, &filter)?);
        let log_size = last.log_index.min(log_size);
        let from = match (from, newest_first) {
            (Some(from), false) => from.max(first),
            (Some(from), true) => from.min(last),
            (None, false) => first,
            (None, true) => last.min(end),
        };
        let mut walk = LogWalk::new(reader.clone());
        let place = (from, log_size, newest_first);
        listing::list((&view, &mut walk), &filter, place, (budget, without_records))
    });
    let ListedRecords { records, next, at_end, .. } = found.await??;
    let (next, freshness) = (Some(next.cursor()), Some(freshness(node, &tip)));
    Ok(v1::ListRecordsResponse { records, next, at_end, freshness })
}

/// A feed, as it goes on. It looks at nothing before the client has taken what it was given, so that a slow
/// one holds one message.
struct Feed {
    node: Arc<Services>,
    view: View,
    /// What was asked for, and as of how many changes of agreements the filter knows the keys of its subjects.
    asked: (Option<v1::RecordFilter>, u64),
    /// How much of the log was looked at for sealed records, where there is a vault.
    followed: Option<watch::Receiver<u64>>,
    place: quotas::Place,
    room: AnswerRoom,
    filter: Arc<Listed>,
    without_records: bool,
    from: Start,
    walk: Option<LogWalk>,
    committed: watch::Receiver<u64>,
    shutdown: CancellationToken,
    /// Of the message that was given last.
    held: Option<AnswerBytes>,
    /// When the client was told last, and which height and place.
    told: Option<(Instant, u64, Option<LogPlace>)>,
}

/// Where a feed is.
#[derive(Clone, Copy)]
enum Start {
    /// Before the first record of this height or a later one, which is not committed yet.
    Height(u64),
    Place(LogPlace),
}

/// What a turn of a feed came to.
enum Turn {
    Message(v1::SubscribeResponse),
    /// Nothing to say, and more to look at.
    On,
    /// Nothing to say before something is committed, or before then.
    Wait(Option<Instant>),
}

/// Follows the log from a place on.
///
/// # Errors
/// A filter or a cursor that is wrong by itself.
pub(super) fn follow(
    (node, view): (Arc<Services>, View),
    (place, room): (quotas::Place, AnswerRoom),
    request: v1::SubscribeRequest,
    shutdown: CancellationToken,
) -> Result<impl Stream<Item = Result<v1::SubscribeResponse, Status>> + Send + 'static, Refused> {
    let from = match request.from {
        None => Start::Place(LogPlace::default()),
        Some(From::Height(height)) => Start::Height(height),
        Some(From::Cursor(cursor)) => Start::Place(LogPlace::of(cursor)?),
    };
    // It comes to each record once.
    let view = view.waiting();
    let asked = (request.filter.clone(), view.reader().agreements().events());
    let keys_of = |subject: &v1::Subject| view.subject_keys(subject);
    let filter = Arc::new(Listed::of(request.filter, keys_of)?);
    let feed = Feed {
        place,
        room,
        filter,
        without_records: request.without_records,
        from,
        walk: Some(LogWalk::new(node.reader.clone())),
        committed: node.committed.clone(),
        asked,
        followed: node.holdings.as_ref().map(Holdings::followed),
        shutdown,
        held: None,
        told: None,
        node,
        view,
    };
    Ok(stream::unfold(Some(feed), |feed| async move {
        let mut feed = feed?;
        match feed.next().await {
            Ok(message) => Some((Ok(message), Some(feed))),
            Err(refused) => Some((Err(refused.into()), None)),
        }
    }))
}

impl Feed {
    async fn next(&mut self) -> Result<v1::SubscribeResponse, Refused> {
        // Being asked means that the message before is with the client, or nearly.
        self.held = None;
        loop {
            self.committed.borrow_and_update();
            match self.turn().await? {
                Turn::Message(message) => return Ok(message),
                Turn::On => {}
                Turn::Wait(until) => self.wait(until).await?,
            }
        }
    }

    async fn turn(&mut self) -> Result<Turn, Refused> {
        let tip = self.node.reader.tip();
        let log_size = tip.header.log_size;
        if let Some(followed) = &mut self.followed {
            followed.borrow_and_update();
        }
        self.renew_filter()?;
        let from = match self.from {
            Start::Place(place) => place,
            Start::Height(height) if height <= tip.header.height => {
                let header = read(&self.node, move |reader| reader.header(height)).await?;
                let log_index = header.map_or(log_size, |found| found.header.log_start);
                LogPlace { log_index, position: 0 }
            }
            // There is no place yet: what is committed next may be below it.
            Start::Height(_) => return Ok(self.progress(None, tip.header.height, &tip)),
        };
        self.from = Start::Place(from);
        if from.log_index >= log_size {
            // All of it is looked at, or it is beyond what this node has.
            return Ok(self.progress(Some(from), tip.header.height, &tip));
        }
        self.held = Some(self.room.made(BATCH_BYTES).await);
        let ListedRecords { records, next, at_end, waits } = self.look(from, log_size).await?;
        self.from = Start::Place(next);
        let reached = match at_end {
            true => tip.header.height,
            false => {
                let in_progress = read(&self.node, move |reader| reader.height_of(next.log_index));
                in_progress.await?.saturating_sub(1)
            }
        };
        if records.is_empty() {
            self.held = None;
            return Ok(match self.progress(Some(next), reached, &tip) {
                Turn::Wait(_) if !at_end && !waits => Turn::On,
                turn => turn,
            });
        }
        Ok(Turn::Message(self.message(records, Some(next), reached, &tip)))
    }

    /// Epochs that began since have other keys.
    fn renew_filter(&mut self) -> Result<(), Refused> {
        let events = self.view.reader().agreements().events();
        if self.asked.1 != events {
            let keys_of = |subject: &v1::Subject| self.view.subject_keys(subject);
            self.filter = Arc::new(Listed::of(self.asked.0.clone(), keys_of)?);
            self.asked.1 = events;
        }
        Ok(())
    }

    async fn look(&mut self, from: LogPlace, log_size: u64) -> Result<ListedRecords, Refused> {
        let budget =
            Budget { records: BATCH_RECORDS, bytes: BATCH_BYTES, slots: SLOTS_MAX, time: TIME_MAX };
        let (filter, without_records) = (Arc::clone(&self.filter), self.without_records);
        let (walk, view) = (self.walk.take(), self.view.clone());
        let work = read(&self.node, move |reader| {
            let mut walk = walk.unwrap_or_else(|| LogWalk::new(reader.clone()));
            let place = (from, log_size, false);
            let found =
                listing::list((&view, &mut walk), &filter, place, (budget, without_records))?;
            // A client that does not read holds its message, and no transaction.
            walk.forget();
            Ok((found, walk))
        });
        let (found, walk) = holding(self.place.clone(), work).await?;
        self.walk = Some(walk);
        Ok(found?)
    }

    /// Says how far it is, where that is news and the last word is a while ago.
    fn progress(
        &mut self,
        at: Option<LogPlace>,
        height: u64,
        tip: &customhouse_ledger::chain::Tip,
    ) -> Turn {
        match self.told {
            Some((_, told, place)) if (told, place) == (height, at) => Turn::Wait(None),
            Some((when, ..)) if when.elapsed() < PROGRESS => Turn::Wait(Some(when + PROGRESS)),
            _ => Turn::Message(self.message(Vec::new(), at, height, tip)),
        }
    }

    fn message(
        &mut self,
        records: Vec<v1::ListedRecord>,
        at: Option<LogPlace>,
        height: u64,
        tip: &customhouse_ledger::chain::Tip,
    ) -> v1::SubscribeResponse {
        self.told = Some((Instant::now(), height, at));
        let (cursor, freshness) = (at.map(LogPlace::cursor), Some(freshness(&self.node, tip)));
        v1::SubscribeResponse { records, cursor, height, freshness }
    }

    async fn wait(&mut self, until: Option<Instant>) -> Result<(), Refused> {
        let time = async {
            match until {
                Some(until) => tokio::time::sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        let followed = self.followed.as_mut();
        let looked_at = async {
            match followed {
                Some(followed) => _ = followed.changed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.shutdown.cancelled() => Err(Refused::shutting_down()),
            () = looked_at => Ok(()),
            // The driver is gone where it fails.
            changed = self.committed.changed() => changed.map_err(|_| Refused::shutting_down()),
            () = time => Ok(()),
        }
    }
}
