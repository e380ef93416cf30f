//! A model checker for the real core. [`search`] says what it covers.

// Each test binary uses its own part of it.
#![allow(dead_code, unreachable_pub)]

pub mod catalogue;
pub mod inputs;
pub mod node;
pub mod search;

pub use search::{Model, run};
