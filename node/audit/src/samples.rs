//! What the tests of several modules begin with.

use std::collections::BTreeMap;

use customhouse_files::agency_file::{AgencyFile, genesis_of};
use customhouse_ledger::registry::genesis::Genesis;

/// A genesis of four agencies.
pub(crate) fn genesis() -> Genesis {
    let key = |seed: u8| customhouse_ledger::keys::SigningKey::from_seed(&[seed; 32]).public();
    let agency = |index: u8| AgencyFile {
        agency: format!("A{index:03}").parse().expect("a code"),
        name: "Agency".into(),
        country: "NL".into(),
        validators: vec![key(index)],
        peers: vec![key(64 + index)],
        signing_keys: vec![],
        encryption_keys: vec![],
        dedupe_check: None,
    };
    let agencies: Vec<_> = (1..=4).map(agency).collect();
    genesis_of("test", 1_700_000_000_000, 8, &agencies, &BTreeMap::new()).expect("valid")
}
