//! Seizures, penalties and their kin.

use customhouse_proto::v1::{self, subject::Scheme};

use super::{RecordError, kind::Kind};
use crate::record::subject::Subjects;

impl Kind for v1::EnforcementAction {
    fn name(&self) -> &'static str {
        "enforcement action"
    }

    fn field(&self) -> &'static str {
        "enforcement_action.case_id"
    }

    fn own_id(&self) -> &str {
        ""
    }

    fn check(&self) -> Result<(), RecordError> {
        Ok(())
    }

    fn add_subjects(&self, to: &mut Subjects<'_>) {
        to.add(Scheme::Case, &self.case_id);
        to.add(Scheme::Mrn, &self.mrn);
        to.add_parties(&self.party);
    }

    fn summary(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }
}
