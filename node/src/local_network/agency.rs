//! An agency's keys, the signer's journal, and the vault.

use std::path::Path;

use customhouse_files::{
    agency_file::{AgencyFile, RegisteredKey},
    folder::{FolderError, create_dir, io_error, write_public},
    keyfile::{KeyFile, KeyPurpose},
};
use customhouse_ledger::{agency::AgencyCode, authority::Role, keys::PublicKey};
use customhouse_vault::vault::Protection;

use super::LocalNetworkError;
use crate::{config::journal_path, journal::SignerJournal, sealed::upkeep};

/// Makes an agency's keys and the signer's journal in `<dir>/keys`, the vault in `<dir>/vault`, whose root key is
/// protected like this, and `<dir>/agency.json`.
///
/// # Errors
/// Where one of them exists already, or cannot be written.
pub fn create_agency_keys(
    dir: &Path,
    agency: AgencyCode,
    name: &str,
    country: &str,
    root_key: &Protection,
) -> Result<AgencyFile, LocalNetworkError> {
    let public_file = dir.join("agency.json");
    if public_file.exists() {
        return Err(FolderError::Exists(public_file).into());
    }
    let keys = dir.join("keys");
    create_dir(&keys)?;
    let make = |purpose: KeyPurpose| -> Result<PublicKey, LocalNetworkError> {
        let path = keys.join(format!("{purpose}.key"));
        let key = KeyFile::generate(purpose, agency).map_err(io_error(&path))?;
        key.write(&path)?;
        if purpose == KeyPurpose::Validator {
            SignerJournal::create(&journal_path(&path), &key.key.public())?;
        }
        Ok(key.key.public())
    };
    let registrable = upkeep::create(&dir.join("vault"), root_key, agency)?;
    let file = AgencyFile {
        agency,
        name: name.to_owned(),
        country: country.to_owned(),
        validators: vec![make(KeyPurpose::Validator)?],
        peers: vec![make(KeyPurpose::Peer)?],
        signing_keys: vec![RegisteredKey {
            public_key: make(KeyPurpose::Signing)?,
            role: Role::Node,
            submitter: String::new(),
            kinds: Vec::new(),
            label: "node".into(),
        }],
        encryption_keys: vec![registrable.encryption_key],
        dedupe_check: Some(registrable.dedupe_check),
    };
    // No registry has it: whoever wants to check what it signs is told of it in another way.
    make(KeyPurpose::Checkpoint)?;
    write_public(&public_file, &file.to_json())?;
    Ok(file)
}
