//! An attacker that leads with more than a block may have. Each of the transactions is genuine, and all can have
//! them of it: only their sum is against the rules, and leaves do not tell it.

use super::{attack::Answering, run::Simulation};
use bytes::Bytes;
use customhouse_consensus::Message;
use customhouse_ledger::{
    chain::Tip,
    finality::{
        header::{Block, Header},
        vote::Proposal,
    },
    hash::Hash,
    limits::BLOCK_BYTES_MAX,
    merkle::Frontier,
    transaction::VerifiedTransaction,
};
use customhouse_proto::v1::{self, sync_response::Response};

/// Bytes of a transaction.
const BODY_BYTES: usize = 1 << 20;
/// How many times what a block may have.
const BLOCKS: usize = 3;

impl Simulation {
    /// Proposes in the first view of the next height, where that is its turn, before its own node does.
    pub(super) fn propose_too_much(&mut self, at: usize, tip: &Tip) {
        let key = self.identities[self.endpoints[at].identity].validator().clone();
        let (height, view) = (tip.header.height + 1, 1);
        if tip.leaders.leader(&tip.validators, height, view) != key.public() {
            return;
        }
        let leaves = self.too_much(at);
        let Some(log_root) = self.log_root_with(at, &leaves) else { return };
        let header = Header {
            height,
            view,
            time_ms: tip.header.time_ms + 1,
            parent_hash: tip.header.hash(),
            log_start: tip.header.log_size,
            log_size: tip.header.log_size + leaves.len() as u64,
            log_root,
            proposer: *key.public().as_bytes(),
            ..tip.header.clone()
        };
        let block = Block { header, leaves };
        let proposal = Proposal::sign(block, view, 0, &self.chain_id, &key);
        for to in self.others() {
            self.push(at, to, &[Message::Proposal(proposal.clone())]);
        }
    }

    /// The root of the log as its node has it, with more leaves: nobody asks for bodies where it is another.
    fn log_root_with(&self, at: usize, leaves: &[Hash]) -> Option<Hash> {
        let reader = &self.endpoints[at].process.as_ref()?.reader;
        let mut log = Frontier::default();
        for height in 1..=reader.tip().header.height {
            let decided = reader.block(height).ok()??;
            decided.block.leaves.iter().for_each(|leaf| log.push(*leaf));
        }
        leaves.iter().for_each(|leaf| log.push(*leaf));
        Some(log.root())
    }

    /// The leaves of its transactions, which are made once.
    fn too_much(&mut self, at: usize) -> Vec<Hash> {
        let made = self.attacks.get(&at).map_or(0, |attack| attack.bodies.len());
        let key = self.identities[self.endpoints[at].identity].signing.clone();
        for _ in made..BLOCKS * BLOCK_BYTES_MAX / BODY_BYTES {
            let encoded = self.padded_transaction(at, (1, BODY_BYTES), &key);
            let leaf = VerifiedTransaction::leaf_hash_unchecked(&encoded);
            if let (Some(leaf), Some(attack)) = (leaf, self.attacks.get_mut(&at)) {
                attack.bodies.insert(leaf, encoded);
            }
        }
        self.attacks
            .get(&at)
            .map(|attack| attack.bodies.keys().copied().collect())
            .unwrap_or_default()
    }

    /// Gives those of its transactions that it is asked for, as many bytes at once as an honest node would.
    pub(super) fn give_too_much(&self, at: usize, request: &v1::TransactionsRequest) -> Answering {
        let Some(attack) = self.attacks.get(&at) else { return Answering::Honestly };
        let asked = request.leaves.iter().filter_map(|leaf| Hash::from_slice(leaf).ok());
        let known: Vec<Bytes> =
            asked.filter_map(|leaf| attack.bodies.get(&leaf).cloned()).collect();
        if known.is_empty() {
            return Answering::Honestly;
        }
        let mut bytes = 0;
        let fits = |body: &Bytes| {
            bytes += body.len();
            bytes == body.len() || bytes <= request.bytes_max as usize
        };
        let transactions = known.into_iter().take_while(fits).collect();
        Answering::With(0, Some(Response::Transactions(v1::TransactionsResponse { transactions })))
    }
}
