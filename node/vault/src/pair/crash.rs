//! Where tests break off the writing of a pair, as a crash or a full disk would.

use std::{cell::Cell, io};

thread_local! {
    /// The step that fails on this thread.
    static AT: Cell<Option<u8>> = const { Cell::new(None) };
}

pub(super) fn reach(step: u8) -> io::Result<()> {
    match AT.get() == Some(step) {
        true => Err(io::Error::other("broken off")),
        false => Ok(()),
    }
}

/// Does something of which the writing breaks off at a step.
pub(crate) fn broken_off<T>(step: u8, work: impl FnOnce() -> T) -> T {
    AT.set(Some(step));
    let answer = work();
    AT.set(None);
    answer
}
