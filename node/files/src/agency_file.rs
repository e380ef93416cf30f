//! An agency's public keys: `agency.json`, from several of which a genesis is made.

use std::{collections::BTreeMap, path::Path};

use customhouse_ledger::{
    agency::AgencyCode,
    authority::{RecordKind, Role, role},
    hash::Hash,
    keys::PublicKey,
    registry::{
        EncryptionPublicKey,
        genesis::{Genesis, GenesisError},
    },
};
use serde::{Deserialize, Serialize};

use crate::{
    folder::{FolderError, io_error},
    readfile,
};

/// Most bytes of an `agency.json`: thousands of keys.
const FILE_BYTES_MAX: usize = 1024 * 1024;

/// An agency's public keys: `agency.json`, which it sends to whoever puts the genesis together. It
/// is the agency's object in the genesis, word for word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgencyFile {
    /// Its code.
    pub agency: AgencyCode,
    /// Its name, for people.
    pub name: String,
    /// ISO 3166-1 alpha-2.
    pub country: String,
    /// Keys that vote; one.
    pub validators: Vec<PublicKey>,
    /// libp2p identities of its nodes.
    pub peers: Vec<PublicKey>,
    /// Keys that sign transactions.
    pub signing_keys: Vec<RegisteredKey>,
    /// Keys that what travels sealed to it is encrypted to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub encryption_keys: Vec<EncryptionPublicKey>,
    /// By which its nodes know that they have the secret of its dedupe keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dedupe_check: Option<Hash>,
}

/// A key that signs transactions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegisteredKey {
    /// The key.
    pub public_key: PublicKey,
    /// In which role.
    #[serde(with = "role::by_name")]
    pub role: Role,
    /// The submitter's name that its records have. Empty for a node's key, and there only.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub submitter: String,
    /// The kinds that it may sign; none for all that its role may state.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<RecordKind>,
    /// What the agency calls it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub label: String,
}

impl AgencyFile {
    /// The file's text.
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("strings always serialise");
        text.push('\n');
        text
    }
}

/// Reads an `agency.json`.
///
/// # Errors
/// Where it cannot be read, or is not one.
pub fn read_agency_file(path: &Path) -> Result<AgencyFile, FolderError> {
    let text = readfile::text(path, FILE_BYTES_MAX).map_err(io_error(path))?;
    serde_json::from_str(&text).map_err(|error| {
        let reason = format!("not an agency's public file: {error}");
        FolderError::Content { path: path.to_owned(), reason }
    })
}

/// Puts a genesis together.
///
/// # Errors
/// The first rule that is broken.
pub fn genesis_of(
    network: &str,
    time_ms: u64,
    history_bits: u32,
    agencies: &[AgencyFile],
    parameters: &BTreeMap<String, u64>,
) -> Result<Genesis, GenesisError> {
    let json = serde_json::json!({
        "network": network,
        "time_ms": time_ms,
        "history_bits": history_bits,
        "agencies": agencies,
        "parameters": parameters,
    });
    Genesis::from_json(&json.to_string())
}
