//! Proof that a validator's key broke a rule. Its signatures are checked with the transaction, which
//! knows the chain.

use customhouse_proto::v1::{self, subject::Scheme};

use super::{RecordError, kind::Kind};
use crate::{finality::evidence::Evidence, record::subject::Subjects};

impl Kind for v1::Misbehaviour {
    fn name(&self) -> &'static str {
        "misbehaviour"
    }

    fn field(&self) -> &'static str {
        "misbehaviour.first"
    }

    fn own_id(&self) -> &str {
        ""
    }

    fn check(&self) -> Result<(), RecordError> {
        Evidence::from_proto(self).map(drop).map_err(RecordError::Misbehaviour)
    }

    fn add_subjects(&self, to: &mut Subjects<'_>) {
        if let Ok(evidence) = Evidence::from_proto(self) {
            to.add(Scheme::ValidatorKey, &evidence.culprit().to_string());
        }
    }

    fn summary(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }
}
