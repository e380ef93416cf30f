//! Where an auditor's material comes from: a node, which is not trusted, or files without any network.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use customhouse_audit::{files::read_form, validators};
use customhouse_ledger::{hash::Hash, proofs::verifier::Verifier};
use customhouse_proto::v1::{self, get_history_request::SubjectOrKey};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use prost::Message as _;

use crate::{
    audit::receipts,
    connect::{ConnectArgs, Connection},
    progress,
};

/// A history proof's name beside its receipts.
pub(super) const PROOF_FILE: &str = "history.proof";

/// Records that a node may list beside those of its proof: what was committed since.
const LATER_MAX: usize = 1024;

/// Receipts fetched at a time.
const AT_A_TIME: usize = 16;

/// A node, or a directory that `audit export history` wrote.
pub(super) enum Source {
    Node(Box<Connection>),
    Files(PathBuf),
}

impl Source {
    /// The directory, where one is named; else the profile's node.
    pub(super) async fn open(files: Option<&Path>, connect: &ConnectArgs) -> anyhow::Result<Self> {
        match files {
            Some(directory) => Ok(Self::Files(directory.to_owned())),
            None => Ok(Self::Node(Box::new(connect.connect().await?))),
        }
    }

    /// Lets a verifier follow the changes of the validators, and gives them, encoded.
    pub(super) async fn follow(&self, verifier: &mut Verifier) -> anyhow::Result<Vec<u8>> {
        match self {
            Self::Node(connection) => {
                Ok(validators::follow_node(verifier, connection.node()).await?.encode_to_vec())
            }
            Self::Files(directory) => {
                let file = directory.join(validators::FILE_NAME);
                if file.is_file() { validators::follow_file(verifier, &file) } else { Ok(vec![]) }
            }
        }
    }

    /// The proof of a subject's history, encoded.
    pub(super) async fn history_proof(&self, subject_key: Hash) -> anyhow::Result<Vec<u8>> {
        match self {
            Self::Node(connection) => {
                Ok(connection.client.history_proof(subject_key).await?.encode_to_vec())
            }
            Self::Files(directory) => {
                let file = directory.join(PROOF_FILE);
                read_form::<v1::HistoryProof>(&file, "HISTORY_PROOF_TOO_LARGE")
            }
        }
    }

    /// Hands over the receipts of a subject's records, of which `proven` are proven, each encoded, in
    /// no order. With files, there may be others among them.
    pub(super) async fn receipts(
        &self,
        subject: &v1::Subject,
        proven: usize,
        each: impl FnMut(Vec<u8>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        match self {
            Self::Node(connection) => of_node(connection, subject, proven, each).await,
            Self::Files(directory) => of_files(directory, each),
        }
    }
}

/// The receipts of all records that the node lists about the subject.
async fn of_node(
    connection: &Connection,
    subject: &v1::Subject,
    proven: usize,
    mut each: impl FnMut(Vec<u8>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut room = proven.saturating_add(LATER_MAX);
    let bar = progress::counter("records");
    let history = connection.client.history(SubjectOrKey::Subject(subject.clone()));
    let receipts = history.map_ok(|item: v1::HistoryItem| async move {
        let receipt = connection.client.receipt(Hash::from_slice(&item.record_id)?, false).await;
        anyhow::Ok(receipt?.encode_to_vec())
    });
    let fetches = receipts.map(|fetch| async move { fetch?.await });
    let mut fetched = Box::pin(fetches.buffered(AT_A_TIME));
    while let Some(receipt) = fetched.next().await {
        each(receipt?)?;
        bar.inc(1);
        room = room.checked_sub(1).with_context(|| {
            let node = &connection.profile.node;
            format!(
                "{node} lists more than {LATER_MAX} records beside the {proven} of its own proof"
            )
        })?;
    }
    bar.finish_and_clear();
    Ok(())
}

fn of_files(
    directory: &Path,
    mut each: impl FnMut(Vec<u8>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    // An absence has a proof and no receipts.
    for file in receipts::receipts_in(directory)?.0 {
        each(read_form::<v1::Receipt>(&file, receipts::TOO_LARGE)?)?;
    }
    Ok(())
}

/// The receipts of records by their ids, encoded, in order.
pub(super) async fn receipts_of(
    connection: &Connection,
    ids: &[Hash],
    mut each: impl FnMut(Hash, Vec<u8>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let bar = progress::bar(ids.len(), "receipts");
    let fetches = ids.iter().map(|id| async move {
        let receipt = connection.client.receipt(*id, false).await;
        anyhow::Ok((*id, receipt.with_context(|| format!("record {id}"))?.encode_to_vec()))
    });
    let mut fetched = stream::iter(fetches).buffered(AT_A_TIME);
    while let Some((id, receipt)) = fetched.try_next().await? {
        each(id, receipt)?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(())
}
