//! `customhouse audit history`: all records about a subject, and the proof that these are all.

use std::{collections::BTreeMap, fmt};

use customhouse_ledger::{hash::Hash, history::VerifiedHistory, subject::subject_key};
use customhouse_proto::v1::{self, get_history_request::SubjectOrKey};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use prost::Message as _;
use serde::Serialize;

use super::{Basis, HistoryArgs, Seen, Verdict, validators, verifier};
use crate::cli::{
    connect::{ConnectArgs, Connection},
    output::{Output, one_line},
    progress, time,
};

/// Receipts fetched at a time.
const AT_A_TIME: usize = 16;

pub(super) async fn prove(
    args: &HistoryArgs,
    output: Output,
    connect: &ConnectArgs,
) -> anyhow::Result<Verdict> {
    let mut seen = Seen::new(verifier(&args.genesis)?);
    let connection = connect.connect().await?;
    let subject_key = subject_key(&args.subject);
    let proof = connection.client.history_proof(subject_key).await?;
    // After the proof, so that no change comes between the two.
    validators::follow_node(&mut seen.verifier, &connection).await?;
    let mut audit = Audit {
        subject_key,
        verdict: Verdict::Verified,
        reason: String::new(),
        records: Vec::new(),
        rests_on: seen.basis(),
    };
    match seen.verifier.verify_history(&proof.encode_to_vec()) {
        Ok(history) if history.subject_key != audit.subject_key => {
            audit.refuse(Verdict::Invalid, "the node proved another subject's history".into());
        }
        Ok(history) => audit.check_records(args, &history, &mut seen, &connection).await?,
        Err(error) => audit.refuse(Verdict::Invalid, format!("{}: {error}", error.code())),
    }
    audit.rests_on = seen.basis();
    output.print(&audit)?;
    Ok(audit.verdict)
}

#[derive(Serialize)]
struct Audit {
    subject_key: Hash,
    verdict: Verdict,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    records: Vec<Proven>,
    rests_on: Basis,
}

#[derive(Serialize)]
struct Proven {
    record_id: Hash,
    log_index: u64,
    slot_index: u32,
    agency: String,
    height: u64,
    lodged_ms: u64,
}

impl Audit {
    fn refuse(&mut self, verdict: Verdict, reason: String) {
        (self.verdict, self.reason) = (verdict, reason);
    }

    /// Every proven entry must have a record with a receipt at that place of the log.
    async fn check_records(
        &mut self,
        args: &HistoryArgs,
        history: &VerifiedHistory,
        seen: &mut Seen,
        connection: &Connection,
    ) -> anyhow::Result<()> {
        if let Err(fork) = seen.note(&history.header, history.finalized_by.len()) {
            let reason = format!("a quorum finalized two blocks at height {}", fork.height);
            self.refuse(Verdict::Fork, reason);
            return Ok(());
        }
        let receipts = receipts(args, connection).await?;
        let mut by_place = BTreeMap::new();
        for receipt in receipts {
            match seen.verifier.verify_receipt(&receipt.encode_to_vec()) {
                Ok(receipt) => {
                    by_place.insert((receipt.log_index, receipt.slot_index), receipt);
                }
                Err(error) => {
                    self.refuse(Verdict::Invalid, format!("{}: {error}", error.code()));
                    return Ok(());
                }
            }
        }
        for entry in &history.entries {
            let place = (entry.log_index, entry.position);
            let Some(receipt) = by_place.get(&place) else {
                let reason = format!("the node withholds the record at {place:?} of the log");
                self.refuse(Verdict::NotEnoughEvidence, reason);
                return Ok(());
            };
            if let Err(fork) = seen.note(&receipt.header, receipt.finalized_by.len()) {
                let reason = format!("a quorum finalized two blocks at height {}", fork.height);
                self.refuse(Verdict::Fork, reason);
                return Ok(());
            }
            self.records.push(Proven {
                record_id: receipt.slot.record_id,
                log_index: entry.log_index,
                slot_index: entry.position,
                agency: receipt.signer.agency.to_string(),
                height: receipt.header.height,
                lodged_ms: receipt.header.time_ms,
            });
        }
        Ok(())
    }
}

/// The receipts of all records that the node lists about the subject.
async fn receipts(args: &HistoryArgs, connection: &Connection) -> anyhow::Result<Vec<v1::Receipt>> {
    let history = connection.client.history(SubjectOrKey::Subject(args.subject.clone()));
    let items: Vec<v1::HistoryItem> = history.try_collect().await?;
    let bar = progress::bar(items.len(), "records");
    let fetches = items.into_iter().map(|item| {
        let bar = bar.clone();
        async move {
            let receipt = connection.client.receipt(Hash::from_slice(&item.record_id)?, true).await;
            bar.inc(1);
            anyhow::Ok(receipt?)
        }
    });
    let receipts = stream::iter(fetches).buffered(AT_A_TIME).try_collect().await;
    bar.finish_and_clear();
    receipts
}

impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for record in &self.records {
            let lodged = time::shown(record.lodged_ms);
            let Proven { record_id, agency, height, .. } = record;
            writeln!(f, "record {record_id} of {agency}, lodged {lodged} at height {height}")?;
        }
        if self.verdict == Verdict::Verified {
            let count = self.records.len();
            let height = self.rests_on.head_height.unwrap_or_default();
            writeln!(f, "verified: these {count} are all, as of the proof's header")?;
            writeln!(f, "newest header seen: height {height}")?;
        } else {
            writeln!(f, "{}: {}", self.verdict, one_line(&self.reason))?;
        }
        write!(f, "rests on {}", self.rests_on)
    }
}
