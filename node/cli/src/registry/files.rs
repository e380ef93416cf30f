//! The files that agencies send each other: proposals, approvals, and the word of a joiner.

use std::path::Path;

use anyhow::{Context as _, ensure};
use customhouse_files::{folder::write_public, readfile};
use customhouse_ledger::{
    hash::Hash,
    keys::{PublicKey, Signature},
    registry::{InSync, RegistryApproval, RegistryProposal},
};
use customhouse_proto::v1;
use prost::Message as _;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Most bytes of a file: 64 entries of a few hundred bytes each, in hexadecimal.
const FILE_BYTES_MAX: usize = 256 * 1024;

const PROPOSAL: &str = "customhouse-registry-proposal/1";
const APPROVAL: &str = "customhouse-registry-approval/1";
const IN_SYNC: &str = "customhouse-in-sync/1";

/// A proposal and the chain that it is for.
pub(super) struct ProposalFile {
    pub(super) chain_id: Hash,
    pub(super) proposal: RegistryProposal,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProposalJson {
    format: String,
    chain_id: Hash,
    /// Canonical protobuf, hexadecimal: what is approved.
    proposal: String,
}

/// An approval and the hash of the proposal that it is of.
pub(super) struct ApprovalFile {
    pub(super) proposal: Hash,
    pub(super) approval: RegistryApproval,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ApprovalJson {
    format: String,
    proposal: Hash,
    validator: PublicKey,
    signature: String,
}

/// A new validator key's word that its holder follows the chain.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InSyncFile {
    format: String,
    height: u64,
    block_hash: Hash,
    signature: String,
}

impl ProposalFile {
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let json: ProposalJson = read(path, PROPOSAL)?;
        let name = || path.display().to_string();
        let bytes = hex::decode(&json.proposal).context("proposal").with_context(name)?;
        let proto = v1::RegistryProposal::decode(&*bytes).with_context(name)?;
        ensure!(proto.encode_to_vec() == bytes, "{}: the proposal is not canonical", name());
        let proposal = RegistryProposal::from_proto(proto).with_context(name)?;
        Ok(Self { chain_id: json.chain_id, proposal })
    }

    pub(super) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let json = ProposalJson {
            format: PROPOSAL.to_owned(),
            chain_id: self.chain_id,
            proposal: hex::encode(self.proposal.to_proto().encode_to_vec()),
        };
        write(path, &json)
    }
}

impl ApprovalFile {
    pub(super) fn of(proposal: &RegistryProposal, approval: &RegistryApproval) -> Self {
        Self { proposal: proposal.hash(), approval: *approval }
    }

    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let json: ApprovalJson = read(path, APPROVAL)?;
        let signature = signature(path, &json.signature)?;
        let approval = RegistryApproval { validator: json.validator, signature };
        Ok(Self { proposal: json.proposal, approval })
    }

    pub(super) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let json = ApprovalJson {
            format: APPROVAL.to_owned(),
            proposal: self.proposal,
            validator: self.approval.validator,
            signature: hex::encode(self.approval.signature.0),
        };
        write(path, &json)
    }
}

impl InSyncFile {
    pub(super) fn of(in_sync: &InSync) -> Self {
        Self {
            format: IN_SYNC.to_owned(),
            height: in_sync.height,
            block_hash: in_sync.block_hash,
            signature: hex::encode(in_sync.signature.0),
        }
    }

    pub(super) fn read(path: &Path) -> anyhow::Result<InSync> {
        let json: Self = read(path, IN_SYNC)?;
        let signature = signature(path, &json.signature)?;
        Ok(InSync { height: json.height, block_hash: json.block_hash, signature })
    }

    pub(super) fn write(&self, path: &Path) -> anyhow::Result<()> {
        write(path, self)
    }
}

fn read<T: DeserializeOwned>(path: &Path, format: &str) -> anyhow::Result<T> {
    let name = || path.display().to_string();
    let text = readfile::text(path, FILE_BYTES_MAX).with_context(name)?;
    // First its kind: the fields of another kind of file are no help.
    let found = serde_json::from_str::<Format>(&text).with_context(name)?.format;
    let found = found.as_deref().unwrap_or("none");
    ensure!(found == format, "{}: its format is `{found}`, and `{format}` is needed", name());
    serde_json::from_str(&text).with_context(name)
}

#[derive(Deserialize)]
struct Format {
    format: Option<String>,
}

fn write<T: Serialize>(path: &Path, file: &T) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(file)?;
    Ok(write_public(path, &(text + "\n"))?)
}

fn signature(path: &Path, text: &str) -> anyhow::Result<Signature> {
    let name = || format!("{}: signature", path.display());
    Signature::from_slice(&hex::decode(text).with_context(name)?).with_context(name)
}

#[cfg(test)]
mod tests {
    use customhouse_ledger::keys::SigningKey;

    use super::*;

    fn proposal() -> RegistryProposal {
        let agency = v1::AgencyEntry { agency: "SE-TULL".into(), ..Default::default() };
        let entry = Some(v1::registry_entry::Entry::Agency(agency));
        let added = vec![v1::RegistryEntry { entry, ..Default::default() }];
        RegistryProposal::new(&Hash([1; 32]), 7, added, Vec::new(), "joins").expect("valid")
    }

    #[test]
    fn files_say_what_was_written_and_nothing_is_overwritten() {
        let dir = tempfile::tempdir().expect("a directory");
        let (chain_id, key) = (Hash([2; 32]), SigningKey::from_seed(&[3; 32]));
        let path = dir.path().join("a.proposal");
        ProposalFile { chain_id, proposal: proposal() }.write(&path).expect("written");
        let read = ProposalFile::read(&path).expect("read");
        assert_eq!((read.chain_id, &read.proposal), (chain_id, &proposal()));
        assert!(read.write(&path).is_err(), "not over another");

        let approval = proposal().approve(&chain_id, &key);
        let path = dir.path().join("a.approval");
        ApprovalFile::of(&proposal(), &approval).write(&path).expect("written");
        let read = ApprovalFile::read(&path).expect("read");
        assert_eq!((read.proposal, read.approval), (proposal().hash(), approval));

        let agency = "SE-TULL".parse().expect("a code");
        let in_sync = InSync::sign(&chain_id, &agency, 9, Hash([4; 32]), &key);
        let path = dir.path().join("a.in-sync");
        InSyncFile::of(&in_sync).write(&path).expect("written");
        assert_eq!(InSyncFile::read(&path).expect("read"), in_sync);
        let other = ApprovalFile::read(&path).err().expect("another kind of file").to_string();
        assert!(other.contains("a.in-sync"), "{other}");
        assert!(other.contains(IN_SYNC) && other.contains(APPROVAL), "{other}");
    }
}
