//! `customhouse registry`: who is in the network, and how that is changed.

use std::{collections::BTreeSet, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context as _, ensure};
use clap::Subcommand;
use customhouse_client::RegistryAt;
use customhouse_files::{
    keyfile::{KeyFile, KeyPurpose},
    passphrase::PassphraseSource,
};
use customhouse_ledger::{
    agency::AgencyCode,
    finality::validators::ValidatorSet,
    hash::Hash,
    keys::PublicKey,
    registry::{InSync, Registry, RegistryApproval, RegistryChange},
};

use super::{command::Done, connect::Connection, output::Output};

mod files;
mod propose;
mod submit;
mod values;
mod view;

use files::{ApprovalFile, InSyncFile, ProposalFile};
use propose::ProposeArgs;
use view::{Proposed, RegistryView};

#[derive(Subcommand)]
#[command(after_help = HELP)]
pub(crate) enum RegistryCommand {
    /// Show the registry: who votes, the parameters, and the keys of each agency.
    #[command(after_help = "Examples:\n  \
        customhouse --profile net/NL-DOUANE/clients/operator registry show\n  \
        customhouse --profile ops --output json registry show --all | jq '.entries[]'")]
    Show {
        /// Entries that have ended, too.
        #[arg(long)]
        all: bool,
    },
    /// Write down a change, for the agencies to approve.
    #[command(after_help = propose::HELP)]
    Propose(Box<ProposeArgs>),
    /// Show a proposed change and approve it with this agency's validator key.
    #[command(
        after_help = "What is shown is what is approved: it is read from the bytes that the \
        signature covers, and held against the registry of the agency's own node.\n\nExamples:\n  \
        customhouse --profile ops registry approve join.proposal \\\n    \
        --validator-key nl/keys/validator.key --out join-nl.approval\n  \
        customhouse --profile ops registry approve join.proposal        # show it only"
    )]
    Approve(ApproveArgs),
    /// Say with a new validator key that its holder follows the chain: where somebody else submits.
    #[command(after_help = "Examples:\n  \
        customhouse --profile se/ops registry in-sync \\\n    \
        --joining-key se/keys/validator.key --out se.in-sync")]
    InSync(InSyncArgs),
    /// Put an approved change on the chain, and wait until it is final.
    #[command(after_help = submit::HELP)]
    Submit(submit::SubmitArgs),
}

#[derive(clap::Args)]
pub(crate) struct ApproveArgs {
    /// The proposal.
    #[arg(value_name = "PROPOSAL")]
    proposal: PathBuf,
    /// The agency's validator key. Without it the proposal is shown and not approved.
    #[arg(long, value_name = "FILE", requires = "out")]
    validator_key: Option<PathBuf>,
    /// The file to write.
    #[arg(long, value_name = "FILE", requires = "validator_key")]
    out: Option<PathBuf>,
    /// Where the passphrase of the key is, if it is under one: `prompt`, `file:PATH` or `credential:NAME`.
    #[arg(long, value_name = "WHERE", requires = "validator_key")]
    passphrase: Option<PassphraseSource>,
}

#[derive(clap::Args)]
pub(crate) struct InSyncArgs {
    /// The new validator key.
    #[arg(long, value_name = "FILE")]
    joining_key: PathBuf,
    /// The file to write.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Where the passphrase of the key is, if it is under one: `prompt`, `file:PATH` or `credential:NAME`.
    #[arg(long, value_name = "WHERE")]
    passphrase: Option<PassphraseSource>,
}

const HELP: &str = "\
A change is proposed by anyone, approved by a quorum of the validators (`show` says how many), and
submitted by an operator to the operator's own node. It counts from the height after its block. A
proposal is bound to the registry that it changes: when another change comes first, it is proposed
again. At most one agency gains, loses or exchanges its vote in one change.

A new agency joins in two changes, so that it follows before it votes:
  1. It makes its keys (`keys new`) and sends agency.json to a member, who proposes it:
       registry propose --join se/agency.json --out join.proposal
     Members approve; one of them submits. The new agency's node can connect now: started with the
     network's genesis, its config names the others' addresses, and it follows without a vote.
  2. A member proposes its vote; members approve; the new agency submits through its own node, which
     shows that it is in sync:
       registry propose --vote se/agency.json --out vote.proposal
       registry approve vote.proposal --validator-key nl/keys/validator.key --out vote-nl.approval
       registry submit vote.proposal vote-*.approval --joining-key se/keys/validator.key
     Its node votes from the next height on, without a restart.

An agency exchanges its validator key:
  1. It makes the next key (`keys new --agency NL-DOUANE --purpose validator --dir nl/keys-2`), names it in
     the node's configuration ([keys] next_validator) and restarts the node.
  2. registry propose --rotate NL-DOUANE=NEW_PUBLIC_KEY; members approve; the agency submits with
     --joining-key nl/keys-2/validator.key. The node changes over at the next height by itself.
  3. Later the configuration names the new key as the validator, without next_validator; the old one is
     destroyed.

Its other keys it exchanges in two changes, so that there is always one that counts:
  1. registry propose --add NL-DOUANE:node=NEW_PUBLIC_KEY (or `peer`, `submitter`); when it is in force the
     configuration names the new key, and the node is restarted.
  2. registry propose --end OLD_PUBLIC_KEY. A node whose signing key has ended takes no submissions.

The parameters of the network (`show` has them, and since which height each counts) change in the same way:
  registry propose --set heartbeat_ms=60000            from the height after the change's block on
  registry propose --set open_kinds=declaration,event  what else is lodged is sealed
  registry propose --reset heartbeat_ms                its default again

An agency leaves:
  registry propose --end-vote FR-DGDDI     it follows on without a vote
  registry propose --leave FR-DGDDI        all its keys end; its node is let go after 1,024
                                           heights, and is sent the new blocks until then

Of two or three validators none may fail: whoever joins such a network must stay up.";

pub(crate) async fn run(command: RegistryCommand, output: Output, node: Connection) -> Done {
    match command {
        RegistryCommand::Show { all } => {
            let present = Present::read(&node).await?;
            output.print(&RegistryView::of(&present, all))?;
        }
        RegistryCommand::Propose(args) => propose::run(&args, output, &node).await?,
        RegistryCommand::Approve(args) => approve(&args, output, &node).await?,
        RegistryCommand::InSync(args) => {
            let (key, agency) = joining_key(&args.joining_key, args.passphrase.as_ref())?;
            let in_sync = in_sync(&node, &key, &agency).await?;
            InSyncFile::of(&in_sync).write(&args.out)?;
            note!("Written to {}.", args.out.display());
        }
        RegistryCommand::Submit(args) => return submit::run(&args, output, &node).await,
    }
    Ok(ExitCode::SUCCESS)
}

/// The registry as one's node has it.
struct Present {
    chain_id: Hash,
    height: u64,
    registry: Registry,
    registry_root: Hash,
    validators: ValidatorSet,
}

impl Present {
    async fn read(node: &Connection) -> anyhow::Result<Self> {
        let genesis = match &node.profile.genesis {
            Some(path) => super::genesis::read(path)?,
            None => node.client.genesis().await?,
        };
        let RegistryAt { height, registry, root } = node.client.registry().await?;
        let validators = registry.validators_at(height + 1).context("registry")?;
        let (chain_id, registry_root) = (genesis.chain_id(), root);
        Ok(Self { chain_id, height, registry, registry_root, validators })
    }

    /// Agencies with a vote whose nodes one's own is not connected to. None where one may not ask: the node
    /// asks again when the change is submitted, which only an operator may do.
    async fn absent(&self, node: &Connection) -> anyhow::Result<BTreeSet<AgencyCode>> {
        let peers = match node.client.peers().await {
            Ok(peers) => peers,
            Err(error) if error.refused().is_some() => {
                note!("Who is away was not told, because only operators may ask: {error}");
                return Ok(BTreeSet::new());
            }
            Err(error) => return Err(error.into()),
        };
        let own = node.agency()?;
        let is_there = |agency: AgencyCode| {
            peers.iter().any(|peer| peer.connected && peer.agency == agency.as_str())
        };
        let validators = self.validators.as_slice().iter().map(|validator| validator.agency);
        Ok(validators.filter(|agency| *agency != own && !is_there(*agency)).collect())
    }

    fn check_chain(&self, file: &ProposalFile) -> anyhow::Result<()> {
        ensure!(
            file.chain_id == self.chain_id,
            "the proposal is for chain {}, this is {}",
            file.chain_id,
            self.chain_id
        );
        Ok(())
    }

    /// The registry with a proposal of this chain applied.
    fn after(&self, file: &ProposalFile) -> anyhow::Result<Registry> {
        self.check_chain(file)?;
        Ok(self.registry.apply(&file.proposal, self.height + 1)?)
    }
}

async fn approve(args: &ApproveArgs, output: Output, node: &Connection) -> anyhow::Result<()> {
    let file = ProposalFile::read(&args.proposal)?;
    let present = Present::read(node).await?;
    let after = present.after(&file)?;
    output.print(&Proposed::of(&file.proposal, &present, &after))?;
    let (Some(key), Some(out)) = (&args.validator_key, &args.out) else { return Ok(()) };
    let agency = node.agency()?;
    let read = KeyFile::read_asking(key, args.passphrase.as_ref())?;
    let key = read.of(key, KeyPurpose::Validator, agency)?.key;
    ensure!(
        present.validators.index_of(&key.public()).is_some(),
        "{} has no vote now: its approval would not count",
        key.public()
    );
    let approval = file.proposal.approve(&present.chain_id, &key);
    ApprovalFile::of(&file.proposal, &approval).write(out)?;
    note!("Approved for {agency}: {}.", out.display());
    Ok(())
}

/// A validator key that is to be given a vote, and whose it is.
fn joining_key(
    path: &std::path::Path,
    passphrase: Option<&PassphraseSource>,
) -> anyhow::Result<(customhouse_ledger::keys::SigningKey, AgencyCode)> {
    let file = KeyFile::read_asking(path, passphrase)?;
    ensure!(
        file.purpose == KeyPurpose::Validator,
        "{} holds a {} key, a validator key is needed",
        path.display(),
        file.purpose
    );
    Ok((file.key, file.agency))
}

/// The statement that whoever holds the key has the node's newest block.
async fn in_sync(
    node: &Connection,
    key: &customhouse_ledger::keys::SigningKey,
    agency: &AgencyCode,
) -> anyhow::Result<InSync> {
    let genesis = node.client.genesis().await?;
    let (header, _) = node.client.header(None).await?;
    Ok(InSync::sign(&genesis.chain_id(), agency, header.height, header.hash(), key))
}

/// A key on a command line.
fn parse_key(text: &str) -> Result<PublicKey, String> {
    let bytes =
        hex::decode(text).map_err(|_| format!("`{text}`: 64 hexadecimal digits expected"))?;
    PublicKey::from_slice(&bytes).map_err(|error| format!("`{text}`: {error}"))
}

/// What a change is made of.
fn change(
    proposal: &ProposalFile,
    approvals: Vec<RegistryApproval>,
    in_sync: Option<InSync>,
) -> anyhow::Result<RegistryChange> {
    let mut gathered = Vec::new();
    for approval in approvals {
        // One file may well be there twice.
        if !gathered.contains(&approval) {
            gathered.push(approval);
        }
    }
    let change = RegistryChange::new(proposal.proposal.clone(), gathered, in_sync)?;
    change.verify(&proposal.chain_id)?;
    Ok(change)
}

/// How long a command waits, from its seconds.
fn patience(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
