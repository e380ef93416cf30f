//! What validators decide, and the proof that they did.
//!
//! | module | subject |
//! |---|---|
//! | [`header`] | a block: its header and the leaves of its transactions |
//! | [`validators`], [`leaders`] | the validators of a height, and which of them proposes in a view |
//! | [`vote`], [`certificate`] | one validator's signature for a ballot, and a quorum of them |
//! | [`decision`] | what the decision of a height rested on |
//! | [`evidence`] | two signatures that no honest key makes |

pub mod certificate;
pub mod decision;
pub mod evidence;
pub mod header;
pub mod leaders;
pub mod validators;
pub mod vote;
