//! Sources that are attachments, found among files by their roots: `audit verify --source-files`.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use customhouse_formats::{Found, ImportError, message_file, wco_paths};
use customhouse_ledger::{attachment::AttachmentBuilder, hash::Hash};
use customhouse_proto::v1;
use serde::Serialize;

/// The files that were named, by the roots of their content.
#[derive(Default)]
pub(super) struct SourceFiles {
    by_root: BTreeMap<Hash, PathBuf>,
    unreadable: Vec<ImportError>,
    /// Files that are not looked at, because of their names, and directories behind links.
    left_out: usize,
}

impl SourceFiles {
    /// Reads the files named, and those named `*.xml` in the directories named, at any depth: what `submit wco`
    /// takes. Files that no source can be, as they are too large, have roots that no source has.
    pub(super) fn read(paths: &[PathBuf]) -> Self {
        let Found { files, unreadable, skipped, other_files } = wco_paths(paths);
        let mut read =
            Self { unreadable, left_out: skipped.len() + other_files, ..Self::default() };
        for path in files {
            match message_file(&path) {
                Ok((_, content)) => {
                    read.by_root.insert(root_of(&content), path);
                }
                Err(error) => read.unreadable.push(error),
            }
        }
        read
    }

    /// The content of an attachment, where one of the files is it, now as when its root was taken.
    pub(super) fn content(&self, attachment: &v1::Attachment) -> Option<Vec<u8>> {
        let root = Hash::from_slice(&attachment.root).ok()?;
        let (_, content) = message_file(self.by_root.get(&root)?).ok()?;
        (root_of(&content) == root).then_some(content)
    }

    /// Whether some of what was named could not be read.
    pub(super) fn is_partly_unread(&self) -> bool {
        !self.unreadable.is_empty()
    }

    /// What is said of them, where any were named.
    pub(super) fn view(&self) -> Option<SourceFilesView> {
        let unreadable: Vec<_> = self.unreadable.iter().map(ToString::to_string).collect();
        let view =
            SourceFilesView { read: self.by_root.len(), unreadable, left_out: self.left_out };
        (view.read + view.unreadable.len() + view.left_out > 0).then_some(view)
    }
}

fn root_of(content: &[u8]) -> Hash {
    let mut builder = AttachmentBuilder::default();
    builder.push(content);
    builder.finish().0
}

/// Which files were looked at.
#[derive(Serialize)]
pub(super) struct SourceFilesView {
    /// Files of different content.
    read: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unreadable: Vec<String>,
    left_out: usize,
}

impl fmt::Display for SourceFilesView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for error in &self.unreadable {
            writeln!(f, "not read: {}", crate::output::one_line(error))?;
        }
        write!(f, "sources were looked for in {} files", self.read)?;
        match self.left_out {
            0 => Ok(()),
            others => write!(f, ", not in {others} others, which are not named *.xml"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn attachment(content: &[u8]) -> v1::Attachment {
        v1::Attachment { root: root_of(content).0.to_vec(), ..Default::default() }
    }

    #[test]
    fn a_source_is_found_by_its_root_and_what_is_not_looked_at_is_counted() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        fs::create_dir(at("deeper")).expect("made");
        let long = vec![b'x'; 300_000];
        for (name, content) in [("a.xml", &b"one"[..]), ("deeper/b.XML", &long), ("c.txt", b"c")] {
            fs::write(at(name), content).expect("written");
        }
        let paths = [directory.path().to_owned(), at("absent.xml")];
        let files = SourceFiles::read(&paths);
        assert_eq!(files.content(&attachment(b"one")).as_deref(), Some(&b"one"[..]));
        assert_eq!(files.content(&attachment(&long)), Some(long));
        assert_eq!(files.content(&attachment(b"c")), None, "of another name");
        assert!(files.is_partly_unread());
        let said = files.view().expect("files").to_string();
        assert!(said.contains("in 2 files, not in 1 others"), "{said}");
        assert!(said.contains("not read: ") && said.contains("absent.xml"), "{said}");
        fs::write(at("a.xml"), "two").expect("written");
        assert_eq!(files.content(&attachment(b"one")), None, "it has changed meanwhile");
        assert!(SourceFiles::read(&[]).view().is_none());
    }
}
