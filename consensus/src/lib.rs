//! The agreement of a height among its validators, as a pure state machine.

pub mod action;
pub mod core;
pub mod evidence;
pub mod input;
pub mod journal;
pub mod ready;
pub mod wire;

pub use crate::{
    action::{Action, Build, HaltReason, StopReason, Validate},
    core::Core,
    evidence::{Claim, Evidence},
    input::{Committed, Config, Input, Message, Now, PeerTag, Timing, Tip, Verdict},
    journal::Entry,
    ready::{Journal, Outbox, Outgoing, Ready, Recipient},
    wire::WireError,
};
