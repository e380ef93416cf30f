//! Agreements that are laid out with a network, for trying out: all keys are on this machine, so that all parties
//! approve at once. What is left is a file that any of them lodges.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
};

use customhouse_files::{
    folder::create_dir,
    keyfile::{KeyFile, KeyPurpose},
};
use customhouse_ledger::{
    agency::AgencyCode,
    agreement::{EpochProposal, terms::AgreementTerms},
    limits::PROPOSAL_MS_MAX,
    registry::genesis::Genesis,
    vrf::VrfSecretKey,
};
use customhouse_proto::v1;
use customhouse_vault::vault::{Protection, Vault};

use super::{LocalAgency, LocalNetwork, LocalNetworkError};
use crate::agreements::{Keeping, Offer, OfferError, new_salt, new_secret, offer_file};

/// How long it lasts.
const EPOCH_MS: u64 = 365 * 24 * 60 * 60 * 1000;

impl LocalNetwork {
    /// The files of the agreements that were laid out with it, by name.
    pub fn agreement_files(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.dir.join("agreements")).into_iter().flatten();
        let files = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let is_json = |path: &PathBuf| path.extension().is_some_and(|ext| ext == "json");
        let mut files: Vec<_> = files.filter(is_json).collect();
        files.sort_unstable();
        files
    }

    /// Makes an agreement among some of its agencies: its secret and its terms are in the vault and the data of each,
    /// and all have approved the file.
    pub(super) fn lay_out_agreement(
        &self,
        parties: &[AgencyCode],
    ) -> Result<PathBuf, LocalNetworkError> {
        let agencies: Vec<&LocalAgency> =
            self.agencies.iter().filter(|agency| parties.contains(&agency.code())).collect();
        let wrong = |error: OfferError| LocalNetworkError::Plan(format!("agreement: {error}"));
        let (secret, terms) = (new_secret()?, terms_for_trying_out()?);
        let proposal = epoch(&self.genesis, &agencies, &secret, &terms).map_err(wrong)?;
        let chain_id = self.genesis.chain_id();
        let mut approvals = Vec::new();
        for LocalAgency { config, .. } in &agencies {
            let Some(section) = &config.vault else { continue };
            Keeping {
                vault: Arc::new(Vault::open(&section.directory, &Protection::Plain)?),
                mirror: None,
                chain_id,
                agency: config.agency,
                terms: config.terms_path(),
                turn: Mutex::default(),
            }
            .keep(&proposal, &secret, &terms)?;
            let key = KeyFile::read_for(&config.keys.signing, KeyPurpose::Signing, config.agency)?;
            approvals.push((config.agency, proposal.approve(&chain_id, &key.key)));
        }
        let offer = Offer::approved(chain_id, proposal, approvals).map_err(wrong)?;
        let dir = self.dir.join("agreements");
        create_dir(&dir)?;
        let path = dir.join(file_name(&agencies));
        offer_file::write(&path, &offer.to_proto())?;
        Ok(path)
    }
}

fn file_name(agencies: &[&LocalAgency]) -> String {
    let codes: Vec<_> = agencies.iter().map(|agency| agency.code().to_string()).collect();
    format!("{}.json", codes.join("+"))
}

fn terms_for_trying_out() -> Result<AgreementTerms, LocalNetworkError> {
    let terms = v1::AgreementTerms {
        salt: new_salt()?,
        purpose: "trying out".to_owned(),
        legal_basis: "none: no real data may be lodged under it".to_owned(),
        retention_months: 12,
        erase_days: 30,
        ..Default::default()
    };
    let terms = AgreementTerms::from_proto(terms).map_err(OfferError::from);
    terms.map_err(|error| LocalNetworkError::Plan(format!("agreement: {error}")))
}

fn epoch(
    genesis: &Genesis,
    agencies: &[&LocalAgency],
    secret: &VrfSecretKey,
    terms: &AgreementTerms,
) -> Result<EpochProposal, OfferError> {
    Ok(EpochProposal::from_proto(v1::AgreementEpoch {
        number: 1,
        parties: agencies.iter().map(|agency| agency.code().to_string()).collect(),
        public_key: secret.public().as_bytes().to_vec(),
        from_ms: genesis.time_ms,
        until_ms: genesis.time_ms + EPOCH_MS,
        terms_hash: terms.hash().0.to_vec(),
        // No block is of an earlier time than the genesis: any of the first month may carry it.
        not_after_ms: genesis.time_ms + PROPOSAL_MS_MAX,
        ..Default::default()
    })?)
}

/// Whether an agreement can be laid out among these.
pub(super) fn check(
    parties: &[AgencyCode],
    agencies: &[AgencyCode],
) -> Result<(), LocalNetworkError> {
    let wrong = |reason: String| Err(LocalNetworkError::Plan(format!("agreement: {reason}")));
    if let Some(other) = parties.iter().find(|party| !agencies.contains(party)) {
        return wrong(format!("{other} is not among the agencies"));
    }
    let mut sorted = parties.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    match sorted.len() == parties.len() && parties.len() >= 2 {
        true => Ok(()),
        false => wrong("two agencies or more are needed, each once".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, path::Path};

    use customhouse_ledger::transaction::EpochId;

    use super::*;
    use crate::local_network::{NewNetwork, Ports};

    fn plan(dir: &Path, agreements: &[&[&str]]) -> NewNetwork {
        let codes = ["BE-AADA", "DE-ZOLL", "NL-DOUANE"];
        let code = |code: &&str| code.parse().expect("a code");
        let ports = Ports::from_base(7400, codes.len()).expect("room");
        NewNetwork {
            dir: dir.to_owned(),
            name: "test".into(),
            agencies: codes.iter().map(code).zip(ports).collect(),
            history_bits: 8,
            parameters: BTreeMap::new(),
            agreements: agreements.iter().map(|one| one.iter().map(code).collect()).collect(),
        }
    }

    #[test]
    fn a_network_is_laid_out_with_agreements_that_all_parties_have_approved_and_hold() {
        let dir = tempfile::tempdir().expect("a directory");
        let new = plan(&dir.path().join("net"), &[&["NL-DOUANE", "BE-AADA"]]);
        let network = LocalNetwork::create(&new).expect("laid out");
        let files = network.agreement_files();
        assert_eq!(files, [network.dir.join("agreements/BE-AADA+NL-DOUANE.json")]);
        let offer =
            Offer::from_proto(offer_file::read(&files[0]).expect("a file")).expect("an offer");
        assert_eq!(offer.missing(), []);
        let change = offer.change().expect("all have approved");
        assert_eq!(change.verify(&network.genesis.chain_id()), Ok(()));
        let proposal = offer.proposal();
        let id = EpochId { agreement: proposal.hash(), number: 1 };
        for (agency, has_it) in network.agencies.iter().zip([true, false, true]) {
            let section = agency.config.vault.as_ref().expect("a vault");
            let vault = Vault::open(&section.directory, &Protection::Plain).expect("it opens");
            assert_eq!(vault.epoch(&id.agreement, id.number).is_some(), has_it);
            let terms = agency.config.terms_path().join(proposal.terms_hash().to_string());
            assert_eq!(terms.is_file(), has_it);
        }
    }

    #[test]
    fn an_agreement_is_among_two_agencies_of_the_network_or_more() {
        let dir = tempfile::tempdir().expect("a directory");
        let parties: [&[&str]; 3] =
            [&["NL-DOUANE"], &["NL-DOUANE", "NL-DOUANE"], &["NL-DOUANE", "FR-X"]];
        for parties in parties {
            let error = LocalNetwork::create(&plan(&dir.path().join("net"), &[parties]));
            assert!(error.expect_err("refused").to_string().starts_with("agreement: "));
        }
        assert!(!dir.path().join("net").exists(), "nothing was made");
    }
}
