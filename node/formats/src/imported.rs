//! What a message becomes: a record, with what the ledger does not hold of it.

use customhouse_ledger::limits::RECORD_BYTES_MAX;
use customhouse_proto::v1::{
    self,
    reference::{Ground, Relation},
};
use sha2::{Digest as _, Sha256};

use crate::warning::Warning;

/// Most bytes of a message whose source is too large for its record and goes beside it, as an attachment: one
/// stream of imports takes as much.
pub const SOURCE_BYTES_MAX: usize = 15 << 20;
/// Bytes kept free in a record for what is added later: salt, agency, submitter, references.
const RESERVED_BYTES: usize = 1024;
/// Most bytes of a message that is kept whole in its record.
pub const MESSAGE_BYTES_MAX: usize = RECORD_BYTES_MAX - RESERVED_BYTES;
/// A message that became a record.
#[derive(Clone, Debug, PartialEq)]
pub struct Imported {
    /// The record. Salt, agency and submitter are empty: the node fills them.
    pub record: v1::Record,
    /// `<form>:<SHA-256 of the message in hexadecimal>`, at most 128 bytes.
    pub idempotency_key: String,
    /// The file, and for a row its line: what to name in messages to people.
    pub label: String,
    /// Of a row, its line in the file, from 1; 0 of a message of its own.
    pub line: usize,
    /// At most [`WARNINGS_MAX`](crate::WARNINGS_MAX) of its content. Whoever links it may add one.
    pub warnings: Vec<Warning>,
    /// What the message is to a declaration.
    pub role: MessageRole,
    /// The declaration it is, or is about.
    pub key: DeclarationKey,
    /// The bytes of the message, where they are too large for the record: the attachment that its source
    /// names, to be uploaded before it.
    pub detached: Option<Vec<u8>>,
}

impl Imported {
    /// States that the record is about an earlier one, and why.
    /// `agency` is empty where the other record is of the same agency.
    pub fn refer(
        &mut self,
        relation: Relation,
        (record_id, agency): ([u8; 32], &str),
        ground: Ground,
    ) {
        let reference = v1::Reference {
            relation: relation as i32,
            record_id: record_id.to_vec(),
            ground: ground as i32,
            agency: agency.to_owned(),
        };
        if !self.record.references.contains(&reference) {
            self.record.references.push(reference);
        }
    }
}

/// What a message is to a declaration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageRole {
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
pub(crate) fn idempotency_key(form: &str, parts: &[&[u8]]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    format!("{form}:{}", hex::encode(hasher.finalize()))
}
