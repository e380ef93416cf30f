//! `customhouse audit fork`: who divided a chain. Offline; nothing in the files is trusted.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use customhouse_ledger::{
    agency::AgencyCode,
    decision::{self, DECISIONS_BYTES_MAX, Decision},
    evidence::Evidence,
    fork::{self, Conclusion, Culprit, Examination, Finalized, Missing, MissingWhat},
    hash::Hash,
    keys::PublicKey,
    validators::{Validator, ValidatorSet},
    verifier::{FinalityError, Verifier},
    vote::VoteKind,
};
use customhouse_node::readfile;
use serde::Serialize;

use super::{
    Verdict,
    evidence::{EVIDENCE_BYTES_MAX, EvidenceFile, Side},
    validators, verifier,
};
use crate::cli::output::{Output, one_line};

#[derive(clap::Args)]
pub(crate) struct ForkArgs {
    /// What nodes exported with `audit decisions`, of both sides and of any others that have more; or the
    /// evidence that `audit watch` or `audit consistency` wrote.
    #[arg(required = true, value_name = "DECISIONS")]
    files: Vec<PathBuf>,
    /// The genesis of the network, as you had it from a source that you trust.
    #[arg(long, value_name = "FILE")]
    genesis: PathBuf,
    /// The changes of validators since the genesis, as `audit validator-chain` wrote them: needed
    /// where they changed before the height.
    #[arg(long, value_name = "FILE")]
    validator_chain: Option<PathBuf>,
}

pub(super) const HELP: &str = "\
Two blocks of one height, each finalized by a quorum, are the proof that more than f validators broke
the rules. This command finds the lowest such height in the files and names those who did: the
validators with two signatures that no honest one makes, such as a nullify and a finalize vote in
one view. Each is named with that pair, so nobody honest can be, whatever is in the files.

Begin with one file of each side, or with the evidence file, which has both. Where these do not show
enough, the answer says which certificate is missing and which validators must have it: ask one of
them for `audit decisions` of that height, and add its file. Two heads of different heights show that
the chain is divided, but not by whom: add what nodes of both sides decided at one height. No network
is needed.

Exit codes: 0 no fork in these files; 1 a file is invalid; 2 a fork, or nothing to compare, but not
enough evidence to name who did it; 3 the culprits are proven; 64 wrong arguments.

Examples:
  customhouse audit fork nl.decisions de.decisions --genesis genesis.json
  customhouse audit fork fork-812-1f0c22aa-9b3d0e41.evidence --genesis genesis.json
  customhouse --output json audit fork nl.decisions de.decisions fr.decisions \\
    --genesis genesis.json | jq '.culprits[].agency'";

#[derive(Serialize)]
struct Audit {
    verdict: Verdict,
    reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    height: Option<u64>,
    finalized: Vec<FinalizedView>,
    culprits: Vec<CulpritView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    missing: Option<MissingView>,
    /// Whether the blocks have different parents.
    parted_below: bool,
    /// Certificates and proposals that did not verify.
    left_out: usize,
    rests_on: Basis,
}

/// Against what signatures were checked. Nothing is assumed about who is honest.
#[derive(Serialize)]
struct Basis {
    chain_id: Hash,
    validators: usize,
    quorum: usize,
}

impl Basis {
    fn of(chain_id: Hash, validators: &ValidatorSet) -> Self {
        Self { chain_id, validators: validators.count(), quorum: validators.quorum() }
    }
}

#[derive(Serialize)]
struct FinalizedView {
    view: u64,
    block_hash: Hash,
    signed_by: Vec<AgencyCode>,
}

#[derive(Serialize)]
struct CulpritView {
    agency: AgencyCode,
    key: PublicKey,
    evidence: Vec<EvidenceView>,
}

#[derive(Serialize)]
struct EvidenceView {
    height: u64,
    view: u64,
    what: String,
    /// The two signed statements, as docs/FORMATS.md has them, in hexadecimal.
    first: String,
    second: String,
}

#[derive(Serialize)]
struct MissingView {
    what: String,
    view: u64,
    block_hash: Hash,
    /// One honest validator among these has it.
    ask: Vec<AgencyCode>,
}

/// A node's decisions.
struct Told {
    /// The file, and the node where the file has several.
    from: String,
    decisions: Vec<Decision>,
}

pub(super) fn examine(args: &ForkArgs, output: Output) -> anyhow::Result<Verdict> {
    let mut verifier = verifier(&args.genesis)?;
    if let Some(file) = &args.validator_chain {
        validators::follow_file(&mut verifier, file)?;
    }
    let mut audit = Audit::new(&verifier);
    let mut told = Vec::new();
    for file in &args.files {
        match read(file, &verifier)? {
            Ok(sides) => told.extend(sides),
            Err(why) => audit.refuse(format!("{}: {why}", file.display())),
        }
    }
    if audit.verdict != Verdict::Invalid {
        audit.look_at(&told, &verifier);
    }
    output.print(&audit)?;
    Ok(audit.verdict)
}

/// Reads a file, of decisions or of evidence, and checks the finalizations in it; the inner error says
/// why it is invalid.
fn read(file: &Path, verifier: &Verifier) -> anyhow::Result<Result<Vec<Told>, String>> {
    let bytes = match readfile::bytes(file, EVIDENCE_BYTES_MAX) {
        Err(error) if error.kind() == std::io::ErrorKind::FileTooLarge => {
            return Ok(Err(error.to_string()));
        }
        bytes => bytes.with_context(|| file.display().to_string())?,
    };
    let sides = match sides(file, &bytes, verifier) {
        Ok(sides) => sides,
        Err(why) => return Ok(Err(why)),
    };
    for decision in sides.iter().flat_map(|told| &told.decisions) {
        let Some((header, certificate)) = &decision.decided else { continue };
        match verifier.verify_final(&header.encode(), &certificate.encode()) {
            Ok(_) => {}
            // The file may be right: what is missing is who decided the height.
            Err(error @ FinalityError::StepMissing { .. }) => {
                return Err(error).with_context(|| file.display().to_string());
            }
            Err(error) => {
                let (height, code) = (decision.height, error.code());
                return Ok(Err(format!("height {height}: {code}: {error}")));
            }
        }
    }
    Ok(Ok(sides))
}

/// What the nodes tell in a file: of one, or of all sides.
fn sides(file: &Path, bytes: &[u8], verifier: &Verifier) -> Result<Vec<Told>, String> {
    let name = file.display();
    if EvidenceFile::is_meant(bytes) {
        let evidence = EvidenceFile::read(bytes, &verifier.chain_id())?;
        let told = |side: &Side| {
            let from = format!("{name}: {}", side.from);
            Ok(Told { from, decisions: side.decisions()? })
        };
        return evidence.sides.iter().map(told).collect();
    }
    if bytes.len() > DECISIONS_BYTES_MAX {
        return Err(format!("{} bytes, at most {DECISIONS_BYTES_MAX} are allowed", bytes.len()));
    }
    let decisions = decision::decode(bytes).map_err(|error| error.to_string())?;
    Ok(vec![Told { from: name.to_string(), decisions }])
}

/// What to do where the files are of different heights.
fn no_common_height(told: &[Told]) -> String {
    let heights = |told: &Told| {
        let all = || told.decisions.iter().map(|decision| decision.height);
        match (all().min(), all().max()) {
            (Some(first), Some(last)) if first == last => format!("{}: {first}", told.from),
            (Some(first), Some(last)) => format!("{}: {first} to {last}", told.from),
            _ => format!("{}: none", told.from),
        }
    };
    let heights: Vec<_> = told.iter().map(heights).collect();
    format!(
        "no height is in two of the files ({}). Ask a node of each side for `audit decisions` of the \
         lowest of these heights, and add both files",
        heights.join("; ")
    )
}

impl Audit {
    fn new(verifier: &Verifier) -> Self {
        Self {
            verdict: Verdict::Verified,
            reason: String::new(),
            height: None,
            finalized: Vec::new(),
            culprits: Vec::new(),
            missing: None,
            parted_below: false,
            left_out: 0,
            rests_on: Basis::of(verifier.chain_id(), verifier.validators()),
        }
    }

    fn refuse(&mut self, reason: String) {
        (self.verdict, self.reason) = (Verdict::Invalid, reason);
    }

    fn look_at(&mut self, told: &[Told], verifier: &Verifier) {
        let all = || told.iter().flat_map(|told| &told.decisions);
        let chain_id = verifier.chain_id();
        let validators_at = |height| verifier.validators_at(height);
        let Some(height) = fork::height_to_examine(all(), &chain_id, validators_at) else {
            let mut files_of = BTreeMap::<u64, usize>::new();
            all().for_each(|decision| *files_of.entry(decision.height).or_default() += 1);
            let shared = files_of.values().filter(|&&files| files > 1).count();
            (self.verdict, self.reason) = match shared {
                0 => (Verdict::NotEnoughEvidence, no_common_height(told)),
                _ => (Verdict::Verified, format!("no fork: the same blocks at {shared} heights")),
            };
            return;
        };
        self.height = Some(height);
        let validators = verifier.validators_at(height);
        self.rests_on = Basis::of(chain_id, validators);
        let decisions: Vec<_> = all().filter(|decision| decision.height == height).collect();
        match fork::examine(height, &decisions, &chain_id, validators) {
            Ok(examination) => self.conclude(examination, validators),
            Err(error) => {
                let mut with_height =
                    told.iter().filter(|t| t.decisions.iter().any(|d| d.height == height));
                let from = with_height.nth(error.index).map(|told| told.from.as_str());
                self.refuse(format!("{}: {error}", from.unwrap_or_default()));
            }
        }
    }

    fn conclude(&mut self, examination: Examination, validators: &ValidatorSet) {
        let Examination { finalized, culprits, conclusion, parted_below, left_out, .. } =
            examination;
        (self.parted_below, self.left_out) = (parted_below, left_out);
        let named = culprits.len();
        let count = validators.count();
        (self.verdict, self.reason) = match &conclusion {
            Conclusion::NoFork => {
                (Verdict::Verified, "no two blocks were finalized at this height".to_owned())
            }
            Conclusion::Proven => {
                let reason = format!("{named} of {count} validators provably broke the rules");
                (Verdict::Fork, reason)
            }
            Conclusion::NotEnough(_) => {
                let reason =
                    "a quorum finalized two blocks, but the files do not show who signed for both";
                (Verdict::NotEnoughEvidence, reason.to_owned())
            }
        };
        if parted_below {
            self.reason +=
                "; the blocks have different parents: the chains parted below this height";
        }
        if let Conclusion::NotEnough(missing) = &conclusion {
            self.missing = Some(MissingView::of(missing));
        }
        self.finalized = finalized.iter().map(FinalizedView::of).collect();
        self.culprits = culprits.iter().map(CulpritView::of).collect();
    }
}

fn agencies(validators: &[Validator]) -> Vec<AgencyCode> {
    validators.iter().map(|validator| validator.agency).collect()
}

impl FinalizedView {
    fn of(finalized: &Finalized) -> Self {
        let Finalized { view, block_hash, signers } = finalized;
        Self { view: *view, block_hash: *block_hash, signed_by: agencies(signers) }
    }
}

impl CulpritView {
    fn of(culprit: &Culprit) -> Self {
        let Validator { agency, key } = culprit.validator;
        Self { agency, key, evidence: culprit.evidence.iter().map(EvidenceView::of).collect() }
    }
}

impl EvidenceView {
    fn of(evidence: &Evidence) -> Self {
        let ((height, view), report) = (evidence.place(), evidence.to_proto());
        let (first, second) = (hex::encode(report.first), hex::encode(report.second));
        Self { height, view, what: what_was_signed(evidence), first, second }
    }
}

fn what_was_signed(evidence: &Evidence) -> String {
    match evidence {
        Evidence::Proposals(a, b) => {
            format!("proposed {} and {}", a.block_hash.short(), b.block_hash.short())
        }
        Evidence::ProposalAndVote(claim, vote) => {
            let (proposed, notarized) = (claim.block_hash.short(), vote.ballot.block_hash.short());
            format!("proposed {proposed} and notarized {notarized}")
        }
        Evidence::Votes(a, b) => {
            let (a, b) = (&a.ballot, &b.ballot);
            let (first, second) = (a.block_hash.short(), b.block_hash.short());
            match (a.kind, b.kind) {
                (VoteKind::Notarize, _) => format!("notarized {first} and {second}"),
                (VoteKind::Nullify, _) => format!("nullified, and finalized {second}"),
                (VoteKind::Finalize, VoteKind::Nullify) => {
                    format!("finalized {first}, and nullified")
                }
                (VoteKind::Finalize, _) => format!("finalized {first} and {second}"),
            }
        }
    }
}

impl MissingView {
    fn of(missing: &Missing) -> Self {
        let ask = agencies(&missing.holders);
        match missing.what {
            MissingWhat::Notarization { view, block_hash } => {
                let what =
                    format!("the notarization of block {} in view {view}", block_hash.short());
                Self { what, view, block_hash, ask }
            }
            MissingWhat::Justification { view, block_hash, finalized_view } => {
                let block = block_hash.short();
                let what = format!(
                    "what the notarization of block {block} in view {view} rested on: a nullification \
                     of view {finalized_view}, or a notarization of the block in view \
                     {finalized_view} or later"
                );
                Self { what, view, block_hash, ask }
            }
        }
    }
}

impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |agencies: &[AgencyCode]| {
            agencies.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        };
        for FinalizedView { view, block_hash, signed_by } in &self.finalized {
            let height = self.height.unwrap_or_default();
            let by = list(signed_by);
            writeln!(f, "height {height}: block {block_hash} finalized in view {view} by {by}")?;
        }
        for CulpritView { agency, key, evidence } in &self.culprits {
            for EvidenceView { view, what, .. } in evidence {
                writeln!(f, "{agency} (key {key}): in view {view} {what}")?;
            }
        }
        if let Some(MissingView { what, ask, .. }) = &self.missing {
            writeln!(f, "missing: {what}; an honest one of {} has it", list(ask))?;
        }
        if self.left_out > 0 {
            writeln!(f, "left out: {} certificates or proposals did not verify", self.left_out)?;
        }
        let verdict = match self.verdict {
            Verdict::Fork => "CULPRITS PROVEN".to_owned(),
            verdict => verdict.to_string(),
        };
        writeln!(f, "{verdict}: {}", one_line(&self.reason))?;
        let Basis { chain_id, validators, quorum } = &self.rests_on;
        write!(
            f,
            "rests on the signatures alone, on the chain of genesis {}…: {validators} validators, \
             {quorum} a quorum",
            chain_id.short()
        )
    }
}
