//! Turns messages that trade already has into records.
//!
//! Two forms are read: WCO Data Model declarations (DEC) and responses (RES) in XML, and the rows
//! of the Korean import declarations in CSV. Nothing here talks to a node: the caller submits what
//! comes out, declarations before the statuses that answer them.
//!
//! ```text
//! wco_paths ─► wco_file / wco_message ─► Outcome ─┬─► Imported ─► link_batch ─► Links
//!                                                  └─► Skipped (named, with the reason)
//! csv_rows  ─► Imported, Imported, …
//! ```
//!
//! What holds for everything that comes out:
//!
//! - **The source is kept byte for byte** in `Record.source`. A record that would pass 64 KiB is
//!   refused; only extensions, which the source holds too, are left out to make room, and a
//!   warning counts them.
//! - **Nothing is lost silently.** A term of the message is in a field of the record or in an
//!   [extension](customhouse_proto::v1::Extension) named by its path: below `Declaration`,
//!   `Response` or the goods item, or from the root with a leading `/` for what surrounds them.
//!   An attribute is `path@name`; elements that repeat are numbered from 1, as in `Name[2]`.
//! - **Every subject that a message names is the record's.** Elements are matched by vocabulary and
//!   name, wherever they stand and however often; ids are brought to their normal form (docs/FORMATS.md),
//!   and the source keeps them as they came. What has no normal form, what another vocabulary says, and
//!   what is not understood gives a [`Warning`] with its place.
//! - **Code lists never refuse.** A container number with a wrong check digit, an unknown country
//!   or a strange tariff code gives a [`Warning`]; so does a value that does not fit its field,
//!   which then stays an extension.
//! - **One message, one key.** The idempotency key is the hash of what the message says: a file at two
//!   paths, one with other line ends or in another encoding, and a batch submitted twice are one
//!   submission.
//! - **Input is hostile.** Size and depth are limited, document types and entity declarations are
//!   refused, and no input panics.

mod codes;
mod date;
mod decimal;
mod declaration;
mod encoding;
mod error;
mod extensions;
mod link;
mod naming;
mod paths;
mod rows;
mod status;
mod terms;
mod warning;
mod wco;
mod xml;

#[cfg(test)]
mod cases_tests;
#[cfg(test)]
mod samples_tests;
#[cfg(test)]
mod shared_data_tests;

use customhouse_proto::v1::{self, reference::Relation};
use sha2::{Digest as _, Sha256};

pub use codes::{has_wrong_check_digit, perhaps_container};
pub use error::ImportError;
pub use link::{Duplicate, Link, LinkTarget, Links, Rule, Unlinked, link_batch, waves};
pub use paths::{Found, wco_paths};
pub use rows::{CsvRows, KOREAN_COLUMNS, csv_rows};
pub use warning::{Place, WARNINGS_MAX, Warning};
pub use wco::{MESSAGE_BYTES_MAX, wco_file, wco_message};

/// A message that became a record.
#[derive(Clone, Debug, PartialEq)]
pub struct Imported {
    /// The record. Salt, agency and submitter are empty: the node fills them.
    pub record: v1::Record,
    /// `<form>:<SHA-256 of the message in hexadecimal>`, at most 128 bytes.
    pub idempotency_key: String,
    /// The file, and for a row its line: what to name in messages to people.
    pub label: String,
    /// At most [`WARNINGS_MAX`].
    pub warnings: Vec<Warning>,
    /// What the message is to a declaration.
    pub role: Role,
    /// The declaration it is, or is about.
    pub key: DeclarationKey,
}

impl Imported {
    /// States that the record is about an earlier one.
    pub fn refer(&mut self, relation: Relation, record_id: [u8; 32]) {
        let reference = v1::Reference { relation: relation as i32, record_id: record_id.to_vec() };
        if !self.record.references.contains(&reference) {
            self.record.references.push(reference);
        }
    }
}

/// What a message is to a declaration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It is one.
    Declaration,
    /// A further message of the declarant about one lodged earlier: it amends or cancels it, or is
    /// evidence for it (the goods were presented).
    Additional(Relation),
    /// Customs answers it.
    Status,
}

/// How messages name a declaration. Either part may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeclarationKey {
    /// The declarant's own reference.
    pub reference: String,
    /// The movement reference number that customs gave.
    pub mrn: String,
}

/// What a well-formed file turned out to be.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// A declaration, a message about one, or a status.
    Imported(Box<Imported>),
    /// Another kind of message, which has no record.
    Skipped(Skipped),
}

/// A file that is well-formed and not for the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// The file.
    pub label: String,
    /// Name of the root element.
    pub root: String,
    /// Why it was skipped.
    pub reason: &'static str,
}

/// The idempotency key of a message: the parts are hashed one after the other.
fn idempotency_key(form: &str, parts: &[&[u8]]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    format!("{form}:{}", hex::encode(hasher.finalize()))
}
