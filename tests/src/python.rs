//! The programs in Python of `tests/python`.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::LazyLock,
};

use customhouse_ledger::merkle::leaf_hash;

/// A Python with the packages of `requirements.txt`, made once for each content of that file.
static INTERPRETER: LazyLock<PathBuf> = LazyLock::new(|| {
    let requirements = dir().join("requirements.txt");
    let wanted = fs::read(&requirements).expect("it is beside the programs");
    let home = || PathBuf::from(env::var_os("HOME").expect("a home directory")).join(".cache");
    let cache = env::var_os("XDG_CACHE_HOME").map_or_else(home, PathBuf::from).join("customhouse");
    let dir = cache.join(format!("venv-{}", leaf_hash(&wanted).short()));
    let python = dir.join("bin/python");
    let complete = dir.join("complete");
    if !complete.exists() {
        // What an interrupted installation left is of no use.
        succeeded(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&dir));
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"];
        succeeded(Command::new(&python).args(pip).arg(&requirements));
        fs::write(&complete, "").expect("the directory was just made");
    }
    python
});

fn dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("python")
}

/// A program of that folder, to be given arguments.
pub fn program(name: &str) -> Command {
    let mut command = Command::new(&*INTERPRETER);
    // No file in the sources' folder.
    command.arg("-B").arg(dir().join(name));
    command
}

/// Runs a command to its end, whatever that is.
pub fn output(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// Runs a command to its end, which must be a success, and gives what it printed.
pub fn succeeded(command: &mut Command) -> String {
    let output = output(command);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{stdout}\n{stderr}", output.status);
    stdout
}
