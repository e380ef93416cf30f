//! The limits of the formats: how large or how many a thing may be, whatever a network's
//! [parameters](crate::registry::parameters) say.
//!
//! Whoever decodes, executes or verifies holds what comes in to these; a thing that exceeds one is refused
//! by everybody, so none of them can change without a new version of the formats. They are bytes or counts,
//! as the last words of their names say, and they stand together because many rest on each other. What only
//! bounds the memory of one implementation (a cache, a list in a message) stands beside what it bounds.

use crate::agency::AgencyCode;

// ---- Records and what they are about.

/// A record, in its one encoding: a declaration of 999 items, with its source where that is not larger
/// than the rest.
pub const RECORD_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Fields, elements and messages of a record: leaves of the tree that its id is the root of. A declaration
/// of 999 items as agencies send them has some 70,000.
pub const RECORD_LEAVES_MAX: usize = 262_144;
/// Fields and elements of a record, or of a transaction's records together: this many, and one more for each
/// [`BYTES_PER_FIELD`] of its bytes. Declarations as agencies send them have ten bytes a field or more.
pub const FIELDS_BASE: usize = 16_384;
/// See [`FIELDS_BASE`].
pub const BYTES_PER_FIELD: usize = 8;
/// Messages among those fields, likewise: a message of two bytes takes hundreds in memory. Declarations as
/// agencies send them have some forty bytes a message or more.
pub const MESSAGES_BASE: usize = 4096;
/// See [`MESSAGES_BASE`].
pub const BYTES_PER_MESSAGE: usize = 32;
/// The name of a submitter.
pub const SUBMITTER_BYTES_MAX: usize = 64;
/// References of a record to other records.
pub const REFERENCES_MAX: usize = 64;
/// Subjects of a record, those that are derived and those that are stated.
pub const SUBJECTS_MAX: usize = 4096;
/// The id of a subject.
pub const SUBJECT_ID_BYTES_MAX: usize = 256;
/// A declaration's own reference: with any agency's code and a separator before it, it is an id.
pub const REFERENCE_BYTES_MAX: usize = SUBJECT_ID_BYTES_MAX - AgencyCode::LENGTH - 1;

// ---- Attachments of records.

/// A piece of an attachment: all but the last have as many.
pub const PIECE_BYTES: usize = 64 * 1024;
/// An attachment: 16,384 pieces.
pub const ATTACHMENT_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// Attachments of a record, beside its source's.
pub const ATTACHMENTS_MAX: usize = 64;
/// The name of an attachment.
pub const FILE_NAME_BYTES_MAX: usize = 256;
/// The media type of an attachment.
pub const MEDIA_TYPE_BYTES_MAX: usize = 128;

// ---- Transactions and blocks.

/// Slots of a transaction.
pub const SLOTS_MAX: usize = 4096;
/// A transaction with the records that it carries.
pub const TRANSACTION_BYTES_MAX: usize = 6 * 1024 * 1024;
/// References of a transaction's records: each is looked up.
pub const TRANSACTION_REFERENCES_MAX: usize = 8192;
/// References of a block's records.
pub const BLOCK_REFERENCES_MAX: usize = 16_384;
/// The lowest that a network may set its own limit of a transaction to: room for any record, with a slot of
/// [`SUBJECTS_MAX`] keys, whatever it says of records.
pub const TRANSACTION_BYTES_MIN: usize = RECORD_BYTES_MAX + 256 * 1024;
/// Transactions of a block.
pub const BLOCK_TRANSACTIONS_MAX: usize = 65_536;
/// The transactions of a block, together.
pub const BLOCK_BYTES_MAX: usize = 8 * 1024 * 1024;

// ---- The registry, its changes, and the genesis.

/// Entries of a registry.
pub const REGISTRY_ENTRIES_MAX: usize = 65_536;
/// The name of an agency, or the label of a key.
pub const NAME_BYTES_MAX: usize = 128;
/// Entries that a change adds or ends, together.
pub const CHANGE_ENTRIES_MAX: usize = 64;
/// The reason that a change gives.
pub const REASON_BYTES_MAX: usize = 256;
/// How far below the block that carries the change a new validator's key may say that it is in sync.
pub const IN_SYNC_HEIGHTS_MAX: u64 = 1000;
/// A genesis as canonical protobuf: some 50,000 keys, and an answer that a client of gRPC takes, whose limit
/// is 4 MiB unless it is told otherwise.
pub const GENESIS_BYTES_MAX: usize = 3 * 1024 * 1024;
/// A genesis as JSON.
pub const GENESIS_JSON_BYTES_MAX: usize = 16 * 1024 * 1024;

// ---- Agreements.

/// Parties of an agreement.
pub const PARTIES_MAX: usize = 16;
/// Epochs of an agreement: of a month each, they last for more than eighty years.
pub const EPOCHS_MAX: u32 = 1024;
/// How long an epoch lasts, milliseconds: two years.
pub const EPOCH_MS_MAX: u64 = 731 * 24 * 60 * 60 * 1000;
/// How far ahead an epoch may be agreed, milliseconds: a year.
pub const EPOCH_AHEAD_MS_MAX: u64 = 366 * 24 * 60 * 60 * 1000;
/// How long a proposal of an epoch may live, milliseconds: 31 days.
pub const PROPOSAL_MS_MAX: u64 = 31 * 24 * 60 * 60 * 1000;
/// Changes of agreements that an agency may lodge in 24 hours: epochs, and leaving.
pub const AGREEMENT_CHANGES_A_DAY_MAX: usize = 64;
/// Of those, epochs of the agreement that it has with itself: whoever has stolen a node's key uses up the numbers
/// of these no sooner than in a year.
pub const OWN_EPOCHS_A_DAY_MAX: usize = 2;
/// Changes of agreements in a block.
pub const BLOCK_AGREEMENT_CHANGES_MAX: usize = 64;
/// Agreements that are not over, of one agency.
pub const AGREEMENTS_OPEN_MAX: usize = 256;
/// The terms of an agreement, in their one encoding.
pub const TERMS_BYTES_MAX: usize = 16 * 1024;
/// Routes that terms name, and as many customs offices.
pub const TERMS_FILTER_MAX: usize = 256;
/// The code of a customs office, and the name of a set of fields.
pub const TERMS_NAME_BYTES_MAX: usize = 32;
/// What terms say of their purpose and of their legal basis, each.
pub const TERMS_TEXT_BYTES_MAX: usize = 512;
/// Months that what is shared may be kept: a hundred years.
pub const TERMS_RETENTION_MONTHS_MAX: u32 = 1200;
/// How long a transaction may wait for holders, milliseconds: a day.
pub const TERMS_PATIENCE_MS_MAX: u64 = 24 * 60 * 60 * 1000;
/// Days within which a party erases what it is told to erase.
pub const TERMS_ERASE_DAYS_MAX: u32 = 366;
/// How long an agreement that is over keeps its place under the agreements root, milliseconds: 31 days.
pub const AGREEMENT_KEPT_MS: u64 = 31 * 24 * 60 * 60 * 1000;

// ---- Finality.

/// Validators of a height.
pub const VALIDATORS_MAX: usize = 256;
/// A certificate: its ballot, a bit and a signature a validator.
pub const CERTIFICATE_BYTES_MAX: usize = 51 + VALIDATORS_MAX / 8 + 64 * VALIDATORS_MAX;
/// Heights of a leaders' term: as many headers are read when the chain is opened.
pub const LEADERS_TERM_MAX: u64 = 4096;
/// What is kept of how one height was decided.
pub const GROUNDS_BYTES_MAX: usize = 2 << 20;
/// Certificates of one height that are kept, and as many proposals.
pub const STATEMENTS_MAX: usize = 4096;
/// Decisions in a file of them.
pub const DECISIONS_MAX: usize = 1024;
/// A file of decisions.
pub const DECISIONS_BYTES_MAX: usize = 16 << 20;
/// What decisions rested on is kept of the newest heights, no more than these …
pub const KEPT_HEIGHTS_MAX: usize = 10_000;
/// … and of fewer, where it has more bytes together.
pub const KEPT_BYTES_MAX: usize = 256 << 20;

// ---- Histories and proofs.

/// Fewest bits of a subject's key that choose its bucket.
pub const HISTORY_BITS_MIN: u32 = 8;
/// Most bits of a subject's key that choose its bucket.
pub const HISTORY_BITS_MAX: u32 = 24;
/// A receipt: a record, room for the largest slot, its paths and a certificate, and the changes of the
/// validators before it.
pub const RECEIPT_BYTES_MAX: usize = RECORD_BYTES_MAX + 256 * 1024 + RECEIPT_STEPS_BYTES_MAX;
/// The changes of the validators in a receipt: thousands among few validators, thirty among 256.
pub const RECEIPT_STEPS_BYTES_MAX: usize = 1 << 20;
/// A history proof: room for a million entries in one bucket.
pub const HISTORY_PROOF_BYTES_MAX: usize = 48 * 1024 * 1024;
/// A sealed history proof, or one page of it: an agreement of all epochs and parties, and as much again as a history
/// proof has.
pub const SEALED_HISTORY_PROOF_BYTES_MAX: usize = 48 * 1024 * 1024;
/// Pages of a sealed history proof.
pub const SEALED_HISTORY_PAGES_MAX: u32 = 65_536;
/// A consistency proof: two headers with the certificates of 256 validators, and a path between logs of any
/// size.
pub const CONSISTENCY_PROOF_BYTES_MAX: usize = 64 * 1024;
/// A validator chain: two thousand changes among 256 validators.
pub const VALIDATOR_CHAIN_BYTES_MAX: usize = 64 << 20;
/// A transparency log's proof: a receipt with its record in base64, a path and a note.
pub const TLOG_PROOF_BYTES_MAX: usize = RECEIPT_BYTES_MAX.div_ceil(3) * 4 + 512 * 1024;
/// A note: a checkpoint with as many signatures as are taken, the largest post-quantum ones included.
pub const NOTE_BYTES_MAX: usize = 256 * 1024;
/// Signatures of a note. The specification asks for 16 at least.
pub const NOTE_SIGNATURES_MAX: usize = 32;

// Any transaction fits into a block, whatever a network has set, and any record into a transaction.
const _: () = assert!(TRANSACTION_BYTES_MAX <= BLOCK_BYTES_MAX);
const _: () = assert!(TRANSACTION_BYTES_MIN <= TRANSACTION_BYTES_MAX);
// A slot: 32 bytes and a field's header a key, and two hashes more.
const _: () = assert!(RECORD_BYTES_MAX + 34 * (SUBJECTS_MAX + 4) + 1024 <= TRANSACTION_BYTES_MIN);
