//! The `customhouse` program that the tests run.

use std::{
    env,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
    time::SystemTime,
};

/// Names another program than the one that cargo built.
const VARIABLE: &str = "CUSTOMHOUSE_BIN";
/// Builds it.
const BUILD: &str = "cargo build --release --workspace";

/// The program's path.
///
/// # Panics
/// Where it was not built, or is older than a source that it is made of.
pub fn path() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| match env::var_os(VARIABLE) {
        Some(path) => PathBuf::from(path),
        None => {
            // target/release/deps/test-… → target/release/customhouse
            let test = env::current_exe().expect("a running test has a path");
            let dir = test.ancestors().nth(2).expect("tests are in target/PROFILE/deps");
            let program = dir.join("customhouse");
            if let Err(reason) = is_fresh(&program, &dir.join("customhouse.d")) {
                panic!("{reason}. Run: {BUILD}   (or set {VARIABLE})");
            }
            program
        }
    })
}

/// Whether the program is newer than every source in the list that cargo wrote beside it.
fn is_fresh(program: &Path, sources: &Path) -> Result<(), String> {
    let built = modified(program)?;
    let list = fs::read_to_string(sources).map_err(|error| format!("{sources:?}: {error}"))?;
    for source in listed(&list) {
        if modified(&source)? > built {
            return Err(format!("{source:?} is newer than {program:?}"));
        }
    }
    Ok(())
}

fn modified(path: &Path) -> Result<SystemTime, String> {
    let metadata = fs::metadata(path).and_then(|metadata| metadata.modified());
    metadata.map_err(|error| format!("{path:?}: {error}"))
}

/// The files after the colon of a makefile's rule; a space in a name has a backslash before it.
fn listed(rule: &str) -> Vec<PathBuf> {
    let (_, files) = rule.split_once(": ").unwrap_or_default();
    let mut names = vec![String::new()];
    let mut characters = files.trim_end().chars();
    while let Some(character) = characters.next() {
        let name = names.last_mut().expect("there is always one");
        match character {
            '\\' => name.extend(characters.next()),
            ' ' => names.push(String::new()),
            character => name.push(character),
        }
    }
    names.into_iter().filter(|name| !name.is_empty()).map(PathBuf::from).collect()
}

/// What a command of the program came to.
#[derive(Debug)]
pub struct Answer {
    /// Exit code; `None` where a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: String,
}

impl Answer {
    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard output as JSON.
    ///
    /// # Panics
    /// Where it is not JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.stdout)
            .unwrap_or_else(|error| panic!("no JSON ({error}): {self:?}"))
    }

    /// The same answer, where the exit code was this one.
    ///
    /// # Panics
    /// Where it was another.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout: {}\nstderr: {}", self.text(), self.stderr);
        self
    }
}

/// Runs a command to its end.
///
/// # Panics
/// Where the program cannot be started.
pub fn run<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Answer {
    let output = Command::new(path())
        .args(arguments)
        .env_remove("CUSTOMHOUSE_PROFILE")
        .stdin(Stdio::null())
        .output()
        .expect("the program starts");
    Answer {
        code: output.status.code(),
        stdout: output.stdout,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_program_older_than_its_sources_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = |name: &str| dir.path().join(name);
        let (program, list, source) = (file("customhouse"), file("list.d"), file("a b.rs"));
        let rule = format!("{}: {}\n", program.display(), source.display());
        fs::write(&list, rule.replace("a b.rs", "a\\ b.rs")).expect("writable");
        assert!(is_fresh(&program, &list).expect_err("not built").contains("customhouse"));
        fs::write(&program, "").expect("writable");
        assert!(is_fresh(&program, &list).expect_err("a source is gone").contains("a b.rs"));
        let source_at = |time: SystemTime| {
            let file = fs::File::create(&source).expect("writable");
            file.set_modified(time).expect("settable");
        };
        let built = modified(&program).expect("it exists");
        source_at(built - Duration::from_secs(1));
        assert_eq!(is_fresh(&program, &list), Ok(()));
        source_at(built + Duration::from_secs(1));
        assert!(is_fresh(&program, &list).expect_err("older").contains("is newer than"));
    }
}
