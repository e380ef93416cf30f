//! Certified headers as auditors keep them: in memory, and in a file.

use std::{io, path::Path};

use anyhow::Context as _;
use customhouse_files::{newfile, readfile};
use customhouse_ledger::{
    finality::header::Header,
    hash::Hash,
    proofs::verifier::{FinalityError, Verifier},
};
use serde::{Deserialize, Serialize};

use crate::{invalid_file::InvalidFile, time, verdict::Verdict};

/// Most bytes of a saved head: with 256 validators a certificate has 16 KiB, twice that in
/// hexadecimal.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Code of a file that is not a saved head, or contradicts itself.
const CODE: &str = "SAVED_HEAD";

/// A header that a quorum finalized, by a verifier's word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certified {
    /// What is certified.
    pub header: Header,
    /// What certifies it, encoded.
    pub certificate: Vec<u8>,
    /// How many validators signed; 0 for the header that follows from the genesis.
    pub signers: usize,
}

impl Certified {
    /// Checks a header and its certificate, which is empty at height 0.
    pub fn check(
        header: &[u8],
        certificate: Vec<u8>,
        verifier: &Verifier,
    ) -> Result<Self, FinalityError> {
        let (header, signers) = verifier.verify_final(header, &certificate)?;
        Ok(Self { header, certificate, signers: signers.len() })
    }
}

/// A head as it is saved: what is certified, and what people want to read of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedHead {
    height: u64,
    time_ms: u64,
    log_size: u64,
    log_root: Hash,
    /// The header's bytes; the fields above only repeat them.
    #[serde(with = "hexadecimal")]
    header: Vec<u8>,
    #[serde(with = "hexadecimal")]
    certificate: Vec<u8>,
}

impl SavedHead {
    /// The saved head of a certified header.
    pub fn of(head: &Certified) -> Self {
        let Header { height, time_ms, log_size, log_root, .. } = head.header;
        let (header, certificate) = (head.header.encode(), head.certificate.clone());
        Self { height, time_ms, log_size, log_root, header, certificate }
    }

    /// `None` where there is no file.
    pub fn read(path: &Path) -> anyhow::Result<Option<Self>> {
        let name = || path.display().to_string();
        let text = match readfile::text(path, HEAD_BYTES_MAX) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.map_err(|error| InvalidFile::or_unread(error, CODE)).with_context(name)?,
        };
        let invalid = |error| InvalidFile { code: CODE, reason: format!("no saved head: {error}") };
        serde_json::from_str(&text).map_err(invalid).with_context(name).map(Some)
    }

    /// Writes it, in the place of the one that has this name. A file that is not a saved head stays.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let name = || path.display().to_string();
        let text = serde_json::to_string_pretty(self)? + "\n";
        let place = match Self::read(path)? {
            // Where a link leads.
            Some(_) => path.canonicalize().with_context(name)?,
            None => return newfile::write(path, text.as_bytes(), 0o644).with_context(name),
        };
        newfile::replace(&place, text.as_bytes(), 0o644).with_context(name)
    }

    /// The head, if it is certified and says of itself what its header does.
    pub fn certified(&self, verifier: &Verifier) -> Result<Certified, SavedHeadError> {
        let head = Certified::check(&self.header, self.certificate.clone(), verifier)?;
        if Self::of(&head) == *self { Ok(head) } else { Err(SavedHeadError::Fields) }
    }
}

/// Why a saved head is not taken.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SavedHeadError {
    #[error("not a certified head: {}: {_0}", _0.code())]
    /// Its certificate does not certify its header.
    Finality(#[from] FinalityError),
    #[error("{CODE}: its fields are not those of its header")]
    /// What it says beside the header is not what the header says.
    Fields,
}

impl SavedHeadError {
    /// What it comes to.
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Finality(error) => Verdict::of_finality(error),
            Self::Fields => Verdict::Invalid,
        }
    }
}

/// The header of a head that was saved, if it is certified.
pub fn saved_header(path: &Path, verifier: &Verifier) -> anyhow::Result<Header> {
    let name = || path.display().to_string();
    let saved = SavedHead::read(path)?.context("there is no such file").with_context(name)?;
    let certified = saved.certified(verifier).map_err(|why| anyhow::anyhow!("{why}"));
    Ok(certified.with_context(name)?.header)
}

/// A head's place, for answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct HeadPlace {
    height: u64,
    time_ms: u64,
    log_size: u64,
}

impl HeadPlace {
    /// Height of the block.
    pub fn height(self) -> u64 {
        self.height
    }

    /// The place of a header.
    pub fn of(header: &Header) -> Self {
        let &Header { height, time_ms, log_size, .. } = header;
        Self { height, time_ms, log_size }
    }
}

impl std::fmt::Display for HeadPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { height, time_ms, log_size } = self;
        write!(f, "height {height}, {log_size} transactions, {}", time::shown(*time_ms))
    }
}

/// Bytes as hexadecimal text in JSON.
pub mod hexadecimal {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    /// As a string.
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&hex::encode(bytes))
    }

    /// From a string.
    ///
    /// # Errors
    /// Text that is not hexadecimal.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        hex::decode(String::deserialize(from)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use customhouse_ledger::registry::genesis::Genesis;

    use super::*;
    use crate::samples::genesis;

    fn head(genesis: &Genesis) -> SavedHead {
        let header = genesis.header();
        SavedHead::of(&Certified { header, certificate: vec![], signers: 0 })
    }

    #[test]
    fn a_head_survives_its_file_and_another_takes_its_place() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a.head");
        assert_eq!(SavedHead::read(&path).expect("no error"), None);
        let first = head(&genesis());
        first.write(&path).expect("written");
        assert_eq!(SavedHead::read(&path).expect("readable"), Some(first.clone()));
        let second = SavedHead { certificate: vec![4], ..first };
        second.write(&path).expect("replaced");
        assert_eq!(SavedHead::read(&path).expect("readable"), Some(second));
        assert_eq!(std::fs::read_dir(directory.path()).expect("there").count(), 1);
    }

    #[test]
    fn what_is_no_head_is_never_replaced_and_a_link_to_one_stays_a_link() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name);
        let head = head(&genesis());
        std::fs::write(path("a.key"), "{\"seed\": 1}").expect("written");
        std::os::unix::fs::symlink(path("nothing"), path("dangling")).expect("made");
        for name in ["a.key", "dangling"] {
            let error = head.write(&path(name)).expect_err("refused");
            assert!(error.to_string().contains(name), "{error:#}");
        }
        assert_eq!(std::fs::read(path("a.key")).expect("there"), b"{\"seed\": 1}");
        assert!(!path("nothing").exists());
        head.write(&path("a.head")).expect("new");
        std::os::unix::fs::symlink(path("a.head"), path("link")).expect("made");
        let second = SavedHead { certificate: vec![4], ..head };
        second.write(&path("link")).expect("replaced");
        assert!(path("link").is_symlink());
        assert_eq!(SavedHead::read(&path("a.head")).expect("readable"), Some(second));
    }

    #[test]
    fn what_is_no_head_is_refused_with_the_files_name() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a.head");
        for text in ["", "{}", "[1]", "{\"height\": 1}"] {
            std::fs::write(&path, text).expect("written");
            let error = SavedHead::read(&path).expect_err("refused");
            assert!(error.to_string().contains("a.head"), "{error:#}");
        }
    }

    #[test]
    fn a_head_whose_fields_were_changed_is_not_taken() {
        let genesis = genesis();
        let (verifier, saved) = (Verifier::new(&genesis), head(&genesis));
        assert_eq!(saved.certified(&verifier).map(|head| head.signers), Ok(0));
        let changed = SavedHead { log_size: 1, ..saved.clone() };
        assert_eq!(changed.certified(&verifier), Err(SavedHeadError::Fields));
        let unsigned = SavedHead { certificate: vec![1], ..saved };
        let error = unsigned.certified(&verifier).expect_err("refused");
        assert_eq!(error.verdict(), Verdict::Invalid);
    }
}
