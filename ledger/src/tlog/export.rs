//! A receipt as a `tlog-proof`, and what a holder of the genesis checks of it.
//!
//! A tool of the transparency-log world checks that the leaf is in the log of the checkpoint, and that
//! a node's key signed that checkpoint. The `extra` line carries what makes the same file a proof for
//! anyone who trusts no node: the receipt, which has the leaf and leads from it to the record, and the
//! block header that certifies the checkpoint's size and root, with its finalization.

use customhouse_proto::v1;
use prost::Message as _;

use super::{
    checkpoint::{Checkpoint, CheckpointError},
    note::{Note, NoteError, VerifierKey},
    proof::{ProofTextError, TlogProof},
};
use crate::{
    canonical::{self, CanonicalError},
    finality::header::Header,
    hash::Hash,
    merkle::{self, ProofError},
    proofs::{
        receipt::{ReceiptError, VerifiedReceipt},
        verifier::{FinalityError, Verifier},
    },
};

/// A checkpoint with what it rests on, and one leaf's path to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertifiedCheckpoint {
    /// The block header, fixed layout.
    pub header: Vec<u8>,
    /// Its finalization, fixed layout; empty at height 0.
    pub certificate: Vec<u8>,
    /// The checkpoint of the header's log, a signed note.
    pub note: String,
    /// From the leaf up to the header's log root.
    pub path: Vec<Hash>,
}

/// The proof of a receipt's transaction in the log of a checkpoint. Nothing is checked: [`verify`]
/// does.
pub fn tlog_proof(receipt: &v1::Receipt, checkpoint: CertifiedCheckpoint) -> TlogProof {
    let CertifiedCheckpoint { header, certificate, note, path } = checkpoint;
    let extra = v1::TlogProofExtra { receipt: receipt.encode_to_vec(), header, certificate };
    TlogProof {
        extra: Some(extra.encode_to_vec()),
        index: receipt.log_index,
        path,
        checkpoint: note,
    }
}

/// What a proof was found to prove.
#[derive(Clone, Debug, PartialEq)]
pub struct VerifiedTlogProof {
    /// The receipt in it.
    pub receipt: VerifiedReceipt,
    /// The leaf: the transaction's header and signature.
    pub leaf: Vec<u8>,
    /// The block whose log the checkpoint is of.
    pub header: Header,
    /// Indexes of the validators that finalized it, ascending.
    pub finalized_by: Vec<usize>,
}

/// Why a proof was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlogProofError {
    /// Not the form.
    #[error("{0}")]
    Text(#[from] ProofTextError),
    /// No `extra` line: another log's proof, or a stripped one.
    #[error("extra: missing, so that there is no receipt to check")]
    NoExtra,
    /// `extra` is not the message.
    #[error("extra: {0}")]
    Extra(#[from] CanonicalError),
    /// The receipt proves nothing.
    #[error("in the receipt: {0}")]
    Receipt(#[from] ReceiptError),
    /// The checkpoint's header is not known to be final.
    #[error("extra: {0}")]
    Finality(#[from] FinalityError),
    /// The checkpoint is not a note, or not signed by the key.
    #[error("{0}")]
    Note(#[from] NoteError),
    /// The note is not a checkpoint.
    #[error("{0}")]
    Checkpoint(#[from] CheckpointError),
    /// The checkpoint says something else of the log than the certified header.
    #[error("checkpoint: its {0} is not that of the certified header")]
    NotCertified(&'static str),
    /// The index is not the receipt's.
    #[error("index: {found}, the receipt's is {expected}")]
    Index {
        /// The receipt's.
        expected: u64,
        /// The proof's.
        found: u64,
    },
    /// The leaf is not at that place of the checkpoint's log.
    #[error("path: {0}")]
    Path(#[from] ProofError),
}

impl TlogProofError {
    /// A stable code for clients and scripts.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Text(_) => "TLOG_PROOF_MALFORMED",
            Self::NoExtra | Self::Extra(_) => "TLOG_PROOF_EXTRA",
            Self::Receipt(error) => error.code(),
            Self::Finality(error) => error.code(),
            Self::Note(NoteError::Signature(_) | NoteError::Unsigned(_)) => "NOTE_SIGNATURE",
            Self::Note(_) => "NOTE_MALFORMED",
            Self::Checkpoint(_) => "CHECKPOINT_MALFORMED",
            Self::NotCertified(_) => "CHECKPOINT_NOT_CERTIFIED",
            Self::Index { .. } => "TLOG_PROOF_INDEX",
            Self::Path(_) => "TLOG_PROOF_PATH",
        }
    }
}

/// Checks a proof for one who holds the genesis: the receipt, the certified header, that the checkpoint is
/// the log of that header, and the path. The note's signature is checked where its key is given; the rest
/// does not rest on it.
///
/// # Errors
/// [`TlogProofError`].
pub fn verify(
    text: &str,
    verifier: &Verifier,
    origin: &str,
    key: Option<&VerifierKey>,
) -> Result<VerifiedTlogProof, TlogProofError> {
    let proof = TlogProof::parse(text)?;
    let extra = proof.extra.as_deref().ok_or(TlogProofError::NoExtra)?;
    let extra: v1::TlogProofExtra = canonical::decode(extra)?;
    let receipt = verifier.verify_receipt(&extra.receipt)?;
    let (header, finalized_by) = verifier.verify_final(&extra.header, &extra.certificate)?;
    check_note(&proof.checkpoint, origin, &header, key)?;
    let (expected, found) = (receipt.log_index, proof.index);
    if expected != found {
        return Err(TlogProofError::Index { expected, found });
    }
    let parts: v1::Receipt = canonical::decode(&extra.receipt)?;
    let leaf = [parts.transaction_header, parts.transaction_signature].concat();
    let hash = merkle::leaf_hash(&leaf);
    merkle::verify_inclusion(&hash, found, header.log_size, &proof.path, &header.log_root)?;
    Ok(VerifiedTlogProof { receipt, leaf, header, finalized_by })
}

/// Checks that a note is the checkpoint of a header's log.
fn check_note(
    note: &str,
    origin: &str,
    header: &Header,
    key: Option<&VerifierKey>,
) -> Result<(), TlogProofError> {
    let note = Note::parse(note)?;
    if let Some(key) = key {
        note.verify(key)?;
    }
    let checkpoint = Checkpoint::parse(note.text())?;
    let differs = [
        ("origin", checkpoint.origin != origin),
        ("size", checkpoint.size != header.log_size),
        ("root", checkpoint.root != header.log_root),
        // Nothing certifies what further lines say.
        ("text", !checkpoint.extensions.is_empty()),
    ];
    match differs.into_iter().find(|(_, differs)| *differs) {
        Some((what, _)) => Err(TlogProofError::NotCertified(what)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        finality::vote::VoteKind,
        keys::SigningKey,
        merkle::Tree,
        proofs::receipt::tests::{finalize, log_sample},
        registry::genesis::Genesis,
        tlog::{note::NoteSigner, origin},
    };

    struct Sample {
        verifier: Verifier,
        genesis: Genesis,
        origin: String,
        signer: NoteSigner,
        receipt: v1::Receipt,
        log: Tree,
        later: Header,
    }

    /// A receipt, and a later block whose log has two more transactions.
    fn sample() -> Sample {
        let (genesis, receipt, mut leaves) = log_sample();
        leaves.extend([Hash([1; 32]), Hash([2; 32])]);
        let log = Tree::new(leaves);
        let header = Header::decode(&receipt.header).expect("a header");
        let later = Header {
            height: 2,
            log_start: header.log_size,
            log_size: log.size(),
            log_root: log.root(),
            ..header
        };
        let origin = origin(&genesis.network, &genesis.chain_id());
        let signer = NoteSigner::new(&origin, SigningKey::from_seed(&[77; 32])).expect("a name");
        Sample { verifier: Verifier::new(&genesis), genesis, origin, signer, receipt, log, later }
    }

    impl Sample {
        /// A checkpoint that a node might make of any header and text, certified.
        fn proof_of(&self, header: &Header, text: &str) -> TlogProof {
            let checkpoint = CertifiedCheckpoint {
                header: header.encode(),
                certificate: finalize(header, &self.genesis, VoteKind::Finalize).encode(),
                note: self.signer.sign(text).expect("a text"),
                path: self.log.inclusion_path(self.receipt.log_index).expect("a leaf"),
            };
            tlog_proof(&self.receipt, checkpoint)
        }

        fn proof(&self) -> TlogProof {
            let text = Checkpoint::of(&self.genesis.network, &self.later).text();
            self.proof_of(&self.later, &text)
        }

        fn verify(&self, text: &str) -> Result<VerifiedTlogProof, TlogProofError> {
            verify(text, &self.verifier, &self.origin, Some(self.signer.verifier()))
        }

        fn refusal(&self, proof: &TlogProof) -> &'static str {
            self.verify(&proof.text()).expect_err("refused").code()
        }
    }

    #[test]
    fn a_receipt_is_proven_in_a_later_checkpoint() {
        let sample = sample();
        let text = sample.proof().text();
        let verified = sample.verify(&text).expect("proven");
        assert_eq!(verified.header, sample.later);
        assert_eq!(verified.finalized_by, [0, 1, 2]);
        assert_eq!(verified.leaf.len(), 188);
        assert_eq!(verified.receipt.log_index, sample.receipt.log_index);
        assert!(verify(&text, &sample.verifier, &sample.origin, None).is_ok(), "without the key");
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_refused() {
        let sample = sample();
        let text = sample.proof().text();
        // One bit of each byte, each bit in turn: all of them would take long.
        for place in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[place] ^= 1 << (place % 8);
            let Ok(damaged) = String::from_utf8(bytes) else { continue };
            let refused = sample.verify(&damaged);
            assert!(refused.is_err(), "byte {place}: {refused:?}");
        }
        for cut in (0..text.len()).filter(|cut| text.is_char_boundary(*cut)) {
            assert!(sample.verify(&text[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn each_untruth_is_named() {
        let sample = sample();
        let good = sample.proof();
        let change = |change: &dyn Fn(&mut TlogProof)| {
            let mut proof = good.clone();
            change(&mut proof);
            sample.refusal(&proof)
        };
        assert_eq!(change(&|proof| proof.extra = None), "TLOG_PROOF_EXTRA");
        assert_eq!(change(&|proof| proof.extra = Some(vec![0xff])), "TLOG_PROOF_EXTRA");
        assert_eq!(change(&|proof| proof.index += 1), "TLOG_PROOF_INDEX");
        assert_eq!(change(&|proof| proof.path[0] = Hash::ZERO), "TLOG_PROOF_PATH");
        assert_eq!(change(&|proof| proof.path.truncate(1)), "TLOG_PROOF_PATH");
        assert_eq!(change(&|proof| proof.checkpoint.clear()), "NOTE_MALFORMED");
        let stranger = NoteSigner::new(&sample.origin, SigningKey::from_seed(&[78; 32]));
        let text = Checkpoint::of(&sample.genesis.network, &sample.later).text();
        let note = stranger.and_then(|signer| signer.sign(&text)).expect("a note");
        assert_eq!(change(&|proof| proof.checkpoint.clone_from(&note)), "NOTE_SIGNATURE");
        assert_eq!(sample.verify("").expect_err("refused").code(), "TLOG_PROOF_MALFORMED");
    }

    #[test]
    fn a_signed_checkpoint_of_another_log_than_the_certified_one_is_refused() {
        let sample = sample();
        let own = Checkpoint::of(&sample.genesis.network, &sample.later);
        let other_root = Checkpoint { root: Hash([9; 32]), ..own.clone() };
        for (checkpoint, what) in [
            (Checkpoint { origin: "elsewhere".into(), ..own.clone() }, "origin"),
            (Checkpoint { size: own.size - 1, ..own.clone() }, "size"),
            (other_root.clone(), "root"),
            (Checkpoint { extensions: vec!["more".into()], ..own.clone() }, "text"),
        ] {
            let proof = sample.proof_of(&sample.later, &checkpoint.text());
            let refused = sample.verify(&proof.text()).expect_err("refused");
            assert_eq!(refused, TlogProofError::NotCertified(what));
        }
        // A header that matches it, but that no quorum has signed.
        let forged = Header { log_root: other_root.root, ..sample.later.clone() };
        let mut proof = sample.proof_of(&sample.later, &other_root.text());
        let extra = v1::TlogProofExtra {
            receipt: sample.receipt.encode_to_vec(),
            header: forged.encode(),
            certificate: finalize(&sample.later, &sample.genesis, VoteKind::Finalize).encode(),
        };
        proof.extra = Some(extra.encode_to_vec());
        assert_eq!(sample.refusal(&proof), "CERTIFICATE_BLOCK_HASH");
    }
}
