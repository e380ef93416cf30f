//! What a node holds of another's key, for that node to compare with its journal, and what comes of it.

use std::collections::BTreeMap;

use customhouse_ledger::{
    finality::{
        certificate::Certificate,
        vote::{Vote, VoteKind},
    },
    keys::PublicKey,
};

use crate::{
    action::{Reception, Refusal},
    core::Core,
    input::{Message, PeerTag, Signatures},
};
use customhouse_ledger::finality::evidence::Claim;

/// The most votes that are told of one key. The newest are told: they are what a journal that was
/// put back lacks.
pub const VOTES_TOLD_MAX: usize = 512;
/// The most proposals that are told of one key: those of the views near the current one, and of the
/// next height.
pub const CLAIMS_TOLD_MAX: usize = 64;

/// Height, view and kind of a vote.
type Place = (u64, u64, VoteKind);

impl Core {
    /// What is held of this key's signatures at or above a height: at the height in progress, those in
    /// certificates of all views included, and at the next. To answer a peer that compares them with
    /// its journal.
    pub fn signed_by(&self, key: &PublicKey, from_height: u64) -> Signatures {
        let mut votes = BTreeMap::new();
        let mut claims = Vec::new();
        if self.height.number >= from_height {
            self.votes_of(key, &mut votes);
            let claimed = self.height.claims.values().rev();
            claims.extend(claimed.filter(|claim| claim.leader == *key).cloned());
        }
        if self.height.number.saturating_add(1) >= from_height {
            let (early_votes, early_proposals) = self.early.signed_by(key);
            votes.extend(early_votes.map(|vote| (place(vote), *vote)));
            claims.extend(early_proposals.map(Claim::of));
        }
        claims.truncate(CLAIMS_TOLD_MAX);
        let newest = votes.into_values().rev().take(VOTES_TOLD_MAX);
        Signatures { votes: newest.collect(), claims }
    }

    fn votes_of(&self, key: &PublicKey, votes: &mut BTreeMap<Place, Vote>) {
        let height = &self.height;
        let Some(index) = height.validators.index_of(key) else { return };
        votes.extend(height.votes.all_of(index).map(|vote| (place(vote), *vote)));
        let newest_first = |held: &BTreeMap<u64, Certificate>| -> Vec<Vote> {
            let signed = held.values().rev().filter(|c| c.signers().any(|i| i == index));
            let of_key = signed.filter_map(|certificate| {
                let mut all = certificate.votes(&height.validators).into_iter();
                all.find(|vote| vote.validator == *key)
            });
            of_key.take(VOTES_TOLD_MAX).collect()
        };
        let mut certified = newest_first(&height.notarizations);
        certified.extend(newest_first(&height.nullifications));
        if let Some(finalization) = &height.finalization {
            let all = finalization.votes(&height.validators);
            certified.extend(all.into_iter().filter(|vote| vote.validator == *key));
        }
        for vote in certified {
            votes.entry(place(&vote)).or_insert(vote);
        }
    }

    /// Takes what a peer holds of this node's key, up to the first thing that is wrong.
    pub(crate) fn take_signatures(&mut self, from: PeerTag, held: Signatures) -> Reception {
        for vote in held.votes {
            if let refused @ Reception::Refused(_) = self.receive(from, Message::Vote(vote)) {
                return refused;
            }
        }
        for claim in &held.claims {
            if let refused @ Reception::Refused(_) = self.take_own_claim(claim).into() {
                return refused;
            }
        }
        Reception::Accepted
    }

    /// A proposal by this node's own key, or anybody's: of no concern where the journal has it.
    pub(crate) fn take_own_claim(&mut self, claim: &Claim) -> Result<Reception, Refusal> {
        if Some(claim.leader) != self.signer || self.remembers_claim(claim) {
            return Ok(Reception::Accepted);
        }
        let is_signed = claim.is_signed(&self.config.chain_id);
        Err(self.take_own(is_signed, claim.proposed.height, claim.proposed.view))
    }
}

fn place(vote: &Vote) -> Place {
    (vote.ballot.height, vote.ballot.view, vote.ballot.kind)
}
