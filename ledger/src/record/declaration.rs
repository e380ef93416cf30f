//! Declarations of goods, with their items.

use customhouse_proto::v1::{self, subject::Scheme};

use super::{
    RecordError,
    fields::{check_money, check_optional, check_taxes},
    kind::Kind,
};
use crate::record::subject::Subjects;

impl Kind for v1::Declaration {
    fn name(&self) -> &'static str {
        "declaration"
    }

    fn field(&self) -> &'static str {
        "declaration.reference"
    }

    fn own_id(&self) -> &str {
        ""
    }

    fn check(&self) -> Result<(), RecordError> {
        let known = v1::declaration::Regime::try_from(self.regime)
            .is_ok_and(|regime| regime != v1::declaration::Regime::Unspecified);
        if !known {
            return Err(RecordError::Enumeration("declaration.regime"));
        }
        check_money(self.invoice_total.as_ref(), "declaration.invoice_total")?;
        check_optional(&self.gross_mass_kg, "declaration.gross_mass_kg")?;
        self.items.iter().try_for_each(check_item)
    }

    fn add_subjects(&self, to: &mut Subjects<'_>) {
        to.add_reference(&self.reference);
        to.add(Scheme::Mrn, &self.mrn);
        to.add(Scheme::Ucr, &self.ucr);
        to.add_each(Scheme::Container, &self.container_ids);
        to.add_parties(&self.parties);
        for item in &self.items {
            to.add(Scheme::Ucr, &item.ucr);
            to.add_each(Scheme::Container, &item.container_ids);
            to.add_parties(&item.parties);
        }
    }

    fn summary(&self) -> Vec<(&'static str, String)> {
        let codes: Vec<_> = self.items.iter().map(|item| &*item.hs_code).collect();
        vec![
            ("regime", self.regime().as_str_name().to_owned()),
            ("type", self.type_code.clone()),
            ("reference", self.reference.clone()),
            ("mrn", self.mrn.clone()),
            ("ucr", self.ucr.clone()),
            ("hs codes", codes.join(" ")),
        ]
    }
}

fn check_item(item: &v1::GoodsItem) -> Result<(), RecordError> {
    check_money(item.value.as_ref(), "declaration.items.value")?;
    check_money(item.statistical_value.as_ref(), "declaration.items.statistical_value")?;
    check_optional(&item.net_mass_kg, "declaration.items.net_mass_kg")?;
    check_optional(&item.gross_mass_kg, "declaration.items.gross_mass_kg")?;
    check_optional(&item.supplementary_quantity, "declaration.items.supplementary_quantity")?;
    check_taxes(&item.taxes, "declaration.items.taxes")
}
