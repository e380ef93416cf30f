//! From a record to the slot that is lodged of it where it is sealed, and the bytes that are not.

use customhouse_ledger::{
    agency::AgencyCode,
    agreement::{Epoch, own_id},
    authority::{RecordKind, SlotRefused},
    chain::ChainReader,
    hash::Hash,
    record::ValidRecord,
    registry::parameters::Parameters,
    transaction::{DedupeScope, EpochId, Slot, SlotForm},
};
use customhouse_proto::v1;
use customhouse_vault::{
    dedupe::{content_secret, sealed_dedupe_key},
    lease::Leased,
    named::DedupeSecret,
    sealed::SealedBytes,
};
use prost::Message as _;

use super::{
    SubmissionRefusal,
    prepare::{Prepared, check_size, content, salt},
};
use crate::{
    clock,
    sealed::{Holdings, SealedId, subject_keys},
};

/// Milliseconds after which a client is to try again where the agency's own agreement is about to begin.
const OWN_RETRY_MS: u64 = 250;

/// A record that was sealed: its slot, and its bytes for the store of sealed records.
#[derive(Debug)]
pub(super) struct PreparedSealed {
    pub(super) slot: Slot,
    pub(super) epoch: EpochId,
    /// Taken out when it is kept.
    pub(super) bytes: Option<Leased<SealedBytes>>,
    /// Dedupe keys under secrets of before, which count for a while.
    pub(super) earlier_keys: Vec<EarlierKey>,
}

/// What a submission would have under a secret of before.
#[derive(Debug)]
pub(super) struct EarlierKey {
    pub(super) dedupe_key: Hash,
    pub(super) content: Hash,
}

/// What records are sealed with.
pub(super) struct Sealing<'a> {
    pub(super) agency: AgencyCode,
    pub(super) holdings: &'a Holdings,
    pub(super) reader: &'a ChainReader,
}

impl Sealing<'_> {
    /// Seals a record that has all but its salt.
    pub(super) fn prepare(
        &self,
        mut record: v1::Record,
        idempotency_key: String,
        agreement: &[u8],
        parameters: &Parameters,
    ) -> Result<Prepared, SubmissionRefusal> {
        if has_attachments(&record) {
            return Err(SubmissionRefusal::SealedAttachment);
        }
        let epoch = self.epoch_in_force(agreement)?;
        let held = self.holdings.epoch(&epoch);
        let (secret, terms) = held.ok_or(SubmissionRefusal::EpochSecret(epoch))?;
        let kind = record.body.as_ref().map(RecordKind::of);
        if let Some(kind) = kind.filter(|kind| !terms.covers(*kind)) {
            return Err(SubmissionRefusal::NotCovered { agreement: epoch.agreement, kind });
        }
        let (present, earlier) = self.dedupe_secrets()?;
        let submitter = record.submitter.clone();
        let key_under = |kept: &DedupeSecret| {
            sealed_dedupe_key(&kept.secret, self.agency, &submitter, &idempotency_key)
        };
        let dedupe_key = key_under(&present);
        let said = content(&content_secret(&present.secret), &record);
        let earlier_key = |kept: &DedupeSecret| EarlierKey {
            dedupe_key: key_under(kept),
            content: content(&content_secret(&kept.secret), &record),
        };
        let earlier_keys = earlier.iter().map(earlier_key).collect();
        record.salt = salt()?;
        let record = ValidRecord::from_record(record)?;
        check_size(&record, parameters)?;
        let subject_keys = subject_keys((&secret, &terms), &self.agency, &record.record)
            .map_err(|error| SubmissionRefusal::Store(error.to_string()))?;
        let sealed = self.holdings.seal_own(record.id, &record.bytes);
        let bytes = Some(sealed.map_err(|error| SubmissionRefusal::sealed(&error))?);
        let (form, scope) = (SlotForm::Sealed(epoch), DedupeScope::Agency);
        let slot = Slot { record_id: record.id, form, subject_keys, dedupe_key, scope };
        let sealed = Some(PreparedSealed { slot, epoch, bytes, earlier_keys });
        Ok(Prepared { record, dedupe_key, sealed, idempotency_key, content: said })
    }

    /// The slot that shares a record of this agency, which is held here, under another agreement too.
    ///
    /// # Errors
    /// [`SubmissionRefusal`].
    pub(super) fn grant(&self, id: &SealedId, agreement: &Hash) -> Result<Slot, SubmissionRefusal> {
        let epoch = self.epoch_in_force(agreement.as_bytes())?;
        let held = self.holdings.epoch(&epoch);
        let (secret, terms) = held.ok_or(SubmissionRefusal::EpochSecret(epoch))?;
        let bytes = self.holdings.record(id).map_err(|error| SubmissionRefusal::sealed(&error))?;
        let missing =
            || SubmissionRefusal::NotFound(format!("record {} is not here", id.record_id));
        let record = v1::Record::decode(bytes.ok_or_else(missing)?);
        let record = record.map_err(|error| SubmissionRefusal::Store(error.to_string()))?;
        let kind = record.body.as_ref().map(RecordKind::of);
        if let Some(kind) = kind.filter(|kind| !terms.covers(*kind)) {
            return Err(SubmissionRefusal::NotCovered { agreement: epoch.agreement, kind });
        }
        let keys = subject_keys((&secret, &terms), &self.agency, &record)
            .map_err(|error| SubmissionRefusal::Store(error.to_string()))?;
        Ok(Slot::grant(id.record_id, epoch, keys))
    }

    /// The epoch of an agreement under which something can be lodged now; of the agency's own where none is named.
    fn epoch_in_force(&self, agreement: &[u8]) -> Result<EpochId, SubmissionRefusal> {
        let is_own = agreement.is_empty();
        let agreement = match is_own {
            true => own_id(&self.agency),
            false => Hash::from_slice(agreement).map_err(|error| SubmissionRefusal::Field {
                field: "agreement",
                reason: error.to_string(),
            })?,
        };
        let (agreements, now_ms) = (self.reader.agreements(), clock::unix_ms());
        // Another node of this agency may have one whose secret is not here.
        let held = is_own.then(|| self.holdings.agreements().own_epoch_in_force(now_ms)).flatten();
        if let Some(epoch) = held {
            return Ok(epoch);
        }
        let found = agreements.get(&agreement).map(|agreement| {
            let epochs = (1..).zip(&agreement.epochs);
            let in_force =
                |(_, epoch): &(u32, &Epoch)| (epoch.from_ms..epoch.until_ms).contains(&now_ms);
            // Where none is in force, the newest says why.
            let newest = u32::try_from(agreement.epochs.len()).unwrap_or(u32::MAX);
            epochs.filter(in_force).last().map_or(newest, |(number, _)| number)
        });
        let refused = |reason| match is_own {
            true => SubmissionRefusal::Exhausted {
                what:
                    "this agency's own agreement has no epoch in force yet, and one is being lodged"
                        .to_owned(),
                retry_after_ms: OWN_RETRY_MS,
            },
            false => SubmissionRefusal::Agreement { agreement, reason },
        };
        let number = found.ok_or_else(|| refused(SlotRefused::AgreementUnknown))?;
        let epoch = EpochId { agreement, number };
        self.reader.may_lodge(&epoch, &self.agency, now_ms).map_err(refused)?;
        Ok(epoch)
    }

    /// The secret that dedupe keys are made with, and those of before that count.
    fn dedupe_secrets(&self) -> Result<(DedupeSecret, Vec<DedupeSecret>), SubmissionRefusal> {
        let tip = self.reader.tip();
        let check = tip.registry.dedupe_check_at(&self.agency, tip.header.height + 1);
        let keys = self.holdings.keys();
        let present = check.and_then(|check| keys.dedupe_secret(&self.agency, &check));
        let present = present.ok_or(SubmissionRefusal::DedupeSecret)?;
        let now_s = clock::unix_ms() / 1000;
        let counts = |kept: &DedupeSecret| {
            !kept.secret.is(&present.secret) && kept.until_s.is_none_or(|until| until >= now_s)
        };
        let earlier = keys.vault.dedupe_secrets().into_iter().filter(counts).collect();
        Ok((present, earlier))
    }
}

fn has_attachments(record: &v1::Record) -> bool {
    let of_source = record.source.as_ref().and_then(|source| source.attachment.as_ref());
    !record.attachments.is_empty() || of_source.is_some()
}
