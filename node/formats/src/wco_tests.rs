//! What a message becomes, what is refused, and that nothing panics.

use proptest::prelude::*;

use super::*;
use crate::warning::WARNINGS_MAX;

const DECLARATION: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<md:MetaData xmlns:md="urn:m" xmlns="urn:d" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation="urn:m x.xsd">
  <md:WCODataModelVersionCode>3.6</md:WCODataModelVersionCode>
  <md:WCOTypeName>DEC</md:WCOTypeName>
  <Declaration>
    <AcceptanceDateTime><DateTimeString formatCode="304">20260110090000Z</DateTimeString></AcceptanceDateTime>
    <FunctionCode>9</FunctionCode>
    <FunctionalReferenceID>LRN-1</FunctionalReferenceID>
    <TypeCode>IMA</TypeCode>
    <DeclarationOfficeID>NL000396</DeclarationOfficeID>
    <InvoiceAmount currencyID="EUR">1500.5</InvoiceAmount>
    <TotalPackageQuantity>12</TotalPackageQuantity>
    <Declarant><ID>NL123</ID><Unheard deep="yes">of</Unheard></Declarant>
    <GoodsShipment>
      <Consignment>
        <TransportEquipment><ID>CSQU3054383</ID></TransportEquipment>
        <TransportEquipment><ID>CSQU3054384</ID></TransportEquipment>
      </Consignment>
      <ExportCountry><ID>ZZ</ID></ExportCountry>
      <GovernmentAgencyGoodsItem>
        <SequenceNumeric>1</SequenceNumeric>
        <Commodity>
          <Description>Tulip bulbs &amp; soil</Description>
          <Classification><ID>06011090</ID><IdentificationTypeCode>TSP</IdentificationTypeCode></Classification>
          <Classification><ID>10</ID><IdentificationTypeCode>TRC</IdentificationTypeCode></Classification>
          <Classification><ID>VATZ</ID><IdentificationTypeCode>GN</IdentificationTypeCode></Classification>
          <DutyTaxFee><TypeCode>A00</TypeCode><TaxRateNumeric>5.1</TaxRateNumeric>
            <Payment><TaxAssessedAmount currencyID="EUR">76.53</TaxAssessedAmount><PaymentAmount currencyID="EUR">76.53</PaymentAmount></Payment>
          </DutyTaxFee>
          <GoodsMeasure><NetNetWeightMeasure unitCode="KGM">1e3</NetNetWeightMeasure></GoodsMeasure>
        </Commodity>
        <GovernmentProcedure><CurrentCode>40</CurrentCode><PreviousCode>00</PreviousCode></GovernmentProcedure>
        <GovernmentProcedure><CurrentCode>C07</CurrentCode></GovernmentProcedure>
        <Origin><CountryCode>Wales</CountryCode><TypeCode>1</TypeCode></Origin>
      </GovernmentAgencyGoodsItem>
      <PreviousDocument><CategoryCode>Z</CategoryCode><ID>6NL123-A1</ID><TypeCode>DCR</TypeCode></PreviousDocument>
    </GoodsShipment>
  </Declaration>
</md:MetaData>"#;

fn import(text: &str) -> Imported {
    match wco_message(text.as_bytes(), "a.xml") {
        Ok(Outcome::Imported(imported)) => *imported,
        other => panic!("{text} gave {other:?}"),
    }
}

fn declaration(imported: &Imported) -> &v1::Declaration {
    match &imported.record.body {
        Some(Body::Declaration(declaration)) => declaration,
        other => panic!("a declaration expected, not {other:?}"),
    }
}

fn named(extensions: &[v1::Extension]) -> Vec<(&str, &str)> {
    extensions.iter().map(|extension| (&*extension.name, &*extension.value)).collect()
}

fn refused(bytes: &[u8]) -> String {
    wco_message(bytes, "a.xml").expect_err("refused").to_string()
}

#[test]
fn a_declaration_fills_its_fields() {
    let imported = import(DECLARATION);
    let declaration = declaration(&imported);
    assert_eq!(declaration.regime, v1::declaration::Regime::Import as i32);
    assert_eq!(declaration.lodged_at, "20260110090000Z");
    assert_eq!(declaration.office, "NL000396");
    let total = v1::Money { amount: "1500.5".into(), currency: "EUR".into() };
    assert_eq!(declaration.invoice_total, Some(total));
    assert_eq!(declaration.container_ids, ["CSQU3054383", "CSQU3054384"]);
    let item = &declaration.items[0];
    assert_eq!(item.hs_code, "0601109010");
    assert_eq!(item.description, "Tulip bulbs & soil");
    assert_eq!(item.net_mass_kg, "1000");
    assert_eq!((&*item.procedure, &item.additional_procedures[..]), ("4000", &["C07".into()][..]));
    let tax = &item.taxes[0];
    assert_eq!((&*tax.type_code, &*tax.rate), ("A00", "5.1"));
    assert_eq!(tax.amount.as_ref().map(|amount| &*amount.amount), Some("76.53"));
    let source = imported.record.source.as_ref().expect("source");
    assert_eq!(source.content, DECLARATION.as_bytes());
    assert_eq!(source.format, "WCO-DM/3.6/DEC");
    let about = v1::Subject { scheme: v1::subject::Scheme::Ucr as i32, id: "6NL123-A1".into() };
    assert_eq!(imported.record.subjects, [about]);
    let key = DeclarationKey { reference: "LRN-1".into(), mrn: String::new() };
    assert_eq!((imported.role, imported.key), (MessageRole::Declaration, key));
}

#[test]
fn what_has_no_field_is_an_extension_by_its_path() {
    let imported = import(DECLARATION);
    let declaration = declaration(&imported);
    assert_eq!(
        named(&declaration.extensions),
        [
            ("/MetaData/WCODataModelVersionCode", "3.6"),
            ("/MetaData/WCOTypeName", "DEC"),
            ("Declarant/Unheard", "of"),
            ("Declarant/Unheard@deep", "yes"),
        ]
    );
    assert_eq!(
        named(&declaration.items[0].extensions),
        [
            ("Commodity/Classification[3]/ID", "VATZ"),
            ("Commodity/Classification[3]/IdentificationTypeCode", "GN"),
            ("Commodity/GoodsMeasure/NetNetWeightMeasure", "1e3"),
            ("Origin/CountryCode", "Wales"),
            ("Origin/TypeCode", "1"),
        ]
    );
}

#[test]
fn strange_codes_warn_and_are_imported() {
    let country = |field: &str| Warning::CountryUnknown { field: field.into() };
    let imported = import(DECLARATION);
    assert_eq!(
        imported.warnings,
        [
            country("ExportCountry/ID"),
            Warning::Country { field: "CountryCode".into(), value: "Wales".into() },
            Warning::ContainerCheckDigit("CSQU3054384".into()),
        ]
    );
    let containers = "<TransportEquipment><ID>X1</ID></TransportEquipment>";
    let many: String = (0..100).map(|n| containers.replace("X1", &format!("X{n}"))).collect();
    let imported = import(
        &DECLARATION
            .replace("<TransportEquipment><ID>CSQU3054383</ID></TransportEquipment>", &many),
    );
    assert_eq!(imported.warnings.len(), WARNINGS_MAX);
    assert_eq!(imported.warnings.last(), Some(&Warning::More(103 - 31)));
}

#[test]
fn a_response_becomes_a_status() {
    let imported = import(
        "<MetaData><WCODataModelVersionCode>3.7</WCODataModelVersionCode><Response>\
         <FunctionCode>03</FunctionCode><FunctionalReferenceID>N1</FunctionalReferenceID>\
         <IssueDateTime><DateTimeString formatCode=\"304\">20260101</DateTimeString></IssueDateTime>\
         <Error><Description>Too dear</Description><ValidationCode>E1</ValidationCode>\
         <Pointer><DocumentSectionCode>42A</DocumentSectionCode></Pointer>\
         <Pointer><SequenceNumeric>2</SequenceNumeric><DocumentSectionCode>68A</DocumentSectionCode>\
         <TagID>112</TagID></Pointer></Error>\
         <Declaration><FunctionalReferenceID>LRN-1</FunctionalReferenceID><ID>26NL1</ID>\
         <VersionID>1</VersionID><GoodsShipment><GovernmentAgencyGoodsItem>\
         <SequenceNumeric>4</SequenceNumeric><Commodity><DutyTaxFee>\
         <AdValoremTaxBaseAmount currencyID=\"GBP\">10.00</AdValoremTaxBaseAmount>\
         <TypeCode>B00</TypeCode></DutyTaxFee></Commodity></GovernmentAgencyGoodsItem>\
         </GoodsShipment></Declaration></Response></MetaData>",
    );
    let Some(Body::DeclarationStatus(status)) = &imported.record.body else { panic!("no status") };
    assert_eq!((&*status.function_code, &*status.reference), ("03", "N1"));
    assert_eq!((&*status.declaration_reference, &*status.mrn), ("LRN-1", "26NL1"));
    let reason = v1::StatusReason {
        code: "E1".into(),
        text: "Too dear".into(),
        pointer: "42A/68A[2].112".into(),
        ..Default::default()
    };
    assert_eq!(status.reasons, [reason]);
    assert_eq!(status.taxes[0].item, 4);
    assert_eq!(status.taxes[0].base.as_ref().map(|base| &*base.amount), Some("10.00"));
    assert_eq!(imported.role, MessageRole::Status);
    assert_eq!(imported.record.source.as_ref().map(|s| &*s.format), Some("WCO-DM/3.7/RES"));
}

#[test]
fn messages_are_recognised_in_any_wrapping() {
    let plain = "<Declaration><TypeCode>EXA</TypeCode></Declaration>";
    let prefixed = "<p:Declaration xmlns:p='u'><p:TypeCode>EXA</p:TypeCode></p:Declaration>";
    let unbound =
        "<q:MetaData><q:Declaration><q:TypeCode>EXA</q:TypeCode></q:Declaration></q:MetaData>";
    let lost_colon = format!("<mdMetaData>{plain}</mdMetaData>");
    let wrapped = format!(
        "<v1:submitDeclarationRequest><v1:requestCommon/><v1:requestDetail><MetaData>{plain}\
         </MetaData></v1:requestDetail></v1:submitDeclarationRequest>"
    );
    for text in [plain, prefixed, unbound, &lost_colon, &wrapped, &format!("\u{feff}\r\n{plain}")] {
        let imported = import(text);
        let regime = declaration(&imported).regime;
        assert_eq!(regime, v1::declaration::Regime::Export as i32, "{text}");
    }
    for (text, root, reason) in [
        ("<a:inventoryLinkingQueryRequest/>", "inventoryLinkingQueryRequest", "inventory linking"),
        ("<DeclarationFullResponse/>", "DeclarationFullResponse", "retrieved report"),
        ("<MetaData/>", "MetaData", "without a Declaration"),
        ("<submitDeclarationRequest/>", "submitDeclarationRequest", "without WCO MetaData"),
        ("<html/>", "html", "neither"),
    ] {
        match wco_message(text.as_bytes(), "a.xml") {
            Ok(Outcome::Skipped(skipped)) => {
                assert_eq!(skipped.root, root);
                assert!(skipped.reason.contains(reason), "{}", skipped.reason);
            }
            other => panic!("{text} gave {other:?}"),
        }
    }
}

#[test]
fn the_type_names_the_regime_or_is_refused_by_its_place() {
    use v1::declaration::Regime;
    let special = |code: &str| {
        format!(
            "<Declaration><TypeCode>COA</TypeCode><GoodsShipment><GovernmentAgencyGoodsItem>\
             <GovernmentProcedure><CurrentCode>{code}</CurrentCode></GovernmentProcedure>\
             </GovernmentAgencyGoodsItem></GoodsShipment></Declaration>"
        )
    };
    for (text, regime) in [
        (special("10"), Regime::Export),
        (special("40"), Regime::Import),
        ("<Declaration><TypeCode>TRD</TypeCode></Declaration>".into(), Regime::Transit),
        (
            "<Declaration><TypeCode>COR</TypeCode><FunctionCode>13</FunctionCode></Declaration>"
                .into(),
            Regime::AsReferenced,
        ),
    ] {
        assert_eq!(declaration(&import(&text)).regime, regime as i32, "{text}");
    }
    assert_eq!(
        refused(b"<Declaration>\n  <TypeCode>XX</TypeCode></Declaration>"),
        "a.xml:2:3: Declaration/TypeCode: \"XX\" names no regime \
         (IM, EX, CO, TR, T, T1, T2, T2F, T2SM, TD, TIR, ATA)"
    );
}

#[test]
fn a_file_that_is_not_well_formed_is_refused_with_line_and_column() {
    for (text, expected) in [
        (
            "<a>\n <b>\n</a>",
            "a.xml:3:1: not well-formed: ill-formed document: expected `</b>`, but `</a>` was found",
        ),
        ("<a>\n<!-- x-y -- y --></a>", "a.xml:2:10: not well-formed: \"--\" in a comment"),
        ("<a>é&nope;</a>", "a.xml:1:5: not well-formed: entity \"nope\" is not known"),
        ("<a>&#0;</a>", "a.xml:1:4: not well-formed:"),
        ("<a>&#x8;</a>", "a.xml:1:4: not well-formed: character '\\u{8}' is not allowed"),
        ("<a>\u{1}</a>", "a.xml:1:4: not well-formed: character '\\u{1}' is not allowed"),
        ("<a b='1' b='2'/>", "a.xml:1:1: not well-formed:"),
        ("<a b=1/>", "a.xml:1:1: not well-formed:"),
        ("<a b='1'c='2'/>", "a.xml:1:1: not well-formed: no white space after an attribute"),
        ("<a><?XML x?></a>", "a.xml:1:4: not well-formed: \"XML\" is not a target"),
        (
            "<?xml version='1.0' standalone='maybe'?><a/>",
            "a.xml:1:1: not well-formed: standalone \"maybe\" is neither yes nor no",
        ),
        (
            "<?xml version='1.0' /encoding='UTF-8'?><a/>",
            "a.xml:1:1: not well-formed: \"/encoding\" is out of place in the XML declaration",
        ),
        ("<a b='<'/>", "a.xml:1:1: not well-formed: \"<\" in the value of \"b\""),
        ("<a>]]></a>", "a.xml:1:4: not well-formed: \"]]>\" in text"),
        ("<a/><b/>", "a.xml:1:5: not well-formed: a second root element"),
        ("<a/>x", "a.xml:1:5: not well-formed: text outside the root element"),
        ("x<a/>", "a.xml:1:1: not well-formed: text outside the root element"),
        ("<a>", "a.xml:1:4: not well-formed: element \"a\" is not closed"),
        ("<a", "a.xml:1:1: not well-formed:"),
        ("<1a/>", "a.xml:1:1: not well-formed: \"1a\" is not a name"),
        ("</a>", "a.xml:1:1: not well-formed:"),
        ("", "a.xml:1:1: not well-formed: no element"),
        (
            " <?xml version='1.0'?><a/>",
            "a.xml:1:2: not well-formed: XML declaration not at the start",
        ),
        (
            "<?xml version='1.0' encoding='EBCDIC-CP-US'?><a/>",
            "a.xml:1:1: not well-formed: encoding \"EBCDIC-CP-US\" is not one of the WHATWG",
        ),
        ("<a>\r<b>\r\n &x;</a>", "a.xml:3:2: not well-formed: entity \"x\" is not known"),
    ] {
        let error = refused(text.as_bytes());
        assert!(error.starts_with(expected), "{text} gave {error}");
    }
    assert_eq!(refused(b"<a>\n\xff</a>"), "a.xml:2:1: not well-formed: not UTF-8 text");
    assert!(refused(b"\xff\xfe<\0a\0\0\xd8").contains("not UTF-16LE text"));
}

#[test]
fn document_types_and_entities_are_refused() {
    let billion = "<!DOCTYPE a [<!ENTITY l 'lol'><!ENTITY m '&l;&l;&l;&l;'>]><a>&m;</a>";
    let external = "<!DOCTYPE a SYSTEM 'file:///etc/passwd'><a/>";
    for text in [billion, external] {
        assert!(refused(text.as_bytes()).contains("document types"), "{text}");
    }
}

#[test]
fn deep_and_large_documents_are_refused() {
    let nested = |depth: usize| format!("{}{}", "<a>".repeat(depth), "</a>".repeat(depth));
    assert!(matches!(wco_message(nested(64).as_bytes(), ""), Ok(Outcome::Skipped(_))));
    assert!(refused(nested(65).as_bytes()).contains("deeper than 64"));
    assert!(refused(nested(9_000).as_bytes()).contains("deeper than 64"));
    let large = vec![b' '; SOURCE_BYTES_MAX + 1];
    assert!(matches!(wco_message(&large, ""), Err(ImportError::TooLarge { .. })));
}

#[test]
fn extensions_make_room_and_are_counted() {
    // Short values below a long path: as extensions, a hundred times the size of the source.
    let outer = "n".repeat(1_000);
    let count = MESSAGE_BYTES_MAX / 500;
    let leaves = "<l>1</l>".repeat(count);
    let text =
        format!("<Declaration><TypeCode>IMA</TypeCode><{outer}>{leaves}</{outer}></Declaration>");
    let imported = import(&text);
    assert!(imported.record.encoded_len() <= MESSAGE_BYTES_MAX);
    let kept = declaration(&imported).extensions.len();
    assert!((1..count).contains(&kept), "{kept}");
    assert_eq!(imported.warnings, [Warning::ExtensionsLeftOut(count - kept)]);
    // The source has gone beside the record, so that as much as can be is kept of what it says.
    let source = imported.record.source.as_ref().expect("one");
    assert_eq!((source.content.len(), imported.detached.as_deref()), (0, Some(text.as_bytes())));
    let size = source.attachment.as_ref().expect("beside it").size;
    assert_eq!(size, text.len() as u64);
}

#[test]
fn what_would_cost_time_or_memory_out_of_proportion_is_refused() {
    let many = |count: usize, of: &str| -> String {
        (0..count).map(|number| of.replace('#', &number.to_string())).collect()
    };
    let name = "n".repeat(1_025);
    let nested =
        (0..6).map(|depth| format!("<a {}>", many(200, &format!("xmlns:a{depth}x#='1' "))));
    let nested: String = nested.collect::<String>() + &"</a>".repeat(6);
    for (inside, reason) in [
        (format!("<a xmlns='{name}'/>"), "namespace of more than 1024"),
        (format!("<a {}/>", many(257, "a#='1' ")), "more than 256 attributes"),
        (nested, "more than 1024 namespaces"),
    ] {
        let text = format!("<Declaration><TypeCode>IMA</TypeCode>{inside}</Declaration>");
        let error = wco_message(text.as_bytes(), "").expect_err(reason).to_string();
        assert!(error.contains(reason), "{reason}: {}", &error[..100]);
    }
}

#[test]
fn a_message_takes_time_in_proportion_to_its_size() {
    // What was looked for again among all that stands beside it, once for each.
    let items = "<GovernmentAgencyGoodsItem><SequenceNumeric>1</SequenceNumeric>\
                 </GovernmentAgencyGoodsItem>";
    let boxes = "<TransportEquipment><ID>A</ID></TransportEquipment>";
    let strange =
        "<TransportEquipment><ID>\u{1}A</ID></TransportEquipment>".replace('\u{1}', "\u{e000}");
    for (before, repeated, after) in [
        ("<GoodsShipment>", items, "</GoodsShipment>"),
        ("<GoodsShipment><Consignment>", boxes, "</Consignment></GoodsShipment>"),
        ("<GoodsShipment><Consignment>", &*strange, "</Consignment></GoodsShipment>"),
        ("<GoodsShipment><PreviousDocument>", "<ID>A</ID>", "</PreviousDocument></GoodsShipment>"),
        ("", "<FunctionalReferenceID>A</FunctionalReferenceID>", ""),
        ("<a><TypeCode>A</TypeCode>", "<ID>1</ID>", "</a>"),
    ] {
        let of = |bytes: usize| {
            let repeated = repeated.repeat(bytes / repeated.len());
            format!("<Declaration><TypeCode>IMA</TypeCode>{before}{repeated}{after}</Declaration>")
        };
        let time = |bytes: usize| {
            let text = of(bytes);
            let begun = std::time::Instant::now();
            let _outcome = message_within(text.as_bytes(), "", 64 << 20);
            begun.elapsed().as_secs_f64()
        };
        let least = |bytes: usize| (0..3).map(|_| time(bytes)).fold(f64::INFINITY, f64::min);
        // Twelve times as much, and what takes the square of it would take a hundred and more.
        let (small, large) = (least(256 << 10), least(3 << 20));
        assert!(large < 0.02 + 60.0 * small, "{repeated}: {small} s, then {large} s");
    }
}

#[test]
fn values_that_do_not_fit_their_field_stay_extensions() {
    let long = "R".repeat(300);
    let imported = import(&format!(
        "<Declaration><TypeCode>IMA</TypeCode><FunctionalReferenceID>{long}</FunctionalReferenceID>\
         <TotalPackageQuantity>many</TotalPackageQuantity>\
         <InvoiceAmount currencyID='euro'>1</InvoiceAmount>\
         <TotalGrossMassMeasure unitCode='LBR'>7</TotalGrossMassMeasure></Declaration>"
    ));
    let declaration = declaration(&imported);
    assert_eq!(declaration.reference, "");
    assert_eq!(
        named(&declaration.extensions),
        [
            ("FunctionalReferenceID", &*long),
            ("TotalPackageQuantity", "many"),
            ("InvoiceAmount@currencyID", "euro"),
            ("TotalGrossMassMeasure", "7"),
            ("TotalGrossMassMeasure@unitCode", "LBR"),
        ]
    );
    assert_eq!(imported.warnings.len(), 4);
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
        let _ = wco_message(&bytes, "random");
    }

    #[test]
    fn mutated_messages_never_panic_and_stay_verbatim(
        cuts in proptest::collection::vec((0..DECLARATION.len(), 0..60_usize, any::<[u8; 3]>()), 1..6),
    ) {
        let mut bytes = DECLARATION.as_bytes().to_vec();
        for (at, length, new) in cuts {
            let start = at.min(bytes.len());
            let end = (start + length).min(bytes.len());
            bytes.splice(start..end, new.map(|byte| byte % 128));
        }
        if let Ok(Outcome::Imported(imported)) = wco_message(&bytes, "mutated") {
            prop_assert_eq!(imported.record.source.map(|source| source.content), Some(bytes));
        }
    }

    #[test]
    fn random_markup_never_panics(
        pieces in proptest::collection::vec(
            prop::sample::select(vec![
                "<a>", "</a>", "<a/>", "<Declaration>", "</Declaration>", "<TypeCode>IMA</TypeCode>",
                "<GoodsShipment>", "</GoodsShipment>", "<GovernmentAgencyGoodsItem>",
                "</GovernmentAgencyGoodsItem>", "&amp;", "&#65;", "&x;", "<![CDATA[<]]>", "<!--c-->",
                "<?p i?>", "text", " ", "\n", "<Response>", "</Response>", "<ID currencyID='E'>",
                "</ID>", "é", "-1e-3", "<SequenceNumeric>", "</SequenceNumeric>",
            ]),
            0..40,
        ),
    ) {
        let _ = wco_message(pieces.concat().as_bytes(), "markup");
    }
}

#[test]
fn no_message_takes_time_out_of_proportion_to_its_bytes() {
    let whole = |inner: &str| format!("<Declaration><TypeCode>IMA</TypeCode>{inner}</Declaration>");
    let fill = |piece: &str| piece.repeat(3_500_000 / piece.len());
    let started = std::time::Instant::now();
    for inner in [
        // Each is looked for among the others, or has a place that is counted from the start.
        format!("<GoodsShipment>{}</GoodsShipment>", fill("<GovernmentAgencyGoodsItem/>")),
        format!("<PreviousDocument>{}</PreviousDocument>", fill("<ID>1</ID>")),
        fill("<IssueDateTime><DateTimeString>never</DateTimeString></IssueDateTime>"),
        fill("<Importer><ID>?</ID></Importer>"),
        fill("<FunctionalReferenceID>x</FunctionalReferenceID>"),
        // Long names above many short texts.
        format!("<{0}>{1}</{0}>", "n".repeat(1_000_000), "<TraderID>1</TraderID>".repeat(100_000)),
    ] {
        let _whatever_comes_of_it = wco_message(whole(&inner).as_bytes(), "");
    }
    for (element, why) in [
        (
            format!("<a {}/>", (0..300).map(|n| format!("a{n}=\"\" ")).collect::<String>()),
            "attributes",
        ),
        (format!("<a xmlns=\"{}\"/>", "u".repeat(2000)), "a namespace of more than"),
    ] {
        assert!(refused(whole(&element).as_bytes()).contains(why), "{why}");
    }
    // Quadratic work on these would take minutes.
    assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
}
