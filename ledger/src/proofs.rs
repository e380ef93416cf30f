//! Proofs, and how to check them with the genesis alone.
//!
//! | module | subject |
//! |---|---|
//! | [`verifier`] | the validators of every height, from the genesis along the changes of the registry |
//! | [`receipt`] | that a record is on the chain, and who signed it |
//! | [`history`] | that these are all the records about a subject |
//! | [`sealed_history`] | that these are all the sealed records about a subject, of the agencies of an agreement |
//! | [`consistency`] | that a later log holds all of an earlier one |
//! | [`fork`] | which validators divided a chain |
//! | [`json`] | the JSON forms of all of them |

pub mod consistency;
pub mod fork;
pub mod history;
pub mod json;
pub mod receipt;
pub mod sealed_history;
pub mod verifier;
