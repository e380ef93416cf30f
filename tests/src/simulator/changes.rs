//! Changes of the registry: agencies join, are given a vote, lose it, and exchange their keys; parameters of the
//! network are set, and have their defaults again. Every
//! change is one that the rules allow at the newest height; where another comes first, it comes to
//! nothing.

use std::sync::Arc;

use customhouse_ledger::{
    chain::{BlockOutcome, Tip},
    finality::validators::ValidatorSet,
    keys::PublicKey,
    registry::{InSync, RegistryChange, RegistryProposal},
    transaction::VerifiedTransaction,
};
use customhouse_proto::v1::{self, registry_entry::Entry};
use rand::{RngExt as _, seq::IndexedRandom as _};

use super::{
    identity::VALIDATOR_KEYS,
    run::{LIFETIME_MS, Simulation},
};

/// Fewest and most validators.
const VALIDATORS_MIN: usize = 4;
const VALIDATORS_MAX: usize = 9;

/// Parameters that are changed, with values that let a network under faults go on.
const PARAMETERS: [(&str, [u64; 2]); 3] = [
    ("heartbeat_ms", [5_000, 30_000]),
    ("block_transactions_max", [50, 1_000]),
    ("transaction_slots_max", [1_024, 2_048]),
];

/// A change of one agency, by its number, or of one parameter.
#[derive(Clone, Copy, Debug)]
enum Change {
    Join(usize),
    /// With this one of its keys.
    Vote(usize, usize),
    /// To this one of its keys.
    Rotate(usize, usize),
    EndVote(usize),
    /// To this value; to its default where there is none.
    Set(&'static str, Option<u64>),
}

impl Simulation {
    /// Somebody proposes a change, a quorum approves it, and it is gossiped.
    pub(super) fn change_the_registry(&mut self) -> Result<(), String> {
        let Some((at, tip)) = self.newest() else { return Ok(()) };
        let possible = self.possible(&tip);
        let Some(&change) = possible.choose(&mut self.streams.registry) else { return Ok(()) };
        let Some(change) = self.approved(change, &tip)? else { return Ok(()) };
        let endpoint = &self.endpoints[at];
        let identity = &self.identities[endpoint.identity];
        let now_ms = endpoint.now(self.now).unix_ms;
        let transaction = VerifiedTransaction::change_registry(
            &change,
            "operator",
            identity.agency,
            now_ms + LIFETIME_MS,
            &self.chain_id,
            &identity.signing,
        );
        let transaction = transaction.map_err(|error| error.to_string())?;
        // Nothing is promised to anybody: another change may come first.
        let encoded = transaction.encoded().clone();
        if self.endpoints[at].admit(Arc::new(transaction), now_ms) {
            self.broadcast_transaction(at, &encoded);
        }
        self.drive(at, |driver| driver.work())
    }

    /// An honest endpoint that runs and has the newest block, and that block.
    fn newest(&self) -> Option<(usize, Arc<Tip>)> {
        let running = self.honest().filter_map(|index| {
            Some((index, self.endpoints[index].process.as_ref()?.reader.tip()))
        });
        running.max_by_key(|(index, tip)| (tip.header.height, std::cmp::Reverse(*index)))
    }

    /// Who decides the height after the newest block that a running node has.
    pub(super) fn validators(&self) -> ValidatorSet {
        self.newest().map_or_else(|| self.genesis.validators(), |(_, tip)| tip.validators.clone())
    }

    /// Whether one of an identity's keys votes.
    pub(super) fn votes(&self, identity: usize, validators: &ValidatorSet) -> bool {
        self.voting_key(identity, validators).is_some()
    }

    fn voting_key(&self, identity: usize, validators: &ValidatorSet) -> Option<usize> {
        let keys = self.identities[identity].validators.iter();
        keys.map(|key| key.public()).position(|key| validators.index_of(&key).is_some())
    }

    /// Whether an endpoint's agency is registered by the newest block.
    pub(super) fn is_member(&self, index: usize) -> bool {
        let agency = self.identities[self.endpoints[index].identity].agency;
        let listed = |tip: &Arc<Tip>| {
            let named = |entry: &v1::RegistryEntry| match &entry.entry {
                Some(Entry::Agency(named)) => named.agency == agency.as_str(),
                _ => false,
            };
            tip.registry.entries().any(named)
        };
        self.newest().is_some_and(|(_, tip)| listed(&tip))
    }

    /// Whether a key of an identity may have broken a rule.
    pub(super) fn is_excused(&self, identity: usize) -> bool {
        let mut keys = self.identities[identity].validators.iter();
        keys.any(|key| self.oracle.excused.contains(&key.public()))
    }

    /// The journals of an endpoint were put back: its keys that ever voted may have forgotten what
    /// they signed.
    pub(super) fn excuse(&mut self, index: usize) {
        let Some((_, tip)) = self.newest() else { return };
        for key in &self.identities[self.endpoints[index].identity].validators {
            if is_registered(&tip, &key.public()) {
                self.oracle.excused.insert(key.public());
            }
        }
    }

    fn possible(&self, tip: &Tip) -> Vec<Change> {
        let count = tip.validators.count();
        let mut possible = Vec::new();
        for index in (0..self.identities.len()).filter(|index| !self.lies(*index)) {
            let votes_with = self.voting_key(index, &tip.validators);
            let next = self.next_key(index, tip);
            match votes_with {
                None if !self.is_member(index) => possible.push(Change::Join(index)),
                None => {
                    let next = next.filter(|_| count < VALIDATORS_MAX);
                    possible.extend(next.map(|place| Change::Vote(index, place)));
                }
                Some(_) => {
                    possible.extend(next.map(|place| Change::Rotate(index, place)));
                    if count > VALIDATORS_MIN {
                        possible.push(Change::EndVote(index));
                    }
                }
            }
        }
        possible.retain(|change| self.keeps_enough_honest(*change, tip));
        // One among those of the agencies, whichever it is.
        let (name, values) = PARAMETERS[tip.registry.count() % PARAMETERS.len()];
        let is_set = !open_value(name, tip).is_empty();
        let value = values[tip.registry.count() / PARAMETERS.len() % values.len()];
        let back = is_set && tip.header.height.is_multiple_of(2);
        possible.push(Change::Set(name, (!back).then_some(value)));
        possible
    }

    fn lies(&self, identity: usize) -> bool {
        self.liars.contains_key(&identity)
            || self.attacks.contains_key(&identity)
            || self.endpoints[identity].twin
    }

    /// The first key that was never registered, where the process of its endpoint has it.
    fn next_key(&self, index: usize, tip: &Tip) -> Option<usize> {
        let keys = &self.identities[index].validators;
        let place = keys.iter().position(|key| !is_registered(tip, &key.public()))?;
        let endpoint = &self.endpoints[index];
        let has = (endpoint.key_place..=endpoint.key_place + 1).contains(&place);
        (has && endpoint.process.is_some()).then_some(place)
    }

    /// At most f of those that vote afterwards may be faulty.
    fn keeps_enough_honest(&self, change: Change, tip: &Tip) -> bool {
        let (joins, leaves) = match change {
            Change::Vote(index, _) => (Some(index), None),
            Change::EndVote(index) => (None, Some(index)),
            Change::Join(_) | Change::Rotate(..) | Change::Set(..) => (None, None),
        };
        let voting: Vec<usize> = (0..self.identities.len())
            .filter(|other| self.votes(*other, &tip.validators) || joins == Some(*other))
            .filter(|other| leaves != Some(*other))
            .collect();
        let faulty = voting.iter().filter(|other| self.is_excused(**other)).count();
        faulty <= (voting.len() - 1) / 3
    }

    /// The change with the approvals of all that vote and do not lie; none where those are too few.
    fn approved(&self, change: Change, tip: &Tip) -> Result<Option<RegistryChange>, String> {
        let entries = |index: usize, place| vec![self.identities[index].validator_entry(place)];
        let open = |index: usize| self.open_vote(index, tip);
        let (added, ended) = match change {
            Change::Join(index) => (self.identities[index].member_entries(), Vec::new()),
            Change::Vote(index, place) => (entries(index, place), Vec::new()),
            Change::Rotate(index, place) => (entries(index, place), open(index)),
            Change::EndVote(index) => (Vec::new(), open(index)),
            Change::Set(name, value) => (
                value.map(|value| parameter(name, value)).into_iter().collect(),
                open_value(name, tip),
            ),
        };
        let not_after_ms = tip.header.time_ms + LIFETIME_MS;
        let root = tip.registry.members_root();
        let proposal = RegistryProposal::new(&root, not_after_ms, added, ended, "simulated");
        let proposal = proposal.map_err(|error| error.to_string())?;
        let mut approvals = Vec::new();
        for index in (0..self.identities.len()).filter(|index| !self.lies(*index)) {
            if let Some(place) = self.voting_key(index, &tip.validators) {
                let key = &self.identities[index].validators[place];
                approvals.push(proposal.approve(&self.chain_id, key));
            }
        }
        if approvals.len() < tip.validators.quorum() {
            return Ok(None);
        }
        let in_sync = match change {
            Change::Vote(index, place) | Change::Rotate(index, place) => {
                let Some(process) = &self.endpoints[index].process else { return Ok(None) };
                let (own, identity) = (process.reader.tip(), &self.identities[index]);
                let (height, key) = (own.header.height, &identity.validators[place]);
                Some(InSync::sign(&self.chain_id, &identity.agency, height, own.hash, key))
            }
            Change::Join(_) | Change::EndVote(_) | Change::Set(..) => None,
        };
        let change = RegistryChange::new(proposal, approvals, in_sync);
        change.map(Some).map_err(|error| error.to_string())
    }

    /// The entry by which an agency votes.
    fn open_vote(&self, index: usize, tip: &Tip) -> Vec<v1::RegistryEntry> {
        let agency = self.identities[index].agency;
        let votes = |entry: &&v1::RegistryEntry| match &entry.entry {
            Some(Entry::Validator(validator)) => {
                entry.end_height == 0 && validator.agency == agency.as_str()
            }
            _ => false,
        };
        tip.registry.entries().filter(votes).cloned().collect()
    }

    /// Counts what a block changes; liars learn it too.
    pub(super) fn note_changes(&mut self, index: usize, block: &BlockOutcome) {
        for change in block.transactions.iter().filter_map(|t| t.registry_change()) {
            let proto = change.proposal().to_proto();
            let votes = |list: &[v1::RegistryEntry]| {
                list.iter().any(|entry| matches!(entry.entry, Some(Entry::Validator(_))))
            };
            let of_parameter =
                |entry: &v1::RegistryEntry| matches!(entry.entry, Some(Entry::Parameter(_)));
            let summary = &mut self.summary;
            if proto.added.iter().chain(&proto.ended).any(of_parameter) {
                summary.parameters_set += 1;
                continue;
            }
            match (votes(&proto.added), votes(&proto.ended)) {
                (true, true) => summary.keys_rotated += 1,
                (true, false) => summary.votes_given += 1,
                (false, true) => summary.votes_ended += 1,
                (false, false) => summary.agencies_joined += 1,
            }
        }
        if block.header.validators_hash != block.header.next_validators_hash
            && let Some(process) = &self.endpoints[index].process
        {
            let tip = process.reader.tip();
            self.liars.values_mut().flatten().for_each(|liar| liar.learn(&tip.validators));
        }
    }

    /// Before a start: an operator may by now have named the newer key as the one that votes.
    pub(super) fn name_newer_key(&mut self, index: usize) {
        let Some((_, tip)) = self.newest() else { return };
        let endpoint = &mut self.endpoints[index];
        let next = endpoint.key_place + 1;
        let identity = &self.identities[endpoint.identity];
        let in_use =
            next < VALIDATOR_KEYS && is_registered(&tip, &identity.validators[next].public());
        if in_use && self.streams.registry.random() {
            endpoint.key_place = next;
        }
    }
}

fn parameter(name: &str, value: u64) -> v1::RegistryEntry {
    let entry = Entry::Parameter(v1::ParameterEntry { name: name.to_owned(), value });
    v1::RegistryEntry { entry: Some(entry), ..Default::default() }
}

/// The entry that a parameter has its value by, if it has one.
fn open_value(name: &str, tip: &Tip) -> Vec<v1::RegistryEntry> {
    let is_it = |entry: &&v1::RegistryEntry| match &entry.entry {
        Some(Entry::Parameter(own)) => entry.end_height == 0 && own.name == name,
        _ => false,
    };
    tip.registry.entries().filter(is_it).cloned().collect()
}

fn is_registered(tip: &Tip, key: &PublicKey) -> bool {
    tip.registry.entries().any(|entry| match &entry.entry {
        Some(Entry::Validator(validator)) => validator.public_key == key.as_bytes(),
        _ => false,
    })
}
