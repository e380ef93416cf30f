//! The `Admin` service: for the agency's own operators.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use customhouse_ledger::{chain::Tip, registry::RegistryChange, store::BackupInfo};
use customhouse_proto::v1::{self, admin_server::Admin};
use tonic::{Code, Request, Response, Status};

use super::submission::caller;
use crate::serve::{
    reads::{apart, read},
    refused::Refused,
};
use crate::{absence, clock, network::peer_id, sealed::keys::SealingKeys, services::Services};

#[derive(Clone)]
pub(super) struct AdminService {
    pub(super) node: Arc<Services>,
}

#[tonic::async_trait]
impl Admin for AdminService {
    async fn get_status(
        &self,
        _: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::GetStatusResponse>, Status> {
        let node = &self.node;
        let (tip, status) = (node.reader.tip(), node.status.borrow().clone());
        let header = &tip.header;
        let clock = *node.clock.borrow();
        let stalled = node.health.stalled().borrow().clone();
        let held = node.agreements.clone();
        let lacking = apart(move || if held.has_vault() { held.lacking().len() } else { 0 }).await;
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Ok(Response::new(v1::GetStatusResponse {
            agency: node.agency.to_string(),
            network: node.genesis.network.clone(),
            chain_id: node.chain_id.0.to_vec(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            height: header.height,
            block_hash: tip.hash.0.to_vec(),
            time_ms: header.time_ms,
            log_size: header.log_size,
            log_root: header.log_root.0.to_vec(),
            history_size: header.history_size,
            history_root: header.history_root.0.to_vec(),
            registry_root: header.registry_root.0.to_vec(),
            view: status.view,
            validators: count(tip.validators.count()),
            quorum: count(tip.validators.quorum()),
            peers_connected: count(node.network.connected().borrow().len()),
            mempool_transactions: status.mempool_transactions,
            mempool_bytes: status.mempool_bytes,
            catching_up: status.catching_up,
            signing: status.signing,
            signing_reason: status.signing_reason,
            clock_ahead_ms: clock.ahead_ms,
            clock_wrong: clock.wrong,
            stalled: stalled.into_iter().map(str::to_owned).collect(),
            epochs_lacking: count(lacking.unwrap_or_default()),
            uptime_ms: u64::try_from(node.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            vault: node.holdings.as_ref().map(|holdings| vault_status(holdings.keys())),
        }))
    }

    async fn list_peers(
        &self,
        _: Request<v1::ListPeersRequest>,
    ) -> Result<Response<v1::ListPeersResponse>, Status> {
        let node = &self.node;
        let connected: HashMap<_, _> = {
            let receiver = node.network.connected();
            let peers = receiver.borrow();
            peers.iter().map(|peer| (peer.key, peer.address.to_string())).collect()
        };
        let next_height = node.reader.tip().header.height + 1;
        let listed = node.reader.peers_at(next_height).into_iter();
        // An agency has one node; should it have another, that one is connected.
        let others =
            listed.filter(|(agency, key)| *agency != node.agency || connected.contains_key(key));
        let peers = others.map(|(agency, key)| {
            let address = connected.get(&key).cloned();
            v1::Peer {
                agency: agency.to_string(),
                peer_id: peer_id(&key).to_string(),
                connected: address.is_some(),
                address: address.unwrap_or_default(),
            }
        });
        Ok(Response::new(v1::ListPeersResponse { peers: peers.collect() }))
    }

    async fn submit_registry_change(
        &self,
        request: Request<v1::SubmitRegistryChangeRequest>,
    ) -> Result<Response<v1::SubmitRegistryChangeResponse>, Status> {
        let client = caller(&request)?;
        let wrong = |reason: String| Refused::field("change", "REGISTRY_CHANGE", reason);
        let v1::SubmitRegistryChangeRequest { change, although_absent } = request.into_inner();
        let change = change.ok_or_else(|| wrong("missing".to_owned()))?;
        let change = RegistryChange::from_proto(&change).map_err(|e| wrong(e.to_string()))?;
        // An honest retry, or another agency was quicker: it is on the chain.
        if let Some(first) = committed_change(&self.node, &change).await? {
            return Ok(Response::new(first));
        }
        check_change(&self.node.reader.tip(), &change)?;
        check_absence(&self.node, &change, &although_absent)?;
        let accepted = self.node.submissions.submit_registry_change(&client, &change).await;
        let accepted = accepted.map_err(Refused::from)?;
        Ok(Response::new(v1::SubmitRegistryChangeResponse {
            record_id: accepted.record_id.0.to_vec(),
            transaction_id: accepted.transaction_id.0.to_vec(),
        }))
    }

    async fn create_backup(
        &self,
        _: Request<v1::CreateBackupRequest>,
    ) -> Result<Response<v1::CreateBackupResponse>, Status> {
        Ok(Response::new(create_backup(&self.node).await?))
    }
}

/// How it stands with the vault. No disk is waited for.
fn vault_status(keys: &SealingKeys) -> v1::VaultStatus {
    let backups = keys.backups.as_ref();
    v1::VaultStatus {
        id: keys.vault.id().to_string(),
        generation: keys.vault.generation(),
        single_copy: keys.is_single_copy(),
        backups: backups.is_some(),
        backup_age_ms: backups.and_then(|backups| backups.age_ms()),
        backup_failures: backups.map_or(0, |backups| backups.failures()),
    }
}

/// Whether the change leaves the network to validators that are away, as far as this node sees.
fn check_absence(
    node: &Services,
    change: &RegistryChange,
    although: &[String],
) -> Result<(), Refused> {
    let tip = node.reader.tip();
    let next = tip.header.height + 1;
    // Checked before: it can be applied, and leaves a set of validators.
    let Ok(registry) = tip.registry.apply(change.proposal(), next) else { return Ok(()) };
    let Ok(after) = registry.validators_at(next + 1) else { return Ok(()) };
    let there: BTreeSet<_> = {
        let listed = node.reader.peers_at(next);
        let receiver = node.network.connected();
        let connected = receiver.borrow();
        let is_there = |key| connected.iter().any(|peer| peer.key == key);
        listed.into_iter().filter(|(_, key)| is_there(*key)).map(|(agency, _)| agency).collect()
    };
    let validators = tip.validators.as_slice().iter().map(|validator| validator.agency);
    let absent =
        validators.filter(|agency| *agency != node.agency && !there.contains(agency)).collect();
    let although: Vec<_> = although.iter().filter_map(|code| code.parse().ok()).collect();
    match absence::objection(&tip.validators, &after, &absent, &although) {
        Some(reason) => Err(Refused::new(Code::FailedPrecondition, "VALIDATORS_ABSENT", reason)),
        None => Ok(()),
    }
}

/// Makes a backup, one at a time: they would only wait for each other's files.
async fn create_backup(node: &Services) -> Result<v1::CreateBackupResponse, Refused> {
    let Some(section) = node.backup.clone() else {
        let reason = "the node was started without [backup] and its directory: name it in the configuration \
                      and restart the node";
        return Err(Refused::new(Code::FailedPrecondition, "NO_BACKUP_DIRECTORY", reason));
    };
    let Ok(turn) = Arc::clone(&node.backing_up).try_lock_owned() else {
        return Err(Refused::new(Code::Aborted, "BACKUP_RUNNING", "another backup is being made"));
    };
    let height = node.reader.tip().header.height;
    // The caller may be in another directory.
    let directory = std::path::absolute(&section.directory).unwrap_or(section.directory.clone());
    let (directory, agency) = (directory.display().to_string(), node.agency);
    let made = read(node, move |reader| {
        // Until it is made, also where the caller does not wait.
        let _turn = turn;
        let made = reader.back_up(&section.directory, section.keep, Some(agency));
        made.inspect_err(|error| tracing::error!(%error, "no backup was made"))
    });
    let backup = made.await?;
    tracing::info!(id = backup.id, directory, height, bytes = backup.bytes, "backup made");
    let BackupInfo { id, bytes, files, .. } = backup;
    Ok(v1::CreateBackupResponse { id, directory, height, bytes, files })
}

/// Looks where a change is on the chain already.
async fn committed_change(
    node: &Services,
    change: &RegistryChange,
) -> Result<Option<v1::SubmitRegistryChangeResponse>, Refused> {
    let proposal = change.proposal().hash();
    read(node, move |reader| {
        let Some(place) = reader.registry_change(&proposal)? else { return Ok(None) };
        let first = reader.record_at(place.log_index, place.position)?;
        Ok(first.map(|first| v1::SubmitRegistryChangeResponse {
            record_id: first.id.0.to_vec(),
            transaction_id: first.transaction_id.0.to_vec(),
        }))
    })
    .await
}

/// Whether a change could be in the next block, as far as this node knows. Said here, because what
/// a leader leaves out of its block is not heard of again.
fn check_change(tip: &Tip, change: &RegistryChange) -> Result<(), Refused> {
    let refused = |reason: String| {
        Err(Refused::new(Code::FailedPrecondition, "REGISTRY_CHANGE_NOT_NOW", reason))
    };
    let proposal = change.proposal();
    if let Err(error) = tip.registry.apply(proposal, tip.header.height + 1) {
        return refused(error.to_string());
    }
    if proposal.not_after_ms() <= clock::unix_ms().max(tip.header.time_ms) {
        return refused("the proposal's time is over: propose it again".to_owned());
    }
    let approvers = change.approvals().iter();
    let stranger =
        approvers.map(|a| a.validator).find(|key| tip.validators.index_of(key).is_none());
    if let Some(key) = stranger {
        return refused(format!("{key} approves, which is no validator's key now"));
    }
    let (found, needed) = (change.approvals().len(), tip.validators.quorum());
    if found < needed {
        return refused(format!("approvals: {found} of {needed} that are needed"));
    }
    Ok(())
}
