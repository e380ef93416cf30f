//! A run: the network, its clock, and the order of events.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hasher as _},
    sync::Arc,
};

use bytes::Bytes;
use customhouse_ledger::{
    hash::Hash,
    keys::SigningKey,
    record::{ValidRecord, dedupe_key},
    registry::genesis::Genesis,
    transaction::{DedupeScope, VerifiedTransaction},
};
use customhouse_proto::v1;
use rand::RngExt as _;
use tokio::time::Instant;

use super::{
    Failure, Outcome,
    attack::Attack,
    attacker::Attacker,
    endpoint::Endpoint,
    event::Event,
    faults::Fault,
    identity::{Identity, genesis, identities},
    liar::Liar,
    links::Links,
    mutant::Mutant,
    oracle::Oracle,
    streams::Streams,
    summary::Summary,
    swarm::{Lie, Swarm},
};

/// After the last fault, everything acknowledged is committed everywhere within this time.
pub const HEALING_MS_MAX: u64 = 30_000;
/// More events than any run needs: something goes round in circles.
const EVENTS_MAX: u64 = 4_000_000;
/// A transaction lives this long.
pub(super) const LIFETIME_MS: u64 = 12 * 3_600_000;

pub(super) struct Simulation {
    pub(super) mutant: Option<Mutant>,
    pub(super) swarm: Swarm,
    pub(super) streams: Streams,
    pub(super) identities: Vec<Identity>,
    pub(super) genesis: Genesis,
    pub(super) chain_id: Hash,
    pub(super) endpoints: Vec<Endpoint>,
    /// Endpoints that run no code of ours; silent ones have nothing to say either.
    pub(super) liars: BTreeMap<usize, Option<Liar>>,
    /// Endpoints that run our code, and do something to the others beside it.
    pub(super) attacks: BTreeMap<usize, Attack>,
    /// Endpoints in the place of an attacker that is not there.
    pub(super) bystanders: BTreeSet<usize>,
    /// What is sent is an attacker's.
    pub(super) attacking: bool,
    /// Honest nodes that hold something against each other are counted, not a failure.
    pub(super) tolerates_blame: bool,
    /// Transactions that clients wait for, and at which endpoint.
    pub(super) waiting: BTreeMap<Hash, usize>,
    /// How many of them were final in time.
    pub(super) won: u64,
    /// Most things that a node fetched at a time.
    pub(super) fetches_max: u64,
    /// Most bytes of fetched bodies that a node held for blocks.
    pub(super) held_max: u64,
    /// The moment at which virtual time begins, on the clock by which the real network counts.
    pub(super) began: Instant,
    pub(super) links: Links,
    queue: BTreeMap<(u64, u64), Event>,
    queued: u64,
    pub(super) now: u64,
    /// All faults have ended.
    pub(super) calm: bool,
    pub(super) oracle: Oracle,
    pub(super) summary: Summary,
    submitted: Vec<Bytes>,
    /// Ids that were lodged sealed.
    pub(super) sealed: Vec<Hash>,
    numbered: u64,
}

impl Simulation {
    pub(super) fn new(seed: u64, mutant: Option<Mutant>) -> Self {
        let mut streams = Streams::new(seed);
        let swarm = Swarm::draw(&mut streams);
        Self::with(swarm, streams, mutant)
    }

    pub(super) fn with(swarm: Swarm, streams: Streams, mutant: Option<Mutant>) -> Self {
        let identities = identities(swarm.validators + swarm.spares);
        let genesis = genesis(&identities[..swarm.validators]);
        let mut simulation = Self {
            chain_id: genesis.chain_id(),
            oracle: Oracle::new(&genesis),
            endpoints: (0..identities.len())
                .map(|index| Endpoint::new(index, false, &swarm, mutant))
                .collect(),
            mutant,
            swarm,
            streams,
            identities,
            genesis,
            liars: BTreeMap::new(),
            attacks: BTreeMap::new(),
            bystanders: BTreeSet::new(),
            attacking: false,
            tolerates_blame: false,
            waiting: BTreeMap::new(),
            won: 0,
            fetches_max: 0,
            held_max: 0,
            began: Instant::now(),
            links: Links::default(),
            queue: BTreeMap::new(),
            queued: 0,
            now: 0,
            calm: false,
            summary: Summary { seeds: 1, ..Summary::default() },
            submitted: Vec::new(),
            sealed: Vec::new(),
            numbered: 0,
        };
        simulation.place_lies();
        simulation
    }

    fn place_lies(&mut self) {
        let validators = self.genesis.validators();
        for (index, lie) in self.swarm.lies.clone().into_iter().enumerate() {
            let key = self.identities[index].validator();
            self.oracle.excused.insert(key.public());
            match lie {
                Lie::Twins => {
                    self.summary.twins += 1;
                    self.endpoints[index].twin = true;
                    self.endpoints.push(Endpoint::new(index, true, &self.swarm, None));
                }
                Lie::Silent => {
                    self.summary.silent += 1;
                    self.liars.insert(index, None);
                }
                Lie::Liar => {
                    self.summary.liars += 1;
                    let liar = Liar::new(self.chain_id, key.clone(), validators.clone());
                    self.liars.insert(index, Some(liar));
                }
                Lie::Attacker(attacker) => self.place_attacker(index, attacker),
            }
        }
    }

    pub(super) fn place_attacker(&mut self, index: usize, attacker: Attacker) {
        self.summary.attackers += 1;
        self.oracle.excused.insert(self.identities[index].validator().public());
        if attacker.runs() {
            self.attacks.insert(index, Attack::new(attacker));
        } else {
            self.liars.insert(index, None);
        }
    }

    pub(super) fn begin_attacks(&mut self) {
        let attacks: Vec<_> = self.attacks.iter().map(|(at, attack)| (*at, attack.kind)).collect();
        attacks.into_iter().for_each(|(at, kind)| self.begin_attack(at, kind));
    }

    pub(super) fn next_event(&mut self) -> Option<(u64, Event)> {
        self.queue.pop_first().map(|((at, _), event)| (at, event))
    }

    /// Runs until all faults have ended and everything is well again.
    pub(super) fn run(mut self, seed: u64) -> Result<Outcome, Failure> {
        let mut trace = DefaultHasher::new();
        match self.play(&mut trace) {
            Ok(()) => Ok(Outcome { summary: self.summary, trace: trace.finish() }),
            Err(what) => {
                Err(Failure { seed, at_ms: self.now, what, swarm: format!("{:?}", self.swarm) })
            }
        }
    }

    fn play(&mut self, trace: &mut DefaultHasher) -> Result<(), String> {
        for index in 0..self.endpoints.len() {
            self.start(index)?;
        }
        let chaos_ms = self.streams.swarm.random_range(10_000..60_000);
        self.schedule_first_events();
        let mut events = 0;
        let mut look_at = 0;
        while let Some((at, event)) = self.next_event() {
            self.now = at;
            events += 1;
            if events > EVENTS_MAX {
                return Err("events without end".to_owned());
            }
            if !self.calm && at >= chaos_ms {
                self.end_all_faults()?;
            }
            if self.calm && at >= look_at {
                look_at = at + 250;
                if self.is_healed()? {
                    return self.finish(at - chaos_ms);
                }
                if at > chaos_ms + HEALING_MS_MAX {
                    return Err(self.what_is_missing());
                }
            }
            event.trace(at, trace);
            self.take(event)?;
        }
        Err("nothing is left to happen".to_owned())
    }

    fn schedule_first_events(&mut self) {
        self.later(1, Event::Submit);
        for fault in Fault::ALL {
            self.schedule_fault(fault);
        }
        let liars: Vec<usize> = self.liars.keys().copied().collect();
        for at in liars {
            self.later(10, Event::Lie { at });
        }
        self.begin_attacks();
    }

    /// Puts an event into the queue; one for a paused process waits until it goes on.
    pub(super) fn later(&mut self, delay: u64, event: Event) {
        self.queued += 1;
        let paused = event.endpoint().map_or(0, |index| self.endpoints[index].paused_until);
        self.queue.insert(((self.now + delay).max(paused), self.queued), event);
    }

    /// A pause has begun: what would happen meanwhile happens after it.
    pub(super) fn hold_up(&mut self, index: usize) {
        let until = self.endpoints[index].paused_until;
        let of_it = |event: &Event| event.endpoint() == Some(index);
        let held: Vec<_> =
            self.queue.range(..(until, 0)).filter(|(_, e)| of_it(e)).map(|(k, _)| *k).collect();
        for key in held {
            if let Some(event) = self.queue.remove(&key) {
                self.queue.insert((until, key.1), event);
            }
        }
    }

    /// Endpoints that run our code under a key that is not shared.
    pub(super) fn honest(&self) -> impl Iterator<Item = usize> + '_ {
        let honest = |index: &usize| {
            !self.liars.contains_key(index)
                && !self.attacks.contains_key(index)
                && !self.endpoints[*index].twin
        };
        (0..self.endpoints.len()).filter(honest)
    }

    pub(super) fn pick_honest(
        &mut self,
        stream: fn(&mut Streams) -> &mut rand_chacha::ChaCha8Rng,
    ) -> usize {
        let honest: Vec<usize> = self.honest().collect();
        honest[stream(&mut self.streams).random_range(0..honest.len())]
    }

    /// A client submits a transaction, or one that it submitted before, to a node.
    pub(super) fn submit(&mut self) -> Result<(), String> {
        let index = self.pick_honest(|streams| &mut streams.workload);
        let rng = &mut self.streams.workload;
        let again = !self.submitted.is_empty() && rng.random_ratio(self.swarm.repeat, 1000);
        let place = rng.random_range(0..self.submitted.len().max(1));
        let records = rng.random_range(1..=3);
        let pause = rng.random_range(1..=2 * self.swarm.submit_every);
        if !self.calm {
            self.later(pause, Event::Submit);
        }
        let encoded = match self.submitted.get(place) {
            Some(encoded) if again => encoded.clone(),
            _ => self.transaction(index, records),
        };
        self.accept(index, encoded).map(|_| ())
    }

    /// Every honest node gets one more transaction.
    pub(super) fn submit_everywhere(&mut self) -> Result<(), String> {
        for index in self.honest().collect::<Vec<_>>() {
            let encoded = self.transaction(index, 1);
            self.accept(index, encoded)?;
        }
        Ok(())
    }

    pub(super) fn transaction(&mut self, index: usize, records: u64) -> Bytes {
        let key = self.identities[self.endpoints[index].identity].signing.clone();
        let encoded = self.signed_transaction(index, records, &key);
        self.submitted.push(encoded.clone());
        encoded
    }

    /// Signed by somebody, for the agency of an endpoint.
    pub(super) fn signed_transaction(
        &mut self,
        index: usize,
        records: u64,
        key: &SigningKey,
    ) -> Bytes {
        self.padded_transaction(index, (records, 0), key)
    }

    /// The same, each record with so many bytes more.
    pub(super) fn padded_transaction(
        &mut self,
        index: usize,
        (records, padding): (u64, usize),
        key: &SigningKey,
    ) -> Bytes {
        let endpoint = &self.endpoints[index];
        let identity = &self.identities[endpoint.identity];
        self.numbered += 1;
        let number = self.numbered;
        let record = |position: u64| {
            let reference = format!("LRN-{number}-{position}");
            let declaration = v1::Declaration {
                regime: v1::declaration::Regime::Import as i32,
                reference: reference.clone(),
                office: "x".repeat(padding),
                ..Default::default()
            };
            let record = v1::Record {
                salt: vec![7; 32],
                submitter_role: v1::Role::Broker as i32,
                submitter_certificate: vec![6; 32],
                agency: identity.agency.to_string(),
                submitter: "broker".into(),
                body: Some(v1::record::Body::Declaration(declaration)),
                ..Default::default()
            };
            let valid = ValidRecord::from_record(record).expect("a valid record");
            (valid, dedupe_key(&identity.agency, "broker", &reference))
        };
        let records: Vec<_> = (0..records).map(record).collect();
        let not_after_ms = endpoint.now(self.now).unix_ms + LIFETIME_MS;
        let signed =
            VerifiedTransaction::sign(&records, identity.agency, not_after_ms, &self.chain_id, key);
        signed.expect("a valid transaction").encoded().clone()
    }

    /// A node takes a transaction from a client: durable in its outbox, then acknowledged. Gives its id
    /// where it was.
    pub(super) fn accept(&mut self, index: usize, encoded: Bytes) -> Result<Option<Hash>, String> {
        let now = self.endpoints[index].now(self.now);
        let paused = self.endpoints[index].paused_until > self.now;
        let verified = VerifiedTransaction::from_bytes(encoded.clone(), &self.chain_id);
        let transaction = Arc::new(verified.map_err(|error| error.to_string())?);
        let member = self.is_member(index);
        let endpoint = &mut self.endpoints[index];
        let Some(process) = endpoint.process.as_ref().filter(|_| !paused) else { return Ok(None) };
        // No client has heard of an agency that has not joined yet.
        if !member {
            return Ok(None);
        }
        if customhouse_node::admission::check(&process.reader, &transaction, now.unix_ms).is_err() {
            return Ok(None);
        }
        let id = transaction.id();
        if self.mutant == Some(Mutant::AcknowledgeBeforeSync) {
            let synced = std::mem::take(&mut endpoint.unsynced_outbox);
            endpoint.outbox.extend(synced);
            endpoint.unsynced_outbox.insert(id, encoded.clone());
        } else {
            endpoint.outbox.insert(id, encoded.clone());
        }
        self.oracle.acknowledged.insert(id, provable(&transaction));
        endpoint.admit(transaction, now.unix_ms);
        self.broadcast_transaction(index, &encoded);
        self.drive(index, |driver| driver.work())?;
        Ok(Some(id))
    }

    fn is_healed(&self) -> Result<bool, String> {
        let highest = self.endpoints.iter().map(Endpoint::height).max().unwrap_or(0);
        for index in self.honest().filter(|index| self.is_member(*index)) {
            let Some(process) = &self.endpoints[index].process else { return Ok(false) };
            let lags = process.reader.tip().header.height < highest;
            if lags || !self.oracle.missing(&process.reader)?.is_empty() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn what_is_missing(&self) -> String {
        let mut lines = vec![format!("not healed {HEALING_MS_MAX} ms after the last fault")];
        for index in 0..self.endpoints.len() {
            let endpoint = &self.endpoints[index];
            let Some(process) = &endpoint.process else {
                lines.push(format!("endpoint {index}: not running"));
                continue;
            };
            let core = process.driver.core();
            let missing = self.oracle.missing(&process.reader).map_or(0, |missing| missing.len());
            lines.push(format!(
                "endpoint {index}: height {}, view {}, signing {}, {missing} acknowledged missing, \
                 {} jobs, {} blocks being gathered",
                core.height(),
                core.view(),
                core.is_signing(),
                process.fetching.jobs.len(),
                process.fetching.gathering.count(),
            ));
        }
        lines.join("\n  ")
    }

    fn finish(&mut self, healing_ms: u64) -> Result<(), String> {
        for index in self.honest().collect::<Vec<_>>() {
            let endpoint = &self.endpoints[index];
            let keys = &self.identities[endpoint.identity].validators;
            for (key, journal) in keys.iter().zip(&endpoint.journals) {
                if !journal.is_stopped() {
                    continue;
                }
                self.summary.stopped_keys += 1;
                if !self.oracle.excused.contains(&key.public()) {
                    return Err(format!("a key of endpoint {index} was stopped without a reason"));
                }
            }
            if let Some(process) = &endpoint.process
                && self.is_member(index)
            {
                self.summary.receipts += self.oracle.proves(&process.reader)?;
            }
        }
        let summary = &mut self.summary;
        summary.healing_ms_max = healing_ms;
        summary.virtual_ms = self.now;
        summary.heights = self.oracle.height();
        summary.acknowledged = self.oracle.acknowledged.len() as u64;
        summary.equivocations = self.oracle.evidence.len() as u64;
        summary.recorded = self.oracle.recorded();
        Ok(())
    }

    /// The sides that a partition can have.
    pub(super) fn sides(&mut self) -> BTreeSet<usize> {
        let rng = &mut self.streams.network;
        (0..self.endpoints.len()).filter(|_| rng.random()).collect()
    }
}

/// The record of which there will be a receipt. A report of misbehaviour may have none: another node's
/// may be the one that counts.
fn provable(transaction: &VerifiedTransaction) -> Option<Hash> {
    let slot = transaction.slots().first()?;
    (slot.scope == DedupeScope::Agency).then_some(slot.record_id)
}
