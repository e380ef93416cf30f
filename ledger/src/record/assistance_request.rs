//! Requests for mutual administrative assistance.

use customhouse_proto::v1::{self, subject::Scheme};

use super::{RecordError, kind::Kind};
use crate::record::subject::Subjects;

impl Kind for v1::AssistanceRequest {
    fn name(&self) -> &'static str {
        "assistance request"
    }

    fn field(&self) -> &'static str {
        "assistance_request.case_id"
    }

    fn own_id(&self) -> &str {
        ""
    }

    fn check(&self) -> Result<(), RecordError> {
        Ok(())
    }

    fn add_subjects(&self, to: &mut Subjects<'_>) {
        to.add(Scheme::Case, &self.case_id);
    }

    fn summary(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }
}
