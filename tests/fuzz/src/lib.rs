//! What is done with bytes that a fuzzer made up: every decoder and verifier of the ledger has a
//! function in [`targets`], and begins from the [`seeds`] in docs/vectors.
//!
//! The targets in `fuzz_targets` call these functions and nothing else. The ledger's tests include
//! this file and run them too, without libFuzzer.

pub mod seeds;
pub mod targets;
