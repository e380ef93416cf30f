//! The validator chain: what receipts and proofs of heights after a change of the validators are
//! verified with, beside the genesis.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use customhouse_audit::{
    validators::{FILE_NAME, certified_chain},
    verdict::Verdict,
};
use customhouse_files::newfile;
use customhouse_ledger::proofs::verifier::ValidatorStep;
use prost::Message as _;
use serde::Serialize;

use crate::{
    audit::{ValidatorChainArgs, verifier},
    connect::{ConnectArgs, Connection},
    output::{Output, lossy},
};

/// Writes a node's validator chain beside receipts; no file where there was no change.
pub(crate) async fn write_beside(dir: &Path, connection: &Connection) -> anyhow::Result<()> {
    let chain = connection.client.validator_chain().await?;
    if chain.steps.is_empty() {
        return Ok(());
    }
    let file = dir.join(FILE_NAME);
    newfile::replace(&file, &chain.encode_to_vec(), 0o644)
        .with_context(|| file.display().to_string())
}

/// `customhouse audit validator-chain`.
pub(super) async fn export(
    args: &ValidatorChainArgs,
    output: Output,
    connect: &ConnectArgs,
) -> anyhow::Result<Verdict> {
    let name = || args.out.display().to_string();
    newfile::is_free(&args.out).with_context(name)?;
    let mut verifier = verifier(&args.genesis)?;
    let connection = connect.connect().await?;
    let chain = certified_chain(&mut verifier, connection.node()).await?;
    newfile::output(&args.out, &chain.encode_to_vec()).with_context(name)?;
    let steps = chain.steps.iter().map(|step| Ok(Change::of(&ValidatorStep::from_proto(step)?)));
    let changes = steps.collect::<anyhow::Result<_>>()?;
    let validators = verifier.validators().count();
    output.print(&Exported { written: args.out.clone(), validators, changes })?;
    Ok(Verdict::Verified)
}

#[derive(Serialize)]
struct Exported {
    #[serde(serialize_with = "lossy")]
    written: PathBuf,
    /// After the last change.
    validators: usize,
    changes: Vec<Change>,
}

#[derive(Serialize)]
struct Change {
    /// First height that they decide.
    from_height: u64,
    validators: Vec<String>,
}

impl Change {
    fn of(step: &ValidatorStep) -> Self {
        let validators = step.validators.as_slice().iter();
        let validators = validators.map(|validator| validator.agency.to_string()).collect();
        Self { from_height: step.header.height + 1, validators }
    }
}

impl fmt::Display for Exported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for change in &self.changes {
            let validators = change.validators.join(" ");
            writeln!(f, "from height {}: {validators}", change.from_height)?;
        }
        let (changes, file) = (self.changes.len(), self.written.display());
        write!(f, "verified: {changes} changes, {} validators: {file}", self.validators)
    }
}
