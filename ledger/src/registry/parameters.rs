//! The network's parameters: limits and times that all members share, kept in the registry.

use crate::limits::{BLOCK_BYTES_MAX, BLOCK_TRANSACTIONS_MAX};
use crate::limits::{RECORD_BYTES_MAX, SLOTS_MAX, TRANSACTION_BYTES_MAX, TRANSACTION_BYTES_MIN};

/// Parameters in force. Each has a range; the upper ends are the formats' own limits. The ranges are such that
/// a block holds any transaction, and a transaction any record, whatever each is set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// Bytes of a block's transactions.
    pub block_bytes_max: u64,
    /// Transactions of a block.
    pub block_transactions_max: u64,
    /// Bytes of a transaction with what it carries.
    pub transaction_bytes_max: u64,
    /// Slots of a transaction.
    pub transaction_slots_max: u64,
    /// Bytes of a record.
    pub record_bytes_max: u64,
    /// A block comes at least this often, in milliseconds.
    pub heartbeat_ms: u64,
    /// How far a new block's time may be from a voter's clock, in milliseconds.
    pub time_skew_ms_max: u64,
    /// How far in the future a transaction may expire, in milliseconds.
    pub transaction_lifetime_ms_max: u64,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            block_bytes_max: BLOCK_BYTES_MAX as u64,
            block_transactions_max: 16_384,
            transaction_bytes_max: TRANSACTION_BYTES_MAX as u64,
            transaction_slots_max: SLOTS_MAX as u64,
            record_bytes_max: RECORD_BYTES_MAX as u64,
            heartbeat_ms: 10 * 60 * 1000,
            time_skew_ms_max: 30 * 1000,
            transaction_lifetime_ms_max: 24 * 60 * 60 * 1000,
        }
    }
}

/// A parameter that does not exist, or a value that it may not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParameterError {
    /// No parameter of this name.
    #[error("no parameter is called `{0}`")]
    Unknown(String),
    /// Out of range.
    #[error("parameter `{name}`: {value} is not in {min} to {max}")]
    Range {
        /// Which.
        name: String,
        /// The value that was given.
        value: u64,
        /// Smallest.
        min: u64,
        /// Largest.
        max: u64,
    },
}

impl Parameters {
    /// Sets one by name.
    ///
    /// # Errors
    /// [`ParameterError`].
    pub fn set(&mut self, name: &str, value: u64) -> Result<(), ParameterError> {
        let (place, min, max) = match name {
            "block_bytes_max" => {
                (&mut self.block_bytes_max, TRANSACTION_BYTES_MAX as u64, BLOCK_BYTES_MAX as u64)
            }
            "block_transactions_max" => {
                (&mut self.block_transactions_max, 1, BLOCK_TRANSACTIONS_MAX as u64)
            }
            "transaction_bytes_max" => (
                &mut self.transaction_bytes_max,
                TRANSACTION_BYTES_MIN as u64,
                TRANSACTION_BYTES_MAX as u64,
            ),
            "transaction_slots_max" => (&mut self.transaction_slots_max, 1, SLOTS_MAX as u64),
            "record_bytes_max" => (&mut self.record_bytes_max, 1024, RECORD_BYTES_MAX as u64),
            "heartbeat_ms" => (&mut self.heartbeat_ms, 1000, 24 * 60 * 60 * 1000),
            "time_skew_ms_max" => (&mut self.time_skew_ms_max, 1000, 60 * 60 * 1000),
            "transaction_lifetime_ms_max" => {
                (&mut self.transaction_lifetime_ms_max, 60 * 1000, 30 * 24 * 60 * 60 * 1000)
            }
            _ => return Err(ParameterError::Unknown(name.to_owned())),
        };
        if !(min..=max).contains(&value) {
            return Err(ParameterError::Range { name: name.to_owned(), value, min, max });
        }
        *place = value;
        Ok(())
    }
}
