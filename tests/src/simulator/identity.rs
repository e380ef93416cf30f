//! The agencies of a simulated network: their keys, and the genesis that names them.

use customhouse_ledger::{
    agency::AgencyCode,
    genesis::Genesis,
    keys::{PublicKey, SigningKey},
};
use customhouse_proto::v1::{self, registry_entry::Entry};

/// When every simulation begins, by the wall clock.
pub(super) const BEGIN_UNIX_MS: u64 = 1_700_000_000_000;

/// One agency's keys.
pub(super) struct Identity {
    pub(super) agency: AgencyCode,
    pub(super) validator: SigningKey,
    pub(super) peer: PublicKey,
    pub(super) signing: SigningKey,
}

pub(super) fn identities(count: usize) -> Vec<Identity> {
    let key = |seed: usize| SigningKey::from_seed(&[u8::try_from(seed).expect("few"); 32]);
    let identity = |index: usize| Identity {
        agency: format!("A{index:03}").parse().expect("a code"),
        validator: key(1 + index),
        peer: key(64 + index).public(),
        signing: key(128 + index),
    };
    (0..count).map(identity).collect()
}

pub(super) fn genesis(identities: &[Identity]) -> Genesis {
    let entry = |entry| v1::RegistryEntry { entry: Some(entry), ..Default::default() };
    let of_agency = |identity: &Identity| {
        let agency = || identity.agency.to_string();
        let public_key = |key: PublicKey| key.as_bytes().to_vec();
        let named = v1::AgencyEntry { agency: agency(), name: agency(), country: "NL".into() };
        let validator = identity.validator.public();
        let validator = v1::ValidatorEntry { agency: agency(), public_key: public_key(validator) };
        let peer = v1::PeerEntry { agency: agency(), public_key: public_key(identity.peer) };
        let signing_key = v1::SigningKeyEntry {
            agency: agency(),
            public_key: public_key(identity.signing.public()),
            role: v1::signing_key_entry::Role::Node as i32,
            label: String::new(),
        };
        [
            entry(Entry::Agency(named)),
            entry(Entry::Validator(validator)),
            entry(Entry::Peer(peer)),
            entry(Entry::SigningKey(signing_key)),
        ]
    };
    let heartbeat = v1::ParameterEntry { name: "heartbeat_ms".into(), value: 60_000 };
    let entries = identities.iter().flat_map(of_agency);
    let entries = entries.chain([entry(Entry::Parameter(heartbeat))]).collect();
    Genesis::new("simulated".into(), BEGIN_UNIX_MS, 8, entries).expect("a valid genesis")
}
