//! From how a submission stands to what the client is told.

use customhouse_ledger::hash::Hash;
use customhouse_proto::v1::{self, Phase};

use crate::serve::refused::Refused;
use crate::submissions::{Accepted, End, NotCounted};

/// The phase of what was refused: rejected, or not taken for a reason that passes.
fn refused_phase(refused: &Refused) -> Phase {
    if refused.passes() { Phase::Unspecified } else { Phase::Rejected }
}

pub(super) fn of_record(
    idempotency_key: String,
    taken: Result<Accepted, Refused>,
) -> v1::RecordResult {
    match taken {
        Ok(accepted) => {
            let mut result = v1::RecordResult {
                idempotency_key,
                record_id: accepted.record_id.0.to_vec(),
                transaction_id: accepted.transaction_id.0.to_vec(),
                phase: Phase::Accepted as i32,
                ..Default::default()
            };
            if let Some(end) = &accepted.end {
                set_end(&mut result, end);
            }
            result
        }
        Err(refused) => v1::RecordResult {
            idempotency_key,
            record_id: refused.id.map(|id| id.0.to_vec()).unwrap_or_default(),
            phase: refused_phase(&refused) as i32,
            reason_code: refused.reason_code.to_owned(),
            reason: refused.message,
            ..Default::default()
        },
    }
}

pub(super) fn set_end(result: &mut v1::RecordResult, end: &End) {
    match end {
        End::Final { height, log_index, slot_index } => {
            result.phase = Phase::Final as i32;
            (result.height, result.log_index) = (*height, *log_index);
            result.slot_index = *slot_index;
        }
        // Of a transaction only.
        End::Partly { height, log_index, .. } => {
            result.phase = Phase::Final as i32;
            (result.height, result.log_index) = (*height, *log_index);
        }
        End::Repeat(first) => {
            result.phase = Phase::Final as i32;
            result.record_id = first.record_id.0.to_vec();
            result.transaction_id = first.transaction_id.0.to_vec();
            (result.height, result.log_index) = (first.height, first.log_index);
            result.slot_index = first.slot_index;
        }
        End::Expired => result.phase = Phase::Expired as i32,
        End::Rejected { code, reason } => {
            result.phase = Phase::Rejected as i32;
            (result.reason_code, result.reason) = (code.clone(), reason.clone());
        }
    }
}

pub(super) fn of_transaction(
    id: Hash,
    taken: Result<&Accepted, Refused>,
) -> v1::SubmitTransactionResponse {
    let transaction_id = id.0.to_vec();
    match taken {
        Ok(accepted) => {
            let phase = Phase::Accepted as i32;
            let mut answer =
                v1::SubmitTransactionResponse { transaction_id, phase, ..Default::default() };
            if let Some(end) = &accepted.end {
                set_transaction_end(&mut answer, end);
            }
            answer
        }
        Err(refused) => v1::SubmitTransactionResponse {
            transaction_id,
            phase: refused_phase(&refused) as i32,
            reason_code: refused.reason_code.to_owned(),
            reason: refused.message,
            ..Default::default()
        },
    }
}

pub(super) fn set_transaction_end(answer: &mut v1::SubmitTransactionResponse, end: &End) {
    match end {
        End::Final { height, log_index, .. } => {
            answer.phase = Phase::Final as i32;
            (answer.height, answer.log_index) = (*height, *log_index);
        }
        End::Partly { height, log_index, not_counted } => {
            answer.phase = Phase::Final as i32;
            (answer.height, answer.log_index) = (*height, *log_index);
            let shown = |slot: &NotCounted| v1::NotCounted {
                slot_index: slot.slot_index,
                reason_code: slot.code.to_owned(),
                reason: slot.reason.clone(),
            };
            answer.not_counted = not_counted.iter().map(shown).collect();
        }
        // Of a record only.
        End::Repeat(first) => {
            answer.phase = Phase::Final as i32;
            (answer.height, answer.log_index) = (first.height, first.log_index);
        }
        End::Expired => answer.phase = Phase::Expired as i32,
        End::Rejected { code, reason } => {
            answer.phase = Phase::Rejected as i32;
            (answer.reason_code, answer.reason) = (code.clone(), reason.clone());
        }
    }
}

pub(super) fn of_wait(phase: Phase) -> v1::WaitReceiptResponse {
    v1::WaitReceiptResponse { phase: phase as i32, ..Default::default() }
}

pub(super) fn receipt(receipt: v1::Receipt) -> v1::WaitReceiptResponse {
    v1::WaitReceiptResponse { receipt: Some(receipt), ..of_wait(Phase::Final) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::submissions::{First, SubmissionRefusal};

    #[test]
    fn the_phases_are_told_apart() {
        let accepted =
            |end| Ok(Accepted { record_id: Hash([1; 32]), transaction_id: Hash([2; 32]), end });
        let end = End::Final { height: 3, log_index: 4, slot_index: 5 };
        let rejected = End::Rejected { code: "C".into(), reason: "R".into() };
        let first = First {
            record_id: Hash([6; 32]),
            transaction_id: Hash([7; 32]),
            height: 3,
            log_index: 4,
            slot_index: 5,
        };
        let repeat = of_record("k".into(), accepted(Some(End::Repeat(first))));
        assert_eq!(repeat.record_id, [6; 32], "the record that is on the ledger");
        let full = SubmissionRefusal::Exhausted { what: "full".into(), retry_after_ms: 1 };
        let wrong = SubmissionRefusal::Field { field: "record", reason: "missing".into() };
        let table = [
            (accepted(None), Phase::Accepted, ""),
            (accepted(Some(end)), Phase::Final, ""),
            (accepted(Some(End::Repeat(first))), Phase::Final, ""),
            (accepted(Some(End::Expired)), Phase::Expired, ""),
            (accepted(Some(rejected)), Phase::Rejected, "C"),
            (Err(full.into()), Phase::Unspecified, "EXHAUSTED"),
            (Err(wrong.into()), Phase::Rejected, "FIELD"),
        ];
        for (taken, phase, reason_code) in table {
            let transaction = of_transaction(Hash([2; 32]), taken.as_ref().map_err(Clone::clone));
            let record = of_record("k".into(), taken);
            assert_eq!((record.phase(), record.reason_code.as_str()), (phase, reason_code));
            assert_eq!(
                (transaction.phase(), transaction.reason_code.as_str()),
                (phase, reason_code)
            );
            assert_eq!(record.idempotency_key, "k");
            assert_eq!(transaction.transaction_id, [2; 32]);
        }
    }
}
