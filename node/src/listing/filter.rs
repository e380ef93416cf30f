//! Which records are asked for, and what a filter sees of a record.

use customhouse_ledger::{
    agency::AgencyCode,
    authority::RecordKind,
    chain::{ListedSlot, ListedTransaction},
    hash::Hash,
    record::subject::form,
};
use customhouse_proto::v1::{self, record::Body, subject::Scheme};

/// Values of one field.
const VALUES_MAX: usize = 64;
/// Digits of a code of the Harmonized System, with the national ones.
const HS_DIGITS_MAX: usize = 12;

/// Which records are asked for, checked. The default takes all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// Bits of [`RecordKind::bits`]; 0 for all.
    kinds: u64,
    agencies: Vec<AgencyCode>,
    submitters: Vec<String>,
    subject_keys: Vec<Hash>,
    /// The keys of the one subject that all have, where just one is asked for.
    of_subject: Option<Vec<Hash>>,
    from_time_ms: u64,
    /// 0 for no bound.
    until_time_ms: u64,
    hs_prefixes: Vec<String>,
    countries: Vec<String>,
}

/// What is wrong with a field of a filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("filter.{field}: {reason}")]
pub struct FilterError {
    /// Which.
    pub field: &'static str,
    /// What.
    pub reason: String,
}

/// What a filter sees of an open record's body, beside its kind.
#[derive(Debug, Default, PartialEq, Eq)]
struct Traits<'a> {
    hs_codes: Vec<&'a str>,
    countries: Vec<&'a str>,
}

impl Listed {
    /// Checks a filter; none takes all. `keys_of` gives all keys that the history may have a subject under.
    ///
    /// # Errors
    /// [`FilterError`]: the first field that is wrong.
    pub fn of(
        filter: Option<v1::RecordFilter>,
        keys_of: impl Fn(&v1::Subject) -> Vec<Hash>,
    ) -> Result<Self, FilterError> {
        let filter = filter.unwrap_or_default();
        let (mut subject_keys, mut kinds, mut asked) = (Vec::new(), Vec::new(), 0);
        for kind in few("kinds", filter.kinds)? {
            let known = RecordKind::named(&kind);
            kinds.push(known.ok_or_else(|| wrong("kinds", format!("`{kind}` is no kind")))?);
        }
        for subject in few("subjects", filter.subjects)? {
            if subject.scheme() == Scheme::Unspecified {
                return Err(wrong("subjects", "scheme: unset or unknown value"));
            }
            form::check_spelling(subject.scheme(), &subject.id)
                .map_err(|why| wrong("subjects", why.to_string()))?;
            subject_keys.extend(keys_of(&subject));
            asked += 1;
        }
        for key in few("subject_keys", filter.subject_keys)? {
            let key = Hash::from_slice(&key);
            subject_keys.push(key.map_err(|error| wrong("subject_keys", error.to_string()))?);
            asked += 1;
        }
        subject_keys.sort_unstable();
        subject_keys.dedup();
        let of_subject = (asked == 1).then(|| subject_keys.clone());
        let agency = |code: &String| {
            code.parse().map_err(|_| wrong("agencies", format!("`{code}` is no agency's code")))
        };
        let is_prefix = |prefix: &str| {
            let length = prefix.len();
            (1..=HS_DIGITS_MAX).contains(&length) && prefix.bytes().all(|b| b.is_ascii_digit())
        };
        let is_country =
            |code: &str| code.len() == 2 && code.bytes().all(|b| b.is_ascii_uppercase());
        Ok(Self {
            kinds: RecordKind::bits(&kinds),
            agencies: few("agencies", filter.agencies)?
                .iter()
                .map(agency)
                .collect::<Result<_, _>>()?,
            submitters: few("submitters", filter.submitters)?,
            subject_keys,
            of_subject,
            from_time_ms: filter.from_time_ms,
            until_time_ms: filter.until_time_ms,
            hs_prefixes: texts("hs_prefixes", filter.hs_prefixes, is_prefix, "1 to 12 digits")?,
            countries: texts("countries", filter.countries, is_country, "two capital letters")?,
        })
    }

    /// The keys of the one subject that all records asked for have, where there is just one.
    pub(super) fn subject(&self) -> Option<&[Hash]> {
        self.of_subject.as_deref()
    }

    /// Whether it asks for what records are about.
    pub(super) fn has_subjects(&self) -> bool {
        !self.subject_keys.is_empty()
    }

    /// Header times, Unix milliseconds: at or after the one, before the other where there is one.
    pub(super) fn times(&self) -> (u64, Option<u64>) {
        (self.from_time_ms, Some(self.until_time_ms).filter(|&until| until > 0))
    }

    /// Whether any of a transaction's records may be taken.
    pub(super) fn takes_any_of(&self, transaction: &ListedTransaction) -> bool {
        let (time_ms, (from, until)) = (transaction.block.time_ms, self.times());
        let in_time = from <= time_ms && until.is_none_or(|until| time_ms < until);
        in_time && (self.agencies.is_empty() || self.agencies.contains(&transaction.header.agency))
    }

    /// Whether a record is taken that has these subjects. Nothing else of it needs to be read for that.
    pub(super) fn takes_subjects(&self, slot: &ListedSlot) -> bool {
        let has = |key: &Hash| slot.subject_keys.binary_search(key).is_ok();
        self.subject_keys.is_empty() || self.subject_keys.iter().any(has)
    }

    /// Whether a record is taken by its kind, its submitter and what is in it.
    pub(super) fn takes(&self, record: &v1::Record) -> bool {
        let kind = record.body.as_ref().map_or(0, |body| RecordKind::bits(&[RecordKind::of(body)]));
        if self.kinds != 0 && self.kinds & kind == 0 {
            return false;
        }
        if !self.submitters.is_empty() && !self.submitters.contains(&record.submitter) {
            return false;
        }
        if self.hs_prefixes.is_empty() && self.countries.is_empty() {
            return true;
        }
        let Traits { hs_codes, countries } = traits_of(record);
        let has_prefix =
            |prefix: &String| hs_codes.iter().any(|code| code.starts_with(prefix.as_str()));
        let has_country = |country: &String| countries.contains(&country.as_str());
        (self.hs_prefixes.is_empty() || self.hs_prefixes.iter().any(has_prefix))
            && (self.countries.is_empty() || self.countries.iter().any(has_country))
    }
}

fn traits_of(record: &v1::Record) -> Traits<'_> {
    match &record.body {
        Some(Body::Declaration(declaration)) => {
            let items = &declaration.items;
            let own = [&declaration.country_departure, &declaration.country_destination];
            let countries = own.into_iter().chain(items.iter().map(|item| &item.country_origin));
            Traits {
                hs_codes: items.iter().map(|item| item.hs_code.as_str()).collect(),
                countries: countries.map(String::as_str).collect(),
            }
        }
        Some(Body::Certificate(certificate)) => Traits {
            hs_codes: certificate.hs_codes.iter().map(String::as_str).collect(),
            countries: vec![certificate.country_origin.as_str()],
        },
        _ => Traits::default(),
    }
}

fn wrong(field: &'static str, reason: impl Into<String>) -> FilterError {
    FilterError { field, reason: reason.into() }
}

fn few<T>(field: &'static str, values: Vec<T>) -> Result<Vec<T>, FilterError> {
    match values.len() {
        0..=VALUES_MAX => Ok(values),
        found => Err(wrong(field, format!("{found} values, at most {VALUES_MAX} are allowed"))),
    }
}

fn texts(
    field: &'static str,
    values: Vec<String>,
    is_right: impl Fn(&str) -> bool,
    expected: &str,
) -> Result<Vec<String>, FilterError> {
    let values = few(field, values)?;
    match values.iter().find(|value| !is_right(value)) {
        Some(found) => Err(wrong(field, format!("`{found}`: {expected} expected"))),
        None => Ok(values),
    }
}
