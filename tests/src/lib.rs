//! Customhouse as it runs: clusters of real node processes, and clients that check what they are
//! told.
//!
//! - [`cluster`]: a network of n agencies in a directory of its own, its nodes as child processes
//!   that can be killed, paused, stopped, wiped and started again;
//! - [`links`]: the wires between the nodes, which can be cut, slowed down, broken and stranded;
//! - [`listed_liar`]: a listed peer that gossips, pushes and answers what a test has it say;
//! - [`node_process`]: what such a process finds when it starts: its limits, its standard error;
//! - [`backup`]: what a stopped node has on its disk, to be put back later;
//! - [`lying_node`]: a node that lies to its clients;
//! - [`faults`]: kills, restarts and wipes, again and again, at any moment;
//! - [`program`]: the `customhouse` program and what its commands answer;
//! - [`http`]: plain HTTP requests to a node;
//! - [`load`]: clients that submit without pause and write down every acknowledgement;
//! - [`python`]: clients and verifiers in another language;
//! - [`readers`]: clients that read without pause and check that nodes agree and never go back;
//! - [`records`]: records to submit;
//! - [`simulator`]: whole nodes in virtual time, under faults and lies, from a seed;
//! - [`wait`]: waiting for a condition, with a deadline.
//!
//! The harness panics where something is not as it must be: it serves tests only.

pub mod backup;
pub mod cluster;
pub mod faults;
pub mod http;
pub mod links;
pub mod listed_liar;
pub mod load;
pub mod lying_node;
pub mod node_process;
mod ports;
pub mod program;
pub mod python;
pub mod readers;
pub mod records;
pub mod simulator;
pub mod wait;
