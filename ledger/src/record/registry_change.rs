//! Changes of the registry. Their approvals are checked with the transaction, which knows the chain.

use customhouse_proto::v1::{self, subject::Scheme};

use super::{RecordError, kind::Kind};
use crate::{record::subject::Subjects, registry::RegistryChange};

impl Kind for v1::RegistryChange {
    fn name(&self) -> &'static str {
        "registry change"
    }

    fn field(&self) -> &'static str {
        "registry_change.proposal"
    }

    fn own_id(&self) -> &str {
        ""
    }

    fn check(&self) -> Result<(), RecordError> {
        RegistryChange::from_proto(self).map(drop).map_err(RecordError::RegistryChange)
    }

    fn add_subjects(&self, to: &mut Subjects<'_>) {
        let Ok(change) = RegistryChange::from_proto(self) else { return };
        for agency in change.agencies() {
            to.add(Scheme::Agency, agency.as_str());
        }
        for key in change.validator_keys() {
            to.add(Scheme::ValidatorKey, &key.to_string());
        }
    }

    fn summary(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }
}
