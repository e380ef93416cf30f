//! Alerts of an agency to the others.

use customhouse_proto::v1::{self, subject::Scheme};

use super::{RecordError, check_subjects, kind::Kind};
use crate::record::subject::Subjects;

impl Kind for v1::RiskAlert {
    fn name(&self) -> &'static str {
        "risk alert"
    }

    fn field(&self) -> &'static str {
        "risk_alert.alert_id"
    }

    fn own_id(&self) -> &str {
        ""
    }

    fn check(&self) -> Result<(), RecordError> {
        check_subjects(&self.about)
    }

    fn add_subjects(&self, to: &mut Subjects<'_>) {
        to.add(Scheme::Case, &self.alert_id);
        for subject in &self.about {
            to.add_raw(subject.scheme, &subject.id);
        }
    }

    fn summary(&self) -> Vec<(&'static str, String)> {
        vec![("alert", self.alert_id.clone()), ("risk", self.risk_code.clone())]
    }
}
