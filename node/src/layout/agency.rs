//! An agency's keys and its public file, from which a genesis is made.

use std::{collections::BTreeMap, path::Path};

use customhouse_ledger::{
    agency::AgencyCode,
    genesis::{Genesis, GenesisError},
    keys::PublicKey,
};
use serde::{Deserialize, Serialize};

use super::{LayoutError, create_dir, io_error, write_public};
use crate::{
    config::journal_path,
    journal::SignerJournal,
    keyfile::{KeyFile, KeyPurpose},
    readfile,
};

/// Bytes of an `agency.json` at the most: thousands of keys.
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
}

/// A key that signs transactions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegisteredKey {
    /// The key.
    pub public_key: PublicKey,
    /// In which role.
    pub role: RegisteredRole,
    /// What the agency calls it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub label: String,
}

/// The role of a signing key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RegisteredRole {
    /// The agency's node, for its clients.
    Node,
    /// An integrator that signs its own transactions.
    Submitter,
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
/// Where it cannot be read, or is none.
pub fn read_agency_file(path: &Path) -> Result<AgencyFile, LayoutError> {
    let text = readfile::text(path, FILE_BYTES_MAX).map_err(io_error(path))?;
    serde_json::from_str(&text).map_err(|error| {
        let reason = format!("not an agency's public file: {error}");
        LayoutError::Content { path: path.to_owned(), reason }
    })
}

/// Makes an agency's keys and the signer's journal in `<dir>/keys`, and `<dir>/agency.json`.
///
/// # Errors
/// Where one of them exists already, or cannot be written.
pub fn create_agency_keys(
    dir: &Path,
    agency: AgencyCode,
    name: &str,
    country: &str,
) -> Result<AgencyFile, LayoutError> {
    let public_file = dir.join("agency.json");
    if public_file.exists() {
        return Err(LayoutError::Exists(public_file));
    }
    let keys = dir.join("keys");
    create_dir(&keys)?;
    let make = |purpose: KeyPurpose| -> Result<PublicKey, LayoutError> {
        let path = keys.join(format!("{purpose}.key"));
        let key = KeyFile::generate(purpose, agency).map_err(io_error(&path))?;
        key.write(&path)?;
        if purpose == KeyPurpose::Validator {
            SignerJournal::create(&journal_path(&path), &key.key.public())?;
        }
        Ok(key.key.public())
    };
    let file = AgencyFile {
        agency,
        name: name.to_owned(),
        country: country.to_owned(),
        validators: vec![make(KeyPurpose::Validator)?],
        peers: vec![make(KeyPurpose::Peer)?],
        signing_keys: vec![RegisteredKey {
            public_key: make(KeyPurpose::Signing)?,
            role: RegisteredRole::Node,
            label: "node".into(),
        }],
    };
    // No registry has it: whoever wants to check what it signs is told of it by another way.
    make(KeyPurpose::Checkpoint)?;
    write_public(&public_file, &file.to_json())?;
    Ok(file)
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
