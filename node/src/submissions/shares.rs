//! What each client has among the records that this node has signed and that are not final yet.
//!
//! They wait in one place: all are of the node's key, which has a share of the mempool. So a client may have
//! as much of it as it leaves free: half where it is alone, a third each where there are two. One that
//! submits without end is refused, and whoever comes next finds room.

use std::{collections::HashMap, sync::Arc};

/// Bytes by client.
#[derive(Debug, Default)]
pub(super) struct Shares {
    by_client: HashMap<Arc<str>, u64>,
    total: u64,
}

/// What a transaction has of each client's share.
pub(super) type Parts = Vec<(Arc<str>, u64)>;

impl Shares {
    /// Whether a client may have so many bytes more, where there is room for `room` bytes of all clients. One
    /// that has nothing may have any record.
    pub(super) fn has_room(&self, client: &str, bytes: u64, room: u64) -> bool {
        let held = self.by_client.get(client).copied().unwrap_or_default();
        let own = room.saturating_sub(self.total - held) / 2;
        held < own && (held == 0 || held + bytes <= own)
    }

    /// A record of a client waits. Gives the client's name as it is kept.
    pub(super) fn add(&mut self, client: &str, bytes: u64) -> Arc<str> {
        self.total += bytes;
        let name = match self.by_client.get_key_value(client) {
            Some((name, _)) => Arc::clone(name),
            None => Arc::from(client),
        };
        *self.by_client.entry(Arc::clone(&name)).or_default() += bytes;
        name
    }

    /// They wait no longer.
    pub(super) fn give_back(&mut self, parts: &Parts) {
        for (client, bytes) in parts {
            self.total -= bytes;
            if let Some(held) = self.by_client.get_mut(client) {
                *held -= bytes;
                if *held == 0 {
                    self.by_client.remove(client);
                }
            }
        }
    }
}

/// Sums up what many records have of each client's share.
pub(super) fn sum(parts: impl Iterator<Item = (Arc<str>, u64)>) -> Parts {
    let mut by_client: HashMap<Arc<str>, u64> = HashMap::new();
    for (client, bytes) in parts {
        *by_client.entry(client).or_default() += bytes;
    }
    by_client.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Adds records of 10 bytes until a client has its share of 1,000.
    fn fill(shares: &mut Shares, client: &str) -> Parts {
        let mut parts = Vec::new();
        while shares.has_room(client, 10, 1000) {
            parts.push((shares.add(client, 10), 10));
        }
        sum(parts.into_iter())
    }

    #[test]
    fn whoever_comes_next_finds_room() {
        let mut shares = Shares::default();
        let greedy = fill(&mut shares, "greedy");
        assert_eq!(shares.total, 500);
        let next = fill(&mut shares, "next");
        assert_eq!(shares.total, 750);
        assert!(!shares.has_room("greedy", 10, 1000) && shares.has_room("third", 10, 1000));
        // A large record of one that has nothing, and not of one that has something.
        assert!(shares.has_room("third", 900, 1000));
        shares.give_back(&greedy);
        assert!(shares.has_room("next", 10, 1000) && !shares.has_room("next", 900, 1000));
        shares.give_back(&next);
        assert!(shares.by_client.is_empty() && shares.total == 0);
    }
}
