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

    /// Lines of code that is not for tests, without comments.
    pub(crate) fn shipped_code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code(false)
    }

    /// Lines that run in tests only, without comments.
    pub(crate) fn test_code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code(true)
    }

    fn code(&self, for_tests: bool) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.lines().zip(self.is_for_tests());
        lines
            .filter(move |(_, is_for_tests)| *is_for_tests == for_tests)
            .map(|((number, line), _)| (number, line.split("//").next().unwrap_or(line)))
    }

    /// For each line, whether it belongs to an item under `#[cfg(test)]` at the left margin. Such
    /// an item ends with its first line where that has no body, else with the brace that rustfmt
    /// puts at the left margin.
    fn is_for_tests(&self) -> Vec<bool> {
        let mut marks = Vec::new();
        // Inside an item under the attribute, and whether its body has begun.
        let mut item: Option<bool> = None;
        for line in self.text.lines() {
            if line == "#[cfg(test)]" {
                item = item.or(Some(false));
            }
            marks.push(self.is_test() || item.is_some());
            match item {
                Some(false) if line.ends_with(';') => item = None,
                Some(false) if line.ends_with('{') => item = Some(true),
                Some(true) if line.starts_with('}') => item = None,
                _ => {}
            }
        }
        marks
    }

    /// Whether the whole file is for tests.
    fn is_test(&self) -> bool {
        // What measures is not a test.
        let harness = self.path.starts_with("tests/") && !self.path.contains("/bin/");
        harness
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
