//! What was strange about a message and did not stop it.

use std::fmt;

use customhouse_ledger::record::subject::form::FormError;
use customhouse_proto::v1::subject::Scheme;

use super::error::quoted;

/// Most warnings of one message; the last one then counts the rest.
pub const WARNINGS_MAX: usize = 32;

/// Declarations that a warning names, of those that a message may be about.
pub const CANDIDATES_MAX: usize = 4;

/// Where in a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The element below the message, as extensions are named; or the column.
    pub path: String,
    /// Line and column of the element, both from 1; none in a row, whose line is in its label.
    pub position: Option<(usize, usize)>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.position {
            Some((line, column)) => write!(f, "{line}:{column}: {}", self.path),
            None => f.write_str(&self.path),
        }
    }
}

/// Something to look at. The record was made nevertheless.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    /// Not a container number in the form of ISO 6346.
    ContainerForm(String),
    /// A container number whose check digit is wrong.
    ContainerCheckDigit(String),
    /// Not in the form of ISO 6346, and perhaps meant for a number that is: that one does not find it.
    ContainerPerhaps {
        /// What stands there, in its normal form.
        id: String,
        /// What it may be meant for.
        perhaps: String,
    },
    /// A number of which a spreadsheet has taken the last digits: the whole one does not find it.
    Shortened {
        /// Where.
        place: Place,
        /// What stands there.
        value: String,
    },
    /// Not two capital letters. Kept as an extension.
    Country {
        /// Where.
        field: String,
        /// What stands there.
        value: String,
    },
    /// Country ZZ: legal, and unknown.
    CountryUnknown {
        /// Where.
        field: String,
    },
    /// Not three capital letters. Kept as an extension.
    Currency {
        /// Where.
        field: String,
        /// What stands there.
        value: String,
    },
    /// Not 6 to 10 digits.
    TariffCode(String),
    /// A tariff code that a spreadsheet may have taken the first zero of.
    LostZero {
        /// What stands there.
        code: String,
        /// What it may have been.
        perhaps: String,
    },
    /// Not an id of what it should name: the record is not about it. Kept as an extension.
    SubjectForm {
        /// Where.
        place: Place,
        /// What it should name.
        scheme: Scheme,
        /// What stands there.
        value: String,
        /// What is wrong with it.
        why: FormError,
    },
    /// It looks like the id of something, where none is known: the record is not about it.
    NotIndexed {
        /// Where.
        place: Place,
        /// What stands there.
        value: String,
    },
    /// It looks like the id of something, in another vocabulary: the record is not about it.
    Foreign {
        /// Where.
        place: Place,
        /// What stands there.
        value: String,
    },
    /// Not a date or time. Kept as an extension.
    Date {
        /// Where.
        place: Place,
        /// What stands there.
        value: String,
    },
    /// Not a number, or a unit other than kilograms. Kept as an extension.
    Number {
        /// Where.
        field: String,
        /// What stands there.
        value: String,
    },
    /// Rounded to 6 decimals, half to even. The value as it came is kept as an extension.
    Rounded {
        /// Where.
        field: String,
        /// What stands there.
        value: String,
    },
    /// Too long for its field. Kept as an extension.
    TooLong {
        /// Where.
        field: String,
        /// Bytes.
        bytes: usize,
    },
    /// Extensions left out because the record would pass its limit; the source holds them.
    ExtensionsLeftOut(usize),
    /// Several declarations on the ledger that the message may be about: it is linked to none.
    SeveralDeclarations {
        /// By what they were found.
        by: SoughtBy,
        /// The ids of their records, the first [`CANDIDATES_MAX`].
        ids: Vec<[u8; 32]>,
        /// How many there are.
        count: usize,
    },
    /// The ledger has more about what the message names than is looked at: it is not linked.
    NotLookedAt(SoughtBy),
    /// What the message amends or cancels is on the ledger, and others alone may do that: it is linked to none.
    NotOwn {
        /// By what it was found.
        by: SoughtBy,
        /// The id of its record; the first, where there are several.
        id: [u8; 32],
    },
    /// More warnings than are listed.
    More(usize),
}

/// By what a declaration is looked for on the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SoughtBy {
    /// Its own reference.
    Reference(String),
    /// Its movement reference number.
    Mrn(String),
}

impl fmt::Display for SoughtBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reference(reference) => write!(f, "reference {}", quoted(reference)),
            Self::Mrn(mrn) => write!(f, "MRN {}", quoted(mrn)),
        }
    }
}

impl Warning {
    /// Line and column, both from 1, where they are known; 0 where not.
    pub fn position(&self) -> (usize, usize) {
        match self {
            Self::Shortened { place, .. }
            | Self::SubjectForm { place, .. }
            | Self::NotIndexed { place, .. }
            | Self::Foreign { place, .. }
            | Self::Date { place, .. } => place.position.unwrap_or_default(),
            _ => (0, 0),
        }
    }

    /// Whether it says why the message is linked to no declaration.
    pub fn is_about_a_link(&self) -> bool {
        matches!(
            self,
            Self::SeveralDeclarations { .. } | Self::NotLookedAt(_) | Self::NotOwn { .. }
        )
    }

    /// Whether something that the message may name is not among the record's subjects: it will not be
    /// found by its id.
    pub fn is_about_a_subject(&self) -> bool {
        matches!(
            self,
            Self::SubjectForm { .. }
                | Self::NotIndexed { .. }
                | Self::Foreign { .. }
                | Self::ContainerPerhaps { .. }
                | Self::Shortened { .. }
        )
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ContainerForm(id) => {
                write!(f, "container {} has not the form of ISO 6346", quoted(id))
            }
            Self::ContainerCheckDigit(id) => {
                write!(f, "container {}: wrong check digit (ISO 6346)", quoted(id))
            }
            Self::ContainerPerhaps { id, perhaps } => write!(
                f,
                "container {} is perhaps {perhaps}: the record is found by what stands here only",
                quoted(id)
            ),
            Self::Shortened { place, value } => write!(
                f,
                "{place}: {} is a number that a spreadsheet has shortened: the record is not found by the \
                 whole one",
                quoted(value)
            ),
            Self::Country { field, value } => {
                write!(f, "{field}: {} is not a country code", quoted(value))
            }
            Self::CountryUnknown { field } => write!(f, "{field}: country unknown (ZZ)"),
            Self::Currency { field, value } => {
                write!(f, "{field}: {} is not a currency code", quoted(value))
            }
            Self::TariffCode(code) => {
                write!(f, "tariff code {} is not 6 to 10 digits", quoted(code))
            }
            Self::LostZero { code, perhaps } => write!(
                f,
                "tariff code {} has an odd number of digits: perhaps {perhaps}, of which a \
                 spreadsheet took the zero",
                quoted(code)
            ),
            Self::SubjectForm { place, scheme, value, why } => {
                let scheme = scheme.as_str_name();
                write!(
                    f,
                    "{place}: {} is no {scheme}: {why}; the record is not found by it",
                    quoted(value)
                )
            }
            Self::NotIndexed { place, value } => write!(
                f,
                "{place}: {} is not understood as an id: the record is not found by it",
                quoted(value)
            ),
            Self::Foreign { place, value } => write!(
                f,
                "{place}: {} is of another vocabulary: the record is not found by it",
                quoted(value)
            ),
            Self::Date { place, value } => {
                write!(f, "{place}: {} is not a date or time", quoted(value))
            }
            Self::Number { field, value } => {
                write!(f, "{field}: {} is not a number in the unit expected", quoted(value))
            }
            Self::Rounded { field, value } => {
                write!(f, "{field}: {} rounded to 6 decimals", quoted(value))
            }
            Self::TooLong { field, bytes } => write!(f, "{field}: {bytes} bytes, too long"),
            Self::ExtensionsLeftOut(count) => {
                write!(f, "{count} extensions left out to fit in a record; the source has them")
            }
            Self::SeveralDeclarations { by, ids, count } => f.write_str(&several(by, ids, *count)),
            Self::NotLookedAt(by) => {
                write!(f, "not linked: too many records about {by} to look at")
            }
            Self::NotOwn { by, id } => write!(
                f,
                "not linked: the declaration of {by}, {}, is another submitter's or agency's, who alone amend \
                 or cancel it",
                hex::encode(id)
            ),
            Self::More(count) => write!(f, "{count} more warnings"),
        }
    }
}

fn several(by: &SoughtBy, ids: &[[u8; 32]], count: usize) -> String {
    let named: Vec<_> = ids.iter().map(hex::encode).collect();
    let others = if ids.len() < count { " and others" } else { "" };
    let named = named.join(", ");
    format!("not linked: {count} submitters have declarations of {by}: {named}{others}")
}

/// The warnings of one message, limited.
#[derive(Debug, Default)]
pub(super) struct Warnings {
    list: Vec<Warning>,
    more: usize,
}

impl Warnings {
    pub(super) fn push(&mut self, warning: Warning) {
        self.push_with(|| warning);
    }

    /// As [`Self::push`], for a warning that takes some work to make.
    pub(super) fn push_with(&mut self, warning: impl FnOnce() -> Warning) {
        if self.list.len() + 1 < WARNINGS_MAX {
            self.list.push(warning());
        } else {
            self.more += 1;
        }
    }

    pub(super) fn into_vec(mut self) -> Vec<Warning> {
        if self.more > 0 {
            self.list.push(Warning::More(self.more));
        }
        self.list
    }
}
