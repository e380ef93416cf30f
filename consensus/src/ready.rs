//! What a step leaves to do, in the one order that is safe: persist, then send.

use crate::{
    action::{Action, Reception},
    input::{Message, PeerTag},
    journal::Entry,
};

/// The signer's journal: append-only, and durable when [`Journal::append`] returns.
pub trait Journal {
    /// Why an append failed. It is fatal: the node stops before it sends anything.
    type Error;

    /// Appends the entries, in order, and returns when they are durable.
    ///
    /// # Errors
    /// The entries may not be durable.
    fn append(&mut self, entries: &[Entry]) -> Result<(), Self::Error>;
}

/// What a step leaves to do. Messages and actions are out of reach until [`Ready::persist`] has
/// made durable what they rest on.
#[must_use = "a step's messages and actions are lost unless it is persisted"]
#[derive(Clone, Debug, Default)]
pub struct Ready {
    pub(crate) entries: Vec<Entry>,
    pub(crate) effects: Effects,
}

/// Messages to send and actions to take, after what they rest on has been made durable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// In the order in which they should leave.
    pub messages: Vec<Outgoing>,
    /// In any order.
    pub actions: Vec<Action>,
    /// What became of the step's message; `None` where its input was not a message.
    pub reception: Option<Reception>,
    /// Step with [`crate::Input::Tick`] at this monotonic time, unless another input comes first.
    /// `None`: no timer runs.
    pub wake_at: Option<u64>,
}

/// A message and whom it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Whom it is for.
    pub to: Recipient,
    /// The message.
    pub message: Message,
}

/// Whom a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipient {
    /// Every peer.
    All,
    /// This one.
    Peer(PeerTag),
}

impl Ready {
    /// Makes durable what must be, if anything must, and hands out the rest.
    ///
    /// # Errors
    /// The journal's. Nothing may leave then: stop.
    pub fn persist<J: Journal>(self, journal: &mut J) -> Result<Effects, J::Error> {
        if !self.entries.is_empty() {
            journal.append(&self.entries)?;
        }
        Ok(self.effects)
    }

    /// What [`Ready::persist`] would append.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(crate) fn send_all(&mut self, message: Message) {
        self.effects.messages.push(Outgoing { to: Recipient::All, message });
    }

    pub(crate) fn send(&mut self, peer: PeerTag, message: Message) {
        self.effects.messages.push(Outgoing { to: Recipient::Peer(peer), message });
    }

    pub(crate) fn act(&mut self, action: Action) {
        self.effects.actions.push(action);
    }
}
