//! Agreements as an operator is shown them: what the chain has, and what of it is held here.

use customhouse_files::date::date;
use customhouse_ledger::{
    agency::AgencyCode,
    agreement::{Agreement, Epoch, EpochProposal, KnownMembers as _, terms::AgreementTerms},
    chain::Tip,
    hash::Hash,
    transaction::EpochId,
};
use customhouse_proto::v1;

use super::{HeldAgreements, offers::RegisteredMembers};
use crate::clock;

/// Agreements of an answer.
const LIST_MAX: usize = 256;
/// Epochs of an answer: what each lets whom read may be some 200 KiB of words.
const EPOCHS_MAX: usize = 8;

impl HeldAgreements {
    /// Agreements by their ids, after one of them, and whether there are more.
    pub fn list(
        &self,
        all: bool,
        ended: bool,
        after: Option<Hash>,
    ) -> (Vec<v1::AgreementSummary>, bool) {
        let tip = self.0.reader.tip();
        let now_ms = now_ms(&tip);
        let is_meant = |agreement: &&Agreement| {
            let is_ours = || agreement.epochs.iter().any(|epoch| self.is_party(epoch));
            after.is_none_or(|after| agreement.id > after)
                && (ended || agreement.newest().until_ms > now_ms)
                && (all || is_ours())
        };
        let mut meant = tip.agreements.all().filter(is_meant);
        let summary = |agreement: &Agreement| {
            let epochs = agreement.next_number() - 1;
            v1::AgreementSummary {
                agreement: agreement.id.0.to_vec(),
                newest: Some(self.view(&tip, epochs, agreement.newest())),
                epochs,
            }
        };
        let listed: Vec<_> = meant.by_ref().take(LIST_MAX).map(summary).collect();
        (listed, meant.next().is_some())
    }

    /// The epochs of an agreement below a number, newest first, with what they let whom read; and whether there are
    /// more. None where there is no such agreement.
    pub fn show(&self, id: &Hash, below: Option<u32>) -> Option<(Vec<v1::EpochView>, bool)> {
        let tip = self.0.reader.tip();
        let agreement = tip.agreements.get(id)?;
        let numbered = (1..).zip(&agreement.epochs).collect::<Vec<(u32, _)>>();
        let is_below = |(number, _): &&(u32, &Epoch)| below.is_none_or(|below| *number < below);
        let mut meant = numbered.iter().rev().filter(is_below);
        let view = |(number, epoch): &(u32, &Epoch)| {
            let terms = self.terms(&epoch.terms_hash);
            let said = |terms: AgreementTerms| {
                said(&terms, &epoch.parties, (epoch.from_ms, epoch.until_ms))
            };
            v1::EpochView {
                sentences: terms.map(said).unwrap_or_default(),
                ..self.view(&tip, *number, epoch)
            }
        };
        let shown: Vec<_> = meant.by_ref().take(EPOCHS_MAX).map(view).collect();
        Some((shown, meant.next().is_some()))
    }

    /// Epochs in force that this agency is a party of, and whose secret or terms are not here.
    pub fn lacking(&self) -> Vec<EpochId> {
        let tip = self.0.reader.tip();
        let mut lacking = Vec::new();
        for agreement in tip.agreements.all() {
            for (number, epoch) in (1..).zip(&agreement.epochs) {
                let is_meant = self.is_party(epoch) && is_in_force(&tip, epoch);
                if is_meant && !(self.secret_of(&epoch.key).is_some() && self.has_terms(epoch)) {
                    lacking.push(EpochId { agreement: agreement.id, number });
                }
            }
        }
        lacking
    }

    fn is_party(&self, epoch: &Epoch) -> bool {
        epoch.parties.contains(&self.agency())
    }

    fn has_terms(&self, epoch: &Epoch) -> bool {
        self.terms(&epoch.terms_hash).is_some()
    }

    /// Without what it lets whom read.
    fn view(&self, tip: &Tip, number: u32, epoch: &Epoch) -> v1::EpochView {
        let codes = |parties: &mut dyn Iterator<Item = &AgencyCode>| {
            parties.map(ToString::to_string).collect::<Vec<_>>()
        };
        v1::EpochView {
            number,
            parties: codes(&mut epoch.parties.iter()),
            left: codes(&mut epoch.left.iter()),
            from_ms: epoch.from_ms,
            until_ms: epoch.until_ms,
            public_key: epoch.key.as_bytes().to_vec(),
            terms_hash: epoch.terms_hash.0.to_vec(),
            in_force: is_in_force(tip, epoch),
            has_secret: self.secret_of(&epoch.key).is_some(),
            has_terms: self.has_terms(epoch),
            is_party: self.is_party(epoch),
            sentences: Vec::new(),
        }
    }
}

/// What an epoch that is proposed would let whom read.
pub fn sentences(terms: &AgreementTerms, proposal: &EpochProposal) -> Vec<String> {
    said(terms, proposal.parties(), proposal.period_ms())
}

fn said(
    terms: &AgreementTerms,
    parties: &[AgencyCode],
    (from_ms, until_ms): (u64, u64),
) -> Vec<String> {
    terms.sentences(parties, &minute(from_ms), &minute(until_ms))
}

/// Unix milliseconds as `2026-03-01 12:00 UTC`.
fn minute(unix_ms: u64) -> String {
    let minutes = unix_ms / 60_000;
    let (year, month, day) = date(minutes / 1440);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02} UTC", minutes / 60 % 24, minutes % 60)
}

fn now_ms(tip: &Tip) -> u64 {
    clock::unix_ms().max(tip.header.time_ms)
}

/// Whether a record may be lodged under it in the next block.
fn is_in_force(tip: &Tip, epoch: &Epoch) -> bool {
    let members = RegisteredMembers::at(&tip.registry, tip.header.height + 1);
    (epoch.from_ms..epoch.until_ms).contains(&now_ms(tip))
        && epoch.parties.iter().all(|party| members.is_member(party))
}
