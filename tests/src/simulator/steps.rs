//! What an event does: to a driver, and by what the driver then wants done, to the others.

use std::sync::Arc;

use bytes::Bytes;
use customhouse_consensus::{Evidence, Message, Signatures};
use customhouse_ledger::{keys::PublicKey, transaction::VerifiedTransaction};
use customhouse_node::driver::{Driver, DriverError, DriverInput, Fetch};
use rand::RngExt as _;

use super::{
    disk::JournalDisk,
    endpoint::endpoints_of,
    event::Event,
    liar::{encode, rests_on},
    run::{LIFETIME_MS, Simulation},
    world::{Out, World},
};

/// How long each node leaves to the one before it to report a breach.
const TURN_MS: u64 = 2_000;

impl Simulation {
    pub(super) fn take(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Gossip { to, from, topic, bytes } => {
                self.gossip_arrives((to, from), topic, &bytes)
            }
            Event::Push { to, from, bytes } => self.push_arrives((to, from), &bytes),
            Event::Ask { to, from, job, request } => self.answer(to, from, job, &request),
            Event::Answer { to, job, response } => self.answered(to, job, response),
            Event::JobTimer { at, job } => self.job_timer(at, job),
            Event::JobAgain { at, job } => self.job_again(at, job),
            Event::Gather { at, epoch, monotonic_ms } => {
                self.gather_at(at, epoch, monotonic_ms);
                Ok(())
            }
            Event::Input { at, epoch, input } if self.runs(at, epoch) => {
                self.drive(at, |driver| driver.take(*input))
            }
            Event::Tick { at, epoch, monotonic_ms } => self.tick(at, epoch, monotonic_ms),
            Event::Connect { at, to } => self.connected(at, to),
            Event::LetIn { at, epoch, peer } => {
                self.let_in(at, epoch, peer);
                Ok(())
            }
            Event::Submit => self.submit(),
            Event::Client { at } => self.client_submits(at),
            Event::Report { at, epoch, evidence } if self.runs(at, epoch) => {
                self.report(at, &evidence)
            }
            Event::Lie { at } if self.attacks.contains_key(&at) => self.strike_out(at),
            Event::Lie { at } => self.lie(at),
            Event::Fault(fault) => self.strike(fault),
            Event::Start { at, epoch } if self.endpoints[at].epoch == epoch => self.start(at),
            Event::Mend(links) => self.mend(&links),
            Event::Renew(links) => {
                self.renew(&links);
                Ok(())
            }
            Event::Unclog(link) => {
                self.links.unclog(link);
                Ok(())
            }
            Event::Input { .. } | Event::Start { .. } | Event::Report { .. } => Ok(()),
        }
    }

    pub(super) fn runs(&self, index: usize, epoch: u64) -> bool {
        self.endpoints[index].epoch == epoch && self.endpoints[index].process.is_some()
    }

    /// Starts a process that does not run, as a node does: the outbox comes back into the mempool.
    pub(super) fn start(&mut self, index: usize) -> Result<(), String> {
        if self.liars.contains_key(&index) || self.endpoints[index].process.is_some() {
            return Ok(());
        }
        self.name_newer_key(index);
        let endpoint = &mut self.endpoints[index];
        if let Err(error) = endpoint.start(&self.identities, &self.genesis, self.now) {
            return self.driver_failed(index, &DriverError::Store(error));
        }
        self.drive(index, Driver::begin)?;
        let unix_ms = self.endpoints[index].now(self.now).unix_ms;
        for encoded in self.endpoints[index].outbox.values().cloned().collect::<Vec<_>>() {
            let verified = VerifiedTransaction::from_bytes(encoded.clone(), &self.chain_id);
            let transaction = verified.map_err(|error| error.to_string())?;
            if self.endpoints[index].place(Arc::new(transaction), unix_ms) {
                self.broadcast_transaction(index, &encoded);
            }
        }
        for other in 0..self.endpoints.len() {
            self.connect(index, other);
        }
        self.drive(index, |driver| driver.work())
    }

    /// Two endpoints that run and can reach each other learn of each other.
    pub(super) fn connect(&mut self, a: usize, b: usize) {
        let runs = |index: usize| {
            self.endpoints[index].process.is_some() || self.liars.contains_key(&index)
        };
        let same = self.endpoints[a].identity == self.endpoints[b].identity;
        if !same && runs(a) && runs(b) && self.reach_each_other(a, b) {
            self.later(5, Event::Connect { at: a, to: b });
            self.later(5, Event::Connect { at: b, to: a });
        }
    }

    fn connected(&mut self, at: usize, to: usize) -> Result<(), String> {
        let peer = self.identities[self.endpoints[to].identity].peer;
        self.drive(at, |driver| driver.take(DriverInput::Connected(peer)))?;
        self.gather(at);
        Ok(())
    }

    /// Whether a link is up and each has the other on its list.
    pub(super) fn reach_each_other(&self, a: usize, b: usize) -> bool {
        self.links.are_connected(a, b)
            && self.lists(a, b)
            && self.lists(b, a)
            && self.are_on_terms(a, b)
    }

    /// Whether an endpoint talks to another: liars to everybody.
    fn lists(&self, index: usize, other: usize) -> bool {
        let peer = &self.identities[self.endpoints[other].identity].peer;
        let process = self.endpoints[index].process.as_ref();
        process.is_none_or(|process| process.listed.contains(peer))
    }

    /// Peers that a process is connected to.
    pub(super) fn peers_of(&self, index: usize) -> Vec<PublicKey> {
        let own = self.endpoints[index].identity;
        let mut peers = Vec::new();
        for (other, endpoint) in self.endpoints.iter().enumerate() {
            let up = endpoint.process.is_some() || self.liars.contains_key(&other);
            let peer = self.identities[endpoint.identity].peer;
            if endpoint.identity != own
                && up
                && self.reach_each_other(index, other)
                && !peers.contains(&peer)
            {
                peers.push(peer);
            }
        }
        peers
    }

    /// Lets a driver do something, and does what it wants done. A process whose write failed ends.
    pub(super) fn drive(
        &mut self,
        index: usize,
        step: impl FnOnce(&mut Driver<World, JournalDisk>) -> Result<(), DriverError>,
    ) -> Result<(), String> {
        let now = self.endpoints[index].now(self.now);
        let Some(process) = &mut self.endpoints[index].process else { return Ok(()) };
        let catching_up = process.fetching.is_catching_up();
        let world = process.driver.outside();
        (world.now, world.catching_up) = (now, catching_up);
        let outcome = step(&mut process.driver);
        let wanted = std::mem::take(&mut process.driver.outside().out);
        self.fetches_max = self.fetches_max.max(process.fetching.count());
        let wake_at = process.driver.wake_at();
        let mut transactions = Vec::new();
        for out in wanted {
            match out {
                Out::Transaction(encoded) if self.keeps(index, &encoded) => {}
                Out::Transaction(encoded) => transactions.push(encoded),
                out => self.carry_out(index, out)?,
            }
        }
        if !transactions.is_empty() {
            self.publish_transactions(index, transactions);
        }
        self.watch_attacker(index);
        match outcome {
            Ok(()) => {
                self.set_timer(index, now.monotonic_ms, wake_at);
                Ok(())
            }
            Err(error) => self.driver_failed(index, &error),
        }
    }

    fn set_timer(&mut self, at: usize, now_ms: u64, wake_at: Option<u64>) {
        let Some(monotonic_ms) = wake_at else { return };
        let epoch = self.endpoints[at].epoch;
        let delay = monotonic_ms.saturating_sub(now_ms).max(1);
        self.later(delay, Event::Tick { at, epoch, monotonic_ms });
    }

    fn tick(&mut self, at: usize, epoch: u64, monotonic_ms: u64) -> Result<(), String> {
        let process = self.endpoints[at].process.as_ref();
        let due = process.and_then(|process| process.driver.wake_at());
        if !self.runs(at, epoch) || due.is_none_or(|due| due > monotonic_ms) {
            // Another timer has taken its place.
            return Ok(());
        }
        self.drive(at, Driver::tick)
    }

    fn carry_out(&mut self, index: usize, out: Out) -> Result<(), String> {
        match out {
            Out::Publish(messages) => {
                self.check_sent(index, &messages)?;
                self.publish(index, &messages);
            }
            Out::Push(peer, message) => {
                self.check_sent(index, std::slice::from_ref(&message))?;
                let bytes = Bytes::from(encode(&[message]));
                let places: Vec<_> =
                    endpoints_of(&self.endpoints, &self.identities, peer).collect();
                for to in places {
                    let bytes = bytes.clone();
                    self.send(index, to, move || Event::Push {
                        to,
                        from: index,
                        bytes: bytes.clone(),
                    });
                }
            }
            Out::Charged(peer, reason) => self.charged(index, peer, reason)?,
            Out::Transaction(encoded) => self.broadcast_transaction(index, &encoded),
            Out::Fetch(fetch) => self.begin_fetch(index, fetch),
            Out::Listed(listed) => {
                if let Some(process) = &mut self.endpoints[index].process {
                    process.listed = listed;
                }
                for other in 0..self.endpoints.len() {
                    self.connect(index, other);
                }
            }
            Out::Committed(block) => {
                if self.oracle.committed(&block)? {
                    self.note_changes(index, &block);
                    self.note_agreements(&block);
                }
                self.summary.later_views += u64::from(block.header.view > 1);
                for transaction in &block.transactions {
                    self.endpoints[index].outbox.remove(&transaction.id());
                    self.client_is_told(index, &transaction.id());
                }
            }
            Out::Evidence(evidence) => {
                self.oracle.accused(&evidence)?;
                self.report_later(index, evidence);
            }
        }
        Ok(())
    }

    /// Nodes take turns to report a breach, in the order of the validators.
    fn report_later(&mut self, at: usize, evidence: Evidence) {
        let epoch = self.endpoints[at].epoch;
        let turn = self.endpoints[at].identity as u64;
        let evidence = Box::new(evidence);
        self.later(1 + turn * TURN_MS, Event::Report { at, epoch, evidence });
    }

    fn report(&mut self, at: usize, evidence: &Evidence) -> Result<(), String> {
        let endpoint = &self.endpoints[at];
        let Some(process) = &endpoint.process else { return Ok(()) };
        let known = process.reader.misbehaviour(&evidence.dedupe_key());
        if known.map_err(|error| error.to_string())?.is_some() {
            return Ok(());
        }
        let identity = &self.identities[endpoint.identity];
        let report = VerifiedTransaction::report(
            evidence,
            "node",
            identity.agency,
            endpoint.now(self.now).unix_ms + LIFETIME_MS,
            &self.chain_id,
            &identity.signing,
        );
        let report = report.map_err(|error| error.to_string())?;
        self.accept(at, report.encoded().clone()).map(|_| ())
    }

    /// Nothing leaves before what it rests on is durable, and no key says two things.
    fn check_sent(&mut self, index: usize, messages: &[Message]) -> Result<(), String> {
        let endpoint = &self.endpoints[index];
        let identity = &self.identities[endpoint.identity];
        for message in messages {
            let Some((signer, entry)) = rests_on(message) else { continue };
            let Some(place) = identity.place_of(&signer) else { continue };
            if !endpoint.journals[place].has_held(&entry) {
                return Err(format!("endpoint {index} sent before its journal held {message:?}"));
            }
            let decides = endpoint.process.as_ref();
            let decides = decides.and_then(|p| p.reader.validators_at(message.height()));
            if decides.is_some_and(|validators| validators.index_of(&signer).is_none()) {
                return Err(format!("endpoint {index} signed without a vote: {message:?}"));
            }
            self.oracle.sent(message, &signer)?;
        }
        Ok(())
    }

    fn begin_fetch(&mut self, index: usize, fetch: Fetch) {
        let epoch = self.endpoints[index].epoch;
        if let (&Fetch::OwnSignatures { peer, validator, .. }, true) =
            (&fetch, self.endpoints[index].twin)
        {
            // Its other half would be found out.
            let (tip_height, signed) = (0, Signatures::default());
            let input = DriverInput::OwnSignatures { peer, validator, tip_height, signed };
            return self.later(1, Event::Input { at: index, epoch, input: Box::new(input) });
        }
        let connected = self.peers_of(index);
        let Some(process) = &mut self.endpoints[index].process else { return };
        for job in process.fetching.begin(fetch, &connected) {
            self.ask(index, job);
        }
        self.gather(index);
    }

    /// Puts a message on a link: late, lost, or twice, as it happens.
    pub(super) fn send(&mut self, from: usize, to: usize, event: impl Fn() -> Event) {
        let same = self.endpoints[from].identity == self.endpoints[to].identity;
        let listed = self.lists(from, to) && self.lists(to, from);
        if same || !listed || !self.are_on_terms(from, to) {
            return;
        }
        if !self.links.carries((from, to)) {
            self.summary.lost += 1;
            return;
        }
        let rng = &mut self.streams.network;
        if !self.calm && rng.random_ratio(self.swarm.loss, 1000) {
            self.summary.lost += 1;
            return;
        }
        let mut copies = 1;
        if !self.calm && rng.random_ratio(self.swarm.duplication, 1000) {
            self.summary.duplicated += 1;
            copies = 2;
        }
        for _ in 0..copies {
            let delay = self.delay((from, to));
            self.later(delay, event());
        }
    }

    pub(super) fn delay(&mut self, link: (usize, usize)) -> u64 {
        // An attacker hears before all others do, and is quick with what it does to them.
        let hears = self.attacks.get(&link.1).is_some_and(|attack| attack.kind.lies());
        let quick = hears || self.attacking;
        let rng = &mut self.streams.network;
        if quick {
            return 1;
        }
        if self.calm {
            return rng.random_range(1..=20);
        }
        let (min, max) = (self.swarm.delay_min, self.swarm.delay_max);
        let mut delay = rng.random_range(min..=max) + self.links.extra_ms(link);
        if rng.random_ratio(self.swarm.straggler, 1000) {
            self.summary.straggled += 1;
            delay += rng.random_range(500..10_000);
        }
        delay
    }

    /// A twin that saw what its other half signed would stop, as it should.
    pub(super) fn is_of_own_key(&self, index: usize, message: &Message) -> bool {
        let own = self.identities[self.endpoints[index].identity].validator().public();
        let process = self.endpoints[index].process.as_ref();
        let validators = process.and_then(|p| p.reader.validators_at(message.height()));
        let validators = validators.unwrap_or_else(|| self.genesis.validators());
        match message {
            Message::Proposal(proposal) => proposal.leader == own,
            Message::Vote(vote) => vote.validator == own,
            Message::Certificate(certificate) => {
                certificate.votes(&validators).iter().any(|vote| vote.validator == own)
            }
            Message::Tip(_) => false,
        }
    }

    fn lie(&mut self, at: usize) -> Result<(), String> {
        let rng = &mut self.streams.byzantine;
        let pause = rng.random_range(20..400);
        let words = rng.random_range(1..4);
        for _ in 0..words {
            let to = self.streams.byzantine.random_range(0..self.endpoints.len());
            let Some(Some(liar)) = self.liars.get(&at) else { break };
            let Some(said) = liar.speak(&mut self.streams.byzantine) else { continue };
            self.summary.lies += 1;
            let bytes = Bytes::from(said);
            if self.streams.byzantine.random() {
                self.send_gossip(at, to, super::gossip::Topic::Consensus, &bytes);
            } else {
                self.send(at, to, move || Event::Push { to, from: at, bytes: bytes.clone() });
            }
        }
        self.later(pause, Event::Lie { at });
        Ok(())
    }
}
