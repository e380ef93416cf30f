//! The kinds of records, by name and number. What each kind's fields mean is `record::kind`'s.

use customhouse_proto::v1::record::Body;
use serde::{Deserialize, Serialize};

/// A kind by its name. Its number is that of its field in `Record`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordKind {
    /// What a declarant says of goods.
    Declaration = 16,
    /// What customs answers to it.
    DeclarationStatus = 17,
    /// A bill of lading or its like.
    TransportDocument = 18,
    /// What happened to goods.
    Event = 19,
    /// Of origin, a licence, of health.
    Certificate = 20,
    /// What customs looked at.
    Inspection = 21,
    /// A seizure or a penalty.
    EnforcementAction = 22,
    /// What to look out for.
    RiskAlert = 23,
    /// What one agency asks of another.
    AssistanceRequest = 24,
    /// What that one answers.
    AssistanceResponse = 25,
    /// Of an authorised operator.
    TraderStatus = 26,
    /// The agencies change the registry.
    RegistryChange = 27,
    /// A validator's key broke a rule.
    Misbehaviour = 28,
    /// Agencies agree on who shares sealed records with whom.
    AgreementChange = 29,
}

impl RecordKind {
    /// Every kind, ascending.
    pub const ALL: [Self; 14] = [
        Self::Declaration,
        Self::DeclarationStatus,
        Self::TransportDocument,
        Self::Event,
        Self::Certificate,
        Self::Inspection,
        Self::EnforcementAction,
        Self::RiskAlert,
        Self::AssistanceRequest,
        Self::AssistanceResponse,
        Self::TraderStatus,
        Self::RegistryChange,
        Self::Misbehaviour,
        Self::AgreementChange,
    ];

    /// The kind of a body.
    pub fn of(body: &Body) -> Self {
        match body {
            Body::Declaration(_) => Self::Declaration,
            Body::DeclarationStatus(_) => Self::DeclarationStatus,
            Body::TransportDocument(_) => Self::TransportDocument,
            Body::Event(_) => Self::Event,
            Body::Certificate(_) => Self::Certificate,
            Body::Inspection(_) => Self::Inspection,
            Body::EnforcementAction(_) => Self::EnforcementAction,
            Body::RiskAlert(_) => Self::RiskAlert,
            Body::AssistanceRequest(_) => Self::AssistanceRequest,
            Body::AssistanceResponse(_) => Self::AssistanceResponse,
            Body::TraderStatus(_) => Self::TraderStatus,
            Body::RegistryChange(_) => Self::RegistryChange,
            Body::Misbehaviour(_) => Self::Misbehaviour,
            Body::AgreementChange(_) => Self::AgreementChange,
        }
    }

    /// The number of its field in `Record`.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The kind of a number; `None` where this version knows none.
    pub fn numbered(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }

    /// The name of its field in `Record`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Declaration => "declaration",
            Self::DeclarationStatus => "declaration_status",
            Self::TransportDocument => "transport_document",
            Self::Event => "event",
            Self::Certificate => "certificate",
            Self::Inspection => "inspection",
            Self::EnforcementAction => "enforcement_action",
            Self::RiskAlert => "risk_alert",
            Self::AssistanceRequest => "assistance_request",
            Self::AssistanceResponse => "assistance_response",
            Self::TraderStatus => "trader_status",
            Self::RegistryChange => "registry_change",
            Self::Misbehaviour => "misbehaviour",
            Self::AgreementChange => "agreement_change",
        }
    }

    /// The kind of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// Kinds as the bits of a number: bit n for the kind of number n. No kind gives 0.
    pub fn bits(kinds: &[Self]) -> u64 {
        kinds.iter().fold(0, |bits, kind| bits | 1 << kind.number())
    }

    /// The kinds of such a number, ascending; bits of no kind are left out.
    pub fn of_bits(bits: u64) -> Vec<Self> {
        Self::ALL.into_iter().filter(|kind| bits & 1 << kind.number() != 0).collect()
    }
}

impl std::fmt::Display for RecordKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_one_name_one_number_and_one_bit() {
        for kind in RecordKind::ALL {
            assert_eq!(RecordKind::named(kind.as_str()), Some(kind));
            assert_eq!(RecordKind::numbered(kind.number()), Some(kind));
            assert_eq!(RecordKind::of_bits(RecordKind::bits(&[kind])), [kind]);
            let json = serde_json::to_string(&kind).expect("a string");
            assert_eq!(json, format!("\"{kind}\""));
        }
        assert_eq!(RecordKind::of_bits(RecordKind::bits(&RecordKind::ALL)), RecordKind::ALL);
        assert_eq!((RecordKind::named("toy"), RecordKind::numbered(15)), (None, None));
    }
}
