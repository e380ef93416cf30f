//! Runs every node of a network as a child process.
//!
//! A child stops gracefully when its standard input ends, so that it also stops when this process
//! is killed and can tell it nothing.

use std::{
    process::{ExitCode, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::Context as _;
use customhouse_ledger::agency::AgencyCode;
use customhouse_node::{
    local_network::{LocalAgency, LocalNetwork},
    logs,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader},
    process::{Child, Command},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::signals::StopSignals;

/// A node that has not stopped by then is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// A log line that is longer is shown in pieces.
const LINE_BYTES_MAX: u64 = 64 * 1024;

/// Runs the network until it is asked to stop, or no node is left.
pub(super) async fn run(network: &LocalNetwork) -> anyhow::Result<ExitCode> {
    // Whoever reads this slowly, or no longer, holds up neither the nodes nor their end.
    logs::to_standard_error().context("no thread for the log could be started")?;
    let stop = CancellationToken::new();
    let mut children = JoinSet::new();
    for agency in &network.agencies {
        let child = spawn(agency)?;
        note!("{}: node started, process {}", agency.code(), child.id().unwrap_or_default());
        children.spawn(supervise(agency.code(), child, stop.clone()));
    }
    let mut signals = StopSignals::new()?;
    let of_network = network.clone();
    let announcement = tokio::spawn(async move {
        super::status::announce(of_network.clone()).await;
        super::agreements::lodge(&of_network).await;
    });
    let mut died = false;
    loop {
        tokio::select! {
            () = signals.next(), if !stop.is_cancelled() => {
                note!("stopping {} nodes", children.len());
                announcement.abort();
                stop.cancel();
            }
            ended = children.join_next() => match ended {
                Some(ended) => died |= report(ended?, &stop, network),
                None => break,
            },
        }
    }
    Ok(if died { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// How a child ended.
struct Ended {
    agency: AgencyCode,
    status: std::io::Result<ExitStatus>,
}

fn spawn(agency: &LocalAgency) -> anyhow::Result<Child> {
    let program = std::env::current_exe().context("where is this program?")?;
    Command::new(program)
        .args(["node", "run", "--stop-with-stdin", "--config"])
        .arg(&agency.config.file)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("{}: cannot start its node", agency.code()))
}

async fn supervise(agency: AgencyCode, mut child: Child, stop: CancellationToken) -> Ended {
    let stdin = child.stdin.take();
    let logs = [
        child.stderr.take().map(|stream| tokio::spawn(prefix_lines(agency, stream))),
        child.stdout.take().map(|stream| tokio::spawn(prefix_lines(agency, stream))),
    ];
    let status = tokio::select! {
        status = child.wait() => status,
        () = stop.cancelled() => {
            drop(stdin);
            match tokio::time::timeout(STOP_TIMEOUT, child.wait()).await {
                Ok(status) => status,
                Err(_) => {
                    note!("{agency}: not stopped after {STOP_TIMEOUT:?}: killed");
                    match child.kill().await {
                        Ok(()) => child.wait().await,
                        Err(error) => Err(error),
                    }
                }
            }
        }
    };
    for log in logs.into_iter().flatten() {
        // Its last lines come before the report; a log that cannot be read is no reason to fail.
        drop(log.await);
    }
    Ended { agency, status }
}

/// Says how a node ended; whether it did so by itself or badly.
fn report(ended: Ended, stop: &CancellationToken, network: &LocalNetwork) -> bool {
    let Ended { agency, status } = ended;
    let how = match &status {
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    };
    if stop.is_cancelled() && status.is_ok_and(|status| status.success()) {
        note!("{agency}: node stopped");
        return false;
    }
    note!("{agency}: node died ({how})");
    let config = network.agencies.iter().find(|a| a.code() == agency).map(|a| &a.config.file);
    if let Some(config) = config.filter(|_| !stop.is_cancelled()) {
        note!("{agency}: start it again with: customhouse node run --config {}", config.display());
    }
    true
}

async fn prefix_lines(agency: AgencyCode, stream: impl AsyncRead + Unpin) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        match (&mut reader).take(LINE_BYTES_MAX).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => note!("{agency:<10} | {}", String::from_utf8_lossy(&line).trim_end()),
        }
    }
}
