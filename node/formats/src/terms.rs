//! Takes terms out of a message's elements into fields of a record.
//!
//! A value is taken only if the field then says the same as the element. What is left becomes an
//! extension, see [`super::extensions`].

use customhouse_ledger::{limits::SUBJECTS_MAX, record::subject::form};
use customhouse_proto::v1::{self, subject::Scheme};

use super::{
    codes, date,
    decimal::{self, Decimal},
    warning::{Warning, Warnings},
    xml::Element,
};

/// Most bytes of an identifier: longer ones could not be a subject.
pub(super) const ID_BYTES_MAX: usize = 256;
/// Most bytes of free text.
const TEXT_BYTES_MAX: usize = 4096;

/// The terms taken from one message, with what was strange about them.
#[derive(Debug, Default)]
pub(super) struct Terms {
    pub(super) warnings: Warnings,
}

impl Terms {
    /// Free text.
    pub(super) fn text(&mut self, parent: &Element, path: &[&str]) -> String {
        self.limited(parent, path, TEXT_BYTES_MAX)
    }

    /// A code or identifier.
    pub(super) fn id(&mut self, parent: &Element, path: &[&str]) -> String {
        self.limited(parent, path, ID_BYTES_MAX)
    }

    /// The id of a subject, in its normal form; empty where it has none, of which [`super::naming`] warns.
    pub(super) fn subject(&mut self, scheme: Scheme, parent: &Element, path: &[&str]) -> String {
        self.normal(parent, path, |text| form::normal(scheme, text))
    }

    /// A declaration's own reference, as [`Self::subject`].
    pub(super) fn reference(&mut self, parent: &Element, path: &[&str]) -> String {
        self.normal(parent, path, form::normal_reference)
    }

    fn normal<E>(
        &mut self,
        parent: &Element,
        path: &[&str],
        normal: impl Fn(&str) -> Result<String, E>,
    ) -> String {
        // An id with elements in it is taken apart: [`super::naming`] warns of it too.
        let whole = parent.at(path).filter(|element| element.children.is_empty());
        let Some(element) = whole else { return String::new() };
        let Ok(id) = normal(&element.text) else { return String::new() };
        // Another spelling is kept as it came beside the normal form.
        element.taken.set(id == element.text);
        id
    }

    fn limited(&mut self, parent: &Element, path: &[&str], bytes_max: usize) -> String {
        let Some(element) = parent.at(path) else { return String::new() };
        if element.text.len() > bytes_max {
            let bytes = element.text.len();
            self.warnings.push(Warning::TooLong { field: path.join("/"), bytes });
            return String::new();
        }
        take(element)
    }

    /// A date and time: the child of the element whose name ends in `DateTimeString`.
    pub(super) fn date_time(&mut self, parent: &Element, name: &str) -> String {
        let Some(string) = parent.child(name).and_then(|element| {
            let is_it = |child: &&Element| !child.foreign && child.name.ends_with("DateTimeString");
            element.children.iter().find(is_it)
        }) else {
            return String::new();
        };
        if string.text.len() > ID_BYTES_MAX {
            let bytes = string.text.len();
            self.warnings.push(Warning::TooLong { field: name.to_owned(), bytes });
            return String::new();
        }
        let format = string.attribute("formatCode").map_or("", |attribute| &attribute.value);
        // [`super::naming`] warns of what is not a date or time.
        if !date::is_date_time(&string.text, format) {
            return String::new();
        }
        take_attribute(string, "formatCode", |code| code == "304");
        take(string)
    }

    /// A decimal number; empty where the element has none.
    pub(super) fn decimal(&mut self, parent: &Element, path: &[&str]) -> String {
        let Some(element) = parent.at(path) else { return String::new() };
        if element.text.is_empty() {
            return String::new();
        }
        let (field, value) = (path.join("/"), element.text.clone());
        match decimal::canonical(&element.text) {
            Some(Decimal::Exact(number)) => {
                // Where the text was written anew, it is kept as it came beside the number.
                element.taken.set(number == element.text);
                number
            }
            Some(Decimal::Rounded(number)) => {
                self.warnings.push(Warning::Rounded { field, value });
                number
            }
            None => {
                self.warnings.push(Warning::Number { field, value });
                String::new()
            }
        }
    }

    /// A mass in kilograms. One in another unit is left.
    pub(super) fn kilograms(&mut self, parent: &Element, path: &[&str]) -> String {
        let Some(element) = parent.at(path) else { return String::new() };
        let other_unit = element.attribute("unitCode").filter(|unit| unit.value != "KGM");
        if let Some(unit) = other_unit {
            let value = format!("{} {}", element.text, unit.value);
            self.warnings.push(Warning::Number { field: path.join("/"), value });
            return String::new();
        }
        let mass = self.decimal(parent, path);
        if !mass.is_empty() {
            take_attribute(element, "unitCode", |_| true);
        }
        mass
    }

    /// A whole number; 0 where the element has none.
    pub(super) fn count(&mut self, parent: &Element, path: &[&str]) -> u64 {
        let Some(element) = parent.at(path).filter(|element| !element.text.is_empty()) else {
            return 0;
        };
        match element.text.parse::<u64>() {
            Ok(count) => {
                // A field without a count says 0 too.
                element.taken.set(count > 0 && count.to_string() == element.text);
                count
            }
            Err(_) => {
                let (field, value) = (path.join("/"), element.text.clone());
                self.warnings.push(Warning::Number { field, value });
                0
            }
        }
    }

    /// An amount with its currency.
    pub(super) fn money(&mut self, parent: &Element, path: &[&str]) -> Option<v1::Money> {
        let element = parent.at(path)?;
        let amount = self.decimal(parent, path);
        if amount.is_empty() {
            return None;
        }
        let currency = take_attribute(element, "currencyID", codes::is_currency);
        let stated = element.attribute("currencyID").filter(|stated| !stated.value.is_empty());
        if let (Some(stated), true) = (stated, currency.is_empty()) {
            let (field, value) = (path.join("/"), stated.value.clone());
            self.warnings.push(Warning::Currency { field, value });
        }
        Some(v1::Money { amount, currency })
    }

    /// A country.
    pub(super) fn country(&mut self, parent: &Element, path: &[&str]) -> String {
        let Some(element) = parent.at(path).filter(|element| !element.text.is_empty()) else {
            return String::new();
        };
        if !self.is_country(&element.text, || path.join("/")) {
            return String::new();
        }
        take(element)
    }

    /// Whether text is a country code; warns where it is not, or is ZZ.
    pub(super) fn is_country(&mut self, text: &str, field: impl Fn() -> String) -> bool {
        if !codes::is_country(text) {
            self.warnings.push(Warning::Country { field: field(), value: text.to_owned() });
            return false;
        }
        if text == "ZZ" {
            self.warnings.push(Warning::CountryUnknown { field: field() });
        }
        true
    }

    /// Adds the container of a piece of transport equipment, once.
    pub(super) fn container(&mut self, equipment: &Element, into: &mut Vec<String>) {
        let id = self.subject(Scheme::Container, equipment, &["ID"]);
        // With more than that the record is refused: it is about all of them.
        if !(id.is_empty() || into.len() > SUBJECTS_MAX || into.contains(&id)) {
            into.push(id);
        }
    }

    /// Warns where a tariff code has another form.
    pub(super) fn check_tariff_code(&mut self, code: &str) {
        if let Some(perhaps) = codes::with_lost_zero(code) {
            self.warnings.push(Warning::LostZero { code: code.to_owned(), perhaps });
        } else if !codes::is_tariff_code(code) {
            self.warnings.push(Warning::TariffCode(code.to_owned()));
        }
    }

    /// Adds the party, in its role, if the element says who it is.
    pub(super) fn party(&mut self, element: &Element, into: &mut Vec<v1::Party>) {
        let id = self.subject(Scheme::Trader, element, &["ID"]);
        let name = self.text(element, &["Name"]);
        let country = self.country(element, &["Address", "CountryCode"]);
        if !(id.is_empty() && name.is_empty() && country.is_empty()) {
            into.push(v1::Party { role: element.name.to_string(), id, name, country });
        }
    }

    /// A document that is referred to.
    pub(super) fn document(&mut self, element: &Element) -> v1::DocumentReference {
        v1::DocumentReference {
            category: self.id(element, &["CategoryCode"]),
            type_code: self.id(element, &["TypeCode"]),
            id: self.id(element, &["ID"]),
            item: self.id(element, &["LineNumeric"]),
        }
    }

    /// A duty or tax, if the element states one. `item` is the goods item that a status names.
    pub(super) fn tax(&mut self, element: &Element, item: u32) -> Option<v1::Tax> {
        let assessed = self.money(element, &["Payment", "TaxAssessedAmount"]);
        let amount = match assessed {
            Some(assessed) => {
                let payable = element.at(&["Payment", "PaymentAmount"]);
                if payable.is_some_and(|payable| states(payable, &assessed)) {
                    self.money(element, &["Payment", "PaymentAmount"]);
                }
                Some(assessed)
            }
            None => self.money(element, &["Payment", "PaymentAmount"]),
        };
        let tax = v1::Tax {
            type_code: self.id(element, &["TypeCode"]),
            rate: self.decimal(element, &["TaxRateNumeric"]),
            amount,
            payment_method: self.id(element, &["Payment", "MethodCode"]),
            base: self.money(element, &["AdValoremTaxBaseAmount"]),
            item: 0,
        };
        (tax != v1::Tax::default()).then_some(v1::Tax { item, ..tax })
    }

    /// Where in a declaration: sections by code, with the sequence and the tag where stated, for
    /// example `42A/67A/68A[1]/79A.112`.
    pub(super) fn pointer(&mut self, parent: &Element) -> String {
        let mut pointer = String::new();
        for step in parent.each("Pointer") {
            if pointer.len() > TEXT_BYTES_MAX {
                break;
            }
            let section = self.id(step, &["DocumentSectionCode"]);
            let sequence = self.id(step, &["SequenceNumeric"]);
            let tag = self.id(step, &["TagID"]);
            if !pointer.is_empty() {
                pointer.push('/');
            }
            pointer.push_str(&section);
            if !sequence.is_empty() {
                pointer.push_str(&format!("[{sequence}]"));
            }
            if !tag.is_empty() {
                pointer.push_str(&format!(".{tag}"));
            }
        }
        pointer
    }
}

/// Whether the element says the same amount, letter for letter.
fn states(element: &Element, money: &v1::Money) -> bool {
    let currency = element.attribute("currencyID").map_or("", |attribute| &attribute.value);
    element.text == money.amount && currency == money.currency
}

/// Takes the element's text.
pub(super) fn take(element: &Element) -> String {
    element.taken.set(true);
    element.text.clone()
}

/// Takes an attribute that passes the check; empty where there is none.
fn take_attribute(element: &Element, name: &str, check: impl Fn(&str) -> bool) -> String {
    match element.attribute(name) {
        Some(attribute) if check(&attribute.value) => {
            attribute.taken.set(true);
            attribute.value.clone()
        }
        _ => String::new(),
    }
}
