//! Customhouse as it runs: clusters of real node processes, and clients that check what they are
//! told.
//!
//! - [`cluster`]: a network of n agencies in a directory of its own, its nodes as child processes
//!   that can be killed, stopped, wiped and started again;
//! - [`program`]: the `customhouse` program and what its commands answer;
//! - [`load`]: clients that submit without pause and write down every acknowledgement;
//! - [`records`]: records to submit;
//! - [`simulator`]: whole nodes in virtual time, under faults and lies, from a seed;
//! - [`wait`]: waiting for a condition, with a deadline.
//!
//! The harness panics where something is not as it must be: it serves tests only.

pub mod cluster;
pub mod load;
mod node_process;
mod ports;
pub mod program;
pub mod records;
pub mod simulator;
pub mod wait;
