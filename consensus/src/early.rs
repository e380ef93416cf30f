//! Messages for the next height that come before this one is committed, and other per-peer limits.

use std::collections::BTreeMap;

use crate::input::{Message, PeerTag};

/// Small messages (votes, certificates) kept of one peer.
const SMALL_MAX: usize = 1_024;
/// Certificates of many validators are not so small: what those may have together, in bytes.
const SMALL_BYTES_MAX: usize = 1 << 20;
/// Proposals kept of one peer. Each may be two megabytes.
const PROPOSALS_MAX: usize = 2;
/// Peers at the most; there are as many as there are agencies.
const PEERS_MAX: usize = 512;

/// A bounded buffer of messages for one height. They cannot be verified yet: the validators of
/// that height follow from the block before it. So the limits are each peer's own, and a peer that
/// lies fills only its own share.
#[derive(Clone, Debug, Default)]
pub(crate) struct Early {
    by_peer: BTreeMap<PeerTag, Share>,
}

#[derive(Clone, Debug, Default)]
struct Share {
    proposals: usize,
    small_bytes: usize,
    messages: Vec<Message>,
}

impl Early {
    /// Keeps a message. False: the peer's share is full.
    pub(crate) fn keep(&mut self, from: PeerTag, message: Message) -> bool {
        if self.by_peer.len() >= PEERS_MAX && !self.by_peer.contains_key(&from) {
            return false;
        }
        let share = self.by_peer.entry(from).or_default();
        if share.messages.contains(&message) {
            return true;
        }
        let small = share.messages.len() - share.proposals;
        match &message {
            Message::Proposal(_) if share.proposals < PROPOSALS_MAX => share.proposals += 1,
            Message::Proposal(_) => return false,
            other => {
                let bytes = small_bytes(other);
                if small >= SMALL_MAX || share.small_bytes + bytes > SMALL_BYTES_MAX {
                    return false;
                }
                share.small_bytes += bytes;
            }
        }
        share.messages.push(message);
        true
    }

    /// Hands everything out, peer by peer, and is empty.
    pub(crate) fn take(&mut self) -> impl Iterator<Item = (PeerTag, Message)> + use<> {
        let by_peer = std::mem::take(&mut self.by_peer);
        by_peer.into_iter().flat_map(|(peer, share)| {
            share.messages.into_iter().map(move |message| (peer, message))
        })
    }
}

fn small_bytes(message: &Message) -> usize {
    match message {
        Message::Certificate(certificate) => 64 * certificate.signers().count() + 128,
        _ => 320,
    }
}

/// What is done for a peer at most once in a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Favour {
    /// Telling it the tip.
    Tip,
    /// Asking it for blocks.
    Sync,
}

/// When something was last done for a peer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pace {
    last: BTreeMap<(PeerTag, Favour), u64>,
}

impl Pace {
    /// Whether to do it now; remembers that it was done.
    pub(crate) fn allows(&mut self, peer: PeerTag, favour: Favour, now: u64, pause: u64) -> bool {
        let key = (peer, favour);
        if self.last.get(&key).is_some_and(|last| now < last.saturating_add(pause)) {
            return false;
        }
        if self.last.len() >= 2 * PEERS_MAX {
            self.last.clear();
        }
        self.last.insert(key, now);
        true
    }
}
