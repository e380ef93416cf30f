//! What a node and its clients agree on beside the messages of `proto`.

/// Most bytes of a request message: the largest transaction or record, or some thousand records.
pub const REQUEST_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes of a record or a transaction that is answered whole. What is larger is read in chunks.
pub const ANSWERED_BYTES_MAX: usize = 3 * 1024 * 1024;
/// Reason: a record is larger than what is answered whole.
pub const RECORD_LARGE: &str = "RECORD_LARGE";
/// Reason: the same of a transaction.
pub const TRANSACTION_LARGE: &str = "TRANSACTION_LARGE";
/// Most records of a request that submits them.
pub const REQUEST_RECORDS_MAX: usize = 4096;
/// Most bytes of a chunk of a file that is uploaded.
pub const CHUNK_BYTES_MAX: usize = 256 * 1024;
/// Metadata: the stable reason code.
pub const REASON_CODE: &str = "reason-code";
/// Metadata: milliseconds after which to try again.
pub const RETRY_AFTER_MS: &str = "retry-after-ms";
/// Metadata: hash of what was refused (record or transaction id), in hexadecimal.
pub const REFUSED_ID: &str = "refused-id";
/// Reason code: the caller's role may not state records of this kind.
pub const NOT_FOR_ROLE: &str = "RECORD_AUTHORITY";
/// Reason code: what a message of a batch is about is in the batch, and not on the ledger.
pub const TARGET_NOT_LODGED: &str = "TARGET_NOT_LODGED";
/// Most bytes of messages, and most results, of a batch that is imported by stream.
pub const IMPORT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The results.
pub const IMPORT_RESULTS_MAX: usize = 16_384;
