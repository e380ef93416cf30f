//! Where tests break off the writing of a pair, as a crash or a full disk would.

use std::{
    cell::RefCell,
    io,
    path::{Path, PathBuf},
};

thread_local! {
    /// The step that fails on this thread, in this directory or those in it.
    static AT: RefCell<Option<(PathBuf, u8)>> = const { RefCell::new(None) };
}

pub(super) fn reach(directory: &Path, step: u8) -> io::Result<()> {
    AT.with_borrow(|at| match at {
        Some((target, number)) if *number == step && directory.starts_with(target) => {
            Err(io::Error::other("broken off"))
        }
        _ => Ok(()),
    })
}

/// Does something of which the writing breaks off at a step, wherever.
pub(crate) fn broken_off<T>(step: u8, work: impl FnOnce() -> T) -> T {
    broken_off_in(Path::new("/"), step, work)
}

/// Does something of which the writing breaks off at a step in a directory.
pub(crate) fn broken_off_in<T>(target: &Path, step: u8, work: impl FnOnce() -> T) -> T {
    AT.set(Some((target.to_owned(), step)));
    let answer = work();
    AT.set(None);
    answer
}
