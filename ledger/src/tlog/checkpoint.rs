//! Checkpoints (C2SP `tlog-checkpoint`): the size and root of a log as the text of a signed note.

use super::{decimal, encode_base64, hash_from_base64, origin};
use crate::{finality::header::Header, hash::Hash};

/// Why a text is not a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("checkpoint: {0}")]
pub struct CheckpointError(&'static str);

/// The log at one size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log.
    pub origin: String,
    /// Leaves.
    pub size: u64,
    /// RFC 6962 root over them.
    pub root: Hash,
    /// Further lines, opaque. Customhouse writes none: the specification recommends against them, since
    /// a monitor cannot audit them.
    pub extensions: Vec<String>,
}

impl Checkpoint {
    /// The log after a block of the network of this name.
    pub fn of(network: &str, header: &Header) -> Self {
        Self {
            origin: origin(network, &header.chain_id),
            size: header.log_size,
            root: header.log_root,
            extensions: Vec::new(),
        }
    }

    /// The text of its note.
    pub fn text(&self) -> String {
        let Self { origin, size, root, extensions } = self;
        let mut text = format!("{origin}\n{size}\n{}\n", encode_base64(root.as_bytes()));
        for line in extensions {
            text.push_str(line);
            text.push('\n');
        }
        text
    }

    /// Reads the text of a note.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        let whole = text.strip_suffix('\n');
        let mut lines = whole.ok_or(CheckpointError("no newline at its end"))?.split('\n');
        let mut line = |what| lines.next().filter(|l| !l.is_empty()).ok_or(CheckpointError(what));
        let origin = line("no origin")?.to_owned();
        let size = line("no size")?;
        let size = decimal(size).ok_or(CheckpointError("the size is not a decimal number"))?;
        let root = line("no root")?;
        let root =
            hash_from_base64(root).ok_or(CheckpointError("the root is not 32 bytes of base64"))?;
        let extensions: Vec<String> = lines.map(str::to_owned).collect();
        match extensions.iter().any(String::is_empty) {
            true => Err(CheckpointError("an empty extension line")),
            false => Ok(Self { origin, size, root, extensions }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{merkle::empty_root, registry::genesis::tests::genesis, tlog::note::Note};

    /// The specification's example, whose key it does not give.
    const PUBLISHED: &str = "example.com/behind-the-sofa\n20852163\n\
        CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n\
        — example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1g\
        GzGku9nTo+zyWE+xeMcTOAYQ8=\n";

    #[test]
    fn the_published_checkpoint_is_read() {
        let note = Note::parse(PUBLISHED).expect("a note");
        let checkpoint = Checkpoint::parse(note.text()).expect("a checkpoint");
        assert_eq!(checkpoint.origin, "example.com/behind-the-sofa");
        assert_eq!(checkpoint.size, 20_852_163);
        assert_eq!(checkpoint.root.to_string()[..8], *"0ac5186a");
        assert_eq!(checkpoint.text(), note.text());
    }

    #[test]
    fn the_checkpoint_of_a_block_names_the_chain_and_its_log() {
        let header = genesis(4).header();
        let checkpoint = Checkpoint::of("test", &header);
        let expected = Checkpoint {
            origin: format!("customhouse/test/{}", header.chain_id),
            size: 0,
            root: empty_root(),
            extensions: vec![],
        };
        assert_eq!(checkpoint, expected);
        assert_eq!(Checkpoint::parse(&checkpoint.text()), Ok(expected));
    }

    #[test]
    fn extension_lines_are_kept() {
        let text = format!("o\n0\n{}\nmore\nlines\n", encode_base64(&[0; 32]));
        let checkpoint = Checkpoint::parse(&text).expect("a checkpoint");
        assert_eq!(checkpoint.extensions, ["more", "lines"]);
        assert_eq!(checkpoint.text(), text);
    }

    #[test]
    fn what_is_no_checkpoint_is_refused() {
        let root = encode_base64(&[0; 32]);
        for wrong in [
            String::new(),
            "\n".into(),
            "o\n0\n".into(),
            format!("o\n0\n{root}"),
            format!("\n0\n{root}\n"),
            format!("o\n\n{root}\n"),
            format!("o\n01\n{root}\n"),
            format!("o\n-1\n{root}\n"),
            format!("o\n0\n{}\n", encode_base64(&[0; 31])),
            format!("o\n0\n{}\n", &root[..43]),
            format!("o\n0\n{root}\n\n"),
            format!("o\n0\n{root}\nmore\n\nlines\n"),
        ] {
            assert!(Checkpoint::parse(&wrong).is_err(), "{wrong:?}");
        }
    }
}
