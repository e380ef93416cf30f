//! `customhouse audit consistency`: the head that an auditor saved is a prefix of a node's.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::{
    Basis, Seen, Verdict,
    evidence::{EvidenceFile, Side},
    freshness::{MaxAge, too_old},
    head::{Certified, Place, SavedHead},
    node::{self, Finding},
    validators, verifier,
};
use crate::cli::{
    connect::{ConnectArgs, Connection},
    output::{Output, one_line},
};

#[derive(clap::Args)]
pub(crate) struct ConsistencyArgs {
    /// The genesis of the network, as you had it from a source that you trust.
    #[arg(long, value_name = "FILE")]
    genesis: PathBuf,
    /// The saved head. Where there is none yet, the node's is saved if it is certified.
    #[arg(long, value_name = "FILE", default_value = "customhouse.head")]
    head: PathBuf,
    /// Leave the saved head as it is.
    #[arg(long)]
    keep: bool,
    #[command(flatten)]
    max_age: MaxAge,
}

pub(super) const HELP: &str = "\
The first time, the node's certified head is saved. From then on the node must prove that its log
begins with the saved one: nothing was taken out, put in or changed since. Then its head is saved
in the other's place. Ask another node with the same file, and both have shown the same log.

A node that certifies another block than the saved head's, or another log of its size, has shown the
proof of a fork: both sides are written to a file beside the saved head, for `audit fork`.

Exit codes: 0 verified; 1 the saved head or the node's is not certified; 2 not enough evidence, such
as a node that gives no proof, or whose head is older than the saved one; 3 proof of a fork;
64 wrong arguments.

Examples:
  customhouse --profile net/NL-DOUANE/clients/auditor audit consistency --genesis genesis.json \\
    --head nl.head
  customhouse --profile net/DE-ZOLL/clients/auditor audit consistency --genesis genesis.json \\
    --head nl.head --keep";

#[derive(Serialize)]
struct Audit {
    verdict: Verdict,
    #[serde(skip_serializing_if = "Option::is_none")]
    saved: Option<Place>,
    #[serde(skip_serializing_if = "Option::is_none")]
    head: Option<Place>,
    reason: String,
    /// Whether the node's head is saved now.
    written: bool,
    /// Where the proof of a fork is.
    #[serde(skip_serializing_if = "Option::is_none")]
    evidence: Option<PathBuf>,
    rests_on: Basis,
}

pub(super) async fn check(
    args: &ConsistencyArgs,
    output: Output,
    connect: &ConnectArgs,
) -> anyhow::Result<Verdict> {
    let saved = SavedHead::read(&args.head)?;
    let connection = connect.connect().await?;
    let mut seen = Seen::new(verifier(&args.genesis)?);
    validators::follow_node(&mut seen.verifier, &connection).await?;
    let mut audit = Audit::new(&seen);
    let known = match saved.map(|saved| saved.certified(&seen.verifier)).transpose() {
        Ok(known) => known,
        Err((verdict, why)) => {
            audit.conclude(Finding::new(verdict, format!("{}: {why}", args.head.display())));
            output.print(&audit)?;
            return Ok(audit.verdict);
        }
    };
    audit.saved = known.as_ref().map(|known| Place::of(&known.header));
    let found = node::head(&mut seen.verifier, &connection).await?;
    for certified in known.iter().chain(&found) {
        // A second block of one height is the finding below.
        let _in_the_finding = seen.note(&certified.header, certified.signers);
    }
    let finding = match &found {
        Ok(head) => {
            let header = known.as_ref().map(|known| &known.header);
            let finding = node::against(header, head, &seen.verifier, &connection).await;
            too_old(head, args.max_age, finding)
        }
        Err(error) => {
            Finding::new(Verdict::of_finality(error), format!("its head is not certified: {error}"))
        }
    };
    if let Some((known, other)) = known.as_ref().zip(finding.other.as_ref()) {
        audit.evidence = Some(write_evidence(args, known, other, &seen, &connection).await?);
    }
    audit.conclude(finding);
    if let Ok(head) = found {
        audit.head = Some(Place::of(&head.header));
        let newer = known.is_none_or(|known| known.header.height < head.header.height);
        audit.written = audit.verdict == Verdict::Verified && newer && !args.keep;
        if audit.written {
            SavedHead::of(&head).write(&args.head)?;
        }
    }
    audit.rests_on = seen.basis();
    output.print(&audit)?;
    Ok(audit.verdict)
}

/// Writes what both sides certified beside the saved head, with what the node holds about its own.
async fn write_evidence(
    args: &ConsistencyArgs,
    known: &Certified,
    other: &Certified,
    seen: &Seen,
    connection: &Connection,
) -> anyhow::Result<PathBuf> {
    let told = connection.client.decision(other.header.height).await.ok();
    let sides = vec![
        Side::new(args.head.display().to_string(), known, None)?,
        Side::new(connection.profile.node.clone(), other, told)?,
    ];
    let beside = args.head.parent().filter(|parent| !parent.as_os_str().is_empty());
    EvidenceFile::new(seen.verifier.chain_id(), sides).write(beside.unwrap_or(Path::new(".")))
}

impl Audit {
    fn new(seen: &Seen) -> Self {
        Self {
            verdict: Verdict::NotEnoughEvidence,
            saved: None,
            head: None,
            reason: String::new(),
            written: false,
            evidence: None,
            rests_on: seen.basis(),
        }
    }

    fn conclude(&mut self, finding: Finding) {
        (self.verdict, self.reason) = (finding.verdict, finding.reason);
    }
}

impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(saved) = &self.saved {
            writeln!(f, "saved  {saved}")?;
        }
        if let Some(head) = &self.head {
            writeln!(f, "node   {head}")?;
        }
        writeln!(f, "{}: {}", self.verdict, one_line(&self.reason))?;
        if self.written {
            writeln!(f, "the node's head is saved")?;
        }
        if let Some(evidence) = &self.evidence {
            let file = evidence.to_string_lossy();
            writeln!(f, "both sides are in {}: see `customhouse audit fork`", one_line(&file))?;
        }
        write!(f, "rests on {}", self.rests_on)
    }
}
