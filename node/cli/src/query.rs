//! `customhouse query`: what is on the ledger, as one node sees it.

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, bail};
use clap::Subcommand;
use customhouse_files::newfile;
use customhouse_ledger::hash::Hash;
use customhouse_proto::v1::{self, get_history_request::SubjectOrKey};
use prost::Message as _;

use super::{command::Done, connect::Connection, output::Output, subject::parse_subject};

mod attachment;
mod delivery;
mod listing;
mod record;
mod views;

use record::{End, RecordView};
pub(crate) use views::StatusView;
use views::{HeaderView, PeerView, Peers, TransactionView, Written};

#[derive(Subcommand)]
pub(crate) enum QueryCommand {
    /// A record by its id.
    #[command(after_help = RECORD_HELP)]
    Record(RecordArgs),
    /// A transaction by its id.
    #[command(after_help = "Examples:\n  customhouse --profile acme query transaction 5f0c…")]
    Transaction {
        /// 64 hexadecimal digits.
        #[arg(value_name = "ID")]
        id: Hash,
    },
    /// Which parties hold a sealed record of this agency.
    #[command(after_help = delivery::HELP)]
    Delivery(delivery::DeliveryArgs),
    /// All records about a subject, oldest first.
    #[command(after_help = HISTORY_HELP)]
    History(HistoryArgs),
    /// Records by what they are, who lodged them and when, in the order of the ledger.
    #[command(after_help = listing::LIST_HELP)]
    List(listing::ListArgs),
    /// The records of the ledger in their order, and each as it is committed.
    #[command(after_help = listing::FOLLOW_HELP)]
    Follow(listing::FollowArgs),
    /// A record's receipt, to be verified with `audit verify`.
    #[command(after_help = "Examples:\n  \
        customhouse --profile acme query receipt 5f0c… --out 5f0c.receipt")]
    Receipt {
        /// Record id: 64 hexadecimal digits.
        #[arg(value_name = "ID")]
        id: Hash,
        /// The file to write; must not exist.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Leave the record's content out.
        #[arg(long)]
        without_record: bool,
        /// Leave the changes of the validators out, with which the genesis alone verifies it.
        #[arg(long)]
        without_steps: bool,
    },
    /// A file that belongs to a record, by its root.
    #[command(after_help = attachment::HELP)]
    Attachment(attachment::AttachmentArgs),
    /// A block's header, the newest where no height is given.
    #[command(after_help = "Examples:\n  customhouse --profile acme query header 812")]
    Header {
        /// The height.
        #[arg(value_name = "HEIGHT")]
        height: Option<u64>,
    },
    /// How the node stands. For operators.
    #[command(after_help = "Examples:\n  \
        customhouse --profile net/NL-DOUANE/clients/operator query status")]
    Status,
    /// The node's peers. For operators.
    #[command(after_help = "Examples:\n  \
        customhouse --profile net/NL-DOUANE/clients/operator query peers")]
    Peers,
}

#[derive(clap::Args)]
pub(crate) struct RecordArgs {
    /// 64 hexadecimal digits.
    #[arg(value_name = "ID")]
    id: Hash,
    /// Print the source message instead, byte for byte.
    #[arg(long)]
    source: bool,
}

#[derive(clap::Args)]
pub(crate) struct HistoryArgs {
    /// SCHEME:ID, such as mrn:24NL… or declaration-reference:NL-DOUANE/LRN1.
    #[arg(value_name = "SUBJECT", required_unless_present = "key", value_parser = parse_subject)]
    subject: Option<v1::Subject>,
    /// The subject's key instead: 64 hexadecimal digits.
    #[arg(long, value_name = "HEX", conflicts_with = "subject")]
    key: Option<Hash>,
    /// At most this many records, the oldest.
    #[arg(long, value_name = "RECORDS", default_value_t = 1000)]
    limit: usize,
    /// All records, however many there are.
    #[arg(long, conflicts_with = "limit")]
    all: bool,
}

/// There are more records than were printed.
const INCOMPLETE: u8 = 2;

const RECORD_HELP: &str = "\
Examples:
  customhouse --profile net/NL-DOUANE/clients/officer query record 5f0c…
  customhouse --profile acme query record 5f0c… --source > declaration.xml
  customhouse --profile acme --output json query record 5f0c… | jq .record.declaration";

const HISTORY_HELP: &str = "\
Schemes: ucr, mrn, declaration-reference (AGENCY/REFERENCE), container, transport-document,
certificate, trader, epc, case, validator-key (64 digits), agency (changes of its keys, by its code).
An id is asked for in the normal form that records have it in (docs/FORMATS.md): letters in upper case,
without spaces and what is not seen; of a container number, without hyphens.

Records that are linked with these come last, each with the record that it is linked through: the declaration
that a status with this MRN answers to, and what amends or cancels it. They are what the node tells; `audit
history` proves the records that are about the subject by themselves.

Exit codes: 0 these are all; 2 there are more records than were printed, which is said: --all prints all;
1 no answer.

Examples:
  customhouse --profile acme query history mrn:18GBJ4XG51QGC33AR9 --all
  customhouse --profile acme query history container:CSQU3054383 --limit 10";

pub(crate) async fn run(command: QueryCommand, output: Output, connection: Connection) -> Done {
    let client = &connection.client;
    match command {
        QueryCommand::Record(args) => record(&args, output, &connection).await?,
        QueryCommand::Delivery(args) => return delivery::show(&args, output, &connection).await,
        QueryCommand::Transaction { id } => {
            output.print(&TransactionView::of(&client.transaction(id).await?)?)?;
        }
        QueryCommand::List(args) => return listing::list(args, output, &connection).await,
        QueryCommand::Follow(args) => return listing::follow(args, output, &connection).await,
        QueryCommand::History(args) => return history(args, output, &connection).await,
        QueryCommand::Receipt { id, out, without_record, without_steps } => {
            let name = || out.display().to_string();
            newfile::is_free(&out).with_context(name)?;
            let receipt = match without_steps {
                true => client.receipt(id, without_record).await?,
                false => client.whole_receipt(id, without_record).await?,
            };
            let receipt = receipt.encode_to_vec();
            newfile::output(&out, &receipt).with_context(name)?;
            output.print(&Written { written: out, bytes: receipt.len() })?;
        }
        QueryCommand::Attachment(args) => {
            output.print(&attachment::fetch(args, &connection).await?)?;
        }
        QueryCommand::Header { height } => {
            let (header, certificate) = client.header(height).await?;
            let signers = certificate.map(|certificate| certificate.signers().count());
            output.print(&HeaderView::of(&header, signers))?;
        }
        QueryCommand::Status => output.print(&StatusView::of(client.status().await?)?)?,
        QueryCommand::Peers => {
            let peers = client.peers().await?.into_iter().map(PeerView::of).collect();
            output.print(&Peers(peers))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn record(args: &RecordArgs, output: Output, connection: &Connection) -> anyhow::Result<()> {
    let answer = connection.client.record(args.id).await?;
    if !args.source {
        return Ok(output.print(&RecordView::of(
            &answer.record_id,
            &answer.record,
            answer.place,
        )?)?);
    }
    let sealed = answer.place.as_ref().and_then(|place| place.sealed.as_ref());
    if answer.record.is_empty() && sealed.is_some() {
        bail!(
            "record {} is sealed, and its bytes are not to be had here: `query record` says why",
            args.id
        );
    }
    match v1::Record::decode(&*answer.record)?.source {
        Some(v1::Source { attachment: Some(attachment), .. }) => {
            Ok(output.bytes(&attachment::held(&attachment, connection).await?)?)
        }
        Some(source) => Ok(output.bytes(&source.content)?),
        None => bail!("record {} was not made from a message: it has no source", args.id),
    }
}

async fn history(args: HistoryArgs, output: Output, connection: &Connection) -> Done {
    let subject = match (args.subject, args.key) {
        (Some(subject), _) => SubjectOrKey::Subject(subject),
        (None, Some(key)) => SubjectOrKey::SubjectKey(key.0.to_vec()),
        (None, None) => bail!("a subject or its key is needed"),
    };
    let limit = if args.all { usize::MAX } else { args.limit };
    let (mut records, mut end) = (Vec::new(), End::default());
    let (mut token, mut linked) = (Vec::new(), BTreeMap::new());
    'pages: loop {
        let page = connection.client.linked_history_page(subject.clone(), 0, token).await?;
        end.links_cut |= page.links_cut;
        for item in page.items {
            if end.records == limit {
                end.more = true;
                break 'pages;
            }
            linked.remove(&item.record_id);
            let view = RecordView::of(&item.record_id, &item.record, item.place)?;
            end.records += 1;
            // People read while it goes on; only scripts get one document, and it is held for them.
            if output.is_json() {
                records.push(view);
            } else {
                output.text(&format_args!("{view}\n"))?;
            }
        }
        for link in page.linked {
            let id = link.item.as_ref().map(|item| item.record_id.clone()).unwrap_or_default();
            linked.insert(id, link);
        }
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    for link in linked.into_values() {
        let view = RecordView::linked(&link)?;
        end.linked += 1;
        if output.is_json() {
            records.push(view);
        } else {
            output.text(&format_args!("{view}\n"))?;
        }
    }
    output.json(&records)?;
    output.text(&end)?;
    if end.more {
        if output.is_json() {
            note!("there are more records than these {}: --all prints all", end.records);
        }
        return Ok(ExitCode::from(INCOMPLETE));
    }
    Ok(ExitCode::SUCCESS)
}
