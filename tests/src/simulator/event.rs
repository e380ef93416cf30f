//! What happens in a simulation, one thing at a time.

use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::Bytes;
use customhouse_consensus::Evidence;
use customhouse_ledger::keys::PublicKey;
use customhouse_node::driver::DriverInput;
use customhouse_proto::v1::{sync_request::Request, sync_response::Response};

use super::{faults::Fault, gossip::Topic, links::Link};

/// An event, for the endpoint it names and, where it names an epoch, for that process alone.
pub(super) enum Event {
    /// A gossip message arrives: a batch of consensus messages, or of transactions.
    Gossip { to: usize, from: usize, topic: Topic, bytes: Bytes },
    /// A consensus message arrives that was sent to this endpoint alone.
    Push { to: usize, from: usize, bytes: Bytes },
    /// A request arrives.
    Ask { to: usize, from: usize, job: JobId, request: Request },
    /// Its answer arrives; `None`: none was given.
    Answer { to: usize, job: JobId, response: Option<Response> },
    /// A request has had its time.
    JobTimer { at: usize, job: JobId },
    /// A job whose sources were all asked begins again.
    JobAgain { at: usize, job: JobId },
    /// The gathering of blocks wants to look at the clock.
    Gather { at: usize, epoch: u64, monotonic_ms: u64 },
    /// What the driver of this process is told next.
    Input { at: usize, epoch: u64, input: Box<DriverInput> },
    /// A driver's timer.
    Tick { at: usize, epoch: u64, monotonic_ms: u64 },
    /// Two endpoints have connected; one of them learns it.
    Connect { at: usize, to: usize },
    /// A peer that was cut off for its faults may connect again.
    LetIn { at: usize, epoch: u64, peer: PublicKey },
    /// A client submits.
    Submit,
    /// A client of this endpoint submits, and does so again when that is final.
    Client { at: usize },
    /// It is this process's turn to report a breach.
    Report { at: usize, epoch: u64, evidence: Box<Evidence> },
    /// A lying validator speaks.
    Lie { at: usize },
    /// Something breaks.
    Fault(Fault),
    /// A process starts again.
    Start { at: usize, epoch: u64 },
    /// A partition ends.
    Mend(Vec<Link>),
    /// A link is fast again.
    Unclog(Link),
    /// Connections whose packets vanished are found dead, and made anew.
    Renew(Vec<Link>),
}

/// A job of a process, at one attempt.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct JobId {
    pub(super) epoch: u64,
    pub(super) job: u64,
    pub(super) attempt: u64,
}

impl Event {
    /// The endpoint whose process must run for it, which a pause holds up.
    pub(super) fn endpoint(&self) -> Option<usize> {
        match self {
            Self::Gossip { to, .. }
            | Self::Push { to, .. }
            | Self::Ask { to, .. }
            | Self::Answer { to, .. } => Some(*to),
            Self::JobTimer { at, .. }
            | Self::JobAgain { at, .. }
            | Self::Gather { at, .. }
            | Self::Input { at, .. }
            | Self::Tick { at, .. }
            | Self::Report { at, .. }
            | Self::LetIn { at, .. }
            | Self::Connect { at, .. } => Some(*at),
            _ => None,
        }
    }

    /// Adds it to the trace, by which two runs are told to be the same.
    pub(super) fn trace(&self, now: u64, trace: &mut DefaultHasher) {
        (now, std::mem::discriminant(self), self.endpoint()).hash(trace);
        match self {
            Self::Gossip { from, topic, bytes, .. } => (from, topic, bytes).hash(trace),
            Self::Push { from, bytes, .. } => (from, bytes).hash(trace),
            Self::Ask { from, job, request, .. } => {
                let mut bytes = Vec::new();
                request.encode(&mut bytes);
                (from, job, bytes).hash(trace);
            }
            Self::Answer { job, response, .. } => {
                let mut bytes = Vec::new();
                if let Some(response) = response {
                    response.encode(&mut bytes);
                }
                (job, bytes).hash(trace);
            }
            Self::JobTimer { job, .. } | Self::JobAgain { job, .. } => job.hash(trace),
            Self::Fault(fault) => fault.hash(trace),
            _ => {}
        }
        trace.write_u8(0);
    }
}
