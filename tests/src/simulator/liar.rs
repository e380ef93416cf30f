//! A validator that signs whatever it likes. It runs no rules; it hears everything, and says what
//! could divide the others.

use std::collections::VecDeque;

use customhouse_consensus::{CertifiedTip, Entry, Message};
use customhouse_ledger::{
    finality::{
        certificate::Certificate,
        header::Block,
        validators::ValidatorSet,
        vote::{Ballot, Proposal, Vote, VoteKind},
    },
    hash::Hash,
    keys::{PublicKey, SigningKey},
};
use customhouse_proto::v1::{self, sync_request::Request, sync_response::Response};
use prost::Message as _;
use rand::{RngExt as _, seq::IndexedRandom as _};
use rand_chacha::ChaCha8Rng;

/// Messages that it remembers.
const HEARD_MAX: usize = 300;

pub(super) struct Liar {
    chain_id: Hash,
    key: SigningKey,
    validators: ValidatorSet,
    heard: VecDeque<Message>,
    blocks: VecDeque<Block>,
}

impl Liar {
    pub(super) fn new(chain_id: Hash, key: SigningKey, validators: ValidatorSet) -> Self {
        let (heard, blocks) = (VecDeque::new(), VecDeque::new());
        Self { chain_id, key, validators, heard, blocks }
    }

    /// It knows who decides, like everybody.
    pub(super) fn learn(&mut self, validators: &ValidatorSet) {
        self.validators = validators.clone();
    }

    pub(super) fn hear(&mut self, message: &Message) {
        if let Message::Proposal(proposal) = message {
            self.blocks.push_back(proposal.block.clone());
        }
        self.heard.push_back(message.clone());
        while self.heard.len() > HEARD_MAX {
            self.heard.pop_front();
        }
        while self.blocks.len() > 16 {
            self.blocks.pop_front();
        }
    }

    /// Something to say to one peer, as it travels.
    pub(super) fn speak(&self, rng: &mut ChaCha8Rng) -> Option<Vec<u8>> {
        let message = match rng.random_range(0..10) {
            0..4 => Message::Vote(self.vote(rng)?),
            4..6 => Message::Proposal(self.proposal(rng)?),
            6 => Message::Certificate(self.certificate(rng)?),
            7 => self.replay(rng)?,
            8 => Message::Tip(self.tip(rng)?),
            _ => return Some(garbage(rng)),
        };
        Some(encode(&[message]))
    }

    /// What it answers to a request: something, nothing, or what was not asked for.
    pub(super) fn answer(&self, request: &Request, rng: &mut ChaCha8Rng) -> Option<Response> {
        let block = || self.blocks.iter().last().map(customhouse_consensus::wire::block_to_proto);
        Some(match (rng.random_range(0..4), request) {
            (0, _) => return None,
            (_, Request::Journal(_)) => {
                let tip_height = rng.random();
                Response::Journal(v1::JournalResponse { tip_height, ..Default::default() })
            }
            (1, Request::Blocks(_)) => {
                let certificate = self.certificate(rng).map(|c| c.encode()).unwrap_or_default();
                let block = Some(v1::CertifiedBlock { block: block(), certificate });
                let blocks = vec![v1::BlockWithBody { block, transactions: Vec::new() }];
                Response::Blocks(v1::BlocksResponse { blocks, tip: None })
            }
            (_, Request::Blocks(_)) => Response::Blocks(v1::BlocksResponse::default()),
            (1, Request::Block(_)) => Response::Block(v1::BlockResponse { block: block() }),
            (1, Request::Transactions(_)) => {
                let transactions = vec![garbage(rng).into(); 3];
                Response::Transactions(v1::TransactionsResponse { transactions })
            }
            (1, Request::Certificate(_)) => {
                let certificates = vec![self.certificate(rng)?.encode(), garbage(rng)];
                Response::Certificate(v1::CertificateResponse { certificates })
            }
            _ => Response::Block(v1::BlockResponse { block: None }),
        })
    }

    fn block(&self, rng: &mut ChaCha8Rng) -> Option<&Block> {
        let newest = self.blocks.iter().rev().take(4).collect::<Vec<_>>();
        newest.choose(rng).copied()
    }

    fn vote(&self, rng: &mut ChaCha8Rng) -> Option<Vote> {
        let block = self.block(rng)?;
        let kinds = [VoteKind::Notarize, VoteKind::Nullify, VoteKind::Finalize];
        let kind = *kinds.choose(rng)?;
        let view = match rng.random_range(0..20) {
            0 => rng.random(),
            1..5 => block.header.view.saturating_add(rng.random_range(0..10)),
            _ => block.header.view,
        };
        let block_hash = if kind == VoteKind::Nullify { Hash::ZERO } else { block.hash() };
        let height = block.header.height.saturating_add(u64::from(rng.random_ratio(1, 10)));
        let ballot = Ballot { kind, height, view, block_hash };
        Some(Vote::sign(ballot, &self.chain_id, &self.key))
    }

    /// A block of its own, or another's, with a justification that may not hold.
    fn proposal(&self, rng: &mut ChaCha8Rng) -> Option<Proposal> {
        let mut block = self.block(rng)?.clone();
        let view = block.header.view.saturating_add(rng.random_range(0..4));
        let parent_view = if rng.random() { 0 } else { rng.random_range(0..=view) };
        if rng.random() {
            block.header.time_ms = block.header.time_ms.saturating_add(rng.random_range(0..3));
            block.header.proposer = *self.key.public().as_bytes();
            block.header.view = view;
        }
        if rng.random_ratio(1, 8) {
            block.header.history_root.0[0] ^= 1;
        }
        Some(Proposal::sign(block, view, parent_view, &self.chain_id, &self.key))
    }

    /// A certificate of votes that were never given: its own, and others' with its signature.
    fn certificate(&self, rng: &mut ChaCha8Rng) -> Option<Certificate> {
        let ballot = self.vote(rng)?.ballot;
        let votes = self.validators.as_slice().iter().map(|validator| Vote {
            validator: validator.key,
            ..Vote::sign(ballot, &self.chain_id, &self.key)
        });
        Certificate::from_votes(ballot, &votes.collect::<Vec<_>>(), &self.validators)
    }

    fn tip(&self, rng: &mut ChaCha8Rng) -> Option<CertifiedTip> {
        let mut header = self.block(rng)?.header.clone();
        header.height = header.height.saturating_add(rng.random_range(0..3));
        Some(CertifiedTip { header, finalization: self.certificate(rng)? })
    }

    /// Something old, or out of order.
    fn replay(&self, rng: &mut ChaCha8Rng) -> Option<Message> {
        let place = rng.random_range(0..self.heard.len().max(1));
        self.heard.get(place).cloned()
    }
}

fn garbage(rng: &mut ChaCha8Rng) -> Vec<u8> {
    let length = rng.random_range(0..200);
    (0..length).map(|_| rng.random()).collect()
}

/// Who signed a message, and the journal entry without which it must not leave the signer's node.
pub(super) fn rests_on(message: &Message) -> Option<(PublicKey, Entry)> {
    match message {
        Message::Vote(vote) => Some((vote.validator, Entry::Vote(*vote))),
        Message::Proposal(proposal) => Some((proposal.leader, Entry::Proposal(proposal.clone()))),
        Message::Certificate(_) | Message::Tip(_) => None,
    }
}

/// A batch as it travels.
pub(super) fn encode(messages: &[Message]) -> Vec<u8> {
    let messages = messages.iter().map(Message::to_proto).collect();
    v1::ConsensusBatch { messages }.encode_to_vec()
}
