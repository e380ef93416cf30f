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
}

impl NodeProcess {
    pub(crate) fn new(config: &Path, log: PathBuf) -> Self {
        Self { config: config.to_owned(), log, child: None }
    }

    /// Starts it. Its standard input is a pipe from this process: it stops when the test does,
    /// however the test ends.
    pub(crate) fn start(&mut self) {
        assert!(self.child.is_none(), "{:?} runs already", self.config);
        self.child = Some(spawn(&self.config, self.log_file()));
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
        let id = self.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &id]).status().expect("`kill` runs");
        assert!(sent.success(), "SIGTERM to {id}: {sent}");
        self.exit().await
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

fn spawn(config: &Path, log: File) -> Child {
    Command::new(program::path())
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
