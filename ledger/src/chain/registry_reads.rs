//! Reading who decides, signs and connects, at any height.

use std::sync::Arc;

use crate::{
    agency::AgencyCode,
    chain::ChainReader,
    finality::validators::ValidatorSet,
    keys::PublicKey,
    proofs::verifier::ValidatorStep,
    registry::Registry,
    store::{StoreError, Table, table},
};

impl ChainReader {
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
