//! The genesis: what a chain starts from, and all that a verifier needs to trust.
//!
//! People keep it as JSON; what is hashed is the canonical protobuf [`v1::Genesis`].

use std::{collections::BTreeMap, fmt};

use customhouse_proto::v1::{self, registry_entry::Entry};
use prost::Message as _;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error as _, MapAccess, Visitor},
};

use crate::{
    agency::AgencyCode,
    authority::{RecordKind, Role},
    canonical::{self, CanonicalError},
    finality::{header::Header, validators::ValidatorSet},
    hash::{Hash, Tag},
    history,
    keys::PublicKey,
    limits::{GENESIS_BYTES_MAX, GENESIS_JSON_BYTES_MAX},
    merkle,
    registry::{EncryptionPublicKey, Registry, RegistryError},
};

/// Why a genesis was refused.
#[derive(Debug, thiserror::Error)]
pub enum GenesisError {
    /// More than [`GENESIS_BYTES_MAX`].
    #[error(
        "genesis: {0} bytes as protobuf, at most {GENESIS_BYTES_MAX} are allowed: register later what the \
         network does not begin with"
    )]
    TooLarge(usize),
    /// More than [`GENESIS_JSON_BYTES_MAX`].
    #[error("genesis: {0} bytes of JSON, at most {GENESIS_JSON_BYTES_MAX} are allowed")]
    JsonTooLarge(usize),
    /// Not the JSON form.
    #[error("genesis: {0}")]
    Json(#[from] serde_json::Error),
    /// Not canonical protobuf.
    #[error("genesis: {0}")]
    Canonical(#[from] CanonicalError),
    /// Empty, too long, or with other characters.
    #[error("genesis.network: 1 to 64 of a-z, 0-9 and - expected, `{0}` found")]
    Network(String),
    /// Not 8 to 24.
    #[error("genesis.history_bits: 8 to 24 expected, {0} found")]
    HistoryBits(u32),
    /// Entries of the genesis count from height 0 and have no end.
    #[error("genesis: every registry entry begins at height 0 and is open")]
    Period,
    /// Entries out of order.
    #[error("genesis.entries: not sorted by registry key")]
    Order,
    /// The registry is wrong.
    #[error("genesis: {0}")]
    Registry(#[from] RegistryError),
}

impl GenesisError {
    /// A stable code for clients and scripts.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLarge(_) | Self::JsonTooLarge(_) => "GENESIS_TOO_LARGE",
            Self::Json(_) => "GENESIS_JSON",
            Self::Canonical(CanonicalError::Decode(_)) => "GENESIS_MALFORMED",
            Self::Canonical(CanonicalError::NotCanonical) => "GENESIS_NOT_CANONICAL",
            Self::Network(_) => "GENESIS_NETWORK",
            Self::HistoryBits(_) => "GENESIS_HISTORY_BITS",
            Self::Period => "GENESIS_PERIOD",
            Self::Order => "GENESIS_ORDER",
            Self::Registry(error) => error.code(),
        }
    }
}

/// A chain's beginning.
#[derive(Clone, Debug, PartialEq)]
pub struct Genesis {
    /// Name of the network, for people: 1 to 64 of `a–z`, `0–9` and `-`.
    pub network: String,
    /// Unix milliseconds of the header at height 0.
    pub time_ms: u64,
    /// The history index has 2^history_bits buckets.
    pub history_bits: u32,
    /// Agencies, keys and parameters.
    pub registry: Registry,
}

impl Genesis {
    /// Makes a genesis.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn new(
        network: String,
        time_ms: u64,
        history_bits: u32,
        entries: Vec<v1::RegistryEntry>,
    ) -> Result<Self, GenesisError> {
        let letters = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if !(1..=64).contains(&network.len()) || !network.bytes().all(letters) {
            return Err(GenesisError::Network(network));
        }
        if !(8..=24).contains(&history_bits) {
            return Err(GenesisError::HistoryBits(history_bits));
        }
        if entries.iter().any(|entry| (entry.from_height, entry.end_height) != (0, 0)) {
            return Err(GenesisError::Period);
        }
        let genesis = Self { network, time_ms, history_bits, registry: Registry::new(entries)? };
        match genesis.to_proto().encoded_len() {
            bytes if bytes > GENESIS_BYTES_MAX => Err(GenesisError::TooLarge(bytes)),
            _ => Ok(genesis),
        }
    }

    /// Reads the JSON form, with or without a byte order mark before it.
    ///
    /// # Errors
    /// [`GenesisError`].
    pub fn from_json(text: &str) -> Result<Self, GenesisError> {
        if text.len() > GENESIS_JSON_BYTES_MAX {
            return Err(GenesisError::JsonTooLarge(text.len()));
        }
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let view: GenesisJson = serde_json::from_str(text)?;
        let entries = view.entries();
        Self::new(view.network, view.time_ms, view.history_bits, entries)
    }

    /// The JSON form, indented: exactly what [`Genesis::from_json`] reads back.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(&GenesisJson::of(self))
            .expect("strings and numbers always serialise")
    }

    /// Reads the canonical protobuf form.
    ///
    /// # Errors
    /// [`GenesisError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, GenesisError> {
        if bytes.len() > GENESIS_BYTES_MAX {
            return Err(GenesisError::TooLarge(bytes.len()));
        }
        let message: v1::Genesis = canonical::decode(bytes)?;
        let genesis =
            Self::new(message.network, message.time_ms, message.history_bits, message.entries)?;
        if genesis.encode() != bytes {
            return Err(GenesisError::Order);
        }
        Ok(genesis)
    }

    /// The protobuf form.
    pub fn to_proto(&self) -> v1::Genesis {
        v1::Genesis {
            network: self.network.clone(),
            time_ms: self.time_ms,
            history_bits: self.history_bits,
            entries: self.registry.entries().cloned().collect(),
        }
    }

    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        self.to_proto().encode_to_vec()
    }

    /// The chain id: tagged hash of the canonical bytes.
    pub fn chain_id(&self) -> Hash {
        Tag::GENESIS.hash(&[&self.encode()])
    }

    /// The header at height 0, which follows from the genesis and has no certificate.
    pub fn header(&self) -> Header {
        let validators_at =
            |height| self.registry.validators_at(height).expect("checked when it was made");
        Header {
            version: Header::VERSION,
            chain_id: self.chain_id(),
            height: 0,
            time_ms: self.time_ms,
            parent_hash: Hash::ZERO,
            log_start: 0,
            log_size: 0,
            log_root: merkle::empty_root(),
            history_size: 0,
            history_root: history::empty_root(self.history_bits),
            registry_root: self.registry.root_without_agreements(),
            outcomes_root: merkle::empty_root(),
            validators_hash: validators_at(0).hash(),
            next_validators_hash: validators_at(1).hash(),
            proposer: [0; 32],
            view: 0,
        }
    }

    /// The validators that decide height 1.
    pub fn validators(&self) -> ValidatorSet {
        self.registry.validators_at(1).expect("checked when the registry was made")
    }
}

/// The form for people. One object an agency, with its keys.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct GenesisJson {
    network: String,
    time_ms: u64,
    history_bits: u32,
    agencies: Vec<AgencyJson>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "once_each")]
    parameters: BTreeMap<String, u64>,
}

/// Numbers by name. A name that stands twice is refused: nobody knows which number was meant.
fn once_each<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, u64>, D::Error> {
    struct OnceEach;

    impl<'de> Visitor<'de> for OnceEach {
        type Value = BTreeMap<String, u64>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("numbers by name")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut numbers = BTreeMap::new();
            while let Some((name, number)) = map.next_entry::<String, u64>()? {
                if numbers.contains_key(&name) {
                    return Err(A::Error::custom(format_args!("duplicate field `{name}`")));
                }
                numbers.insert(name, number);
            }
            Ok(numbers)
        }
    }
    from.deserialize_map(OnceEach)
}

/// What is left out where there is none, and so is never `null`.
fn there<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Hash>, D::Error> {
    Hash::deserialize(from).map(Some)
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AgencyJson {
    agency: AgencyCode,
    name: String,
    country: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    validators: Vec<PublicKey>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    peers: Vec<PublicKey>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    signing_keys: Vec<SigningKeyJson>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    encryption_keys: Vec<EncryptionPublicKey>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "there")]
    dedupe_check: Option<Hash>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SigningKeyJson {
    public_key: PublicKey,
    #[serde(with = "crate::authority::role::by_name")]
    role: Role,
    /// Of every key but a node's.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    submitter: String,
    /// Names of kinds; empty for all that the role may state.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    kinds: Vec<RecordKind>,
    #[serde(default)]
    label: String,
}

impl GenesisJson {
    fn entries(&self) -> Vec<v1::RegistryEntry> {
        let parameters = self.parameters.iter().map(|(name, &value)| {
            open(Entry::Parameter(v1::ParameterEntry { name: name.clone(), value }))
        });
        self.agencies.iter().flat_map(AgencyJson::entries).chain(parameters).collect()
    }

    fn of(genesis: &Genesis) -> Self {
        let mut agencies: BTreeMap<String, AgencyJson> = BTreeMap::new();
        let mut parameters = BTreeMap::new();
        // Agency entries sort before the keys that belong to them.
        for entry in genesis.registry.entries() {
            match &entry.entry {
                Some(Entry::Agency(entry)) => {
                    agencies.extend(AgencyJson::of(entry).map(|json| (entry.agency.clone(), json)));
                }
                Some(Entry::Parameter(entry)) => {
                    parameters.insert(entry.name.clone(), entry.value);
                }
                Some(Entry::Validator(entry)) => {
                    let key = PublicKey::from_slice(&entry.public_key).ok();
                    let agency = agencies.get_mut(&entry.agency);
                    agency.into_iter().for_each(|agency| agency.validators.extend(key));
                }
                Some(Entry::Peer(entry)) => {
                    let key = PublicKey::from_slice(&entry.public_key).ok();
                    let agency = agencies.get_mut(&entry.agency);
                    agency.into_iter().for_each(|agency| agency.peers.extend(key));
                }
                Some(Entry::SigningKey(entry)) => {
                    let agency = agencies.get_mut(&entry.agency);
                    agency
                        .into_iter()
                        .for_each(|a| a.signing_keys.extend(SigningKeyJson::of(entry)));
                }
                Some(Entry::EncryptionKey(entry)) => {
                    let key = EncryptionPublicKey::from_slice(&entry.public_key).ok();
                    let agency = agencies.get_mut(&entry.agency);
                    agency.into_iter().for_each(|agency| agency.encryption_keys.extend(key));
                }
                Some(Entry::DedupeCheck(entry)) => {
                    let check = Hash::from_slice(&entry.check).ok();
                    let agency = agencies.get_mut(&entry.agency);
                    agency.into_iter().for_each(|agency| agency.dedupe_check = check);
                }
                None => {}
            }
        }
        Self {
            network: genesis.network.clone(),
            time_ms: genesis.time_ms,
            history_bits: genesis.history_bits,
            agencies: agencies.into_values().collect(),
            parameters,
        }
    }
}

impl AgencyJson {
    fn entries(&self) -> Vec<v1::RegistryEntry> {
        let agency = self.agency.to_string();
        let mut entries = vec![open(Entry::Agency(v1::AgencyEntry {
            agency: agency.clone(),
            name: self.name.clone(),
            country: self.country.clone(),
        }))];
        entries.extend(self.validators.iter().map(|key| {
            let public_key = key.as_bytes().to_vec();
            open(Entry::Validator(v1::ValidatorEntry { agency: agency.clone(), public_key }))
        }));
        entries.extend(self.peers.iter().map(|key| {
            let public_key = key.as_bytes().to_vec();
            open(Entry::Peer(v1::PeerEntry { agency: agency.clone(), public_key }))
        }));
        entries.extend(self.signing_keys.iter().map(|key| {
            open(Entry::SigningKey(v1::SigningKeyEntry {
                agency: agency.clone(),
                public_key: key.public_key.as_bytes().to_vec(),
                role: key.role as i32,
                label: key.label.clone(),
                submitter: key.submitter.clone(),
                kinds: RecordKind::bits(&key.kinds),
            }))
        }));
        entries.extend(self.encryption_keys.iter().map(|key| {
            let public_key = key.as_bytes().to_vec();
            open(Entry::EncryptionKey(v1::EncryptionKeyEntry {
                agency: agency.clone(),
                public_key,
            }))
        }));
        entries.extend(self.dedupe_check.map(|check| {
            let check = check.as_bytes().to_vec();
            open(Entry::DedupeCheck(v1::DedupeCheckEntry { agency: agency.clone(), check }))
        }));
        entries
    }

    fn of(entry: &v1::AgencyEntry) -> Option<Self> {
        Some(Self {
            agency: entry.agency.parse().ok()?,
            name: entry.name.clone(),
            country: entry.country.clone(),
            validators: Vec::new(),
            peers: Vec::new(),
            signing_keys: Vec::new(),
            encryption_keys: Vec::new(),
            dedupe_check: None,
        })
    }
}

impl SigningKeyJson {
    fn of(entry: &v1::SigningKeyEntry) -> Option<Self> {
        Some(Self {
            public_key: PublicKey::from_slice(&entry.public_key).ok()?,
            role: entry.role(),
            submitter: entry.submitter.clone(),
            kinds: RecordKind::of_bits(entry.kinds),
            label: entry.label.clone(),
        })
    }
}

fn open(entry: Entry) -> v1::RegistryEntry {
    v1::RegistryEntry { from_height: 0, end_height: 0, entry: Some(entry) }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::keys::SigningKey;

    /// Seeds of agency i's keys: validator i, peer 64 + i, signing 128 + i.
    pub(crate) fn genesis(agencies: u8) -> Genesis {
        let public = |seed| SigningKey::from_seed(&[seed; 32]).public();
        let agency = |i: u8| AgencyJson {
            agency: format!("A{i:03}").parse().expect("a code"),
            name: format!("Agency {i}"),
            country: "NL".into(),
            validators: vec![public(i)],
            peers: vec![public(64 + i)],
            signing_keys: vec![SigningKeyJson {
                public_key: public(128 + i),
                role: Role::Node,
                submitter: String::new(),
                kinds: Vec::new(),
                label: String::new(),
            }],
            encryption_keys: Vec::new(),
            dedupe_check: None,
        };
        let json = GenesisJson {
            network: "test".into(),
            time_ms: 1_700_000_000_000,
            history_bits: 8,
            agencies: (1..=agencies).map(agency).collect(),
            parameters: BTreeMap::from([("heartbeat_ms".into(), 60_000)]),
        };
        let entries = json.entries();
        Genesis::new(json.network, json.time_ms, json.history_bits, entries).expect("valid")
    }

    #[test]
    fn both_forms_round_trip_to_the_same_chain_id() {
        let genesis = genesis(4);
        let json = Genesis::from_json(&genesis.to_json()).expect("its own JSON");
        let bytes = Genesis::from_bytes(&genesis.encode()).expect("its own bytes");
        assert_eq!((json.chain_id(), bytes.chain_id()), (genesis.chain_id(), genesis.chain_id()));
        assert_eq!(genesis.validators().count(), 4);
        assert_eq!(genesis.registry.parameters_at(1).expect("valid").heartbeat_ms, 60_000);
    }

    #[test]
    fn the_order_of_agencies_in_the_file_does_not_matter() {
        let text = genesis(3).to_json();
        let mut json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        json["agencies"].as_array_mut().expect("a list").reverse();
        let other = Genesis::from_json(&json.to_string()).expect("valid");
        assert_eq!(other.chain_id(), genesis(3).chain_id());
    }

    #[test]
    fn a_byte_order_mark_and_line_ends_of_windows_change_nothing() {
        let genesis = genesis(2);
        let edited = format!("\u{feff}{}", genesis.to_json().replace('\n', "\r\n"));
        let read = Genesis::from_json(&edited).expect("the same");
        assert_eq!(read.chain_id(), genesis.chain_id());
    }

    #[test]
    fn a_genesis_that_would_be_no_answer_of_grpc_is_refused_in_both_forms() {
        let small = genesis(2);
        let entry = |number: u32| {
            open(Entry::Agency(v1::AgencyEntry {
                agency: format!("Z{number:05}"),
                name: "x".repeat(100),
                country: "NL".into(),
            }))
        };
        let room = GENESIS_BYTES_MAX - small.encode().len();
        let count = u32::try_from(room / entry(0).encoded_len() + 1).expect("some thousands");
        let entries: Vec<_> =
            small.registry.entries().cloned().chain((0..count).map(entry)).collect();
        let made = |entries| Genesis::new("test".into(), 1, 8, entries);
        let error = made(entries.clone()).expect_err("too large");
        assert_eq!(error.code(), "GENESIS_TOO_LARGE");
        // A tenth less is a genesis, and its JSON is read back.
        let fewer = made(entries[..entries.len() * 9 / 10].to_vec()).expect("large enough");
        let json = Genesis::from_json(&fewer.to_json()).expect("its own JSON");
        assert_eq!(json.chain_id(), fewer.chain_id());
    }

    #[test]
    fn mistakes_are_named() {
        let refused = |change: &dyn Fn(&mut serde_json::Value)| {
            let mut json: serde_json::Value =
                serde_json::from_str(&genesis(2).to_json()).expect("JSON");
            change(&mut json);
            Genesis::from_json(&json.to_string()).expect_err("refused").to_string()
        };
        let twice = refused(&|j| j["agencies"][1]["peers"] = j["agencies"][0]["peers"].clone());
        assert!(twice.contains("is registered twice"), "{twice}");
        let none = refused(&|j| {
            j["agencies"][0]["validators"] = serde_json::json!([]);
            j["agencies"][1]["validators"] = serde_json::json!([]);
        });
        assert!(none.contains("at least one validator"), "{none}");
        let parameter = refused(&|j| j["parameters"]["blocks"] = 1.into());
        assert!(parameter.contains("no parameter is called `blocks`"), "{parameter}");
        let field = refused(&|j| j["nonsense"] = 1.into());
        assert!(field.contains("unknown field"), "{field}");
        let weak = refused(&|j| {
            j["agencies"][0]["peers"][0] = format!("01{}", "00".repeat(31)).into();
        });
        assert!(weak.contains("low order"), "{weak}");
        let key = |json: &mut serde_json::Value, name: &str, value: &str| {
            json["agencies"][0]["signing_keys"][0][name] = value.into();
        };
        let unknown = refused(&|j| key(j, "role", "submitter"));
        assert!(unknown.contains("`submitter` is not a role"), "{unknown}");
        // A label binds a key to nobody.
        let unnamed = refused(&|j| {
            key(j, "role", "office");
            key(j, "label", "Customs HQ");
        });
        assert!(unnamed.contains("submitter"), "{unnamed}");
    }

    #[test]
    fn a_signing_key_is_proven_against_the_root() {
        let genesis = genesis(4);
        let key = SigningKey::from_seed(&[130; 32]).public();
        let signer = genesis.registry.signer_at(&key, 1).expect("registered");
        assert_eq!(signer.agency.as_str(), "A002");
        let proof = genesis.registry.prove_signer(&key).expect("registered");
        assert_eq!(proof.count, genesis.registry.count() as u64);
        assert!(genesis.registry.signer_at(&SigningKey::from_seed(&[9; 32]).public(), 1).is_none());
    }
}
