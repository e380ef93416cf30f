//! Proofs as text (C2SP `tlog-proof`): that an entry is in the log of a checkpoint.
//!
//! ```text
//! c2sp.org/tlog-proof@v1
//! extra <base64>                    may be missing
//! index <decimal>
//! <base64 of 32 bytes>              the RFC 6962 path, from the leaf up; may be empty
//!
//! <the checkpoint, a signed note>
//! ```

use super::{decimal, decode_base64, encode_base64, hash_from_base64};
use crate::{hash::Hash, limits::TLOG_PROOF_BYTES_MAX};

/// How such files are named: `.tlog-proof` at the end.
pub const EXTENSION: &str = "tlog-proof";

const VERSION: &str = "c2sp.org/tlog-proof@v1";
const EXTRA: &str = "extra ";
const INDEX: &str = "index ";
/// As many hashes as a path in a log of 2^64 leaves has.
const PATH_MAX: usize = 64;

/// Why a text is not a proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("tlog-proof: {0}")]
pub struct ProofTextError(&'static str);

/// A proof whose form is right; nothing of it is checked yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlogProof {
    /// Opaque data of the application, which nothing authenticates.
    pub extra: Option<Vec<u8>>,
    /// Of the entry in the log.
    pub index: u64,
    /// The inclusion path, from the leaf's sibling up.
    pub path: Vec<Hash>,
    /// The checkpoint, a signed note, as it came.
    pub checkpoint: String,
}

impl TlogProof {
    /// The text.
    pub fn text(&self) -> String {
        let mut text = format!("{VERSION}\n");
        if let Some(extra) = &self.extra {
            text.push_str(&format!("{EXTRA}{}\n", encode_base64(extra)));
        }
        text.push_str(&format!("{INDEX}{}\n", self.index));
        for hash in &self.path {
            text.push_str(&encode_base64(hash.as_bytes()));
            text.push('\n');
        }
        text.push('\n');
        text.push_str(&self.checkpoint);
        text
    }

    /// Reads the text.
    ///
    /// # Errors
    /// [`ProofTextError`].
    pub fn parse(text: &str) -> Result<Self, ProofTextError> {
        if text.len() > TLOG_PROOF_BYTES_MAX {
            return Err(ProofTextError("too large"));
        }
        let (head, checkpoint) =
            text.split_once("\n\n").ok_or(ProofTextError("no empty line before the checkpoint"))?;
        let mut lines = head.split('\n').peekable();
        if lines.next() != Some(VERSION) {
            return Err(ProofTextError("another version, or none"));
        }
        let extra = lines.next_if(|line| line.starts_with(EXTRA)).map(|line| &line[EXTRA.len()..]);
        let extra =
            extra.map(|text| decode_base64(text).ok_or(ProofTextError("extra: not base64")));
        let index = lines.next().and_then(|line| line.strip_prefix(INDEX)).and_then(decimal);
        let path: Option<Vec<_>> = lines.by_ref().take(PATH_MAX).map(hash_from_base64).collect();
        let path = path.ok_or(ProofTextError("a path element is not 32 bytes of base64"))?;
        if lines.next().is_some() {
            return Err(ProofTextError("a path of more than 64 elements"));
        }
        Ok(Self {
            extra: extra.transpose()?,
            index: index.ok_or(ProofTextError("no index, or not a decimal number"))?,
            path,
            checkpoint: checkpoint.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines of the specification's example; its signatures are left out there, and its `extra`
    /// is not base64.
    const PUBLISHED: &str = "c2sp.org/tlog-proof@v1\n\
        index 73894\n\
        gSKyXoYZUgZ6jduWYrkDOARinOMGJveXjgMkBTcdPlQ=\n\
        B95lDa8R83lS8n0eG+o0buTxRKQTYFi//1U8anccXmA=\n\
        EKNzoDWG8LGC0Yp9o+sv3qllpMP9uHQ9B20KNL+Q1zs=\n\
        RoopEkOdqkYqMB4MJXrbt/hMjOxsVn0IrWjpz1ZMMes=\n\
        AHCioX9nLjsrse6YhjRRmk1WUEirVOLLRoOQ6vfO5vk=\n\
        \n\
        example.com/fancylog\n\
        109482\n\
        sFodV/vSp5O8n9a8QpW6PRY97tfOSW5bsc2Xl/EQi08=\n\
        \n\
        — example.com/fancylog hI2DJ1roloI=\n";

    #[test]
    fn the_published_lines_are_read() {
        let proof = TlogProof::parse(PUBLISHED).expect("a proof");
        assert_eq!((proof.index, proof.path.len(), &proof.extra), (73_894, 5, &None));
        assert!(proof.checkpoint.starts_with("example.com/fancylog\n109482\n"));
        assert_eq!(proof.text(), PUBLISHED);
    }

    #[test]
    fn a_proof_comes_back_from_its_text() {
        let checkpoint = "o\n1\nr\n\n— o s\n".to_owned();
        for (extra, path) in [
            (None, vec![]),
            (Some(vec![]), vec![]),
            (Some(vec![1, 2, 3]), vec![Hash([1; 32]), Hash([2; 32])]),
        ] {
            let proof = TlogProof { extra, index: 0, path, checkpoint: checkpoint.clone() };
            assert_eq!(TlogProof::parse(&proof.text()), Ok(proof));
        }
    }

    #[test]
    fn what_is_no_proof_is_refused() {
        let element = PUBLISHED.lines().nth(2).expect("a hash");
        let more = format!("{element}\n").repeat(65);
        for wrong in [
            String::new(),
            PUBLISHED.replace("@v1", "@v2"),
            PUBLISHED.replace("index", "Index"),
            PUBLISHED.replace("index 7", "index 07"),
            PUBLISHED.replace("index 73894\n", ""),
            PUBLISHED.replace("index 73894", "extra AAE=\nextra AAE=\nindex 1"),
            PUBLISHED.replace("index 73894", "extra AAF=\nindex 1"),
            PUBLISHED.replace("index 73894", "extra\nindex 1"),
            PUBLISHED.replace("index 73894\n", "index 73894\nextra AAE=\n"),
            PUBLISHED.replace("gSKyX", "gSKy"),
            PUBLISHED.replace(&format!("{element}\n"), &more),
            PUBLISHED.replace("\n\n", "\n"),
            format!("{PUBLISHED}{}", "x".repeat(TLOG_PROOF_BYTES_MAX)),
        ] {
            assert!(TlogProof::parse(&wrong).is_err(), "{wrong:.200}");
        }
    }
}
