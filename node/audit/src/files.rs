//! Files of proofs and receipts.

use std::path::Path;

use anyhow::Context as _;
use customhouse_files::readfile;
use customhouse_ledger::proofs::json::{JsonForm, binary_of};

use crate::invalid_file::InvalidFile;

/// Reads a file in either form, and gives the binary. One that is larger than any of its kind has the
/// code `too_large`.
pub fn read_form<M: JsonForm>(file: &Path, too_large: &'static str) -> anyhow::Result<Vec<u8>> {
    let name = || file.display().to_string();
    let bytes = readfile::bytes(file, M::JSON_BYTES_MAX)
        .map_err(|error| InvalidFile::or_unread(error, too_large))
        .with_context(name)?;
    Ok(binary_of::<M>(&bytes).with_context(name)?.into_owned())
}
