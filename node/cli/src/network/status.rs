//! `customhouse network status`: every node beside the others.

use std::{fmt, time::Duration};

use clap::Args;
use customhouse_files::profile::Profile;
use customhouse_ledger::agency::AgencyCode;
use customhouse_node::local_network::{LocalAgency, LocalNetwork};
use futures::future::join_all;
use serde::Serialize;
use tokio::time::Instant;

use crate::{
    connect,
    failure::WrongUsage,
    output::{Output, one_line},
    query::StatusView,
};

/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A node that does not answer by then counts as absent.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// A network that has just been started answers by then.
const START_TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Args)]
pub(crate) struct StatusArgs {
    /// The network's directory.
    #[arg(long, value_name = "DIR")]
    dir: std::path::PathBuf,
    /// Wait until all nodes answer and have the same head, for at most this long.
    #[arg(long, value_name = "SECONDS")]
    wait: Option<u64>,
    /// Look only at these agencies' nodes.
    #[arg(long, value_delimiter = ',', value_parser = super::parse_agency, value_name = "CODE,…")]
    only: Vec<AgencyCode>,
}

pub(super) const HELP: &str = "\
Exit codes: 0 all nodes answer and have the same head (at rest: the same height, block and roots);
1 they do not.

Examples:
  customhouse network status --dir net
  customhouse network status --dir net --wait 60
  customhouse --output json network status --dir net | jq '.nodes[].status.height'";

/// Looks, until all is well or the time is over. Whether it was.
pub(super) async fn status(args: &StatusArgs, output: Output) -> anyhow::Result<bool> {
    let network = LocalNetwork::open(&args.dir)?;
    let is_there = |code: &AgencyCode| network.agencies.iter().any(|there| there.code() == *code);
    if let Some(other) = args.only.iter().find(|code| !is_there(code)) {
        let reason = format!("--only {other}: {} has no such agency", args.dir.display());
        anyhow::bail!(WrongUsage(reason));
    }
    let wanted = |agency: &&LocalAgency| args.only.is_empty() || args.only.contains(&agency.code());
    let agencies: Vec<&LocalAgency> = network.agencies.iter().filter(wanted).collect();
    let status = wait(&agencies, Duration::from_secs(args.wait.unwrap_or(0))).await;
    output.print(&status)?;
    Ok(status.agree)
}

/// Says when all nodes of a network that was just started answer, or which do not.
pub(super) async fn announce(network: LocalNetwork) {
    let agencies: Vec<&LocalAgency> = network.agencies.iter().collect();
    let status = wait(&agencies, START_TIMEOUT).await;
    if status.agree {
        note!("all {} nodes answer and have the same head", agencies.len());
    } else {
        note!("after {START_TIMEOUT:?}:\n{status}");
    }
}

async fn wait(agencies: &[&LocalAgency], limit: Duration) -> NetworkStatus {
    let deadline = Instant::now() + limit;
    loop {
        let nodes = join_all(agencies.iter().map(|agency| look(agency))).await;
        let status = NetworkStatus { agree: agree(&nodes), nodes };
        if status.agree || Instant::now() >= deadline {
            return status;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn look(agency: &LocalAgency) -> NodeView {
    let asked = tokio::time::timeout(ANSWER_TIMEOUT, ask(agency)).await;
    let (status, error) = match asked {
        Ok(Ok(status)) => (Some(status), None),
        Ok(Err(error)) => (None, Some(crate::failure::sentence(&error))),
        Err(_) => (None, Some(format!("no answer after {ANSWER_TIMEOUT:?}"))),
    };
    NodeView { agency: agency.code().to_string(), status, error }
}

async fn ask(agency: &LocalAgency) -> anyhow::Result<StatusView> {
    let connection = connect::connect(Profile::read(&agency.client("operator"))?).await?;
    StatusView::of(connection.client.status().await?)
}

/// Whether every node answers, takes part, and has the same head.
fn agree(nodes: &[NodeView]) -> bool {
    let heads: Option<Vec<_>> = nodes
        .iter()
        .map(|node| {
            let status = node.status.as_ref().filter(|status| !status.catching_up)?;
            Some((status.height, status.block_hash))
        })
        .collect();
    heads.is_some_and(|heads| !heads.is_empty() && heads.windows(2).all(|pair| pair[0] == pair[1]))
}

#[derive(Serialize)]
struct NetworkStatus {
    agree: bool,
    nodes: Vec<NodeView>,
}

#[derive(Serialize)]
struct NodeView {
    agency: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<StatusView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl fmt::Display for NetworkStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<16} {:>8} {:>13} {:>10} {:>13} {:>6}  state",
            "agency", "height", "block", "log size", "log root", "peers"
        )?;
        for node in &self.nodes {
            writeln!(f, "{node}")?;
        }
        let agree = "all nodes have the same head";
        f.write_str(if self.agree { agree } else { "the nodes do not all have the same head" })
    }
}

impl fmt::Display for NodeView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(status) = &self.status else {
            let error = one_line(self.error.as_deref().unwrap_or_default());
            return write!(f, "{:<16} {error}", self.agency);
        };
        let state = match (status.catching_up, status.signing) {
            (true, _) => "catching up",
            (false, true) => "signing",
            (false, false) => "NOT SIGNING",
        };
        let mut state = state.to_owned();
        for trouble in status.clock().into_iter().chain(status.no_quorum()) {
            state.push_str(", ");
            state.push_str(&trouble);
        }
        if !status.stalled.is_empty() {
            state.push_str(&format!(", STALLED: {}", one_line(&status.stalled.join(", "))));
        }
        write!(
            f,
            "{:<16} {:>8} {:>12}… {:>10} {:>12}… {:>6}  {state}",
            self.agency,
            status.height,
            status.block_hash.short(),
            status.log_size,
            status.log_root.short(),
            status.peers_connected,
        )
    }
}
