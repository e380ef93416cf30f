//! Turns messages that trade already has into records.
//!
//! Two forms are read: WCO Data Model declarations (DEC) and responses (RES) in XML, and the rows
//! of the Korean import declarations in CSV. Nothing here talks to a node: the caller submits what
//! comes out, declarations before the statuses that answer them. [`FORMATS`] is the one table of what is
//! read.
//!
//! ```text
//! content ─► import (FORMATS) ─► Outcome ─┬─► Imported ─► link_batch ─► Links
//!                                          └─► Skipped (named, with the reason)
//! record  ─► check_source ─► SourceCheck
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

mod check;
mod codes;
mod date;
mod decimal;
mod declaration;
mod encoding;
mod error;
mod extensions;
mod format;
mod imported;
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

pub use check::{SourceCheck, check_source, check_source_with};
pub use codes::{has_wrong_check_digit, perhaps_container};
pub use error::ImportError;
pub use format::{
    EachOutcome, FORMATS, Format, RawMessage, SourcePlace, format_named, format_of, import,
};
pub use imported::{
    DeclarationKey, Imported, MESSAGE_BYTES_MAX, MessageRole, Outcome, SOURCE_BYTES_MAX, Skipped,
};
pub use link::{Duplicate, Link, LinkTarget, Links, OnLedger, Rule, Unlinked, link_batch, waves};
pub use paths::{Found, message_file, wco_paths};
pub use rows::{CsvRows, KOREAN_COLUMNS, csv_rows};
pub use warning::{CANDIDATES_MAX, Place, SoughtBy, WARNINGS_MAX, Warning};
pub use wco::{wco_file, wco_message};
