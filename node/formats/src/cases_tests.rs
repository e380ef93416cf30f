//! Inputs that went wrong once (`../shared/cases`, read where they stand), and more of the same kinds.

use std::path::{Path, PathBuf};

use customhouse_files::readfile;
use customhouse_ledger::{
    record::{self, ValidRecord},
    registry::genesis::Genesis,
};
use customhouse_proto::v1::{self, declaration::Regime, record::Body, subject::Scheme};

use super::*;

/// The folder of cases, if it is there.
fn folder() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/cases");
    if path.is_dir() {
        return Some(path);
    }
    eprintln!("skipped: {} absent", path.display());
    None
}

/// A message of a declaration with these elements in it.
fn message(elements: &str) -> String {
    format!(
        r#"<MetaData xmlns="urn:wco:datamodel:WCO:DocumentMetaData-DMS:2"><Declaration
        xmlns="urn:wco:datamodel:WCO:DEC-DMS:2"><FunctionCode>9</FunctionCode><TypeCode>IMA</TypeCode>
        {elements}</Declaration></MetaData>"#
    )
}

fn import_bytes(bytes: &[u8]) -> Imported {
    match wco_message(bytes, "a.xml") {
        Ok(Outcome::Imported(imported)) => *imported,
        other => panic!("{} gave {other:?}", String::from_utf8_lossy(bytes)),
    }
}

fn import(elements: &str) -> Imported {
    import_bytes(message(elements).as_bytes())
}

/// `SCHEME id` of all that the record is about on the chain, once the node has completed it.
fn about(imported: &Imported) -> Vec<String> {
    let mut record = imported.record.clone();
    (record.salt, record.agency, record.submitter) = (vec![7; 32], "NL-DOUANE".into(), "a".into());
    (record.submitter_role, record.submitter_certificate) = (v1::Role::Office as i32, vec![7; 32]);
    // What is about nothing refers to something.
    record.references = vec![v1::Reference {
        relation: v1::reference::Relation::Amends as i32,
        record_id: vec![7; 32],
        ..v1::Reference::default()
    }];
    let valid = ValidRecord::from_record(record).expect("a record that the chain takes");
    let shown = |subject: v1::Subject| format!("{} {}", subject.scheme().as_str_name(), subject.id);
    record::subjects(&valid.record).into_iter().map(shown).collect()
}

fn warnings(imported: &Imported) -> String {
    imported.warnings.iter().map(|warning| format!("{warning}\n")).collect()
}

fn declaration(imported: &Imported) -> &v1::Declaration {
    match &imported.record.body {
        Some(Body::Declaration(declaration)) => declaration,
        other => panic!("a declaration expected, not {other:?}"),
    }
}

/// A message must be about these, and its warnings must say this.
fn is_about(imported: &Imported, subjects: &[&str], warning: &str) {
    let found = about(imported);
    for subject in subjects {
        assert!(found.iter().any(|found| found == subject), "{subject} is not in {found:?}");
    }
    let said = warnings(imported);
    assert!(said.contains(warning) && (warning.is_empty() == said.is_empty()), "{warning}: {said}");
}

#[test]
fn every_case_comes_out_right() {
    let Some(folder) = folder() else { return };
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .expect("cases")
        .map(|entry| entry.expect("one").path())
        .collect();
    files.sort();
    for file in files {
        let bytes = std::fs::read(&file).expect("a case");
        let name = file.file_name().expect("a name").to_string_lossy().into_owned();
        match &*name {
            "README.md" => {}
            "foreign-ns-id.xml" => {
                let imported = import_bytes(&bytes);
                assert_eq!(declaration(&imported).mrn, "26NL00000000000C76");
                let told = "Declaration/{urn:erp:internal}ID";
                is_about(&imported, &["MRN 26NL00000000000C76"], &told["Declaration/".len()..]);
            }
            "two-consignments.xml" => {
                let both = ["CONTAINER CSQU3054383", "CONTAINER MSKU6011672"];
                is_about(&import_bytes(&bytes), &both, "");
            }
            "decl-consignment-ctr.xml" => {
                is_about(&import_bytes(&bytes), &["CONTAINER HLXU2008419"], "");
            }
            "lower-mrn.xml" => is_about(&import_bytes(&bytes), &["MRN 26NL00000000000C27"], ""),
            "space-mrn.xml" => is_about(&import_bytes(&bytes), &["MRN 26NL00000000000C28"], ""),
            "csv-cr-only.csv" | "csv-dup-rows.csv" | "hs-lost-zero.csv" => rows_case(&name, &bytes),
            "lf-crlf-a.xml" => {
                let other = std::fs::read(folder.join("lf-crlf-b.xml")).expect("its other form");
                let (one, two) = (import_bytes(&bytes), import_bytes(&other));
                assert_eq!(one.idempotency_key, two.idempotency_key);
                assert_ne!(one.record.source, two.record.source, "each as it came");
            }
            "lf-crlf-b.xml" => {}
            "latin1-ascii-only.xml" => drop(import_bytes(&bytes)),
            "latin1-bytes.xml" => {
                let imported = import_bytes(&bytes);
                assert_eq!(declaration(&imported).parties[0].name, "Société Générale");
                assert_eq!(imported.record.source.map(|source| source.content), Some(bytes));
            }
            "decl-utf16-body-utf8.xml" => {
                let error = wco_message(&bytes, &name).expect_err("it contradicts itself");
                assert!(error.to_string().contains("names the encoding \"utf-16\""), "{error}");
            }
            "genesis-bom.json" => {
                let text = readfile::text(&file, 1 << 20).expect("a text");
                // It is of before there were roles. What it is about is its first three bytes.
                let (before, now) = ("\"submitter\"", "\"broker\", \"submitter\": \"broker\"");
                let text = text.replace(before, now);
                drop(Genesis::from_json(&text).expect("a genesis"));
            }
            "typ-TIR.xml" => {
                let imported = import_bytes(&bytes);
                assert_eq!(declaration(&imported).regime, Regime::Transit as i32);
            }
            "dt-garbage.xml" => {
                let imported = import_bytes(&bytes);
                assert_eq!(declaration(&imported).lodged_at, "");
                is_about(&imported, &[], "AcceptanceDateTime/DateTimeString: \"yesterday\" is not");
            }
            other => panic!("nothing says what is right for {other}"),
        }
    }
}

fn rows_case(name: &str, bytes: &[u8]) {
    let rows: Vec<Imported> =
        csv_rows(bytes, name).expect("a header").collect::<Result<_, _>>().expect("good rows");
    let labels: Vec<_> = rows.iter().map(|row| &*row.label).collect();
    match name {
        "csv-cr-only.csv" => {
            assert_eq!(labels, ["csv-cr-only.csv:2", "csv-cr-only.csv:3"]);
            assert_ne!(rows[0].idempotency_key, rows[1].idempotency_key);
        }
        "csv-dup-rows.csv" => {
            assert_eq!(labels.len(), 2);
            assert_eq!(rows[0].idempotency_key, rows[1].idempotency_key, "one submission");
        }
        _ => {
            assert_eq!(labels, ["hs-lost-zero.csv:2"]);
            assert!(warnings(&rows[0]).contains("perhaps 090111"), "{}", warnings(&rows[0]));
        }
    }
}

#[test]
fn an_element_of_another_vocabulary_is_an_extension_however_its_namespace_is_given() {
    for (foreign, path) in [
        (r#"<x:ID xmlns:x="urn:x">E1</x:ID>"#, "{urn:x}ID"),
        (r#"<ID xmlns="urn:x">E1</ID>"#, "{urn:x}ID"),
        (r#"<ID xmlns="">E1</ID>"#, "{}ID"),
        ("<undeclared:ID>E1</undeclared:ID>", "{undeclared:}ID"),
        (r#"<x:a xmlns:x="urn:x"><x:ID>E1</x:ID></x:a>"#, "{urn:x}a/ID"),
        (
            r#"<x:a xmlns:x="urn:x"><ID>E1</ID></x:a>"#,
            "{urn:x}a/{urn:wco:datamodel:WCO:DEC-DMS:2}ID",
        ),
    ] {
        let imported = import(&format!("{foreign}<ID>26NL00000000000C76</ID>"));
        assert_eq!(declaration(&imported).mrn, "26NL00000000000C76", "{foreign}");
        let kept = v1::Extension { name: path.into(), value: "E1".into() };
        assert!(declaration(&imported).extensions.contains(&kept), "{foreign}");
        assert!(
            warnings(&imported).contains(&format!("{path}: \"E1\"")),
            "{}",
            warnings(&imported)
        );
    }
    // The same namespace under other prefixes, and written with a reference, is not another one.
    for own in [
        r#"<d:ID xmlns:d="urn:wco:datamodel:WCO:DEC-DMS:2">26NL1</d:ID>"#,
        r#"<ID xmlns="urn:wco:datamodel:WCO:DEC-DMS&#58;2">26NL1</ID>"#,
    ] {
        is_about(&import(own), &["MRN 26NL1"], "");
    }
    // Nor does a declaration inside an element end with it.
    let nested =
        r#"<x:a xmlns:x="urn:x"><x:b xmlns:d="urn:d"/></x:a><d:ID>E2</d:ID><ID>26NL1</ID>"#;
    is_about(&import(nested), &["MRN 26NL1"], "{d:}ID");
}

#[test]
fn every_element_that_names_a_subject_makes_one_wherever_it_stands() {
    let equipment = "<TransportEquipment><ID>csqu 305438-3</ID></TransportEquipment>";
    for around in [
        "<GoodsShipment><Consignment>…</Consignment></GoodsShipment>",
        "<Consignment><ConsignmentItem>…</ConsignmentItem></Consignment>",
        "<GoodsShipment/><GoodsShipment><Consignment/><Consignment>…</Consignment></GoodsShipment>",
        "<GoodsShipment><GovernmentAgencyGoodsItem><Commodity/><Commodity>…</Commodity>\
         </GovernmentAgencyGoodsItem></GoodsShipment>",
        "<GoodsShipment><GovernmentAgencyGoodsItem><Packaging>…</Packaging>\
         </GovernmentAgencyGoodsItem></GoodsShipment>",
        "<Unheard><Of>…</Of></Unheard>",
    ] {
        is_about(&import(&around.replace('…', equipment)), &["CONTAINER CSQU3054383"], "");
    }
    for (elements, subject) in [
        ("<ID>26NL1</ID><ID>26NL2</ID>", "MRN 26NL2"),
        ("<UCR><ID>u1</ID></UCR>", "UCR U1"),
        (
            "<GoodsShipment><UCR/><UCR><TraderAssignedReferenceID>u2</TraderAssignedReferenceID></UCR>\
          </GoodsShipment>",
            "UCR U2",
        ),
        (
            "<Consignment><TransportContractDocument><ID>MAEU 1</ID></TransportContractDocument>\
          </Consignment>",
            "TRANSPORT_DOCUMENT MAEU1",
        ),
        (
            "<PreviousDocument><ID>26nl00000000000c76</ID><TypeCode>MRN</TypeCode></PreviousDocument>",
            "MRN 26NL00000000000C76",
        ),
        (
            "<PreviousDocument><ID>26NL00000000000C76</ID><TypeCode>355</TypeCode></PreviousDocument>",
            "MRN 26NL00000000000C76",
        ),
        (
            "<AdditionalDocument><ID>26nl 00000000000c76</ID></AdditionalDocument>",
            "MRN 26NL00000000000C76",
        ),
        (
            "<GoodsShipment><Consignment/><Consignment><Consignee><ID>nl 7</ID></Consignee></Consignment>\
          </GoodsShipment>",
            "TRADER NL7",
        ),
        (
            "<GoodsShipment><GovernmentAgencyGoodsItem><Manufacturer><ID>NL8</ID></Manufacturer>\
          </GovernmentAgencyGoodsItem></GoodsShipment>",
            "TRADER NL8",
        ),
    ] {
        is_about(&import(elements), &[subject], "");
    }
}

#[test]
fn what_is_not_understood_is_a_warning_with_its_place() {
    for (elements, warning) in [
        ("<ID>26NL-1</ID>", "3:9: ID: \"26NL-1\" is no MRN"),
        ("<Declarant><ID>사람</ID></Declarant>", "Declarant/ID: \"사람\" is no TRADER"),
        ("<UCR><ID>é</ID></UCR>", "UCR/ID: \"é\" is no UCR"),
        ("<Unheard><ID>X</ID></Unheard>", "Unheard/ID: \"X\" is not understood"),
        ("<Note>CSQU 305438 3</Note>", "Note: \"CSQU 305438 3\" is not understood"),
        ("<Note>26nl00000000000c76</Note>", "Note: \"26nl00000000000c76\" is not understood"),
        ("<Note of='26NL00000000000C76'/>", "Note@of: \"26NL00000000000C76\" is not understood"),
        ("<Note/><Note>CSQU3054383</Note>", "Note[2]: \"CSQU3054383\""),
        ("<UCR><ID><Part>U</Part><Part>1</Part></ID></UCR>", "UCR/ID: \"U1\" is not understood"),
        ("<x:n xmlns:x='u'>CSQU3054383</x:n>", "{u}n: \"CSQU3054383\" is of another vocabulary"),
        (
            "<x:TransportEquipment xmlns:x='u'><x:ID>C1</x:ID></x:TransportEquipment>",
            "{u}TransportEquipment/ID: \"C1\" is of another vocabulary",
        ),
        (
            "<IssueDateTime><DateTimeString>20261331</DateTimeString></IssueDateTime>",
            "is not a date",
        ),
    ] {
        is_about(&import(elements), &[], warning);
    }
    // Named where it is understood, it is no news elsewhere.
    let named =
        "<TransportEquipment><ID>CSQU3054383</ID></TransportEquipment><Note>csqu3054383</Note>";
    is_about(&import(named), &["CONTAINER CSQU3054383"], "");
}

#[test]
fn an_id_in_an_attribute_beside_elements_or_in_a_class_of_its_own_is_a_warning_with_its_place() {
    for (elements, warning) in [
        ("<ID>26NL<x/>76</ID>", "ID: \"26NL76\" is not understood"),
        ("<ID>26NL<Part>99</Part>76</ID>", "ID: \"26NL7699\" is not understood"),
        ("<FunctionalReferenceID>L<b>R</b></FunctionalReferenceID>", "ReferenceID: \"LR\" is not"),
        ("<Declarant ID='NL 7'/>", "Declarant@ID: \"NL 7\" is not understood"),
        ("<Declarant>NL 7</Declarant>", "Declarant: \"NL 7\" is not understood"),
        ("<GoodsShipment><UCR>6NL1</UCR></GoodsShipment>", "UCR: \"6NL1\" is not understood"),
        ("<TransportEquipment>AD 1</TransportEquipment>", "Equipment: \"AD 1\" is not understood"),
        ("<MRN>26NL1</MRN>", "MRN: \"26NL1\" is not understood"),
        ("<Unheard><Id>X1</Id></Unheard>", "Unheard/Id: \"X1\" is not understood"),
        ("<id>26NL1</id>", "id: \"26NL1\" is not understood"),
        ("<Thing><Identifier>X1</Identifier></Thing>", "Thing/Identifier: \"X1\""),
        ("CSQU3054383", "Declaration: \"CSQU3054383\" is not understood"),
        ("<x:e xmlns:x='u'><x:Id>X1</x:Id></x:e>", "{u}e/Id: \"X1\" is of another vocabulary"),
    ] {
        let imported = import(elements);
        is_about(&imported, &[], warning);
        assert_eq!(about(&imported), <[String; 0]>::default(), "{elements}");
        assert!(imported.warnings.iter().all(Warning::is_about_a_subject), "{elements}");
    }
    let attributes = message("").replace("<Declaration", "<Declaration ID='26NL1'");
    is_about(&import_bytes(attributes.as_bytes()), &[], "@ID: \"26NL1\" is not understood");
    let around = message("").replace("<MetaData", "<MetaData of='CSQU3054383'");
    is_about(&import_bytes(around.as_bytes()), &[], "/MetaData@of: \"CSQU3054383\"");
    // Comments, instructions and sections are how a text is written, and not what it says.
    for whole in ["26NL<!-- a -->1", "26NL<?a b?>1", "<![CDATA[26N]]>L&#x31;", "&#50;6nl 1"] {
        is_about(&import(&format!("<ID>{whole}</ID>")), &["MRN 26NL1"], "");
    }
}

#[test]
fn every_spelling_of_an_mrn_is_one_or_a_warning() {
    for spelt in ["26nl1", "26\u{2060}NL\u{ad}1", "２６ＮＬ１", "26NL\u{200d}1", "\u{feff}26 NL\t1"]
    {
        is_about(&import(&format!("<ID>{spelt}</ID>")), &["MRN 26NL1"], "");
    }
    for (spelt, shown) in [
        ("26NL١", "\"26NL١\" is no MRN: U+0661"),
        ("26NL1\u{301}", "is no MRN: U+0301"),
        ("26NİL1", "\"26NİL1\" is no MRN: U+0130"),
        ("26NL\u{82}1", "is no MRN: U+0082"),
        ("26ΝL1", "is no MRN: U+039D"),
    ] {
        let imported = import(&format!("<ID>{spelt}</ID>"));
        is_about(&imported, &[], shown);
        assert_eq!(about(&imported), <[String; 0]>::default(), "{spelt}");
    }
}

#[test]
fn a_document_is_told_by_its_category_and_type_however_they_are_written() {
    let document = |category: &str, kind: &str| {
        import(&format!(
            "<AdditionalDocument><CategoryCode>{category}</CategoryCode><ID>u-1</ID>\
             <TypeCode>{kind}</TypeCode></AdditionalDocument>"
        ))
    };
    for (category, kind, subject) in [
        ("N", "705", "TRANSPORT_DOCUMENT U-1"),
        ("", "N705", "TRANSPORT_DOCUMENT U-1"),
        ("n", "705", "TRANSPORT_DOCUMENT U-1"),
        ("Z", "DCR", "UCR U-1"),
        ("", "ZDCR", "UCR U-1"),
        ("z", "mcr", "UCR U-1"),
    ] {
        is_about(&document(category, kind), &[subject], "");
    }
    assert_eq!(about(&document("C", "705")), <[String; 0]>::default(), "another category's number");
}

#[test]
fn a_number_that_may_be_meant_for_another_is_told_by_default() {
    for (elements, subject, warning) in [
        (
            "<TransportEquipment><ID>CSQU 305438 [3]</ID></TransportEquipment>",
            "CONTAINER CSQU305438[3]",
            "container \"CSQU305438[3]\" is perhaps CSQU3054383",
        ),
        (
            "<TransportEquipment><ID>csqu305438</ID></TransportEquipment>",
            "CONTAINER CSQU305438",
            "container \"CSQU305438\" is perhaps CSQU3054383",
        ),
        (
            "<Declarant><ID>9.1E+07</ID></Declarant>",
            "TRADER 9.1E+07",
            "Declarant/ID: \"9.1E+07\" is a number that a spreadsheet has shortened",
        ),
    ] {
        let imported = import(elements);
        is_about(&imported, &[subject], warning);
        assert!(imported.warnings.iter().all(Warning::is_about_a_subject), "{elements}");
    }
}

#[test]
fn many_strange_texts_are_gone_through_in_no_time_that_matters() {
    let many = "<A><ID>x</ID></A>".repeat(3000);
    let imported = import(&format!("{}{many}", "\n".repeat(1000)));
    assert_eq!(imported.warnings.last(), Some(&Warning::More(3000 + 1 - WARNINGS_MAX)));
}

#[test]
fn too_many_subjects_and_a_second_message_are_refused_and_not_cut() {
    let equipment = |number| format!("<TransportEquipment><ID>C{number}</ID></TransportEquipment>");
    let many = |count: u32| message(&(0..count).map(equipment).collect::<String>());
    assert_eq!(about(&import_bytes(many(4096).as_bytes())).len(), 4096);
    let error = wco_message(many(4097).as_bytes(), "a.xml").expect_err("too many").to_string();
    assert!(error.contains("about 4097 subjects, more than the 4096"), "{error}");
    let two = message("").replace("</MetaData>", "<Response/></MetaData>");
    for text in [two.clone(), two.replace("Response", "Declaration")] {
        let error = wco_message(text.as_bytes(), "a.xml").expect_err("two").to_string();
        assert!(error.contains("a second message in one file"), "{error}");
    }
}

#[test]
fn more_elements_and_attributes_than_are_read_are_refused_where_they_stand() {
    // What is around them: four elements, and two attributes.
    let free = xml::NODES_MAX - 6;
    for (unit, nodes) in [("<a/>\n", 1), ("<a b='' xmlns:c='d'/>\n", 3)] {
        let room = free / nodes;
        let most = message(&format!("\n{}", unit.repeat(room)));
        assert!(wco_message(most.as_bytes(), "a.xml").is_ok(), "{unit}");
        let more = message(&format!("\n{}", unit.repeat(room + 1)));
        let Err(refused) = wco_message(more.as_bytes(), "a.xml") else { panic!("{unit}") };
        assert_eq!(refused.position(), (room + 4, 1), "{refused}");
        assert!(refused.to_string().contains("more than 300000 elements"), "{refused}");
    }
}

#[test]
fn one_message_has_one_key_however_it_is_written() {
    let plain = message("<ID>26NL1</ID><Declarant><Name>Société &amp; Co</Name></Declarant>");
    let of = |bytes: &[u8]| import_bytes(bytes).idempotency_key;
    let key = of(plain.as_bytes());
    let utf_16: Vec<u8> =
        format!("\u{feff}{plain}").encode_utf16().flat_map(u16::to_le_bytes).collect();
    let latin_1: Vec<u8> = format!("<?xml version='1.0' encoding='iso-8859-1'?>{plain}")
        .chars()
        .map(|c| u8::try_from(u32::from(c)).expect("of Latin-1"))
        .collect();
    for (written, same) in [
        (plain.replace('\n', "\r\n").into_bytes(), true),
        (plain.replace('\n', "\r").into_bytes(), true),
        (format!("\u{feff}{plain}\r\n").into_bytes(), true),
        (utf_16, true),
        (latin_1, true),
        (plain.replace("&amp;", "<![CDATA[&]]>").into_bytes(), true),
        (plain.replace('é', "&#xe9;").into_bytes(), true),
        (plain.replace("<ID>", "<!-- c --><ID >").into_bytes(), true),
        (plain.replace("26NL1", "26NL2").into_bytes(), false),
        (plain.replace("Société", "Societe").into_bytes(), false),
        (plain.replace("<ID>26NL1</ID>", "<ID>26</ID><ID>NL1</ID>").into_bytes(), false),
        (plain.replace("<Name>", "<Name a='b'>").into_bytes(), false),
        (plain.replace("WCO:DEC", "WCO:RES").into_bytes(), false),
        // What stands beside elements, where it stands.
        (plain.replace("<ID>", "x<ID>").into_bytes(), false),
    ] {
        assert_eq!(of(&written) == key, same, "{}", String::from_utf8_lossy(&written));
    }
    let default = "<Declaration xmlns='u'><TypeCode>IMA</TypeCode></Declaration>";
    let prefixed = "<p:Declaration xmlns:p='u'><p:TypeCode>IMA</p:TypeCode></p:Declaration>";
    assert_eq!(of(default.as_bytes()), of(prefixed.as_bytes()), "a prefix says nothing by itself");
    let [a, b, c] =
        ["a:x='1' xmlns:a='u'", "b:x='1' xmlns:b='u'", "a:x='1' xmlns:a='v'"].map(|attributes| {
            of(message("").replace("<TypeCode", &format!("<TypeCode {attributes}")).as_bytes())
        });
    assert!(a == b && a != c, "nor does an attribute's");
    let [before, after] =
        ["<Note>x<b/>y</Note>", "<Note>xy<b/></Note>"].map(|note| of(message(note).as_bytes()));
    assert_ne!(before, after, "a text on another side of an element is another text");
}

#[test]
fn the_types_of_transit_are_transit() {
    for (kind, regime) in [
        ("TIR", Regime::Transit),
        ("T", Regime::Transit),
        ("T1", Regime::Transit),
        ("T2F", Regime::Transit),
        ("T2SM", Regime::Transit),
        ("TD", Regime::Transit),
        ("ATA", Regime::Transit),
        ("TRA", Regime::Transit),
        ("IMA", Regime::Import),
        ("EXA", Regime::Export),
    ] {
        let text = message("").replace("IMA", kind);
        assert_eq!(declaration(&import_bytes(text.as_bytes())).regime, regime as i32, "{kind}");
    }
    let other = message("").replace("IMA", "TXX");
    assert!(matches!(wco_message(other.as_bytes(), "a.xml"), Err(ImportError::Term { .. })));
}

#[test]
fn a_file_of_attributes_that_macos_keeps_is_skipped_by_name() {
    let mut bytes = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        ".to_vec();
    for length in [bytes.len(), MESSAGE_BYTES_MAX + 1] {
        bytes.resize(length, 0);
        match wco_message(&bytes, "._a.xml") {
            Ok(Outcome::Skipped(skipped)) => assert_eq!(skipped.root, "AppleDouble"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn links_are_found_by_normal_forms() {
    let declared = import("<FunctionalReferenceID>lrn 7</FunctionalReferenceID>");
    assert_eq!(declared.key.reference, "LRN7");
    let status = "<Response><Declaration><FunctionalReferenceID>LRN7</FunctionalReferenceID>\
                  <ID>26nl\u{a0}7</ID></Declaration></Response>";
    let status = import_bytes(status.as_bytes());
    assert_eq!(status.key, DeclarationKey { reference: "LRN7".into(), mrn: "26NL7".into() });
    let of = |scheme: Scheme| about(&status).iter().any(|s| s.starts_with(scheme.as_str_name()));
    assert!(of(Scheme::Mrn) && of(Scheme::DeclarationReference));
    let links = link_batch(&[declared, status], |_| None);
    assert_eq!(links.links.len(), 1);
}
