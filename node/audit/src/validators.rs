//! The validator chain: what receipts and proofs of heights after a change of the validators are
//! verified with, beside the genesis.

use std::path::Path;

use anyhow::Context as _;
use customhouse_ledger::proofs::verifier::Verifier;
use customhouse_proto::v1;

use crate::{asked::AskedNode, files::read_form};

/// Its name beside receipts.
pub const FILE_NAME: &str = "validator.chain";

/// Lets a verifier follow the changes that a file has, and gives them as they are there.
pub fn follow_file(verifier: &mut Verifier, file: &Path) -> anyhow::Result<Vec<u8>> {
    let bytes = read_form::<v1::ValidatorChain>(file, "STEP_MALFORMED")?;
    verifier.follow_encoded(&bytes).with_context(|| file.display().to_string())?;
    Ok(bytes)
}

/// Lets a verifier follow the changes that a node has.
pub async fn follow_node(
    verifier: &mut Verifier,
    node: AskedNode<'_>,
) -> anyhow::Result<v1::ValidatorChain> {
    let chain = node.client.validator_chain().await?;
    let name = || format!("the validator chain of {}", node.name);
    verifier.follow_chain(&chain).with_context(name)?;
    Ok(chain)
}

/// Lets a verifier follow a node's changes, which must lead to a head that the validators after them
/// certify: a node that withholds the last change has no such head to show.
pub async fn certified_chain(
    verifier: &mut Verifier,
    node: AskedNode<'_>,
) -> anyhow::Result<v1::ValidatorChain> {
    let (header, certificate) = node.client.header(None).await?;
    let chain = follow_node(verifier, node).await?;
    let certificate = certificate.map(|certificate| certificate.encode()).unwrap_or_default();
    let name = node.name;
    verifier
        .verify_final(&header.encode(), &certificate)
        .with_context(|| format!("{name}: its head is not certified by these validators"))?;
    Ok(chain)
}
