//! Rows of Korean import declarations: the 22 columns of the data set of the Korea Customs Service
//! and IBS, one item a row.
//!
//! A row ends with its line, whether that ends with a line feed, a carriage return or both: none of the
//! columns can hold a line break, so a quote that is not closed spoils one row and not the rest of the
//! file. The columns `Fraud` and `Critical Fraud` are labels of the data set, found by inspection
//! later. They are not part of what the trader declared, and stay in the source only.

use std::io::BufRead;

use customhouse_ledger::record::subject::form;
use customhouse_proto::v1::{self, declaration::Regime, record::Body, subject::Scheme};

use super::{
    codes, date,
    decimal::{self, Decimal},
    error::{ImportError, quoted},
    imported::{DeclarationKey, Imported, MessageRole, idempotency_key},
    terms::{ID_BYTES_MAX, Terms},
    warning::{Place, Warning},
};

/// The header: names of the columns, in order.
pub const KOREAN_COLUMNS: [&str; 22] = [
    "Declaration ID",
    "Date",
    "Office ID",
    "Process Type",
    "Import Type",
    "Import Use",
    "Payment Type",
    "Mode of Transport",
    "Declarant ID",
    "Importer ID",
    "Seller ID",
    "Courier ID",
    "HS6 Code",
    "Country of Departure",
    "Country of Origin",
    "Tax Rate",
    "Tax Type",
    "Country of Origin Indicator",
    "Net Mass",
    "Item Price",
    "Fraud",
    "Critical Fraud",
];
/// Most bytes of a line.
const LINE_BYTES_MAX: usize = 8 * 1024;
/// What the rows' source is called.
const FORMAT: &str = "KR-IMPORT/22";

/// What maps these rows: its number changes with what it makes of them.
pub(super) const IMPORTER: &str = "customhouse-rows/1";

/// Imports the rows of a file, one after the other.
///
/// # Errors
/// Where the header is missing, or is not [`KOREAN_COLUMNS`].
pub fn csv_rows<R: BufRead>(reader: R, label: &str) -> Result<CsvRows<R>, ImportError> {
    csv_rows_after(reader, label, 0)
}

/// The same for a part of a file with the file's header before it: as many lines were between them.
///
/// # Errors
/// As [`csv_rows`].
pub(super) fn csv_rows_after<R: BufRead>(
    reader: R,
    label: &str,
    lines_before: usize,
) -> Result<CsvRows<R>, ImportError> {
    let mut rows = CsvRows::of(reader, label);
    let header = match rows.next_line() {
        Some(Ok(header)) => header,
        Some(Err(error)) => return Err(error),
        None => return Err(rows.error(KOREAN_COLUMNS[0], "the file is empty")),
    };
    if header.starts_with(&[0xff, 0xfe]) || header.starts_with(&[0xfe, 0xff]) {
        let reason = "the file is UTF-16, and rows are read as UTF-8: save it as CSV UTF-8";
        return Err(rows.error(KOREAN_COLUMNS[0], reason));
    }
    let header = header.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&header);
    if let Some(other) = other_separator(header) {
        let reason =
            format!("{other} part the columns, and commas are expected: save it with commas");
        return Err(rows.error(KOREAN_COLUMNS[0], reason));
    }
    let found = rows.fields(header)?;
    for (column, found) in KOREAN_COLUMNS.iter().zip(&found) {
        if column != found {
            return Err(rows.error(column, format!("the header has {} instead", quoted(found))));
        }
    }
    rows.line = rows.line.saturating_add(lines_before);
    Ok(rows)
}

/// Imports the line that a record was made from.
///
/// # Errors
/// It is not a row.
pub(super) fn row_again(line: &[u8]) -> Result<Imported, ImportError> {
    CsvRows::of(std::io::empty(), "source").import(line.to_vec())
}

/// What separates the columns of a header, where it is not a comma: some countries' spreadsheets write
/// others.
fn other_separator(header: &[u8]) -> Option<&'static str> {
    let others = [(b';', "semicolons"), (b'\t', "tabs"), (b'|', "vertical bars")];
    let found = others.into_iter().find(|(other, _)| header.contains(other));
    found.filter(|_| !header.contains(&b',')).map(|(_, name)| name)
}

/// The rows of a CSV file. A bad row gives an error and the next one follows; only after a failure
/// to read there are no more.
#[derive(Debug)]
pub struct CsvRows<R> {
    reader: R,
    file: String,
    /// Number of the last line read, from 1.
    line: usize,
    ended: bool,
    /// The last line ended with a carriage return: a line feed that follows belongs to it.
    after_return: bool,
}

impl<R: BufRead> Iterator for CsvRows<R> {
    type Item = Result<Imported, ImportError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.next_line()? {
                Ok(line) if line.is_empty() => {}
                Ok(line) => return Some(self.import(line)),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

impl<R: BufRead> CsvRows<R> {
    fn of(reader: R, label: &str) -> Self {
        Self { reader, file: label.to_owned(), line: 0, ended: false, after_return: false }
    }

    /// The next line without its end.
    fn next_line(&mut self) -> Option<Result<Vec<u8>, ImportError>> {
        if self.ended {
            return None;
        }
        self.line += 1;
        let mut line = Vec::new();
        let mut too_long = false;
        loop {
            let available = match self.reader.fill_buf() {
                Ok(available) => available,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    self.ended = true;
                    let reason = error.to_string();
                    return Some(Err(ImportError::Read { file: self.file.clone(), reason }));
                }
            };
            if available.is_empty() {
                self.ended = true;
                if line.is_empty() && !too_long {
                    return None;
                }
                break;
            }
            if std::mem::take(&mut self.after_return) && available[0] == b'\n' {
                self.reader.consume(1);
                continue;
            }
            let end = available.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let taken = end.unwrap_or(available.len());
            self.after_return = end.is_some_and(|end| available[end] == b'\r');
            // What is too long is read past, not kept.
            too_long |= line.len() + taken > LINE_BYTES_MAX;
            if !too_long {
                line.extend_from_slice(&available[..taken]);
            }
            self.reader.consume(taken + usize::from(end.is_some()));
            // Rows may follow a row that is too long, nothing follows such a header.
            if end.is_some() || too_long && self.line == 1 {
                break;
            }
        }
        if too_long {
            let reason = format!("the line has more than {LINE_BYTES_MAX} bytes");
            return Some(Err(self.error(KOREAN_COLUMNS[0], reason)));
        }
        Some(Ok(line))
    }

    fn error(&self, column: &str, reason: impl Into<String>) -> ImportError {
        let (file, column) = (self.file.clone(), column.to_owned());
        ImportError::Row { file, line: self.line, column, reason: reason.into() }
    }

    /// The fields of a line: as many as there are columns.
    fn fields(&self, line: &[u8]) -> Result<Vec<String>, ImportError> {
        // The parser would read an open quote to the end of the line.
        if line.iter().filter(|byte| **byte == b'"').count() % 2 == 1 {
            return Err(self.error(KOREAN_COLUMNS[0], "a quote is not closed on its line"));
        }
        let mut parser = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .buffer_capacity(LINE_BYTES_MAX.min(line.len() + 1))
            .from_reader(line);
        let mut row = csv::ByteRecord::new();
        parser
            .read_byte_record(&mut row)
            .map_err(|error| self.error(KOREAN_COLUMNS[0], error.to_string()))?;
        let fields = row.iter().zip(KOREAN_COLUMNS).map(|(field, column)| {
            let field = std::str::from_utf8(field).map_err(|_| self.error(column, "not UTF-8"))?;
            if field.len() > ID_BYTES_MAX || field.contains(char::is_control) {
                return Err(self.error(column, format!("{} is no value", quoted(field))));
            }
            Ok(field.to_owned())
        });
        let fields: Vec<String> = fields.collect::<Result<_, _>>()?;
        if row.len() != KOREAN_COLUMNS.len() {
            let column = KOREAN_COLUMNS[row.len().min(KOREAN_COLUMNS.len() - 1)];
            let reason = format!("{} fields, {} expected", row.len(), KOREAN_COLUMNS.len());
            return Err(self.error(column, reason));
        }
        Ok(fields)
    }

    fn import(&self, line: Vec<u8>) -> Result<Imported, ImportError> {
        let fields = self.fields(&line)?;
        let key = key_of(&fields);
        let mut row = Row { rows: self, fields, terms: Terms::default() };
        let declaration = row.declaration()?;
        let named = DeclarationKey { reference: declaration.reference.clone(), mrn: String::new() };
        let warnings = row.terms.warnings.into_vec();
        let source = v1::Source {
            media_type: "text/csv".to_owned(),
            format: FORMAT.to_owned(),
            content: line,
            importer: IMPORTER.to_owned(),
            ..Default::default()
        };
        Ok(Imported {
            detached: None,
            idempotency_key: key,
            record: v1::Record {
                source: Some(source),
                body: Some(Body::Declaration(declaration)),
                ..Default::default()
            },
            label: format!("{}:{}", self.file, self.line),
            line: self.line,
            warnings,
            role: MessageRole::Declaration,
            key: named,
        })
    }
}

/// The key of a row: the same however its fields are quoted.
fn key_of(fields: &[String]) -> String {
    let lengths: Vec<_> = fields.iter().map(|field| (field.len() as u64).to_be_bytes()).collect();
    let said =
        lengths.iter().zip(fields).flat_map(|(length, field)| [&length[..], field.as_bytes()]);
    let parts: Vec<&[u8]> = std::iter::once(FORMAT.as_bytes()).chain(said).collect();
    idempotency_key("row", &parts)
}

/// One row while it is read.
struct Row<'r, R> {
    rows: &'r CsvRows<R>,
    /// One a column.
    fields: Vec<String>,
    terms: Terms,
}

impl<R: BufRead> Row<'_, R> {
    fn declaration(&mut self) -> Result<v1::Declaration, ImportError> {
        let date = self.date("Date")?;
        let (parties, unknown) = self.parties();
        Ok(v1::Declaration {
            regime: Regime::Import as i32,
            reference: self.reference("Declaration ID")?,
            office: self.text("Office ID"),
            parties,
            transport_mode: self.text("Mode of Transport"),
            country_departure: self.country("Country of Departure")?,
            items: vec![self.item(&date)?],
            lodged_at: date,
            extensions: ["Process Type", "Import Type", "Import Use", "Payment Type"]
                .into_iter()
                .filter_map(|column| self.extension(column))
                .chain(unknown)
                .collect(),
            ..Default::default()
        })
    }

    fn item(&mut self, date: &str) -> Result<v1::GoodsItem, ImportError> {
        let hs_code = self.required("HS6 Code")?;
        if !codes::is_digits(&hs_code) {
            return Err(self.error("HS6 Code", format!("{} is not digits", quoted(&hs_code))));
        }
        self.terms.check_tariff_code(&hs_code);
        let mut extensions: Vec<_> =
            self.extension("Country of Origin Indicator").into_iter().collect();
        let tax = v1::Tax {
            type_code: self.text("Tax Type"),
            rate: self.decimal("Tax Rate", &mut extensions)?,
            ..Default::default()
        };
        Ok(v1::GoodsItem {
            sequence: 1,
            hs_code,
            hs_edition: hs_edition(date).to_owned(),
            country_origin: self.country("Country of Origin")?,
            // The rows do not say the currency.
            value: Some(v1::Money {
                amount: self.decimal("Item Price", &mut extensions)?,
                currency: String::new(),
            }),
            net_mass_kg: self.decimal("Net Mass", &mut extensions)?,
            taxes: vec![tax],
            extensions,
            ..Default::default()
        })
    }

    /// The parties in their roles, and beside them the ids that have another spelling, or are not ids.
    fn parties(&mut self) -> (Vec<v1::Party>, Vec<v1::Extension>) {
        let (mut parties, mut as_they_came) = (Vec::new(), Vec::new());
        for role in ["Declarant", "Importer", "Seller", "Courier"] {
            let column = format!("{role} ID");
            let value = self.text(&column);
            if value.is_empty() {
                continue;
            }
            if codes::is_shortened_number(&value) {
                let place = Place { path: column.clone(), position: None };
                let value = value.clone();
                self.terms.warnings.push(Warning::Shortened { place, value });
            }
            let id = form::normal(Scheme::Trader, &value);
            if id.as_ref() != Ok(&value) {
                as_they_came.extend(self.extension(&column));
            }
            match id {
                Ok(id) => {
                    parties.push(v1::Party { role: role.to_owned(), id, ..Default::default() });
                }
                Err(why) => {
                    let place = Place { path: column, position: None };
                    let scheme = Scheme::Trader;
                    self.terms.warnings.push(Warning::SubjectForm { place, scheme, value, why });
                }
            }
        }
        (parties, as_they_came)
    }

    /// The declaration's own reference. One that lost its digits would stand for many declarations.
    fn reference(&self, column: &str) -> Result<String, ImportError> {
        let text = self.required(column)?;
        if codes::is_shortened_number(&text) {
            let reason = "a number that a spreadsheet has shortened: its last digits are lost";
            return Err(self.error(column, format!("{}: {reason}", quoted(&text))));
        }
        form::normal_reference(&text)
            .map_err(|why| self.error(column, format!("{} is no reference: {why}", quoted(&text))))
    }

    fn text(&self, column: &str) -> String {
        let index = KOREAN_COLUMNS.iter().position(|name| *name == column);
        index.and_then(|index| self.fields.get(index)).cloned().unwrap_or_default()
    }

    fn required(&self, column: &str) -> Result<String, ImportError> {
        let text = self.text(column);
        if text.is_empty() { Err(self.error(column, "empty")) } else { Ok(text) }
    }

    fn date(&self, column: &str) -> Result<String, ImportError> {
        let text = self.required(column)?;
        if date::is_date(&text) {
            Ok(text)
        } else {
            Err(self.error(column, format!("{} is not a date YYYY-MM-DD", quoted(&text))))
        }
    }

    fn country(&mut self, column: &str) -> Result<String, ImportError> {
        let text = self.required(column)?;
        if self.terms.is_country(&text, || column.to_owned()) {
            Ok(text)
        } else {
            Err(self.error(column, format!("{} is not a country code", quoted(&text))))
        }
    }

    /// A number; one that had to be rounded is kept beside as it came.
    fn decimal(
        &mut self,
        column: &str,
        extensions: &mut Vec<v1::Extension>,
    ) -> Result<String, ImportError> {
        let text = self.required(column)?;
        match decimal::canonical(&text) {
            Some(Decimal::Exact(number)) => {
                if number != text {
                    extensions.extend(self.extension(column));
                }
                Ok(number)
            }
            Some(Decimal::Rounded(number)) => {
                extensions.extend(self.extension(column));
                self.terms.warnings.push(Warning::Rounded { field: column.into(), value: text });
                Ok(number)
            }
            None => Err(self.error(column, format!("{} is not a number", quoted(&text)))),
        }
    }

    fn extension(&self, column: &str) -> Option<v1::Extension> {
        let value = self.text(column);
        (!value.is_empty()).then(|| v1::Extension { name: column.to_owned(), value })
    }

    fn error(&self, column: &str, reason: impl Into<String>) -> ImportError {
        self.rows.error(column, reason)
    }
}

/// The edition of the Harmonized System in force on a day, where it is one that is known here.
fn hs_edition(date: &str) -> &'static str {
    let editions = [("2028", ""), ("2022", "2022"), ("2017", "2017"), ("2012", "2012")];
    editions.into_iter().find(|(from, _)| date >= *from).map_or("", |(_, edition)| edition)
}

#[cfg(test)]
#[path = "rows_tests.rs"]
mod tests;
