//! What is done with a sealed record at its door: whether it was lodged before, whether its epoch is in force, and
//! that it is kept before anything of it is signed.

use customhouse_ledger::{
    hash::Hash, record::ValidRecord, registry::parameters::Parameters,
    transaction::VerifiedTransaction,
};
use customhouse_proto::v1;
use customhouse_vault::dedupe::content_secret;
use prost::Message as _;

use super::{
    Accepted, End, SubmissionRefusal,
    gathering::{Gathering, Plan},
    outbox::AcceptedRecord,
    prepare::{Prepared, check_size, content},
    sealing::PreparedSealed,
    worker::{Worker, WorkerError},
};
use crate::{
    clock,
    sealed::{SealedId, error::SealedError},
};

impl Worker {
    /// What is answered where the key was used on the ledger before, under the present secret or an earlier one.
    pub(super) fn plan_repeat(
        &mut self,
        prepared: &Prepared,
        sealed: &PreparedSealed,
    ) -> Result<Option<Plan>, WorkerError> {
        let earlier = sealed.earlier_keys.iter().map(|key| key.dedupe_key);
        for dedupe_key in std::iter::once(prepared.dedupe_key).chain(earlier) {
            let Some(place) = self.reader.dedupe(&self.agency, &dedupe_key)? else { continue };
            let (key, first) = (prepared.idempotency_key.clone(), place.record_id);
            let answer = match self.says_the_same(prepared, sealed, first)? {
                Some(true) => {
                    let (log_index, slot_index) = (place.log_index, place.position);
                    let height = self.reader.height_of(log_index)?;
                    let found = self.looked_up.transaction(log_index)?;
                    let transaction_id = found.map(|found| found.id).unwrap_or_default();
                    let end = Some(End::Final { height, log_index, slot_index });
                    Ok(Accepted { record_id: first, transaction_id, end })
                }
                Some(false) => Err(SubmissionRefusal::AlreadyExists { key, first }),
                None => Err(SubmissionRefusal::FirstMissing { key, first }),
            };
            return Ok(Some(Plan::Done(answer)));
        }
        Ok(None)
    }

    /// Whether a record of this agency that is on the ledger says the same as one that is submitted; `None` where its
    /// bytes are not here.
    fn says_the_same(
        &self,
        prepared: &Prepared,
        sealed: &PreparedSealed,
        first: Hash,
    ) -> Result<Option<bool>, WorkerError> {
        let Some(holdings) = &self.holdings else { return Ok(None) };
        let id = SealedId { agency: self.agency, record_id: first };
        let bytes = match holdings.record(&id) {
            Ok(bytes) => bytes,
            Err(SealedError::Store(error)) => return Err(error.into()),
            Err(error) => {
                tracing::warn!(%error, record = %first.short(), "a record that was lodged before does not open");
                None
            }
        };
        let Some(first) = bytes.and_then(|bytes| v1::Record::decode(bytes).ok()) else {
            return Ok(None);
        };
        let secrets = holdings.keys().vault.dedupe_secrets();
        let said: Vec<_> =
            secrets.iter().map(|kept| content(&content_secret(&kept.secret), &first)).collect();
        let same = said.contains(&prepared.content)
            || sealed.earlier_keys.iter().any(|key| said.contains(&key.content));
        Ok(Some(same))
    }

    /// Since it was prepared an epoch may have ended, and the parameters have changed.
    pub(super) fn check_epoch(
        &self,
        record: &ValidRecord,
        sealed: &PreparedSealed,
        parameters: &Parameters,
    ) -> Result<(), SubmissionRefusal> {
        check_size(record, parameters)?;
        let may_lodge = self.reader.may_lodge(&sealed.epoch, &self.agency, clock::unix_ms());
        may_lodge.map_err(|reason| SubmissionRefusal::Agreement {
            agreement: sealed.epoch.agreement,
            reason,
        })
    }

    /// Keeps the bytes of the sealed records, durably: a slot that was signed before them could be committed, and what
    /// it stands for be lost. Where the second place does not keep them, they are refused and the rest goes on.
    pub(super) fn keep_sealed(
        &self,
        gathering: &mut Gathering,
        not_after_ms: u64,
    ) -> Result<(), WorkerError> {
        let Some(holdings) = &self.holdings else { return Ok(()) };
        match holdings.accept(gathering.take_sealed(), not_after_ms) {
            Ok(()) => Ok(()),
            Err(SealedError::Store(error)) => Err(error.into()),
            Err(error) => {
                gathering.refuse_sealed(&SubmissionRefusal::sealed(&error));
                Ok(())
            }
        }
    }

    /// Has the sealed records of a transaction that the door took delivered.
    pub(super) fn send_sealed(&self, transaction: &VerifiedTransaction) -> Result<(), WorkerError> {
        let Some(holdings) = &self.holdings else { return Ok(()) };
        match holdings.send(transaction.slots(), transaction.header().not_after_ms) {
            Err(SealedError::Store(error)) => Err(error.into()),
            // What is not sent now is when its slot is committed.
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// What this node has accepted under a submission's key, the present or one of before, with what the submission
    /// would say under the same secret.
    pub(super) fn accepted_before(
        &self,
        prepared: &Prepared,
    ) -> Result<Option<(Hash, AcceptedRecord, Hash)>, WorkerError> {
        let earlier = prepared.sealed.iter().flat_map(|sealed| &sealed.earlier_keys);
        let earlier = earlier.map(|key| (key.dedupe_key, key.content));
        for (key, content) in
            std::iter::once((prepared.dedupe_key, prepared.content)).chain(earlier)
        {
            if let Some(record_id) = self.outbox.record_of_key(&key)?
                && let Some(first) = self.outbox.record(&record_id)?
            {
                return Ok(Some((record_id, first, content)));
            }
        }
        Ok(None)
    }
}
