//! `customhouse audit consistency`: the head that an auditor saved is a prefix of a node's.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use customhouse_audit::{
    compare::{self, HeadComparison},
    evidence::{EvidenceFile, Side},
    files::read_form,
    head::{Certified, HeadPlace, SavedHead},
    seen::{Basis, Seen},
    validators,
    verdict::Verdict,
};
use customhouse_files::newfile;
use customhouse_ledger::{hash::Hash, merkle, proofs::consistency::ConsistencyError};
use customhouse_proto::v1;
use prost::Message as _;
use serde::Serialize;

use crate::{
    audit::{
        freshness::{MaxAge, too_old},
        verifier,
    },
    connect::{ConnectArgs, Connection},
    output::{Output, lossy_option, one_line},
};

#[derive(clap::Args)]
pub(crate) struct ConsistencyArgs {
    /// The genesis of the network, as you had it from a source that you trust.
    #[arg(long, value_name = "FILE")]
    genesis: PathBuf,
    /// The saved head. Where there is none yet, the newest is saved if it is certified. Nothing but a
    /// saved head is ever replaced.
    #[arg(long, value_name = "FILE", default_value = "customhouse.head")]
    head: PathBuf,
    /// Leave the saved head as it is.
    #[arg(long)]
    keep: bool,
    /// Write the proof from the saved head to the node's to a new file, for whoever has the genesis.
    #[arg(long, value_name = "FILE")]
    write_proof: Option<PathBuf>,
    /// Verify such a file, binary or JSON, instead of asking a node. It must begin at the saved head,
    /// where there is one.
    #[arg(long, value_name = "FILE", conflicts_with = "write_proof")]
    proof: Option<PathBuf>,
    /// With --proof, the changes of validators since the genesis, where there were any.
    #[arg(long, value_name = "FILE", requires = "proof")]
    validator_chain: Option<PathBuf>,
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
    --head nl.head --keep --write-proof nl-to-de.consistency
  customhouse audit consistency --proof nl-to-de.consistency --head nl.head --genesis genesis.json";

#[derive(Serialize)]
struct ConsistencyAudit {
    verdict: Verdict,
    #[serde(skip_serializing_if = "Option::is_none")]
    saved: Option<HeadPlace>,
    #[serde(skip_serializing_if = "Option::is_none")]
    head: Option<HeadPlace>,
    reason: String,
    /// Whether the head is saved now.
    written: bool,
    /// Where the proof of a fork is.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "lossy_option")]
    evidence: Option<PathBuf>,
    /// Whether the head is a proof's, and no node was asked.
    #[serde(skip)]
    from_file: bool,
    rests_on: Basis,
}

pub(super) async fn check(
    args: &ConsistencyArgs,
    output: Output,
    connect: &ConnectArgs,
) -> anyhow::Result<Verdict> {
    let saved = SavedHead::read(&args.head)?;
    if let Some(file) = &args.write_proof {
        newfile::is_free(file).with_context(|| file.display().to_string())?;
    }
    let mut seen = Seen::new(verifier(&args.genesis)?);
    let connection = match &args.proof {
        Some(_) => None,
        None => Some(connect.connect().await?),
    };
    if let Some(connection) = &connection {
        validators::follow_node(&mut seen.verifier, connection.node()).await?;
    }
    if let Some(file) = &args.validator_chain {
        validators::follow_file(&mut seen.verifier, file)?;
    }
    let mut audit = ConsistencyAudit::new(&seen);
    audit.from_file = args.proof.is_some();
    let known = match saved.map(|saved| saved.certified(&seen.verifier)).transpose() {
        Ok(known) => known,
        Err(error) => {
            let reason = format!("{}: {error}", args.head.display());
            audit.conclude(HeadComparison::new(error.verdict(), reason));
            output.print(&audit)?;
            return Ok(audit.verdict);
        }
    };
    audit.saved = known.as_ref().map(|known| HeadPlace::of(&known.header));
    let Compared { from, head, finding, between_ends } = match (&connection, &args.proof) {
        (Some(connection), _) => by_node(known.as_ref(), &mut seen, connection).await?,
        (None, Some(file)) => by_file(known.as_ref(), &seen, file)?,
        (None, None) => unreachable!("a connection was made where no file is named"),
    };
    for certified in known.iter().chain(&from).chain(&head) {
        // A second block of one height is the finding's.
        let _in_the_finding = seen.note(&certified.header, certified.signers);
    }
    audit.rests_on = seen.basis();
    let first = match (&known, &from) {
        (Some(known), _) if !between_ends => Some((args.head.display().to_string(), known)),
        (_, from) => from.as_ref().map(|from| ("the beginning of the proof".to_owned(), from)),
    };
    if let Some((first, other)) = first.zip(finding.other.as_ref()) {
        match write_evidence(args, first, other, &seen, connection.as_ref()).await {
            Ok(file) => audit.evidence = Some(file),
            // A fork is one, whether or not it could be written down.
            Err(error) => note!("customhouse: the evidence: {}", crate::failure::sentence(&error)),
        }
    }
    audit.finish(args, known, head, finding)?;
    output.print(&audit)?;
    Ok(audit.verdict)
}

/// What was looked at, and found.
struct Compared {
    /// Where a proof in a file begins, where that is certified.
    from: Option<Certified>,
    /// The certified newer head.
    head: Option<Certified>,
    finding: HeadComparison,
    /// Whether a contradiction is one between the two ends of a proof.
    between_ends: bool,
}

/// What a node's head says beside the known one.
async fn by_node(
    known: Option<&Certified>,
    seen: &mut Seen,
    connection: &Connection,
) -> anyhow::Result<Compared> {
    let (head, finding) = match compare::head(&mut seen.verifier, connection.node()).await? {
        Ok(head) => {
            let known = known.map(|known| &known.header);
            let finding = compare::against(known, &head, &seen.verifier, connection.node()).await;
            (Some(head), finding)
        }
        Err(error) => {
            let reason = format!("its head is not certified: {error}");
            (None, HeadComparison::new(Verdict::of_finality(&error), reason))
        }
    };
    Ok(Compared { from: None, head, finding, between_ends: false })
}

/// What a proof in a file says beside the known head.
fn by_file(known: Option<&Certified>, seen: &Seen, file: &Path) -> anyhow::Result<Compared> {
    let bytes = read_form::<v1::ConsistencyProof>(file, "CONSISTENCY_PROOF_TOO_LARGE")?;
    let refused = |from, verdict, code: &str, error: &dyn fmt::Display| {
        let finding = HeadComparison::new(verdict, format!("{code}: {error}"));
        Ok(Compared { from, head: None, finding, between_ends: false })
    };
    let [from, to] = certified_ends(&bytes, seen);
    let by_known = known.and_then(|known| contradiction(known, from.iter().chain(&to)));
    let between_ends = by_known.is_none();
    let by_ends = || from.as_ref().and_then(|from| contradiction(from, to.iter()));
    if let Some(finding) = by_known.or_else(by_ends) {
        return Ok(Compared { from, head: None, finding, between_ends });
    }
    let proof = match seen.verifier.verify_consistency(&bytes) {
        Ok(proof) => proof,
        Err(error @ ConsistencyError::Fork { .. }) => {
            return refused(from, Verdict::Fork, error.code(), &error);
        }
        Err(ConsistencyError::Finality(_, error)) => {
            return refused(from, Verdict::of_finality(&error), error.code(), &error);
        }
        Err(error) => return refused(from, Verdict::Invalid, error.code(), &error),
    };
    let finding = match known {
        Some(known) if known.header.hash() != proof.from.hash() => {
            let reason = format!(
                "the proof begins at height {}, block {}, and not at the saved head",
                proof.from.height,
                proof.from.hash().short()
            );
            HeadComparison::new(Verdict::NotEnoughEvidence, reason)
        }
        _ => {
            let (from, to) = (proof.from.log_size, proof.to.log_size);
            let reason = format!("the log of {to} transactions continues the log of {from}");
            HeadComparison::new(Verdict::Verified, reason)
        }
    };
    Ok(Compared { from, head: to, finding, between_ends: false })
}

/// The headers of a proof that are certified, whatever else it shows.
fn certified_ends(proof: &[u8], seen: &Seen) -> [Option<Certified>; 2] {
    let Ok(proof) = v1::ConsistencyProof::decode(proof) else { return [None, None] };
    let certified =
        |header: &[u8], certificate| Certified::check(header, certificate, &seen.verifier).ok();
    [
        certified(&proof.from_header, proof.from_certificate),
        certified(&proof.to_header, proof.to_certificate),
    ]
}

/// Whether one of these certified headers contradicts another by itself.
fn contradiction<'a>(
    first: &Certified,
    mut others: impl Iterator<Item = &'a Certified>,
) -> Option<HeadComparison> {
    others.find_map(|other| {
        compare::without_proof(&first.header, other).filter(|found| found.verdict == Verdict::Fork)
    })
}

/// Writes what both sides certified beside the saved head, with what the node holds about its own.
async fn write_evidence(
    args: &ConsistencyArgs,
    (first, known): (String, &Certified),
    other: &Certified,
    seen: &Seen,
    connection: Option<&Connection>,
) -> anyhow::Result<PathBuf> {
    let (from, told) = match connection {
        Some(connection) => {
            let told = connection.client.decision(other.header.height).await.ok();
            (connection.profile.node.clone(), told)
        }
        None => ("the proof".to_owned(), None),
    };
    let sides = vec![
        Side::new(first, known, None, &seen.verifier)?,
        Side::new(from, other, told, &seen.verifier)?,
    ];
    let beside = args.head.parent().filter(|parent| !parent.as_os_str().is_empty());
    EvidenceFile::new(&seen.verifier, sides)?.write(beside.unwrap_or(Path::new(".")))
}

/// The proof as one structure, from the lower height to the higher.
fn proof_of(known: &Certified, head: &Certified, path: &[Hash]) -> v1::ConsistencyProof {
    let (from, to) = match known.header.height <= head.header.height {
        true => (known, head),
        false => (head, known),
    };
    v1::ConsistencyProof {
        from_header: from.header.encode(),
        from_certificate: from.certificate.clone(),
        to_header: to.header.encode(),
        to_certificate: to.certificate.clone(),
        path: merkle::path_bytes(path),
    }
}

impl ConsistencyAudit {
    fn new(seen: &Seen) -> Self {
        Self {
            verdict: Verdict::NotEnoughEvidence,
            saved: None,
            head: None,
            reason: String::new(),
            written: false,
            evidence: None,
            from_file: false,
            rests_on: seen.basis(),
        }
    }

    fn whose(&self) -> &'static str {
        if self.from_file { "proof" } else { "node" }
    }

    fn conclude(&mut self, finding: HeadComparison) {
        (self.verdict, self.reason) = (finding.verdict, finding.reason);
    }

    /// Writes what is to be kept of an answer.
    fn finish(
        &mut self,
        args: &ConsistencyArgs,
        known: Option<Certified>,
        head: Option<Certified>,
        finding: HeadComparison,
    ) -> anyhow::Result<()> {
        let Some(head) = head else {
            self.conclude(finding);
            return Ok(());
        };
        self.head = Some(HeadPlace::of(&head.header));
        let finding = too_old(&head, args.max_age, finding);
        let verified = finding.verdict == Verdict::Verified;
        if let Some(file) = args.write_proof.as_ref().filter(|_| verified) {
            let known = known.as_ref().context("--write-proof: there is no saved head yet")?;
            let proof = proof_of(known, &head, &finding.path);
            newfile::output(file, &proof.encode_to_vec())
                .with_context(|| file.display().to_string())?;
        }
        let newer = known.is_none_or(|known| known.header.height < head.header.height);
        self.written = verified && newer && !args.keep;
        if self.written {
            SavedHead::of(&head).write(&args.head)?;
        }
        self.conclude(finding);
        Ok(())
    }
}

impl fmt::Display for ConsistencyAudit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(saved) = &self.saved {
            writeln!(f, "saved  {saved}")?;
        }
        if let Some(head) = &self.head {
            writeln!(f, "{:<6} {head}", self.whose())?;
        }
        writeln!(f, "{}: {}", self.verdict, one_line(&self.reason))?;
        if self.written {
            writeln!(f, "the {}'s head is saved", self.whose())?;
        }
        if let Some(evidence) = &self.evidence {
            let file = evidence.to_string_lossy();
            writeln!(f, "both sides are in {}: see `customhouse audit fork`", one_line(&file))?;
        }
        write!(f, "rests on {}", self.rests_on)
    }
}
