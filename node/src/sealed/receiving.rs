//! Taking the bytes of other agencies' records, and giving those of this node to whoever shares them.

use std::{collections::BTreeSet, sync::PoisonError};

use customhouse_ledger::{
    agency::AgencyCode,
    authority::Role,
    hash::{Hash, Tag},
    keys::{PublicKey, Signature},
    transaction::EpochId,
};
use customhouse_proto::v1;
use customhouse_vault::{
    error::VaultError,
    group::RetentionMonth,
    lease::Leased,
    sealed::{SealedBytes, WrappedKey},
};
use prost::Message as _;
use zeroize::Zeroizing;

use super::{
    Check, SealedId,
    checking::{ContentError, check_content},
    error::SealedError,
    holdings::Holdings,
    row::{Row, Standing},
};
use crate::clock;

/// Records of one push or pull.
pub(crate) const RECORDS_MAX: usize = 256;
/// Bytes of what one answer gives, beyond the first record.
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// Bytes that are kept of an agency before their slots are committed.
const PENDING_BYTES_MAX: u64 = 64 << 20;
/// How far ahead of this node's clock another may be.
const SKEW_MS: u64 = 60_000;

const BUSY: &str = "SEALED_BUSY";
const NOT_SHARED: &str = "SEALED_NOT_SHARED";
const NOT_AFTER: &str = "SEALED_NOT_AFTER";

/// A record that is to be kept.
struct New {
    id: SealedId,
    content: Zeroizing<Vec<u8>>,
    /// Until when its slot may be committed, where that is not known to be.
    not_after_ms: u64,
}

/// A wrapped key, with what keeps its group from being ended where it is new.
type Intended = (WrappedKey, Option<Leased<WrappedKey>>);

/// Why a pushed record is not taken.
struct Refused {
    code: &'static str,
    /// Where no honest peer sends it.
    fault: Option<&'static str>,
}

impl Refused {
    fn of(code: &'static str) -> Self {
        Self { code, fault: None }
    }
}

/// What a receiving node signs.
pub(crate) fn held_message(chain_id: &Hash, id: &SealedId, holder: &AgencyCode) -> Vec<u8> {
    let (agency, record_id) = (id.agency.as_bytes(), id.record_id.as_bytes());
    Tag::HELD.message(&[chain_id.as_bytes(), agency, record_id, holder.as_bytes()])
}

/// What came of a push: an answer, and whether the peer sent what no honest one sends.
pub(crate) struct Received {
    pub(crate) answer: v1::SealedPushed,
    pub(crate) fault: Option<&'static str>,
}

impl Holdings {
    /// Takes what an agency's node pushes. What is told to be held is durable.
    ///
    /// # Errors
    /// The stores', the vault's or the mirror's: nothing was told to be held then.
    pub(crate) fn receive(
        &self,
        from: AgencyCode,
        push: v1::SealedPush,
    ) -> Result<Received, SealedError> {
        let (mut outcomes, mut new, mut fault) = (Vec::new(), Vec::new(), None);
        for pushed in push.records.into_iter().take(RECORDS_MAX) {
            let id = SealedId { agency: from, record_id: hash(&pushed.record_id) };
            let outcome = match self.look_at_pushed(&id, pushed)? {
                Ok(found) => {
                    new.extend(found);
                    Ok(())
                }
                Err(refused) => {
                    fault = fault.or(refused.fault);
                    Err(refused.code)
                }
            };
            outcomes.push((id, outcome));
        }
        self.keep(new)?;
        let answer = |(id, outcome): (SealedId, Result<(), &str>)| match outcome {
            Ok(()) => self.signed(&id),
            Err(code) => v1::HeldRecord { reason_code: code.to_owned(), ..Default::default() },
        };
        let records = outcomes.into_iter().map(answer).collect();
        Ok(Received { answer: v1::SealedPushed { records }, fault })
    }

    fn signed(&self, id: &SealedId) -> v1::HeldRecord {
        let message = held_message(&self.0.chain_id, id, &self.0.agency);
        v1::HeldRecord {
            reason_code: String::new(),
            signer: self.0.signing_key.public().as_bytes().to_vec(),
            signature: self.0.signing_key.sign(&message).0.to_vec(),
        }
    }

    /// What is to be kept of a pushed record; nothing where it is here.
    fn look_at_pushed(
        &self,
        id: &SealedId,
        pushed: v1::PushedRecord,
    ) -> Result<Result<Option<New>, Refused>, SealedError> {
        let epoch = EpochId { agreement: hash(&pushed.agreement), number: pushed.epoch };
        if !self.is_shared_with(&epoch, &[id.agency, self.0.agency]) {
            return Ok(Err(Refused::of(NOT_SHARED)));
        }
        if self.is_here(id)? {
            return Ok(Ok(None));
        }
        let content = pushed.content.unwrap_or_default();
        if let Err(error) = check_content(id, &content) {
            let fault = error.is_fault().then(|| error.code());
            return Ok(Err(Refused { code: error.code(), fault }));
        }
        let content = Zeroizing::new(content.encode_to_vec());
        if self.0.store.missing(id)?.is_some() {
            return Ok(Ok(Some(New { id: *id, content, not_after_ms: 0 })));
        }
        let tip = self.0.reader.tip();
        let lifetime_ms = tip.parameters.transaction_lifetime_ms_max;
        let latest_ms = clock::unix_ms().saturating_add(lifetime_ms + SKEW_MS);
        let not_after_ms = pushed.not_after_ms;
        if not_after_ms > latest_ms {
            return Ok(Err(Refused::of(NOT_AFTER)));
        }
        let pending = self.pending().get(&id.agency).copied().unwrap_or_default();
        // What can be committed no more is of no use, and what is committed is not known to this node yet.
        if pending + content.len() as u64 > PENDING_BYTES_MAX || not_after_ms < tip.header.time_ms {
            return Ok(Err(Refused::of(BUSY)));
        }
        Ok(Ok(Some(New { id: *id, content, not_after_ms })))
    }

    /// Whether a record is here and opens. What is told to be held can be given to others.
    fn is_here(&self, id: &SealedId) -> Result<bool, SealedError> {
        if self.0.store.row(id)?.is_none() {
            return Ok(false);
        }
        match self.content(id) {
            Ok(content) => Ok(content.is_some()),
            Err(SealedError::Store(error)) => Err(error.into()),
            Err(_) => Ok(false),
        }
    }

    /// Whether all of these are parties of an epoch.
    fn is_shared_with(&self, epoch: &EpochId, agencies: &[AgencyCode]) -> bool {
        let agreements = self.0.reader.agreements();
        let parties = agreements.parties(&epoch.agreement, epoch.number);
        parties.is_some_and(|parties| agencies.iter().all(|agency| parties.contains(agency)))
    }

    /// Seals and keeps what was taken: intents first, so that a crash leaves no copy under a key that nobody knows of.
    fn keep(&self, mut new: Vec<New>) -> Result<(), SealedError> {
        let mut ids = BTreeSet::new();
        new.retain(|new| ids.insert(new.id));
        if new.is_empty() {
            return Ok(());
        }
        let (vault, month) = (&self.0.keys.vault, self.0.keys.retention_month());
        let mut keys = self.intend(&mut new, month)?;
        let mut sealed: Vec<(SealedId, Leased<SealedBytes>)> = Vec::with_capacity(new.len());
        for (new, key) in new.iter().zip(&mut keys) {
            let place = self.place(&new.id);
            let again = match vault.seal_again(place, &key.0, &new.content) {
                // The group of an intent that a crash has left may be ended since, or closed.
                Err(VaultError::Ended(_) | VaultError::GroupUnknown(_) | VaultError::Closed(_)) => {
                    let fresh = vault.new_key(place, month)?;
                    let mut intent = self.0.store.batch();
                    intent.put_content(&new.id, fresh.as_bytes());
                    intent.commit()?;
                    *key = (*fresh, Some(fresh));
                    vault.seal_again(place, &key.0, &new.content)
                }
                sealed => sealed,
            };
            sealed.push((new.id, again?));
        }
        self.mirror(sealed.iter().map(|(id, sealed)| (*id, &**sealed)))?;
        self.write_kept(&new, &sealed)?;
        sealed.into_iter().for_each(|(_, sealed)| drop(sealed.stored()));
        Ok(())
    }

    /// A wrapped key for each, durable at its place: the one that a crash has left there, or a new one. What another
    /// has brought meanwhile is left out: no key takes the place of bytes that are told to be held.
    fn intend(
        &self,
        new: &mut Vec<New>,
        month: RetentionMonth,
    ) -> Result<Vec<Intended>, SealedError> {
        let (_turn, mut here) = (self.turn(), Vec::with_capacity(new.len()));
        for New { id, .. } in &*new {
            here.push(self.is_here(id)?);
        }
        let mut here = here.into_iter();
        new.retain(|_| here.next() == Some(false));
        let (mut intents, mut keys) = (self.0.store.batch(), Vec::with_capacity(new.len()));
        for New { id, .. } in &*new {
            let before = self.0.store.content(id)?.filter(|kept| kept.len() == WrappedKey::LENGTH);
            keys.push(match before.and_then(|kept| WrappedKey::decode(&kept).ok()) {
                Some(key) => (key, None),
                None => {
                    let key = self.0.keys.vault.new_key(self.place(id), month)?;
                    intents.put_content(id, key.as_bytes());
                    (*key, Some(key))
                }
            });
        }
        if !intents.is_empty() {
            intents.commit()?;
        }
        Ok(keys)
    }

    /// Writes what was sealed, and how it stands now: its slot may have been committed meanwhile, and another node of the
    /// agency have pushed it.
    fn write_kept(
        &self,
        new: &[New],
        sealed: &[(SealedId, Leased<SealedBytes>)],
    ) -> Result<(), SealedError> {
        let (_turn, mut batch) = (self.turn(), self.0.store.batch());
        let (mut pending, mut fresh) = (Vec::new(), Vec::new());
        for (New { id, not_after_ms, .. }, (_, sealed)) in new.iter().zip(sealed) {
            let (bytes, before) = (sealed.encode(), self.0.store.row(id)?);
            batch.put_content(id, &bytes);
            let standing = match (self.0.store.missing(id)?, before) {
                (Some(place), _) => {
                    batch.found(id);
                    batch.put_unchecked(id, place);
                    fresh.push((*id, place));
                    Standing::Committed
                }
                // Written again, where it did not open.
                (None, Some(row)) => {
                    batch.put_row(id, &row);
                    continue;
                }
                (None, None) => {
                    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                    batch.put_pending(*not_after_ms, id, length);
                    pending.push((id.agency, u64::from(length)));
                    Standing::Pending { not_after_ms: *not_after_ms }
                }
            };
            batch.put_row(id, &Row { standing, check: Check::NotYet });
        }
        batch.commit()?;
        if !fresh.is_empty() {
            self.0.fresh.lock().unwrap_or_else(PoisonError::into_inner).extend(fresh);
            self.0.unchecked.notify_one();
        }
        let mut held = self.pending();
        for (agency, bytes) in pending {
            *held.entry(agency).or_default() += bytes;
        }
        Ok(())
    }

    /// What is pending no longer counts.
    pub(super) fn settle(&self, settled: &[(AgencyCode, u64)]) {
        let mut pending = self.pending();
        for (agency, bytes) in settled {
            if let Some(held) = pending.get_mut(agency) {
                *held = held.saturating_sub(*bytes);
            }
        }
    }

    /// Gives an agency what it asks for, as far as it is here and the slots on the chain share it with that agency.
    ///
    /// # Errors
    /// The stores'.
    pub(crate) fn give(
        &self,
        to: AgencyCode,
        pull: &v1::SealedPull,
    ) -> Result<v1::SealedPulled, SealedError> {
        let (mut records, mut bytes) = (Vec::new(), 0);
        let Ok(agency) = pull.agency.parse() else { return Ok(v1::SealedPulled { records }) };
        for record_id in pull.record_ids.iter().take(RECORDS_MAX) {
            let id = SealedId { agency, record_id: hash(record_id) };
            if !self.may_have(&to, &id)? {
                continue;
            }
            let content = match self.content(&id) {
                Ok(content) => content,
                Err(SealedError::Store(error)) => return Err(error.into()),
                // What was purged here, or damaged, another may hold.
                Err(error) => {
                    tracing::debug!(%error, "a sealed record that was asked for does not open");
                    None
                }
            };
            let Some(content) = content else { continue };
            bytes += content.encoded_len();
            if bytes > ANSWER_BYTES_MAX && !records.is_empty() {
                break;
            }
            records.push(v1::PulledRecord { record_id: record_id.clone(), content: Some(content) });
        }
        Ok(v1::SealedPulled { records })
    }

    /// Whether a slot on the chain shares a record with an agency.
    pub(super) fn may_have(&self, to: &AgencyCode, id: &SealedId) -> Result<bool, SealedError> {
        let shared = self.0.reader.shared_under(&id.record_id, &id.agency)?;
        Ok(shared.iter().any(|(_, epoch)| self.is_shared_with(epoch, &[*to])))
    }

    /// Keeps what a peer has given of records that are missing here: how many it were. Nothing else that it gave is
    /// looked at.
    ///
    /// # Errors
    /// The inner one is the peer's fault.
    pub(crate) fn take_pulled(
        &self,
        agency: AgencyCode,
        pulled: v1::SealedPulled,
    ) -> Result<Result<usize, ContentError>, SealedError> {
        let (mut new, mut refused) = (Vec::new(), None);
        for record in pulled.records.into_iter().take(RECORDS_MAX) {
            let id = SealedId { agency, record_id: hash(&record.record_id) };
            if self.0.store.missing(&id)?.is_none() {
                continue;
            }
            let content = record.content.unwrap_or_default();
            match check_content(&id, &content) {
                Ok(_) => {
                    let content = Zeroizing::new(content.encode_to_vec());
                    new.push(New { id, content, not_after_ms: 0 });
                }
                Err(error) => refused = Some(error),
            }
        }
        let count = new.len();
        // What is good of it is good.
        self.keep(new)?;
        Ok(refused.map_or(Ok(count), Err))
    }

    /// Whether an agency's node has signed that it holds a record of this one.
    pub(super) fn is_signed(
        &self,
        (id, holder): (&SealedId, &AgencyCode),
        signer: &PublicKey,
        signature: &Signature,
    ) -> bool {
        let tip = self.0.reader.tip();
        let known = tip.registry.signer_at(signer, tip.header.height + 1);
        let is_node =
            known.is_some_and(|known| known.agency == *holder && known.role == Role::Node);
        is_node && signer.verify(&held_message(&self.0.chain_id, id, holder), signature).is_ok()
    }
}

/// A hash in a request; of another length it is that of nothing.
fn hash(bytes: &[u8]) -> Hash {
    Hash::from_slice(bytes).unwrap_or_default()
}
