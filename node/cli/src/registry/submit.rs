//! `customhouse registry submit`.

use std::{
    fmt,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, bail, ensure};
use customhouse_files::passphrase::PassphraseSource;
use customhouse_ledger::{agency::AgencyCode, hash::Hash, registry::RegistryApproval};
use customhouse_proto::v1::Phase;
use serde::Serialize;

use super::{
    ApprovalFile, Connection, Done, InSyncFile, Output, Present, ProposalFile, change, in_sync,
    joining_key, patience,
};

pub(super) const HELP: &str = "\
A change that adds a validator's key also needs that key's word that its holder follows the chain:
with --joining-key it is given here, by the newest block of the profile's node.

Exit codes: 0 the change is final; 1 it was refused, or has not become final in time. It may still
become final later: `registry show` tells.

Examples:
  customhouse --profile nl/ops registry submit join.proposal join-nl.approval join-be.approval
  customhouse --profile se/ops registry submit vote.proposal vote-*.approval \\
    --joining-key se/keys/validator.key";

#[derive(clap::Args)]
pub(crate) struct SubmitArgs {
    /// The proposal.
    #[arg(value_name = "PROPOSAL")]
    proposal: PathBuf,
    /// Approvals of a quorum of the validators.
    #[arg(required = true, value_name = "APPROVAL")]
    approvals: Vec<PathBuf>,
    /// The validator key that is added.
    #[arg(long, value_name = "FILE", conflicts_with = "in_sync")]
    joining_key: Option<PathBuf>,
    /// Where the passphrase of that key is, if it is under one: `prompt`, `file:PATH` or `credential:NAME`.
    #[arg(long, value_name = "WHERE", requires = "joining_key")]
    passphrase: Option<PassphraseSource>,
    /// What `registry in-sync` wrote with it.
    #[arg(long, value_name = "FILE")]
    in_sync: Option<PathBuf>,
    /// An agency whose node is away; a validator that is there may lose its vote in spite of that.
    #[arg(long, value_name = "CODE")]
    although_absent: Vec<AgencyCode>,
    /// How long to wait until it is final.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    patience: u64,
}

#[derive(Serialize)]
struct Changed {
    record_id: Hash,
    /// Height of the block that carries it; it counts from the next height on.
    height: u64,
}

impl fmt::Display for Changed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { record_id, height } = self;
        write!(f, "final at height {height}, in force from {} on\nrecord  {record_id}", height + 1)
    }
}

pub(super) async fn run(args: &SubmitArgs, output: Output, node: &Connection) -> Done {
    let proposal = ProposalFile::read(&args.proposal)?;
    let approvals = args.approvals.iter().map(|path| approval_of(&proposal, path));
    let approvals = approvals.collect::<anyhow::Result<Vec<_>>>()?;
    let present = Present::read(node).await?;
    // The node says whether it is still to be done: it may be on the chain already.
    present.check_chain(&proposal)?;
    let said = match (&args.joining_key, &args.in_sync) {
        (Some(path), _) => {
            let (key, agency) = joining_key(path, args.passphrase.as_ref())?;
            let added = proposal.proposal.validator_added().map(|validator| validator.key);
            ensure!(added == Some(key.public()), "the proposal does not add {}", key.public());
            Some(in_sync(node, &key, &agency).await?)
        }
        (None, Some(path)) => Some(InSyncFile::read(path)?),
        (None, None) => {
            ensure!(
                proposal.proposal.validator_added().is_none(),
                "a validator's key is added, which must show that its node follows the chain: give the \
                 new key with --joining-key, or with --in-sync what `registry in-sync` wrote"
            );
            None
        }
    };
    let change = change(&proposal, approvals, said)?;
    let record_id =
        node.client.submit_registry_change(change.to_proto(), &args.although_absent).await?;
    let limit = Some(patience(args.patience));
    let end = node.client.wait_receipt(record_id, limit).await?;
    match end.phase() {
        Phase::Final => {
            let place =
                node.client.record(record_id).await?.place.context("its place is missing")?;
            output.print(&Changed { record_id, height: place.height })?;
            Ok(ExitCode::SUCCESS)
        }
        Phase::Rejected | Phase::Expired => {
            bail!("it was not taken: {} ({})", end.reason, end.reason_code)
        }
        _ => {
            let now = Present::read(node).await?;
            if now.registry.members_root() != present.registry.members_root() {
                bail!("another change came first: propose it again");
            }
            bail!("not final after {} s: `registry show` tells when it is", args.patience)
        }
    }
}

fn approval_of(proposal: &ProposalFile, path: &Path) -> anyhow::Result<RegistryApproval> {
    let ApprovalFile { proposal: of, approval } = ApprovalFile::read(path)?;
    ensure!(
        of == proposal.proposal.hash(),
        "{}: it approves another proposal: leave it out",
        path.display()
    );
    Ok(approval)
}
