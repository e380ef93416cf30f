//! What was wrapped under a group's key and is not stored yet: a group is ended only when nothing of that is left.
//!
//! Without it a round could look for all that is under a group, wrap it anew and end the group, while another
//! thread has just sealed under it and stores what it sealed a moment later: acknowledged, and lost.

use std::{
    collections::BTreeMap,
    fmt,
    ops::Deref,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::group::GroupNumber;

/// How many leases of each group are held.
#[derive(Clone, Default)]
pub(crate) struct Leases(Arc<Held>);

#[derive(Default)]
struct Held {
    counts: Mutex<BTreeMap<GroupNumber, usize>>,
    released: Condvar,
}

impl Held {
    fn counts(&self) -> MutexGuard<'_, BTreeMap<GroupNumber, usize>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A group that has leases, and how many.
pub(crate) type InUse = (GroupNumber, usize);

impl Leases {
    pub(crate) fn take(&self, group: GroupNumber) -> Lease {
        *self.0.counts().entry(group).or_default() += 1;
        Lease { held: self.0.clone(), group }
    }

    /// The first of these groups that has leases.
    pub(crate) fn of(&self, groups: &[GroupNumber]) -> Option<InUse> {
        first(&self.0.counts(), groups)
    }

    /// Waits until none of these groups has leases.
    ///
    /// # Errors
    /// The first that still has some.
    pub(crate) fn wait(&self, groups: &[GroupNumber], patience: Duration) -> Result<(), InUse> {
        let in_use = |counts: &mut BTreeMap<_, _>| first(counts, groups).is_some();
        let waited = self.0.released.wait_timeout_while(self.0.counts(), patience, in_use);
        let (counts, _) = waited.unwrap_or_else(PoisonError::into_inner);
        first(&counts, groups).map_or(Ok(()), Err)
    }
}

fn first(counts: &BTreeMap<GroupNumber, usize>, groups: &[GroupNumber]) -> Option<InUse> {
    groups.iter().find_map(|group| counts.get(group).map(|count| (*group, *count)))
}

/// Keeps a group from being ended until it is dropped.
pub(crate) struct Lease {
    held: Arc<Held>,
    group: GroupNumber,
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut counts = self.held.counts();
        if let Some(count) = counts.get_mut(&self.group) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.group);
            }
        }
        self.held.released.notify_all();
    }
}

/// What was wrapped under a group's key, to be stored: the group is not ended before [`Leased::stored`], or
/// before this is dropped.
#[must_use = "it is to be stored, and the group waits for that"]
pub struct Leased<T> {
    value: T,
    lease: Lease,
}

impl<T> Leased<T> {
    pub(crate) fn new(value: T, lease: Lease) -> Self {
        Self { value, lease }
    }

    /// The caller has stored it durably, in the mirror too where there is one: a round that wraps anew what is
    /// under the group finds it from here on.
    pub fn stored(self) -> T {
        drop(self.lease);
        self.value
    }

    /// What was made of it is what is to be stored.
    pub(crate) fn and_then<U, E>(
        self,
        make: impl FnOnce(T) -> Result<U, E>,
    ) -> Result<Leased<U>, E> {
        let Self { value, lease } = self;
        Ok(Leased { value: make(value)?, lease })
    }
}

impl<T> Deref for Leased<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: fmt::Debug> fmt::Debug for Leased<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Leased({:?})", self.value)
    }
}
