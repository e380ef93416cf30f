//! Who leads a view: a function of committed state.

use customhouse_ledger::{keys::PublicKey, validators::ValidatorSet};

/// The leader of (height, view): round robin. In every height all n lead before any leads again.
pub fn leader(validators: &ValidatorSet, height: u64, view: u64) -> PublicKey {
    let n = validators.count() as u64;
    let turn = (height % n + view % n) % n;
    validators.as_slice()[turn as usize].key
}
