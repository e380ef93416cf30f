//! WCO responses (RES) as [`v1::DeclarationStatus`].

use customhouse_proto::v1::{self, subject::Scheme};

use super::{
    declaration::{GOODS_ITEM, sequence},
    terms::Terms,
    xml::Element,
};

/// Reads a response.
pub(super) fn read(terms: &mut Terms, element: &Element) -> v1::DeclarationStatus {
    let nowhere = Element::nowhere();
    let declaration = element.child("Declaration").unwrap_or(&nowhere);
    v1::DeclarationStatus {
        function_code: terms.id(element, &["FunctionCode"]),
        reference: terms.id(element, &["FunctionalReferenceID"]),
        issued_at: terms.date_time(element, "IssueDateTime"),
        declaration_reference: terms.reference(declaration, &["FunctionalReferenceID"]),
        mrn: terms.subject(Scheme::Mrn, declaration, &["ID"]),
        version: terms.id(declaration, &["VersionID"]),
        reasons: reasons(terms, element),
        taxes: taxes(terms, declaration),
        extensions: Vec::new(),
    }
}

/// Errors found, and statements of customs.
fn reasons(terms: &mut Terms, element: &Element) -> Vec<v1::StatusReason> {
    let mut reasons = Vec::new();
    for error in element.each("Error") {
        reasons.push(v1::StatusReason {
            code: terms.id(error, &["ValidationCode"]),
            type_code: String::new(),
            text: terms.text(error, &["Description"]),
            pointer: terms.pointer(error),
        });
    }
    for statement in element.each("AdditionalInformation") {
        reasons.push(v1::StatusReason {
            code: terms.id(statement, &["StatementCode"]),
            type_code: terms.id(statement, &["StatementTypeCode"]),
            text: terms.text(statement, &["StatementDescription"]),
            pointer: terms.pointer(statement),
        });
    }
    reasons.retain(|reason| *reason != v1::StatusReason::default());
    reasons
}

/// Duties and taxes of the whole declaration, then of each goods item.
fn taxes(terms: &mut Terms, declaration: &Element) -> Vec<v1::Tax> {
    let mut taxes: Vec<v1::Tax> =
        declaration.each("DutyTaxFee").filter_map(|tax| terms.tax(tax, 0)).collect();
    let items = declaration.each("GoodsShipment").flat_map(|shipment| shipment.each(GOODS_ITEM));
    for (number, item) in (1..).zip(items) {
        let commodities = item.each("Commodity");
        let stated = commodities.flat_map(|commodity| commodity.each("DutyTaxFee"));
        let stated: Vec<_> = stated.filter_map(|tax| terms.tax(tax, 0)).collect();
        // The item's sequence is told with its taxes, or not taken.
        if stated.is_empty() {
            continue;
        }
        let item = sequence(terms, item, number);
        taxes.extend(stated.into_iter().map(|tax| v1::Tax { item, ..tax }));
    }
    taxes
}
