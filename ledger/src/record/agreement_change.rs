//! Changes of agreements. Their approvals are checked with the transaction, which knows the chain.

use customhouse_proto::v1::{self, agreement_change::Change, subject::Scheme};

use super::{RecordError, kind::Kind};
use crate::{agreement::AgreementChange, record::subject::Subjects};

impl Kind for v1::AgreementChange {
    fn name(&self) -> &'static str {
        "agreement change"
    }

    fn field(&self) -> &'static str {
        "agreement_change.epoch"
    }

    fn own_id(&self) -> &str {
        ""
    }

    fn check(&self) -> Result<(), RecordError> {
        AgreementChange::from_proto(self).map(drop).map_err(RecordError::AgreementChange)
    }

    fn add_subjects(&self, to: &mut Subjects<'_>) {
        let Ok(change) = AgreementChange::from_proto(self) else { return };
        to.add(Scheme::Agreement, &change.agreement().to_string());
        if let AgreementChange::Epoch(proposal, _) = &change {
            for party in proposal.parties() {
                to.add(Scheme::Agency, party.as_str());
            }
        }
    }

    fn summary(&self) -> Vec<(&'static str, String)> {
        match &self.change {
            Some(Change::Epoch(epoch)) => vec![("parties", epoch.parties.join(", "))],
            _ => Vec::new(),
        }
    }
}
