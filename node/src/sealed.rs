//! Records that are sealed: what a node does with them beyond their slots, which are the ledger's.
//!
//! | module | subject |
//! |---|---|
//! | `keys` | the agency's vault as a node has it open |
//! | `store`, `row` | where the bytes are, each record's sealed under a key of its own, and how it stands |
//! | `holdings` | what is held: taken from clients, kept, and opened |
//! | `checking` | whether bytes are a record's, and what its slot says of them |
//! | `following` | what the chain says about entitlement |
//! | `receiving`, `delivery`, `fetching` | the bytes of others' records, this agency's on their way to others, and what is lacked |
//! | `turns` | what deliveries and fetches share |
//! | `subject_keys` | what a slot carries of what its record is about |

pub mod backing_up;
mod checking;
mod delivery;
pub mod error;
mod fetching;
mod following;
mod holdings;
pub mod keys;
pub mod metrics;
mod receiving;
mod row;
mod store;
mod subject_keys;
mod turns;
pub mod upkeep;

pub(crate) use delivery::deliver;
pub(crate) use fetching::fetch;
pub(crate) use following::follow;
pub use holdings::{Holdings, OwnSealed, PartyHolds};
pub use row::{Check, Delivery, Row, Standing};
pub use store::SealedId;
pub use subject_keys::subject_keys;
