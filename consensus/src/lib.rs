//! The agreement of a height among its validators, as a pure state machine.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod action;
pub mod core;
mod early;
pub mod evidence;
mod height;
pub mod input;
pub mod journal;
mod justify;
mod leaders;
pub mod ready;
mod receive;
mod recover;
mod rules;
mod signed;
mod timers;
mod votes;
pub mod wire;

pub use crate::{
    action::{Action, Build, HaltReason, Refusal, StopReason, Validate},
    core::Core,
    evidence::{Claim, Evidence},
    input::{Committed, Config, Input, Message, Now, PeerTag, Timing, Tip, Verdict},
    journal::Entry,
    leaders::leader,
    ready::{Journal, Outbox, Outgoing, Ready, Recipient},
    wire::WireError,
};
