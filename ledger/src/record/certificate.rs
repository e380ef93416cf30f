//! Certificates and licences for goods.

use customhouse_proto::v1::{self, subject::Scheme};

use super::{RecordError, kind::Kind};
use crate::record::subject::Subjects;

impl Kind for v1::Certificate {
    fn name(&self) -> &'static str {
        "certificate"
    }

    fn field(&self) -> &'static str {
        "certificate.id"
    }

    fn own_id(&self) -> &str {
        ""
    }

    fn check(&self) -> Result<(), RecordError> {
        Ok(())
    }

    fn add_subjects(&self, to: &mut Subjects<'_>) {
        to.add(Scheme::Certificate, &self.id);
        to.add_parties(&self.holder);
    }

    fn summary(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }
}
