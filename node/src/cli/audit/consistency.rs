//! `customhouse audit consistency`: the head that an auditor saved is a prefix of a node's.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use customhouse_ledger::{hash::Hash, header::Header};
use customhouse_node::{newfile, readfile};
use serde::{Deserialize, Serialize};

use super::{Basis, Seen, Verdict, node, validators, verifier};
use crate::cli::{connect::ConnectArgs, output::Output, time};

/// Bytes of a saved head at the most: with 256 validators a certificate has 16 KiB, twice that in
/// hexadecimal.
const HEAD_BYTES_MAX: usize = 64 * 1024;

#[derive(clap::Args)]
pub(crate) struct ConsistencyArgs {
    /// The genesis of the network, as you had it from a source that you trust.
    #[arg(long, value_name = "FILE")]
    genesis: PathBuf,
    /// The saved head. Where there is none yet, the node's is saved if it is certified.
    #[arg(long, value_name = "FILE", default_value = "customhouse.head")]
    head: PathBuf,
    /// Leave the saved head as it is.
    #[arg(long)]
    keep: bool,
}

pub(super) const HELP: &str = "\
The first time, the node's certified head is saved. From then on the node must prove that its log
begins with the saved one: nothing was taken out, put in or changed since. Then its head is saved
in the other's place. Ask another node with the same file, and both have shown the same log.

Exit codes: 0 verified; 1 the saved head or the node's is not certified; 2 not enough evidence, such
as a node that gives no proof; 3 proof of a fork; 64 wrong arguments.

Examples:
  customhouse --profile net/NL-DOUANE/clients/auditor audit consistency --genesis genesis.json \\
    --head nl.head
  customhouse --profile net/DE-ZOLL/clients/auditor audit consistency --genesis genesis.json \\
    --head nl.head --keep";

/// A head as it is saved: what is certified, and what people want to read of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct SavedHead {
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
    fn new(header: &Header, certificate: Vec<u8>) -> Self {
        Self {
            height: header.height,
            time_ms: header.time_ms,
            log_size: header.log_size,
            log_root: header.log_root,
            header: header.encode(),
            certificate,
        }
    }

    /// `None` where there is no file.
    fn read(path: &Path) -> anyhow::Result<Option<Self>> {
        let name = || path.display().to_string();
        match readfile::text(path, HEAD_BYTES_MAX) {
            Ok(text) => Ok(Some(serde_json::from_str(&text).with_context(name)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(name),
        }
    }

    fn write(&self, path: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        newfile::replace(path, text.as_bytes(), 0o644).with_context(|| path.display().to_string())
    }
}

mod hexadecimal {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&hex::encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        hex::decode(String::deserialize(from)?).map_err(D::Error::custom)
    }
}

#[derive(Serialize)]
struct Audit {
    verdict: Verdict,
    #[serde(skip_serializing_if = "Option::is_none")]
    saved: Option<Place>,
    head: Place,
    reason: String,
    /// Whether the node's head is saved now.
    written: bool,
    rests_on: Basis,
}

#[derive(Serialize)]
struct Place {
    height: u64,
    time_ms: u64,
    log_size: u64,
}

impl Place {
    fn of(header: &Header) -> Self {
        let &Header { height, time_ms, log_size, .. } = header;
        Self { height, time_ms, log_size }
    }
}

pub(super) async fn check(
    args: &ConsistencyArgs,
    output: Output,
    connect: &ConnectArgs,
) -> anyhow::Result<Verdict> {
    let saved = SavedHead::read(&args.head)?;
    let connection = connect.connect().await?;
    let mut seen = Seen::new(verifier(&args.genesis)?);
    validators::follow_node(&mut seen.verifier, &connection).await?;
    if let Some(saved) = &saved {
        let verified = seen.verifier.verify_final(&saved.header, &saved.certificate);
        let (header, signers) = match verified {
            Ok(verified) => verified,
            Err(error) => {
                let name = args.head.display();
                note!("customhouse: {name}: not a certified head of this network: {error}");
                return Ok(Verdict::Invalid);
            }
        };
        ensure!(
            SavedHead::new(&header, saved.certificate.clone()) == *saved,
            "{}: its fields are not those of its header",
            args.head.display()
        );
        seen.note(&header, signers.len()).ok();
    }
    let before = seen.newest().cloned();
    let (head, certificate, compared) = node::compare(&mut seen, &connection).await?;
    let newer = before.as_ref().is_none_or(|before| before.height < head.height);
    let written = compared.verdict == Verdict::Verified && newer && !args.keep;
    if written {
        SavedHead::new(&head, certificate).write(&args.head)?;
    }
    let (verdict, rests_on) = (compared.verdict, seen.basis());
    let (saved, head) = (before.as_ref().map(Place::of), Place::of(&head));
    output.print(&Audit { verdict, saved, head, reason: compared.reason, written, rests_on })?;
    Ok(verdict)
}

impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |name: &str, place: &Place| {
            let Place { height, time_ms, log_size } = place;
            format!("{name}  height {height}, {log_size} transactions, {}", time::shown(*time_ms))
        };
        if let Some(saved) = &self.saved {
            writeln!(f, "{}", line("saved", saved))?;
        }
        writeln!(f, "{}", line("node ", &self.head))?;
        writeln!(f, "{}: {}", self.verdict, crate::cli::output::one_line(&self.reason))?;
        if self.written {
            writeln!(f, "the node's head is saved")?;
        }
        write!(f, "rests on {}", self.rests_on)
    }
}

#[cfg(test)]
mod tests {
    use customhouse_ledger::genesis::Genesis;

    use super::*;
    use crate::cli::audit::tests::genesis;

    fn head(genesis: &Genesis) -> SavedHead {
        SavedHead::new(&genesis.header(), vec![1, 2, 3])
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
    fn what_is_no_head_is_refused_with_the_files_name() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a.head");
        for text in ["", "{}", "[1]", "{\"height\": 1}"] {
            std::fs::write(&path, text).expect("written");
            let error = SavedHead::read(&path).expect_err("refused");
            assert!(error.to_string().contains("a.head"), "{error:#}");
        }
    }
}
