//! The loops of a node: each a task that ends the node with it, and each asked whether it goes round.

use std::sync::Arc;

use customhouse_ledger::{chain::BlockOutcome, finality::evidence::Evidence};
use tokio::sync::{broadcast, mpsc, watch};

use crate::{
    attachments::fetching::{FetchPolicy, Fetching},
    clock::{ClockState, comparing::Comparison},
    driver::DriverHandle,
    health::{Health, OWN_AGREEMENT, Probe, probe},
    inbound::Inbound,
    network::{NetworkEvent, NetworkHandle},
    own_agreement::OwnAgreement,
    reporter::Reporter,
    sealed::{self, Holdings},
    services::Services,
    submissions::Submissions,
    tasks::Tasks,
};

/// Starts taking what the network brings, and gives the way to ask whether that goes on.
pub(super) fn take_inbound(
    tasks: &Tasks,
    network: &NetworkHandle,
    inbound: Inbound,
    events: mpsc::Receiver<NetworkEvent>,
) -> Probe {
    let (probe, responder) = probe();
    let (running, stop) = (inbound.run(events, responder), tasks.shutdown().clone());
    tasks.spawn("inbound", async move {
        running.await;
        // It ends where the network does, whose end is told by name.
        stop.cancelled().await;
    });
    let network = network.clone();
    tasks.spawn("network", async move { network.ended().await });
    probe
}

/// Asks all of them from now on.
pub(super) fn watch(
    tasks: &Tasks,
    driver: &DriverHandle,
    network: &NetworkHandle,
    inbound: Probe,
    submissions: &Submissions,
) -> Health {
    let health = Health::new(tasks.clone());
    let (driver, network, submissions) = (driver.clone(), network.clone(), submissions.clone());
    health.watch("driver", move || driver.clone().answered());
    health.watch("network", move || network.clone().answered());
    health.watch("inbound", move || inbound.clone().answered());
    health.watch("submissions", move || submissions.clone().answered());
    health
}

/// Starts telling the chain of breaches.
pub(super) fn report(tasks: &Tasks, reporter: Reporter, evidence: mpsc::Receiver<Evidence>) {
    let reporting = reporter.run(evidence, tasks.shutdown().clone());
    tasks.spawn("reporter of misbehaviour", reporting);
}

/// Starts what goes on beside the chain: clocks that are compared, attachments that are fetched by this policy for
/// these blocks, and backups of the vault.
pub(super) fn go_on_beside(
    tasks: &Tasks,
    node: &Services,
    clock: watch::Sender<ClockState>,
    fetched: (FetchPolicy, broadcast::Receiver<Arc<BlockOutcome>>),
) {
    compare_clocks(tasks, node, clock);
    fetch_attachments(tasks, node, fetched.0, fetched.1);
    back_up_vault(tasks, node);
    exchange_sealed(tasks, node);
    keep_own_agreement(tasks, node);
}

/// Starts comparing this node's clock with those of the others.
fn compare_clocks(tasks: &Tasks, node: &Services, state: watch::Sender<ClockState>) {
    let of_node = (node.reader.clone(), node.network.clone(), node.metrics.clone());
    Comparison::new(node.agency, of_node, state).start(tasks);
}

/// Starts keeping an epoch of the agency's own agreement in force, where there is a vault for its secret.
fn keep_own_agreement(tasks: &Tasks, node: &Services) {
    let Some(sealing) = node.holdings.as_ref().map(Holdings::keys) else { return };
    let own = OwnAgreement::of(node, sealing.retention_months());
    let responder = node.health.listener(OWN_AGREEMENT);
    tasks.spawn(OWN_AGREEMENT, own.run(responder, tasks.shutdown().clone()));
}

/// Starts getting the attachments that this node lacks.
fn fetch_attachments(
    tasks: &Tasks,
    node: &Services,
    policy: FetchPolicy,
    committed: broadcast::Receiver<Arc<BlockOutcome>>,
) {
    let fetching = Fetching {
        attachments: node.attachments.clone(),
        reader: node.reader.clone(),
        network: node.network.clone(),
        agency: node.agency,
        policy,
    };
    let stop = tasks.shutdown().clone();
    tasks.spawn("fetching of attachments", fetching.run(committed, stop));
}

/// Starts following what is committed of sealed records, and their delivery in both directions.
fn exchange_sealed(tasks: &Tasks, node: &Services) {
    let Some(holdings) = &node.holdings else { return };
    let (stop, network) = (tasks.shutdown(), &node.network);
    let following = sealed::follow(holdings.clone(), node.committed.clone(), stop.clone());
    tasks.spawn_fallible("following of sealed records", following);
    let delivering = sealed::deliver(holdings.clone(), network.clone(), stop.clone());
    tasks.spawn_fallible("delivery of sealed records", delivering);
    let fetching = sealed::fetch(holdings.clone(), network.clone(), stop.clone());
    tasks.spawn_fallible("fetching of sealed records", fetching);
}

/// Starts keeping the backups of the vault up to date, where there is one and a place for them.
fn back_up_vault(tasks: &Tasks, node: &Services) {
    let Some(sealing) = node.holdings.as_ref().map(Holdings::keys) else { return };
    let Some(backups) = sealing.backups.clone() else { return };
    let backing_up = backups.run(Arc::clone(&sealing.vault), tasks.shutdown().clone());
    tasks.spawn("backups of the vault", backing_up);
}
