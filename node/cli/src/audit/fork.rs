//! `customhouse audit fork`: who divided a chain. Offline; nothing in the files is trusted.

use std::{collections::BTreeMap, fmt, mem, path::PathBuf};

use customhouse_audit::{
    told::{Gathered, RefusedDecision, Told},
    validators,
    verdict::Verdict,
};
use customhouse_ledger::{
    agency::AgencyCode,
    finality::{
        decision::Decision,
        evidence::Evidence,
        validators::{Validator, ValidatorSet},
        vote::VoteKind,
    },
    hash::Hash,
    keys::PublicKey,
    proofs::{
        fork::{self, Conclusion, Culprit, Examination, Finalized, Missing, MissingWhat},
        verifier::Verifier,
    },
};
use serde::Serialize;

use crate::{
    audit::verifier,
    output::{Output, one_line},
};

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
    /// where they changed before the height. Evidence files have their own.
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
them for `audit decisions` of that height, and add its file. A file or a side that is invalid is named
and left out. Two heads of different heights show that
the chain is divided, but not by whom: add what nodes of both sides decided at one height. No network
is needed.

Exit codes: 0 no fork in these files; 1 a file or a side is invalid, and the others show no fork; 2 a
fork, or nothing to compare, but not enough evidence to name who did it; 3 the culprits are proven, or
a certified change of validators contradicts another; 64
wrong arguments.

Examples:
  customhouse audit fork nl.decisions de.decisions --genesis genesis.json
  customhouse audit fork fork-812-1f0c22aa-9b3d0e41.evidence --genesis genesis.json
  customhouse --output json audit fork nl.decisions de.decisions fr.decisions \\
    --genesis genesis.json | jq '.culprits[].agency'";

#[derive(Serialize)]
struct ForkAudit {
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
    /// Files, sides and decisions that were not looked at, and why.
    refused: Vec<String>,
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

pub(super) fn examine(args: &ForkArgs, output: Output) -> anyhow::Result<Verdict> {
    let mut verifier = verifier(&args.genesis)?;
    if let Some(file) = &args.validator_chain {
        validators::follow_file(&mut verifier, file)?;
    }
    let gathered = Gathered::read(&args.files, &mut verifier);
    let mut audit = ForkAudit::new(&verifier);
    audit.look_at(&gathered, &verifier);
    audit.weigh(&gathered.refused);
    output.print(&audit)?;
    Ok(audit.verdict)
}

/// What is to be said where no two blocks of one height are there.
fn agreement(gathered: &Gathered) -> (Verdict, String) {
    let mut of_height = BTreeMap::<u64, Vec<&Decision>>::new();
    for decision in gathered.told.iter().flat_map(|told| &told.decisions) {
        of_height.entry(decision.height).or_default().push(decision);
    }
    of_height.retain(|_, decisions| decisions.len() > 1);
    if of_height.is_empty() {
        return (Verdict::NotEnoughEvidence, no_common_height(gathered));
    }
    let mut reason = format!("no fork: the same blocks at {} heights", of_height.len());
    // Two honest nodes may hold the same certificates; the files do not show that they were two.
    if of_height.values().flatten().all(|decision| of_height[&decision.height][0] == *decision) {
        reason += "; what the files say of them is the same to the last signature, as of one file and \
                   its copy: make sure that they are of two nodes";
    }
    (Verdict::Verified, reason)
}

/// What to do where the files are of different heights.
fn no_common_height(gathered: &Gathered) -> String {
    let heights = |told: &Told| {
        let all = || told.decisions.iter().map(|decision| decision.height);
        match (all().min(), all().max()) {
            (Some(first), Some(last)) if first == last => format!("{}: {first}", told.from),
            (Some(first), Some(last)) => format!("{}: {first} to {last}", told.from),
            _ => format!("{}: none", told.from),
        }
    };
    let heights: Vec<_> = gathered.told.iter().map(heights).collect();
    if heights.is_empty() {
        return "no decisions were read".to_owned();
    }
    let repeated = |file: &PathBuf| format!("{} was named twice and counts once; ", file.display());
    let repeated: String = gathered.repeated.iter().map(repeated).collect();
    format!(
        "{repeated}no height is in two distinct files ({}). Ask a node of each side for `audit decisions` \
         of the lowest of these heights, and add both files",
        heights.join("; ")
    )
}

impl ForkAudit {
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
            refused: Vec::new(),
            rests_on: Basis::of(verifier.chain_id(), verifier.validators()),
        }
    }

    fn look_at(&mut self, gathered: &Gathered, verifier: &Verifier) {
        let all = || gathered.told.iter().flat_map(|told| &told.decisions);
        let chain_id = verifier.chain_id();
        let validators_at = |height| verifier.validators_at(height);
        let Some(height) = fork::height_to_examine(all(), &chain_id, validators_at) else {
            (self.verdict, self.reason) = agreement(gathered);
            return;
        };
        self.height = Some(height);
        let validators = verifier.validators_at(height);
        self.rests_on = Basis::of(chain_id, validators);
        let decisions: Vec<_> = all().filter(|decision| decision.height == height).collect();
        match fork::examine(height, &decisions, &chain_id, validators) {
            Ok(examination) => self.conclude(examination, validators),
            // Each was verified when it was read.
            Err(error) => (self.verdict, self.reason) = (Verdict::Invalid, error.to_string()),
        }
    }

    /// A fork is one, whatever else was given; what was not looked at counts where none is found.
    fn weigh(&mut self, refused: &[RefusedDecision]) {
        self.refused = refused.iter().map(|refusal| refusal.why.clone()).collect();
        let Some(worst) = refused.iter().rev().max_by_key(|refusal| refusal.verdict) else {
            return;
        };
        let fork_is_found = self.verdict == Verdict::Fork || self.missing.is_some();
        if worst.verdict == Verdict::Fork && self.verdict != Verdict::Fork
            || !fork_is_found && worst.verdict >= self.verdict
        {
            self.verdict = worst.verdict;
            let without = mem::replace(&mut self.reason, worst.why.clone());
            self.reason += &format!("; without it: {without}");
        }
    }

    fn conclude(&mut self, examination: Examination, validators: &ValidatorSet) {
        let Examination { finalized, culprits, conclusion, parted_below, left_out, .. } =
            examination;
        (self.parted_below, self.left_out) = (parted_below, left_out);
        let named = culprits.len();
        let count = validators.count();
        (self.verdict, self.reason) = match &conclusion {
            Conclusion::NoFork if left_out > 0 => {
                let reason = format!(
                    "no two blocks were finalized at this height by the validators that are known, but \
                     {left_out} certificates and proposals did not verify: where the validators \
                     changed, give the --validator-chain"
                );
                (Verdict::NotEnoughEvidence, reason)
            }
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
            let (first, second) = (a.proposed.block_hash, b.proposed.block_hash);
            if first == second {
                format!("proposed {} with two lists of transactions", first.short())
            } else {
                format!("proposed {} and {}", first.short(), second.short())
            }
        }
        Evidence::ProposalAndVote(claim, vote) => {
            let proposed = claim.proposed.block_hash.short();
            let notarized = vote.ballot.block_hash.short();
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

impl fmt::Display for ForkAudit {
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
        for why in &self.refused {
            writeln!(f, "not looked at: {}", one_line(why))?;
        }
        let verdict = match self.verdict {
            Verdict::Fork if !self.culprits.is_empty() => "CULPRITS PROVEN".to_owned(),
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
