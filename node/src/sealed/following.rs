//! Looking at what is committed: which sealed records this agency is entitled to, which of them are here, and which
//! it shares with others from now on.

use std::sync::{PoisonError, atomic::Ordering};

use customhouse_ledger::{
    agency::AgencyCode,
    agreement::Agreements,
    chain::{ListedSlot, ListedTransaction, LogWalk, Tip},
    transaction::EpochId,
};

use tokio::{sync::watch, task::spawn_blocking};
use tokio_util::sync::CancellationToken;

use super::{
    SealedId,
    error::SealedError,
    holdings::Holdings,
    row::{Check, Row, Standing},
    store::{Batch, Outgoing, SlotPlace},
};

/// Transactions that are looked at before what was found is written.
const TRANSACTIONS_AT_ONCE: u64 = 256;
/// Pending records that are looked through for expired ones at a time.
const EXPIRED_AT_ONCE: usize = 1024;
/// Records that could not be checked before and are read at a time.
const CHECKED_AT_ONCE: usize = 256;

/// What a look at the log has changed, beside the rows.
#[derive(Default)]
struct Changed {
    /// No longer pending: agency and bytes.
    settled: Vec<(AgencyCode, u64)>,
    /// Whether there is something to fetch or to deliver.
    work: bool,
}

/// Looks at whatever is committed until the node stops.
///
/// # Errors
/// The stores'.
pub(crate) async fn follow(
    holdings: Holdings,
    mut committed: watch::Receiver<u64>,
    stop: CancellationToken,
) -> Result<(), SealedError> {
    let mut walk = LogWalk::new(holdings.0.reader.clone());
    loop {
        committed.borrow_and_update();
        let (of, at) = (holdings.clone(), walk);
        let looked = spawn_blocking(move || {
            let mut walk = at;
            let tip = of.0.reader.tip();
            let more = of.follow(&mut walk, &tip)?;
            if !more {
                // By the time of the block up to which all was looked at, and of no later one.
                of.expire(&tip)?;
                of.check_again(&mut walk)?;
                walk.forget();
            }
            Ok::<_, SealedError>((more, walk))
        });
        // A panic ends the process; a runtime that ends takes no more.
        let Ok(looked) = looked.await else { return Ok(()) };
        let more;
        (more, walk) = looked?;
        if stop.is_cancelled() {
            return Ok(());
        }
        if !more {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                changed = committed.changed() => if changed.is_err() { return Ok(()) },
                () = holdings.0.unchecked.notified() => {}
            }
        }
    }
}

impl Holdings {
    /// Looks at the next transactions of the log, as of a tip. True where there are more.
    ///
    /// # Errors
    /// The stores'.
    pub(super) fn follow(&self, walk: &mut LogWalk, tip: &Tip) -> Result<bool, SealedError> {
        let (from, agreements) = (self.0.store.cursor()?, &tip.agreements);
        let log_size = tip.header.log_size;
        let until = log_size.min(from + TRANSACTIONS_AT_ONCE);
        if from >= until {
            return Ok(false);
        }
        let (mut batch, mut changed) = (self.0.store.batch(), Changed::default());
        let turn = self.turn();
        for log_index in from..until {
            let Some(transaction) = walk.at(log_index)? else { break };
            for slot in &transaction.slots {
                if let Some(epoch) = slot.form.epoch() {
                    let at = (transaction, slot, &epoch);
                    self.look_at(at, agreements, &mut batch, &mut changed)?;
                }
            }
        }
        batch.put_cursor(until);
        batch.commit_unsynced()?;
        self.0.followed.send_replace(until);
        drop(turn);
        self.settle(&changed.settled);
        if changed.work {
            self.wake();
        }
        Ok(until < log_size)
    }

    fn look_at(
        &self,
        (transaction, slot, epoch): (&ListedTransaction, &ListedSlot, &EpochId),
        agreements: &Agreements,
        batch: &mut Batch<'_>,
        changed: &mut Changed,
    ) -> Result<(), SealedError> {
        let parties = agreements.parties(&epoch.agreement, epoch.number).unwrap_or_default();
        if !parties.contains(&self.0.agency) {
            return Ok(());
        }
        let agency = transaction.header.agency;
        let (id, is_own) =
            (SealedId { agency, record_id: slot.record_id }, agency == self.0.agency);
        if is_own {
            let not_after_ms = transaction.header.not_after_ms;
            let told = self.0.store.delivered(&slot.record_id)?;
            let waits =
                |party: &&AgencyCode| **party != agency && told.iter().all(|(to, _)| to != *party);
            for &to in parties.iter().filter(waits) {
                let (record_id, epoch) = (slot.record_id, *epoch);
                batch.put_outgoing(&Outgoing { to, not_after_ms, record_id, epoch });
                changed.work = true;
            }
        }
        match self.0.store.row(&id)? {
            Some(Row { standing: Standing::Pending { not_after_ms }, check }) => {
                let bytes = self.0.store.content(&id)?.map_or(0, |bytes| bytes.len() as u64);
                batch.end_pending(not_after_ms, &id);
                changed.settled.push((agency, bytes));
                let place = SlotPlace { log_index: transaction.log_index, position: slot.position };
                let check = match check {
                    Check::NotYet => self.check_held((&id, epoch), slot)?,
                    check => Some(check),
                };
                if check.is_none() {
                    // What was pushed is lost, or does not open: it is fetched.
                    batch.put_missing(&id, place);
                    changed.work = true;
                }
                let check = check.unwrap_or(Check::NotYet);
                if check == Check::NotYet {
                    batch.put_unchecked(&id, place);
                }
                batch.put_row(&id, &Row { standing: Standing::Committed, check });
            }
            Some(Row { standing: Standing::Committed, .. }) => {}
            None => {
                let (log_index, position) = (transaction.log_index, slot.position);
                batch.put_missing(&id, SlotPlace { log_index, position });
                changed.work = true;
            }
        }
        Ok(())
    }

    /// Holds the bytes that came before their slot against it; `None` where they are not here after all.
    fn check_held(
        &self,
        (id, epoch): (&SealedId, &EpochId),
        slot: &ListedSlot,
    ) -> Result<Option<Check>, SealedError> {
        match self.record(id) {
            Ok(record) => Ok(record.map(|r| self.check_slot((id, epoch), &slot.subject_keys, &r))),
            Err(SealedError::Store(error)) => Err(error.into()),
            Err(error) => {
                tracing::warn!(%error, record = %id.record_id.short(), "a sealed record does not open");
                Ok(None)
            }
        }
    }

    /// Forgets what came and was never committed in a block up to a time, up to which all was looked at.
    ///
    /// # Errors
    /// The store's.
    pub(super) fn expire(&self, tip: &Tip) -> Result<(), SealedError> {
        let time_ms = tip.header.time_ms;
        // A ledger that was put back has blocks to fetch that were looked at before.
        if self.0.store.cursor()? > tip.header.log_size {
            return Ok(());
        }
        loop {
            let _turn = self.turn();
            let expired = self.0.store.expired(time_ms, EXPIRED_AT_ONCE)?;
            if expired.is_empty() {
                return Ok(());
            }
            let (mut batch, mut settled) = (self.0.store.batch(), Vec::new());
            for (not_after_ms, id) in &expired {
                batch.end_pending(*not_after_ms, id);
                let row = self.0.store.row(id)?;
                if row.is_some_and(|row| row.standing != Standing::Committed) {
                    let bytes = self.0.store.content(id)?.map_or(0, |bytes| bytes.len() as u64);
                    settled.push((id.agency, bytes));
                    batch.forget(id);
                }
            }
            batch.commit()?;
            self.settle(&settled);
        }
    }

    /// Holds what came late against its slot; and what could not be checked before, where the vault has got other
    /// secrets since.
    ///
    /// # Errors
    /// The stores'.
    pub(super) fn check_again(&self, walk: &mut LogWalk) -> Result<(), SealedError> {
        let fresh =
            std::mem::take(&mut *self.0.fresh.lock().unwrap_or_else(PoisonError::into_inner));
        self.check_all(&fresh, walk)?;
        let generation = self.0.keys.vault.generation();
        if self.0.checked.swap(generation, Ordering::Relaxed) == generation {
            return Ok(());
        }
        let mut after = None;
        loop {
            let unchecked = self.0.store.unchecked_after(after.as_ref(), CHECKED_AT_ONCE)?;
            let Some((last, _)) = unchecked.last().copied() else { return Ok(()) };
            after = Some(last);
            self.check_all(&unchecked, walk)?;
        }
    }

    fn check_all(
        &self,
        unchecked: &[(SealedId, SlotPlace)],
        walk: &mut LogWalk,
    ) -> Result<(), SealedError> {
        for (id, place) in unchecked {
            let Some(transaction) = walk.at(place.log_index)? else { continue };
            let slot = transaction.slots.iter().find(|slot| slot.position == place.position);
            let Some((slot, epoch)) = slot.and_then(|slot| Some((slot, slot.form.epoch()?))) else {
                continue;
            };
            // Before anything is opened.
            if self.epoch(&epoch).is_none() {
                continue;
            }
            match self.check_held((id, &epoch), slot)? {
                Some(Check::NotYet) => {}
                Some(check) => {
                    let (_turn, mut batch) = (self.turn(), self.0.store.batch());
                    batch.put_row(id, &Row { standing: Standing::Committed, check });
                    batch.checked(id);
                    batch.commit_unsynced()?;
                }
                None => {
                    let (_turn, mut batch) = (self.turn(), self.0.store.batch());
                    batch.put_missing(id, *place);
                    batch.commit_unsynced()?;
                    self.wake();
                }
            }
        }
        Ok(())
    }
}
