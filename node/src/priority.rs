//! Which threads go first where there are more of them than processors.
//!
//! A block takes a dozen turns of threads: the proposal, the votes and the commit each wait for the one before.
//! Checks of signatures, calls of clients and the outbox never wait for each other, are far more, and take
//! each its slice of a processor. Beside them each turn of consensus waited for one slice or several: at
//! half load a block took five times as long as on an idle node, and records wait for blocks.
//!
//! So these threads have a higher niceness than those of consensus and of its network. Only a little: where
//! the load is above what the processors carry, consensus that always goes first makes many small blocks, and
//! what these cost is lost to records. At ten steps that was a fifth of all, at five a tenth, at three at
//! most a twenty-fifth, at two it cannot be measured.

use std::cell::Cell;

/// Steps of niceness, each worth about a fifth of a thread's share of a processor that others want too.
const STEPS: i32 = 2;

thread_local! {
    static IS_NICE: Cell<bool> = const { Cell::new(false) };
}

/// From now on the threads of consensus go before this one. Where the system refuses, they do not.
pub(crate) fn let_consensus_go_first() {
    // Elsewhere it is the whole process that would become nice.
    if cfg!(target_os = "linux") && !IS_NICE.replace(true) {
        let own = rustix::process::getpriority_process(None).unwrap_or(0);
        let _refused = rustix::process::setpriority_process(None, own + STEPS);
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::thread;

    use rustix::process::getpriority_process;

    use super::*;

    #[test]
    fn a_thread_is_nicer_once_and_the_others_stay_as_they_are() {
        let nice = || getpriority_process(None).expect("it is told");
        let before = nice();
        let after = thread::spawn(move || {
            let_consensus_go_first();
            let_consensus_go_first();
            nice()
        });
        // The system has no more than 19.
        assert_eq!(after.join().expect("no panic"), (before + STEPS).min(19));
        assert_eq!(nice(), before);
    }
}
