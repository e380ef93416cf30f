//! Checking which sealed records about one subject were lodged under an agreement, and that these are all
//! (docs/FORMATS.md, *Sealed history proof*).
//!
//! The agreement's entry under the certified header names all its epochs, and the parties of each: whoever may have
//! lodged under it. For each of these pairs of epoch and agency, a proof by the epoch's public key shows under which
//! key that agency had to have the subject, and the history's proof, what the chain has under that key. So no slot is
//! left out, of whichever agency. No byte of a record is needed, and none is seen.
//!
//! What is proven is what the lodging agencies asserted: that a record was lodged with this subject among its keys. An
//! agency that has left the subject out of a slot, or has put another key there, is found by whoever has the record's
//! bytes, not by this proof. A pair for which no proof was given is *not covered*, and is named: nothing is ever said
//! to be absent because it was not shown.
//!
//! A proof that is long comes in pages. Each is checked by itself: header, agreement, keys, and that its piece of each
//! bucket leads from the head that it names before it to the head after it, which of a bucket's last piece is the one
//! under the certified history root. A bucket is a chain of hashes, so that a piece that is not the last counts once
//! those after it are there; until then its pair is not covered.

use std::collections::{BTreeMap, BTreeSet};

use customhouse_proto::v1;

use crate::{
    agency::AgencyCode,
    agreement::{self, Epoch},
    canonical,
    finality::header::Header,
    hash::Hash,
    history::{HistoryEntry, bucket_of},
    limits::{SEALED_HISTORY_PAGES_MAX, SEALED_HISTORY_PROOF_BYTES_MAX},
    merkle,
    proofs::{history::HistoryProofError, verifier::Verifier},
    record::subject::form,
    registry,
    sealed_subject::{self, SealedSubjectError},
    vrf::{VrfError, VrfProof},
};

mod answer;
mod error;
mod pieces;

pub use answer::{AgencyHistory, ContradictedReceipt, Coverage, OUTSIDE, VerifiedSealedHistory};
pub use error::{AgencyHistoryError, SealedHistoryError};
use pieces::{Piece, Pieces};

impl Verifier {
    /// Checks the canonical bytes of all pages of a [`v1::SealedHistoryProof`], in any order, which must be about this
    /// subject.
    ///
    /// # Errors
    /// As [`Verifier::verify_sealed_history`]; [`SealedHistoryError::OtherSubject`].
    pub fn verify_sealed_history_of<P: AsRef<[u8]>>(
        &self,
        subject: &v1::Subject,
        pages: impl IntoIterator<Item = P>,
    ) -> Result<VerifiedSealedHistory, SealedHistoryError> {
        let history = self.verify_sealed_history(pages)?;
        if history.subject == *subject {
            return Ok(history);
        }
        Err(SealedHistoryError::OtherSubject)
    }

    /// Checks the canonical bytes of all pages of a [`v1::SealedHistoryProof`], in any order, about whichever subject
    /// they name. Pages may be missing: the answer says which, and what is not covered.
    ///
    /// # Errors
    /// [`SealedHistoryError`]: the first thing that is wrong.
    pub fn verify_sealed_history<P: AsRef<[u8]>>(
        &self,
        pages: impl IntoIterator<Item = P>,
    ) -> Result<VerifiedSealedHistory, SealedHistoryError> {
        // Each by itself first, so that it is told which is wrong before how they go together.
        let pages = pages.into_iter().map(|page| self.sealed_history_page(page.as_ref()));
        let mut pages = pages.collect::<Result<Vec<_>, _>>()?.into_iter();
        let mut all = Gathered::of(pages.next().ok_or(SealedHistoryError::NoPage)?);
        for page in pages {
            all.add(page)?;
        }
        all.answer()
    }

    /// Checks a page by itself.
    fn sealed_history_page(&self, bytes: &[u8]) -> Result<Page, SealedHistoryError> {
        if bytes.len() > SEALED_HISTORY_PROOF_BYTES_MAX {
            return Err(SealedHistoryError::TooLarge(bytes.len()));
        }
        let proof: v1::SealedHistoryProof = canonical::decode(bytes)?;
        let subject = subject_of(&proof)?;
        let (number, count) = (proof.page, proof.page_count);
        if !(1..=SEALED_HISTORY_PAGES_MAX).contains(&number) || ![0, number].contains(&count) {
            return Err(SealedHistoryError::PageNumber(number, count));
        }
        let (header, finalized_by) = self.verify_final(&proof.header, &proof.certificate)?;
        let (agreement, epochs) = shown_agreement(&proof, &header)?;
        let known = Known { verifier: self, subject: &subject, agreement, epochs: &epochs };
        let mut pieces = BTreeMap::new();
        for (place, history) in proof.histories.iter().enumerate() {
            let wrong = |error| SealedHistoryError::History(place, error);
            let (pair, piece) = known.piece(history, &header).map_err(wrong)?;
            if pieces.last_key_value().is_some_and(|(last, _)| *last >= pair) {
                return Err(wrong(AgencyHistoryError::Order));
            }
            pieces.insert(pair, piece);
        }
        let shown = Shown { header, subject, agreement, epochs };
        Ok(Page { shown, finalized_by, number, is_last: count == number, pieces })
    }
}

fn subject_of(proof: &v1::SealedHistoryProof) -> Result<v1::Subject, SealedHistoryError> {
    let scheme = i32::try_from(proof.subject_scheme).unwrap_or_default();
    let subject = v1::Subject { scheme, id: proof.subject_id.clone() };
    form::check_spelling(subject.scheme(), &subject.id).map_err(SealedSubjectError::from)?;
    Ok(subject)
}

/// The agreement that is at its place under the header's registry root: its id and all its epochs.
fn shown_agreement(
    proof: &v1::SealedHistoryProof,
    header: &Header,
) -> Result<(Hash, Vec<Epoch>), SealedHistoryError> {
    let path = merkle::read_path(&proof.agreement_path).map_err(SealedHistoryError::PathBytes)?;
    let hash = |bytes: &[u8]| {
        Hash::from_slice(bytes).map_err(|_| SealedHistoryError::Agreement(merkle::ProofError::Root))
    };
    let (head, members) = (hash(&proof.agreements_head)?, hash(&proof.members_root)?);
    let leaf = merkle::leaf_hash(&proof.agreement_entry);
    let (index, count) = (proof.agreement_index, proof.agreement_count);
    let tree = merkle::root_from_inclusion(&leaf, index, count, &path)
        .map_err(SealedHistoryError::Agreement)?;
    if registry::root(&members, &agreement::root(count, &tree, &head)) != header.registry_root {
        return Err(SealedHistoryError::Agreement(merkle::ProofError::Root));
    }
    agreement::read_entry(&proof.agreement_entry).ok_or(SealedHistoryError::Entry)
}

/// Who has lodged in which epoch.
type Pair = (u32, AgencyCode);

/// What the histories of a page are checked against.
struct Known<'a> {
    verifier: &'a Verifier,
    subject: &'a v1::Subject,
    agreement: Hash,
    epochs: &'a [Epoch],
}

impl Known<'_> {
    fn piece(
        &self,
        history: &v1::SealedHistory,
        header: &Header,
    ) -> Result<(Pair, Piece), AgencyHistoryError> {
        let number = history.epoch;
        let agency: Option<AgencyCode> = history.agency.parse().ok();
        let place = (number as usize).checked_sub(1);
        let epoch = place.and_then(|place| self.epochs.get(place));
        let (Some(agency), Some(epoch)) = (agency, epoch) else {
            return Err(AgencyHistoryError::Party);
        };
        if !epoch.parties.contains(&agency) {
            return Err(AgencyHistoryError::Party);
        }
        let proof = VrfProof::from_slice(&history.vrf_proof)
            .map_err(|error: VrfError| SealedSubjectError::from(error))?;
        let subject_key = sealed_subject::verify(&epoch.key, &agency, self.subject, &proof)?;
        let key = sealed_subject::index_key(&self.agreement, number, &agency, &subject_key);
        let bits = self.verifier.history_bits();
        let bucket = bucket_of(&key, bits);
        let entries =
            self.verifier.bucket_entries(&history.bucket_entries, bucket, header.history_size)?;
        let piece = Piece::read(history, &entries)?;
        if piece.is_last {
            let path = merkle::read_path(&history.path).map_err(HistoryProofError::PathBytes)?;
            let leaf = merkle::leaf_hash(piece.after.as_bytes());
            merkle::verify_inclusion(&leaf, bucket.into(), 1 << bits, &path, &header.history_root)
                .map_err(HistoryProofError::HistoryRoot)?;
        }
        let entries: Vec<HistoryEntry> =
            entries.into_iter().filter(|entry| entry.key == key).collect();
        Ok(((number, agency), piece.about(subject_key, entries)))
    }
}

/// What all pages of a proof have in common.
#[derive(PartialEq, Eq)]
struct Shown {
    header: Header,
    subject: v1::Subject,
    agreement: Hash,
    epochs: Vec<Epoch>,
}

/// A page that is right by itself.
struct Page {
    shown: Shown,
    finalized_by: Vec<usize>,
    number: u32,
    is_last: bool,
    pieces: BTreeMap<Pair, Piece>,
}

/// The pages that were given so far.
struct Gathered {
    shown: Shown,
    finalized_by: Vec<usize>,
    numbers: BTreeSet<u32>,
    last: Option<u32>,
    pieces: BTreeMap<Pair, Pieces>,
}

impl Gathered {
    fn of(page: Page) -> Self {
        let Page { shown, finalized_by, number, is_last, pieces } = page;
        let pieces = pieces.into_iter().map(|(pair, piece)| (pair, Pieces::of(piece)));
        let (numbers, last) = (BTreeSet::from([number]), is_last.then_some(number));
        Self { shown, finalized_by, numbers, last, pieces: pieces.collect() }
    }

    fn add(&mut self, page: Page) -> Result<(), SealedHistoryError> {
        if page.shown != self.shown {
            return Err(SealedHistoryError::OtherPage);
        }
        self.numbers.insert(page.number);
        let last = page.is_last.then_some(page.number);
        if self.last.is_some() && last.is_some_and(|last| self.last != Some(last)) {
            return Err(SealedHistoryError::OtherPage);
        }
        self.last = self.last.or(last);
        // What the answer rests on is the certificate with the fewest signers.
        if page.finalized_by.len() < self.finalized_by.len() {
            self.finalized_by = page.finalized_by;
        }
        for (pair, piece) in page.pieces {
            match self.pieces.get_mut(&pair) {
                Some(pieces) => pieces.add(piece).map_err(|()| SealedHistoryError::OtherPage)?,
                None => drop(self.pieces.insert(pair, Pieces::of(piece))),
            }
        }
        Ok(())
    }

    /// Each pair of the agreement, whether something was shown of it or not.
    fn answer(self) -> Result<VerifiedSealedHistory, SealedHistoryError> {
        let Self { shown, finalized_by, numbers, last, pieces } = self;
        let highest = numbers.last().copied().unwrap_or_default();
        if last.is_some_and(|last| last < highest) {
            return Err(SealedHistoryError::OtherPage);
        }
        let mut histories = Vec::new();
        for (epoch, known) in (1..).zip(&shown.epochs) {
            for agency in &known.parties {
                let coverage = match pieces.get(&(epoch, *agency)) {
                    None => Coverage::NotShown,
                    Some(pieces) => {
                        pieces.joined().map_err(|()| SealedHistoryError::Join(epoch, *agency))?
                    }
                };
                histories.push(AgencyHistory { epoch, agency: *agency, coverage });
            }
        }
        let pages_missing = (1..highest).filter(|page| !numbers.contains(page)).collect();
        let Shown { header, subject, agreement, epochs, .. } = shown;
        Ok(VerifiedSealedHistory {
            header,
            finalized_by,
            subject,
            agreement,
            epochs,
            histories,
            pages_missing,
            has_last_page: last.is_some(),
        })
    }
}
