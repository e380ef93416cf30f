//! What the process does for its secrets before it has any: nothing of its memory is written to disk, by
//! a crash or by swapping, no other process of its user looks into it, and its files are its owner's.

use std::{
    io,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use customhouse_ledger::{keys::SigningKey, vrf::VrfSecretKey};
use rustix::{
    fs::Mode,
    process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit, umask},
};

/// The user's own mask of what others may do with files; set once this process has another.
static USER_MASK: OnceLock<u32> = OnceLock::new();
/// Whether it was said that keys cannot be locked.
static LOCK_FAILED: AtomicBool = AtomicBool::new(false);

/// Leaves no core dump behind, whatever the system's settings are, and lets no other process of the same
/// user read this one's memory. Its child processes leave none either.
///
/// # Errors
/// The system's answer.
pub fn hide_memory() -> io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}

/// Makes all files and directories for the owner only from here on: keys, journals, the ledger, backups.
/// What is meant for others is made with [`public_mode`].
pub fn own_files_only() {
    let before = umask(Mode::RWXG | Mode::RWXO);
    // Called again, the mask is this process's own.
    USER_MASK.get_or_init(|| before.bits());
}

/// The mode of a file that is meant for others, as far as the user's own mask lets it be.
pub fn public_mode(mode: u32) -> u32 {
    mode & !USER_MASK.get().copied().unwrap_or(0)
}

/// Whether a file that is made with a mode gets less than that by this process's mask.
pub fn is_masked() -> bool {
    USER_MASK.get().is_some()
}

/// Keeps a key from being written to a swap device. Where the system does not allow it, the key is used
/// as it is, and that is said once.
pub fn lock_in_memory(key: &SigningKey) {
    key.lock_with(lock_pages);
}

/// The same for the key of an epoch.
pub fn lock_epoch_in_memory(key: &VrfSecretKey) {
    key.lock_with(lock_pages);
}

/// Locks pages of memory that hold secrets, until what it returns is dropped; nothing where the system does
/// not allow it, and that is said once.
pub(crate) fn lock_pages(address: *const u8, bytes: usize) -> Option<region::LockGuard> {
    let locked = region::lock(address, bytes);
    if let Err(error) = &locked
        && !LOCK_FAILED.swap(true, Ordering::Relaxed)
    {
        tracing::warn!(
            %error,
            "secret keys are not locked in memory and may be swapped to disk: raise the limit of \
             locked memory (ulimit -l, LimitMEMLOCK=)"
        );
    }
    locked.ok()
}
