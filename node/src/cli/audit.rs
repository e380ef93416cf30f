//! `customhouse audit`: what can be checked without trusting a node.
//!
//! Exit codes: 0 verified, 1 invalid, 2 not enough evidence, 3 proof of a fork, 64 wrong arguments.

use std::{
    collections::BTreeMap,
    fmt,
    ops::Bound,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Subcommand;
use customhouse_ledger::{
    certificate::CertificateError,
    genesis::GenesisError,
    hash::Hash,
    header::Header,
    proof_json::ProofJsonError,
    verifier::{FinalityError, StepError, Verifier},
};
use serde::Serialize;

use super::{
    Done, Output,
    connect::ConnectArgs,
    failure::{self, InvalidFile},
    genesis, time,
};

mod consistency;
mod decisions;
mod evidence;
mod export;
mod fork;
mod freshness;
mod head;
mod history;
mod node;
mod receipts;
mod source;
mod subject;
mod tlog;
mod told;
pub(crate) mod validators;
mod watch;

pub(crate) use head::saved_header;

#[derive(Subcommand)]
pub(crate) enum AuditCommand {
    /// Verify receipts with the genesis alone.
    #[command(after_help = VERIFY_HELP)]
    Verify(VerifyArgs),
    /// Prove all records about a subject: that each is on the ledger and that none is missing.
    #[command(after_help = format!("{}\n\n{}", subject::FORMS, history::HELP))]
    History(history::HistoryArgs),
    /// Prove that no record is about a subject.
    #[command(after_help = format!("{}\n\n{}", subject::FORMS, history::ABSENT_HELP))]
    Absent(history::HistoryArgs),
    /// Check that a node's log continues the head that was saved, and save its head.
    #[command(after_help = consistency::HELP)]
    Consistency(consistency::ConsistencyArgs),
    /// Follow several nodes, and find the one that tells another history.
    #[command(after_help = watch::HELP)]
    Watch(watch::WatchArgs),
    /// Write receipts and proofs to files, to be checked without a network.
    #[command(subcommand)]
    Export(export::ExportCommand),
    /// Write the changes of validators since the genesis, verified, to a file for all receipts.
    #[command(after_help = CHAIN_HELP)]
    ValidatorChain(ValidatorChainArgs),
    /// Export how a node came to decide heights: blocks, finalizations, and what these rested on.
    #[command(after_help = decisions::HELP)]
    Decisions(decisions::DecisionsArgs),
    /// Name the validators that divided a chain, from what nodes on both sides export.
    #[command(after_help = fork::HELP)]
    Fork(fork::ForkArgs),
    /// Export a receipt as a C2SP tlog-proof, for tools of transparency logs.
    #[command(after_help = tlog::EXPORT_HELP)]
    TlogProof(Box<tlog::ExportArgs>),
    /// Verify a tlog-proof that `tlog-proof` wrote, with the genesis alone.
    #[command(after_help = tlog::VERIFY_HELP)]
    VerifyTlogProof(Box<tlog::VerifyArgs>),
}

#[derive(clap::Args)]
pub(crate) struct VerifyArgs {
    /// Receipt files, and directories with *.receipt.
    #[arg(required = true, value_name = "RECEIPT")]
    receipts: Vec<PathBuf>,
    /// The genesis of the network, as you had it from a source that you trust.
    #[arg(long, value_name = "FILE")]
    genesis: PathBuf,
    /// The changes of validators since the genesis, as `audit validator-chain` wrote them. A
    /// validator.chain beside the receipts is used without being named.
    #[arg(long, value_name = "FILE")]
    validator_chain: Option<PathBuf>,
    /// Also ask the profile's node for its head, and check that its log continues the receipts'.
    #[arg(long)]
    against_node: bool,
}

#[derive(clap::Args)]
pub(crate) struct ValidatorChainArgs {
    /// The genesis of the network, as you had it from a source that you trust.
    #[arg(long, value_name = "FILE")]
    genesis: PathBuf,
    /// Where to write it; must not exist.
    #[arg(long, value_name = "FILE", default_value = validators::FILE_NAME)]
    out: PathBuf,
}

const CHAIN_HELP: &str = "\
Each change is a block's header that announced it, final by the validators before, so the file needs
no more trust than the genesis does: `audit verify` checks it again.

Exit codes: 0 written; 1 the node's chain is invalid; 2 not enough evidence, such as a change that no
quorum certified; 3 proof of a fork; 64 wrong arguments.

Examples:
  customhouse --profile net/NL-DOUANE/clients/auditor audit validator-chain \\
    --genesis genesis.json --out receipts/validator.chain";

const VERIFY_HELP: &str = "\
No network is needed, unless --against-node asks for it. Where receipts contradict each other, two
certified blocks of one height are the proof of a fork. Receipts from after a change of the validators
need the validator chain: --validator-chain FILE, or validator.chain beside them, or --against-node.

Exit codes: 0 all verified; 1 a receipt, the validator chain or the genesis is invalid; 2 not enough evidence, such as a certificate
without a quorum, a missing validator chain or a file that cannot be read; 3 proof of a fork;
64 wrong arguments.

Examples:
  customhouse audit verify receipts/ --genesis genesis.json
  customhouse --profile net/NL-DOUANE/clients/auditor audit verify receipts/ \\
    --genesis genesis.json --against-node
  customhouse --output json audit verify a.receipt --genesis genesis.json | jq .rests_on";

/// Exit code of wrong arguments: EX_USAGE of BSD's sysexits, because the usual 2 is a verdict here.
pub(crate) const WRONG_USAGE: u8 = 64;

/// An audit's result, from the best to the worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Verified,
    NotEnoughEvidence,
    Invalid,
    Fork,
}

impl Verdict {
    /// What an audit without an answer comes to: there was nothing to look at, unless what was looked at
    /// is invalid, or a fork by itself.
    fn of_error(error: &anyhow::Error) -> Self {
        error.chain().find_map(Self::of_cause).unwrap_or(Self::NotEnoughEvidence)
    }

    fn of_cause(cause: &(dyn std::error::Error + 'static)) -> Option<Self> {
        match cause.downcast_ref() {
            Some(StepError::Fork(_)) => return Some(Self::Fork),
            Some(StepError::Finality(_, error)) => return Some(Self::of_finality(error)),
            Some(StepError::Gap(_)) => return Some(Self::NotEnoughEvidence),
            Some(_) => return Some(Self::Invalid),
            None => {}
        }
        if let Some(error) = cause.downcast_ref() {
            return Some(Self::of_finality(error));
        }
        let is_invalid =
            cause.is::<ProofJsonError>() || cause.is::<GenesisError>() || cause.is::<InvalidFile>();
        is_invalid.then_some(Self::Invalid)
    }

    /// Too few signatures prove nothing, and nor do those of validators that are not known; anything
    /// else is wrong.
    fn of_finality(error: &FinalityError) -> Self {
        match error {
            FinalityError::Certificate(CertificateError::NoQuorum { .. })
            | FinalityError::StepMissing { .. } => Self::NotEnoughEvidence,
            _ => Self::Invalid,
        }
    }

    fn exit_code(self) -> ExitCode {
        match self {
            Self::Verified => 0,
            Self::Invalid => 1,
            Self::NotEnoughEvidence => 2,
            Self::Fork => 3,
        }
        .into()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Verified => "verified",
            Self::NotEnoughEvidence => "not enough evidence",
            Self::Invalid => "INVALID",
            Self::Fork => "PROOF OF A FORK",
        })
    }
}

/// What an answer rests on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Basis {
    chain_id: Hash,
    validators: usize,
    quorum: usize,
    /// Changes of the validators that were followed, each certified by those before.
    validator_changes: usize,
    /// Of all certificates looked at, those of the changes too, the smallest number of signers.
    finalized_by_least: Option<usize>,
    /// Newest header seen.
    head_height: Option<u64>,
    head_time_ms: Option<u64>,
}

impl fmt::Display for Basis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let genesis = self.chain_id.short();
        match (self.finalized_by_least, self.head_height.zip(self.head_time_ms)) {
            (Some(least), Some((height, time_ms))) => write!(
                f,
                "{least} of {} validators, genesis {genesis}…, head height {height}, {}; \
                 assumes that fewer than {} of their keys are in wrong hands{}",
                self.validators,
                time::age(time_ms),
                2 * self.quorum - self.validators,
                match self.validator_changes {
                    0 => String::new(),
                    changes => format!(
                        ", and as few of those of each other set of validators (changes: {changes})"
                    ),
                }
            ),
            _ => write!(f, "nothing: no certified header, genesis {genesis}…"),
        }
    }
}

/// Headers that a quorum finalized, by height: two of one height are a fork.
struct Seen {
    verifier: Verifier,
    headers: BTreeMap<u64, Header>,
    /// The fewest that signed a header, and its height.
    least: Option<(usize, u64)>,
}

/// Two certified blocks that are not of one chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Fork {
    /// Of the blocks; the first is not above the second.
    heights: [u64; 2],
    blocks: [Hash; 2],
    contradiction: Contradiction,
}

/// What two certified headers say that cannot be so on one chain: there is one block a height, time goes
/// on, the log grows, and a block names the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Contradiction {
    Height,
    Time,
    LogStart,
    LogRoot,
    Parent,
}

impl Contradiction {
    /// Of two headers, of which the first is not above the second.
    fn of(below: &Header, above: &Header) -> Option<Self> {
        if below.height == above.height {
            (below.hash() != above.hash()).then_some(Self::Height)
        } else if below.time_ms >= above.time_ms {
            Some(Self::Time)
        } else if below.log_size > above.log_start {
            Some(Self::LogStart)
        } else if below.log_size == above.log_size && below.log_root != above.log_root {
            Some(Self::LogRoot)
        } else if below.height + 1 == above.height && above.parent_hash != below.hash() {
            Some(Self::Parent)
        } else {
            None
        }
    }
}

/// Whether the certified header of a lower height and that of a higher one can be of one chain, by what
/// they say themselves.
fn may_follow(below: &Header, above: &Header) -> bool {
    Contradiction::of(below, above).is_none()
}

impl Fork {
    /// `None` where the two can be of one chain, by what they say themselves.
    fn between(one: &Header, other: &Header) -> Option<Self> {
        let (below, above) = if one.height <= other.height { (one, other) } else { (other, one) };
        Some(Self {
            heights: [below.height, above.height],
            blocks: [below.hash(), above.hash()],
            contradiction: Contradiction::of(below, above)?,
        })
    }
}

impl fmt::Display for Fork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ([below, above], [first, second]) = (self.heights, self.blocks);
        let why = match self.contradiction {
            Contradiction::Height => {
                return write!(
                    f,
                    "a quorum finalized two blocks at height {below}: {first} and {second}"
                );
            }
            Contradiction::Time => "the higher is not later than the lower",
            Contradiction::LogStart => "the log of the lower goes beyond where the higher begins",
            Contradiction::LogRoot => "they certify different logs of one size",
            Contradiction::Parent => "the higher names another block before it",
        };
        write!(
            f,
            "quorums finalized block {first} of height {below} and block {second} of height {above}, \
             which are not of one chain: {why}"
        )
    }
}

impl Seen {
    fn new(verifier: Verifier) -> Self {
        Self { verifier, headers: BTreeMap::new(), least: None }
    }

    /// Notes a certified header.
    fn note(&mut self, header: &Header, finalized_by: usize) -> Result<(), Fork> {
        if header.height > 0 {
            let this = (finalized_by, header.height);
            self.least = Some(self.least.map_or(this, |least| least.min(this)));
        }
        let height = header.height;
        let below = self.headers.range(..height).next_back().map(|(_, below)| below);
        let after = (Bound::Excluded(height), Bound::Unbounded);
        let above = self.headers.range(after).next().map(|(_, above)| above);
        let same = self.headers.get(&height);
        for known in [same, below, above].into_iter().flatten() {
            if let Some(fork) = Fork::between(known, header) {
                return Err(fork);
            }
        }
        self.headers.entry(height).or_insert_with(|| header.clone());
        Ok(())
    }

    fn newest(&self) -> Option<&Header> {
        self.headers.values().next_back()
    }

    fn basis(&self) -> Basis {
        // Of the header or change that rests on the fewest.
        let changes = || self.verifier.changes();
        let least = changes().map(|(from, signers)| (signers, from.saturating_sub(1)));
        let least = self.least.map(|header| least.fold(header, Ord::min));
        let validators = match least {
            Some((_, height)) => self.verifier.validators_at(height),
            None => self.verifier.validators(),
        };
        Basis {
            chain_id: self.verifier.chain_id(),
            validators: validators.count(),
            quorum: validators.quorum(),
            validator_changes: changes().count(),
            finalized_by_least: least.map(|(signers, _)| signers),
            head_height: self.newest().map(|header| header.height),
            head_time_ms: self.newest().map(|header| header.time_ms),
        }
    }
}

/// Runs the command; every failure to look is "not enough evidence".
pub(crate) async fn run(command: AuditCommand, output: Output, connect: ConnectArgs) -> Done {
    let done = match command {
        AuditCommand::Verify(args) => receipts::verify(&args, output, &connect).await,
        AuditCommand::ValidatorChain(args) => validators::export(&args, output, &connect).await,
        AuditCommand::Consistency(args) => consistency::check(&args, output, &connect).await,
        AuditCommand::Watch(args) => watch::watch(&args, output, &connect).await,
        AuditCommand::Export(command) => export::export(command, output, &connect).await,
        AuditCommand::History(args) => history::prove(&args, output, &connect).await,
        AuditCommand::Absent(args) => history::absent(&args, output, &connect).await,
        AuditCommand::Decisions(args) => decisions::export(&args, output, &connect).await,
        AuditCommand::Fork(args) => fork::examine(&args, output),
        AuditCommand::TlogProof(args) => tlog::export(&args, output, &connect).await,
        AuditCommand::VerifyTlogProof(args) => tlog::verify(&args, output),
    };
    let verdict = match done {
        Ok(verdict) => verdict,
        Err(error) if failure::is_wrong_usage(&error) => return Err(error),
        Err(error) => {
            let (verdict, reason) = (Verdict::of_error(&error), crate::cli::sentence(&error));
            let code = failure::code(&error);
            let before = code.as_ref().map(|code| format!("{code}: ")).unwrap_or_default();
            note!("customhouse: {before}{reason}");
            output.json(&NoAnswer { verdict, code, reason })?;
            verdict
        }
    };
    Ok(verdict.exit_code())
}

/// What scripts are told where there was nothing to look at.
#[derive(Serialize)]
struct NoAnswer {
    verdict: Verdict,
    /// Stable code, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    reason: String,
}

fn verifier(genesis: &Path) -> anyhow::Result<Verifier> {
    Ok(Verifier::new(&genesis::read(genesis)?))
}

#[cfg(test)]
pub(crate) mod tests {
    use customhouse_ledger::{
        certificate::Certificate,
        genesis::Genesis,
        keys::SigningKey,
        validators::{Validator, ValidatorSet},
        verifier::ValidatorStep,
        vote::{Ballot, Vote, VoteKind},
    };
    use customhouse_node::layout::{AgencyFile, genesis_of};

    use super::*;

    pub(super) fn genesis() -> Genesis {
        let key = |seed: u8| customhouse_ledger::keys::SigningKey::from_seed(&[seed; 32]).public();
        let agency = |index: u8| AgencyFile {
            agency: format!("A{index:03}").parse().expect("a code"),
            name: "Agency".into(),
            country: "NL".into(),
            validators: vec![key(index)],
            peers: vec![key(64 + index)],
            signing_keys: vec![],
        };
        let agencies: Vec<_> = (1..=4).map(agency).collect();
        genesis_of("test", 1_700_000_000_000, 8, &agencies, &BTreeMap::new()).expect("valid")
    }

    #[test]
    fn a_second_certified_block_of_one_height_is_the_proof_of_a_fork() {
        let genesis = genesis();
        let mut seen = Seen::new(Verifier::new(&genesis));
        let first = Header { height: 5, ..genesis.header() };
        let second = Header { time_ms: first.time_ms + 1, ..first.clone() };
        assert_eq!(seen.note(&first, 3), Ok(()));
        assert_eq!(seen.note(&first, 4), Ok(()), "the same block again is none");
        let fork = seen.note(&second, 3).expect_err("a fork");
        assert_eq!((fork.heights, fork.blocks), ([5, 5], [first.hash(), second.hash()]));
        assert!(fork.to_string().starts_with("a quorum finalized two blocks at height 5: "));
        // What liars may certify.
        let last = Header { height: u64::MAX, ..genesis.header() };
        assert!(Seen::new(Verifier::new(&genesis)).note(&last, 3).is_ok());
    }

    /// Three of four change one of them; all of the new ones certify what comes later.
    #[test]
    fn an_answer_rests_on_the_changes_of_validators_too() {
        let genesis = genesis();
        let key = |seed: u8| SigningKey::from_seed(&[seed; 32]);
        let before = genesis.validators();
        let after = before.as_slice().iter().enumerate().map(|(index, validator)| {
            let key = if index == 3 { key(9).public() } else { validator.key };
            Validator { key, ..*validator }
        });
        let after = ValidatorSet::new(after.collect()).expect("a set");
        let next_validators_hash = after.hash();
        let header = Header { height: 5, next_validators_hash, ..genesis.header() };
        let (kind, block_hash) = (VoteKind::Finalize, header.hash());
        let ballot = Ballot { kind, height: 5, view: 1, block_hash };
        let votes = [1, 2, 3].map(|seed| Vote::sign(ballot, &genesis.chain_id(), &key(seed)));
        let certificate = Certificate::from_votes(ballot, &votes, &before);
        let certificate = certificate.expect("a quorum");
        let mut verifier = Verifier::new(&genesis);
        let step = ValidatorStep { header, certificate, validators: after };
        verifier.follow(&step).expect("certified");
        let mut seen = Seen::new(verifier);
        seen.note(&Header { height: 9, ..genesis.header() }, 4).expect("no fork");
        let basis = seen.basis();
        assert_eq!((basis.finalized_by_least, basis.validator_changes), (Some(3), 1));
        assert!(basis.to_string().ends_with("(changes: 1)"), "{basis}");
    }

    #[test]
    fn certified_headers_that_cannot_be_of_one_chain_are_a_fork_whichever_comes_first() {
        let genesis = genesis();
        let at = |height: u64, log: u64| Header {
            height,
            time_ms: 1000 * height,
            log_start: log,
            log_size: log + 1,
            log_root: Hash([1; 32]),
            ..genesis.header()
        };
        let (first, later) = (at(5, 7), at(9, 20));
        let wrong = [
            (Header { time_ms: 1, ..later.clone() }, Contradiction::Time),
            (Header { log_start: 7, ..later.clone() }, Contradiction::LogStart),
            (Header { log_start: 0, log_size: 0, ..later.clone() }, Contradiction::LogStart),
            (
                Header { log_start: 8, log_size: 8, log_root: Hash([2; 32]), ..later.clone() },
                Contradiction::LogRoot,
            ),
            (Header { height: 6, ..later.clone() }, Contradiction::Parent),
        ];
        let noted = |headers: [&Header; 2]| {
            let mut seen = Seen::new(Verifier::new(&genesis));
            headers.map(|header| seen.note(header, 3))
        };
        assert_eq!(noted([&first, &later]), [Ok(()), Ok(())]);
        assert_eq!(noted([&later, &first]), [Ok(()), Ok(())]);
        for (other, contradiction) in wrong {
            let heights = [5, other.height];
            let blocks = [first.hash(), other.hash()];
            let fork = Fork { heights, blocks, contradiction };
            assert_eq!(noted([&first, &other]), [Ok(()), Err(fork.clone())], "{other:?}");
            assert_eq!(noted([&other, &first]), [Ok(()), Err(fork.clone())], "{other:?}");
            let said = fork.to_string();
            let both = [(5, first.hash()), (other.height, other.hash())];
            for (height, block) in both {
                assert!(said.contains(&format!("block {block} of height {height}")), "{said}");
            }
        }
    }

    #[test]
    fn a_fork_is_one_however_deep_in_an_error() {
        use anyhow::Context as _;
        let failed =
            |error| Err::<(), _>(error).context("the chain of a node").expect_err("an error");
        assert_eq!(Verdict::of_error(&failed(StepError::Fork(7))), Verdict::Fork);
        assert_eq!(Verdict::of_error(&failed(StepError::Validators(7))), Verdict::Invalid);
        let few = CertificateError::NoQuorum { signers: 1, quorum: 3 };
        let few = StepError::Finality(7, FinalityError::Certificate(few));
        assert_eq!(Verdict::of_error(&failed(few)), Verdict::NotEnoughEvidence);
        let absent = std::io::Error::from(std::io::ErrorKind::NotFound);
        let absent = Err::<(), _>(absent).context("a.chain").expect_err("an error");
        assert_eq!(Verdict::of_error(&absent), Verdict::NotEnoughEvidence);
    }

    #[test]
    fn an_answer_says_what_it_rests_on() {
        let genesis = genesis();
        let mut seen = Seen::new(Verifier::new(&genesis));
        assert!(seen.basis().to_string().starts_with("nothing"));
        let at = |height| Header { height, time_ms: height, ..genesis.header() };
        seen.note(&at(812), 4).expect("no fork");
        seen.note(&at(7), 3).expect("no fork");
        let text = seen.basis().to_string();
        let chain = genesis.chain_id().short();
        let expected = format!("3 of 4 validators, genesis {chain}…, head height 812, ");
        assert!(text.starts_with(&expected), "{text}");
        assert!(text.ends_with("fewer than 2 of their keys are in wrong hands"), "{text}");
    }

    #[test]
    fn the_worst_finding_decides() {
        use Verdict::{Fork, Invalid, NotEnoughEvidence, Verified};
        let order = [Verified, NotEnoughEvidence, Invalid, Fork];
        assert!(order.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
