//! The agencies of a simulated network: their keys, and the genesis that names them.

use customhouse_ledger::{
    agency::AgencyCode,
    keys::{PublicKey, SigningKey},
    registry::genesis::Genesis,
};
use customhouse_proto::v1::{self, registry_entry::Entry};

/// When every simulation begins, by the wall clock.
pub(super) const BEGIN_UNIX_MS: u64 = 1_700_000_000_000;

/// Validator keys that an agency has, to be used one after the other.
pub(super) const VALIDATOR_KEYS: usize = 5;

/// One agency's keys.
pub(super) struct Identity {
    pub(super) agency: AgencyCode,
    /// The first is in use from the beginning.
    pub(super) validators: Vec<SigningKey>,
    pub(super) peer: PublicKey,
    pub(super) signing: SigningKey,
}

pub(super) fn identities(count: usize) -> Vec<Identity> {
    let key = |seed: usize| SigningKey::from_seed(&[u8::try_from(seed).expect("few"); 32]);
    let validator = |index: usize, place: usize| match place {
        0 => key(1 + index),
        later => {
            let mut seed = [192; 32];
            seed[..2].copy_from_slice(&[index, later].map(|n| u8::try_from(n).expect("few")));
            SigningKey::from_seed(&seed)
        }
    };
    let identity = |index: usize| Identity {
        agency: format!("A{index:03}").parse().expect("a code"),
        validators: (0..VALIDATOR_KEYS).map(|place| validator(index, place)).collect(),
        peer: key(64 + index).public(),
        signing: key(128 + index),
    };
    (0..count).map(identity).collect()
}

impl Identity {
    /// The key that votes from the beginning.
    pub(super) fn validator(&self) -> &SigningKey {
        &self.validators[0]
    }

    /// Which of its validator keys this is.
    pub(super) fn place_of(&self, key: &PublicKey) -> Option<usize> {
        self.validators.iter().position(|own| own.public() == *key)
    }

    /// The entry of one of its validator keys.
    pub(super) fn validator_entry(&self, place: usize) -> v1::RegistryEntry {
        let public_key = self.validators[place].public().as_bytes().to_vec();
        let agency = self.agency.to_string();
        entry(Entry::Validator(v1::ValidatorEntry { agency, public_key }))
    }

    /// The entries that let it connect, follow and submit.
    pub(super) fn member_entries(&self) -> Vec<v1::RegistryEntry> {
        let agency = || self.agency.to_string();
        let public_key = |key: PublicKey| key.as_bytes().to_vec();
        let named = v1::AgencyEntry { agency: agency(), name: agency(), country: "NL".into() };
        let peer = v1::PeerEntry { agency: agency(), public_key: public_key(self.peer) };
        let signing_key = v1::SigningKeyEntry {
            agency: agency(),
            public_key: public_key(self.signing.public()),
            role: v1::Role::Node as i32,
            ..Default::default()
        };
        let entries = [Entry::Agency(named), Entry::Peer(peer), Entry::SigningKey(signing_key)];
        entries.into_iter().map(entry).collect()
    }
}

fn entry(entry: Entry) -> v1::RegistryEntry {
    v1::RegistryEntry { entry: Some(entry), ..Default::default() }
}

pub(super) fn genesis(identities: &[Identity]) -> Genesis {
    let of_agency = |identity: &Identity| {
        let mut entries = identity.member_entries();
        entries.push(identity.validator_entry(0));
        entries
    };
    let heartbeat = v1::ParameterEntry { name: "heartbeat_ms".into(), value: 60_000 };
    let entries = identities.iter().flat_map(of_agency);
    let entries = entries.chain([entry(Entry::Parameter(heartbeat))]).collect();
    Genesis::new("simulated".into(), BEGIN_UNIX_MS, 8, entries).expect("a valid genesis")
}
