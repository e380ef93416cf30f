//! One entry of the registry: what is valid by itself, its place among the others, and what it is about.

use customhouse_proto::v1::{self, registry_entry::Entry};

use super::{
    RegistryError,
    parameters::{self, Parameters},
    sealed::EncryptionPublicKey,
};
use crate::{
    agency::AgencyCode,
    authority::{self, RecordKind, role},
    canonical,
    hash::Hash,
    keys::PublicKey,
    limits::{NAME_BYTES_MAX, SUBMITTER_BYTES_MAX},
    text,
};

/// An entry's place in the registry: its kind (the protobuf field number) and what it is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RegistryKey {
    kind: u8,
    id: Vec<u8>,
}

impl RegistryKey {
    pub(super) fn agency(code: &AgencyCode) -> Self {
        Self { kind: 8, id: code.as_bytes().to_vec() }
    }

    /// What an agency has one or several of, each known by its 32 bytes.
    fn owned(kind: u8, agency: &AgencyCode, bytes: &[u8]) -> Self {
        Self { kind, id: [agency.as_bytes(), bytes].concat() }
    }

    /// A parameter's values stand beside each other by the height from which each counts: an earlier one stays, as
    /// an ended entry.
    fn parameter(name: &str, from_height: u64) -> Self {
        Self { kind: 12, id: [name.as_bytes(), &from_height.to_be_bytes()].concat() }
    }
}

/// Reads an entry's canonical bytes.
///
/// # Errors
/// The first rule that is broken.
pub fn decode_entry(bytes: &[u8]) -> Result<v1::RegistryEntry, RegistryError> {
    let entry = canonical::decode(bytes)?;
    key_of(&entry)?;
    Ok(entry)
}

/// Key of an entry's row: kind and id.
#[cfg(feature = "rocksdb")]
pub(crate) fn row_key(entry: &v1::RegistryEntry) -> Result<Vec<u8>, RegistryError> {
    let RegistryKey { kind, id } = key_of(entry)?;
    Ok([&[kind], &id[..]].concat())
}

/// Checks an entry by itself and gives its place.
pub(super) fn key_of(entry: &v1::RegistryEntry) -> Result<RegistryKey, RegistryError> {
    let (from, end) = (entry.from_height, entry.end_height);
    if end != 0 && end <= from {
        return Err(RegistryError::Period { from, end });
    }
    let keyed = |kind, agency: &str, key: &[u8]| {
        let agency = parse_agency(agency)?;
        parse_key(agency, key)?;
        Ok(RegistryKey::owned(kind, &agency, key))
    };
    match entry.entry.as_ref().ok_or(RegistryError::Kind)? {
        Entry::Agency(agency) => {
            check_name(&agency.name)?;
            check_name(&agency.country)?;
            let code = parse_agency(&agency.agency)?;
            Ok(RegistryKey::agency(&code))
        }
        Entry::Validator(validator) => keyed(9, &validator.agency, &validator.public_key),
        Entry::Peer(peer) => keyed(10, &peer.agency, &peer.public_key),
        Entry::SigningKey(signing) => {
            check_name(&signing.label)?;
            let key = keyed(11, &signing.agency, &signing.public_key)?;
            check_signing(parse_agency(&signing.agency)?, signing)?;
            Ok(key)
        }
        Entry::Parameter(parameter) => {
            check_name(&parameter.name)?;
            Parameters::default().set(&parameter.name, parameter.value)?;
            Ok(RegistryKey::parameter(&parameter.name, from))
        }
        Entry::EncryptionKey(own) => {
            let agency = parse_agency(&own.agency)?;
            EncryptionPublicKey::from_slice(&own.public_key)
                .map_err(|error| RegistryError::EncryptionKey(agency, error))?;
            Ok(RegistryKey::owned(13, &agency, &own.public_key))
        }
        Entry::DedupeCheck(own) => {
            let agency = parse_agency(&own.agency)?;
            Hash::from_slice(&own.check)
                .map_err(|error| RegistryError::DedupeCheck(agency, error))?;
            Ok(RegistryKey::owned(14, &agency, &own.check))
        }
    }
}

/// What an entry is a value of, where no two such entries count at one height.
pub(super) fn single_of(entry: &v1::RegistryEntry) -> Option<(u8, &str)> {
    match entry.entry.as_ref()? {
        Entry::Parameter(parameter) => Some((12, &parameter.name)),
        Entry::DedupeCheck(own) => Some((14, &own.agency)),
        _ => None,
    }
}

/// A signing key has a role; a node's has no more, every other is bound to a name, and to kinds that its role
/// may state.
fn check_signing(agency: AgencyCode, entry: &v1::SigningKeyEntry) -> Result<(), RegistryError> {
    let role = role::numbered(entry.role).ok_or(RegistryError::Role(agency))?;
    if !role::is_submitter(role) {
        let bound = !entry.submitter.is_empty() || entry.kinds != 0;
        return if bound { Err(RegistryError::Bound(agency)) } else { Ok(()) };
    }
    let submitter = &entry.submitter;
    if !(1..=SUBMITTER_BYTES_MAX).contains(&submitter.len()) {
        return Err(RegistryError::Submitter(agency));
    }
    text::check_name(submitter).map_err(|error| RegistryError::Name(submitter.clone(), error))?;
    let kinds = RecordKind::of_bits(entry.kinds);
    let may = |kind: &RecordKind| authority::roles(*kind).contains(&role);
    if RecordKind::bits(&kinds) != entry.kinds || !kinds.iter().all(may) {
        return Err(RegistryError::Kinds(agency));
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), RegistryError> {
    if name.len() > NAME_BYTES_MAX {
        return Err(RegistryError::NameLength);
    }
    text::check_name(name).map_err(|error| RegistryError::Name(name.to_owned(), error))
}

pub(super) fn parse_agency(text: &str) -> Result<AgencyCode, RegistryError> {
    text.parse().map_err(|_| RegistryError::Agency(text.to_owned()))
}

pub(super) fn parse_key(agency: AgencyCode, bytes: &[u8]) -> Result<PublicKey, RegistryError> {
    PublicKey::from_slice(bytes).map_err(|error| RegistryError::Key(agency, error))
}

pub(super) fn entry_agency(entry: &v1::RegistryEntry) -> Result<Option<AgencyCode>, RegistryError> {
    let code = match &entry.entry {
        Some(Entry::Validator(validator)) => &validator.agency,
        Some(Entry::Peer(peer)) => &peer.agency,
        Some(Entry::SigningKey(signing)) => &signing.agency,
        Some(Entry::EncryptionKey(own)) => &own.agency,
        Some(Entry::DedupeCheck(own)) => &own.agency,
        Some(Entry::Agency(_) | Entry::Parameter(_)) | None => return Ok(None),
    };
    parse_agency(code).map(Some)
}

/// The public key that an entry registers, of whichever kind: 32 bytes.
pub(super) fn entry_key(entry: &v1::RegistryEntry) -> Option<Hash> {
    let key = match &entry.entry {
        Some(Entry::Validator(validator)) => &validator.public_key,
        Some(Entry::Peer(peer)) => &peer.public_key,
        Some(Entry::SigningKey(signing)) => &signing.public_key,
        Some(Entry::EncryptionKey(own)) => &own.public_key,
        Some(Entry::Agency(_) | Entry::Parameter(_) | Entry::DedupeCheck(_)) | None => return None,
    };
    Hash::from_slice(key).ok()
}

pub(super) fn describe(entry: &v1::RegistryEntry) -> String {
    match &entry.entry {
        Some(Entry::Agency(agency)) => format!("agency {}", agency.agency),
        Some(Entry::Validator(validator)) => format!("a validator key of {}", validator.agency),
        Some(Entry::Peer(peer)) => format!("a peer key of {}", peer.agency),
        Some(Entry::SigningKey(signing)) => format!("a signing key of {}", signing.agency),
        Some(Entry::Parameter(parameter)) => {
            let v1::ParameterEntry { name, value } = parameter;
            format!("parameter {name}={}", parameters::text_of_value(name, *value))
        }
        Some(Entry::EncryptionKey(own)) => format!("an encryption key of {}", own.agency),
        Some(Entry::DedupeCheck(own)) => format!("a dedupe check of {}", own.agency),
        None => "nothing".to_owned(),
    }
}
