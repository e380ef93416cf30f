//! The write buffers of the node's stores after a burst.
//!
//! What is in a write buffer is in a log on the disk too. A buffer is written out to a table when it is full;
//! after a burst it may stay nearly so for days, where little is written. Then it is written out here, so
//! that the memory goes back, and so that a start has less of a log to read. It is done once a burst, not
//! whenever little is written: small tables are merged more often than large ones.

use std::{sync::Arc, time::Duration};

use customhouse_ledger::store::{StoreError, WriteOut};
use tokio::{
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};

use crate::{services::Services, submissions::OutboxError, tasks::Tasks};

/// Time between two looks at the buffers' sizes.
const INTERVAL: Duration = Duration::from_secs(5);
/// A change of their size by more than this between two looks is a burst: they fill, or were emptied.
const BURST_BYTES: u64 = 4 << 20;
/// A burst is over after this many looks without one: buffers that fill and are emptied in turn may well have
/// the same size at two looks.
const QUIET_LOOKS: u32 = 3;
/// Buffers smaller than this stay: each table has some even when it is empty.
const WORTHWHILE_BYTES: u64 = 8 << 20;

/// Why buffers were not written out. Fatal: the next write would fail too.
#[derive(Debug, thiserror::Error)]
enum BuffersError {
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("{0}")]
    Outbox(#[from] OutboxError),
}

/// What is known of one store's buffers.
#[derive(Debug, Default)]
struct Buffers {
    bytes: u64,
    /// Looks since the last burst; `None` where they were written out since, or there was none.
    quiet: Option<u32>,
}

impl Buffers {
    /// Takes their size in bytes, and says whether to write them out. It says so again until that has begun.
    fn look(&mut self, bytes: u64) -> bool {
        let changed = bytes.abs_diff(std::mem::replace(&mut self.bytes, bytes));
        self.quiet = match self.quiet {
            _ if changed > BURST_BYTES => Some(0),
            Some(looks) => Some(looks.saturating_add(1)),
            None => None,
        };
        self.quiet >= Some(QUIET_LOOKS) && bytes > WORTHWHILE_BYTES
    }

    fn written_out(&mut self, begun: WriteOut) {
        if begun == WriteOut::Begun {
            self.quiet = None;
        }
    }
}

/// Looks after the buffers of the ledger's store and of the outbox until the node stops.
pub(crate) fn start(tasks: &Tasks, node: &Services) {
    let (stop, metrics) = (tasks.shutdown().clone(), node.metrics.clone());
    let ledger = Arc::new(node.reader.clone());
    let outbox = Arc::new(node.submissions.outbox_buffers().clone());
    let looking = async move {
        let mut pace = interval(INTERVAL);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut of_ledger, mut of_outbox) = (Buffers::default(), Buffers::default());
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                _ = pace.tick() => {}
            }
            if of_ledger.look(ledger.buffered_bytes()) {
                of_ledger.written_out(write_out(&ledger, |ledger| Ok(ledger.write_out()?)).await?);
            }
            let bytes = outbox.bytes();
            metrics.outbox_memtables(bytes);
            if of_outbox.look(bytes) {
                of_outbox.written_out(write_out(&outbox, |outbox| Ok(outbox.write_out()?)).await?);
            }
        }
    };
    tasks.spawn_fallible::<BuffersError>("look at the write buffers", looking);
}

/// Runs it where it may wait. The stores stay open for as long, also where the node is to stop.
async fn write_out<T: Send + Sync + 'static>(
    buffers: &Arc<T>,
    write_out: fn(&T) -> Result<WriteOut, BuffersError>,
) -> Result<WriteOut, BuffersError> {
    let buffers = Arc::clone(buffers);
    // A panic ends the process; a runtime that ends takes no more.
    let begun =
        spawn_blocking(move || write_out(&buffers)).await.unwrap_or(Ok(WriteOut::NotNow))?;
    tracing::debug!(?begun, "write buffers after a burst");
    Ok(begun)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// At which looks buffers of these sizes in MiB are written out; `refused` times it is not the moment.
    fn written_out(mebibytes: &[u64], mut refused: usize) -> Vec<usize> {
        let mut buffers = Buffers::default();
        let mut at = Vec::new();
        for (look, size) in mebibytes.iter().enumerate() {
            if buffers.look(size << 20) {
                at.push(look);
                buffers.written_out(if refused > 0 { WriteOut::NotNow } else { WriteOut::Begun });
                refused = refused.saturating_sub(1);
            }
        }
        at
    }

    #[test]
    fn buffers_are_written_out_once_after_a_burst() {
        assert_eq!(written_out(&[1, 30, 50, 51, 52, 53, 54, 55], 0), [5]);
        assert_eq!(written_out(&[1, 30, 30, 30, 30, 3, 3, 3, 3, 60, 60, 60, 60], 0), [4, 12]);
    }

    #[test]
    fn where_it_is_not_the_moment_it_is_tried_again() {
        assert_eq!(written_out(&[1, 50, 50, 50, 50, 50, 50, 50], 2), [4, 5, 6]);
    }

    #[test]
    fn those_that_fill_slowly_are_left_to_fill() {
        let slowly: Vec<u64> = (0..60).collect();
        assert!(written_out(&slowly, 0).is_empty());
    }

    #[test]
    fn a_burst_in_which_the_size_is_the_same_for_a_moment_is_not_over() {
        assert_eq!(written_out(&[1, 50, 20, 21, 20, 50, 49, 50, 20, 20, 20, 20], 0), [11]);
    }

    #[test]
    fn small_ones_stay() {
        assert!(written_out(&[0, 5, 6, 7, 8, 8, 8], 0).is_empty());
    }
}
