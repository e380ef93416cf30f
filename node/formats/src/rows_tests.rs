//! Rows, and what is refused of them.

use super::*;

const ROW: &str =
    "700001,2021-05-04,20,B,11,21,11,10,DECL1,IMP1,SELL1,,090111,KE,KE,2.5,A,E,640.0,15200.75,0,0";

fn header() -> String {
    KOREAN_COLUMNS.join(",")
}

fn import(rows: &[&str]) -> Vec<Result<Imported, ImportError>> {
    let file = format!("{}\n{}\n", header(), rows.join("\n"));
    csv_rows(file.as_bytes(), "rows.csv").expect("header").collect()
}

fn declaration(imported: &Imported) -> &v1::Declaration {
    match &imported.record.body {
        Some(Body::Declaration(declaration)) => declaration,
        other => panic!("a declaration expected, not {other:?}"),
    }
}

fn change(column: &str, value: &str) -> String {
    let index = KOREAN_COLUMNS.iter().position(|name| *name == column).expect("a column");
    let mut fields: Vec<_> = ROW.split(',').collect();
    fields[index] = value;
    fields.join(",")
}

#[test]
fn a_row_fills_a_declaration_and_is_kept_verbatim() {
    let rows = import(&[ROW]);
    let imported = rows[0].as_ref().expect("a good row");
    let declaration = declaration(imported);
    assert_eq!(declaration.reference, "700001");
    assert_eq!(declaration.lodged_at, "2021-05-04");
    let roles: Vec<_> = declaration.parties.iter().map(|party| &*party.role).collect();
    assert_eq!(roles, ["Declarant", "Importer", "Seller"], "no courier");
    let item = &declaration.items[0];
    assert_eq!((&*item.hs_code, &*item.hs_edition), ("090111", "2017"));
    assert_eq!((&*item.country_origin, &*item.net_mass_kg), ("KE", "640.0"));
    assert_eq!(item.value.as_ref().map(|value| &*value.amount), Some("15200.75"));
    assert_eq!((&*item.taxes[0].type_code, &*item.taxes[0].rate), ("A", "2.5"));
    let source = imported.record.source.as_ref().expect("source");
    assert_eq!(source.content, ROW.as_bytes());
    assert_eq!(imported.label, "rows.csv:2");
    assert_eq!(imported.warnings, []);
}

#[test]
fn inspection_labels_are_not_stated_as_declared() {
    let flagged = change("Critical Fraud", "2");
    let rows = import(&[&flagged]);
    let text = format!("{:?}", declaration(rows[0].as_ref().expect("a good row")));
    assert!(!text.contains("Fraud"), "{text}");
}

#[test]
fn a_bad_row_is_named_and_the_next_one_follows() {
    for (row, column) in [
        (change("Declaration ID", ""), "Declaration ID"),
        (change("Date", "2020-02-30"), "Date"),
        (change("Date", "2020-1-01x"), "Date"),
        (change("HS6 Code", "0901x1"), "HS6 Code"),
        (change("Country of Origin", "Kenya"), "Country of Origin"),
        (change("Net Mass", "heavy"), "Net Mass"),
        (change("Item Price", "1e30"), "Item Price"),
        (change("Office ID", "3\u{7}0"), "Office ID"),
        (change("Office ID", "\"30"), "Declaration ID"),
        ("1,2020-01-01,30".to_owned(), "Process Type"),
        (format!("{ROW},23"), "Critical Fraud"),
        (change("Seller ID", &"S".repeat(300)), "Seller ID"),
        (change("Seller ID", &"S".repeat(LINE_BYTES_MAX)), "Declaration ID"),
    ] {
        let rows = import(&[ROW, &row, ROW]);
        assert_eq!(rows.len(), 3, "{row}");
        assert!(rows[0].is_ok() && rows[2].is_ok(), "{row}");
        match &rows[1] {
            Err(ImportError::Row { file, line: 3, column: found, .. }) => {
                assert_eq!((&**file, &**found), ("rows.csv", column), "{row}");
            }
            other => panic!("{row} gave {other:?}"),
        }
    }
    let invalid = [header().as_bytes(), b"\n\xff,", ROW.as_bytes()].concat();
    let mut rows = csv_rows(&invalid[..], "rows.csv").expect("header");
    assert!(matches!(rows.next(), Some(Err(ImportError::Row { line: 2, .. }))));
}

#[test]
fn prices_with_an_artefact_of_floats_are_rounded_and_kept() {
    let rows = import(&[&change("Item Price", "71.10000000000001")]);
    let imported = rows[0].as_ref().expect("a good row");
    let item = &declaration(imported).items[0];
    assert_eq!(item.value.as_ref().map(|value| &*value.amount), Some("71.1"));
    let kept = v1::Extension { name: "Item Price".into(), value: "71.10000000000001".into() };
    assert!(item.extensions.contains(&kept));
    assert!(matches!(imported.warnings[..], [Warning::Rounded { .. }]));
}

#[test]
fn line_ends_and_a_byte_order_mark_are_no_part_of_a_row() {
    let file = format!("\u{feff}{}\r\n{ROW}\r\n\r\n{ROW}", header());
    let rows: Vec<_> = csv_rows(file.as_bytes(), "rows.csv").expect("header").collect();
    let [Ok(first), Ok(second)] = &rows[..] else { panic!("two rows expected: {rows:?}") };
    assert_eq!(first.record, second.record);
    assert_eq!(first.idempotency_key, second.idempotency_key, "one row is one submission");
    assert_eq!(second.label, "rows.csv:4");
}

#[test]
fn a_line_ends_with_a_line_feed_a_carriage_return_or_both_also_between_two_reads() {
    for (ends, lines) in [(["\r", "\r", "\r"], [2, 3]), (["\r\n", "\r", "\n"], [2, 3])] {
        let [first, second, third] = ends;
        let file = format!("{}{first}{ROW}{second}{ROW}{third}", header());
        for size in [1, 2, 7, 100_000] {
            let reader = std::io::BufReader::with_capacity(size, file.as_bytes());
            let rows = csv_rows(reader, "rows.csv").expect("header");
            let labels: Vec<_> = rows.map(|row| row.expect("a good row").label).collect();
            assert_eq!(labels, lines.map(|line| format!("rows.csv:{line}")), "{ends:?} {size}");
        }
    }
}

#[test]
fn a_row_that_is_broken_in_two_is_two_bad_rows_and_never_none() {
    let broken = ROW.replace("DECL1", "DE\rCL1");
    let rows = import(&[ROW, &broken, ROW]);
    let good: Vec<_> = rows.iter().map(Result::is_ok).collect();
    assert_eq!(good, [true, false, false, true]);
}

#[test]
fn what_a_spreadsheet_took_from_a_number_is_told() {
    for (code, perhaps) in [("90111", "090111"), ("1012100", "01012100")] {
        let rows = import(&[&change("HS6 Code", code)]);
        let imported = rows[0].as_ref().expect("imported");
        let warning = Warning::LostZero { code: code.into(), perhaps: perhaps.into() };
        assert_eq!(imported.warnings, [warning]);
        assert!(imported.warnings[0].to_string().contains(perhaps));
    }
    for id in ["9.1E+07", "9,1000035E+15", "1e+5"] {
        let rows = import(&[&change("Declaration ID", &format!("\"{id}\""))]);
        let error = rows[0].as_ref().expect_err("its digits are lost").to_string();
        assert!(error.contains("Declaration ID") && error.contains("spreadsheet"), "{error}");
    }
}

#[test]
fn a_party_s_number_that_lost_its_digits_is_told_and_kept_as_it_stands() {
    let rows = import(&[&change("Importer ID", "9.1E+07")]);
    let imported = rows[0].as_ref().expect("a good row");
    assert_eq!(declaration(imported).parties[1].id, "9.1E+07");
    let [warning] = &imported.warnings[..] else { panic!("{:?}", imported.warnings) };
    assert!(warning.is_about_a_subject() && warning.to_string().starts_with("Importer ID: "));
}

#[test]
fn one_row_has_one_key_however_its_fields_are_quoted() {
    let quoted = ROW.split(',').map(|field| format!("\"{field}\"")).collect::<Vec<_>>().join(",");
    let shifted = change("Seller ID", "SELL1x").replace("IMP1", "IMP");
    let keys: Vec<_> = import(&[ROW, &quoted, &shifted])
        .into_iter()
        .map(|row| row.expect("a good row").idempotency_key)
        .collect();
    assert!(keys[0] == keys[1] && keys[0] != keys[2], "{keys:?}");
}

#[test]
fn columns_that_no_commas_part_are_named_as_that() {
    for (separator, name) in [(";", "semicolons"), ("\t", "tabs"), ("|", "vertical bars")] {
        let file = format!("{}\n{ROW}\n", header()).replace(',', separator);
        let error = csv_rows(file.as_bytes(), "rows.csv").expect_err(name).to_string();
        assert!(error.contains(name) && error.contains("commas"), "{error}");
    }
}

#[test]
fn what_two_files_were_put_together_from_is_read_row_by_row() {
    let second = format!("\u{feff}{}", header());
    let rows = import(&[ROW, &second, &format!("\u{feff}{ROW}"), "a\0b", ROW]);
    let good: Vec<_> = rows.iter().map(Result::is_ok).collect();
    assert_eq!(good, [true, false, true, false, true]);
    let reference =
        |row: usize| declaration(rows[row].as_ref().expect("a good row")).reference.clone();
    assert_eq!(reference(2), reference(0));
}

#[test]
fn ids_are_in_their_normal_form_and_kept_as_they_came() {
    let row = change("Importer ID", "imp\u{a0}1").replace("700001", "lrn 7");
    let rows = import(&[&row, &change("Seller ID", "판매자")]);
    let spelt = declaration(rows[0].as_ref().expect("a good row"));
    assert_eq!((&*spelt.reference, &*spelt.parties[1].id), ("LRN7", "IMP1"));
    let kept = v1::Extension { name: "Importer ID".into(), value: "imp\u{a0}1".into() };
    assert!(spelt.extensions.contains(&kept), "{:?}", spelt.extensions);
    let other = rows[1].as_ref().expect("a good row");
    assert_eq!(declaration(other).parties.len(), 2, "the seller has no id of the scheme");
    assert!(matches!(other.warnings[..], [Warning::SubjectForm { .. }]), "{:?}", other.warnings);
}

#[test]
fn a_header_without_an_end_is_refused() {
    let endless = std::io::BufReader::new(std::io::repeat(b'x'));
    let error = csv_rows(endless, "/dev/zero").expect_err("refused").to_string();
    assert!(error.contains("/dev/zero:1:") && error.contains("8192 bytes"), "{error}");
}

#[test]
fn another_header_is_refused_by_its_first_other_column() {
    let file = header().replace("Import Use", "Use");
    let error = csv_rows(file.as_bytes(), "rows.csv").expect_err("another header");
    assert_eq!(
        error.to_string(),
        "rows.csv:1: column \"Import Use\": the header has \"Use\" instead"
    );
    let error = csv_rows(&b""[..], "rows.csv").expect_err("empty");
    assert!(error.to_string().contains("empty"), "{error}");
}
