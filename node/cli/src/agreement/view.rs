//! How agreements and offers are shown.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use customhouse_audit::time;
use customhouse_ledger::{agreement::EpochProposal, hash::Hash};
use customhouse_proto::v1;
use serde::Serialize;

use crate::output::{lossy, one_line};

/// An offer that was opened.
#[derive(Serialize)]
pub(super) struct OfferView {
    epoch_hash: Hash,
    agreement: Hash,
    number: u32,
    from: String,
    parties: Vec<String>,
    from_ms: u64,
    until_ms: u64,
    not_after_ms: u64,
    sentences: Vec<String>,
    /// Parties that have not approved.
    missing: Vec<String>,
}

/// An offer that was written to a file.
#[derive(Serialize)]
pub(super) struct Written {
    #[serde(serialize_with = "lossy")]
    file: PathBuf,
    #[serde(flatten)]
    offer: OfferView,
}

/// A change that is on the chain.
#[derive(Serialize)]
pub(super) struct Agreed {
    pub(super) agreement: Hash,
    /// Absent where it was on the chain already.
    pub(super) record_id: Option<Hash>,
    pub(super) height: Option<u64>,
}

#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct Listed(Vec<Summary>);

#[derive(Serialize)]
struct Summary {
    agreement: Hash,
    epochs: u32,
    #[serde(flatten)]
    newest: EpochLine,
}

/// An agreement with its epochs.
#[derive(Serialize)]
pub(super) struct AgreementView {
    agreement: Hash,
    epochs: Vec<EpochLine>,
    /// There are more, with lower numbers.
    more: bool,
}

#[derive(Serialize)]
struct EpochLine {
    number: u32,
    parties: Vec<String>,
    left: Vec<String>,
    from_ms: u64,
    until_ms: u64,
    terms_hash: Hash,
    in_force: bool,
    is_party: bool,
    has_secret: bool,
    has_terms: bool,
    sentences: Vec<String>,
}

impl OfferView {
    pub(super) fn of(
        offer: &v1::AgreementOffer,
        opened: v1::OpenOfferResponse,
    ) -> anyhow::Result<Self> {
        let epoch = offer.epoch.clone().context("offer.epoch is missing")?;
        let proposal = EpochProposal::from_proto(epoch)?;
        let (from_ms, until_ms) = proposal.period_ms();
        Ok(Self {
            epoch_hash: proposal.hash(),
            agreement: proposal.agreement(),
            number: proposal.number(),
            from: offer.from.clone(),
            parties: proposal.parties().iter().map(ToString::to_string).collect(),
            from_ms,
            until_ms,
            not_after_ms: proposal.not_after_ms(),
            sentences: opened.sentences,
            missing: opened.missing,
        })
    }

    pub(super) fn sentences(&self) -> impl Iterator<Item = &str> {
        self.sentences.iter().map(String::as_str)
    }
}

impl Written {
    /// The offer as it was written, with the approvals that it has now.
    pub(super) fn of(file: &Path, written: &v1::AgreementOffer, mut offer: OfferView) -> Self {
        let approved = |party: &String| written.approvals.iter().any(|one| one.party == *party);
        offer.missing.retain(|party| !approved(party));
        Self { file: file.to_owned(), offer }
    }
}

impl Listed {
    pub(super) fn of(listed: &[v1::AgreementSummary]) -> anyhow::Result<Self> {
        let summary = |one: &v1::AgreementSummary| {
            Ok(Summary {
                agreement: Hash::from_slice(&one.agreement).context("agreement")?,
                epochs: one.epochs,
                newest: EpochLine::of(one.newest.clone().context("newest is missing")?)?,
            })
        };
        Ok(Self(listed.iter().map(summary).collect::<anyhow::Result<_>>()?))
    }
}

impl AgreementView {
    pub(super) fn of(
        agreement: Hash,
        epochs: Vec<v1::EpochView>,
        more: bool,
    ) -> anyhow::Result<Self> {
        let epochs = epochs.into_iter().map(EpochLine::of).collect::<anyhow::Result<_>>()?;
        Ok(Self { agreement, epochs, more })
    }
}

impl EpochLine {
    fn of(view: v1::EpochView) -> anyhow::Result<Self> {
        Ok(Self {
            number: view.number,
            parties: view.parties,
            left: view.left,
            from_ms: view.from_ms,
            until_ms: view.until_ms,
            terms_hash: Hash::from_slice(&view.terms_hash).context("terms_hash")?,
            in_force: view.in_force,
            is_party: view.is_party,
            has_secret: view.has_secret,
            has_terms: view.has_terms,
            sentences: view.sentences,
        })
    }

    /// What a party's node lacks of it.
    fn lacks(&self) -> &'static str {
        match (self.is_party, self.has_secret, self.has_terms) {
            (false, ..) | (true, true, true) => "",
            (true, false, true) => "; THIS NODE LACKS ITS SECRET",
            (true, true, false) => "; THIS NODE LACKS ITS TERMS",
            (true, false, false) => "; THIS NODE LACKS ITS SECRET AND ITS TERMS",
        }
    }
}

impl fmt::Display for EpochLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.in_force { "in force" } else { "not in force" };
        write!(f, "epoch {:<4} {}", self.number, one_line(&self.parties.join(", ")))?;
        if !self.left.is_empty() {
            write!(f, " (left: {})", one_line(&self.left.join(", ")))?;
        }
        let (from, until) = (time::shown(self.from_ms), time::shown(self.until_ms));
        write!(f, "\n  {from} to {until}, {state}{}", self.lacks())?;
        self.sentences.iter().try_for_each(|said| write!(f, "\n  {}", one_line(said)))
    }
}

impl fmt::Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("no agreements");
        }
        for (place, Summary { agreement, newest, .. }) in self.0.iter().enumerate() {
            let end = if place == 0 { "" } else { "\n" };
            write!(f, "{end}agreement  {agreement}\n{newest}")?;
        }
        Ok(())
    }
}

impl fmt::Display for AgreementView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "agreement  {}", self.agreement)?;
        self.epochs.iter().try_for_each(|epoch| write!(f, "\n{epoch}"))?;
        match self.epochs.last() {
            Some(last) if self.more => write!(f, "\nthere are more: --below {}", last.number),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for OfferView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "agreement      {}, epoch {}", self.agreement, self.number)?;
        writeln!(f, "proposed by    {}", one_line(&self.from))?;
        writeln!(f, "may be lodged  until {}", time::shown(self.not_after_ms))?;
        for said in &self.sentences {
            writeln!(f, "{}", one_line(said))?;
        }
        match self.missing.is_empty() {
            true => f.write_str("all parties have approved"),
            false => write!(f, "not approved by {}", one_line(&self.missing.join(", "))),
        }
    }
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\nwritten to     {}", self.offer, self.file.display())
    }
}

impl fmt::Display for Agreed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.height, &self.record_id) {
            (Some(height), Some(record)) => {
                write!(f, "final at height {height}\nrecord     {record}\n")?;
            }
            _ => f.write_str("it is on the chain already\n")?,
        }
        write!(f, "agreement  {}", self.agreement)
    }
}
