//! The network's parameters: limits and times that all members share, kept in the registry and changed by its
//! changes.

use crate::authority::{ALWAYS_OPEN, RecordKind};
use crate::limits::{BLOCK_BYTES_MAX, BLOCK_TRANSACTIONS_MAX};
use crate::limits::{RECORD_BYTES_MAX, SLOTS_MAX, TRANSACTION_BYTES_MAX, TRANSACTION_BYTES_MIN};

/// Parameters in force at a height. Each has a range; the upper ends are the formats' own limits. The ranges are
/// such that a block holds any transaction, and a transaction any record, whatever each is set to.
///
/// They change by registry changes, so whoever uses one reads it from the newest tip, or from that of the block
/// that is checked: a value that was read once is that of some earlier height.
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
    /// Kinds whose records may be lodged open, as [`RecordKind::bits`].
    pub open_kinds: u64,
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
            open_kinds: RecordKind::bits(&RecordKind::ALL),
        }
    }
}

/// A parameter that does not exist, or a value that it may not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParameterError {
    /// No parameter of this name.
    #[error("no parameter is called `{0}`; there are {names}", names = Parameters::NAMES.join(", "))]
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
    /// Not a set of kinds that there are, or one without a kind that no network can do without.
    #[error(
        "parameter `{OPEN_KINDS}`: {0} is no set of kinds of records with {always}",
        always = names_of(ALWAYS_OPEN)
    )]
    Kinds(u64),
    /// A name of no kind.
    #[error(
        "parameter `{OPEN_KINDS}`: `{0}` is no kind of record; `{ALL_KINDS}`, or with commas between them: \
         {kinds}",
        kinds = names_of(&RecordKind::ALL)
    )]
    Kind(String),
    /// A text that is no number.
    #[error("parameter `{name}`: `{text}` is not a whole number")]
    Number {
        /// Which.
        name: String,
        /// What was given.
        text: String,
    },
}

/// A record of a kind that may not be lodged open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a record of kind {0} may not be lodged open in this network: lodge it sealed under an agreement, or ask the \
     members to open the kind (`customhouse registry propose --set {OPEN_KINDS}=…`)"
)]
pub struct KindNotOpen(pub RecordKind);

impl KindNotOpen {
    /// A stable code for clients and metrics.
    pub fn code(self) -> &'static str {
        "KIND_NOT_OPEN"
    }
}

const OPEN_KINDS: &str = "open_kinds";
/// How people write the set of all kinds.
const ALL_KINDS: &str = "all";

impl Parameters {
    /// Names of all parameters.
    pub const NAMES: [&str; 9] = [
        "block_bytes_max",
        "block_transactions_max",
        "transaction_bytes_max",
        "transaction_slots_max",
        "record_bytes_max",
        "heartbeat_ms",
        "time_skew_ms_max",
        "transaction_lifetime_ms_max",
        OPEN_KINDS,
    ];

    /// Sets one by name.
    ///
    /// # Errors
    /// [`ParameterError`].
    pub fn set(&mut self, name: &str, value: u64) -> Result<(), ParameterError> {
        let unknown = || ParameterError::Unknown(name.to_owned());
        if name == OPEN_KINDS {
            let kinds = RecordKind::of_bits(value);
            let is_set = RecordKind::bits(&kinds) == value;
            if !is_set || !ALWAYS_OPEN.iter().all(|kind| kinds.contains(kind)) {
                return Err(ParameterError::Kinds(value));
            }
        } else {
            let (min, max) = range(name).ok_or_else(unknown)?;
            if !(min..=max).contains(&value) {
                return Err(ParameterError::Range { name: name.to_owned(), value, min, max });
            }
        }
        *self.place(name).ok_or_else(unknown)? = value;
        Ok(())
    }

    /// Each by its name, with its value.
    pub fn named(mut self) -> impl Iterator<Item = (&'static str, u64)> {
        Self::NAMES.into_iter().filter_map(move |name| Some((name, *self.place(name)?)))
    }

    /// Checks that a record of a kind may be lodged open.
    ///
    /// # Errors
    /// [`KindNotOpen`].
    pub fn check_open(&self, kind: RecordKind) -> Result<(), KindNotOpen> {
        match self.open_kinds & RecordKind::bits(&[kind]) {
            0 => Err(KindNotOpen(kind)),
            _ => Ok(()),
        }
    }

    fn place(&mut self, name: &str) -> Option<&mut u64> {
        Some(match name {
            "block_bytes_max" => &mut self.block_bytes_max,
            "block_transactions_max" => &mut self.block_transactions_max,
            "transaction_bytes_max" => &mut self.transaction_bytes_max,
            "transaction_slots_max" => &mut self.transaction_slots_max,
            "record_bytes_max" => &mut self.record_bytes_max,
            "heartbeat_ms" => &mut self.heartbeat_ms,
            "time_skew_ms_max" => &mut self.time_skew_ms_max,
            "transaction_lifetime_ms_max" => &mut self.transaction_lifetime_ms_max,
            OPEN_KINDS => &mut self.open_kinds,
            _ => return None,
        })
    }
}

/// The least and the most that a number may be set to.
fn range(name: &str) -> Option<(u64, u64)> {
    Some(match name {
        "block_bytes_max" => (TRANSACTION_BYTES_MAX as u64, BLOCK_BYTES_MAX as u64),
        "block_transactions_max" => (1, BLOCK_TRANSACTIONS_MAX as u64),
        "transaction_bytes_max" => (TRANSACTION_BYTES_MIN as u64, TRANSACTION_BYTES_MAX as u64),
        "transaction_slots_max" => (1, SLOTS_MAX as u64),
        "record_bytes_max" => (1024, RECORD_BYTES_MAX as u64),
        "heartbeat_ms" => (1000, 24 * 60 * 60 * 1000),
        "time_skew_ms_max" => (1000, 60 * 60 * 1000),
        "transaction_lifetime_ms_max" => (60 * 1000, 30 * 24 * 60 * 60 * 1000),
        _ => return None,
    })
}

/// A value as people write it: a number; for `open_kinds` names of kinds with commas between them, or `all`. The
/// kinds that are always open need not be named.
///
/// # Errors
/// [`ParameterError`]. The value may still be out of range, see [`Parameters::set`].
pub fn value_of_text(name: &str, text: &str) -> Result<u64, ParameterError> {
    if name != OPEN_KINDS {
        let number = |_| ParameterError::Number { name: name.to_owned(), text: text.to_owned() };
        return text.parse().map_err(number);
    }
    if text == ALL_KINDS {
        return Ok(RecordKind::bits(&RecordKind::ALL));
    }
    let kind =
        |name: &str| RecordKind::named(name).ok_or_else(|| ParameterError::Kind(name.to_owned()));
    let kinds = text.split(',').map(|name| kind(name.trim())).collect::<Result<Vec<_>, _>>()?;
    Ok(RecordKind::bits(&kinds) | RecordKind::bits(ALWAYS_OPEN))
}

/// A value as people read it: what [`value_of_text`] takes.
pub fn text_of_value(name: &str, value: u64) -> String {
    match name {
        OPEN_KINDS if value == RecordKind::bits(&RecordKind::ALL) => ALL_KINDS.to_owned(),
        OPEN_KINDS => names_of(&RecordKind::of_bits(value)),
        _ => value.to_string(),
    }
}

fn names_of(kinds: &[RecordKind]) -> String {
    let names: Vec<_> = kinds.iter().map(|kind| kind.as_str()).collect();
    names.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_parameter_is_set_and_named_and_its_default_is_in_its_range() {
        let mut other = Parameters { open_kinds: 0, ..Parameters::default() };
        for (name, value) in Parameters::default().named() {
            other.set(name, value).expect("the default");
            assert_eq!(value_of_text(name, &text_of_value(name, value)), Ok(value));
        }
        assert_eq!(other, Parameters::default());
        let named: Vec<_> = other.named().map(|(name, _)| name).collect();
        assert_eq!(named, Parameters::NAMES);
        let unknown = other.set("heartbeat", 1).expect_err("unknown").to_string();
        assert!(unknown.contains("heartbeat_ms"), "{unknown}");
    }

    #[test]
    fn open_kinds_are_a_set_of_known_kinds_that_keeps_the_network_s_own() {
        let own = RecordKind::bits(ALWAYS_OPEN);
        let set = |value| Parameters::default().set("open_kinds", value);
        assert_eq!(set(own), Ok(()));
        for kind in ALWAYS_OPEN {
            let without = RecordKind::bits(&RecordKind::ALL) & !RecordKind::bits(&[*kind]);
            assert_eq!(set(without), Err(ParameterError::Kinds(without)), "{kind}");
        }
        for unknown in [0, own | 1, own | 1 << 63, u64::MAX] {
            assert_eq!(set(unknown), Err(ParameterError::Kinds(unknown)));
        }
        let parameters = Parameters { open_kinds: own, ..Parameters::default() };
        for kind in RecordKind::ALL {
            assert_eq!(parameters.check_open(kind).is_ok(), ALWAYS_OPEN.contains(&kind), "{kind}");
        }
    }

    #[test]
    fn open_kinds_are_written_by_name() {
        let value = value_of_text("open_kinds", "event, declaration").expect("kinds");
        let expected = "declaration,event,registry_change,misbehaviour,agreement_change";
        assert_eq!(text_of_value("open_kinds", value), expected);
        assert_eq!(Parameters::default().set("open_kinds", value), Ok(()));
        let error = value_of_text("open_kinds", "declaration,toys").expect_err("no kind");
        assert!(error.to_string().contains("`toys`"), "{error}");
        assert!(value_of_text("heartbeat_ms", "soon").is_err());
    }
}
