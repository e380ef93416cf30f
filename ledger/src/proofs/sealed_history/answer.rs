//! What a sealed history proof comes to, and in which words.

use std::collections::BTreeSet;

use customhouse_proto::v1;

use crate::{
    agency::AgencyCode, agreement::Epoch, finality::header::Header, hash::Hash,
    history::HistoryEntry, proofs::receipt::VerifiedReceipt,
};

/// What no sealed history proof says, whatever it covers.
pub const OUTSIDE: &str = "other agreements, open records, what is lodged later, and records whose lodging agency \
                           did not state the subject, or stated another key: whoever has their bytes finds that";

/// What is known of the sealed records about a subject that were lodged under an agreement, as of a final header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedSealedHistory {
    /// The final header; its time says how old the answer is.
    pub header: Header,
    /// Indexes of the validators that finalized it, ascending; none at height 0.
    pub finalized_by: Vec<usize>,
    /// The subject.
    pub subject: v1::Subject,
    /// The agreement's id.
    pub agreement: Hash,
    /// All epochs that it has as of the header, the first of which is epoch 1.
    pub epochs: Vec<Epoch>,
    /// One of each epoch and each of its parties, ascending: whether something was shown of it or not.
    pub histories: Vec<AgencyHistory>,
    /// Numbers of the pages that were not given though a later one was, ascending.
    pub pages_missing: Vec<u32>,
    /// Whether a page was given that says it is the last.
    pub has_last_page: bool,
}

/// What is known of the records that one agency lodged in one epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgencyHistory {
    /// Number of the epoch, from 1.
    pub epoch: u32,
    /// The agency that lodges.
    pub agency: AgencyCode,
    /// What is known.
    pub coverage: Coverage,
}

/// What is known of an agency's records of an epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Coverage {
    /// All slots, in block order; none prove that the agency lodged none there that names the subject.
    Proven {
        /// What the slots have among their subject keys.
        subject_key: Hash,
        /// Their places, under the key that the chain indexes.
        entries: Vec<HistoryEntry>,
    },
    /// Nothing: whoever made the proof did not have the epoch's secret, or kept back what it gives.
    NotShown,
    /// Too little: a piece of the bucket is on a page that was not given.
    PieceMissing {
        /// The bucket's first entry that is missing.
        from_entry: u64,
    },
}

/// A receipt and a sealed history that cannot both be right, though a quorum certified both: keep them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContradictedReceipt {
    /// A slot that counted and has the subject's key is not listed.
    #[error(
        "the slot of this receipt has the subject's key, and is not among the slots of the history"
    )]
    NotListed,
    /// A slot that is listed has not the subject's key.
    #[error("the history lists the slot of this receipt, which has not the subject's key")]
    WithoutKey,
}

impl VerifiedSealedHistory {
    /// Whether every epoch of every party is covered. Where it is not, what was found is not all there may be.
    pub fn is_complete(&self) -> bool {
        self.histories.iter().all(AgencyHistory::is_proven)
    }

    /// The slots that are listed, with who lodged each in which epoch.
    pub fn slots(&self) -> impl Iterator<Item = (&AgencyHistory, &HistoryEntry)> {
        self.histories
            .iter()
            .flat_map(|history| history.entries().iter().map(move |entry| (history, entry)))
    }

    /// The place of a receipt's slot among those that are listed; `None` where it is about something else, was lodged
    /// later, or its agency and epoch are not covered.
    ///
    /// # Errors
    /// [`ContradictedReceipt`].
    pub fn place_of(
        &self,
        receipt: &VerifiedReceipt,
    ) -> Result<Option<&HistoryEntry>, ContradictedReceipt> {
        let Some(epoch) = receipt.slot.form.epoch() else { return Ok(None) };
        let (agency, number) = (receipt.transaction.agency, epoch.number);
        let is_its = |history: &&AgencyHistory| (history.epoch, history.agency) == (number, agency);
        let history = self.histories.iter().find(is_its);
        let Some(AgencyHistory { coverage: Coverage::Proven { subject_key, entries }, .. }) =
            history
        else {
            return Ok(None);
        };
        let place = (receipt.log_index, receipt.slot_index);
        let listed = entries.iter().find(|entry| (entry.log_index, entry.position) == place);
        let has_key = epoch.agreement == self.agreement
            && receipt.slot.subject_keys.binary_search(subject_key).is_ok();
        match listed {
            Some(_) if !has_key => Err(ContradictedReceipt::WithoutKey),
            None if has_key && receipt.header.height <= self.header.height => {
                Err(ContradictedReceipt::NotListed)
            }
            listed => Ok(listed),
        }
    }

    /// Exactly what is covered, in a sentence.
    pub fn covers(&self) -> String {
        let covered = self.grouped(AgencyHistory::is_proven);
        let Self { agreement, header, .. } = self;
        let height = header.height;
        if covered.is_empty() {
            return format!("nothing of agreement {agreement} at height {height}");
        }
        let complete = if self.is_complete() { "complete" } else { "complete for these only" };
        let covered = covered.join("; ");
        format!(
            "{complete}, as asserted by the lodging agencies, for agreement {agreement}, {covered}, at height {height}"
        )
    }

    /// What is not covered though the agreement has it, in a sentence each: nothing may be concluded of it.
    pub fn not_covered(&self) -> Vec<String> {
        let not_shown = |history: &AgencyHistory| history.coverage == Coverage::NotShown;
        let why =
            "no proof was given: the epoch's secret may be destroyed, or a party keeps it back";
        let groups = self.grouped(not_shown).into_iter();
        let mut all: Vec<_> = groups.map(|group| format!("{group}: {why}")).collect();
        all.extend(self.histories.iter().filter_map(|history| match history.coverage {
            Coverage::PieceMissing { from_entry } => {
                let AgencyHistory { epoch, agency, .. } = history;
                Some(format!(
                    "epoch {epoch}, agency {agency}: a page with entries of its bucket from entry {from_entry} on \
                     was not given"
                ))
            }
            _ => None,
        }));
        all
    }

    /// Epochs that follow each other and have the same agencies that `which` takes, in words.
    fn grouped(&self, which: impl Fn(&AgencyHistory) -> bool) -> Vec<String> {
        let mut groups: Vec<(u32, u32, BTreeSet<AgencyCode>)> = Vec::new();
        for number in (1..).take(self.epochs.len()) {
            let of_epoch = self.histories.iter().filter(|history| history.epoch == number);
            let agencies: BTreeSet<_> =
                of_epoch.filter(|history| which(history)).map(|history| history.agency).collect();
            match groups.last_mut() {
                _ if agencies.is_empty() => {}
                Some((_, last, same)) if *last + 1 == number && *same == agencies => *last = number,
                _ => groups.push((number, number, agencies)),
            }
        }
        groups.into_iter().map(|(first, last, agencies)| worded(first, last, &agencies)).collect()
    }
}

impl AgencyHistory {
    /// Whether all slots are known.
    pub fn is_proven(&self) -> bool {
        matches!(self.coverage, Coverage::Proven { .. })
    }

    /// The slots; none where they are not known.
    pub fn entries(&self) -> &[HistoryEntry] {
        match &self.coverage {
            Coverage::Proven { entries, .. } => entries,
            Coverage::NotShown | Coverage::PieceMissing { .. } => &[],
        }
    }
}

fn worded(first: u32, last: u32, agencies: &BTreeSet<AgencyCode>) -> String {
    let epochs =
        if first == last { format!("epoch {first}") } else { format!("epochs {first} to {last}") };
    let word = if agencies.len() == 1 { "agency" } else { "agencies" };
    let agencies: Vec<_> = agencies.iter().map(ToString::to_string).collect();
    format!("{epochs}, {word} {}", agencies.join(", "))
}
