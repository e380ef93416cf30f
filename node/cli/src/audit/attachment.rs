//! `customhouse audit attachment`: whether a file is the one that a record refers to.

use std::{fmt, path::PathBuf};

use anyhow::Context as _;
use customhouse_audit::verdict::Verdict;
use customhouse_client::attachment_of;
use customhouse_ledger::hash::Hash;
use serde::Serialize;

use crate::output::{Output, lossy};

#[derive(clap::Args)]
pub(crate) struct AttachmentArgs {
    /// The file.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The root that the record has: 64 hexadecimal digits.
    #[arg(value_name = "ROOT")]
    root: Hash,
}

pub(super) const HELP: &str = "\
No network is needed. What the root is of is for the record to say, and for its receipt to prove.

Exit codes: 0 the file has this root; 1 it has another; 2 it cannot be read; 64 wrong arguments.

Examples:
  customhouse audit attachment invoice.pdf 5f0c…";

#[derive(Serialize)]
struct AttachmentAudit {
    verdict: Verdict,
    #[serde(serialize_with = "lossy")]
    file: PathBuf,
    bytes: u64,
    root: Hash,
}

impl fmt::Display for AttachmentAudit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { verdict, file, bytes, root } = self;
        write!(f, "{verdict}: {} ({bytes} bytes) has the root {root}", file.display())
    }
}

pub(super) fn check(args: &AttachmentArgs, output: Output) -> anyhow::Result<Verdict> {
    let AttachmentArgs { file, root } = args;
    let attachment = attachment_of(file, None).with_context(|| file.display().to_string())?;
    let found = Hash::from_slice(&attachment.root)?;
    let verdict = if found == *root { Verdict::Verified } else { Verdict::Invalid };
    let (file, bytes) = (file.clone(), attachment.size);
    output.print(&AttachmentAudit { verdict, file, bytes, root: found })?;
    Ok(verdict)
}
