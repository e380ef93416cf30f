//! What one client may hold at a time, so that none takes the node from the others: request bodies
//! that are being read, and open streams.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::refused::Refused;

/// Submissions of one client that are read and not yet accepted. With a body of
/// [`super::REQUEST_BYTES_MAX`] each it bounds the memory that a client can take.
const BODIES_MAX: usize = 32;
/// Open streams of one client.
const STREAMS_MAX: usize = 16;
/// How long a submission waits for a place before it is refused.
const BODY_PATIENCE: Duration = Duration::from_secs(10);
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Clients remembered before those that hold nothing are forgotten.
const FORGET_AT: usize = 1024;

/// A place that is given back when dropped. Travels in the request's extensions.
#[derive(Clone)]
pub(super) struct Place {
    _permit: Arc<OwnedSemaphorePermit>,
}

#[derive(Default)]
pub(super) struct Quotas {
    clients: Mutex<HashMap<String, Holdings>>,
}

#[derive(Clone)]
struct Holdings {
    bodies: Arc<Semaphore>,
    streams: Arc<Semaphore>,
}

impl Quotas {
    /// A place for a request body; waits for one for a while.
    pub(super) async fn body(&self, client: &str) -> Result<Place, Refused> {
        let bodies = self.holdings(client).bodies;
        match timeout(BODY_PATIENCE, bodies.acquire_owned()).await {
            Ok(Ok(permit)) => Ok(Place { _permit: Arc::new(permit) }),
            _ => Err(Refused::overloaded("submissions of this client at a time", RETRY_AFTER)),
        }
    }

    /// A place for a stream, at once or not at all.
    pub(super) fn stream(&self, client: &str) -> Result<Place, Refused> {
        match self.holdings(client).streams.try_acquire_owned() {
            Ok(permit) => Ok(Place { _permit: Arc::new(permit) }),
            Err(_) => Err(Refused::overloaded("open streams of this client", RETRY_AFTER)),
        }
    }

    fn holdings(&self, client: &str) -> Holdings {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(holdings) = clients.get(client) {
            return holdings.clone();
        }
        if clients.len() >= FORGET_AT {
            clients.retain(|_, holdings| holdings.are_held());
        }
        let holdings = Holdings {
            bodies: Arc::new(Semaphore::new(BODIES_MAX)),
            streams: Arc::new(Semaphore::new(STREAMS_MAX)),
        };
        clients.insert(client.to_owned(), holdings.clone());
        holdings
    }
}

impl Holdings {
    /// Whether somebody holds or awaits a place.
    fn are_held(&self) -> bool {
        Arc::strong_count(&self.bodies) > 1 || Arc::strong_count(&self.streams) > 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_client_s_streams_do_not_take_another_s() {
        let quotas = Quotas::default();
        let mut held: Vec<_> =
            (0..STREAMS_MAX).map(|_| quotas.stream("a").expect("a place")).collect();
        let refused = quotas.stream("a").err().expect("full");
        assert_eq!(refused.code, tonic::Code::ResourceExhausted);
        assert_eq!(refused.retry_after, Some(RETRY_AFTER));
        quotas.stream("b").expect("its own");
        held.pop();
        quotas.stream("a").expect("given back");
        quotas.body("a").await.expect("bodies are apart");
    }

    #[test]
    fn clients_that_hold_nothing_are_forgotten() {
        let quotas = Quotas::default();
        let held = quotas.stream("held").expect("a place");
        for number in 0..10 * FORGET_AT {
            drop(quotas.stream(&number.to_string()).expect("a place"));
        }
        let clients = quotas.clients.lock().expect("not poisoned");
        assert!(clients.len() <= FORGET_AT && clients.contains_key("held"));
        drop(held);
    }
}
