//! The file `CURRENT`, which names the MANIFEST that is in use. It has no checksum, and RocksDB takes a
//! folder without it for a new one.

use std::{fs, io::ErrorKind, path::Path};

use crate::store::{StoreError, files};

const FILE: &str = "CURRENT";
const MANIFEST: &str = "MANIFEST-";

/// Whether there is a database in a folder.
///
/// # Errors
/// Its pointer is lost, or names no MANIFEST that is there.
pub(super) fn has_database(path: &Path) -> Result<bool, StoreError> {
    let content = match fs::read(path.join(FILE)) {
        Ok(content) => content,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return match manifests(path)?.is_empty() {
                true => Ok(false),
                false => Err(StoreError::PointerLost(path.to_owned())),
            };
        }
        Err(error) => return Err(StoreError::Io(format!("{}: {error}", path.display()))),
    };
    let name = std::str::from_utf8(&content).ok().and_then(|text| text.strip_suffix('\n'));
    let name = name.filter(|name| is_manifest(name));
    match name {
        Some(name) if path.join(name).is_file() => Ok(true),
        _ => {
            let named = name.map_or("no MANIFEST", |name| name);
            let there = match &manifests(path)?[..] {
                [] => "none".to_owned(),
                [one] => format!(
                    "{one} only: write that name and a line feed into {FILE}, and check the store again"
                ),
                many => many.join(", "),
            };
            Err(files::damaged(FILE, format!("names {named}; in the folder there is {there}")))
        }
    }
}

/// Names of the files that are a MANIFEST, ascending.
fn manifests(path: &Path) -> Result<Vec<String>, StoreError> {
    let Ok(entries) = fs::read_dir(path) else { return Ok(Vec::new()) };
    let failed = |error: std::io::Error| StoreError::Io(format!("{}: {error}", path.display()));
    let mut found = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
        if is_manifest(&name) {
            found.push(name);
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// `MANIFEST-` and a number.
pub(super) fn is_manifest(name: &str) -> bool {
    let number = name.strip_prefix(MANIFEST);
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}
