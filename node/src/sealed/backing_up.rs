//! Backups of the vault while its node runs: one after its keys were written anew, and no more than one a minute.
//!
//! That one fails is logged and counted, and tried again; it stops nothing. Nor does a disk that hangs: what waits for
//! it is a thread of its own, which the shutdown leaves behind.

use std::{
    fs,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use customhouse_vault::{
    backup::{self, VaultBackup},
    error::VaultError,
    vault::Vault,
};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::config::BackupSection;

/// Time between two looks whether there is something to back up.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Where backups of the vault go, and how it stands with them.
#[derive(Debug)]
pub struct VaultBackups {
    section: BackupSection,
    /// The newest of this vault, once it was looked for, with when its files were written.
    newest: Mutex<Option<(VaultBackup, Option<SystemTime>)>>,
    failures: AtomicU64,
}

impl VaultBackups {
    /// As a configuration says.
    pub fn new(section: BackupSection) -> Self {
        Self { section, newest: Mutex::default(), failures: AtomicU64::new(0) }
    }

    /// When the newest was made, as far as is known.
    pub fn newest(&self) -> Option<SystemTime> {
        let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        newest.as_ref().and_then(|(_, made)| *made)
    }

    /// How many milliseconds old the newest is.
    pub fn age_ms(&self) -> Option<u64> {
        let age = self.newest()?.elapsed().unwrap_or_default();
        Some(u64::try_from(age.as_millis()).unwrap_or(u64::MAX))
    }

    /// How many were tried in vain since the node was started.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Keeps the backups up to date until `stop`.
    pub async fn run(self: Arc<Self>, vault: Arc<Vault>, stop: CancellationToken) {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = looks.tick() => {}
            }
            let (backups, vault) = (Arc::clone(&self), Arc::clone(&vault));
            let bringing_up = tokio::task::spawn_blocking(move || backups.bring_up(&vault));
            tokio::select! {
                () = stop.cancelled() => return,
                // A panic in it ends the process, as any other does.
                _ended = bringing_up => {}
            }
        }
    }

    /// Makes a backup, where the newest is not of the vault as it is.
    fn bring_up(&self, vault: &Vault) {
        match self.try_to(vault) {
            Ok(Some(made)) => {
                let (number, generation) = (made.number, made.generation);
                tracing::info!(number, generation, "backup of the vault made");
            }
            Ok(None) => {}
            Err(error) => {
                self.failures.fetch_add(1, Ordering::Relaxed);
                tracing::error!(%error, "no backup of the vault was made: it is tried again");
            }
        }
    }

    fn try_to(&self, vault: &Vault) -> Result<Option<VaultBackup>, VaultError> {
        let directory = &*self.section.directory;
        if self.newest().is_none() && directory.is_dir() {
            // Those that cannot be read are named by `customhouse vault backups`.
            let mut found = backup::backups(directory)?.into_iter().flatten();
            if let Some(newest) = found.rfind(|found| found.vault == vault.id()) {
                self.set(newest);
            }
        }
        let is_up_to_date = {
            let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
            newest
                .as_ref()
                .is_some_and(|(newest, _)| newest.path.is_dir() && vault.is_as_in(newest))
        };
        if is_up_to_date {
            return Ok(None);
        }
        let made = vault.back_up(directory, self.section.keep)?;
        self.set(made.clone());
        Ok(Some(made))
    }

    fn set(&self, newest: VaultBackup) {
        let made = modified(&newest.path);
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = Some((newest, made));
    }
}

fn modified(backup: &Path) -> Option<SystemTime> {
    fs::metadata(backup).and_then(|found| found.modified()).ok()
}

#[cfg(test)]
mod tests {
    use customhouse_vault::vault::Protection;

    use super::*;

    /// A vault, and backups of it in a directory beside it.
    fn place() -> (tempfile::TempDir, Vault, VaultBackups) {
        let place = tempfile::tempdir().expect("a directory");
        let vault = Vault::create(&place.path().join("vault"), &Protection::Plain).expect("made");
        let backups = of(place.path());
        (place, vault, backups)
    }

    fn of(place: &Path) -> VaultBackups {
        VaultBackups::new(BackupSection { directory: place.join("backups"), keep: 3 })
    }

    fn numbers(place: &Path) -> Vec<u32> {
        let found = backup::backups(&place.join("backups")).expect("listed").into_iter();
        found.map(|found| found.expect("readable").number).collect()
    }

    #[test]
    fn a_backup_follows_each_change_and_nothing_else_also_over_a_restart() {
        let (place, vault, backups) = place();
        assert_eq!(backups.age_ms(), None);
        for _ in 0..2 {
            backups.bring_up(&vault);
            assert_eq!(numbers(place.path()), [1]);
        }
        assert!(backups.age_ms().is_some());
        vault.new_encryption_key().expect("made");
        backups.bring_up(&vault);
        assert_eq!(numbers(place.path()), [1, 2]);
        let restarted = of(place.path());
        restarted.bring_up(&vault);
        assert_eq!(numbers(place.path()), [1, 2]);
        assert!(restarted.age_ms().is_some());
        fs::remove_dir_all(place.path().join("backups/vault-000002")).expect("there");
        restarted.bring_up(&vault);
        assert_eq!((numbers(place.path()), restarted.failures()), (vec![1, 2], 0));
    }

    #[test]
    fn a_vault_that_was_put_back_is_not_taken_for_the_one_of_the_same_generation() {
        let (place, vault, backups) = place();
        backups.bring_up(&vault);
        vault.new_encryption_key().expect("made");
        backups.bring_up(&vault);
        let generation = vault.generation();
        drop(vault);
        let into = place.path().join("back");
        backup::restore(&place.path().join("backups/vault-000001"), &into).expect("restored");
        let vault = Vault::open(&into, &Protection::Plain).expect("opened");
        assert_eq!(vault.generation(), generation, "by its new incarnation");
        of(place.path()).bring_up(&vault);
        assert_eq!(numbers(place.path()), [1, 2, 3]);
    }

    #[test]
    fn what_fails_is_counted_and_made_when_it_can_be() {
        let (place, vault, backups) = place();
        fs::write(place.path().join("backups"), "a file").expect("written");
        backups.bring_up(&vault);
        backups.bring_up(&vault);
        assert_eq!((backups.failures(), backups.age_ms()), (2, None));
        fs::remove_file(place.path().join("backups")).expect("there");
        backups.bring_up(&vault);
        assert_eq!((backups.failures(), numbers(place.path())), (2, vec![1]));
    }

    #[tokio::test]
    async fn it_goes_on_until_the_shutdown_and_ends_with_it() {
        let (_place, vault, backups) = place();
        let (backups, stop) = (Arc::new(backups), CancellationToken::new());
        let running = tokio::spawn(Arc::clone(&backups).run(Arc::new(vault), stop.clone()));
        let made = async {
            while backups.newest().is_none() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), made).await.expect("a backup");
        assert!(!running.is_finished());
        stop.cancel();
        let ended = tokio::time::timeout(Duration::from_secs(30), running).await;
        ended.expect("in time").expect("without a panic");
    }
}
