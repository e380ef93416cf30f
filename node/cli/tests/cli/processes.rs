//! Processes that do not outlive their test, and the ports of those that are nodes.

use std::{
    net::TcpListener,
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

use crate::desk::Desk;

/// A port above which a network of up to four finds its ports free. Each call looks in a range of its own,
/// because tests run beside each other, and below those that the system gives away.
pub(crate) fn base_port() -> u16 {
    static CALLS: AtomicU16 = AtomicU16::new(0);
    let range = CALLS.fetch_add(1, Ordering::Relaxed) % 24 * 500;
    let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let offsets = [0, 1, 2, 3, 10, 11, 12, 13, 20, 21, 22, 23, 30, 31, 32, 33];
    let first = 20_000 + range + u16::try_from(std::process::id() % 4).expect("small") * 40;
    (0..8)
        .map(|step| first + step * 40)
        .find(|base| offsets.iter().all(|offset| free(base + offset)))
        .expect("free ports")
}

/// A process that is killed where a test fails before its end.
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().expect("the program runs"))
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn send(&self, signal: &str) {
        let id = self.id().to_string();
        let sent = Command::new("kill").args(["-s", signal, &id]).status().expect("`kill` runs");
        assert!(sent.success(), "{signal} to {id}: {sent}");
    }

    /// Waits for it to end by itself; how it did.
    pub(crate) fn wait(mut self) -> ExitStatus {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(status) = self.0.try_wait().expect("a child can be asked") {
                return status;
            }
            assert!(Instant::now() < deadline, "still running");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The nodes of a network stop by themselves when their supervisor is gone.
        let _killed = self.0.kill();
        let _ended = self.0.wait();
    }
}

/// A network in the directory `net` of a desk, that runs as long as this is held.
pub(crate) fn network(desk: &Desk, agencies: &str) -> Running {
    let new =
        format!("network new --agencies {agencies} --dir net --open --base-port {}", base_port());
    desk.run(&format!("{new} --history-bits 8")).exits(0);
    let network = Running::start(desk.command("network run --dir net"));
    desk.run("network status --dir net --wait 60").exits(0);
    network
}
