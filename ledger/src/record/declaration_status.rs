//! What an agency answers to a declaration.

use customhouse_proto::v1::{self, subject::Scheme};

use super::{RecordError, fields::check_taxes, kind::Kind};
use crate::record::subject::Subjects;

impl Kind for v1::DeclarationStatus {
    fn name(&self) -> &'static str {
        "declaration status"
    }

    fn field(&self) -> &'static str {
        "declaration_status.declaration_reference"
    }

    fn own_id(&self) -> &str {
        &self.reference
    }

    fn check(&self) -> Result<(), RecordError> {
        check_taxes(&self.taxes, "declaration_status.taxes")
    }

    fn add_subjects(&self, to: &mut Subjects<'_>) {
        to.add_reference(&self.declaration_reference);
        to.add(Scheme::Mrn, &self.mrn);
    }

    fn summary(&self) -> Vec<(&'static str, String)> {
        vec![
            ("function", self.function_code.clone()),
            ("about", self.declaration_reference.clone()),
            ("mrn", self.mrn.clone()),
            ("issued", self.issued_at.clone()),
        ]
    }
}
