//! Bytes of requests and of answers: of the client's own share, and of what all clients have together.
//!
//! A little is of neither: each client has it whatever the others hold, so that small requests are taken and
//! small answers are made also while the rest is taken.

use std::{sync::Arc, time::Duration};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{RETRY_AFTER, Refused, Share, take_within};

/// Bytes are counted in these, so that a permit's count fits its type.
pub(super) const UNIT: usize = 1024;
/// Bytes of each kind that each client has whatever the others hold.
pub(super) const LEAST_BYTES: usize = 256 * 1024;
/// Up to so many at a time are of that, where there are some left.
pub(super) const FEW_BYTES: usize = 128 * 1024;

/// Bytes of one kind that there are, of a client or of all together.
pub(super) struct Bytes {
    pub(super) whole: Arc<Semaphore>,
    /// What a client has whatever the others hold.
    least: Arc<Semaphore>,
    /// The right to come to an end without any room, which one message has at a time. Messages that have
    /// come in part hold room and need more: without it they could wait for each other.
    finishing: Arc<Semaphore>,
}

impl Bytes {
    pub(super) fn new(bytes: usize) -> Self {
        let semaphore = |count| Arc::new(Semaphore::new(count));
        Self {
            whole: semaphore(bytes / UNIT),
            least: semaphore(LEAST_BYTES / UNIT),
            finishing: semaphore(1),
        }
    }

    pub(super) fn semaphores(&self) -> [&Arc<Semaphore>; 3] {
        [&self.whole, &self.least, &self.finishing]
    }
}

/// What is held of what all have together, and of the little that the client has in any case.
#[derive(Default)]
pub(super) struct OfAll {
    least: Option<OwnedSemaphorePermit>,
    whole: Option<OwnedSemaphorePermit>,
}

impl OfAll {
    /// Waits for some, for as long as it takes.
    pub(super) async fn take(client: &Bytes, all: &Bytes, units: u32) -> Self {
        let least = |permit| Self { least: Some(permit), whole: None };
        let whole = |permit| Self { least: None, whole: Some(permit) };
        if units as usize * UNIT > FEW_BYTES {
            return whole(acquire(&all.whole, units).await);
        }
        if let Ok(permit) = Arc::clone(&client.least).try_acquire_many_owned(units) {
            return least(permit);
        }
        tokio::select! {
            permit = acquire(&all.whole, units) => whole(permit),
            permit = acquire(&client.least, units) => least(permit),
        }
    }

    /// The same, for a while.
    ///
    /// # Errors
    /// There was no room for it.
    pub(super) async fn take_within(
        client: &Bytes,
        all: &Bytes,
        (units, what): (u32, &str),
        patience: Duration,
    ) -> Result<Self, Refused> {
        let taken = tokio::time::timeout(patience, Self::take(client, all, units)).await;
        taken.map_err(|_| Refused::overloaded(what, RETRY_AFTER))
    }

    /// Adds others.
    pub(super) fn merge(&mut self, more: Self) {
        merge(&mut self.least, more.least);
        merge(&mut self.whole, more.whole);
    }

    /// Gives units back, of what all have first.
    pub(super) fn give_back(&mut self, units: usize) {
        let of = |held: &mut Option<OwnedSemaphorePermit>, units: usize| {
            let count = held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits).min(units);
            drop(held.as_mut().and_then(|held| held.split(count)));
            count
        };
        let of_whole = of(&mut self.whole, units);
        of(&mut self.least, units - of_whole);
    }
}

/// Bytes of a request's message, given back when dropped.
pub(in crate::serve) struct RequestBytes {
    _client: OwnedSemaphorePermit,
    of_all: OfAll,
    finishing: Option<OwnedSemaphorePermit>,
}

/// What a refusal says that there is too much of.
const OF_CLIENT: &str = "bytes of requests of this client at a time";
const OF_ALL: &str = "bytes of requests";

impl RequestBytes {
    /// Room in the client's own share for a whole message, so that its messages never wait for each other
    /// when they have come in part, and room for the first bytes of it in what all have.
    pub(super) async fn begin(
        share: &Share,
        (message_units, first_units): (u32, u32),
        patience: Duration,
    ) -> Result<Self, Refused> {
        let (own, all) = (&share.client.requests, &share.all.requests);
        let client = take_within(&own.whole, message_units, OF_CLIENT, patience).await?;
        let of_all = OfAll::take_within(own, all, (first_units, OF_ALL), patience).await?;
        Ok(Self { _client: client, of_all, finishing: None })
    }

    /// More room in what all have.
    pub(super) async fn more(
        share: &Share,
        units: u32,
        patience: Duration,
    ) -> Result<More, Refused> {
        let whole = &share.all.requests.whole;
        if let Ok(permit) = Arc::clone(whole).try_acquire_many_owned(units) {
            return Ok(More::Room(permit));
        }
        let wait = async {
            tokio::select! {
                permit = acquire(whole, units) => More::Room(permit),
                permit = acquire(&share.all.requests.finishing, 1) => More::Finishing(permit),
            }
        };
        let more = tokio::time::timeout(patience, wait).await;
        more.map_err(|_| Refused::overloaded(OF_ALL, RETRY_AFTER))
    }

    pub(super) fn add(&mut self, more: More) {
        match more {
            More::Room(permit) => merge(&mut self.of_all.whole, Some(permit)),
            More::Finishing(permit) => self.finishing = Some(permit),
        }
    }

    /// Whether it needs no more room to come to its end.
    pub(super) fn is_finishing(&self) -> bool {
        self.finishing.is_some()
    }
}

/// More room for a message, or the right to come to its end without.
pub(super) enum More {
    Room(OwnedSemaphorePermit),
    Finishing(OwnedSemaphorePermit),
}

/// Bytes of an answer, given back when dropped.
pub(in crate::serve) struct AnswerBytes {
    pub(super) client: OwnedSemaphorePermit,
    pub(super) of_all: OfAll,
}

impl AnswerBytes {
    /// Bytes that are set aside.
    pub(in crate::serve) fn bytes(&self) -> usize {
        self.client.num_permits() * UNIT
    }

    /// Gives back what is set aside beyond `bytes`.
    pub(in crate::serve) fn shrink(&mut self, bytes: usize) {
        let beyond = self.client.num_permits().saturating_sub(bytes.div_ceil(UNIT).max(1));
        drop(self.client.split(beyond));
        self.of_all.give_back(beyond);
    }

    /// Adds others.
    pub(in crate::serve) fn merge(&mut self, more: Self) {
        self.client.merge(more.client);
        self.of_all.merge(more.of_all);
    }
}

/// What is larger than a whole share takes all of it: it is made when nothing else is.
pub(super) fn units_of(bytes: usize, bytes_max: usize) -> u32 {
    let units = bytes.min(bytes_max).div_ceil(UNIT).max(1);
    u32::try_from(units).expect("a share is some megabytes")
}

pub(super) async fn acquire(semaphore: &Arc<Semaphore>, units: u32) -> OwnedSemaphorePermit {
    let permits = Arc::clone(semaphore).acquire_many_owned(units).await;
    permits.expect("a share is never closed")
}

fn merge(held: &mut Option<OwnedSemaphorePermit>, more: Option<OwnedSemaphorePermit>) {
    match (held.as_mut(), more) {
        (Some(held), Some(more)) => held.merge(more),
        (None, more) => *held = more,
        (Some(_), None) => {}
    }
}
