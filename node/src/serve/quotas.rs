//! What one client may hold at a time, so that none takes the node from the others: calls that are
//! worked on, open streams, bytes of requests that are read, and bytes of answers until they are sent.
//!
//! Everything is held twice: once of the client's own share, and once of what all clients have
//! together. A client waits for its own share first, so that it never has more than that of what is
//! everybody's, nor of the queue for it. Operators have a whole of their own: whatever the others do,
//! there is room for those who look after the node. And each client has a few bytes of its own
//! ([`bytes`]): whatever the others do, its small requests are taken and have small answers.

mod bytes;
mod class;
mod coming;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use self::bytes::{Bytes, OfAll, acquire, units_of};
pub(super) use self::{
    bytes::{AnswerBytes, RequestBytes},
    class::Class,
    coming::Coming,
};
use super::refused::Refused;
use crate::identity::{ClientIdentity, Role};

/// Bytes of answers that a client may have until they are sent.
pub(super) const HELD_ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes of requests that a client may have while they are read and until they are accepted.
const HELD_REQUEST_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How many clients may have their whole share of bytes at a time.
const WHOLE_SHARES: usize = 4;
/// One client has at most this part of what all clients have together.
const CALLS_PART: usize = 4;
/// Calls of operators that are worked on at a time.
const OPERATOR_CALLS_MAX: usize = 64;
/// How long a call waits for its share before it is refused.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the next message of a stream does: longer than what was taken before waits for a place among what
/// is not final.
const STREAM_PATIENCE: Duration = Duration::from_secs(60);
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How long a call waits before another's place is taken for it.
const SOON: Duration = Duration::from_secs(1);
/// Connections of one client. Each may have a window of a request unread, and some of each answer in
/// HTTP/2's own buffer.
const CONNECTIONS_MAX: usize = 32;
/// Where there are few, one client has at most this part of all.
const CONNECTIONS_PART: usize = 16;
/// Clients remembered before those that hold nothing are forgotten.
const FORGET_AT: usize = 1024;
/// Records of a client that are in line to be signed and kept.
const LINE_MAX: usize = 1024;
/// Questions of a client to the one thread that keeps submissions that wait to be answered.
const QUESTIONS_MAX: usize = 64;
/// Threads that work for all members' calls at a time, and as many for operators': one a processor, and
/// some where there are few, because the disk is waited for. One client has at most half of them, so that
/// there is always one for the next; more at a time would only take the processors from consensus.
const WORKERS_MIN: usize = 4;

/// A call's place, and the bytes of its request: given back when the last clone is dropped.
#[derive(Clone)]
pub(super) struct Place {
    held: Arc<Held>,
}

struct Held {
    _calls: Vec<OwnedSemaphorePermit>,
    requests: Mutex<BTreeMap<u64, RequestBytes>>,
    coming: Arc<Coming>,
    share: Share,
}

/// What a client has its share of, without holding any of it.
#[derive(Clone)]
pub(super) struct Share {
    client: Arc<Holdings>,
    all: Arc<Holdings>,
}

/// The room for an answer whose greatest length the service knows before it is made. Clones are of the same
/// room.
#[derive(Clone)]
pub(super) struct AnswerRoom {
    bytes: Arc<Mutex<Option<AnswerBytes>>>,
    share: Share,
}

/// A thread that works for a client, given back when dropped.
pub(super) struct Worker {
    _client: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

/// A client's connection, given back when dropped.
pub(super) struct ConnectionPlace {
    _permit: OwnedSemaphorePermit,
}

/// Who holds what.
pub(super) struct Quotas {
    clients: Mutex<HashMap<ClientIdentity, Arc<Holdings>>>,
    calls_max: usize,
    connections_max: usize,
    members: Arc<Holdings>,
    operators: Arc<Holdings>,
}

/// What there is of everything, of a client or of all together.
struct Holdings {
    calls: Arc<Semaphore>,
    /// Threads that read the store or check signatures.
    workers: Arc<Semaphore>,
    /// Records in line to be signed and kept.
    line: Arc<Semaphore>,
    /// Questions about submissions.
    questions: Arc<Semaphore>,
    classes: [Arc<Semaphore>; Class::ALL.len()],
    answers: Bytes,
    requests: Bytes,
    connections: Arc<Semaphore>,
    /// Calls whose requests come in many messages.
    coming: Mutex<Vec<(Class, Weak<Coming>)>>,
}

impl Quotas {
    /// For `calls_max` calls that are worked on at a time, of all clients but operators, and
    /// `connections_max` connections of all.
    pub(super) fn new(calls_max: usize, connections_max: usize) -> Self {
        let calls_max = calls_max.clamp(1, Semaphore::MAX_PERMITS);
        let connections_max = connections_max.div_ceil(CONNECTIONS_PART).min(CONNECTIONS_MAX);
        let all = |calls| {
            Arc::new(Holdings::new(
                (calls, WORKERS_MIN.max(processors()), Semaphore::MAX_PERMITS),
                Class::total,
                HELD_ANSWER_BYTES_MAX * WHOLE_SHARES,
                HELD_REQUEST_BYTES_MAX * WHOLE_SHARES,
            ))
        };
        Self {
            clients: Mutex::default(),
            calls_max,
            connections_max,
            members: all(calls_max),
            operators: all(OPERATOR_CALLS_MAX),
        }
    }

    /// What a client has its share of: of its own kind's whole.
    pub(super) fn share(&self, client: &ClientIdentity) -> Share {
        let all = Arc::clone(match client.role {
            Role::Operator => &self.operators,
            _ => &self.members,
        });
        Share { client: self.holdings(client), all }
    }

    fn holdings(&self, client: &ClientIdentity) -> Arc<Holdings> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(holdings) = clients.get(client) {
            return Arc::clone(holdings);
        }
        if clients.len() >= FORGET_AT {
            clients.retain(|_, holdings| holdings.are_held());
        }
        let calls = self.calls_max.div_ceil(CALLS_PART);
        let share = |class: Class| class.share().0;
        let workers = (WORKERS_MIN.max(processors()) / 2).max(1);
        let counts = (calls, workers, self.connections_max);
        let holdings = Holdings::new(counts, share, HELD_ANSWER_BYTES_MAX, HELD_REQUEST_BYTES_MAX);
        let holdings = Arc::new(holdings);
        clients.insert(client.clone(), Arc::clone(&holdings));
        holdings
    }
}

impl Place {
    /// A thread to work with for the call: in the client's turn, then in that of all.
    pub(super) async fn worker(&self) -> Worker {
        let Share { client, all } = &self.held.share;
        let of = async |holdings: &Holdings| {
            let permit = Arc::clone(&holdings.workers).acquire_owned().await;
            permit.expect("a share is never closed")
        };
        Worker { _client: of(client).await, _all: of(all).await }
    }

    /// Room for this many records in the line for the one thread that signs and keeps them: all others wait
    /// for what a client has there.
    pub(super) async fn in_line(&self, records: usize) -> OwnedSemaphorePermit {
        let line = Arc::clone(&self.held.share.client.line);
        let count = u32::try_from(records.min(LINE_MAX)).expect("a share is a thousand");
        line.acquire_many_owned(count).await.expect("a share is never closed")
    }

    /// Room for a question to the thread that signs and keeps records.
    pub(super) async fn question(&self) -> OwnedSemaphorePermit {
        acquire(&self.held.share.client.questions, 1).await
    }

    /// Holds bytes of a request's message, by its number in the request, until they are taken or the place is
    /// given back; waits for room for a while: longer in a stream, where that holds the client back, and where
    /// what was sent before goes on meanwhile. Of the client's own share all of the message is held, and of
    /// what all have its first bytes: it says how long it is before it is here, and may never come.
    pub(super) async fn hold_request(
        self,
        number: u64,
        (message_bytes, first_bytes): (usize, usize),
        streams: bool,
    ) -> Result<(), Refused> {
        let _held_back = self.held.coming.hold_back();
        let units = |bytes| units_of(bytes, HELD_REQUEST_BYTES_MAX);
        let units = (units(message_bytes), units(first_bytes));
        let held = RequestBytes::begin(&self.held.share, units, patience(streams)).await?;
        self.requests().insert(number, held);
        Ok(())
    }

    /// Holds more of what all have, for a message of which the first bytes are held.
    pub(super) async fn hold_more(
        self,
        number: u64,
        bytes: usize,
        streams: bool,
    ) -> Result<(), Refused> {
        let _held_back = self.held.coming.hold_back();
        let is_finishing = self.requests().get(&number).is_some_and(RequestBytes::is_finishing);
        if !is_finishing {
            let units = units_of(bytes, HELD_REQUEST_BYTES_MAX);
            let more = RequestBytes::more(&self.held.share, units, patience(streams)).await?;
            if let Some(held) = self.requests().get_mut(&number) {
                held.add(more);
            }
        }
        Ok(())
    }

    /// How the call's request comes.
    pub(super) fn coming(&self) -> Arc<Coming> {
        Arc::clone(&self.held.coming)
    }

    /// The bytes that are held of a message, for whoever goes on with it.
    pub(super) fn take_request(&self, number: u64) -> Option<RequestBytes> {
        self.requests().remove(&number)
    }

    fn requests(&self) -> MutexGuard<'_, BTreeMap<u64, RequestBytes>> {
        self.held.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Share {
    /// A place for a connection, at once or not at all.
    pub(super) fn connection(&self) -> Option<ConnectionPlace> {
        let connections = Arc::clone(&self.client.connections);
        connections.try_acquire_owned().ok().map(|permit| ConnectionPlace { _permit: permit })
    }

    /// A place for a call; waits for one for a while.
    pub(super) async fn place(&self, class: Class) -> Result<Place, Refused> {
        let Self { client: own, all } = self;
        let what = class.share().1;
        let mut calls = vec![take(own.class(class), 1, what).await?, self.turn(class).await?];
        if class.works() {
            calls.push(take(&own.calls, 1, "calls of this client at a time").await?);
            calls.push(take(&all.calls, 1, "calls").await?);
        }
        let coming = Arc::new(Coming::default());
        if class.comes() {
            all.enter(class, &coming);
        }
        let (requests, share) = (Mutex::default(), self.clone());
        Ok(Place { held: Arc::new(Held { _calls: calls, requests, coming, share }) })
    }

    /// A place among those of all clients. Where there is none soon, the call that comes slowest gives its own.
    async fn turn(&self, class: Class) -> Result<OwnedSemaphorePermit, Refused> {
        let mut turn = pin!(take(self.all.class(class), 1, "calls of this kind"));
        loop {
            if let Ok(taken) = timeout(SOON, &mut turn).await {
                return taken;
            }
            coming::end_slowest(self.all.coming(class).into_iter());
        }
    }

    /// Sets bytes aside for an answer; waits for them for a while.
    pub(super) async fn answer(&self, bytes: usize) -> Result<AnswerBytes, Refused> {
        let units = units_of(bytes, HELD_ANSWER_BYTES_MAX);
        let what = "bytes of answers that this client has not read";
        let (own, all) = (&self.client.answers, &self.all.answers);
        let client = take(&own.whole, units, what).await?;
        let asked = (units, "bytes of answers that were not read");
        let of_all = OfAll::take_within(own, all, asked, PATIENCE).await?;
        Ok(AnswerBytes { client, of_all })
    }

    /// The same for an answer that is made already: it waits for as long as it takes, because what was
    /// done for it cannot be undone.
    pub(super) async fn answer_made(&self, bytes: usize) -> AnswerBytes {
        let units = units_of(bytes, HELD_ANSWER_BYTES_MAX / 2);
        let (own, all) = (&self.client.answers, &self.all.answers);
        let client = acquire(&own.whole, units).await;
        AnswerBytes { client, of_all: OfAll::take(own, all, units).await }
    }
}

impl AnswerRoom {
    /// Room for these bytes to begin with.
    pub(super) fn new(bytes: AnswerBytes, share: &Share) -> Self {
        Self { bytes: Arc::new(Mutex::new(Some(bytes))), share: share.clone() }
    }

    /// Sets this many more bytes aside; waits for them for a while. Asked before the work, so that a
    /// client that does not read its answers has no more of them made.
    pub(super) async fn grow(&self, bytes: usize) -> Result<(), Refused> {
        let more = self.share.answer(bytes).await?;
        match self.lock().as_mut() {
            Some(held) => held.merge(more),
            // Nobody is answered any more.
            None => drop(more),
        }
        Ok(())
    }

    /// Sets bytes aside for the next message of a feed; waits for as long as it takes, because what waits is
    /// the client's own reading.
    pub(super) async fn made(&self, bytes: usize) -> AnswerBytes {
        self.share.answer_made(bytes).await
    }

    /// What is set aside, to be held until it is sent.
    pub(super) fn into_bytes(self) -> AnswerBytes {
        self.lock().take().expect("the gate takes it, once")
    }

    fn lock(&self) -> MutexGuard<'_, Option<AnswerBytes>> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Holdings {
    fn new(
        (calls, workers, connections): (usize, usize, usize),
        share: impl Fn(Class) -> usize,
        answer_bytes: usize,
        request_bytes: usize,
    ) -> Self {
        let semaphore = |count| Arc::new(Semaphore::new(count));
        Self {
            calls: semaphore(calls),
            workers: semaphore(workers),
            line: semaphore(LINE_MAX),
            questions: semaphore(QUESTIONS_MAX),
            classes: Class::ALL.map(|class| semaphore(share(class))),
            answers: Bytes::new(answer_bytes),
            requests: Bytes::new(request_bytes),
            connections: semaphore(connections),
            coming: Mutex::default(),
        }
    }

    fn class(&self, class: Class) -> &Arc<Semaphore> {
        &self.classes[class as usize]
    }

    fn enter(&self, class: Class, coming: &Arc<Coming>) {
        let mut all = self.coming.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|(_, coming)| coming.strong_count() > 0);
        all.push((class, Arc::downgrade(coming)));
    }

    /// How those of a class come that are open.
    fn coming(&self, class: Class) -> Vec<Arc<Coming>> {
        let all = self.coming.lock().unwrap_or_else(PoisonError::into_inner);
        let of_class = all.iter().filter(|(of, _)| *of == class);
        of_class.filter_map(|(_, coming)| coming.upgrade()).collect()
    }

    /// Whether somebody holds or awaits anything.
    fn are_held(self: &Arc<Self>) -> bool {
        let all = [&self.calls, &self.workers, &self.line, &self.questions, &self.connections];
        let bytes = [&self.answers, &self.requests].into_iter().flat_map(Bytes::semaphores);
        let mut all = all.into_iter().chain(bytes).chain(&self.classes);
        Arc::strong_count(self) > 1 || all.any(|semaphore| Arc::strong_count(semaphore) > 1)
    }
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// How long a message waits for its share.
fn patience(streams: bool) -> Duration {
    if streams { STREAM_PATIENCE } else { PATIENCE }
}

async fn take(
    semaphore: &Arc<Semaphore>,
    count: u32,
    what: &str,
) -> Result<OwnedSemaphorePermit, Refused> {
    take_within(semaphore, count, what, PATIENCE).await
}

async fn take_within(
    semaphore: &Arc<Semaphore>,
    count: u32,
    what: &str,
    patience: Duration,
) -> Result<OwnedSemaphorePermit, Refused> {
    match timeout(patience, Arc::clone(semaphore).acquire_many_owned(count)).await {
        Ok(Ok(permit)) => Ok(permit),
        _ => Err(Refused::overloaded(what, RETRY_AFTER)),
    }
}
