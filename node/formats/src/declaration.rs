//! WCO declarations (DEC) as [`v1::Declaration`].

use customhouse_proto::v1::{self, declaration::Regime, reference::Relation, subject::Scheme};

use super::{
    codes,
    error::quoted,
    terms::{ID_BYTES_MAX, Terms, take},
    xml::Element,
};

/// The element of a goods item.
pub(super) const GOODS_ITEM: &str = "GovernmentAgencyGoodsItem";

/// The parties named in the declaration itself.
const PARTIES: [&str; 8] = [
    "Agent",
    "AuthorisationHolder",
    "Declarant",
    "Exporter",
    "Importer",
    "Submitter",
    "Consignor",
    "Consignee",
];
/// The parties named in its consignment or shipment, or for one goods item.
const SHIPMENT_PARTIES: [&str; 9] = [
    "AEOMutualRecognitionParty",
    "Buyer",
    "Carrier",
    "Consignee",
    "Consignor",
    "DomesticDutyTaxParty",
    "Exporter",
    "Importer",
    "Seller",
];

/// Reads a declaration.
///
/// # Errors
/// What is wrong with `TypeCode`: a record cannot do without the regime.
pub(super) fn read(terms: &mut Terms, element: &Element) -> Result<v1::Declaration, String> {
    let type_code = terms.id(element, &["TypeCode"]);
    let function_code = terms.id(element, &["FunctionCode"]);
    let regime = regime(&type_code, &function_code, element)?;
    let nowhere = Element::nowhere();
    let shipment = element.child("GoodsShipment").unwrap_or(&nowhere);
    let consignment = shipment.child("Consignment").unwrap_or(&nowhere);
    let consignments = element.each("Consignment").chain(shipment.each("Consignment"));
    let mut declaration = v1::Declaration {
        regime: regime as i32,
        type_code,
        function_code,
        reference: terms.reference(element, &["FunctionalReferenceID"]),
        mrn: terms.subject(Scheme::Mrn, element, &["ID"]),
        ucr: terms.subject(Scheme::Ucr, shipment, &["UCR", "TraderAssignedReferenceID"]),
        lodged_at: first(|name| terms.date_time(element, name), LODGED_AT),
        office: office(terms, element),
        parties: parties(terms, element, shipment, consignment),
        invoice_total: terms.money(element, &["InvoiceAmount"]),
        gross_mass_kg: terms.kilograms(element, &["TotalGrossMassMeasure"]),
        package_count: terms.count(element, &["TotalPackageQuantity"]),
        transport_mode: terms.id(element, &["BorderTransportMeans", "ModeCode"]),
        transport_means_id: means(terms, element, consignment),
        country_departure: terms.country(shipment, &["ExportCountry", "ID"]),
        country_destination: terms.country(shipment, &["Destination", "CountryCode"]),
        ..Default::default()
    };
    for equipment in consignments.flat_map(|consignment| consignment.each("TransportEquipment")) {
        terms.container(equipment, &mut declaration.container_ids);
    }
    for parent in [element, shipment] {
        for document in parent.each("PreviousDocument") {
            declaration.previous_documents.push(terms.document(document));
        }
        for document in parent.each("AdditionalDocument") {
            declaration.supporting_documents.push(terms.document(document));
        }
    }
    for (number, element) in (1..).zip(shipment.each(GOODS_ITEM)) {
        declaration.items.push(item(terms, element, number));
    }
    Ok(declaration)
}

/// When the declaration was accepted, or else made.
const LODGED_AT: [&str; 2] = ["AcceptanceDateTime", "IssueDateTime"];

/// The first of the answers that is not empty. What comes after it stays where it is.
fn first<'n, const N: usize>(
    mut answer: impl FnMut(&'n str) -> String,
    names: [&'n str; N],
) -> String {
    names.into_iter().map(&mut answer).find(|text| !text.is_empty()).unwrap_or_default()
}

/// The regime that the type names: IM, EX, or CO for trade with special fiscal territories, where
/// the procedure tells the direction.
fn regime(type_code: &str, function_code: &str, element: &Element) -> Result<Regime, String> {
    if additional(type_code, function_code).is_some() {
        return Ok(Regime::AsReferenced);
    }
    match type_code.get(..2) {
        Some("IM") => Ok(Regime::Import),
        Some("EX") => Ok(Regime::Export),
        Some("CO") => {
            let path = ["GoodsShipment", GOODS_ITEM, "GovernmentProcedure", "CurrentCode"];
            let procedure = element.at(&path).map_or("", |element| &element.text);
            // Requested procedures 10 to 31 export, all others import.
            let exports = procedure.starts_with(['1', '2', '3']);
            Ok(if exports { Regime::Export } else { Regime::Import })
        }
        _ if is_transit(type_code) => Ok(Regime::Transit),
        _ => {
            let types = "IM, EX, CO, TR, T, T1, T2, T2F, T2SM, TD, TIR, ATA";
            Err(format!("{} names no regime ({types})", quoted(type_code)))
        }
    }
}

/// The types of transit: national ones that begin with `TR`; those of the Union and of common transit
/// (external, internal, mixed, to special territories and San Marino); under a TIR or ATA carnet, and
/// under another transport document.
fn is_transit(type_code: &str) -> bool {
    matches!(type_code, "T" | "T1" | "T2" | "T2F" | "T2SM" | "TD" | "TIR" | "ATA")
        || ["TR", "T1", "T2"].iter().any(|start| type_code.starts_with(start))
}

/// What a message is to an earlier declaration, if it is about one: WCO function 13 is a further
/// message whose type says which, 1 cancels, 4 and 5 change and replace.
pub(super) fn additional(type_code: &str, function_code: &str) -> Option<Relation> {
    match (function_code.trim_start_matches('0'), type_code) {
        ("1", _) | ("13", "INV") => Some(Relation::Cancels),
        ("13", "GPR") => Some(Relation::Evidences),
        ("4" | "5" | "13", _) => Some(Relation::Amends),
        _ => None,
    }
}

/// The office of lodgement, or else of exit.
fn office(terms: &mut Terms, element: &Element) -> String {
    let lodgement = terms.id(element, &["DeclarationOfficeID"]);
    if lodgement.is_empty() { terms.id(element, &["ExitOffice", "ID"]) } else { lodgement }
}

/// The means of transport at the border, or else on arrival or departure.
fn means(terms: &mut Terms, element: &Element, consignment: &Element) -> String {
    let border = terms.id(element, &["BorderTransportMeans", "ID"]);
    if !border.is_empty() {
        return border;
    }
    first(
        |name| terms.id(consignment, &[name, "ID"]),
        ["ArrivalTransportMeans", "DepartureTransportMeans"],
    )
}

fn parties(
    terms: &mut Terms,
    element: &Element,
    shipment: &Element,
    consignment: &Element,
) -> Vec<v1::Party> {
    let mut parties = Vec::new();
    let nowhere = Element::nowhere();
    // Carrier and consignor stand in a consignment beside the shipment in export declarations.
    let carriage = element.child("Consignment").unwrap_or(&nowhere);
    for party in element.children.iter().filter(|child| is_one_of(child, &PARTIES)) {
        terms.party(party, &mut parties);
    }
    for parent in [carriage, shipment, consignment] {
        shipment_parties(terms, parent, &mut parties);
    }
    parties
}

fn is_one_of(element: &Element, names: &[&str]) -> bool {
    !element.foreign && names.contains(&&*element.name)
}

fn shipment_parties(terms: &mut Terms, parent: &Element, into: &mut Vec<v1::Party>) {
    for party in parent.children.iter().filter(|child| is_one_of(child, &SHIPMENT_PARTIES)) {
        terms.party(party, into);
    }
}

/// A goods item; `number` is its place among the items, for one that does not say.
fn item(terms: &mut Terms, element: &Element, number: u32) -> v1::GoodsItem {
    let nowhere = Element::nowhere();
    let commodity = element.child("Commodity").unwrap_or(&nowhere);
    let mut item = v1::GoodsItem {
        sequence: sequence(terms, element, number),
        hs_code: tariff_code(terms, commodity),
        description: terms.text(commodity, &["Description"]),
        country_origin: origin(terms, element),
        value: terms.money(commodity, &["InvoiceLine", "ItemChargeAmount"]),
        statistical_value: terms.money(element, &["StatisticalValueAmount"]),
        net_mass_kg: terms.kilograms(commodity, &["GoodsMeasure", "NetNetWeightMeasure"]),
        gross_mass_kg: terms.kilograms(commodity, &["GoodsMeasure", "GrossMassMeasure"]),
        supplementary_quantity: terms.decimal(commodity, &["GoodsMeasure", "TariffQuantity"]),
        ucr: terms.subject(Scheme::Ucr, element, &["UCR", "TraderAssignedReferenceID"]),
        ..Default::default()
    };
    procedures(terms, element, &mut item);
    for packaging in element.each("Packaging") {
        item.packages.push(v1::Package {
            type_code: terms.id(packaging, &["TypeCode"]),
            count: terms.count(packaging, &["QuantityQuantity"]),
            marks: terms.text(packaging, &["MarksNumbersID"]),
        });
    }
    for document in element.each("PreviousDocument") {
        item.previous_documents.push(terms.document(document));
    }
    for document in element.each("AdditionalDocument") {
        item.supporting_documents.push(terms.document(document));
    }
    for equipment in commodity.each("TransportEquipment") {
        terms.container(equipment, &mut item.container_ids);
    }
    item.taxes = commodity.each("DutyTaxFee").filter_map(|tax| terms.tax(tax, 0)).collect();
    shipment_parties(terms, element, &mut item.parties);
    item
}

/// The sequence that a goods item states, or else its place.
pub(super) fn sequence(terms: &mut Terms, element: &Element, number: u32) -> u32 {
    let stated = element.child("SequenceNumeric").map_or("", |element| &element.text);
    match stated.parse::<u32>() {
        Ok(_) => u32::try_from(terms.count(element, &["SequenceNumeric"])).unwrap_or(number),
        Err(_) => number,
    }
}

/// The code of the tariff (`TSP`, as in the Combined Nomenclature) with the national digits
/// (`TRC`) behind it. Other classifications are left.
fn tariff_code(terms: &mut Terms, commodity: &Element) -> String {
    let mut code = String::new();
    for kind in ["TSP", "TRC"] {
        let classification = commodity.each("Classification").find(|classification| {
            let stated = classification.child("IdentificationTypeCode");
            stated.map_or("", |stated| &stated.text) == kind
        });
        let Some(classification) = classification else { continue };
        let Some(id) = classification.child("ID").filter(|id| codes::is_digits(&id.text)) else {
            continue;
        };
        // National digits alone are not a code.
        if kind == "TRC" && code.is_empty() || code.len() + id.text.len() > ID_BYTES_MAX {
            continue;
        }
        code.push_str(&take(id));
        // Eight digits and two are told apart again in the code; of others, it is kept which they were.
        let is_usual = id.text.len() == if kind == "TSP" { 8 } else { 2 };
        if let Some(stated) = classification.child("IdentificationTypeCode").filter(|_| is_usual) {
            stated.taken.set(true);
        }
    }
    if !code.is_empty() {
        terms.check_tariff_code(&code);
    }
    code
}

/// The non-preferential origin (type 1), or else the first that is stated.
fn origin(terms: &mut Terms, element: &Element) -> String {
    let non_preferential = element
        .each("Origin")
        .find(|origin| origin.child("TypeCode").is_some_and(|type_code| type_code.text == "1"));
    match non_preferential.or_else(|| element.child("Origin")) {
        Some(origin) => terms.country(origin, &["CountryCode"]),
        None => String::new(),
    }
}

/// The procedure is stated with the previous one; additional procedures stand alone.
fn procedures(terms: &mut Terms, element: &Element, item: &mut v1::GoodsItem) {
    for procedure in element.each("GovernmentProcedure") {
        let previous = procedure.child("PreviousCode").is_some();
        if previous && !item.procedure.is_empty() {
            continue;
        }
        let current = terms.id(procedure, &["CurrentCode"]);
        if previous {
            item.procedure = current + &terms.id(procedure, &["PreviousCode"]);
        } else if !current.is_empty() {
            item.additional_procedures.push(current);
        }
    }
}
