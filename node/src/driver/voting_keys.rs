//! The keys that this node may vote with: which one votes, what peers are asked about it, and the change
//! from one to the next.

use customhouse_consensus::{Entry, StopReason};
use customhouse_ledger::{
    finality::validators::ValidatorSet,
    keys::{PublicKey, SigningKey},
};

use super::{Driver, Fetch, Outside, SignerMemory, actions::committed_state};

/// A key that votes, or is to, and what it remembers.
pub struct VotingKey<J> {
    /// The key's public half.
    pub public: PublicKey,
    /// The key; `Err` where it does not sign, with the reason.
    pub key: Result<SigningKey, String>,
    /// Its journal; that of a key that does not sign is empty and stays so.
    pub journal: J,
    /// What is in it.
    pub entries: Vec<Entry>,
}

impl<J> VotingKey<J> {
    /// The key where it signs, and why not where it does not.
    pub(super) fn begin(&self) -> (Option<SigningKey>, String) {
        match &self.key {
            Ok(key) => (Some(key.clone()), stopped_before(&self.entries)),
            Err(reason) => (None, reason.clone()),
        }
    }
}

/// Whether the next key votes at the height that these validators decide, and the present one does
/// not: one agency has one vote, so they never both do.
pub(super) fn takes_over<J>(
    present: &VotingKey<J>,
    next: &VotingKey<J>,
    validators: &ValidatorSet,
) -> bool {
    let votes = |key| validators.index_of(key).is_some();
    votes(&next.public) && !votes(&present.public)
}

impl<O: Outside, J: SignerMemory> Driver<O, J> {
    /// After a commit that gives this agency's vote to its next key: the core goes on under it, on the
    /// journal of that key. The old journal is closed; a key that has ended never votes again.
    pub(super) fn change_key(&mut self) -> bool {
        let tip = self.chain.tip();
        let validators = &tip.validators;
        let takes_over = |next: &mut VotingKey<J>| takes_over(&self.signer, next, validators);
        let Some(mut next) = self.next_signer.take_if(takes_over) else { return false };
        let (key, signing_reason) = next.begin();
        let entries = std::mem::take(&mut next.entries);
        let height = tip.header.height + 1;
        tracing::info!(key = %next.public, height, "voting with the next key from here on");
        let core = self.core.clone();
        self.core = core.under(key, committed_state(&tip), entries);
        (self.signer, self.signing_reason) = (next, signing_reason);
        let connected: Vec<_> = self.peers.listed().iter().map(|(_, key)| *key).collect();
        connected.into_iter().for_each(|peer| self.ask_about_own_key(peer));
        true
    }

    /// Asks a peer which signatures of this node's key it holds.
    pub(super) fn ask_about_own_key(&mut self, peer: PublicKey) {
        if self.signer.key.is_ok() {
            let (validator, from_height) = (self.signer.public, self.core.height());
            self.outside.fetch(Fetch::OwnSignatures { peer, validator, from_height });
        }
    }

    pub(super) fn why_not_signing(&self) -> String {
        if self.core.is_signing() || !self.signing_reason.is_empty() {
            return self.signing_reason.clone();
        }
        let validators = &self.core.committed().validators;
        let reason = if validators.index_of(&self.signer.public).is_none() {
            "following: the registry gives this node's key no vote at this height"
        } else if self.core.is_unasked() {
            "following: peers have not yet told what they hold of this node's key, or have told of \
             later heights"
        } else {
            "following: the journal or the peers know of later heights"
        };
        reason.to_owned()
    }

    pub(super) fn stop_signing(&mut self, reason: &StopReason) {
        tracing::error!(%reason, "this node's key stopped signing");
        self.signing_reason = reason.to_string();
    }
}

/// The journal of a key that was stopped says so for good.
fn stopped_before(entries: &[Entry]) -> String {
    if entries.contains(&Entry::Watermark(u64::MAX)) {
        "this key was stopped before: a peer held a signature by it that its journal did not \
         have. Register a new validator key"
            .to_owned()
    } else {
        String::new()
    }
}
