//! Whom a driver blames: drivers of four agencies, with stores of their own and without a network.

use std::sync::mpsc;

use bytes::Bytes;
use customhouse_consensus::{Entry, Evidence, Journal, Now, Signatures, Timing};
use customhouse_ledger::{
    chain::BlockOutcome,
    finality::vote::{Ballot, Vote, VoteKind},
    keys::{Signature, SigningKey},
    registry::genesis::Genesis,
    store::StoreOptions,
};
use customhouse_proto::v1::{
    self, AgencyEntry, PeerEntry, RegistryEntry, ValidatorEntry,
    registry_entry::Entry as Registered, sync_response::Response,
};
use tempfile::TempDir;

use super::*;
use crate::{mempool::MempoolLimits, network::Judgement};

const UNIX_MS: u64 = 1_700_000_000_000;
const HEARTBEAT_MS: u64 = 600_000;

fn code(agency: usize) -> AgencyCode {
    format!("AGENCY-{agency}").parse().expect("a code")
}

fn validator(agency: usize) -> SigningKey {
    SigningKey::from_seed(&[agency as u8 + 1; 32])
}

fn peer(agency: usize) -> PublicKey {
    SigningKey::from_seed(&[agency as u8 + 101; 32]).public()
}

fn genesis() -> Genesis {
    let open = |entry| RegistryEntry { from_height: 0, end_height: 0, entry: Some(entry) };
    let entries = (0..4).flat_map(|i| {
        let agency = code(i).to_string();
        let (votes, talks) = (validator(i).public(), peer(i));
        let bytes = |key: PublicKey| key.as_bytes().to_vec();
        [
            Registered::Agency(AgencyEntry { agency: agency.clone(), ..Default::default() }),
            Registered::Validator(ValidatorEntry {
                agency: agency.clone(),
                public_key: bytes(votes),
            }),
            Registered::Peer(PeerEntry { agency, public_key: bytes(talks) }),
        ]
    });
    Genesis::new("test".into(), 1, 10, entries.map(open).collect()).expect("valid")
}

/// What a driver wants done, written down.
struct World {
    now: Now,
    said: Vec<Message>,
    charged: Vec<(PublicKey, &'static str)>,
    fetches: Vec<Fetch>,
}

impl Outside for World {
    fn now(&self) -> Now {
        self.now
    }

    fn publish(&mut self, messages: Vec<Message>) {
        self.said.extend(messages);
    }

    fn push(&mut self, _peer: PublicKey, _message: Message) {}

    fn charge(&mut self, peer: PublicKey, reason: &'static str) {
        self.charged.push((peer, reason));
    }

    fn publish_transaction(&mut self, _encoded: Bytes) {}

    fn fetch(&mut self, fetch: Fetch) {
        self.fetches.push(fetch);
    }

    fn is_catching_up(&self) -> bool {
        false
    }

    fn committed(&mut self, _block: Arc<BlockOutcome>) {}

    fn listed(&mut self, _peers: &[(AgencyCode, PublicKey)]) {}

    fn evidence(&mut self, _evidence: &Evidence) {}

    fn status(&mut self, _status: ConsensusStatus) {}
}

struct Forgetful;

impl Journal for Forgetful {
    type Error = JournalError;

    fn append(&mut self, _entries: &[Entry]) -> Result<(), JournalError> {
        Ok(())
    }
}

impl SignerMemory for Forgetful {
    fn height_committed(&mut self, _height: u64) -> Result<(), JournalError> {
        Ok(())
    }
}

type TestDriver = Driver<World, Forgetful>;

/// Four drivers whose peers have been asked about their keys, at the first heartbeat.
struct Agencies {
    drivers: Vec<TestDriver>,
    _folder: TempDir,
}

impl Agencies {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let genesis = genesis();
        let drivers = (0..4).map(|i| {
            let path = folder.path().join(i.to_string());
            let chain = Chain::open(&path, &genesis, &StoreOptions::default()).expect("opened");
            let key = validator(i);
            let (public, key) = (key.public(), Ok(key));
            let parts = DriverParts {
                chain,
                signer: VotingKey { public, key, journal: Forgetful, entries: Vec::new() },
                next_signer: None,
                mempool: Arc::new(Mutex::new(Mempool::new(MempoolLimits::default()))),
                own_peer: peer(i),
                more_peers: Vec::new(),
                timing: Timing::default(),
                metrics: Metrics::new(|_| {}),
            };
            let now = Now { monotonic_ms: 0, unix_ms: UNIX_MS };
            let (said, charged, fetches) = Default::default();
            let mut driver = Driver::new(parts, World { now, said, charged, fetches });
            driver.begin().expect("begun");
            for other in (0..4).filter(|&other| other != i) {
                let told = own_signatures(i, other, Signatures::default());
                driver.take(told).expect("taken");
            }
            assert!(driver.core().is_signing());
            driver
        });
        Self { drivers: drivers.collect(), _folder: folder }
    }

    /// The index of the agency that leads the first view of height 1.
    fn leader(&self) -> usize {
        let leader = self.drivers[0].core().leader();
        (0..4).find(|&i| validator(i).public() == leader).expect("a validator leads")
    }

    /// The leader proposes at the heartbeat, and everybody hears everybody, except that this one
    /// hears no finalize votes: gives those that it lacks, each with its signer.
    fn decide_without(&mut self, deaf: usize) -> Vec<(usize, Message)> {
        for driver in &mut self.drivers {
            let now = Now { monotonic_ms: HEARTBEAT_MS, unix_ms: UNIX_MS + HEARTBEAT_MS };
            driver.outside().now = now;
            driver.tick().expect("a tick");
        }
        let mut withheld = Vec::new();
        loop {
            let said: Vec<_> = (0..4)
                .flat_map(|i| {
                    let said = std::mem::take(&mut self.drivers[i].outside().said);
                    said.into_iter().map(move |message| (i, message))
                })
                .collect();
            if said.is_empty() {
                return withheld;
            }
            for (from, message) in said {
                for to in (0..4).filter(|&to| to != from) {
                    let decides = match &message {
                        Message::Vote(vote) => vote.ballot.kind == VoteKind::Finalize,
                        Message::Certificate(held) => held.ballot.kind == VoteKind::Finalize,
                        Message::Tip(_) => true,
                        Message::Proposal(_) => false,
                    };
                    if to == deaf && decides {
                        withheld.push((from, message.clone()));
                        continue;
                    }
                    let input = message_of(from, message.clone(), None);
                    self.drivers[to].take(input).expect("taken");
                }
            }
        }
    }
}

fn message_of(from: usize, message: Message, judgement: Option<PendingJudgement>) -> DriverInput {
    DriverInput::Message { from: peer(from), message, judgement }
}

fn own_signatures(of: usize, told_by: usize, signed: Signatures) -> DriverInput {
    let validator = validator(of).public();
    DriverInput::OwnSignatures { peer: peer(told_by), validator, tip_height: 0, signed }
}

/// Hands over a message without a judgement; gives who is charged for anything by the end of the turn.
fn hand_over(
    driver: &mut TestDriver,
    from: usize,
    message: Message,
) -> Vec<(PublicKey, &'static str)> {
    driver.take(message_of(from, message, None)).expect("taken");
    std::mem::take(&mut driver.outside().charged)
}

/// Hands over a message as gossip; gives what becomes of it.
fn gossip(driver: &mut TestDriver, from: usize, message: Message) -> Judgement {
    let (judge, judged) = mpsc::channel();
    let told = move |judgement| judge.send(judgement).expect("somebody listens");
    let judgement = PendingJudgement::told_to(1, told);
    driver.take(message_of(from, message, Some(judgement))).expect("taken");
    judged.try_recv().expect("judged in the same turn")
}

fn vote(key: &SigningKey, chain_id: &Hash, height: u64) -> Vote {
    let ballot =
        Ballot { kind: VoteKind::Notarize, height, view: 1, block_hash: Hash([height as u8; 32]) };
    Vote::sign(ballot, chain_id, key)
}

#[test]
fn whoever_speaks_while_a_height_begins_is_not_blamed_for_what_a_liar_said_of_it() {
    let mut agencies = Agencies::new();
    let leader = agencies.leader();
    let (deaf, liar) = ((leader + 1) % 4, (leader + 2) % 4);
    let withheld = agencies.decide_without(deaf);
    let driver = &mut agencies.drivers[deaf];
    let chain_id = driver.chain_id;
    // Signed by a key that has no vote: at this height nobody can know whether it has one at the next.
    let stranger = Message::Vote(vote(&SigningKey::from_seed(&[99; 32]), &chain_id, 2));
    assert_eq!(gossip(driver, liar, stranger), Judgement::Ignored, "not passed on");
    // In another's name: that shows at once.
    let named = vote(&validator(liar), &chain_id, 2);
    let named = Message::Vote(Vote { validator: validator(leader).public(), ..named });
    assert_eq!(gossip(driver, liar, named.clone()), Judgement::Rejected("SIGNATURE", 0));
    assert_eq!(driver.outside().charged, [], "by its judgement, and once");
    assert_eq!(hand_over(driver, liar, named), [(peer(liar), "SIGNATURE")]);
    let votes = withheld.into_iter().filter(|(from, message)| {
        matches!(message, Message::Vote(vote) if vote.validator == validator(*from).public())
    });
    for (from, message) in votes {
        let before = driver.core().height();
        // Once the height is committed its votes are of no use.
        let expected = if before == 1 { Judgement::Accepted } else { Judgement::Ignored };
        assert_eq!(gossip(driver, from, message), expected, "from {from} at height {before}");
    }
    assert_eq!(driver.core().height(), 2, "committed while an honest peer spoke");
    assert_eq!(driver.outside().charged, [(peer(liar), "NOT_A_VALIDATOR")]);
}

#[test]
fn each_way_in_charges_who_sent_what_is_forged_and_nobody_else() {
    let mut agencies = Agencies::new();
    let driver = &mut agencies.drivers[0];
    let chain_id = driver.chain_id;
    let mut forged = vote(&validator(2), &chain_id, 1);
    forged.signature = Signature([7; 64]);
    // As an answer, or pushed without a judgement.
    driver.take(message_of(1, Message::Vote(forged), None)).expect("taken");
    assert_eq!(driver.outside().charged, [(peer(1), "SIGNATURE")]);
    // As what is held of this node's key.
    let own = Vote { validator: validator(0).public(), ..forged };
    let held = Signatures { votes: vec![own], claims: Vec::new() };
    driver.take(own_signatures(0, 3, held)).expect("taken");
    assert_eq!(driver.outside().charged[1..], [(peer(3), "SIGNATURE")]);
    assert!(driver.core().is_signing());
    // What is late, far or known is nobody's fault.
    let far = Vote::sign(Ballot { height: u64::MAX, ..forged.ballot }, &chain_id, &validator(2));
    driver.take(message_of(1, Message::Vote(far), None)).expect("taken");
    assert_eq!(driver.outside().charged.len(), 2);
}

#[test]
fn a_block_whose_leaves_are_not_its_own_is_charged_to_who_sent_it_and_asked_of_others() {
    let mut agencies = Agencies::new();
    let leader = agencies.leader();
    let (deaf, liar) = ((leader + 1) % 4, (leader + 2) % 4);
    agencies.decide_without(deaf);
    let committed = agencies.drivers[leader].chain.reader().block(1).expect("readable");
    let mut block = committed.expect("committed at the leader").block;
    // Though the block itself was executed here, to be voted for.
    block.leaves.push(Hash([3; 32]));
    let driver = &mut agencies.drivers[deaf];
    let connected = [peer(liar), peer(leader)];
    let now = |ms| gather::Surroundings { ms, tip: 0, connected: &connected };
    let mut gathering = gather::Gathering::default();
    gathering.want_block(1, block.hash(), vec![peer(liar)]);
    let (asks, _) = gathering.next(now(0));
    assert_eq!(asks.iter().map(|ask| ask.peer).collect::<Vec<_>>(), [peer(liar)]);
    let found = Some(customhouse_consensus::wire::block_to_proto(&block));
    let answer = Response::Block(v1::BlockResponse { block: found });
    let reader = driver.chain.reader();
    let gave = answers::gave(answer, &asks[0].request, &block.hash(), &reader);
    gathering.answered((asks[0].number, block.hash()), Some(gave));
    let (asks, told) = gathering.next(now(1));
    assert_eq!(asks.iter().map(|ask| ask.peer).collect::<Vec<_>>(), [peer(leader)]);
    told.into_iter().for_each(|told| driver.take(told).expect("taken"));
    assert_eq!(driver.outside().charged, [(peer(liar), "BLOCK")]);
}
