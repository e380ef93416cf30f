//! What an audit finds out without trusting a node: verdicts, what they rest on, heads that were saved, and
//! evidence of a fork. What it reads and asks is handed in; what it says to people is the caller's.

pub mod asked;
pub mod compare;
pub mod evidence;
pub mod files;
pub mod foreign_answer;
pub mod head;
pub mod invalid_file;
#[cfg(test)]
mod samples;
pub mod sealed_history;
pub mod seen;
pub mod time;
pub mod told;
pub mod validators;
pub mod verdict;
