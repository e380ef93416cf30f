//! Proofs of all sealed records about a subject: what of an agreement they cover.

use customhouse_ledger::proofs::{sealed_history::VerifiedSealedHistory, verifier::Verifier};
use customhouse_proto::v1;

use super::{
    VERIFIERS,
    proofs::{has_both_forms, some},
    proves_nothing_new,
};

/// A page, by itself.
pub fn sealed_history_proof(bytes: &[u8]) -> bool {
    proves_nothing_new("sealed_history_proof", bytes)
}

pub(super) fn by_page(bytes: &[u8]) -> Option<Vec<String>> {
    let proven = facts(&[bytes])?;
    has_both_forms::<v1::SealedHistoryProof>(bytes);
    Some(proven)
}

/// Pages, each with its length before it.
pub fn sealed_history_pages(bytes: &[u8]) -> bool {
    proves_nothing_new("sealed_history_pages", bytes)
}

pub(super) fn by_pages(bytes: &[u8]) -> Option<Vec<String>> {
    facts(&pages(bytes)?)
}

/// The subject that is asked for, as a scheme, the id's length and the id, and a page: taken where the page is taken and
/// about that subject.
pub fn sealed_history_proof_of(bytes: &[u8]) -> bool {
    let Some((subject, page)) = asked(bytes) else { return false };
    let taken = VERIFIERS.each_ref().map(|verifier| {
        let about = verifier.verify_sealed_history([page]).map(|history| history.subject);
        let taken = verifier.verify_sealed_history_of(&subject, [page]).is_ok();
        assert_eq!(taken, about.as_ref() == Ok(&subject));
        taken
    });
    taken.contains(&true)
}

/// What is covered, of which agreement: nothing that is not covered is a fact.
fn facts(pages: &[&[u8]]) -> Option<Vec<String>> {
    let verify = |verifier: &Verifier| verifier.verify_sealed_history(pages).ok();
    let says = |history: VerifiedSealedHistory| {
        let VerifiedSealedHistory { header, subject, agreement, epochs, .. } = &history;
        let pairs: usize = epochs.iter().map(|epoch| epoch.parties.len()).sum();
        assert_eq!(history.histories.len(), pairs, "each party of each epoch is named");
        let hash = header.hash();
        let known = format!("as of {hash}, {agreement} has {epochs:?}");
        let proven = history.histories.iter().filter(|history| history.is_proven());
        let listed = proven.map(|history| {
            assert!(history.entries().iter().all(|entry| entry.log_index < header.history_size));
            format!("as of {hash}, {agreement}, about {subject:?}: {history:?}")
        });
        listed.chain([known]).collect::<Vec<_>>()
    };
    some(VERIFIERS.iter().filter_map(verify).flat_map(says).collect())
}

fn pages(mut bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let mut pages = Vec::new();
    while !bytes.is_empty() {
        let (page, rest) = counted(bytes)?;
        pages.push(page);
        bytes = rest;
    }
    Some(pages)
}

fn asked(bytes: &[u8]) -> Option<(v1::Subject, &[u8])> {
    let (scheme, rest) = bytes.split_first_chunk()?;
    let (id, page) = counted(rest)?;
    let id = str::from_utf8(id).ok()?.to_owned();
    Some((v1::Subject { scheme: i32::from_be_bytes(*scheme), id }, page))
}

/// Bytes with their length before them, and the rest.
fn counted(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(u32::from_be_bytes(*length) as usize)
}
