//! Reading who decides, signs and connects, at any height, and under which agreements records are shared.

use std::sync::Arc;

use crate::{
    agency::AgencyCode,
    agreement::{Agreements, KnownMembers},
    authority::{Role, SlotRefused},
    chain::{ChainReader, RecordPlace},
    finality::validators::ValidatorSet,
    hash::Hash,
    keys::PublicKey,
    proofs::verifier::ValidatorStep,
    registry::Registry,
    store::{
        StoreError, Table, table,
        value::{self, SharedRow},
    },
    transaction::EpochId,
};

impl ChainReader {
    /// The epochs under which an agency's sealed record is shared, with the places of the slots that say so, in
    /// block order: its own slot, then its grants. Empty where it is not on the chain, or open.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn shared_under(
        &self,
        record_id: &Hash,
        agency: &AgencyCode,
    ) -> Result<Vec<(RecordPlace, EpochId)>, StoreError> {
        let log_size = self.tip().header.log_size;
        let start = table::record(record_id, agency);
        let of_record = move |key: &[u8]| key.starts_with(&start);
        let mut shared = Vec::new();
        for row in self.store().scan_while(Table::Shared, &start, of_record) {
            let (key, value) = row?;
            let corrupt = || StoreError::corrupt(Table::Shared, &key, "not the place of a slot");
            let (log_index, position) = table::place_of_shared(&key).ok_or_else(corrupt)?;
            let row: SharedRow = value::decode(Table::Shared, &key, &value)?;
            if log_index < log_size {
                shared.push((RecordPlace { log_index, position, agency: *agency }, row.epoch()));
            }
        }
        Ok(shared)
    }

    /// Whether an agency may lodge under an epoch in a block of this time, as of the tip.
    ///
    /// # Errors
    /// The reason that a block would refuse its slot for.
    pub fn may_lodge(
        &self,
        epoch: &EpochId,
        agency: &AgencyCode,
        time_ms: u64,
    ) -> Result<(), SlotRefused> {
        let tip = self.tip();
        let members = Members { registry: &tip.registry, height: tip.header.height + 1 };
        tip.agreements.check_slot((&epoch.agreement, epoch.number), agency, time_ms, &members)
    }

    /// The agreements after the newest committed block.
    pub fn agreements(&self) -> Arc<Agreements> {
        Arc::clone(&self.tip().agreements)
    }

    /// The registry after the newest committed block. It is the tip's registry, and answers for
    /// every earlier height as well.
    pub fn registry(&self) -> Arc<Registry> {
        Arc::clone(&self.tip().registry)
    }

    /// The validators that decide a height. `None` for heights beyond the one after the tip: nobody
    /// knows those validators yet.
    pub fn validators_at(&self, height: u64) -> Option<ValidatorSet> {
        let tip = self.tip();
        let next = tip.header.height + 1;
        if height >= next {
            return (height == next).then(|| tip.validators.clone());
        }
        tip.registry.validators_at(height).ok()
    }

    /// The libp2p identities that may connect at a height: those registered, and for [`crate::registry::PEER_GRACE`]
    /// heights those whose entry has ended.
    pub fn peers_at(&self, height: u64) -> Vec<(AgencyCode, PublicKey)> {
        self.tip().registry.peers_admitted_at(height)
    }

    /// Changes of the validators that were announced at a height or later, ascending, at most
    /// `count_max`: what a [`crate::proofs::verifier::Verifier`] follows.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn validator_changes(
        &self,
        from_height: u64,
        count_max: usize,
    ) -> Result<Vec<ValidatorStep>, StoreError> {
        let registry = self.registry();
        let heights = registry.validator_change_heights();
        let step = |&height: &u64| {
            let corrupt = |what: &str| {
                StoreError::corrupt(Table::Headers, &table::number(height), what.to_owned())
            };
            let (header, certificate) = self.committed_header(height)?;
            let certificate = certificate.ok_or_else(|| corrupt("no certificate"))?;
            let validators = registry.validators_at(height + 1);
            let validators = validators.map_err(|error| corrupt(&error.to_string()))?;
            if validators.hash() != header.next_validators_hash {
                return Err(corrupt("announces other validators than the registry has"));
            }
            Ok(ValidatorStep { header, certificate, validators })
        };
        heights.range(from_height..).take(count_max).map(step).collect()
    }
}

/// The members of a registry, as agreements ask for them.
struct Members<'a> {
    registry: &'a Registry,
    height: u64,
}

impl KnownMembers for Members<'_> {
    fn is_member(&self, agency: &AgencyCode) -> bool {
        self.registry.is_open_agency(agency, self.height)
    }

    fn is_node_of(&self, key: &PublicKey, agency: &AgencyCode) -> bool {
        let signer = self.registry.signer_at(key, self.height);
        signer.is_some_and(|signer| signer.agency == *agency && signer.role == Role::Node)
    }
}
