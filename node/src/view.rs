//! The ledger as one caller sees it at this node: what is open, and of what is sealed the records whose bytes this node
//! holds and the caller may read.
//!
//! Who may read is decided here and nowhere else: an officer what the agency is entitled to, whoever lodges what it
//! lodged itself, an auditor and an operator nothing of a sealed record but its slot.

use std::collections::BTreeSet;

use bytes::Bytes;
use customhouse_ledger::{
    agency::AgencyCode,
    chain::{ChainReader, CommittedRecord, RecordPlace},
    hash::Hash,
    record::subject::subject_key,
    sealed_subject,
    store::StoreError,
    transaction::{EpochId, SlotForm},
};
use customhouse_proto::v1::{self, sealed::Bytes as BytesState};
use prost::Message as _;

use crate::{
    identity::{ClientIdentity, Role},
    sealed::{Check, Holdings, PartyHolds, SealedId, Standing, error::SealedError},
};

/// Transactions that are waited for to be looked at.
const WAITED_FOR_MAX: u64 = 100_000;

/// The ledger as a caller sees it. Cheap to clone.
#[derive(Clone)]
pub struct View {
    reader: ChainReader,
    holdings: Option<Holdings>,
    agency: AgencyCode,
    /// Who asks; nobody where the node itself looks.
    caller: Option<ClientIdentity>,
    /// Whether it waits for sealed records that were committed just now to be looked at.
    waits: bool,
}

/// What a caller sees of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenRecord {
    /// Canonical bytes, where they are seen.
    pub bytes: Option<Bytes>,
    /// What is said of a sealed one; `None` where it is open.
    pub sealed: Option<v1::Sealed>,
}

impl View {
    /// As a client of this agency's node sees it.
    pub fn of(
        reader: ChainReader,
        holdings: Option<Holdings>,
        agency: AgencyCode,
        caller: &ClientIdentity,
    ) -> Self {
        Self { reader, holdings, agency, caller: Some(caller.clone()), waits: false }
    }

    /// Of an open ledger, where nobody asks.
    #[cfg(test)]
    pub(crate) fn open(reader: ChainReader, agency: AgencyCode) -> Self {
        Self { reader, holdings: None, agency, caller: None, waits: false }
    }

    /// The same for a feed, which comes to each record once.
    #[must_use]
    pub fn waiting(self) -> Self {
        Self { waits: true, ..self }
    }

    /// Whether a transaction was committed just now, and it is not known yet which of its sealed records are here. Where
    /// much is not looked at, nobody waits for that.
    pub fn is_to_be_looked_at(&self, log_index: u64) -> bool {
        let Some(holdings) = self.holdings.as_ref().filter(|_| self.waits) else { return false };
        let followed = *holdings.followed().borrow();
        let behind = self.reader.tip().header.log_size.saturating_sub(followed);
        log_index >= followed && behind <= WAITED_FOR_MAX
    }

    /// The ledger without the bytes of sealed records.
    pub fn reader(&self) -> &ChainReader {
        &self.reader
    }

    /// What is seen of a slot's record, whose bytes the chain has where it is open.
    ///
    /// # Errors
    /// The store's.
    pub fn see(
        &self,
        (form, id): (&SlotForm, &SealedId),
        open: Option<Bytes>,
    ) -> Result<SeenRecord, StoreError> {
        let Some(epoch) = form.epoch() else { return Ok(SeenRecord { bytes: open, sealed: None }) };
        let (state, check, bytes) = self.look(id, &epoch)?;
        let sealed = v1::Sealed {
            agreement: epoch.agreement.0.to_vec(),
            epoch: epoch.number,
            is_grant: matches!(form, SlotForm::Grant(_)),
            bytes: state as i32,
            warning: check.and_then(Check::code).unwrap_or_default().to_owned(),
            is_checked: check == Some(Check::Right),
        };
        Ok(SeenRecord { bytes, sealed: Some(sealed) })
    }

    fn look(
        &self,
        id: &SealedId,
        epoch: &EpochId,
    ) -> Result<(BytesState, Option<Check>, Option<Bytes>), StoreError> {
        let agreements = self.reader.agreements();
        let is_ours = |epoch: &EpochId| {
            let parties = agreements.parties(&epoch.agreement, epoch.number);
            parties.is_some_and(|parties| parties.contains(&self.agency))
        };
        // It may have been shared with this agency later, by a grant.
        let shared = || self.reader.shared_under(&id.record_id, &id.agency);
        if !is_ours(epoch) && !shared()?.iter().any(|(_, granted)| is_ours(granted)) {
            return Ok((BytesState::NotShared, None, None));
        }
        let Some(holdings) = &self.holdings else {
            return Ok((BytesState::NoVault, None, None));
        };
        if !self.may_read_any(id) {
            return Ok((BytesState::NotForCaller, None, None));
        }
        let found = self.opened(holdings, id)?;
        // Whoever reads some records only is told of those alone: that another is missing would answer a guess.
        let sees_all = self.caller.as_ref().is_none_or(|caller| caller.role == Role::Officer);
        Ok(match found {
            (BytesState::Here, ..) => found,
            _ if sees_all => found,
            _ => (BytesState::NotForCaller, None, None),
        })
    }

    fn opened(
        &self,
        holdings: &Holdings,
        id: &SealedId,
    ) -> Result<(BytesState, Option<Check>, Option<Bytes>), StoreError> {
        let row = holdings.row(id).map_err(store_error)?;
        let Some(row) = row.filter(|row| row.standing == Standing::Committed) else {
            return Ok((BytesState::Missing, None, None));
        };
        let bytes = match holdings.record(id) {
            Ok(bytes) => bytes,
            Err(error @ (SealedError::Store(_) | SealedError::Ledger(_))) => {
                return Err(store_error(error));
            }
            Err(error) => {
                holdings.reclaim(id, &error).map_err(store_error)?;
                tracing::warn!(%error, record = %id.record_id.short(), "a sealed record does not open");
                return Ok((BytesState::Unreadable, Some(row.check), None));
            }
        };
        let Some(bytes) = bytes else { return Ok((BytesState::Missing, None, None)) };
        if !self.may_read(id, &bytes) {
            return Ok((BytesState::NotForCaller, None, None));
        }
        Ok((BytesState::Here, Some(row.check), Some(bytes)))
    }

    /// Whether the caller may read any record of an agency: those that may read none are not told what is here.
    fn may_read_any(&self, id: &SealedId) -> bool {
        match self.caller.as_ref().map(|caller| caller.role) {
            None | Some(Role::Officer) => true,
            Some(Role::Auditor | Role::Operator) => false,
            Some(Role::Broker | Role::Carrier | Role::Trader | Role::Port) => {
                id.agency == self.agency
            }
        }
    }

    /// Whether the caller may look for sealed records of an agency, or of any, by what they are about. Whoever reads
    /// none of them could test a guess by that.
    fn may_ask_by_subject(&self, agency: Option<&AgencyCode>) -> bool {
        match self.caller.as_ref().map(|caller| caller.role) {
            None | Some(Role::Officer) => true,
            Some(Role::Auditor | Role::Operator) => false,
            Some(Role::Broker | Role::Carrier | Role::Trader | Role::Port) => {
                agency.is_none_or(|agency| *agency == self.agency)
            }
        }
    }

    /// Whether a record that was found by what it is about is told of: where the caller may not read it, that there is
    /// one would answer a guess.
    pub fn tells_of_found(sealed: Option<&v1::Sealed>) -> bool {
        sealed.is_none_or(|sealed| sealed.bytes() != BytesState::NotForCaller)
    }

    fn may_read(&self, id: &SealedId, record: &Bytes) -> bool {
        let Some(caller) = self.caller.as_ref().filter(|caller| caller.role != Role::Officer)
        else {
            return true;
        };
        let lodged_by = v1::Record::decode(record.clone()).map(|record| record.submitter);
        self.may_read_any(id) && lodged_by.is_ok_and(|name| name == caller.name)
    }

    /// A committed record with what is seen of it.
    ///
    /// # Errors
    /// The store's.
    pub fn record(
        &self,
        id: &Hash,
    ) -> Result<Option<(CommittedRecord, Option<v1::Sealed>)>, StoreError> {
        let Some(place) = self.place(id)? else { return Ok(None) };
        let found = self.reader.record_at(place.log_index, place.position)?;
        found.map(|found| self.seen(found)).transpose()
    }

    /// Where the record of an id is that matters most here: this agency's own, then one that is open or shared with it,
    /// then any. Whoever takes another's id first takes nothing by that.
    ///
    /// # Errors
    /// The store's.
    pub fn place(&self, id: &Hash) -> Result<Option<RecordPlace>, StoreError> {
        if let Some(own) = self.reader.place_of(id, &self.agency)? {
            return Ok(Some(own));
        }
        let Some(first) = self.reader.place(id)? else { return Ok(None) };
        let agreements = self.reader.agreements();
        let is_shared = |agency: &AgencyCode| -> Result<bool, StoreError> {
            let shared = self.reader.shared_under(id, agency)?;
            Ok(shared.iter().any(|(_, epoch)| {
                let parties = agreements.parties(&epoch.agreement, epoch.number);
                parties.is_some_and(|parties| parties.contains(&self.agency))
            }))
        };
        if self.reader.shared_under(id, &first.agency)?.is_empty() || is_shared(&first.agency)? {
            return Ok(Some(first));
        }
        let ours = agreements.all().flat_map(|agreement| &agreement.epochs);
        let ours = ours.filter(|epoch| epoch.parties.contains(&self.agency));
        let partners: BTreeSet<_> = ours.flat_map(|epoch| epoch.parties.iter().copied()).collect();
        for agency in partners {
            if is_shared(&agency)?
                && let Some(place) = self.reader.place_of(id, &agency)?
            {
                return Ok(Some(place));
            }
        }
        Ok(Some(first))
    }

    /// A record of this node's agency: another's sealed slot of the same id says nothing about it.
    ///
    /// # Errors
    /// The store's.
    pub fn record_of_own(
        &self,
        id: &Hash,
    ) -> Result<Option<(CommittedRecord, Option<v1::Sealed>)>, StoreError> {
        let Some(place) = self.reader.place_of(id, &self.agency)? else { return Ok(None) };
        let found = self.reader.record_at(place.log_index, place.position)?;
        found.map(|found| self.seen(found)).transpose()
    }

    /// Which parties hold a record of this node's agency.
    ///
    /// # Errors
    /// The store's.
    pub fn parties(&self, id: &SealedId) -> Result<Vec<PartyHolds>, StoreError> {
        let Some(holdings) = &self.holdings else { return Ok(Vec::new()) };
        holdings.parties(id).map_err(store_error)
    }

    /// What is seen of a record that was read.
    ///
    /// # Errors
    /// The store's.
    pub fn seen(
        &self,
        found: CommittedRecord,
    ) -> Result<(CommittedRecord, Option<v1::Sealed>), StoreError> {
        let id = SealedId { agency: found.place.agency, record_id: found.id };
        let SeenRecord { bytes, sealed } = self.see((&found.form, &id), found.bytes.clone())?;
        Ok((CommittedRecord { bytes, ..found }, sealed))
    }

    /// All keys that the history may have a subject under, as far as this node can tell: its open key, and one for each
    /// epoch whose secret is here and each of its parties. Each takes about 60 µs.
    pub fn subject_keys(&self, subject: &v1::Subject) -> Vec<Hash> {
        let mut keys = vec![subject_key(subject)];
        let Some(holdings) = &self.holdings else { return keys };
        if !self.may_ask_by_subject(None) {
            return keys;
        }
        let agreements = self.reader.agreements();
        for agreement in agreements.all() {
            for (number, epoch) in (1..).zip(&agreement.epochs) {
                if !epoch.parties.contains(&self.agency) {
                    continue;
                }
                let name = EpochId { agreement: agreement.id, number };
                let Some(secret) = holdings.agreements().epoch_secret(&name) else { continue };
                for party in epoch.parties.iter().filter(|of| self.may_ask_by_subject(Some(of))) {
                    let key = sealed_subject::key_of(&secret, party, subject);
                    keys.extend(key.ok().map(|key| name.index_key(party, &key)));
                }
            }
        }
        keys
    }

    /// The places of all records under some keys, at most `count_max`: from a place on, ascending, or those before it,
    /// descending. Each once.
    ///
    /// # Errors
    /// The store's.
    pub fn places(
        &self,
        keys: &[Hash],
        from: (u64, u32),
        newest_first: bool,
        count_max: usize,
    ) -> Result<Vec<(u64, u32)>, StoreError> {
        let mut places = Vec::new();
        for key in keys {
            places.extend(self.reader.subject_places(key, from, newest_first, count_max)?);
        }
        places.sort_unstable();
        places.dedup();
        if newest_first {
            places.reverse();
        }
        places.truncate(count_max);
        Ok(places)
    }
}

fn store_error(error: SealedError) -> StoreError {
    match error {
        SealedError::Ledger(error) => error,
        other => {
            StoreError::Corrupt { table: "(sealed)", key: String::new(), what: other.to_string() }
        }
    }
}
