//! One node as a child process.

use std::{
    fs::{self, File, OpenOptions},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

use crate::{program, wait};

/// Lines of a log that are shown when a test fails.
const TAIL_LINES: usize = 40;

/// A node's process, running or not. Its log goes on across restarts.
pub(crate) struct NodeProcess {
    config: PathBuf,
    log: PathBuf,
    child: Option<Child>,
    /// Whether a write above a limit is an error to it and not its end.
    survives_full_disk: bool,
}

impl NodeProcess {
    pub(crate) fn new(config: &Path, log: PathBuf) -> Self {
        Self { config: config.to_owned(), log, child: None, survives_full_disk: false }
    }

    /// Starts it. Its standard input is a pipe from this process: it stops when the test does,
    /// however the test ends.
    pub(crate) fn start(&mut self) {
        assert!(self.child.is_none(), "{:?} runs already", self.config);
        self.child = Some(spawn(&self.config, self.log_file(), self.survives_full_disk));
    }

    /// Has it started so that a file at its limit is told to it as a full disk would be, instead of
    /// by a signal.
    pub(crate) fn survive_full_disk(&mut self) {
        self.survives_full_disk = true;
    }

    fn log_file(&self) -> File {
        let log = OpenOptions::new().create(true).append(true).open(&self.log);
        log.expect("the log is in the cluster's own directory")
    }

    pub(crate) fn is_started(&self) -> bool {
        self.child.is_some()
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// How it ended, where it did by itself.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        let child = self.child.as_mut()?;
        child.try_wait().expect("a child can be waited for")
    }

    /// SIGKILL: nothing is written, nothing is said.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("a child can be killed");
        child.wait().expect("a child can be waited for");
    }

    /// SIGTERM, and waits for the end.
    pub(crate) async fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.exit().await
    }

    /// Sends a signal by its name.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status().expect("`kill` runs");
        assert!(sent.success(), "SIG{name} to {id}: {sent}");
    }

    /// Waits for it to end by itself.
    pub(crate) async fn exit(&mut self) -> ExitStatus {
        let status = wait::until("the node ends", wait::PATIENCE, async || {
            self.ended().ok_or_else(|| self.tail())
        })
        .await;
        self.child = None;
        status
    }

    /// The whole log.
    pub(crate) fn log(&self) -> String {
        fs::read(&self.log)
            .map(|log| String::from_utf8_lossy(&log).into_owned())
            .unwrap_or_default()
    }

    /// Its end.
    pub(crate) fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let from = lines.len().saturating_sub(TAIL_LINES);
        format!("{}\n{}", self.log.display(), lines[from..].join("\n"))
    }
}

fn spawn(config: &Path, log: File, survives_full_disk: bool) -> Child {
    let mut command = if survives_full_disk {
        // What ignores a signal passes that on to what it becomes.
        let mut shell = Command::new("sh");
        shell.args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"]).arg(program::path());
        shell
    } else {
        Command::new(program::path())
    };
    command
        .args(["node", "run", "--stop-with-stdin", "--config"])
        .arg(config)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("the program starts")
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
    }
}
