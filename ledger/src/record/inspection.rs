//! What an inspection found.

use customhouse_proto::v1::{self, subject::Scheme};

use super::{RecordError, kind::Kind};
use crate::record::subject::Subjects;

impl Kind for v1::Inspection {
    fn name(&self) -> &'static str {
        "inspection"
    }

    fn field(&self) -> &'static str {
        "inspection.mrn"
    }

    fn own_id(&self) -> &str {
        ""
    }

    fn check(&self) -> Result<(), RecordError> {
        Ok(())
    }

    fn add_subjects(&self, to: &mut Subjects<'_>) {
        to.add(Scheme::Mrn, &self.mrn);
        to.add_each(Scheme::Container, &self.container_ids);
    }

    fn summary(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }
}
