//! Bills of lading, waybills and their kin.

use customhouse_proto::v1::{self, subject::Scheme};

use super::{RecordError, kind::Kind};
use crate::record::subject::Subjects;

impl Kind for v1::TransportDocument {
    fn name(&self) -> &'static str {
        "transport document"
    }

    fn field(&self) -> &'static str {
        "transport_document.id"
    }

    fn own_id(&self) -> &str {
        ""
    }

    fn check(&self) -> Result<(), RecordError> {
        Ok(())
    }

    fn add_subjects(&self, to: &mut Subjects<'_>) {
        to.add(Scheme::TransportDocument, &self.id);
        to.add(Scheme::Ucr, &self.ucr);
        to.add_each(Scheme::Container, &self.container_ids);
        to.add_parties(&self.parties);
    }

    fn summary(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }
}
