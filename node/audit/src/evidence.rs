//! The proof of a fork as one file: what each side certified, and what nodes held about it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use customhouse_files::newfile;
use customhouse_ledger::{
    finality::{
        certificate::Certificate,
        decision::{self, Decision, Grounds},
    },
    hash::Hash,
    limits::DECISIONS_BYTES_MAX,
    proofs::{
        fork::verified_grounds,
        verifier::{ValidatorStep, Verifier},
    },
};
use customhouse_proto::v1;
use prost::Message as _;
use serde::{Deserialize, Serialize};

use crate::head::{Certified, hexadecimal};

/// Most bytes of an evidence file: a few files of decisions, in hexadecimal.
pub const EVIDENCE_BYTES_MAX: usize = 4 * DECISIONS_BYTES_MAX;

/// Most bytes of what all sides held beside their finalizations, so that a file can be read again:
/// a finalization has less than 20 KB.
const ALL_GROUNDS_BYTES_MAX: usize = 12 << 20;

/// Bytes of a validator chain that goes into a file: hundreds of changes among 256 validators.
const CHAIN_BYTES_MAX: usize = 8 << 20;

/// Files about the same blocks in one directory.
const EVIDENCE_FILES_MAX: usize = 100;

/// What a file of this kind begins with, in its first field.
const FORMAT: &str = "customhouse fork evidence 1";

/// The file's JSON. Nothing in it is trusted: `audit fork` checks every signature.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvidenceFile {
    format: String,
    chain_id: Hash,
    /// The changes of validators below the highest of the sides' heights.
    #[serde(default, with = "hexadecimal", skip_serializing_if = "Vec::is_empty")]
    pub validator_chain: Vec<u8>,
    /// What each node certified.
    pub sides: Vec<Side>,
}

/// What one node, or one saved head, says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Side {
    /// Which one, by the name that the writer of the file gave it.
    pub from: String,
    height: u64,
    block_hash: Hash,
    /// As `audit decisions` writes them; the fields above only repeat them.
    #[serde(with = "hexadecimal")]
    decisions: Vec<u8>,
}

impl Side {
    /// A certified header; `told` is what a node held beside it, if one was asked. What of that does
    /// not verify is not written: the node may be one of those that forked.
    pub fn new(
        from: impl Into<String>,
        head: &Certified,
        told: Option<Decision>,
        verifier: &Verifier,
    ) -> anyhow::Result<Self> {
        let (height, block_hash) = (head.header.height, head.header.hash());
        let certificate = Certificate::decode(&head.certificate)?;
        let told = told.filter(|told| told.height == height);
        let grounds = told.map(|told| grounds(told, &certificate, verifier)).unwrap_or_default();
        let decided = Some((head.header.clone(), certificate));
        let decision = Decision { height, decided, grounds };
        let decisions = decision::encode(&[decision]);
        Ok(Self { from: from.into(), height, block_hash, decisions })
    }

    /// The same without what the node held beside the finalization.
    fn bare(self) -> anyhow::Result<Self> {
        let mut decisions = decision::decode(&self.decisions)?;
        decisions.iter_mut().for_each(|decision| decision.grounds = Grounds::default());
        Ok(Self { decisions: decision::encode(&decisions), ..self })
    }

    /// Reads what the side says.
    pub fn decisions(&self) -> Result<Vec<Decision>, String> {
        decision::decode(&self.decisions).map_err(|error| format!("{}: {error}", self.from))
    }
}

/// What verifies of what a node held. Its own finalization is among it: it may have other signers than
/// the one that was shown first, or be another block's.
fn grounds(told: Decision, shown: &Certificate, verifier: &Verifier) -> Grounds {
    let Decision { height, decided, mut grounds } = told;
    grounds.certificates.extend(decided.map(|(_, certificate)| certificate));
    grounds.certificates.retain(|certificate| certificate != shown);
    verified_grounds(grounds, height, &verifier.chain_id(), verifier.validators_at(height))
}

/// The steps below a height, encoded; nothing where that is too much for a file.
fn chain_below(height: u64, verifier: &Verifier) -> Vec<u8> {
    let steps = verifier.steps().filter(|step| step.header.height < height);
    let chain = v1::ValidatorChain { steps: steps.map(ValidatorStep::to_proto).collect() };
    Some(chain.encode_to_vec()).filter(|chain| chain.len() <= CHAIN_BYTES_MAX).unwrap_or_default()
}

impl EvidenceFile {
    /// The file of these sides, with the changes of validators that lead to the highest.
    ///
    /// # Errors
    /// A side that does not decode.
    pub fn new(verifier: &Verifier, sides: Vec<Side>) -> anyhow::Result<Self> {
        let highest = sides.iter().map(|side| side.height).max().unwrap_or_default();
        let mut left = ALL_GROUNDS_BYTES_MAX;
        let within = |side: Side| match left.checked_sub(side.decisions.len()) {
            Some(rest) => {
                left = rest;
                Ok(side)
            }
            None => side.bare(),
        };
        Ok(Self {
            format: FORMAT.to_owned(),
            chain_id: verifier.chain_id(),
            validator_chain: chain_below(highest, verifier),
            sides: sides.into_iter().map(within).collect::<anyhow::Result<_>>()?,
        })
    }

    /// Whether a file's bytes are meant to be one: files of decisions are protobuf and begin otherwise.
    pub fn is_meant(bytes: &[u8]) -> bool {
        bytes.first() == Some(&b'{')
    }

    /// Reads a file's bytes; what is wrong is said for people.
    pub fn read(bytes: &[u8], chain_id: &Hash) -> Result<Self, String> {
        let file: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if file.format != FORMAT {
            return Err(format!("not of the format `{FORMAT}`"));
        }
        if file.chain_id != *chain_id {
            return Err(format!("of chain {}, the genesis is that of {chain_id}", file.chain_id));
        }
        Ok(file)
    }

    /// Writes it into a directory, under a name that follows from the blocks, and gives its path.
    pub fn write(&self, directory: &Path) -> anyhow::Result<PathBuf> {
        let mut blocks: Vec<_> =
            self.sides.iter().map(|side| (side.height, side.block_hash.short())).collect();
        blocks.sort();
        blocks.dedup();
        let height = blocks.first().map_or(0, |(height, _)| *height);
        let hashes: Vec<_> = blocks.into_iter().map(|(_, hash)| hash.to_string()).collect();
        let text = serde_json::to_string_pretty(self)? + "\n";
        let name = format!("fork-{height}-{}", hashes.join("-"));
        // What was told of these blocks before may be more.
        for number in 1..=EVIDENCE_FILES_MAX {
            let number = if number == 1 { String::new() } else { format!("-{number}") };
            let path = directory.join(format!("{name}{number}.evidence"));
            match newfile::write(&path, text.as_bytes(), 0o644) {
                Ok(()) => return Ok(path),
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(error).with_context(|| path.display().to_string());
                }
                Err(_) if fs::read(&path).is_ok_and(|there| there == text.as_bytes()) => {
                    return Ok(path);
                }
                Err(_) => {}
            }
        }
        anyhow::bail!(
            "{}: {EVIDENCE_FILES_MAX} files of {name} are there already",
            directory.display()
        )
    }
}

#[cfg(test)]
mod tests {
    use customhouse_ledger::{
        finality::{
            header::Header,
            validators::{Validator, ValidatorSet},
            vote::{Ballot, Vote, VoteKind},
        },
        keys::SigningKey,
    };

    use super::*;
    use crate::{samples::genesis, told::Gathered};

    /// A certificate of the validators of [`genesis`] with these seeds.
    fn certificate(kind: VoteKind, view: u64, header: &Header, seeds: [u8; 3]) -> Certificate {
        let ballot = Ballot { kind, height: header.height, view, block_hash: header.hash() };
        let genesis = genesis();
        let sign =
            |seed| Vote::sign(ballot, &genesis.chain_id(), &SigningKey::from_seed(&[seed; 32]));
        Certificate::from_votes(ballot, &seeds.map(sign), &genesis.validators()).expect("a quorum")
    }

    fn certified(header: Header, certificate: &Certificate) -> Certified {
        Certified { header, certificate: certificate.encode(), signers: 3 }
    }

    /// Well-formed, of as many bytes as a certificate can have, and signed by nobody.
    fn junk(height: u64, view: u64) -> Certificate {
        let mut bytes = vec![VoteKind::Notarize as u8];
        bytes.extend([height.to_be_bytes(), view.to_be_bytes()].concat());
        bytes.extend([&[7; 32][..], &[0, 32], &[0xff; 32], &[7; 64 * 256]].concat());
        Certificate::decode(&bytes).expect("a layout")
    }

    /// What is written is read again, with nothing refused.
    fn read_back(file: &EvidenceFile) -> Vec<Decision> {
        let directory = tempfile::tempdir().expect("a directory");
        let path = file.write(directory.path()).expect("written");
        let gathered = Gathered::read(&[path], &mut Verifier::new(&genesis()));
        let refused: Vec<_> = gathered.refused.iter().map(|refusal| &refusal.why).collect();
        assert!(refused.is_empty(), "{refused:?}");
        gathered.told.into_iter().flat_map(|told| told.decisions).collect()
    }

    #[test]
    fn what_a_node_tells_beside_its_head_cannot_spoil_the_evidence_of_its_fork() {
        let verifier = Verifier::new(&genesis());
        let header = Header { height: 5, ..genesis().header() };
        let other = Header { time_ms: header.time_ms + 1, ..header.clone() };
        let finalized = |view, header, seeds| certificate(VoteKind::Finalize, view, header, seeds);
        let (shown, again) = (finalized(1, &header, [1, 2, 3]), finalized(1, &header, [1, 2, 4]));
        let contradicting = finalized(1, &other, [1, 2, 4]);
        let mut forged = again.clone();
        forged.ballot.view = 2;
        let notarization = certificate(VoteKind::Notarize, 1, &header, [1, 2, 3]);
        let honest = vec![notarization.clone()];
        let flood = (2..1300).map(|view| junk(5, view)).chain(honest.clone()).collect();
        for (what, height, decided, certificates, kept) in [
            ("as it is", 5, Some((&header, &shown)), honest.clone(), vec![&notarization]),
            ("a forged finalization", 5, Some((&header, &forged)), vec![], vec![]),
            ("no finalization", 5, None, honest.clone(), vec![&notarization]),
            ("other signers", 5, Some((&header, &again)), vec![], vec![&again]),
            ("another block", 5, Some((&other, &contradicting)), vec![], vec![&contradicting]),
            ("a flood of junk", 5, Some((&header, &shown)), flood, vec![&notarization]),
            ("another height", 6, None, honest, vec![]),
        ] {
            let decided = decided.map(|(header, found)| (header.clone(), found.clone()));
            let grounds = Grounds { certificates, ..Grounds::default() };
            let told = Decision { height, decided, grounds };
            let head = certified(header.clone(), &shown);
            let side = Side::new("liar", &head, Some(told), &verifier).expect("certified");
            let file = EvidenceFile::new(&verifier, vec![side]).expect("readable");
            let [decision] = &read_back(&file)[..] else { panic!("{what}: one decision") };
            assert_eq!(decision.decided, Some((header.clone(), shown.clone())), "{what}");
            let found: Vec<_> = decision.grounds.certificates.iter().collect();
            assert_eq!(found, kept, "{what}");
        }
    }

    #[test]
    fn evidence_that_is_there_is_kept_beside_other_evidence_of_the_same_blocks() {
        let verifier = Verifier::new(&genesis());
        let header = Header { height: 5, ..genesis().header() };
        let finalization = certificate(VoteKind::Finalize, 1, &header, [1, 2, 3]);
        let file = |from: &str| {
            let head = certified(header.clone(), &finalization);
            let side = Side::new(from, &head, None, &verifier).expect("certified");
            EvidenceFile::new(&verifier, vec![side]).expect("readable")
        };
        let directory = tempfile::tempdir().expect("a directory");
        let write = |from| file(from).write(directory.path()).expect("written");
        let first = write("a");
        let text = fs::read(&first).expect("there");
        assert_ne!(write("b"), first);
        assert_eq!(write("a"), first, "the same again needs no other file");
        assert_eq!(fs::read(&first).expect("there"), text);
        assert_eq!(fs::read_dir(directory.path()).expect("there").count(), 2);
    }

    #[test]
    fn evidence_of_many_sides_that_tell_much_can_be_read_again() {
        let verifier = Verifier::new(&genesis());
        let side = |index: u64| {
            let header = Header { height: 5, time_ms: index, ..genesis().header() };
            let finalization = certificate(VoteKind::Finalize, 1, &header, [1, 2, 3]);
            let mut side =
                Side::new("", &certified(header.clone(), &finalization), None, &verifier)
                    .expect("certified");
            let certificates = (0..120).map(|view| junk(5, view)).collect();
            let grounds = Grounds { certificates, ..Grounds::default() };
            let decision = Decision { height: 5, decided: Some((header, finalization)), grounds };
            side.decisions = decision::encode(&[decision]);
            side
        };
        let file = EvidenceFile::new(&verifier, (1..20).map(side).collect()).expect("readable");
        let decisions = read_back(&file);
        let with_grounds = decisions.iter().filter(|decision| !decision.grounds.is_empty()).count();
        assert_eq!((decisions.len(), with_grounds), (19, 6), "of 12 MiB");
    }

    #[test]
    fn evidence_from_after_a_change_of_validators_has_what_leads_to_them() {
        let mut verifier = Verifier::new(&genesis());
        let agency = "A009".parse().expect("a code");
        let next = SigningKey::from_seed(&[9; 32]);
        let validators = ValidatorSet::new(vec![Validator { agency, key: next.public() }]);
        let validators = validators.expect("a set").deciding_from(4);
        let announcing =
            Header { height: 3, next_validators_hash: validators.hash(), ..genesis().header() };
        let step = ValidatorStep {
            certificate: certificate(VoteKind::Finalize, 1, &announcing, [1, 2, 3]),
            header: announcing.clone(),
            validators: validators.clone(),
        };
        verifier.follow(&step).expect("it follows");
        let header = Header {
            height: 4,
            validators_hash: validators.hash(),
            next_validators_hash: validators.hash(),
            ..announcing.clone()
        };
        let block_hash = header.hash();
        let ballot = Ballot { kind: VoteKind::Finalize, height: 4, view: 1, block_hash };
        let vote = Vote::sign(ballot, &verifier.chain_id(), &next);
        let finalization = Certificate::from_votes(ballot, &[vote], &validators).expect("a quorum");
        let file = |head: &Certified| {
            let side = Side::new("a", head, None, &verifier).expect("certified");
            EvidenceFile::new(&verifier, vec![side]).expect("readable")
        };
        let after = file(&certified(header, &finalization));
        assert_eq!(read_back(&after).len(), 1, "with the genesis alone");
        let before = file(&certified(announcing, &step.certificate));
        assert!(before.validator_chain.is_empty(), "no change is below it");
        assert_eq!(read_back(&before).len(), 1);
    }
}
