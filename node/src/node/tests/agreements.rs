//! Agreements among nodes with vaults.

use std::path::Path;

use customhouse_ledger::{agreement::own_id, transaction::EpochId};
use customhouse_proto::v1::EncryptionKeyEntry;
use customhouse_vault::vault::{Protection, Vault};

use super::*;
use crate::config::{RootKeyProtection, VaultSection};

/// The keys of an agency's vault, where the folder has one.
pub(super) fn sealing_in(folder: &Path, i: usize) -> Option<SealingKeys> {
    let directory = folder.join(format!("{i}-vault"));
    let section = VaultSection {
        directory: directory.clone(),
        root_key: RootKeyProtection(Protection::Plain),
        mirror: None,
        single_copy: true,
        backup: None,
        retention_months: 120,
    };
    directory.is_dir().then(|| SealingKeys::open(&section).expect("the vault opens"))
}

/// Nodes with vaults, whose encryption keys are registered.
async fn start(agencies: usize) -> Network {
    let folder = tempfile::tempdir().expect("a folder");
    let keys: Vec<_> = (0..agencies)
        .map(|i| {
            let path = folder.path().join(format!("{i}-vault"));
            let vault = Vault::create(&path, &Protection::Plain).expect("a new vault");
            vault.new_encryption_key().expect("a key")
        })
        .collect();
    let registered = |i: usize| {
        let (agency, public_key) = (code(i).to_string(), keys[i].as_bytes().to_vec());
        vec![Entry::EncryptionKey(EncryptionKeyEntry { agency, public_key })]
    };
    Network::start_in(folder, genesis_with(agencies, registered), agencies).await
}

async fn until<T>(mut found: impl FnMut() -> Option<T>) -> T {
    let found = async {
        loop {
            match found() {
                Some(found) => return found,
                None => tokio::task::yield_now().await,
            }
        }
    };
    tokio::time::timeout(DEADLINE, found).await.expect("in time")
}

/// The agency's own epoch that is in force there.
async fn own_epoch(network: &Network, i: usize) -> EpochId {
    let node = network.shared(i);
    until(|| node.agreements.own_epoch_in_force(crate::clock::unix_ms())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_node_with_a_vault_has_an_epoch_of_its_own_and_keeps_it_across_restarts() {
    let mut network = start(2).await;
    for i in 0..2 {
        let id = own_epoch(&network, i).await;
        assert_eq!(id, EpochId { agreement: own_id(&code(i)), number: 1 });
        let held = &network.shared(i).agreements;
        let agreements = network.shared(i).reader.agreements();
        let epoch = agreements.get(&id.agreement).expect("agreed").newest();
        assert_eq!(held.epoch_secret(&id).expect("held").public(), &epoch.key);
        let terms = held.terms(&epoch.terms_hash).expect("held");
        assert_eq!((terms.hash(), terms.retention_months()), (epoch.terms_hash, 120));
        // Nobody else has them.
        let other = &network.shared(1 - i).agreements;
        assert!(other.epoch_secret(&id).is_none() && other.terms(&epoch.terms_hash).is_none());
    }
    network.stop_node(0).await;
    network.start_node(0).await;
    let id = own_epoch(&network, 0).await;
    assert_eq!(id.number, 1);
    network.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_a_vault_has_none() {
    let network = Network::start(1).await;
    let held = &network.shared(0).agreements;
    assert!(!held.has_vault());
    assert_eq!(held.own_epoch_in_force(crate::clock::unix_ms()), None);
    network.stop().await;
}
