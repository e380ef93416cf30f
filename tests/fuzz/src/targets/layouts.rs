//! Fixed layouts, keys and signatures.

use customhouse_ledger::{
    agency::AgencyCode,
    finality::{evidence::Claim, header::Header},
    history::HistoryEntry,
    keys::{PublicKey, Signature},
    merkle::Frontier,
    transaction::{SlotOutcome, TransactionHeader},
};

use super::{given_back, proves_nothing_new};

/// The 16 bytes of an agency's code; its text is read back as the same.
pub fn agency_code(bytes: &[u8]) -> bool {
    let code = AgencyCode::from_slice(bytes).ok();
    if let Some(code) = &code {
        assert_eq!(code.as_str().parse(), Ok(*code));
    }
    given_back(bytes, code.map(|code| code.as_bytes().to_vec()))
}

/// A public key; its text is read back as the same.
pub fn public_key(bytes: &[u8]) -> bool {
    let key = PublicKey::from_slice(bytes).ok();
    if let Some(key) = &key {
        assert_eq!(key.to_string().parse(), Ok(*key));
    }
    given_back(bytes, key.map(|key| key.as_bytes().to_vec()))
}

/// A key, a signature and the message.
pub fn signature(bytes: &[u8]) -> bool {
    proves_nothing_new("signature", bytes)
}

pub(super) fn by_signature(bytes: &[u8]) -> Option<Vec<String>> {
    let (key, rest) = bytes.split_at_checked(32)?;
    let (signature, message) = rest.split_at_checked(64)?;
    let key = PublicKey::from_slice(key).ok()?;
    let signature = Signature::from_slice(signature).ok()?;
    key.verify(message, &signature).ok()?;
    Some(vec![format!("{key} signed {}, with {signature:?}", hex::encode(message))])
}

/// A block header.
pub fn header(bytes: &[u8]) -> bool {
    given_back(bytes, Header::decode(bytes).ok().map(|header| header.encode()))
}

/// What a transaction's signature covers.
pub fn transaction_header(bytes: &[u8]) -> bool {
    given_back(bytes, TransactionHeader::decode(bytes).ok().map(|header| header.encode()))
}

/// An entry of the history index.
pub fn history_entry(bytes: &[u8]) -> bool {
    given_back(bytes, HistoryEntry::decode(bytes).ok().map(|entry| entry.encode()))
}

/// What became of a slot in its block.
pub fn outcome(bytes: &[u8]) -> bool {
    given_back(bytes, SlotOutcome::decode(bytes).map(|outcome| outcome.encode()))
}

/// What a log is continued from; adding a leaf keeps the form.
pub fn frontier(bytes: &[u8]) -> bool {
    let frontier = Frontier::decode(bytes).ok();
    if let Some(frontier) = frontier.as_ref().filter(|frontier| frontier.size() < u64::MAX) {
        let mut longer = frontier.clone();
        longer.push(frontier.root());
        assert_eq!(longer.size(), frontier.size() + 1);
        assert_eq!(Frontier::decode(&longer.encode()), Ok(longer));
    }
    given_back(bytes, frontier.map(|frontier| frontier.encode()))
}

/// A proposal as evidence has it.
pub fn claim(bytes: &[u8]) -> bool {
    given_back(bytes, Claim::decode(bytes).ok().map(|claim| claim.encode()))
}
