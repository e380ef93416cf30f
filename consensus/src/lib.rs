//! Customhouse consensus.
