//! A small chain from fixed seeds: a genesis of four agencies, a block of five transactions, two
//! blocks that exchange a validator's key each, and a block of two transactions.

use customhouse_ledger::{
    finality::{
        certificate::Certificate,
        header::{Block, Header},
        validators::ValidatorSet,
        vote::{Ballot, Vote, VoteKind},
    },
    hash::Hash,
    history::{HistoryEntry, HistoryTree},
    keys::SigningKey,
    merkle::Tree,
    proofs::verifier::ValidatorStep,
    record::{ValidRecord, dedupe_key},
    registry::{InSync, Registry, RegistryChange, RegistryProposal, genesis::Genesis},
    transaction::{SlotOutcome, VerifiedTransaction, outcome},
};
use customhouse_proto::v1::{self, record::Body, registry_entry::Entry};
use prost::Message as _;
use serde_json::json;

/// Client's key of a record.
pub(crate) const CLIENT_KEY: &str = "order 7";
/// When the transactions expire.
pub(crate) const NOT_AFTER_MS: u64 = 1_700_000_600_000;
/// Who lodges it.
pub(crate) const SUBMITTER: &str = "Broker & Sons";

/// The seed of a key of NL-DOUANE's broker, which signs in its own name.
pub(crate) const OWN_KEY: u8 = 133;
/// That of a key of NL-DOUANE's office, which signs statuses of declarations only.
pub(crate) const STATUSES_KEY: u8 = 134;

pub(crate) struct Sample {
    pub(crate) genesis: Genesis,
    pub(crate) transactions: Vec<VerifiedTransaction>,
    /// The heads of heights 1 to 4.
    pub(crate) heads: Vec<Head>,
}

/// A final block, and the state after it.
pub(crate) struct Head {
    pub(crate) block: Block,
    pub(crate) certificate: Certificate,
    pub(crate) log: Tree,
    pub(crate) entries: Vec<HistoryEntry>,
    pub(crate) history: HistoryTree,
    pub(crate) registry: Registry,
}

/// Seeds of the validators that sign at heights 1 to 4. BE-DOUANE's key is exchanged for that of
/// seed 5 at height 2, DE-ZOLL's for that of seed 6 at height 3.
pub(crate) const SIGNERS: [[u8; 3]; 4] = [[1, 2, 4], [1, 2, 4], [5, 2, 4], [5, 6, 4]];

/// A key whose 32 seed bytes are all `seed`. Validators have 1 to 4, peers 65 to 68, signing keys
/// 129 to 132, and two submitters 133 and 134.
pub(crate) fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32])
}

pub(crate) fn record(number: u64) -> ValidRecord {
    let declaration = v1::Declaration {
        regime: v1::declaration::Regime::Import as i32,
        reference: format!("LRN{number}"),
        mrn: format!("24NL{number:014}"),
        ..Default::default()
    };
    let record = v1::Record {
        salt: vec![number as u8; 32],
        agency: "NL-DOUANE".into(),
        submitter: SUBMITTER.into(),
        submitter_role: v1::Role::Broker as i32,
        submitter_certificate: vec![0xce; 32],
        subjects: vec![v1::Subject {
            scheme: v1::subject::Scheme::Container as i32,
            id: "MSKU1234565".into(),
        }],
        body: Some(Body::Declaration(declaration)),
        ..Default::default()
    };
    ValidRecord::from_record(record).expect("valid")
}

fn genesis() -> Genesis {
    let names = ["BE-DOUANE", "DE-ZOLL", "NL-DOUANE", "XI-HMRC"];
    let agency = |(seed, name): (u8, &str)| {
        json!({
            "agency": name,
            "name": format!("Customs of {}", &name[..2]),
            "country": &name[..2],
            "validators": [key(seed).public()],
            "peers": [key(64 + seed).public()],
            "signing_keys": [{ "public_key": key(128 + seed).public(), "role": "node" }],
        })
    };
    let mut agencies: Vec<_> = (1..).zip(names).map(agency).collect();
    let own_keys = [
        json!({ "public_key": key(OWN_KEY).public(), "role": "broker", "submitter": SUBMITTER }),
        json!({
            "public_key": key(STATUSES_KEY).public(),
            "role": "office",
            "submitter": "Machine 7",
            "kinds": ["declaration_status"],
        }),
    ];
    agencies[2]["signing_keys"].as_array_mut().expect("a list").extend(own_keys);
    let genesis = json!({
        "network": "vectors",
        "time_ms": 1_700_000_000_000_u64,
        "history_bits": 8,
        "agencies": agencies,
        "parameters": { "heartbeat_ms": 60_000 },
    });
    Genesis::from_json(&genesis.to_string()).expect("valid")
}

/// Transaction `number` of `number + 1` records.
fn transaction(genesis: &Genesis, number: u64) -> VerifiedTransaction {
    let agency = "NL-DOUANE".parse().expect("a code");
    let records: Vec<_> = (number * 10..=number * 11)
        .map(|n| (record(n), dedupe_key(&agency, SUBMITTER, &format!("order {n}"))))
        .collect();
    VerifiedTransaction::sign(&records, agency, NOT_AFTER_MS, &genesis.chain_id(), &key(131))
        .expect("valid")
}

impl Sample {
    pub(crate) fn new() -> Self {
        let genesis = genesis();
        let mut sample = Self { genesis, transactions: Vec::new(), heads: Vec::new() };
        let of_records = |numbers: std::ops::Range<u64>| -> Vec<_> {
            numbers.map(|number| transaction(&sample.genesis, number)).collect()
        };
        let (first, last) = (of_records(0..5), of_records(5..7));
        sample.commit(first, None);
        for (old, new) in [(1, 5), (2, 6)] {
            let change = sample.exchange(old, new);
            sample.commit(vec![sample.changing(&change)], Some(&change));
        }
        sample.commit(last, None);
        sample
    }

    pub(crate) fn head(&self, height: usize) -> &Head {
        &self.heads[height - 1]
    }

    /// The registry after the newest block.
    fn registry(&self) -> &Registry {
        self.heads.last().map_or(&self.genesis.registry, |head| &head.registry)
    }

    /// The newest header.
    fn newest(&self) -> Header {
        self.heads.last().map_or_else(|| self.genesis.header(), |head| head.block.header.clone())
    }

    fn commit(&mut self, transactions: Vec<VerifiedTransaction>, change: Option<&RegistryChange>) {
        let (parent, height) = (self.newest(), self.newest().height + 1);
        let leaves: Vec<_> = transactions.iter().map(VerifiedTransaction::leaf_hash).collect();
        let before = self.heads.last().map(|head| head.entries.clone()).unwrap_or_default();
        let added = entries_of(parent.log_size, &transactions);
        self.transactions.extend(transactions);
        let log = Tree::new(self.transactions.iter().map(VerifiedTransaction::leaf_hash).collect());
        let entries = [before, added].concat();
        let mut history = HistoryTree::empty(self.genesis.history_bits);
        history.commit(&history.stage(&entries));
        let registry = self.registry().clone();
        let registry = match change {
            Some(change) => registry.apply(change.proposal(), height).expect("applies"),
            None => registry,
        };
        let validators = |height| registry.validators_at(height).expect("a set");
        let outcomes: Vec<_> =
            self.transactions[parent.log_size as usize..].iter().map(applied).collect();
        let header = Header {
            height,
            time_ms: self.genesis.time_ms + height * 1000,
            parent_hash: parent.hash(),
            log_start: parent.log_size,
            log_size: log.size(),
            log_root: log.root(),
            history_size: log.size(),
            history_root: history.root(),
            registry_root: registry.root_without_agreements(),
            outcomes_root: outcome::block_root(outcomes.iter().map(Vec::as_slice)),
            validators_hash: validators(height).hash(),
            next_validators_hash: validators(height + 1).hash(),
            proposer: *key(if height == 1 { 2 } else { 4 }).public().as_bytes(),
            view: 1,
            ..self.genesis.header()
        };
        let certificate = self.certificate(&header, VoteKind::Finalize);
        let block = Block { header, leaves };
        self.heads.push(Head { block, certificate, log, entries, history, registry });
    }

    /// A certificate by the height's [`SIGNERS`].
    pub(crate) fn certificate(&self, header: &Header, kind: VoteKind) -> Certificate {
        let index = header.height.clamp(1, 4) as usize - 1;
        let chain_id = self.genesis.chain_id();
        let decides = self.validators(index as u64 + 1);
        certificate(&chain_id, &decides, header, kind, SIGNERS[index])
    }

    /// Who decides a height.
    pub(crate) fn validators(&self, height: u64) -> ValidatorSet {
        self.registry().validators_at(height).expect("a set")
    }

    /// The exchange of the validator's key of one seed for that of another, approved by three of
    /// those who decide the next height.
    pub(crate) fn exchange(&self, old: u8, new: u8) -> RegistryChange {
        let (registry, chain_id, tip) = (self.registry(), self.genesis.chain_id(), self.newest());
        let proposal = exchange(registry, self.genesis.time_ms + 86_400_000, old, new);
        let approvers =
            SIGNERS[tip.height as usize].map(|seed| proposal.approve(&chain_id, &key(seed)));
        let agency = proposal.validator_added().expect("one").agency;
        let in_sync = InSync::sign(&chain_id, &agency, 0, self.genesis.header().hash(), &key(new));
        let change = RegistryChange::new(proposal, approvers.to_vec(), Some(in_sync));
        let change = change.expect("valid");
        change.verify(&chain_id).expect("signed");
        change
    }

    /// The transaction that carries a change.
    pub(crate) fn changing(&self, change: &RegistryChange) -> VerifiedTransaction {
        let (agency, chain_id) = ("NL-DOUANE".parse().expect("a code"), self.genesis.chain_id());
        VerifiedTransaction::change_registry(
            change,
            "operator",
            agency,
            NOT_AFTER_MS,
            &chain_id,
            &key(131),
        )
        .expect("valid")
    }

    /// The steps announced at heights 2 and 3.
    pub(crate) fn steps(&self) -> [ValidatorStep; 2] {
        [2, 3].map(|height| {
            let Head { block, certificate, registry, .. } = self.head(height);
            let validators = registry.validators_at(height as u64 + 1).expect("a set");
            let (header, certificate) = (block.header.clone(), certificate.clone());
            ValidatorStep { header, certificate, validators }
        })
    }

    /// The validator chain, encoded.
    pub(crate) fn chain(&self) -> Vec<u8> {
        encode_steps(&self.steps())
    }
}

pub(crate) fn encode_steps(steps: &[ValidatorStep]) -> Vec<u8> {
    let steps = steps.iter().map(ValidatorStep::to_proto).collect();
    v1::ValidatorChain { steps }.encode_to_vec()
}

/// The outcomes of a transaction whose records are all new.
pub(crate) fn applied(transaction: &VerifiedTransaction) -> Vec<SlotOutcome> {
    vec![SlotOutcome::Applied; transaction.slots().len()]
}

/// The entries of transactions from this log index on.
fn entries_of(log_start: u64, transactions: &[VerifiedTransaction]) -> Vec<HistoryEntry> {
    let mut entries = Vec::new();
    for (log_index, transaction) in (log_start..).zip(transactions) {
        for (position, slot) in (0..).zip(transaction.slots()) {
            let entry = |key: &Hash| HistoryEntry { key: *key, log_index, position };
            entries.extend(slot.subject_keys.iter().map(entry));
        }
    }
    entries
}

/// The proposal to exchange the validator's key of one seed for that of another.
pub(crate) fn exchange(
    registry: &Registry,
    not_after_ms: u64,
    old: u8,
    new: u8,
) -> RegistryProposal {
    let is_old = |entry: &&v1::RegistryEntry| match &entry.entry {
        Some(Entry::Validator(entry)) => entry.public_key == key(old).public().as_bytes(),
        _ => false,
    };
    let old = registry.entries().find(is_old).expect("registered").clone();
    let Some(Entry::Validator(validator)) = &old.entry else { panic!("a validator") };
    let public_key = key(new).public().as_bytes().to_vec();
    let added = v1::ValidatorEntry { public_key, ..validator.clone() };
    let added = v1::RegistryEntry { entry: Some(Entry::Validator(added)), ..old.clone() };
    RegistryProposal::new(
        &registry.members_root(),
        not_after_ms,
        vec![added],
        vec![old],
        "a new key",
    )
    .expect("one")
}

pub(crate) fn certificate(
    chain_id: &Hash,
    validators: &ValidatorSet,
    header: &Header,
    kind: VoteKind,
    signers: [u8; 3],
) -> Certificate {
    let ballot = ballot(header, kind);
    let votes = signers.map(|seed| Vote::sign(ballot, chain_id, &key(seed)));
    Certificate::from_votes(ballot, &votes, validators).expect("a quorum")
}

pub(crate) fn ballot(header: &Header, kind: VoteKind) -> Ballot {
    let block_hash = if kind == VoteKind::Nullify { Hash::ZERO } else { header.hash() };
    Ballot { kind, height: header.height, view: 1, block_hash }
}
