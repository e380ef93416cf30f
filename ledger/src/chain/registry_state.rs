//! The registry as execution uses it: looked up by key, with its tree at hand.
//!
//! [`RegistryState`] are those after one block. A block that changes the registry stages others, which its
//! commit puts in their place. Those after earlier blocks follow from the newest registry, because
//! entries are only added and ended.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex},
};

use customhouse_proto::v1::{self, registry_entry::Entry};
use prost::Message as _;

use crate::{
    agency::AgencyCode,
    agreement::{Agreements, KnownMembers},
    authority::Role,
    chain::ChainState,
    finality::validators::ValidatorSet,
    hash::Hash,
    keys::PublicKey,
    merkle::Tree,
    registry::{
        self, ApplyError, Registry, RegistryError, RegistryProof, RegistryProposal, Signer,
        genesis::Genesis, parameters::Parameters,
    },
    store::{Store, StoreError, Table, table},
};

/// Earlier members that are remembered. A receipt of an old block needs them; making them takes time
/// proportional to the number of entries.
const EARLIER_MAX: usize = 8;

/// Who may do what in the block after a height.
#[derive(Clone, Debug)]
pub(super) struct RegistryState {
    registry: Arc<Registry>,
    agreements: Arc<Agreements>,
    /// Heights of the blocks that changed the registry.
    changes: BTreeSet<u64>,
    tree: Arc<Tree>,
    members_root: Hash,
    /// Signing keys, with the position of their entry.
    signing_keys: Arc<BTreeMap<[u8; 32], (usize, v1::RegistryEntry)>>,
    validators: ValidatorSet,
    validators_hash: Hash,
    parameters: Parameters,
}

impl RegistryState {
    /// Those after a height, from the registry and the agreements as they are then.
    fn new(
        registry: Registry,
        agreements: Arc<Agreements>,
        height: u64,
    ) -> Result<Self, RegistryError> {
        let entries: Vec<_> = registry.entries().map(v1::RegistryEntry::encode_to_vec).collect();
        let tree = Tree::of(&entries);
        let members_root = registry::members_root(tree.size(), &tree.root());
        let signing_keys = registry.entries().enumerate().filter_map(|(index, entry)| {
            let Some(Entry::SigningKey(signing)) = &entry.entry else { return None };
            let key: [u8; 32] = signing.public_key.as_slice().try_into().ok()?;
            Some((key, (index, entry.clone())))
        });
        let validators = registry.validators_at(height + 1)?;
        let changes = registry.change_heights();
        Ok(Self {
            agreements,
            tree: Arc::new(tree),
            members_root,
            signing_keys: Arc::new(signing_keys.collect()),
            validators_hash: validators.hash(),
            validators,
            parameters: registry.parameters_at(height + 1)?,
            changes,
            registry: Arc::new(registry),
        })
    }

    /// Those at the beginning.
    pub(super) fn of_genesis(genesis: &Genesis) -> Self {
        Self::new(genesis.registry.clone(), Arc::default(), 0).expect("checked with the genesis")
    }

    /// Those after the tip's height: from the genesis, and from the rows that later blocks wrote.
    pub(super) fn read(store: &Store, genesis: &Genesis, height: u64) -> Result<Self, StoreError> {
        let mut entries = BTreeMap::new();
        for entry in genesis.registry.entries() {
            let key = registry::row_key(entry).expect("checked with the genesis");
            entries.insert(key, entry.clone());
        }
        for row in store.scan_while(Table::Registry, &[], |_| true) {
            let (key, bytes) = row?;
            let corrupt = |what: String| StoreError::corrupt(Table::Registry, &key, what);
            let entry =
                registry::decode_entry(&bytes).map_err(|error| corrupt(error.to_string()))?;
            let own = registry::row_key(&entry).map_err(|error| corrupt(error.to_string()))?;
            if own != *key {
                return Err(corrupt("not the entry of its key".to_owned()));
            }
            entries.insert(own, entry);
        }
        let corrupt =
            |error: RegistryError| StoreError::corrupt(Table::Registry, &[], error.to_string());
        let registry = Registry::collect(entries.into_values().collect()).map_err(corrupt)?;
        Self::new(registry, Arc::new(read_agreements(store)?), height).map_err(corrupt)
    }

    /// Those after a block of this height that carries a change.
    pub(super) fn after(&self, change: &RegistryProposal, height: u64) -> Result<Self, ApplyError> {
        let registry = self.registry.apply(change, height)?;
        Ok(Self::new(registry, Arc::clone(&self.agreements), height)?)
    }

    /// The same members with other agreements.
    pub(super) fn with_agreements(&self, agreements: Arc<Agreements>) -> Self {
        Self { agreements, ..self.clone() }
    }

    pub(super) fn agreements(&self) -> &Arc<Agreements> {
        &self.agreements
    }

    /// The members as agreements ask for them, at a height.
    pub(super) fn at(&self, height: u64) -> MembersAt<'_> {
        MembersAt { state: self, height }
    }

    pub(super) fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// The root over members and agreements.
    pub(super) fn root(&self) -> Hash {
        registry::root(&self.members_root, &self.agreements.root())
    }

    /// The root over members alone.
    pub(super) fn members_root(&self) -> Hash {
        self.members_root
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

    /// Whose key it is and what it may sign, where it signs at a height.
    pub(super) fn signer_at(&self, key: &PublicKey, height: u64) -> Option<Signer> {
        let (_, entry) = self.signing_keys.get(key.as_bytes())?;
        let signer = registry::signer_of(entry, key)?;
        registry::is_open_at(entry, height).then_some(signer)
    }

    /// The proof of a signing key against the registry root.
    pub(super) fn prove_signer(&self, key: &PublicKey) -> Option<RegistryProof> {
        let (index, entry) = self.signing_keys.get(key.as_bytes())?;
        let index = *index as u64;
        let path = self.tree.inclusion_path(index).ok()?;
        Some(RegistryProof { entry: entry.encode_to_vec(), index, count: self.tree.size(), path })
    }

    /// Keys and bytes of the rows that a block of this height has changed.
    pub(super) fn rows_changed_at(&self, height: u64) -> Vec<(Vec<u8>, Vec<u8>)> {
        let counts_from = height + 1;
        let is_new = |entry: &&v1::RegistryEntry| {
            entry.from_height == counts_from || entry.end_height == counts_from
        };
        let row = |entry: &v1::RegistryEntry| {
            let key = registry::row_key(entry).expect("an entry of a registry");
            (key, entry.encode_to_vec())
        };
        self.registry.entries().filter(is_new).map(row).collect()
    }

    /// Keys and bytes of all rows that blocks have written.
    pub(super) fn rows(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        self.changes.iter().flat_map(|height| self.rows_changed_at(*height)).collect()
    }

    /// Height of the last change that the registry after a height has; 0 where it is the genesis's.
    fn last_change(&self, height: u64) -> u64 {
        self.changes.range(..=height).next_back().copied().unwrap_or(0)
    }
}

/// The members as agreements ask for them.
pub(super) struct MembersAt<'a> {
    state: &'a RegistryState,
    height: u64,
}

impl KnownMembers for MembersAt<'_> {
    fn is_member(&self, agency: &AgencyCode) -> bool {
        self.state.registry.is_open_agency(agency, self.height)
    }

    fn is_node_of(&self, key: &PublicKey, agency: &AgencyCode) -> bool {
        let signer = self.state.signer_at(key, self.height);
        signer.is_some_and(|signer| signer.agency == *agency && signer.role == Role::Node)
    }
}

/// The agreements that the store's events give.
fn read_agreements(store: &Store) -> Result<Agreements, StoreError> {
    let mut events = Vec::new();
    for (number, row) in (0..).zip(store.scan_while(Table::Agreements, &[], |_| true)) {
        let (key, bytes) = row?;
        if *key != table::number(number) {
            return Err(StoreError::corrupt(
                Table::Agreements,
                &key,
                "a change before it is missing",
            ));
        }
        let event = v1::AgreementEvent::decode(&bytes[..]);
        events.push(event.map_err(|e| StoreError::corrupt(Table::Agreements, &key, e))?);
    }
    let corrupt = || StoreError::corrupt(Table::Agreements, &[], "not changes of agreements");
    Agreements::of_events(events).ok_or_else(corrupt)
}

/// RegistryState after earlier changes, the most recently asked for at the end.
#[derive(Default)]
pub(super) struct EarlierRegistries(Mutex<VecDeque<(u64, Arc<RegistryState>)>>);

impl ChainState {
    /// The root over the agreements after a committed block.
    pub(super) fn agreements_root_as_of(&self, height: u64) -> Result<Hash, StoreError> {
        let before = table::number(height + 1);
        let mut rows = self.store.scan_back_while(Table::AgreementRoots, &before, |_| true);
        let Some(row) = rows.next() else { return Ok(Agreements::default().root()) };
        let (key, root) = row?;
        let corrupt = |_| StoreError::corrupt(Table::AgreementRoots, &key, "not a hash");
        Hash::from_slice(&root).map_err(corrupt)
    }

    pub(super) fn members(&self) -> Arc<RegistryState> {
        Arc::clone(&self.state().members)
    }

    /// The members after a committed block. Its agreements are not among what is made anew: of an earlier block there
    /// are none in it, and the root over them is [`ChainState::agreements_root_as_of`].
    pub(super) fn members_as_of(&self, height: u64) -> Result<Arc<RegistryState>, StoreError> {
        let newest = self.members();
        let change = newest.last_change(height);
        if change == newest.last_change(u64::MAX) {
            return Ok(newest);
        }
        let mut earlier = self.earlier.0.lock().expect("nothing panics while it holds the lock");
        if let Some(place) = earlier.iter().position(|(known, _)| *known == change)
            && let Some(found) = earlier.remove(place)
        {
            earlier.push_back(found.clone());
            return Ok(found.1);
        }
        let members = RegistryState::new(newest.registry.as_of(change), Arc::default(), change)
            .map_err(|error| StoreError::corrupt(Table::Registry, &[], error.to_string()))?;
        let members = Arc::new(members);
        if earlier.len() >= EARLIER_MAX {
            earlier.pop_front();
        }
        earlier.push_back((change, Arc::clone(&members)));
        Ok(members)
    }
}
