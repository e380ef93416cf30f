//! Customhouse node.
