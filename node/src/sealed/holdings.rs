//! What this node holds of sealed records: bytes that it took from its own clients or from the agencies that share
//! theirs with it, each sealed under a key of its own before it comes near a disk.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicU64},
};

use bytes::Bytes;
use customhouse_ledger::{
    agency::AgencyCode,
    chain::{ChainReader, RecordPlace},
    hash::Hash,
    keys::SigningKey,
    transaction::{EpochId, Slot, SlotForm},
};
use customhouse_proto::v1;
use customhouse_vault::{
    error::VaultError,
    lease::Leased,
    mirror::{MirrorEntry, MirrorPart},
    sealed::{SealedBytes, SealedKind, SealedPlace, WrappedKey},
};
use prost::Message as _;
use tokio::sync::{Notify, watch};
use zeroize::Zeroizing;

use super::{
    error::{SealedError, SealedStoreError},
    keys::SealingKeys,
    row::{Check, Delivery, Row, Standing},
    store::{Outgoing, SealedId, SealedStore, SlotPlace},
};
use crate::agreements::HeldAgreements;

/// Refusals that are kept to be told, and bytes of the code of one: it comes from a peer.
const REFUSED_MAX: usize = 4096;
const CODE_BYTES_MAX: usize = 40;

/// What a node holds of sealed records. Cheap to clone.
#[derive(Clone)]
pub struct Holdings(pub(super) Arc<Held>);

pub(super) struct Held {
    pub(super) store: SealedStore,
    pub(super) keys: SealingKeys,
    pub(super) agreements: HeldAgreements,
    pub(super) reader: ChainReader,
    pub(super) agency: AgencyCode,
    pub(super) chain_id: Hash,
    /// Signs that a record is held.
    pub(super) signing_key: SigningKey,
    /// Bytes of each agency that are pending.
    pub(super) pending: Mutex<HashMap<AgencyCode, u64>>,
    /// Held while it is decided how a record stands: what comes of one and what is committed of it are looked at one
    /// after the other.
    turn: Mutex<()>,
    /// Why parties' nodes have refused records, the last time since the start.
    refused: Mutex<HashMap<(Hash, AgencyCode), String>>,
    /// Changes whenever something is to be delivered or fetched.
    pub(super) work: watch::Sender<u64>,
    /// How much of the log was looked at.
    pub(super) followed: watch::Sender<u64>,
    /// The vault's generation when what was not checked was looked at last.
    pub(super) checked: AtomicU64,
    /// What came and is to be held against its slot.
    pub(super) fresh: Mutex<Vec<(SealedId, SlotPlace)>>,
    /// Told where something came that is to be held against its slot.
    pub(super) unchecked: Notify,
}

/// A record of this agency that was sealed and is not kept yet.
#[derive(Debug)]
pub struct OwnSealed {
    /// Its id.
    pub record_id: Hash,
    /// As it is kept.
    pub sealed: Leased<SealedBytes>,
}

/// Whether a party holds a record of this agency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartyHolds {
    /// The party.
    pub agency: AgencyCode,
    /// Its word that it does.
    pub delivery: Option<Delivery>,
    /// Why its node refused it the last time since this one was started: a stable code.
    pub refused: Option<String>,
}

impl Holdings {
    /// Opens the store of sealed records.
    ///
    /// # Errors
    /// The store's.
    pub fn open(
        path: &Path,
        (keys, agreements): (SealingKeys, HeldAgreements),
        reader: ChainReader,
        signing_key: SigningKey,
    ) -> Result<Self, SealedStoreError> {
        let store = SealedStore::open(path, &reader.chain_id())?;
        let mut pending = HashMap::new();
        for (id, bytes) in store.pending()? {
            *pending.entry(id.agency).or_default() += u64::from(bytes);
        }
        let (agency, chain_id) = (agreements.agency(), reader.chain_id());
        let followed = store.cursor()?;
        let (pending, refused, work) =
            (Mutex::new(pending), Mutex::default(), watch::Sender::new(0));
        Ok(Self(Arc::new(Held {
            store,
            keys,
            agreements,
            reader,
            agency,
            chain_id,
            signing_key,
            pending,
            refused,
            turn: Mutex::default(),
            followed: watch::Sender::new(followed),
            checked: AtomicU64::new(0),
            fresh: Mutex::default(),
            unchecked: Notify::new(),
            work,
        })))
    }

    /// The agency's keys.
    pub fn keys(&self) -> &SealingKeys {
        &self.0.keys
    }

    /// The secrets and terms of epochs.
    pub fn agreements(&self) -> &HeldAgreements {
        &self.0.agreements
    }

    /// Seals a record of this agency. Its salt was just drawn, so that nothing was ever sealed at its place or will
    /// be: no intent is needed.
    ///
    /// # Errors
    /// The vault's.
    pub fn seal_own(
        &self,
        record_id: Hash,
        record: &Bytes,
    ) -> Result<Leased<SealedBytes>, VaultError> {
        let (place, month) = (self.place(&self.own(record_id)), self.0.keys.retention_month());
        let content = Zeroizing::new(v1::SealedContent { record: record.to_vec() }.encode_to_vec());
        self.0.keys.vault.seal(place, month, &content, |_: &WrappedKey| Ok::<_, VaultError>(()))
    }

    /// Keeps records of this agency: they are durable here, and at the second place where there is one, when this
    /// returns. What never comes onto the chain by `not_after_ms` is forgotten.
    ///
    /// # Errors
    /// The mirror's, where nothing is kept; the store's.
    pub fn accept(&self, records: Vec<OwnSealed>, not_after_ms: u64) -> Result<(), SealedError> {
        if records.is_empty() {
            return Ok(());
        }
        let entries = records.iter().map(|own| (self.own(own.record_id), &*own.sealed));
        self.mirror(entries)?;
        let mut batch = self.0.store.batch();
        let mut taken = 0;
        for OwnSealed { record_id, sealed, .. } in &records {
            let (id, bytes) = (self.own(*record_id), sealed.encode());
            let standing = Standing::Pending { not_after_ms };
            let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            taken += u64::from(length);
            batch.put_content(&id, &bytes);
            batch.put_row(&id, &Row { standing, check: Check::Right });
            batch.put_pending(not_after_ms, &id, length);
        }
        batch.commit()?;
        *self.pending().entry(self.0.agency).or_default() += taken;
        records.into_iter().for_each(|own| drop(own.sealed.stored()));
        Ok(())
    }

    /// Has records that were accepted delivered to those that share them. A crash may lose that: it is found again when
    /// their slots are committed.
    ///
    /// # Errors
    /// The store's.
    pub fn send(&self, slots: &[Slot], not_after_ms: u64) -> Result<(), SealedError> {
        let (mut batch, agreements) = (self.0.store.batch(), self.0.reader.agreements());
        for slot in slots {
            let SlotForm::Sealed(epoch) = slot.form else { continue };
            let parties = agreements.parties(&epoch.agreement, epoch.number).unwrap_or_default();
            for &to in parties.iter().filter(|party| **party != self.0.agency) {
                let record_id = slot.record_id;
                batch.put_outgoing(&Outgoing { to, not_after_ms, record_id, epoch });
            }
        }
        if !batch.is_empty() {
            batch.commit_unsynced()?;
            self.wake();
        }
        Ok(())
    }

    /// How much of the log was looked at: what is committed beyond is not known to be held, or not to be.
    pub fn followed(&self) -> watch::Receiver<u64> {
        self.0.followed.subscribe()
    }

    /// The canonical bytes of a record that is held, whoever lodged it.
    ///
    /// # Errors
    /// The store's or the vault's: among others, of what was purged.
    pub fn record(&self, id: &SealedId) -> Result<Option<Bytes>, SealedError> {
        Ok(self.content(id)?.map(|content| content.record.into()))
    }

    pub(super) fn content(&self, id: &SealedId) -> Result<Option<v1::SealedContent>, SealedError> {
        let Some(kept) = self.0.store.content(id)? else { return Ok(None) };
        // A wrapped key alone is what a crash has left of something that was never told to be held.
        if kept.len() == WrappedKey::LENGTH {
            return Ok(None);
        }
        let sealed = SealedBytes::decode(&kept)?;
        let opened = self.0.keys.vault.open_sealed(self.place(id), &sealed)?;
        let content = v1::SealedContent::decode(&opened[..]);
        content.map(Some).map_err(|_| self.not_its_content(id))
    }

    /// How a record stands that is held.
    ///
    /// # Errors
    /// The store's.
    pub fn row(&self, id: &SealedId) -> Result<Option<Row>, SealedError> {
        Ok(self.0.store.row(id)?)
    }

    /// Each party with which a record of this agency is shared, ascending, and whether it has said that it holds it.
    ///
    /// # Errors
    /// The stores'.
    pub fn parties(&self, id: &SealedId) -> Result<Vec<PartyHolds>, SealedError> {
        let (agreements, mut all) = (self.0.reader.agreements(), BTreeSet::new());
        for (_, epoch) in self.0.reader.shared_under(&id.record_id, &id.agency)? {
            let parties = agreements.parties(&epoch.agreement, epoch.number).unwrap_or_default();
            all.extend(parties.iter().filter(|party| **party != self.0.agency));
        }
        let delivered: BTreeMap<_, _> =
            self.0.store.delivered(&id.record_id)?.into_iter().collect();
        let refused = self.0.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let party = |agency: AgencyCode| PartyHolds {
            agency,
            delivery: delivered.get(&agency).copied(),
            refused: refused.get(&(id.record_id, agency)).cloned(),
        };
        Ok(all.into_iter().map(party).collect())
    }

    /// Takes down why a party's node has refused a record; forgets it where it holds it.
    pub(super) fn note_refused(&self, record_id: Hash, to: AgencyCode, code: Option<String>) {
        let mut refused = self.0.refused.lock().unwrap_or_else(PoisonError::into_inner);
        match code {
            None => _ = refused.remove(&(record_id, to)),
            // What is not taken down is only not told.
            Some(_) if refused.len() >= REFUSED_MAX => {}
            Some(mut code) => {
                code.truncate(CODE_BYTES_MAX);
                refused.insert((record_id, to), code);
            }
        }
    }

    /// Told whenever something is to be delivered or fetched.
    pub(super) fn work(&self) -> watch::Receiver<u64> {
        self.0.work.subscribe()
    }

    pub(super) fn wake(&self) {
        self.0.work.send_modify(|count| *count = count.wrapping_add(1));
    }

    pub(super) fn turn(&self) -> MutexGuard<'_, ()> {
        self.0.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn own(&self, record_id: Hash) -> SealedId {
        SealedId { agency: self.0.agency, record_id }
    }

    pub(super) fn place(&self, id: &SealedId) -> SealedPlace {
        let (chain_id, kind) = (self.0.chain_id, SealedKind::Record);
        SealedPlace { chain_id, agency: id.agency, record_id: id.record_id, kind }
    }

    pub(super) fn pending(&self) -> MutexGuard<'_, HashMap<AgencyCode, u64>> {
        self.0.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the second place keep what was sealed, where there is one.
    pub(super) fn mirror<'a>(
        &self,
        sealed: impl Iterator<Item = (SealedId, &'a SealedBytes)>,
    ) -> Result<(), SealedError> {
        let Some(mirror) = &self.0.keys.mirror else { return Ok(()) };
        let entry = |(id, sealed): (SealedId, &SealedBytes)| MirrorEntry {
            place: self.place(&id),
            part: MirrorPart::Whole(sealed.clone()),
        };
        Ok(mirror.append(&sealed.map(entry).collect::<Vec<_>>())?)
    }

    /// Has a record fetched again whose bytes are here and do not open. What was ended is not: that was purged.
    pub(crate) fn reclaim(&self, id: &SealedId, error: &SealedError) -> Result<(), SealedError> {
        let is_purged = matches!(error, SealedError::Vault(VaultError::Ended(_)));
        let shared = self.0.reader.shared_under(&id.record_id, &id.agency)?;
        let agreements = self.0.reader.agreements();
        let is_ours = |epoch: &EpochId| {
            let parties = agreements.parties(&epoch.agreement, epoch.number);
            parties.is_some_and(|parties| parties.contains(&self.0.agency))
        };
        let place = shared.iter().find(|(_, epoch)| is_ours(epoch)).map(|(place, _)| *place);
        if let Some(RecordPlace { log_index, position, .. }) = place.filter(|_| !is_purged) {
            let (_turn, mut batch) = (self.turn(), self.0.store.batch());
            batch.put_missing(id, SlotPlace { log_index, position });
            batch.commit_unsynced()?;
            self.wake();
        }
        Ok(())
    }

    pub(super) fn not_its_content(&self, id: &SealedId) -> SealedError {
        let (agency, record_id) = (id.agency.to_string(), id.record_id.to_string());
        SealedError::Content { agency, record_id }
    }
}
