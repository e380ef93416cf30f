//! Agreements and what is lodged under them: agencies agree, go on, leave, and lodge sealed slots and grants,
//! each by what its own node knows. So epochs change while slots are under way, parties leave meanwhile, and
//! nodes that are behind lodge under what is over. Nothing is promised to anybody: what a block makes of it
//! must be the same everywhere, before and after restarts, wipes and stores that were put back.

use std::sync::Arc;

use customhouse_ledger::{
    agency::AgencyCode,
    agreement::{AgreementChange, EpochProposal, own_id},
    chain::{BlockOutcome, SlotOutcome, Tip},
    hash::Hash,
    keys::SigningKey,
    transaction::{DedupeScope, EpochId, NewSlot, Slot, SlotForm, VerifiedTransaction},
};
use customhouse_proto::v1;
use rand::{RngExt as _, seq::IndexedRandom as _};
use rand_chacha::ChaCha8Rng;

use super::{
    run::{LIFETIME_MS, Simulation},
    streams::Streams,
};

/// How long epochs last, milliseconds: some are over before the run is.
const EPOCH_MS: std::ops::Range<u64> = 5_000..400_000;
/// Slots of a transaction.
const SLOTS_MAX: usize = 4;

impl Simulation {
    /// Somebody changes an agreement, or lodges under one.
    pub(super) fn agree_or_lodge(&mut self) -> Result<(), String> {
        let at = self.pick_honest(|streams: &mut Streams| &mut streams.agreements);
        let own = self.endpoints[at].identity;
        let Some(tip) = self.endpoints[at].process.as_ref().map(|process| process.reader.tip())
        else {
            return Ok(());
        };
        let now_ms = self.endpoints[at].now(self.now).unix_ms;
        let begin = tip.agreements.all().count() < 3;
        let act = self.streams.agreements.random_range(0..10);
        let transaction = match act {
            0..=2 => self.next_epoch(own, &tip, now_ms, true),
            _ if begin => self.next_epoch(own, &tip, now_ms, true),
            3 | 4 => self.next_epoch(own, &tip, now_ms, false),
            5 => self.leave(own, &tip, now_ms),
            _ => self.lodge(own, &tip, now_ms),
        };
        let Some(transaction) = transaction else { return Ok(()) };
        let encoded = transaction.encoded().clone();
        if self.endpoints[at].admit(Arc::new(transaction), now_ms) {
            self.broadcast_transaction(at, &encoded);
        }
        self.drive(at, |driver| driver.work())
    }

    fn next_epoch(
        &mut self,
        own: usize,
        tip: &Tip,
        now_ms: u64,
        is_new: bool,
    ) -> Option<VerifiedTransaction> {
        let agency = self.identities[own].agency;
        let others: Vec<AgencyCode> = self.other_agencies(own);
        let rng = &mut self.streams.agreements;
        let mut proto = match tip.agreements.all().collect::<Vec<_>>().choose(rng) {
            Some(agreement) if !is_new => {
                let newest = agreement.newest();
                let stays = |party: &&AgencyCode| !newest.left.contains(*party);
                v1::AgreementEpoch {
                    agreement: agreement.id.0.to_vec(),
                    number: agreement.next_number(),
                    parties: newest.parties.iter().filter(stays).map(ToString::to_string).collect(),
                    changes: agreement.changes,
                    ..Default::default()
                }
            }
            _ => {
                let with = rng.random_range(0..=2.min(others.len()));
                let parties = others.sample(rng, with).copied().chain([agency]);
                let parties: Vec<_> = parties.map(|party| party.to_string()).collect();
                let own = if with == 0 { own_id(&agency).0.to_vec() } else { Vec::new() };
                let of_own = tip.agreements.get(&own_id(&agency)).filter(|_| with == 0);
                let number = of_own.map_or(1, |agreement| agreement.next_number());
                let changes = of_own.map_or(0, |agreement| agreement.changes);
                v1::AgreementEpoch {
                    agreement: own,
                    number,
                    parties,
                    changes,
                    ..Default::default()
                }
            }
        };
        if proto.agreement.is_empty() && rng.random_ratio(1, 2) && others.len() > 1 {
            proto.parties.extend(others.choose(rng).map(ToString::to_string));
        }
        proto.parties.sort_unstable();
        proto.parties.dedup();
        proto.public_key =
            SigningKey::from_seed(&rng.random::<[u8; 32]>()).public().as_bytes().to_vec();
        proto.from_ms = now_ms.saturating_sub(1000) + rng.random_range(0..3_000);
        proto.until_ms = proto.from_ms + rng.random_range(EPOCH_MS);
        proto.terms_hash = rng.random::<[u8; 32]>().to_vec();
        proto.not_after_ms = now_ms + LIFETIME_MS;
        let proposal = EpochProposal::from_proto(proto).ok()?;
        let approve = |party: &AgencyCode| {
            let identity = self.identities.iter().find(|identity| identity.agency == *party)?;
            Some(proposal.approve(&self.chain_id, &identity.signing))
        };
        let approvals = proposal.parties().iter().map(approve).collect::<Option<_>>()?;
        let change = AgreementChange::epoch(proposal, approvals).ok()?;
        self.change_of(own, &change, now_ms)
    }

    fn other_agencies(&self, own: usize) -> Vec<AgencyCode> {
        let others = self.identities.iter().enumerate().filter(|(index, _)| *index != own);
        others.map(|(_, identity)| identity.agency).collect()
    }

    fn leave(&mut self, own: usize, tip: &Tip, now_ms: u64) -> Option<VerifiedTransaction> {
        let all: Vec<_> = tip.agreements.all().collect();
        let agreement = all.choose(&mut self.streams.agreements)?;
        let (id, epoch) = (agreement.id, agreement.next_number() - 1);
        self.change_of(own, &AgreementChange::Leave { agreement: id, epoch }, now_ms)
    }

    fn change_of(
        &self,
        own: usize,
        change: &AgreementChange,
        now_ms: u64,
    ) -> Option<VerifiedTransaction> {
        let identity = &self.identities[own];
        let until = now_ms + LIFETIME_MS;
        let signed = VerifiedTransaction::change_agreement(
            change,
            "operator",
            identity.agency,
            until,
            &self.chain_id,
            &identity.signing,
        );
        signed.ok()
    }

    /// Sealed slots and grants, under whatever epoch there is: in force or not, one's own or another's.
    fn lodge(&mut self, own: usize, tip: &Tip, now_ms: u64) -> Option<VerifiedTransaction> {
        let identity = &self.identities[own];
        let rng = &mut self.streams.agreements;
        let mut slots = Vec::new();
        for _ in 0..rng.random_range(1..=SLOTS_MAX) {
            let all: Vec<_> = tip.agreements.all().collect();
            let agreement = all.choose(rng)?;
            let newest = agreement.next_number() - 1;
            let number =
                if rng.random_ratio(3, 4) { newest } else { rng.random_range(1..=newest + 1) };
            let epoch = EpochId { agreement: agreement.id, number };
            let known = self.sealed.choose(rng).copied();
            let slot = match known {
                Some(record_id) if rng.random_ratio(1, 3) => {
                    Slot::grant(record_id, epoch, subject_keys(rng))
                }
                // Another agency's too, which it does not take from it.
                Some(record_id) if rng.random_ratio(1, 4) => sealed(record_id, epoch, rng),
                _ => {
                    let record_id = Hash(rng.random());
                    self.sealed.push(record_id);
                    sealed(record_id, epoch, rng)
                }
            };
            slots.push(NewSlot::Alone(slot));
        }
        let until = now_ms + LIFETIME_MS;
        let (agency, key) = (identity.agency, &identity.signing);
        VerifiedTransaction::sign_slots(&slots, agency, until, &self.chain_id, key).ok()
    }

    /// Counts what a block makes of agreements and of what is lodged under them.
    pub(super) fn note_agreements(&mut self, block: &BlockOutcome) {
        let summary = &mut self.summary;
        for (transaction, outcomes) in block.transactions.iter().zip(&block.outcomes) {
            match transaction.agreement_change() {
                Some(AgreementChange::Epoch(..)) => summary.epochs += 1,
                Some(AgreementChange::Leave { .. }) => summary.parties_left += 1,
                None => {}
            }
            for (slot, outcome) in transaction.slots().iter().zip(outcomes) {
                match (slot.form, outcome) {
                    (SlotForm::Open, _) => {}
                    (SlotForm::Sealed(_), SlotOutcome::Applied) => summary.sealed += 1,
                    (SlotForm::Grant(_), SlotOutcome::Applied) => summary.granted += 1,
                    (_, SlotOutcome::Refused(_)) => summary.sealed_refused += 1,
                    (_, SlotOutcome::Duplicate { .. }) => summary.sealed_again += 1,
                }
            }
        }
    }
}

fn sealed(record_id: Hash, epoch: EpochId, rng: &mut ChaCha8Rng) -> Slot {
    Slot {
        record_id,
        form: SlotForm::Sealed(epoch),
        subject_keys: subject_keys(rng),
        dedupe_key: Hash(rng.random()),
        scope: DedupeScope::Agency,
    }
}

/// Of few subjects, so that keys come again.
fn subject_keys(rng: &mut ChaCha8Rng) -> Vec<Hash> {
    let keys = (0..8).filter(|_| rng.random_ratio(1, 4));
    keys.map(|subject| Hash([subject; 32])).collect()
}
