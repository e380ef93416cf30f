//! `customhouse`: the node and its command line, one binary.
fn main() {}
