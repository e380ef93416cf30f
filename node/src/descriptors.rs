//! The descriptors of a node's process, shared out before the first is taken: the store's files, the
//! connections to peers, and what strangers and clients may open. A store that cannot open its next file
//! fails, and with it the node; so nobody who connects may take what the store needs.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Connections that were told to close and are not closed yet. No more are accepted meanwhile.
pub(crate) const CLOSING_MAX: usize = 32;
/// Files of the outbox: it is small.
pub(crate) const OUTBOX_FILES_MAX: i32 = 64;
/// Files of the store of sealed records.
pub(crate) const SEALED_FILES_MAX: i32 = 128;
/// More are of no use, even where the system would give them.
const USEFUL_MAX: u64 = 65_536;

/// What a node needs whatever happens.
const FIXED: [(&str, u64); 6] = [
    ("its threads, sockets, keys and journals", 64),
    ("what the stores open beside their tables", 64),
    ("the outbox", OUTBOX_FILES_MAX as u64),
    ("the sealed records", SEALED_FILES_MAX as u64),
    ("connections to its peers", 320),
    ("connections that are being closed", 3 * CLOSING_MAX as u64),
];
/// What works with the first number and is better with the second.
const STORE: (u64, u64) = (128, 512);
const STRANGERS: (u64, u64) = (32, 128);
const CLIENTS: (u64, u64) = (64, 1024);
const METRICS: (u64, u64) = (16, 64);
const LOG: (u64, u64) = (32, 256);
const SHARED: [(u64, u64); 5] = [STORE, STRANGERS, CLIENTS, METRICS, LOG];

/// Why a node does not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this process may open {limit} files and connections at a time, and a node needs at least {needed}, \
     so that its store is never short of them. Raise the hard limit: `ulimit -Hn {useful}` as root before \
     it is started, or `LimitNOFILE={useful}` in its systemd unit"
)]
pub struct TooFew {
    limit: u64,
    needed: u64,
    useful: u64,
}

/// The shares of a process's descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptors {
    /// Files of the ledger's store.
    pub store_files_max: i32,
    /// gRPC connections that have shown no certificate yet.
    pub strangers_max: usize,
    /// gRPC connections of clients.
    pub clients_max: usize,
    /// Connections to metrics and health.
    pub metrics_max: usize,
    /// Connections to the log's tiles.
    pub log_max: usize,
}

impl Descriptors {
    /// Raises what this process may open as far as it may and as is useful, and shares it out.
    ///
    /// # Errors
    /// [`TooFew`].
    pub fn claim() -> Result<Self, TooFew> {
        let limit = raised();
        let claimed = Self::of(limit)?;
        if limit < enough() {
            let (clients, needed) = (claimed.clients_max, enough());
            tracing::warn!(limit, needed, clients, "few descriptors: fewer connections are served");
        }
        Ok(claimed)
    }

    /// The shares of `limit` descriptors.
    fn of(limit: u64) -> Result<Self, TooFew> {
        let Some(spare) = limit.checked_sub(least()) else {
            return Err(TooFew { limit, needed: least(), useful: 2 * enough() });
        };
        let spare = spare.min(enough() - least());
        let share = |(least_of_it, enough_of_it): (u64, u64)| {
            least_of_it + spare * (enough_of_it - least_of_it) / (enough() - least())
        };
        let places = |of| usize::try_from(share(of)).unwrap_or(usize::MAX);
        Ok(Self {
            store_files_max: i32::try_from(share(STORE)).unwrap_or(i32::MAX),
            strangers_max: places(STRANGERS),
            clients_max: places(CLIENTS),
            metrics_max: places(METRICS),
            log_max: places(LOG),
        })
    }
}

fn fixed() -> u64 {
    FIXED.iter().map(|(_, count)| count).sum()
}

fn least() -> u64 {
    fixed() + SHARED.iter().map(|(least, _)| least).sum::<u64>()
}

fn enough() -> u64 {
    fixed() + SHARED.iter().map(|(_, enough)| enough).sum::<u64>()
}

/// The limit after raising it; no limit is as good as the largest.
fn raised() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.unwrap_or(USEFUL_MAX).min(USEFUL_MAX);
    if current.is_none_or(|current| current >= wanted) {
        return current.unwrap_or(u64::MAX);
    }
    match setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }) {
        Ok(()) => wanted,
        Err(error) => {
            tracing::warn!(%error, "the limit of open files was not raised");
            current.unwrap_or(u64::MAX)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_shares_together_are_within_the_limit_and_grow_with_it() {
        let mut last = Descriptors::of(least()).expect("just enough");
        for limit in least()..enough() + 10 {
            let shares = Descriptors::of(limit).expect("enough");
            let Descriptors { store_files_max, strangers_max, clients_max, metrics_max, log_max } =
                shares;
            let places = strangers_max + clients_max + metrics_max + log_max;
            let files = u64::try_from(store_files_max).expect("positive");
            assert!(fixed() + files + places as u64 <= limit, "{limit}: {shares:?}");
            assert!(store_files_max >= last.store_files_max && clients_max >= last.clients_max);
            last = shares;
        }
        assert_eq!((last.store_files_max, last.clients_max), (512, 1024));
        assert_eq!(Descriptors::of(u64::MAX), Ok(last));
    }

    #[test]
    fn a_common_limit_is_enough_and_too_low_a_one_is_refused_with_what_to_do() {
        let common = Descriptors::of(1024).expect("enough");
        assert!(common.store_files_max >= 128 && common.clients_max >= 64, "{common:?}");
        let refused = Descriptors::of(256).expect_err("too few").to_string();
        for part in ["256", &least().to_string(), "ulimit -Hn", "LimitNOFILE="] {
            assert!(refused.contains(part), "{refused}");
        }
    }

    #[test]
    fn the_soft_limit_is_raised_towards_the_hard_one() {
        let limit = raised();
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        assert_eq!(current.unwrap_or(u64::MAX), limit);
        assert!(limit >= maximum.unwrap_or(USEFUL_MAX).min(USEFUL_MAX));
    }
}
