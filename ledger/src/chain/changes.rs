//! What the chain's state says about a transaction: its signer, its size, the change of the registry that
//! it makes, the misbehaviour that it reports.

use std::sync::Arc;

use crate::{
    agreement::LodgedAt,
    chain::{ChainReader, ChainState, RegistryState, Tip, TransactionInvalid, reader},
    finality::evidence::Evidence,
    hash::Hash,
    limits::IN_SYNC_HEIGHTS_MAX,
    registry::{ApplyError, InSync, RegistryChange, parameters::Parameters},
    store::{StoreError, Table, table},
    transaction::VerifiedTransaction,
};

impl ChainReader {
    /// Whether the registry after the tip lets the next block carry a transaction: its signer, its size, the
    /// change that it makes, the key that it accuses. What is refused here is refused by every leader,
    /// unless this node is behind. Whether an approved change applies is checked with the block; and a
    /// joiner may be in sync with a block that has not arrived here yet.
    ///
    /// # Errors
    /// The outer error is the store's; the inner is the transaction's fault.
    pub fn check_registered(
        &self,
        transaction: &VerifiedTransaction,
        time_ms: u64,
    ) -> Result<Result<(), TransactionInvalid>, StoreError> {
        let (tip, members) = {
            let state = self.shared.state();
            (Arc::clone(&state.tip), Arc::clone(&state.members))
        };
        let newest = tip.header.height;
        let culprit = || transaction.evidence().map_or(Ok(()), |e| check_culprit(&members, e));
        let agreed = || {
            let Some(change) = transaction.agreement_change() else { return Ok(()) };
            let agency = transaction.header().agency;
            let at = LodgedAt { agency, height: newest + 1, time_ms };
            let checked = members.agreements().check(change, &at, &members.at(at.height));
            checked.map_err(TransactionInvalid::from)
        };
        let signer = check_signer(&members, transaction, newest + 1)
            .and_then(|()| check_parameters(&tip.parameters, transaction));
        let Some(change) = transaction.registry_change() else {
            return Ok(signer.and_then(|()| culprit()).and_then(|()| agreed()));
        };
        if let Err(invalid) = signer.and_then(|()| check_approved(&tip, &members, change, time_ms))
        {
            return Ok(Err(invalid));
        }
        match change.in_sync().filter(|in_sync| in_sync.height <= newest) {
            Some(in_sync) => self.shared.check_in_sync(&tip, in_sync),
            None => Ok(Ok(())),
        }
    }
}

impl ChainReader {
    /// Whether the parameters of the next block let it carry a transaction: its size, and what it lodges open.
    ///
    /// # Errors
    /// [`TransactionInvalid`].
    pub fn check_parameters(
        &self,
        transaction: &VerifiedTransaction,
    ) -> Result<(), TransactionInvalid> {
        check_parameters(&self.tip().parameters, transaction)
    }
}

impl ChainState {
    /// The members after the next block, where it carries this change. Its signatures were checked
    /// with the transaction.
    pub(super) fn change_members(
        &self,
        tip: &Tip,
        members: &RegistryState,
        change: &RegistryChange,
        time_ms: u64,
    ) -> Result<Result<RegistryState, TransactionInvalid>, StoreError> {
        if let Err(invalid) = check_approved(tip, members, change, time_ms) {
            return Ok(Err(invalid));
        }
        if let Some(in_sync) = change.in_sync()
            && let Err(invalid) = self.check_in_sync(tip, in_sync)?
        {
            return Ok(Err(invalid));
        }
        Ok(members.after(change.proposal(), tip.header.height + 1).map_err(Into::into))
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

    /// The hash of a committed block, read from its header.
    pub(super) fn block_hash(&self, height: u64) -> Result<Hash, StoreError> {
        let missing = || StoreError::corrupt(Table::Headers, &table::number(height), "missing");
        let (header, _) = reader::read_header(&self.store, height)?.ok_or_else(missing)?;
        Ok(header.hash())
    }
}

/// Whether a change is of the present registry, in time, and approved by a quorum.
fn check_approved(
    tip: &Tip,
    members: &RegistryState,
    change: &RegistryChange,
    time_ms: u64,
) -> Result<(), TransactionInvalid> {
    let proposal = change.proposal();
    let (present, stated) = (members.members_root(), proposal.members_root());
    if present != stated {
        return Err(ApplyError::Root { present, stated }.into());
    }
    let not_after_ms = proposal.not_after_ms();
    if not_after_ms < time_ms {
        return Err(TransactionInvalid::ChangeExpired { not_after_ms, time_ms });
    }
    for approval in change.approvals() {
        if tip.validators.index_of(&approval.validator).is_none() {
            return Err(TransactionInvalid::Approver(Hash(*approval.validator.as_bytes())));
        }
    }
    let (approvals, quorum) = (change.approvals().len(), tip.validators.quorum());
    if approvals < quorum {
        return Err(TransactionInvalid::TooFewApprovals { approvals, quorum });
    }
    Ok(())
}

/// A transaction's key signs for its agency at the height of its block, and may sign each of its records.
pub(super) fn check_signer(
    members: &RegistryState,
    transaction: &VerifiedTransaction,
    height: u64,
) -> Result<(), TransactionInvalid> {
    let header = transaction.header();
    let registered = members
        .signer_at(&header.signer, height)
        .ok_or(TransactionInvalid::UnknownSigner(Hash(*header.signer.as_bytes())))?;
    if registered.agency != header.agency {
        let (registered, stated) = (registered.agency, header.agency);
        return Err(TransactionInvalid::SignerAgency { registered, stated });
    }
    for (position, stated) in transaction.stated().iter().enumerate() {
        registered
            .check_slot(stated.as_ref())
            .map_err(|refused| TransactionInvalid::SignerRecord { position, refused })?;
    }
    Ok(())
}

/// The parameters let a block carry a transaction: its size, and what it lodges open.
pub(super) fn check_parameters(
    parameters: &Parameters,
    transaction: &VerifiedTransaction,
) -> Result<(), TransactionInvalid> {
    check_size(parameters, transaction)?;
    // Of what is sealed nobody here knows the kind: the parties hold it against their terms.
    for (position, stated) in transaction.stated().iter().enumerate() {
        let Some(stated) = stated else { continue };
        parameters
            .check_open(stated.kind)
            .map_err(|refused| TransactionInvalid::KindNotOpen { position, refused })?;
    }
    Ok(())
}

/// A transaction and its records are not larger than the parameters let them be, which is less than the
/// format may hold.
fn check_size(
    parameters: &Parameters,
    transaction: &VerifiedTransaction,
) -> Result<(), TransactionInvalid> {
    let (bytes, max) = (transaction.encoded().len() as u64, parameters.transaction_bytes_max);
    if bytes > max {
        return Err(TransactionInvalid::TooLarge { bytes, max });
    }
    let (slots, max) = (transaction.slots().len() as u64, parameters.transaction_slots_max);
    if slots > max {
        return Err(TransactionInvalid::TooManySlots { slots, max });
    }
    // What the members have decided, and proof of a breach, are as large as the format lets them be: a network
    // must be able to change its keys whatever it says of the records of trade.
    if transaction.is_of_the_network() {
        return Ok(());
    }
    let max = parameters.record_bytes_max;
    let lengths = transaction.parts().records.iter().map(|record| record.len() as u64);
    match lengths.enumerate().find(|(_, bytes)| *bytes > max) {
        Some((position, bytes)) => Err(TransactionInvalid::RecordTooLarge { position, bytes, max }),
        None => Ok(()),
    }
}

/// The key that broke a rule was a validator's at the height of the breach. It need not be one now.
pub(super) fn check_culprit(
    members: &RegistryState,
    evidence: &Evidence,
) -> Result<(), TransactionInvalid> {
    let (key, (height, _)) = (evidence.culprit(), evidence.place());
    if members.registry().is_validator_at(&key, height) {
        Ok(())
    } else {
        Err(TransactionInvalid::Culprit { key: Hash(*key.as_bytes()), height })
    }
}
