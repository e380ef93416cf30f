//! What the pages of a sealed history proof come to for an auditor who has the genesis, the pages and, where wanted,
//! receipts of the slots and the proof of the open history. Nothing is asked of anybody.

use customhouse_ledger::{
    hash::Hash,
    history::HistoryEntry,
    proofs::{
        history::HistoryProofError,
        receipt::VerifiedReceipt,
        sealed_history::{
            AgencyHistory, Coverage, OUTSIDE, SealedHistoryError, VerifiedSealedHistory,
        },
    },
    record::subject::subject_key,
    transaction::SlotForm,
};
use customhouse_proto::v1;
use serde::Serialize;

use crate::{
    seen::{Basis, Seen},
    verdict::Verdict,
};

/// An audit in progress.
pub struct SealedHistoryAudit {
    seen: Seen,
    subject: v1::Subject,
    history: Option<VerifiedSealedHistory>,
    answer: SealedHistoryAnswer,
}

/// What an auditor is told.
#[derive(Clone, Debug, Serialize)]
pub struct SealedHistoryAnswer {
    /// Verified only where every agency of every epoch is covered: what was found in part is not enough evidence.
    pub verdict: Verdict,
    /// Stable code of what was refused; empty where nothing was.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub code: &'static str,
    /// Why the verdict is not better; empty where it is verified.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The agreement's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agreement: Option<Hash>,
    /// Height of the certified header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub height: Option<u64>,
    /// Its time, Unix milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_ms: Option<u64>,
    /// One of each epoch and each of its parties.
    pub agencies: Vec<AgencyFinding>,
    /// Exactly what is covered, in a sentence; empty where the proof was refused.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub covers: String,
    /// What of the agreement is not covered, in a sentence each: nothing follows of it.
    pub not_covered: Vec<String>,
    /// What no such proof covers.
    pub outside: &'static str,
    /// Receipts that are of none of the slots.
    pub other_receipts: usize,
    /// What the open history has about the subject, where its proof was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open: Option<OpenFinding>,
    /// What the answer rests on.
    pub rests_on: Basis,
}

/// What was found of one agency's epoch.
#[derive(Clone, Debug, Serialize)]
pub struct AgencyFinding {
    /// From 1.
    pub epoch: u32,
    /// Its code.
    pub agency: String,
    /// All slots of it about the subject. Absent where they are not known, which is not that there are none.
    pub slots: Option<Vec<FoundSlot>>,
}

/// A slot about the subject.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FoundSlot {
    /// Of its transaction.
    pub log_index: u64,
    /// In its transaction.
    pub slot_index: u32,
    /// What its receipt adds, where it was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receipt: Option<SlotReceipt>,
}

/// What the receipt of a slot proves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SlotReceipt {
    /// The record's id.
    pub record_id: Hash,
    /// Whether it is a grant of a record that was lodged before.
    pub is_grant: bool,
    /// Of the block that committed it.
    pub height: u64,
    /// Its time, Unix milliseconds: when the slot was lodged.
    pub lodged_ms: u64,
}

/// What the open history has about the subject.
#[derive(Clone, Debug, Serialize)]
pub struct OpenFinding {
    /// Height of its own certified header.
    pub height: u64,
    /// All slots of open records about the subject.
    pub slots: Vec<FoundSlot>,
}

impl SealedHistoryAudit {
    /// Verifies the pages, each given by its canonical bytes, which are to be about this subject and, where one is
    /// named, this agreement.
    pub fn begin<P: AsRef<[u8]>>(
        seen: Seen,
        subject: v1::Subject,
        agreement: Option<Hash>,
        pages: impl IntoIterator<Item = P>,
    ) -> Self {
        let answer = SealedHistoryAnswer {
            verdict: Verdict::Verified,
            code: "",
            reason: String::new(),
            agreement: None,
            height: None,
            time_ms: None,
            agencies: Vec::new(),
            covers: String::new(),
            not_covered: Vec::new(),
            outside: OUTSIDE,
            other_receipts: 0,
            open: None,
            rests_on: seen.basis(),
        };
        let verified = seen.verifier.verify_sealed_history_of(&subject, pages);
        let mut audit = Self { seen, subject, history: None, answer };
        match verified {
            Ok(history) => audit.take(history, agreement),
            Err(error) => {
                let verdict = match &error {
                    SealedHistoryError::Finality(error) => Verdict::of_finality(error),
                    _ => Verdict::Invalid,
                };
                audit.refuse(verdict, error.code(), error.to_string());
            }
        }
        audit
    }

    fn take(&mut self, history: VerifiedSealedHistory, asked: Option<Hash>) {
        if let Some(asked) = asked.filter(|asked| *asked != history.agreement) {
            let found = history.agreement;
            let reason = format!("the proof is of agreement {found}, {asked} was asked for");
            return self.refuse(Verdict::Invalid, "SEALED_HISTORY_OTHER_AGREEMENT", reason);
        }
        let answer = &mut self.answer;
        answer.agreement = Some(history.agreement);
        (answer.height, answer.time_ms) =
            (Some(history.header.height), Some(history.header.time_ms));
        answer.agencies = history.histories.iter().map(AgencyFinding::of).collect();
        answer.covers = history.covers();
        answer.not_covered = history.not_covered();
        let missing = history.pages_missing.iter().map(|page| format!("page {page} was not given"));
        answer.not_covered.extend(missing.filter(|_| !history.is_complete()));
        if !history.is_complete() {
            if !history.has_last_page {
                answer.not_covered.push("the last page was not given".to_owned());
            }
            let reason = format!("partial: {}", history.covers());
            self.refuse(Verdict::NotEnoughEvidence, "SEALED_HISTORY_PARTIAL", reason);
        }
        let noted = self.seen.note(&history.header, history.finalized_by.len());
        self.noted(noted);
        self.history = Some(history);
    }

    /// Verifies the receipt of a slot, by its canonical bytes, and puts it where it belongs. `name` is for people.
    pub fn add_receipt(&mut self, name: &str, bytes: &[u8]) {
        let Some(history) = &self.history else { return };
        let receipt = match self.seen.verifier.verify_receipt(bytes) {
            Ok(receipt) => receipt,
            Err(error) => {
                let verdict = Verdict::of_receipt(&error);
                return self.refuse(verdict, error.code(), format!("{name}: {error}"));
            }
        };
        match history.place_of(&receipt).map(|listed| listed.is_some()) {
            Ok(true) => self.place(&receipt),
            Ok(false) => self.answer.other_receipts += 1,
            Err(error) => {
                let reason =
                    format!("{name}: {error}: keep both, a quorum certified what cannot be");
                self.refuse(Verdict::Invalid, "SEALED_HISTORY_CONTRADICTION", reason);
            }
        }
        let noted = self.seen.note_receipt(&receipt);
        self.noted(noted);
    }

    fn place(&mut self, receipt: &VerifiedReceipt) {
        let place = (receipt.log_index, receipt.slot_index);
        let slots = self.answer.agencies.iter_mut().filter_map(|finding| finding.slots.as_mut());
        for slot in slots.flatten().filter(|slot| (slot.log_index, slot.slot_index) == place) {
            slot.receipt = Some(SlotReceipt {
                record_id: receipt.slot.record_id,
                is_grant: matches!(receipt.slot.form, SlotForm::Grant(_)),
                height: receipt.header.height,
                lodged_ms: receipt.header.time_ms,
            });
        }
    }

    /// Verifies the proof of the open history of the subject too, by its canonical bytes. It has a header of its own.
    pub fn add_open_history(&mut self, bytes: &[u8]) {
        match self.seen.verifier.verify_history_of(&subject_key(&self.subject), bytes) {
            Ok(open) => {
                let slots = open.entries.iter().map(FoundSlot::of).collect();
                self.answer.open = Some(OpenFinding { height: open.header.height, slots });
                let noted = self.seen.note(&open.header, open.finalized_by.len());
                self.noted(noted);
            }
            Err(error) => {
                let verdict = match &error {
                    HistoryProofError::Finality(error) => Verdict::of_finality(error),
                    _ => Verdict::Invalid,
                };
                self.refuse(verdict, error.code(), format!("the open history: {error}"));
            }
        }
    }

    /// Something else that makes the answer worse.
    pub fn refuse(&mut self, verdict: Verdict, code: &'static str, reason: String) {
        let answer = &mut self.answer;
        if verdict > answer.verdict {
            (answer.verdict, answer.code, answer.reason) = (verdict, code, reason);
        }
    }

    /// What it comes to.
    pub fn finish(mut self) -> SealedHistoryAnswer {
        self.answer.rests_on = self.seen.basis();
        self.answer
    }

    fn noted(&mut self, noted: Result<(), crate::seen::Fork>) {
        if let Err(fork) = noted {
            self.refuse(Verdict::Fork, "FORK", fork.to_string());
        }
    }
}

impl AgencyFinding {
    fn of(history: &AgencyHistory) -> Self {
        let slots = match &history.coverage {
            Coverage::Proven { entries, .. } => Some(entries.iter().map(FoundSlot::of).collect()),
            Coverage::NotShown | Coverage::PieceMissing { .. } => None,
        };
        Self { epoch: history.epoch, agency: history.agency.to_string(), slots }
    }
}

impl FoundSlot {
    fn of(entry: &HistoryEntry) -> Self {
        Self { log_index: entry.log_index, slot_index: entry.position, receipt: None }
    }
}
