//! `customhouse attach`: what a record says of a file that belongs to it.

use std::{fmt, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use customhouse_client::attachment_of;
use customhouse_ledger::hash::Hash;
use customhouse_proto::v1;
use serde::Serialize;

use super::{command::Done, output::Output, record_json};

#[derive(clap::Args)]
pub(crate) struct AttachArgs {
    /// The file.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Its media type. Where absent, it follows from the end of the name.
    #[arg(long, value_name = "TYPE")]
    media_type: Option<String>,
}

pub(crate) const HELP: &str = "\
Nothing is sent: this says what a record's `attachments` has of the file. `submit record --attach` adds it to
a record, and uploads the file before it submits the record.

Examples:
  customhouse attach invoice.pdf
  customhouse --output json attach scan.bin --media-type image/tiff | jq .attachment";

/// A file's root, and its part of a record.
#[derive(Serialize)]
struct AttachmentView {
    root: Hash,
    size: u64,
    /// As in a record's JSON.
    attachment: serde_json::Value,
}

impl fmt::Display for AttachmentView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { root, size, attachment } = self;
        write!(f, "root  {root}\nsize  {size} bytes\n{attachment:#}")
    }
}

pub(crate) fn run(args: &AttachArgs, output: Output) -> Done {
    let name = || args.file.display().to_string();
    let attachment = attachment_of(&args.file, args.media_type.as_deref()).with_context(name)?;
    output.print(&AttachmentView {
        root: Hash::from_slice(&attachment.root)?,
        size: attachment.size,
        attachment: as_json(&attachment)?,
    })?;
    Ok(ExitCode::SUCCESS)
}

fn as_json(attachment: &v1::Attachment) -> anyhow::Result<serde_json::Value> {
    record_json::of_message("customhouse.v1.Attachment", attachment)
}
