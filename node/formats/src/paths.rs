//! Which files of a folder are to be imported, and which are left out.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use customhouse_files::readfile;

use super::{
    error::{ImportError, shown, unreadable},
    imported::{SOURCE_BYTES_MAX, Skipped},
};

/// The deepest nesting of directories.
const DIRECTORY_DEPTH_MAX: usize = 32;

/// What paths lead to. Nothing that was named or found is left out without being in one of the lists.
#[derive(Debug, Default)]
pub struct Found {
    /// The files to import, sorted, without repeats.
    pub files: Vec<PathBuf>,
    /// Files and directories that could not be looked at; the others are not affected.
    pub unreadable: Vec<ImportError>,
    /// Links to directories, which are not followed.
    pub skipped: Vec<Skipped>,
    /// Files in directories that are not named `*.xml`.
    pub other_files: usize,
}

/// Finds the files to import: each path that is a file, and in each that is a directory all files
/// named `*.xml` in any letter case, at any depth, hidden ones too.
pub fn wco_paths(paths: &[PathBuf]) -> Found {
    let mut search = Search::default();
    for path in paths {
        match fs::metadata(path) {
            Ok(found) if found.is_dir() => search.directory(path, 0),
            Ok(_) => {
                search.files.insert(path.clone());
            }
            Err(error) => search.failed(path, &error),
        }
    }
    search.found.files = search.files.into_iter().collect();
    search.found
}

/// A message's file: its name for people, and its bytes. No more of them are read than one byte beyond
/// [`SOURCE_BYTES_MAX`], which no message has.
///
/// # Errors
/// It cannot be read.
pub fn message_file(path: &Path) -> Result<(String, Vec<u8>), ImportError> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(SOURCE_BYTES_MAX).unwrap_or(u64::MAX) + 1;
    readfile::open(path)
        .and_then(|file| file.take(limit).read_to_end(&mut bytes))
        .map_err(|error| unreadable(path, &error))?;
    Ok((shown(path), bytes))
}

#[derive(Default)]
struct Search {
    files: BTreeSet<PathBuf>,
    found: Found,
}

impl Search {
    fn directory(&mut self, directory: &Path, depth: usize) {
        if depth > DIRECTORY_DEPTH_MAX {
            let reason = format!("more than {DIRECTORY_DEPTH_MAX} directories deep");
            return self.failed(directory, &io::Error::other(reason));
        }
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) => return self.failed(directory, &error),
        };
        for entry in entries {
            let found = entry.and_then(|entry| Ok((entry.path(), entry.file_type()?)));
            match found {
                Ok((path, kind)) if kind.is_dir() => self.directory(&path, depth + 1),
                Ok((path, kind)) => self.file(path, kind.is_symlink()),
                Err(error) => self.failed(directory, &error),
            }
        }
    }

    /// A file, a link, or something that cannot be read as a file: reading it says which it is.
    fn file(&mut self, path: PathBuf, is_link: bool) {
        if is_link && path.is_dir() {
            let (label, root) = (shown(&path), "link".to_owned());
            let reason = "a link to a directory, which is not followed: name the directory itself";
            return self.found.skipped.push(Skipped { label, root, reason });
        }
        if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("xml")) {
            self.files.insert(path);
        } else {
            self.found.other_files += 1;
        }
    }

    fn failed(&mut self, path: &Path, error: &io::Error) {
        self.found.unreadable.push(unreadable(path, error));
    }
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};

    use super::*;
    use crate::{imported::Outcome, wco::wco_file};

    fn names(found: &Found, root: &Path) -> Vec<PathBuf> {
        let name = |file: &PathBuf| file.strip_prefix(root).ok().map(Path::to_owned);
        found.files.iter().filter_map(name).collect()
    }

    #[test]
    fn paths_are_found_at_any_depth_in_order_and_once() {
        let root = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(root.path().join("b/c")).expect("directories");
        for name in ["b/c/2.XML", "a.xml", "b/1.xml", "b/notes.txt", "b/.hidden.xml"] {
            fs::write(root.path().join(name), "<html/>").expect("a file");
        }
        let found = wco_paths(&[root.path().join("b/1.xml"), root.path().to_owned()]);
        let expected = ["a.xml", "b/.hidden.xml", "b/1.xml", "b/c/2.XML"].map(PathBuf::from);
        assert_eq!(names(&found, root.path()), expected);
        assert_eq!((found.unreadable.len(), found.other_files), (0, 1));
        assert!(matches!(wco_file(&found.files[0]), Ok(Outcome::Skipped(_))));
    }

    #[test]
    fn files_whose_names_are_no_utf_8_are_told_apart() {
        let root = tempfile::tempdir().expect("a directory");
        for name in [&b"a\xfe.xml"[..], b"a\xff.xml"] {
            let path = root.path().join(OsStr::from_bytes(name));
            fs::write(path, "<html/>").expect("a file");
        }
        let found = wco_paths(&[root.path().to_owned()]);
        let labels: Vec<_> = found.files.iter().map(|file| wco_file(file)).collect();
        for (outcome, end) in labels.iter().zip(["a\\xfe.xml", "a\\xff.xml"]) {
            let Ok(Outcome::Skipped(skipped)) = outcome else { panic!("{outcome:?}") };
            assert!(skipped.label.ends_with(end), "{}", skipped.label);
        }
    }

    #[test]
    fn what_cannot_be_read_is_named_and_the_rest_goes_on() {
        let root = tempfile::tempdir().expect("a directory");
        let at = |name: &str| root.path().join(name);
        fs::create_dir_all(at("deep/".repeat(DIRECTORY_DEPTH_MAX + 2).as_str()))
            .expect("directories");
        fs::create_dir(at("elsewhere")).expect("a directory");
        fs::write(at("good.xml"), "<html/>").expect("a file");
        std::os::unix::fs::symlink(at("nothing"), at(".#lost.xml")).expect("a link");
        std::os::unix::fs::symlink(at("elsewhere"), at("linked")).expect("a link");
        let found = wco_paths(&[at("absent"), root.path().to_owned()]);
        assert_eq!(names(&found, root.path()), [".#lost.xml", "good.xml"].map(PathBuf::from));
        let unreadable: Vec<_> = found.unreadable.iter().map(ToString::to_string).collect();
        let [absent, deep] = &unreadable[..] else { panic!("{unreadable:?}") };
        assert!(absent.contains("absent: "), "{absent}");
        assert!(deep.contains("32 directories deep"), "{deep}");
        assert!(found.skipped[0].label.ends_with("linked"), "{:?}", found.skipped);
        assert!(matches!(wco_file(&found.files[0]), Err(ImportError::Read { .. })));
    }
}
