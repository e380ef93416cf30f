//! Which path of a message is mapped to which field of a record: the table that the importer is held to.

use std::collections::{BTreeMap, BTreeSet};

use customhouse_proto::v1::{self, record::Body};

/// Below the message itself.
const TOP: &[&str] = &[""];
/// Where a declaration names the parties and documents of the whole of it.
const SHIPMENT: &[&str] = &["", "GoodsShipment/"];
const CONSIGNMENTS: &[&str] = &["Consignment/", "GoodsShipment/Consignment/"];
const PARTIES: &[&str] = &["", "Consignment/", "GoodsShipment/", "GoodsShipment/Consignment/"];
/// Where a status tells taxes.
const STATUS_TAXES: &[&str] = &[
    "Declaration/DutyTaxFee/",
    "Declaration/GoodsShipment/GovernmentAgencyGoodsItem/Commodity/DutyTaxFee/",
];
/// Where a status says why.
const REASONS: &[&str] = &["Error/", "AdditionalInformation/"];

/// What the fields of a message, or of one goods item, hold, by the paths that are mapped to them.
#[derive(Default)]
pub(super) struct Fields {
    of_path: BTreeMap<String, usize>,
    values: Vec<Vec<String>>,
}

/// What the fields of a record hold: those of the whole, and those of each goods item of a declaration.
pub(super) fn fields_of(body: &Body) -> (Fields, Vec<Fields>) {
    match body {
        Body::Declaration(d) => {
            (Fields::of_declaration(d), d.items.iter().map(Fields::of_item).collect())
        }
        Body::DeclarationStatus(status) => (Fields::of_status(status), Vec::new()),
        other => panic!("not imported: {other:?}"),
    }
}

impl Fields {
    /// Takes a value from the fields that a path is mapped to; false where they do not hold it, or no longer.
    pub(super) fn take(&mut self, path: &str, value: &str) -> bool {
        let Some(place) = self.of_path.get(path) else { return false };
        let held = &mut self.values[*place];
        let Some(at) = held.iter().position(|known| known == value) else { return false };
        held.swap_remove(at);
        true
    }

    /// A value of one field, to which each of these paths may lead.
    fn hold(&mut self, above: &[&str], names: &[&str], value: &str) {
        let mut paths = Vec::new();
        for start in above {
            paths.extend(names.iter().map(|name| format!("{start}{name}")));
        }
        let new = self.values.len();
        let place = *self.of_path.entry(paths[0].clone()).or_insert(new);
        if place == new {
            self.values.push(Vec::new());
            self.of_path.extend(paths.into_iter().map(|path| (path, place)));
        }
        self.values[place].push(value.to_owned());
    }

    fn money(&mut self, above: &[&str], names: &[&str], money: Option<&v1::Money>) {
        let Some(v1::Money { amount, currency }) = money else { return };
        self.hold(above, names, amount);
        let attributes: Vec<String> =
            names.iter().map(|name| format!("{name}@currencyID")).collect();
        let attributes: Vec<&str> = attributes.iter().map(String::as_str).collect();
        self.hold(above, &attributes, currency);
    }

    fn parties(&mut self, above: &[&str], parties: &[v1::Party]) {
        for v1::Party { role, id, name, country } in parties {
            for (element, value) in [("ID", id), ("Name", name), ("Address/CountryCode", country)] {
                self.hold(above, &[format!("{role}/{element}").as_str()], value);
            }
        }
    }

    fn documents(&mut self, above: &[&str], class: &str, documents: &[v1::DocumentReference]) {
        for v1::DocumentReference { category, type_code, id, item } in documents {
            for (element, value) in [
                ("CategoryCode", category),
                ("TypeCode", type_code),
                ("ID", id),
                ("LineNumeric", item),
            ] {
                self.hold(above, &[format!("{class}/{element}").as_str()], value);
            }
        }
    }

    fn taxes(&mut self, above: &[&str], taxes: &[v1::Tax]) {
        for v1::Tax { type_code, rate, amount, payment_method, base, item: _ } in taxes {
            self.hold(above, &["TypeCode"], type_code);
            self.hold(above, &["TaxRateNumeric"], rate);
            self.hold(above, &["Payment/MethodCode"], payment_method);
            let paid = ["Payment/TaxAssessedAmount", "Payment/PaymentAmount"];
            self.money(above, &paid, amount.as_ref());
            self.money(above, &["AdValoremTaxBaseAmount"], base.as_ref());
        }
    }

    fn of_declaration(d: &v1::Declaration) -> Self {
        let mut fields = Self::default();
        let mut hold = |names: &[&str], value: &str| fields.hold(TOP, names, value);
        hold(&["TypeCode"], &d.type_code);
        hold(&["FunctionCode"], &d.function_code);
        hold(&["FunctionalReferenceID"], &d.reference);
        hold(&["ID"], &d.mrn);
        hold(&["GoodsShipment/UCR/TraderAssignedReferenceID"], &d.ucr);
        hold(&["AcceptanceDateTime/DateTimeString", "IssueDateTime/DateTimeString"], &d.lodged_at);
        hold(&["DeclarationOfficeID", "ExitOffice/ID"], &d.office);
        hold(&["TotalGrossMassMeasure"], &d.gross_mass_kg);
        hold(&["TotalPackageQuantity"], &d.package_count.to_string());
        hold(&["BorderTransportMeans/ModeCode"], &d.transport_mode);
        let means = [
            "BorderTransportMeans/ID",
            "GoodsShipment/Consignment/ArrivalTransportMeans/ID",
            "GoodsShipment/Consignment/DepartureTransportMeans/ID",
        ];
        hold(&means, &d.transport_means_id);
        hold(&["GoodsShipment/ExportCountry/ID"], &d.country_departure);
        hold(&["GoodsShipment/Destination/CountryCode"], &d.country_destination);
        fields.money(TOP, &["InvoiceAmount"], d.invoice_total.as_ref());
        for id in &d.container_ids {
            fields.hold(CONSIGNMENTS, &["TransportEquipment/ID"], id);
        }
        fields.parties(PARTIES, &d.parties);
        fields.documents(SHIPMENT, "PreviousDocument", &d.previous_documents);
        fields.documents(SHIPMENT, "AdditionalDocument", &d.supporting_documents);
        fields
    }

    fn of_item(item: &v1::GoodsItem) -> Self {
        let mut fields = Self::default();
        let mut hold = |names: &[&str], value: &str| fields.hold(TOP, names, value);
        hold(&["SequenceNumeric"], &item.sequence.to_string());
        // The digits of the tariff, and those of the country behind them.
        cuts(&item.hs_code).for_each(|(start, end)| {
            hold(&["Commodity/Classification/ID"], start);
            hold(&["Commodity/Classification/ID"], end);
        });
        cuts(&item.procedure).for_each(|(current, previous)| {
            hold(&["GovernmentProcedure/CurrentCode"], current);
            hold(&["GovernmentProcedure/PreviousCode"], previous);
        });
        for code in &item.additional_procedures {
            hold(&["GovernmentProcedure/CurrentCode"], code);
        }
        hold(&["Commodity/Description"], &item.description);
        hold(&["Origin/CountryCode"], &item.country_origin);
        hold(&["Commodity/GoodsMeasure/NetNetWeightMeasure"], &item.net_mass_kg);
        hold(&["Commodity/GoodsMeasure/GrossMassMeasure"], &item.gross_mass_kg);
        hold(&["Commodity/GoodsMeasure/TariffQuantity"], &item.supplementary_quantity);
        hold(&["UCR/TraderAssignedReferenceID"], &item.ucr);
        for v1::Package { type_code, count, marks } in &item.packages {
            hold(&["Packaging/TypeCode"], type_code);
            hold(&["Packaging/QuantityQuantity"], &count.to_string());
            hold(&["Packaging/MarksNumbersID"], marks);
        }
        for id in &item.container_ids {
            hold(&["Commodity/TransportEquipment/ID"], id);
        }
        fields.money(TOP, &["Commodity/InvoiceLine/ItemChargeAmount"], item.value.as_ref());
        fields.money(TOP, &["StatisticalValueAmount"], item.statistical_value.as_ref());
        fields.documents(TOP, "PreviousDocument", &item.previous_documents);
        fields.documents(TOP, "AdditionalDocument", &item.supporting_documents);
        fields.taxes(&["Commodity/DutyTaxFee/"], &item.taxes);
        fields.parties(TOP, &item.parties);
        fields
    }

    fn of_status(status: &v1::DeclarationStatus) -> Self {
        let mut fields = Self::default();
        let mut hold = |names: &[&str], value: &str| fields.hold(TOP, names, value);
        hold(&["FunctionCode"], &status.function_code);
        hold(&["FunctionalReferenceID"], &status.reference);
        hold(&["IssueDateTime/DateTimeString"], &status.issued_at);
        hold(&["Declaration/FunctionalReferenceID"], &status.declaration_reference);
        hold(&["Declaration/ID"], &status.mrn);
        hold(&["Declaration/VersionID"], &status.version);
        // A goods item says its number once, and each of its taxes has it.
        let items: BTreeSet<u32> = status.taxes.iter().map(|tax| tax.item).collect();
        for item in items {
            let path = "Declaration/GoodsShipment/GovernmentAgencyGoodsItem/SequenceNumeric";
            hold(&[path], &item.to_string());
        }
        for v1::StatusReason { code, type_code, text, pointer } in &status.reasons {
            fields.hold(REASONS, &["ValidationCode", "StatementCode"], code);
            fields.hold(REASONS, &["StatementTypeCode"], type_code);
            fields.hold(REASONS, &["Description", "StatementDescription"], text);
            for part in pointer.split(['/', '[', ']', '.']) {
                let steps = ["DocumentSectionCode", "SequenceNumeric", "TagID"];
                let steps = steps.map(|step| format!("Pointer/{step}"));
                fields.hold(REASONS, &steps.each_ref().map(String::as_str), part);
            }
        }
        fields.taxes(STATUS_TAXES, &status.taxes);
        fields
    }
}

/// The ways to cut a text in two, either part of which may be empty.
fn cuts(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let places = text.char_indices().map(|(at, _)| at).chain([text.len()]);
    places.map(move |at| text.split_at(at))
}
