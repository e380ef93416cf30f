//! `customhouse query attachment`: a file that belongs to a record, verified as it comes.

use std::{
    io::BufWriter,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use customhouse_files::newfile::{self, NewFile};
use customhouse_ledger::hash::Hash;
use customhouse_proto::v1;

use super::views::Written;
use crate::connect::Connection;

/// Most bytes that are held until all have come and have the root: no importer takes a larger source.
const HELD_BYTES_MAX: u64 = 64 << 20;

#[derive(clap::Args)]
pub(crate) struct AttachmentArgs {
    /// Its root, as the record has it: 64 hexadecimal digits.
    #[arg(value_name = "ROOT")]
    root: Hash,
    /// The file to write; must not exist.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

pub(super) const HELP: &str = "\
The file has its name only when all of it has come and has the root. A node that does not hold it says
ATTACHMENT_NOT_HERE: it may be fetching it still, or is configured not to.

Examples:
  customhouse --profile acme query attachment 5f0c… --out invoice.pdf";

pub(super) async fn fetch(
    args: AttachmentArgs,
    connection: &Connection,
) -> anyhow::Result<Written> {
    let AttachmentArgs { root, out } = args;
    let name = || out.display().to_string();
    newfile::is_free(&out).with_context(name)?;
    let size = download(&root, &out, connection).await?;
    let bytes = usize::try_from(size)?;
    Ok(Written { written: out, bytes })
}

/// The bytes of an attachment, once all of them have come and have the root.
pub(super) async fn held(
    attachment: &v1::Attachment,
    connection: &Connection,
) -> anyhow::Result<Vec<u8>> {
    let v1::Attachment { root, size, .. } = attachment;
    let root = Hash::from_slice(root)?;
    if *size > HELD_BYTES_MAX {
        bail!("the source has {size} bytes: query attachment {root} --out FILE");
    }
    let mut bytes = vec![0; usize::try_from(*size)?];
    // More bytes than that find no room.
    let came = connection.client.download_to(&root, Path::new("the source"), &mut *bytes).await?;
    bytes.truncate(usize::try_from(came)?);
    Ok(bytes)
}

async fn download(root: &Hash, out: &Path, connection: &Connection) -> anyhow::Result<u64> {
    let name = || out.display().to_string();
    let mut file = NewFile::begin(out, 0o644).with_context(name)?;
    let to = BufWriter::with_capacity(1 << 20, &mut file);
    let size = connection.client.download_to(root, out, to).await?;
    file.finish().with_context(name)?;
    Ok(size)
}
