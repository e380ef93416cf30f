//! Reading the committed chain for a call.

use std::{ops::ControlFlow, sync::Arc};

use customhouse_ledger::{
    chain::{ChainReader, Tip},
    hash::Hash,
    store::StoreError,
};
use customhouse_proto::v1;
use tokio::sync::OwnedSemaphorePermit;

use super::{quotas::Place, refused::Refused};
use crate::{metrics::Metrics, services::Services};

tokio::task_local! {
    /// The place of the call that is being answered.
    static PLACE: Place;
}

/// Answers a call: what it does away from the async workers holds its place too. A client that gives a
/// call up does not stop a thread that works for it, and cannot have others start more at once.
pub(super) async fn holding<T>(place: Place, answer: impl Future<Output = T>) -> T {
    PLACE.scope(place, answer).await
}

/// Works away from the async workers, for the call that is being answered. Nothing comes where the
/// runtime is going down.
pub(super) async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let place = PLACE.try_with(Place::clone).ok();
    let worker = match &place {
        Some(place) => Some(place.worker().await),
        None => None,
    };
    let work = move || {
        let _until_it_is_done = (worker, place);
        work()
    };
    tokio::task::spawn_blocking(work).await.ok()
}

/// Works where it is, for the call that is being answered: what takes less time than waking another
/// thread. It counts all the same among what is done for the client at once.
pub(super) async fn here<T>(work: impl FnOnce() -> T) -> T {
    let _until_it_is_done = match PLACE.try_with(Place::clone) {
        Ok(place) => Some(place.worker().await),
        Err(_) => None,
    };
    work()
}

/// Room in the line of records to be kept, for this many of the call that is being answered.
pub(super) async fn in_line(records: usize) -> Option<OwnedSemaphorePermit> {
    match PLACE.try_with(Place::clone) {
        Ok(place) => Some(place.in_line(records).await),
        Err(_) => None,
    }
}

/// Reads away from the async workers, because a read may wait for the disk.
pub(crate) async fn read<T: Send + 'static>(
    node: &Services,
    read: impl FnOnce(&ChainReader) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Refused> {
    let reader = node.reader.clone();
    let answer = apart(move || read(&reader)).await.ok_or_else(Refused::shutting_down)?;
    Ok(answer.inspect_err(|error| note_damage(&node.metrics, error))?)
}

/// Reads in turns, until a turn says that it is the last. Between two of them others have the thread, and a call
/// that is given up ends there: whoever drops this waits for no more than a turn.
pub(super) async fn read_in_turns<W: Send + 'static>(
    node: &Services,
    mut work: W,
    turn: fn(&mut W, &ChainReader) -> Result<ControlFlow<()>, StoreError>,
) -> Result<W, Refused> {
    loop {
        let one = move |reader: &ChainReader| turn(&mut work, reader).map(|flow| (work, flow));
        let flow;
        (work, flow) = read(node, one).await?;
        if flow.is_break() {
            return Ok(work);
        }
    }
}

/// The caller can do nothing about damaged data; the operator learns from the log and the metrics
/// where it is, but not what it says.
fn note_damage(metrics: &Metrics, error: &StoreError) {
    if let StoreError::Corrupt { table, key, what } = error {
        tracing::error!(table, key, what, "the store is damaged: restore a backup, or remove it");
        metrics.store_corruption();
    }
}

/// A hash in a request.
pub(super) fn hash_field(field: &str, bytes: &[u8]) -> Result<Hash, Refused> {
    Hash::from_slice(bytes).map_err(|error| Refused::field(field, "FIELD", error))
}

/// How fresh an answer is that was read at this tip.
pub(super) fn freshness(node: &Arc<Services>, tip: &Tip) -> v1::Freshness {
    v1::Freshness {
        height: tip.header.height,
        block_hash: tip.hash.0.to_vec(),
        time_ms: tip.header.time_ms,
        catching_up: node.status.borrow().catching_up,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::{
        super::quotas::{Class, Quotas},
        *,
    };
    use crate::identity::{ClientIdentity, Role};

    /// What is logged and counted of an error.
    fn noted(error: &StoreError) -> (String, String) {
        let log = Arc::new(Mutex::new(Vec::new()));
        let lines = Lines(Arc::clone(&log));
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).with_writer(move || lines.clone()).finish();
        let metrics = Metrics::new(|_| ());
        tracing::subscriber::with_default(subscriber, || note_damage(&metrics, error));
        let log = log.lock().expect("not poisoned").clone();
        (String::from_utf8(log).expect("text"), metrics.encode())
    }

    #[derive(Clone)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("not poisoned").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn work_for_a_call_that_was_given_up_holds_its_place_until_it_is_done() {
        let agency = "NL-DOUANE".parse().expect("a code");
        let client =
            ClientIdentity { agency, name: "a".into(), role: Role::Officer, certificate: [0; 32] };
        let share = Quotas::new(1, 16).share(&client);
        let place = share.place(Class::Read).await.expect("free");
        let (finish, finished) = std::sync::mpsc::channel::<()>();
        {
            let work = apart(move || finished.recv());
            let mut call = Box::pin(holding(place, work));
            assert!(futures::poll!(&mut call).is_pending());
        }
        let mut next = Box::pin(share.place(Class::Read));
        assert!(futures::poll!(&mut next).is_pending(), "the thread works on");
        finish.send(()).expect("it waits for it");
        next.await.expect("given back");
    }

    #[test]
    fn damage_is_logged_with_its_place_and_counted() {
        let (table, key) = ("transactions", "00000007".to_owned());
        let (log, metrics) = noted(&StoreError::Corrupt { table, key, what: "checksum".into() });
        assert_eq!(log.lines().count(), 1, "{log}");
        for part in ["ERROR", "transactions", "00000007", "checksum"] {
            assert!(log.contains(part), "{part}: {log}");
        }
        assert!(metrics.contains("customhouse_store_corruptions_total 1\n"), "{metrics}");
        let (log, metrics) = noted(&StoreError::OutOfRange);
        assert_eq!(log, "", "a caller's wrong question is no damage");
        assert!(metrics.contains("customhouse_store_corruptions_total 0\n"), "{metrics}");
    }
}
