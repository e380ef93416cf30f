//! A secret of 32 bytes: a symmetric key, a seed, the half of a key pair that nobody is told.
//!
//! Secrets lie together on pages of memory that have nothing else on them and are locked, so that they are
//! never swapped to a disk; each is in one place, however often it is cloned, and is wiped when the last
//! clone is dropped. What looks at one does so where it lies, on a stack that is wiped after it. This is
//! against who finds a swap device, or memory that the process gave back; not against who reads the
//! process' memory while it runs.

use std::{
    fmt, io,
    sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, Weak},
};

use customhouse_ledger::keys::on_wiped_stack;
use region::LockGuard;
use zeroize::{Zeroize as _, Zeroizing};

use crate::hardening;

/// Secrets on a page of 4,096 bytes, each with a lock of its own: whoever looks at one may look at others and
/// make new ones meanwhile.
const SLOTS: usize = 93;

/// 32 secret bytes, never shown.
#[derive(Clone)]
pub struct Secret(Arc<Slot>);

impl Secret {
    /// Bytes of a secret.
    pub const LENGTH: usize = 32;

    /// A copy of these bytes. Those that were given are the caller's to wipe.
    pub fn new(bytes: &[u8; Self::LENGTH]) -> Self {
        on_wiped_stack(|| Self(Arc::new(Slot::taken(bytes))))
    }

    /// A new secret from the operating system's randomness.
    ///
    /// # Errors
    /// Where the system has none to give.
    pub fn random() -> io::Result<Self> {
        on_wiped_stack(|| {
            let mut bytes = Zeroizing::new([0; Self::LENGTH]);
            getrandom::fill(&mut *bytes).map_err(io::Error::other)?;
            Ok(Self::new(&bytes))
        })
    }

    /// Lets `work` see the bytes where they lie. What it leaves on the stack is wiped; its answer must hold
    /// no secret by value.
    pub fn with<R>(&self, work: impl FnOnce(&[u8; Self::LENGTH]) -> R) -> R {
        let bytes = self.0.place().read().unwrap_or_else(PoisonError::into_inner);
        on_wiped_stack(|| work(&bytes))
    }

    /// Whether both are the same bytes, in a time that does not depend on them.
    pub fn is(&self, other: &Self) -> bool {
        let differ = |mine: &[u8], theirs: &[u8]| {
            mine.iter().zip(theirs).fold(0, |differ, (mine, theirs)| differ | (mine ^ theirs))
        };
        self.with(|mine| other.with(|theirs| differ(mine, theirs))) == 0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The one place of a secret.
struct Slot {
    page: Arc<Page>,
    index: usize,
}

/// Dropped in this order: what holds the page in memory goes before the page is given back, and every slot
/// on it was wiped by then.
struct Page {
    lock: OnceLock<Option<LockGuard>>,
    /// Which slots are taken.
    taken: Mutex<[bool; SLOTS]>,
    slots: Box<Slots>,
}

/// As large as a page and aligned like one, so that a lock covers secrets and nothing else.
#[repr(align(4096))]
struct Slots([RwLock<[u8; Secret::LENGTH]>; SLOTS]);

/// The pages that have secrets.
static PAGES: Mutex<Vec<Weak<Page>>> = Mutex::new(Vec::new());

impl Slot {
    fn taken(bytes: &[u8; Secret::LENGTH]) -> Self {
        let mut pages = PAGES.lock().unwrap_or_else(PoisonError::into_inner);
        pages.retain(|page| page.strong_count() > 0);
        let slot = pages.iter().filter_map(Weak::upgrade).find_map(Self::on).unwrap_or_else(|| {
            let page = Page::locked();
            pages.push(Arc::downgrade(&page));
            Self::on(page).expect("a new page has room")
        });
        slot.write(|place| place.copy_from_slice(bytes));
        slot
    }

    /// A free slot of a page, if it has one.
    fn on(page: Arc<Page>) -> Option<Self> {
        let index = {
            let mut taken = page.taken.lock().unwrap_or_else(PoisonError::into_inner);
            let index = taken.iter().position(|taken| !taken)?;
            taken[index] = true;
            index
        };
        Some(Self { page, index })
    }

    fn place(&self) -> &RwLock<[u8; Secret::LENGTH]> {
        &self.page.slots.0[self.index]
    }

    fn write(&self, work: impl FnOnce(&mut [u8; Secret::LENGTH])) {
        work(&mut self.place().write().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.write(|place| place.zeroize());
        let mut taken = self.page.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken[self.index] = false;
    }
}

impl Page {
    fn locked() -> Arc<Self> {
        let slots = Box::new(Slots(std::array::from_fn(|_| RwLock::new([0; Secret::LENGTH]))));
        let taken = Mutex::new([false; SLOTS]);
        let page = Arc::new(Self { lock: OnceLock::new(), taken, slots });
        let address: *const Slots = &raw const *page.slots;
        page.lock.get_or_init(|| hardening::lock_pages(address.cast(), size_of::<Slots>()));
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_share_pages_that_hold_nothing_else() {
        assert_eq!((size_of::<Slots>(), align_of::<Slots>()), (4096, 4096));
        let secrets: Vec<_> = (0..=255).map(|byte| Secret::new(&[byte; 32])).collect();
        for (byte, secret) in (0_u8..=255).zip(&secrets) {
            let again = secret.with(|bytes| {
                assert_eq!(*bytes, [byte; 32]);
                Secret::new(bytes)
            });
            assert!(again.is(secret));
        }
    }

    #[test]
    fn a_secret_is_wiped_with_its_last_clone() {
        let secret = Secret::new(&[7; 32]);
        let (page, index) = (secret.0.page.clone(), secret.0.index);
        let there = || *page.slots.0[index].read().expect("whole");
        let clone = secret.clone();
        drop(secret);
        assert_eq!(there(), [7; 32]);
        drop(clone);
        assert_ne!(there(), [7; 32], "wiped, or another test's by now");
    }

    #[test]
    fn two_random_secrets_differ_and_none_is_shown() {
        let (one, other) = (Secret::random().expect("given"), Secret::random().expect("given"));
        assert!(one.is(&one.clone()) && !one.is(&other));
        assert_eq!(format!("{one:?}"), "Secret(…)");
    }
}
