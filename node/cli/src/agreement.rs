//! `customhouse agreement`: among which agencies sealed records are shared.

use std::{
    io::{self, BufRead as _, IsTerminal as _},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use clap::Subcommand;
use customhouse_ledger::hash::Hash;
use customhouse_node::agreements::offer_file;
use customhouse_proto::v1::{self, Phase};

use super::{command::Done, connect::Connection, failure::WrongUsage, output::Output};

mod grant;
mod propose;
mod view;

use view::{Agreed, AgreementView, OfferView, Written};

#[derive(Subcommand)]
#[command(after_help = HELP)]
pub(crate) enum AgreementCommand {
    /// Propose an agreement, or the next epoch of one: writes an offer for the other parties.
    #[command(after_help = propose::HELP)]
    Propose(Box<propose::ProposeArgs>),
    /// Show what an offer would let whom read, and approve it for this agency.
    #[command(
        after_help = "What is shown is what is approved: the node has opened it with its vault, and has held the \
        secret and the terms against the epoch that the signature covers.\n\nExit codes: 0 approved, 1 it was refused, \
        2 nobody said yes.\n\nExamples:\n  \
        customhouse --profile be/ops agreement approve nl-be.offer --out nl-be.approved\n  \
        customhouse --profile be/ops agreement approve nl-be.offer --out nl-be.approved --yes"
    )]
    Approve(ApproveArgs),
    /// Show agreements, one of them with its epochs, or what an offer would let whom read.
    #[command(
        after_help = "Exit codes: 0 shown, 1 there is none, or it was refused.\n\nExamples:\n  \
        customhouse --profile ops agreement show\n  \
        customhouse --profile ops agreement show --all --ended\n  \
        customhouse --profile ops agreement show 5f0c…\n  \
        customhouse --profile ops agreement show nl-be.offer\n  \
        customhouse --profile ops --output json agreement show | jq '.[] | select(.has_secret | not)'"
    )]
    Show(ShowArgs),
    /// Put an offer that all parties have approved on the chain, and wait until it is final.
    #[command(
        after_help = "Where parties have approved apart, give all of their files: their approvals are put \
        together.\n\nExit codes: 0 it is on the chain, 1 it was refused, or has not become final in time.\n\n\
        Examples:\n  customhouse --profile nl/ops agreement lodge nl-be.approved\n  \
        customhouse --profile nl/ops agreement lodge be.approved de.approved"
    )]
    Lodge(LodgeArgs),
    /// Leave an agreement: an hour later it ends for all of its parties.
    #[command(
        after_help = "What was lodged under it stays what it is, and whoever was entitled to it stays entitled.\n\n\
        Exit codes: 0 this agency has left, 1 it was refused, or has not become final in time, 2 nobody said yes.\n\n\
        Examples:\n  customhouse --profile nl/ops agreement leave 5f0c…"
    )]
    Leave(LeaveArgs),
    /// Share a sealed record of this agency with the parties of another agreement too.
    #[command(after_help = grant::HELP)]
    Grant(grant::GrantArgs),
}

#[derive(clap::Args)]
pub(crate) struct ApproveArgs {
    /// The offer.
    #[arg(value_name = "OFFER")]
    offer: PathBuf,
    /// The file to write: the offer with this agency's approval.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Approve without being asked.
    #[arg(long)]
    yes: bool,
}

#[derive(clap::Args)]
pub(crate) struct ShowArgs {
    /// An agreement's id, or the file of an offer. Without it, all agreements of this agency.
    #[arg(value_name = "ID|OFFER")]
    what: Option<String>,
    /// Those too that this agency is no party of.
    #[arg(long, conflicts_with = "what")]
    all: bool,
    /// Those that are over, too.
    #[arg(long, conflicts_with = "what")]
    ended: bool,
    /// Epochs below this number.
    #[arg(
        long,
        value_name = "NUMBER",
        requires = "what",
        default_value_t = 0,
        hide_default_value = true
    )]
    below: u32,
}

#[derive(clap::Args)]
pub(crate) struct LodgeArgs {
    /// The offer, in one file or several with approvals of it.
    #[arg(required = true, value_name = "OFFER")]
    offers: Vec<PathBuf>,
    /// How long to wait until it is final.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    patience: u64,
}

#[derive(clap::Args)]
pub(crate) struct LeaveArgs {
    /// The agreement's id: 64 hexadecimal digits.
    #[arg(value_name = "ID")]
    agreement: Hash,
    /// Leave without being asked.
    #[arg(long)]
    yes: bool,
    /// How long to wait until it is final.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    patience: u64,
}

const HELP: &str = "\
An agreement is proposed by one agency, approved by all of its parties, and lodged by any of them. The file in which
it travels has no clear secret and no clear terms: it may be mailed. Only operators of an agency's own node may call
this, and the node needs a [vault].

Two agencies agree that they see each other's declarations and inspections for a year:
  1. NL-DOUANE proposes, and mails nl-be.offer:
       customhouse --profile nl/ops agreement propose --with BE-AADA --kind declaration,inspection \\
         --purpose 'control of transit' --legal-basis 'Regulation (EU) No 952/2013, article 47' \\
         --retention-months 36 --out nl-be.offer
  2. BE-AADA reads in plain words what it would let whom read, approves, and mails nl-be.approved back:
       customhouse --profile be/ops agreement show nl-be.offer
       customhouse --profile be/ops agreement approve nl-be.offer --out nl-be.approved
  3. NL-DOUANE lodges it:
       customhouse --profile nl/ops agreement lodge nl-be.approved
       customhouse --profile nl/ops agreement show
  4. A month before its end one of them proposes the next epoch, on the same terms or others:
       customhouse --profile nl/ops agreement propose --renew 5f0c… --out nl-be-2.offer
  5. Either leaves alone, which ends it for both within an hour:
       customhouse --profile be/ops agreement leave 5f0c…

A record that was lodged for another agreement, or for the own agency alone, is shared later by `agreement grant`.";

pub(crate) async fn run(command: AgreementCommand, output: Output, node: Connection) -> Done {
    match command {
        AgreementCommand::Propose(args) => propose::run(&args, output, &node).await?,
        AgreementCommand::Approve(args) => approve(&args, output, &node).await?,
        AgreementCommand::Show(args) => show(&args, output, &node).await?,
        AgreementCommand::Lodge(args) => lodge(&args, output, &node).await?,
        AgreementCommand::Leave(args) => leave(&args, output, &node).await?,
        AgreementCommand::Grant(args) => grant::run(&args, output, &node).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn approve(args: &ApproveArgs, output: Output, node: &Connection) -> anyhow::Result<()> {
    let offer = offer_file::read(&args.offer)?;
    let opened = node.client.open_offer(offer.clone()).await?;
    let view = OfferView::of(&offer, opened)?;
    for sentence in view.sentences() {
        note!("{sentence}");
    }
    let agency = node.agency()?;
    agree(args.yes, &format!("Approve this for {agency}?"))?;
    let approved = node.client.approve_offer(offer).await?;
    offer_file::write(&args.out, &approved)?;
    output.print(&Written::of(&args.out, &approved, view))?;
    Ok(())
}

async fn show(args: &ShowArgs, output: Output, node: &Connection) -> anyhow::Result<()> {
    let Some(what) = &args.what else {
        let listed = node.client.agreements_listed(args.all, args.ended).await?;
        output.print(&view::Listed::of(&listed)?)?;
        return Ok(());
    };
    if let Ok(id) = what.parse::<Hash>() {
        let (epochs, more) = node.client.agreement(&id, args.below).await?;
        output.print(&AgreementView::of(id, epochs, more)?)?;
        return Ok(());
    }
    let offer = offer_file::read(what.as_ref())?;
    let opened = node.client.open_offer(offer.clone()).await?;
    output.print(&OfferView::of(&offer, opened)?)?;
    Ok(())
}

async fn lodge(args: &LodgeArgs, output: Output, node: &Connection) -> anyhow::Result<()> {
    let mut offers = args.offers.iter().map(|path| Ok((path, offer_file::read(path)?)));
    let first: anyhow::Result<(&PathBuf, v1::AgreementOffer)> =
        offers.next().context("an offer is needed")?;
    let (first, mut offer) = first?;
    for other in offers {
        let (path, other) = other?;
        ensure!(
            (&other.chain_id, &other.epoch) == (&offer.chain_id, &offer.epoch),
            "{} is another offer than {}: leave it out",
            path.display(),
            first.display()
        );
        for approval in other.approvals {
            if offer.approvals.iter().all(|there| there.party != approval.party) {
                offer.approvals.push(approval);
            }
        }
    }
    let lodged = node.client.lodge_offer(offer).await?;
    let agreement = Hash::from_slice(&lodged.agreement).context("agreement")?;
    if lodged.agreed {
        output.print(&Agreed { agreement, record_id: None, height: None })?;
        return Ok(());
    }
    let record_id = Hash::from_slice(&lodged.record_id).context("record_id")?;
    let height = wait(node, record_id, args.patience).await?;
    output.print(&Agreed { agreement, record_id: Some(record_id), height: Some(height) })?;
    Ok(())
}

async fn leave(args: &LeaveArgs, output: Output, node: &Connection) -> anyhow::Result<()> {
    let agency = node.agency()?;
    note!(
        "It ends an hour later for all of its parties. What was lodged under it stays theirs to read."
    );
    agree(args.yes, &format!("Shall {agency} leave {}?", args.agreement))?;
    let record_id = node.client.leave_agreement(&args.agreement).await?;
    let height = wait(node, record_id, args.patience).await?;
    let (record_id, height) = (Some(record_id), Some(height));
    output.print(&Agreed { agreement: args.agreement, record_id, height })?;
    Ok(())
}

/// Waits until a change is final, and gives its height.
async fn wait(node: &Connection, record_id: Hash, patience: u64) -> anyhow::Result<u64> {
    let limit = Some(Duration::from_secs(patience));
    let end = node.client.wait_receipt(record_id, limit).await?;
    match end.phase() {
        Phase::Final => {
            let record = node.client.record(record_id).await?;
            Ok(record.place.context("its place is missing")?.height)
        }
        Phase::Rejected | Phase::Expired => {
            bail!("it was not taken: {} ({})", end.reason, end.reason_code)
        }
        _ => bail!("not final after {patience} s: `agreement show` tells when it is"),
    }
}

/// Goes on where somebody says yes.
fn agree(yes: bool, question: &str) -> anyhow::Result<()> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        let reason = "nobody is at a terminal to say yes: read what it says, and give --yes";
        bail!(WrongUsage(reason.to_owned()));
    }
    note!("{question} Type yes:");
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    match answer.trim() {
        "yes" => Ok(()),
        _ => bail!(WrongUsage("nobody said yes: nothing was signed".to_owned())),
    }
}
