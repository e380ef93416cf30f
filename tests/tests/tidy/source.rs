//! The workspace's own text files.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A file.
pub(crate) struct Source {
    /// From the workspace's root, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Source {
    /// Numbered from 1.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }

    /// Lines of code that is not for tests, without comments. What follows `#[cfg(test)]` at the
    /// left margin is a test module or its declaration.
    pub(crate) fn shipped_code(&self) -> impl Iterator<Item = (usize, &str)> {
        let all = if self.is_test() { 0 } else { usize::MAX };
        let shipped = self.text.lines().position(|line| line == "#[cfg(test)]").unwrap_or(all);
        let lines = self.lines().take(shipped.min(all));
        lines.map(|(number, line)| (number, line.split("//").next().unwrap_or(line)))
    }

    /// Lines that run in tests only.
    pub(crate) fn test_code(&self) -> impl Iterator<Item = (usize, &str)> {
        let shipped = self.shipped_code().count();
        let lines = self.lines().skip(shipped);
        lines.map(|(number, line)| (number, line.split("//").next().unwrap_or(line)))
    }

    /// Whether the whole file is for tests.
    fn is_test(&self) -> bool {
        self.path.starts_with("tests/")
            || self.path.contains("/tests/")
            || self.path.ends_with("/tests.rs")
            || self.path.ends_with("_tests.rs")
    }
}

/// The workspace's root.
pub(crate) fn workspace() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("tests/ is in the workspace").to_owned()
}

/// Every text file that belongs to the project.
pub(crate) fn sources() -> Vec<Source> {
    let root = workspace();
    let mut found = Vec::new();
    visit(&root, &root, &mut found);
    assert!(found.len() > 20, "the workspace is at {}", root.display());
    found
}

fn visit(root: &Path, directory: &Path, found: &mut Vec<Source>) {
    let entries = fs::read_dir(directory).expect("the workspace is readable");
    for entry in entries {
        let path = entry.expect("the workspace is readable").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if matches!(&*name, ".git" | "target" | "Cargo.lock" | "__pycache__" | "venv" | ".venv") {
            continue;
        }
        if path.is_dir() {
            visit(root, &path, found);
        } else if let Ok(text) = fs::read_to_string(&path) {
            let path = path.strip_prefix(root).expect("below the root").to_string_lossy();
            found.push(Source { path: path.into_owned(), text });
        }
    }
}
