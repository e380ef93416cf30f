//! What a node and its clients agree on beside the messages of `proto`.

/// Most bytes of a request message: a transaction of 1 MiB, or some thousand records.
pub const REQUEST_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most records of a request that submits them.
pub const REQUEST_RECORDS_MAX: usize = 4096;
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
