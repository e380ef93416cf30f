//! What can be told of a vault that is not opened: whose files are there, without a lock and without a passphrase.

use std::path::Path;

use crate::{error::VaultError, error::VaultId, pair::Pair};

/// A vault as its files show it to whoever may read them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClosedVault {
    /// Which vault.
    pub vault: VaultId,
    /// How often its keys have been written.
    pub generation: u64,
    /// Whether a passphrase is needed to open it.
    pub is_wrapped: bool,
    /// Whether it was put back from a copy and not opened since.
    pub is_copy: bool,
}

impl ClosedVault {
    /// Reads the files of a vault, which may be open in another process.
    ///
    /// # Errors
    /// A file that is missing, others' to read, damaged, or of another vault or root key: also for the moment in
    /// which a node renews its root key.
    pub fn read(directory: &Path) -> Result<Self, VaultError> {
        let found = Pair::new(directory).read()?;
        let (keys, is_wrapped) = (found.keys, found.root.is_encrypted());
        let (generation, is_copy) = (keys.name.generation, keys.is_copy);
        Ok(Self { vault: keys.vault, generation, is_wrapped, is_copy })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::vault::tests::Place;

    #[test]
    fn an_open_vault_is_told_of_without_its_lock_and_its_passphrase() {
        let here = Place::new();
        let vault = crate::vault::Vault::create(&here.vault(), &here.passphrase()).expect("made");
        vault.new_encryption_key().expect("made");
        fs::remove_file(here.path("passphrase")).expect("there");
        let found = ClosedVault::read(&here.vault()).expect("readable");
        assert_eq!((found.vault, found.generation), (vault.id(), vault.generation()));
        assert!(found.is_wrapped && !found.is_copy && found.generation == 2);
        let backup = vault.back_up(&here.path("backups"), 1);
        assert!(backup.is_ok_and(|made| ClosedVault::read(&made.path).is_ok_and(|b| b.is_copy)));
        fs::write(here.vault().join("keys"), "rubbish").expect("writable");
        assert_eq!(ClosedVault::read(&here.vault()).expect_err("rubbish").code(), "VAULT_TORN");
        let none = ClosedVault::read(&here.path("none")).expect_err("not there");
        assert_eq!(none.code(), "VAULT_MISSING");
    }
}
