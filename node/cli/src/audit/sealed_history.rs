//! `customhouse audit sealed-history`: all sealed records about a subject under an agreement, without a byte of them.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use customhouse_audit::{
    files::read_form,
    sealed_history::{FoundSlot, SealedHistoryAnswer, SealedHistoryAudit, SlotReceipt},
    seen::Seen,
    time, validators,
    verdict::Verdict,
};
use customhouse_ledger::hash::Hash;
use customhouse_proto::v1;
use serde::Serialize;

use crate::{
    audit::{
        freshness::MaxAge,
        receipts,
        subject::{Asked, check},
        verifier,
    },
    output::{Output, one_line},
    subject::parse_subject,
};

#[derive(clap::Args)]
pub(crate) struct SealedHistoryArgs {
    /// The proof: all of its pages, binary or JSON, in any order.
    #[arg(required = true, value_name = "FILE")]
    pages: Vec<PathBuf>,
    /// The genesis of the network, as you had it from a source that you trust.
    #[arg(long, value_name = "FILE")]
    genesis: PathBuf,
    /// SCHEME:ID, as for `query history`.
    #[arg(long, value_name = "SUBJECT", value_parser = parse_subject)]
    subject: v1::Subject,
    /// As of `audit history`.
    #[arg(long)]
    as_written: bool,
    /// The agreement that is asked about: 64 hexadecimal digits. A proof of another is invalid.
    #[arg(long, value_name = "ID")]
    agreement: Option<Hash>,
    /// The changes of validators since the genesis, as `audit validator-chain` wrote them. A
    /// validator.chain beside the first page is used without being named.
    #[arg(long, value_name = "FILE")]
    validator_chain: Option<PathBuf>,
    /// A directory with receipts (*.receipt) of slots: they give each slot its record's id and its time.
    #[arg(long, value_name = "DIR")]
    receipts: Option<PathBuf>,
    /// The proof of the subject's open history too, as `audit export history` wrote it.
    #[arg(long, value_name = "FILE")]
    open: Option<PathBuf>,
    #[command(flatten)]
    max_age: MaxAge,
}

pub(super) const HELP: &str = "\
A party of the agreement makes the proof, for it takes the secrets of the epochs; to verify it takes none, and
no network. The proof names every epoch of the agreement and every party of it, as of a certified block, and for
each the slots that have the subject among their keys, or that there are none. What it has no proof of, because a
secret was destroyed or a party keeps it back, is named as not covered, and the answer is partial then: that says
nothing of what is not covered. It is complete as asserted by the lodging agencies: a slot whose agency left the
subject out is found by those who have the record.

Exit codes: 0 complete; 1 the proof, or another file, is invalid, or of another subject or agreement; 2 not enough
evidence, such as a proof that does not cover every agency and epoch; 3 proof of a fork; 64 wrong arguments.

Examples:
  customhouse audit sealed-history case-17/sealed-history.proof --genesis genesis.json \\
    --subject mrn:18GBJ4XG51QGC33AR9
  customhouse audit sealed-history case-17/*.page --genesis genesis.json --subject mrn:18GBJ4XG51QGC33AR9 \\
    --receipts case-17 --open case-17/history.proof";

/// `audit sealed-history`.
pub(super) fn verify(args: &SealedHistoryArgs, output: Output) -> anyhow::Result<Verdict> {
    check(&args.subject, args.as_written)?;
    let mut verifier = verifier(&args.genesis)?;
    let beside = args.pages.first().map(|page| page.with_file_name(validators::FILE_NAME));
    let beside = beside.filter(|file| file.is_file());
    for chain in args.validator_chain.iter().chain(&beside) {
        validators::follow_file(&mut verifier, chain)?;
    }
    let read =
        |file: &PathBuf| read_form::<v1::SealedHistoryProof>(file, "SEALED_HISTORY_TOO_LARGE");
    let pages = args.pages.iter().map(read).collect::<anyhow::Result<Vec<_>>>()?;
    let (seen, subject) = (Seen::new(verifier), args.subject.clone());
    let mut audit = SealedHistoryAudit::begin(seen, subject, args.agreement, pages);
    if let Some(directory) = &args.receipts {
        add_receipts(&mut audit, directory)?;
    }
    if let Some(file) = &args.open {
        audit.add_open_history(&read_form::<v1::HistoryProof>(file, "HISTORY_PROOF_TOO_LARGE")?);
    }
    let mut answer = audit.finish();
    // An old proof does not prove what is so now.
    if let Some(why) = answer.time_ms.and_then(|time_ms| args.max_age.refuses(time_ms))
        && answer.verdict == Verdict::Verified
    {
        (answer.verdict, answer.reason) = (Verdict::NotEnoughEvidence, why);
    }
    let verdict = answer.verdict;
    output.print(&Told { subject: Asked::of(&args.subject), answer })?;
    Ok(verdict)
}

fn add_receipts(audit: &mut SealedHistoryAudit, directory: &Path) -> anyhow::Result<()> {
    for file in receipts::receipts_in(directory)?.0 {
        let bytes = read_form::<v1::Receipt>(&file, receipts::TOO_LARGE)?;
        audit.add_receipt(&file.display().to_string(), &bytes);
    }
    Ok(())
}

#[derive(Serialize)]
struct Told {
    subject: Asked,
    #[serde(flatten)]
    answer: SealedHistoryAnswer,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { subject, answer } = self;
        for finding in &answer.agencies {
            let (epoch, agency) = (finding.epoch, one_line(&finding.agency));
            match finding.slots.as_deref() {
                None => writeln!(f, "epoch {epoch}, {agency}: NOT COVERED")?,
                Some([]) => writeln!(f, "epoch {epoch}, {agency}: no slot about {subject}")?,
                Some(slots) => {
                    for slot in slots {
                        writeln!(f, "epoch {epoch}, {agency}: {}", Shown(slot))?;
                    }
                }
            }
        }
        if let Some(open) = &answer.open {
            let (count, height) = (open.slots.len(), open.height);
            writeln!(
                f,
                "open records about {subject}: {count} slots are all, as of height {height}"
            )?;
            for slot in &open.slots {
                writeln!(f, "open: {}", Shown(slot))?;
            }
        }
        for what in &answer.not_covered {
            writeln!(f, "not covered: {}", one_line(what))?;
        }
        match (answer.verdict, answer.time_ms) {
            (Verdict::Verified, Some(time_ms)) => {
                writeln!(f, "verified: {} ({})", answer.covers, time::shown(time_ms))?;
            }
            (verdict, _) => {
                let before = if answer.code.is_empty() { "" } else { ": " };
                let (code, reason) = (answer.code, one_line(&answer.reason));
                writeln!(f, "{verdict}{before}{code}: {reason}")?;
            }
        }
        if !answer.covers.is_empty() {
            writeln!(f, "does not cover {}", answer.outside)?;
        }
        write!(f, "rests on {}", answer.rests_on)
    }
}

/// A slot, for people.
struct Shown<'a>(&'a FoundSlot);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FoundSlot { log_index, slot_index, receipt } = self.0;
        write!(f, "slot {slot_index} of transaction {log_index}")?;
        let Some(SlotReceipt { record_id, is_grant, height, lodged_ms }) = receipt else {
            return write!(f, ", whose receipt was not given");
        };
        let what = if *is_grant { "a grant of record" } else { "record" };
        write!(f, ": {what} {record_id}, lodged {} at height {height}", time::shown(*lodged_ms))
    }
}
