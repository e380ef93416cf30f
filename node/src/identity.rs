//! Who a client is: what its certificate says.

use std::{fmt, str::FromStr};

use customhouse_ledger::agency::AgencyCode;

/// What a client may do. The organisational unit of its certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Submits records, waits for receipts, queries.
    Integrator,
    /// Queries.
    Officer,
    /// Queries and fetches proofs.
    Auditor,
    /// Everything, and sees the node's status and peers.
    Operator,
}

/// A client, as its certificate names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientIdentity {
    /// The agency that issued the certificate.
    pub agency: AgencyCode,
    /// The client's name: the submitter of its records. 1 to 64 bytes.
    pub name: String,
    /// What it may do.
    pub role: Role,
}

/// The text is not a role.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a role (integrator, officer, auditor, operator)")]
pub struct UnknownRole(pub String);

impl Role {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::Integrator, Self::Officer, Self::Auditor, Self::Operator];

    /// The role's word in certificates and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Integrator => "integrator",
            Self::Officer => "officer",
            Self::Auditor => "auditor",
            Self::Operator => "operator",
        }
    }
}

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let role = Self::ALL.into_iter().find(|role| role.as_str() == text);
        role.ok_or_else(|| UnknownRole(text.to_owned()))
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
