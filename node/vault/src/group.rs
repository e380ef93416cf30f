//! Groups of keys, by their number and by the month in which the retention of what they open ends.

use std::{fmt, str::FromStr};

use customhouse_files::date::date;

/// Most keys that are wrapped under one group's.
pub const GROUP_KEYS_MAX: u32 = 65_536;

/// A group of at most [`GROUP_KEYS_MAX`] wrapped keys of one retention month: the random number of the vault's
/// incarnation in the upper 32 bits, and below it in the order in which its groups were begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupNumber(pub u64);

impl fmt::Display for GroupNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The month in which the retention of a record ends. Shown and read as `2031-07`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RetentionMonth {
    year: u16,
    month: u8,
}

/// The text or numbers are no month.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a month is written as 2031-07")]
pub struct RetentionMonthError;

impl RetentionMonth {
    /// A year from 1 to 9999 and a month from 1 to 12.
    ///
    /// # Errors
    /// Any other.
    pub fn new(year: u16, month: u8) -> Result<Self, RetentionMonthError> {
        match (1..=9999).contains(&year) && (1..=12).contains(&month) {
            true => Ok(Self { year, month }),
            false => Err(RetentionMonthError),
        }
    }

    /// The month that is `months` after the one of a time, Unix seconds. At most the end of the year 9999.
    pub fn after(unix_s: u64, months: u32) -> Self {
        let (year, month, _) = date(unix_s / 86_400);
        let number = year.saturating_mul(12).saturating_add(month - 1 + u64::from(months));
        let number = u32::try_from(number).unwrap_or(u32::MAX).min(9999 * 12 + 11);
        Self::from_number(number).expect("1970 to 9999")
    }

    /// Months since the year 0.
    pub(crate) fn to_number(self) -> u32 {
        u32::from(self.year) * 12 + u32::from(self.month) - 1
    }

    pub(crate) fn from_number(number: u32) -> Option<Self> {
        let (year, month) = (u16::try_from(number / 12).ok()?, u8::try_from(number % 12).ok()?);
        Self::new(year, month + 1).ok()
    }
}

impl fmt::Display for RetentionMonth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.year, self.month)
    }
}

impl FromStr for RetentionMonth {
    type Err = RetentionMonthError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (year, month) = text.split_once('-').ok_or(RetentionMonthError)?;
        let (year, month) = (year.parse(), month.parse());
        let parsed = Self::new(year.map_err(|_| RetentionMonthError)?, month.unwrap_or(0))?;
        if parsed.to_string() == text { Ok(parsed) } else { Err(RetentionMonthError) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retention_ends_in_the_month_so_many_after_that_of_its_beginning() {
        for (unix_s, months, expected) in [
            (0, 0, "1970-01"),
            (1_735_689_599, 1, "2025-01"),
            (1_735_689_600, 1, "2025-02"),
            (1_735_689_600, 120, "2035-01"),
            (u64::MAX, u32::MAX, "9999-12"),
        ] {
            assert_eq!(RetentionMonth::after(unix_s, months).to_string(), expected);
        }
    }
}
