//! The registry as execution uses it: looked up by key, with its tree at hand. In this version it
//! is the genesis's at every height.

use std::collections::BTreeMap;

use customhouse_proto::v1::{self, registry_entry::Entry};
use prost::Message as _;

use crate::{
    agency::AgencyCode,
    genesis::Genesis,
    hash::Hash,
    keys::PublicKey,
    merkle::Tree,
    parameters::Parameters,
    registry::{self, RegistryProof},
    validators::ValidatorSet,
};

/// Who may do what.
pub(super) struct Members {
    tree: Tree,
    root: Hash,
    /// Signing keys, with the position of their entry.
    signing_keys: BTreeMap<[u8; 32], (usize, v1::RegistryEntry)>,
    validators: ValidatorSet,
    validators_hash: Hash,
    parameters: Parameters,
}

impl Members {
    pub(super) fn new(genesis: &Genesis) -> Self {
        let entries: Vec<_> =
            genesis.registry.entries().map(v1::RegistryEntry::encode_to_vec).collect();
        let tree = Tree::of(&entries);
        let root = registry::root(tree.size(), &tree.root());
        let signing_keys = genesis.registry.entries().enumerate().filter_map(|(index, entry)| {
            let Some(Entry::SigningKey(signing)) = &entry.entry else { return None };
            let key: [u8; 32] = signing.public_key.as_slice().try_into().ok()?;
            Some((key, (index, entry.clone())))
        });
        let validators = genesis.validators();
        Self {
            tree,
            root,
            signing_keys: signing_keys.collect(),
            validators_hash: validators.hash(),
            validators,
            parameters: genesis.registry.parameters_at(1).expect("checked with the genesis"),
        }
    }

    pub(super) fn root(&self) -> Hash {
        self.root
    }

    pub(super) fn validators(&self) -> &ValidatorSet {
        &self.validators
    }

    pub(super) fn validators_hash(&self) -> Hash {
        self.validators_hash
    }

    pub(super) fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The agency that a key signs for at a height.
    pub(super) fn signer_at(&self, key: &PublicKey, height: u64) -> Option<AgencyCode> {
        let (_, entry) = self.signing_keys.get(key.as_bytes())?;
        let signer = registry::signer_of(entry, key)?;
        registry::is_open_at(entry, height).then_some(signer.agency)
    }

    /// The proof of a signing key against the registry root.
    pub(super) fn prove_signer(&self, key: &PublicKey) -> Option<RegistryProof> {
        let (index, entry) = self.signing_keys.get(key.as_bytes())?;
        let index = *index as u64;
        let path = self.tree.inclusion_path(index).ok()?;
        Some(RegistryProof { entry: entry.encode_to_vec(), index, count: self.tree.size(), path })
    }
}
