//! What was accepted, and what the members have since made too large or closed by a change of the network's parameters:
//! it ends at once and by name, so that its client need not wait until it expires.
//!
//! The members may take such a change back, and another node may still have the transaction then. It would be committed
//! and the ledger answers for it from then on, as for everything that is on it; submitted again under the same
//! idempotency key meanwhile, it counts once.

use customhouse_ledger::{chain::TransactionInvalid, hash::Hash, transaction::VerifiedTransaction};

use super::{
    BEHIND_MS_MAX, End,
    outbox::{AcceptedRecord, Changes, RecordState},
    worker::{Worker, WorkerError},
};
use crate::clock;

/// Slots whose end becomes durable with one sync; a transaction's more.
const ENDED_AT_ONCE: usize = 8192;

/// By which parameter no block may carry a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    TransactionTooLarge,
    TooManySlots,
    RecordTooLarge,
    KindNotOpen,
}

impl Unfit {
    /// Each, with its number in the outbox.
    const ALL: [(Self, u8); 4] = [
        (Self::TransactionTooLarge, 16),
        (Self::TooManySlots, 17),
        (Self::RecordTooLarge, 18),
        (Self::KindNotOpen, 19),
    ];

    /// By which parameter it is, if it is for one.
    fn of(invalid: &TransactionInvalid) -> Option<Self> {
        match invalid {
            TransactionInvalid::TooLarge { .. } => Some(Self::TransactionTooLarge),
            TransactionInvalid::TooManySlots { .. } => Some(Self::TooManySlots),
            TransactionInvalid::RecordTooLarge { .. } => Some(Self::RecordTooLarge),
            TransactionInvalid::KindNotOpen { .. } => Some(Self::KindNotOpen),
            _ => None,
        }
    }

    /// Its number in the outbox.
    pub(super) fn number(self) -> u8 {
        Self::ALL.iter().find(|(known, _)| *known == self).map_or(0, |(_, number)| *number)
    }

    pub(super) fn numbered(number: u8) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == number).map(|(unfit, _)| *unfit)
    }

    pub(super) fn end(self) -> End {
        let (code, what) = match self {
            Self::TransactionTooLarge => {
                ("TRANSACTION_TOO_LARGE", "the transaction has more bytes than one may have now")
            }
            Self::TooManySlots => {
                ("SLOT_COUNT", "the transaction has more records than one may have now")
            }
            Self::RecordTooLarge => {
                ("RECORD_TOO_LARGE", "a record of the transaction is larger than one may be now")
            }
            Self::KindNotOpen => (
                "KIND_NOT_OPEN",
                "a record of the transaction is of a kind that may not be lodged open any more",
            ),
        };
        let reason = format!(
            "{what}: the members have changed the network's parameters since it was accepted, and no block may \
             carry it. Submit it again: what still fits is taken, of all else the refusal says what to do"
        );
        End::Rejected { code: code.to_owned(), reason }
    }
}

impl Worker {
    /// Ends what does not fit the parameters any more, where they have changed. A node that catches up passes through
    /// parameters of long ago, by which nothing ends.
    pub(super) fn end_unfit(&mut self) -> Result<(), WorkerError> {
        let tip = self.reader.tip();
        let is_behind = clock::unix_ms().saturating_sub(tip.header.time_ms) > BEHIND_MS_MAX;
        if self.fitted == Some(tip.parameters) || is_behind {
            return Ok(());
        }
        let (mut changes, mut ended, mut slots) = (Changes::default(), Vec::new(), 0);
        let pending: Vec<_> = self.pending.keys().copied().collect();
        for key in pending {
            let Some((transaction, unfit)) = self.unfit(&key.1)? else { continue };
            self.remove_pending(&key);
            for (slot_index, slot) in (0..).zip(transaction.slots()) {
                if self.outbox.is_told_by(slot, &key.1)? {
                    let accepted = self.outbox.record(&slot.record_id)?;
                    let content = accepted.map(|accepted| accepted.content).unwrap_or_default();
                    let state = RecordState::Unfit(unfit);
                    let record = AcceptedRecord::of(&transaction, slot_index, state, content);
                    self.outbox.put_record(&mut changes, &slot.record_id, &record);
                }
            }
            self.outbox.forget_transaction(&mut changes, &key.1);
            tracing::info!(transaction = %key.1.short(), ?unfit, "what was accepted does not fit any more");
            ended.push((key.1, unfit));
            slots += transaction.slots().len();
            if slots >= ENDED_AT_ONCE {
                self.outbox.commit(std::mem::take(&mut changes))?;
                slots = 0;
                self.tell_unfit(std::mem::take(&mut ended));
            }
        }
        self.outbox.commit(changes)?;
        self.tell_unfit(ended);
        self.fitted = Some(tip.parameters);
        Ok(())
    }

    /// A pending transaction that no block may carry by the parameters as they are, unless it is on the ledger.
    fn unfit(&self, id: &Hash) -> Result<Option<(VerifiedTransaction, Unfit)>, WorkerError> {
        let Some(encoded) = self.outbox.transaction(id)? else { return Ok(None) };
        let verified = VerifiedTransaction::from_bytes(encoded.into(), &self.reader.chain_id());
        // Whatever is damaged is met where it expires.
        let Ok(transaction) = verified else { return Ok(None) };
        let invalid = self.reader.check_parameters(&transaction).err();
        let Some(unfit) = invalid.as_ref().and_then(Unfit::of) else { return Ok(None) };
        Ok(self.reader.log_index(id)?.is_none().then_some((transaction, unfit)))
    }

    fn tell_unfit(&mut self, ended: Vec<(Hash, Unfit)>) {
        for (id, unfit) in ended {
            self.waiting.tell(&id, &unfit.end());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_number_that_is_no_other_state_s_and_ends_as_rejected() {
        for (unfit, number) in Unfit::ALL {
            assert_eq!((unfit.number(), Unfit::numbered(number)), (number, Some(unfit)));
            assert!(number >= 16, "{number}");
            assert!(matches!(unfit.end(), End::Rejected { .. }));
        }
        assert_eq!(Unfit::numbered(0), None);
    }
}
