//! `customhouse audit history` and `audit absent`: all records about a subject, or that there are none,
//! and the proof that this is so.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use customhouse_audit::{
    seen::{Basis, Seen},
    time,
    verdict::Verdict,
};
use customhouse_ledger::{
    finality::header::Header,
    hash::Hash,
    proofs::{
        history::{HistoryProofError, VerifiedHistory},
        receipt::VerifiedReceipt,
    },
    record::subject::subject_key,
};
use customhouse_proto::v1;
use serde::Serialize;

use crate::{
    audit::{
        freshness::MaxAge,
        source::Source,
        subject::{Asked, SubjectArgs},
        verifier,
    },
    connect::ConnectArgs,
    output::{Output, one_line},
};

#[derive(clap::Args)]
pub(crate) struct HistoryArgs {
    #[command(flatten)]
    subject: SubjectArgs,
    /// The genesis of the network, as you had it from a source that you trust.
    #[arg(long, value_name = "FILE")]
    genesis: PathBuf,
    /// Read what `audit export history` wrote, instead of asking a node.
    #[arg(long, value_name = "DIR")]
    pub(super) files: Option<PathBuf>,
    #[command(flatten)]
    pub(super) max_age: MaxAge,
}

pub(super) const HELP: &str = "\
The proof shows that these are all the records about the subject as of a certified block, and each
record comes with the receipt that proves it. A node that leaves one out, or adds one, is found. With
--files nothing is asked for over the network.

Exit codes: 0 proven; 1 an answer of the node, or a file, is invalid; 2 not enough evidence; 3 proof of a
fork; 64 wrong arguments, such as an id that has not the form of its scheme.

Examples:
  customhouse --profile net/NL-DOUANE/clients/auditor audit history mrn:18GBJ4XG51QGC33AR9 \\
    --genesis genesis.json
  customhouse audit history mrn:18GBJ4XG51QGC33AR9 --files exported/ --genesis genesis.json";

pub(super) const ABSENT_HELP: &str = "\
The proof shows, as of a certified block, that no open record on the ledger names the subject (of sealed ones
`audit sealed-history` tells, agreement by agreement). It covers what
submitters stated: the subjects of the records, each in its normal form. It does not cover what a source
message says where nothing was stated of it: `submit` warns of all that an importer does not understand.
With --files nothing is asked for over the network.

Exit codes: 0 proven: there are none; 1 there are records, or an answer of the node, or a file, is
invalid; 2 not enough evidence; 3 proof of a fork; 64 wrong arguments, such as an id that has not the form
of its scheme.

Examples:
  customhouse --profile net/NL-DOUANE/clients/auditor audit absent mrn:18GBJ4XG51QGC33AR9 \\
    --genesis genesis.json --max-age 20";

/// `audit history`.
pub(super) async fn prove(
    args: &HistoryArgs,
    output: Output,
    connect: &ConnectArgs,
) -> anyhow::Result<Verdict> {
    args.subject.subject()?;
    let source = Source::open(args.files.as_deref(), connect).await?;
    let mut audit = HistoryAudit::begin(args, &source).await?;
    audit.prove_records(&source, |_, _| Ok(())).await?;
    audit.check_age(args.max_age);
    output.print(&audit.answer)?;
    Ok(audit.answer.verdict)
}

/// `audit absent`.
pub(super) async fn absent(
    args: &HistoryArgs,
    output: Output,
    connect: &ConnectArgs,
) -> anyhow::Result<Verdict> {
    args.subject.subject()?;
    let source = Source::open(args.files.as_deref(), connect).await?;
    let mut audit = HistoryAudit::begin(args, &source).await?;
    audit.check_age(args.max_age);
    let entries = audit.history.as_ref().map_or(0, |history| history.entries.len());
    if entries > 0 {
        audit.prove_records(&source, |_, _| Ok(())).await?;
        let reason = format!("records about it are on the ledger: {entries}");
        audit.answer.refuse(Verdict::Invalid, reason);
    }
    let HistoryAudit { answer, .. } = audit;
    let verdict = answer.verdict;
    output.print(&Absence { answer, covers: COVERS })?;
    Ok(verdict)
}

/// An audit in progress.
pub(super) struct HistoryAudit {
    pub(super) answer: Answer,
    /// The proof, encoded.
    pub(super) proof: Vec<u8>,
    /// The changes of the validators, encoded.
    pub(super) chain: Vec<u8>,
    subject: v1::Subject,
    seen: Seen,
    history: Option<VerifiedHistory>,
}

#[derive(Serialize)]
pub(super) struct Answer {
    subject: Asked,
    subject_key: Hash,
    pub(super) verdict: Verdict,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    pub(super) records: Vec<Proven>,
    /// The block as of which these are all.
    #[serde(skip_serializing_if = "Option::is_none")]
    as_of: Option<AsOf>,
    rests_on: Basis,
}

#[derive(Serialize)]
struct AsOf {
    height: u64,
    time_ms: u64,
}

#[derive(Serialize)]
pub(super) struct Proven {
    record_id: Hash,
    log_index: u64,
    slot_index: u32,
    agency: String,
    height: u64,
    lodged_ms: u64,
}

impl Proven {
    fn of(receipt: &VerifiedReceipt) -> Self {
        Self {
            record_id: receipt.slot.record_id,
            log_index: receipt.log_index,
            slot_index: receipt.slot_index,
            agency: receipt.signer.agency.to_string(),
            height: receipt.header.height,
            lodged_ms: receipt.header.time_ms,
        }
    }
}

impl HistoryAudit {
    /// Gets the proof and verifies it.
    pub(super) async fn begin(args: &HistoryArgs, source: &Source) -> anyhow::Result<Self> {
        let subject = args.subject.subject()?.clone();
        let mut seen = Seen::new(verifier(&args.genesis)?);
        let subject_key = subject_key(&subject);
        let proof = source.history_proof(subject_key).await?;
        // After the proof, so that no change comes between the two.
        let chain = source.follow(&mut seen.verifier).await?;
        let answer = Answer::new(&subject, &seen);
        let mut audit = Self { answer, proof, chain, subject, seen, history: None };
        match audit.seen.verifier.verify_history(&audit.proof) {
            Ok(history) if history.subject_key != subject_key => {
                let reason = "the proof is of another subject's history";
                audit.answer.refuse(Verdict::Invalid, reason);
            }
            Ok(history) => audit.take(history),
            Err(error) => {
                let verdict = match &error {
                    HistoryProofError::Finality(error) => Verdict::of_finality(error),
                    _ => Verdict::Invalid,
                };
                audit.answer.refuse(verdict, format!("{}: {error}", error.code()));
            }
        }
        Ok(audit)
    }

    fn take(&mut self, history: VerifiedHistory) {
        let Header { height, time_ms, .. } = history.header;
        self.answer.as_of = Some(AsOf { height, time_ms });
        self.note(&history.header, history.finalized_by.len());
        self.history = Some(history);
    }

    fn note(&mut self, header: &Header, signers: usize) {
        if let Err(fork) = self.seen.note(header, signers) {
            self.answer.refuse(Verdict::Fork, fork.to_string());
        }
        self.answer.rests_on = self.seen.basis();
    }

    /// Every proven entry must have a record with a receipt at that place of the log. Hands over each
    /// such receipt, encoded, with what it proves.
    pub(super) async fn prove_records(
        &mut self,
        source: &Source,
        mut each: impl FnMut(&Hash, &[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let Some(history) = self.history.take() else { return Ok(()) };
        let mut places: BTreeMap<_, Option<Proven>> = BTreeMap::new();
        places
            .extend(history.entries.iter().map(|entry| ((entry.log_index, entry.position), None)));
        let subject = self.subject.clone();
        let from_files = matches!(source, Source::Files(_));
        let take = |bytes: Vec<u8>| {
            match self.seen.verifier.verify_receipt(&bytes) {
                Ok(receipt) => {
                    let place = places.get_mut(&(receipt.log_index, receipt.slot_index));
                    self.note(&receipt.header, receipt.finalized_by.len());
                    if let Some(place) = place {
                        each(&receipt.slot.record_id, &bytes)?;
                        *place = Some(Proven::of(&receipt));
                    } else if !from_files {
                        let id = receipt.slot.record_id;
                        let reason = format!("the node lists record {id}, which the proof has not");
                        // A record that came after the proof is not a lie.
                        if receipt.header.height <= history.header.height {
                            self.answer.refuse(Verdict::Invalid, reason);
                        }
                    }
                }
                Err(error) => {
                    let verdict = Verdict::of_receipt(&error);
                    self.answer.refuse(verdict, format!("{}: {error}", error.code()));
                }
            }
            Ok(())
        };
        source.receipts(&subject, history.entries.len(), take).await?;
        for (place, proven) in places {
            match proven {
                Some(proven) => self.answer.records.push(proven),
                None => {
                    let reason = format!("the record at {place:?} of the log is withheld");
                    self.answer.refuse(Verdict::NotEnoughEvidence, reason);
                }
            }
        }
        Ok(())
    }

    /// An old proof does not prove what is so now.
    pub(super) fn check_age(&mut self, max_age: MaxAge) {
        let as_of = self.answer.as_of.as_ref();
        if let Some(why) = as_of.and_then(|as_of| max_age.refuses(as_of.time_ms)) {
            self.answer.refuse(Verdict::NotEnoughEvidence, why);
        }
    }
}

impl Answer {
    fn new(subject: &v1::Subject, seen: &Seen) -> Self {
        Self {
            subject: Asked::of(subject),
            subject_key: subject_key(subject),
            verdict: Verdict::Verified,
            reason: String::new(),
            records: Vec::new(),
            as_of: None,
            rests_on: seen.basis(),
        }
    }

    /// The worst finding counts, and of several the first.
    fn refuse(&mut self, verdict: Verdict, reason: impl Into<String>) {
        if verdict > self.verdict {
            (self.verdict, self.reason) = (verdict, reason.into());
        }
    }

    fn conclusion(&self, f: &mut fmt::Formatter<'_>, verified: &str) -> fmt::Result {
        match (self.verdict, &self.as_of) {
            (Verdict::Verified, Some(AsOf { height, time_ms })) => {
                let at = time::shown(*time_ms);
                writeln!(f, "verified: {verified}, as of height {height} ({at})")?;
            }
            (verdict, _) => writeln!(f, "{verdict}: {}", one_line(&self.reason))?,
        }
        write!(f, "rests on {}", self.rests_on)
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for record in &self.records {
            let lodged = time::shown(record.lodged_ms);
            let Proven { record_id, agency, height, .. } = record;
            writeln!(f, "record {record_id} of {agency}, lodged {lodged} at height {height}")?;
        }
        let verified = format!("these {} are all about {}", self.records.len(), self.subject);
        self.conclusion(f, &verified)?;
        match self.verdict {
            Verdict::Verified => {
                let key = self.subject_key;
                write!(
                    f,
                    "\ncovers the records that name this subject, whose key is {key}; not those "
                )?;
                write!(f, "that only refer to them, or that they refer to")
            }
            _ => Ok(()),
        }
    }
}

/// What an absence says, and what it does not.
const COVERS: &str = "covers what submitters named as subjects of their records, in whatever case and with \
                      whatever spaces they wrote it; not what they wrote with other characters, and not \
                      what a source message mentions without naming it as one";

/// An answer about a subject that nothing should be about.
#[derive(Serialize)]
struct Absence {
    #[serde(flatten)]
    answer: Answer,
    covers: &'static str,
}

impl fmt::Display for Absence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Proven { record_id, agency, height, .. } in &self.answer.records {
            writeln!(f, "record {record_id} of {agency} at height {height}")?;
        }
        let verified =
            format!("no open record on the ledger names {} as a subject", self.answer.subject);
        self.answer.conclusion(f, &verified)?;
        match self.answer.verdict {
            Verdict::Verified => write!(f, "\n{COVERS}"),
            _ => Ok(()),
        }
    }
}
