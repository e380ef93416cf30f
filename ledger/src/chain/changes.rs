//! What the chain's state says about a change of the registry and about a validator's misbehaviour.

use crate::{
    chain::{Members, Shared, Tip, TransactionInvalid, reader},
    evidence::Evidence,
    hash::Hash,
    registry::{ApplyError, IN_SYNC_HEIGHTS_MAX, InSync, RegistryChange},
    store::{StoreError, Table, table},
};

impl Shared {
    /// The members after the next block, where it carries this change. Its signatures were checked
    /// with the transaction.
    pub(super) fn change_members(
        &self,
        tip: &Tip,
        members: &Members,
        change: &RegistryChange,
        time_ms: u64,
    ) -> Result<Result<Members, TransactionInvalid>, StoreError> {
        let proposal = change.proposal();
        let (present, stated) = (members.root(), proposal.registry_root());
        if present != stated {
            return Ok(Err(ApplyError::Root { present, stated }.into()));
        }
        let not_after_ms = proposal.not_after_ms();
        if not_after_ms < time_ms {
            return Ok(Err(TransactionInvalid::ChangeExpired { not_after_ms, time_ms }));
        }
        for approval in change.approvals() {
            if tip.validators.index_of(&approval.validator).is_none() {
                return Ok(Err(TransactionInvalid::Approver(Hash(*approval.validator.as_bytes()))));
            }
        }
        let (approvals, quorum) = (change.approvals().len(), tip.validators.quorum());
        if approvals < quorum {
            return Ok(Err(TransactionInvalid::TooFewApprovals { approvals, quorum }));
        }
        if let Some(in_sync) = change.in_sync()
            && let Err(invalid) = self.check_in_sync(tip, in_sync)?
        {
            return Ok(Err(invalid));
        }
        Ok(members.after(proposal, tip.header.height + 1).map_err(Into::into))
    }

    /// The block that a joiner says it has is this chain's, and not long ago.
    fn check_in_sync(
        &self,
        tip: &Tip,
        in_sync: &InSync,
    ) -> Result<Result<(), TransactionInvalid>, StoreError> {
        let (height, newest) = (in_sync.height, tip.header.height);
        let oldest = (newest + 1).saturating_sub(IN_SYNC_HEIGHTS_MAX);
        if !(oldest..=newest).contains(&height) {
            return Ok(Err(TransactionInvalid::InSyncHeight { height, oldest, newest }));
        }
        let hash = if height == newest { tip.hash } else { self.block_hash(height)? };
        if hash != in_sync.block_hash {
            return Ok(Err(TransactionInvalid::InSyncBlock { height }));
        }
        Ok(Ok(()))
    }

    fn block_hash(&self, height: u64) -> Result<Hash, StoreError> {
        let missing = || StoreError::corrupt(Table::Headers, &table::number(height), "missing");
        let (header, _) = reader::read_header(&self.store, height)?.ok_or_else(missing)?;
        Ok(header.hash())
    }
}

/// Whoever broke a rule was a validator at the height of the breach. It need not be one any more.
pub(super) fn check_culprit(
    members: &Members,
    evidence: &Evidence,
) -> Result<(), TransactionInvalid> {
    let (key, (height, _)) = (evidence.culprit(), evidence.place());
    if members.registry().is_validator_at(&key, height) {
        Ok(())
    } else {
        Err(TransactionInvalid::Culprit { key: Hash(*key.as_bytes()), height })
    }
}
