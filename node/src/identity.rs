//! Who a client is: what its certificate says.

use std::{
    fmt,
    hash::{Hash, Hasher},
    str::FromStr,
};

use customhouse_ledger::{agency::AgencyCode, authority::Role as SpeakerRole};

/// What a client may do. The organisational unit of its certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Speaks for the agency's office, as a person or as a system of it: lodges what customs states, and
    /// queries.
    Officer,
    /// Lodges as a broker, waits for receipts, queries.
    Broker,
    /// The same as a carrier.
    Carrier,
    /// The same as an importer or exporter.
    Trader,
    /// The same as a port or terminal.
    Port,
    /// Queries and fetches proofs.
    Auditor,
    /// Sees the node's status and peers, changes the registry, queries and fetches proofs. Lodges nothing.
    Operator,
}

/// A client, as its certificate names it. A client with two certificates is one client: what it may hold, and
/// what was submitted, is the name's.
#[derive(Clone, Debug)]
pub struct ClientIdentity {
    /// The agency that issued the certificate.
    pub agency: AgencyCode,
    /// The client's name: the submitter of its records. 1 to 64 bytes.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// SHA-256 of the certificate (DER) of this connection.
    pub certificate: [u8; 32],
}

impl ClientIdentity {
    fn named(&self) -> (&AgencyCode, &str, Role) {
        (&self.agency, &self.name, self.role)
    }
}

impl PartialEq for ClientIdentity {
    fn eq(&self, other: &Self) -> bool {
        self.named() == other.named()
    }
}

impl Eq for ClientIdentity {}

impl Hash for ClientIdentity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.named().hash(state);
    }
}

/// The text is not a role.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a role (officer, broker, carrier, trader, port, auditor, operator)")]
pub struct UnknownRole(pub String);

impl Role {
    /// Every role.
    pub const ALL: [Self; 7] = [
        Self::Officer,
        Self::Broker,
        Self::Carrier,
        Self::Trader,
        Self::Port,
        Self::Auditor,
        Self::Operator,
    ];

    /// The role's word in certificates and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Officer => "officer",
            Self::Broker => "broker",
            Self::Carrier => "carrier",
            Self::Trader => "trader",
            Self::Port => "port",
            Self::Auditor => "auditor",
            Self::Operator => "operator",
        }
    }

    /// The role in which its records speak; `None` where it lodges nothing.
    pub fn speaks_as(self) -> Option<SpeakerRole> {
        match self {
            Self::Officer => Some(SpeakerRole::Office),
            Self::Broker => Some(SpeakerRole::Broker),
            Self::Carrier => Some(SpeakerRole::Carrier),
            Self::Trader => Some(SpeakerRole::Trader),
            Self::Port => Some(SpeakerRole::Port),
            Self::Auditor | Self::Operator => None,
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
