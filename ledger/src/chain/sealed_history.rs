//! Making the proof of which sealed records about a subject were lodged under an agreement
//! ([`crate::proofs::sealed_history`]), for whoever has the secrets of its epochs. These are handed in: the ledger
//! knows of no vault.

use std::{collections::VecDeque, mem, sync::Arc};

use customhouse_proto::v1;
use prost::Message as _;

use crate::{
    agency::AgencyCode,
    agreement::{Agreement, AgreementProof},
    chain::{ChainReader, Tip, proofs::certificate_bytes},
    hash::Hash,
    history::{HistoryEntry, bucket_of, head_of},
    limits::SEALED_HISTORY_PROOF_BYTES_MAX,
    merkle,
    sealed_subject::{self, SealedSubjectError},
    store::{StoreError, Table},
    vrf::{VrfProof, VrfSecretKey},
};

/// More than what one history of a page needs beside its entries and its path: keys, heads, agency, numbers.
const HISTORY_BYTES: usize = 512;

/// Why there is no sealed history proof.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealedHistoryUnmade {
    /// The store failed.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// No subject that a record can have.
    #[error("{0}")]
    Subject(#[from] SealedSubjectError),
    /// No agreement of this id is under the newest header's registry root.
    #[error(
        "agreement {0} is not under the agreements root of the newest block: there is none of this id, or its last \
         epoch ended more than 31 days ago"
    )]
    Agreement(Hash),
    /// A secret that was handed in is not that of its epoch.
    #[error(
        "the secret that was given for epoch {0} has another public key than the epoch: give the epoch's own"
    )]
    Secret(u32),
    /// More than one page, where one was asked for.
    #[error("the proof has more than {SEALED_HISTORY_PROOF_BYTES_MAX} bytes: ask for it in pages")]
    TooLarge,
}

impl ChainReader {
    /// The proof of all sealed records about a subject under an agreement, as of the tip, of every epoch that
    /// `secrets` has the key of; the others are left out, and the verifier says so. In one page.
    ///
    /// # Errors
    /// [`SealedHistoryUnmade`].
    pub fn sealed_history_proof(
        &self,
        agreement: &Hash,
        subject: &v1::Subject,
        secrets: impl Fn(u32) -> Option<VrfSecretKey>,
    ) -> Result<v1::SealedHistoryProof, SealedHistoryUnmade> {
        let bytes_max = SEALED_HISTORY_PROOF_BYTES_MAX;
        let mut pages = self.sealed_history_pages(agreement, subject, secrets, bytes_max)?;
        let page = pages.next().ok_or(SealedHistoryUnmade::TooLarge)??;
        if page.page_count == 1 { Ok(page) } else { Err(SealedHistoryUnmade::TooLarge) }
    }

    /// The same in pages of about so many bytes, of which each has a whole agreement, and at least an entry or a
    /// history beside it. All are as of one header, whatever is committed while they are read.
    ///
    /// Makes a proof by the verifiable random function for each agency and epoch before the first page: some 0.2 ms.
    ///
    /// # Errors
    /// [`SealedHistoryUnmade`].
    pub fn sealed_history_pages(
        &self,
        agreement: &Hash,
        subject: &v1::Subject,
        secrets: impl Fn(u32) -> Option<VrfSecretKey>,
        page_bytes_max: usize,
    ) -> Result<SealedHistoryPages<'_>, SealedHistoryUnmade> {
        let mut agreements = self.agreements();
        loop {
            let known = agreements.get(agreement);
            let known = known.ok_or(SealedHistoryUnmade::Agreement(*agreement))?;
            let keys = self.proven_keys(known, subject, &secrets)?;
            let Some((snapshot, buckets)) = self.snapshot(known, subject, keys)? else {
                // Another epoch was agreed while the keys were made.
                agreements = self.agreements();
                continue;
            };
            let fixed = snapshot.page_without_histories(1).encoded_len();
            let room = page_bytes_max.min(SEALED_HISTORY_PROOF_BYTES_MAX).saturating_sub(fixed);
            return Ok(SealedHistoryPages {
                reader: self,
                snapshot,
                buckets,
                read: VecDeque::new(),
                room,
                pages: 0,
                is_done: false,
            });
        }
    }

    /// The key of the subject for each agency of each epoch whose secret there is, with its proof.
    fn proven_keys(
        &self,
        agreement: &Agreement,
        subject: &v1::Subject,
        secrets: &impl Fn(u32) -> Option<VrfSecretKey>,
    ) -> Result<Vec<ProvenKey>, SealedHistoryUnmade> {
        let mut keys = Vec::new();
        for (number, epoch) in (1..).zip(&agreement.epochs) {
            let Some(secret) = secrets(number) else { continue };
            if *secret.public() != epoch.key {
                return Err(SealedHistoryUnmade::Secret(number));
            }
            for agency in &epoch.parties {
                let key = sealed_subject::key_of(&secret, agency, subject)?;
                let index_key = sealed_subject::index_key(&agreement.id, number, agency, &key);
                let proof = sealed_subject::prove(&secret, agency, subject)?;
                keys.push(ProvenKey { epoch: number, agency: *agency, index_key, proof });
            }
        }
        Ok(keys)
    }

    /// What of the state the pages are made of, all as of one block. `None` where the agreement is another by now.
    fn snapshot(
        &self,
        agreement: &Agreement,
        subject: &v1::Subject,
        keys: Vec<ProvenKey>,
    ) -> Result<Option<(Snapshot, VecDeque<Bucket>)>, SealedHistoryUnmade> {
        let bits = self.genesis().history_bits;
        let state = self.shared.state();
        let agreements = state.members.agreements();
        if agreements.get(&agreement.id) != Some(agreement) {
            return Ok(None);
        }
        let (agreements, members_root) = (Arc::clone(agreements), state.members.members_root());
        let tip = Arc::clone(&state.tip);
        let of_key = |key: ProvenKey| {
            let number = bucket_of(&key.index_key, bits);
            let (head, path) = (state.history.head(number), state.history.path(number));
            Bucket { key, number, head, path, from: 0, before: Hash::ZERO }
        };
        let buckets = keys.into_iter().map(of_key).collect();
        drop(state);
        let proof = agreements.prove(&agreement.id);
        let proof = proof.ok_or(SealedHistoryUnmade::Agreement(agreement.id))?;
        let subject = subject.clone();
        Ok(Some((Snapshot { tip, members_root, proof, subject }, buckets)))
    }
}

/// Under which key an agency has the subject in an epoch.
struct ProvenKey {
    epoch: u32,
    agency: AgencyCode,
    index_key: Hash,
    proof: VrfProof,
}

/// What all pages have in common.
struct Snapshot {
    tip: Arc<Tip>,
    members_root: Hash,
    proof: AgreementProof,
    subject: v1::Subject,
}

impl Snapshot {
    fn page_without_histories(&self, page: u32) -> v1::SealedHistoryProof {
        let Self { tip, members_root, proof, subject } = self;
        v1::SealedHistoryProof {
            agreement_entry: proof.entry.clone(),
            agreement_index: proof.index,
            agreement_count: proof.count,
            agreement_path: merkle::path_bytes(&proof.path),
            agreements_head: proof.head.0.to_vec(),
            members_root: members_root.0.to_vec(),
            header: tip.header.encode(),
            certificate: certificate_bytes(tip.certificate.as_ref()),
            subject_scheme: subject.scheme.unsigned_abs(),
            subject_id: subject.id.clone(),
            page,
            page_count: 0,
            histories: Vec::new(),
        }
    }
}

/// The bucket of a key, as far as it is not in a page yet.
struct Bucket {
    key: ProvenKey,
    number: u32,
    head: Hash,
    path: Vec<Hash>,
    /// The first entry that is not in a page, and the head before it.
    from: u64,
    before: Hash,
}

/// The pages of a sealed history proof, made one by one. A bucket's entries are read when its turn comes.
pub struct SealedHistoryPages<'a> {
    reader: &'a ChainReader,
    snapshot: Snapshot,
    buckets: VecDeque<Bucket>,
    /// Entries of the first bucket that are in no page yet; empty where it was not read.
    read: VecDeque<HistoryEntry>,
    /// Bytes that the histories of a page may have.
    room: usize,
    pages: u32,
    is_done: bool,
}

impl Iterator for SealedHistoryPages<'_> {
    type Item = Result<v1::SealedHistoryProof, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_done {
            return None;
        }
        self.pages += 1;
        let page = self.page();
        self.is_done = !matches!(&page, Ok(page) if page.page_count == 0);
        Some(page)
    }
}

impl SealedHistoryPages<'_> {
    fn page(&mut self) -> Result<v1::SealedHistoryProof, StoreError> {
        let mut page = self.snapshot.page_without_histories(self.pages);
        let mut room = self.room;
        while let Some(mut bucket) = self.buckets.pop_front() {
            if self.read.is_empty() {
                self.read = self.entries(&bucket)?;
            }
            let fixed = HISTORY_BYTES + 32 * bucket.path.len();
            let fits = room.saturating_sub(fixed) / HistoryEntry::LENGTH;
            // Whatever room there is, a page goes on by an entry.
            let is_first = page.histories.is_empty();
            if room < fixed && !is_first || fits == 0 && !self.read.is_empty() && !is_first {
                self.buckets.push_front(bucket);
                return Ok(page);
            }
            let count = self.read.len().min(fits.max(1));
            let entries: Vec<_> = self.read.drain(..count).collect();
            room = room.saturating_sub(fixed + count * HistoryEntry::LENGTH);
            let is_last = self.read.is_empty();
            page.histories.push(bucket.piece(&entries, is_last));
            if !is_last {
                self.buckets.push_front(bucket);
                return Ok(page);
            }
        }
        page.page_count = page.page;
        Ok(page)
    }

    /// All entries of a bucket, which were checked against its head.
    fn entries(&self, bucket: &Bucket) -> Result<VecDeque<HistoryEntry>, StoreError> {
        let bits = self.reader.genesis().history_bits;
        let size = self.snapshot.tip.header.history_size;
        let entries = self.reader.bucket_entries(bucket.number, bits, size)?;
        if head_of(&entries) != bucket.head {
            let what = "the bucket's entries do not give its head";
            return Err(StoreError::corrupt(Table::History, &bucket.number.to_be_bytes(), what));
        }
        Ok(entries.into())
    }
}

impl Bucket {
    /// Its next piece, after which it goes on.
    fn piece(&mut self, entries: &[HistoryEntry], is_last: bool) -> v1::SealedHistory {
        let after = entries.iter().fold(self.before, |head, entry| entry.chain(&head));
        let (from, before) = (self.from, mem::replace(&mut self.before, after));
        self.from += entries.len() as u64;
        v1::SealedHistory {
            epoch: self.key.epoch,
            agency: self.key.agency.to_string(),
            vrf_proof: self.key.proof.to_bytes().to_vec(),
            from_entry: from,
            head_before: if from == 0 { Vec::new() } else { before.0.to_vec() },
            bucket_entries: entries.iter().flat_map(HistoryEntry::encode).collect(),
            path: if is_last { merkle::path_bytes(&self.path) } else { Vec::new() },
            head_after: if is_last { Vec::new() } else { after.0.to_vec() },
        }
    }
}
