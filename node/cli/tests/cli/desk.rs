//! A directory to work in, and the program, run there.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

/// The program.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_customhouse");

/// A directory to work in.
pub(crate) struct Desk {
    dir: TempDir,
}

/// What a command did.
pub(crate) struct Answer {
    arguments: Vec<String>,
    pub(crate) code: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Desk {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a directory") }
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: impl AsRef<Path>, bytes: impl AsRef<[u8]>) {
        fs::write(self.path(name), bytes).expect("written");
    }

    pub(crate) fn read(&self, name: impl AsRef<Path>) -> String {
        fs::read_to_string(self.path(name)).expect("there")
    }

    /// A file that is larger than anything is allowed to be, and takes no space.
    pub(crate) fn write_large(&self, name: &str) {
        let file = fs::File::create(self.path(name));
        file.and_then(|file| file.set_len(1 << 40)).expect("a sparse file");
    }

    /// The program with arguments that have no spaces, not yet run.
    pub(crate) fn command(&self, arguments: &str) -> Command {
        let mut command = program_in(self.dir(), PROGRAM);
        command.args(arguments.split_whitespace());
        command
    }

    /// Runs the program with arguments that have no spaces.
    pub(crate) fn run(&self, arguments: &str) -> Answer {
        Answer::of(&mut self.command(arguments))
    }

    /// Runs it again and again until it exits with this code.
    #[track_caller]
    pub(crate) fn wait_for(&self, arguments: &str, code: i32) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let answer = self.run(arguments);
            if answer.code == code {
                return;
            }
            assert!(Instant::now() < deadline, "{arguments}: {}", answer.said());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The same, with any arguments.
    pub(crate) fn call<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Answer {
        Answer::of(program_in(self.dir(), PROGRAM).args(arguments))
    }

    /// The one document on standard output of a command with this exit code.
    #[track_caller]
    pub(crate) fn json(&self, arguments: &str, code: i32) -> Value {
        self.run(&format!("--output json {arguments}")).exits(code).json()
    }
}

/// A program in a directory, whatever the profile of whoever runs the tests.
pub(crate) fn program_in(dir: &Path, program: &str) -> Command {
    let mut command = Command::new(program);
    command.current_dir(dir).env_remove("CUSTOMHOUSE_PROFILE");
    command
}

impl Answer {
    /// Runs a command to its end.
    pub(crate) fn of(command: &mut Command) -> Self {
        let output = command.output().expect("the program runs");
        Self {
            arguments: command.get_args().map(|a| a.to_string_lossy().into_owned()).collect(),
            code: output.status.code().expect("not killed"),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The exit code must be this one.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        let said = self.said();
        assert_eq!(self.code, code, "{}: {said}", self.arguments.join(" "));
        self
    }

    /// What is on standard output.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// What is on both outputs.
    pub(crate) fn said(&self) -> String {
        self.text() + &self.stderr
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        let document = serde_json::from_slice(&self.stdout);
        document.unwrap_or_else(|error| panic!("{:?}: {error}: {}", self.arguments, self.said()))
    }
}

/// The samples that the project ships.
pub(crate) fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/samples")
}

/// A published vector.
pub(crate) fn vector(name: &str) -> Value {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/vectors").join(name);
    serde_json::from_str(&fs::read_to_string(file).expect("a published vector")).expect("JSON")
}
