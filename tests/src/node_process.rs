//! One node as a child process.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, PipeReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

use crate::{program, wait};

/// What a pipe of Linux holds.
const PIPE_BYTES: usize = 64 * 1024;
/// Lines of a log that are shown when a test fails.
const TAIL_LINES: usize = 40;

/// What a node's process finds when it starts.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// Whether a write above a limit is an error to it and not its end.
    pub survives_full_disk: bool,
    /// Descriptors that it may open, which it cannot raise.
    pub descriptors_max: Option<u64>,
    /// Descriptors that it may open until it raises that.
    pub descriptors_at_first: Option<u64>,
    /// What its standard error is.
    pub standard_error: StandardError,
    /// More variables of its environment.
    pub variables: Vec<(&'static str, PathBuf)>,
}

/// What a node's standard error is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StandardError {
    /// A file, which a test can read.
    #[default]
    Log,
    /// A device that is full.
    Full,
    /// A pipe that is full, and that nobody reads.
    Pipe,
}

/// A node's process, running or not. Its log goes on across restarts.
pub(crate) struct NodeProcess {
    config: PathBuf,
    log: PathBuf,
    child: Option<Child>,
    /// The other end of its standard error, where that is a pipe.
    unread: Option<PipeReader>,
    pub(crate) surroundings: Surroundings,
}

impl NodeProcess {
    pub(crate) fn new(config: &Path, log: PathBuf) -> Self {
        let (config, surroundings) = (config.to_owned(), Surroundings::default());
        Self { config, log, child: None, unread: None, surroundings }
    }

    /// Starts it. Its standard input is a pipe from this process: it stops when the test does,
    /// however the test ends.
    pub(crate) fn start(&mut self) {
        assert!(self.child.is_none(), "{:?} runs already", self.config);
        let standard_error = match self.surroundings.standard_error {
            StandardError::Log => self.log_file().into(),
            StandardError::Full => {
                OpenOptions::new().write(true).open("/dev/full").expect("Linux has it").into()
            }
            StandardError::Pipe => {
                let (reader, mut writer) = io::pipe().expect("a pipe");
                writer.write_all(&[b'\n'; PIPE_BYTES]).expect("there is room for just so much");
                self.unread = Some(reader);
                writer.into()
            }
        };
        self.child = Some(spawn(&self.config, standard_error, &self.surroundings));
    }

    /// Closes the reader's end of its standard error.
    pub(crate) fn hang_up(&mut self) {
        drop(self.unread.take().expect("its standard error is a pipe"));
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

fn spawn(config: &Path, standard_error: Stdio, surroundings: &Surroundings) -> Child {
    // What a shell ignores or limits, it passes on to what it becomes.
    let mut script = String::new();
    if surroundings.survives_full_disk {
        script.push_str("trap '' XFSZ; ");
    }
    if let Some(count) = surroundings.descriptors_max {
        script.push_str(&format!("ulimit -n {count}; "));
    }
    if let Some(count) = surroundings.descriptors_at_first {
        script.push_str(&format!("ulimit -Sn {count}; "));
    }
    script.push_str("exec \"$@\"");
    Command::new("sh")
        .args(["-c", &script, "sh"])
        .arg(program::path())
        .args(["node", "run", "--stop-with-stdin", "--config"])
        .arg(config)
        .envs(surroundings.variables.iter().cloned())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(standard_error)
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
