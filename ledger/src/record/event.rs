//! What happened to goods on their way.

use customhouse_proto::v1::{self, subject::Scheme};

use super::{RecordError, kind::Kind};
use crate::record::subject::Subjects;

impl Kind for v1::Event {
    fn name(&self) -> &'static str {
        "event"
    }

    fn field(&self) -> &'static str {
        "event.epcs"
    }

    fn own_id(&self) -> &str {
        &self.event_id
    }

    fn check(&self) -> Result<(), RecordError> {
        Ok(())
    }

    fn add_subjects(&self, to: &mut Subjects<'_>) {
        to.add_each(Scheme::Epc, &self.epcs);
    }

    fn summary(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }
}
