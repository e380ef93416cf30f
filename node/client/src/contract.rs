//! What a node and its clients agree on beside the messages of `proto`.

/// Most bytes of a request message: a transaction of 1 MiB, or some thousand records.
pub const REQUEST_BYTES_MAX: usize = 4 * 1024 * 1024;
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
