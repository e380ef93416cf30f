//! `customhouse node`.

use std::{
    fmt,
    io::Read as _,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use clap::Subcommand;
use customhouse_ledger::{agency::AgencyCode, hash::Hash};
use customhouse_node::{
    config::{ConfigError, LogFormat, LogSection, NodeConfig, TEMPLATE},
    logs,
    node::{Node, NodeError, SHUTDOWN_GRACE},
    readiness::{self, Severity},
    tasks::{Panics, end_with_panics},
};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::{
    command::Done,
    output::{Output, lossy},
    signals::StopSignals,
};

#[derive(Subcommand)]
pub(crate) enum NodeCommand {
    /// Run a node until SIGTERM, SIGHUP or Ctrl-C.
    #[command(after_help = RUN_HELP)]
    Run {
        /// The node's configuration.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Stop gracefully when standard input ends. For a supervisor that may be killed itself.
        #[arg(long)]
        stop_with_stdin: bool,
    },
    /// Try what a node will need to run as its configuration says, and start nothing.
    #[command(after_help = CHECK_HELP)]
    Check {
        /// The node's configuration.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// The node is running: leave out what it holds for itself: its listeners, its keys' journals, its vault.
        #[arg(long)]
        running: bool,
    },
    /// Print a configuration with every field explained.
    #[command(after_help = "Examples:\n  customhouse node template > nl/node.toml")]
    Template,
}

const CHECK_HELP: &str = "\
Tried are: the configuration, the genesis and the keys; that secrets are their owner's only; that the
certificate is in force, has its key, and comes from its authority; that data can be written; that
the listeners' ports are free; that the keys' journals are there, whole and not in use; that the store can
be opened and is of this genesis; that the vault, with its passphrase and its mirror, can be opened and is
what the registry knows; that enough files may be open at a time. All that is wrong is said at once. `run` refuses the same, but for what keeps a node from signing or from
reaching a peer, which it logs: a node that follows is worth more than none.

Exit codes: 0 ready to run; 2 not ready, or wrong usage.

Examples:
  customhouse node check --config nl/node.toml
  customhouse --output json node check --config nl/node.toml | jq .ready";

const RUN_HELP: &str = "\
The first SIGTERM, SIGINT or SIGHUP stops the node gracefully: what was acknowledged is durable
already, and requests under way are answered. SIGTERM or SIGINT after that ends it at once, which is
as safe and less polite. Under nohup, which has SIGHUP ignored, it stays ignored.
Logs go to standard error. Where nobody reads them or they cannot be written, lines are lost and counted,
and the node goes on.

Exit codes: 0 stopped when asked to; 1 a failure, such as a full disk or a damaged store, after
which nothing more is signed; 2 wrong usage or configuration, as `customhouse node check` finds it.

Examples:
  customhouse node run --config net/NL-DOUANE/node.toml";

/// Exit code of a wrong configuration, as of wrong arguments.
const CONFIGURATION: u8 = 2;
/// How long threads that are not waited for have to end.
const THREADS_TIMEOUT: Duration = Duration::from_secs(2);

pub(crate) fn run(command: NodeCommand, output: Output) -> Done {
    match command {
        NodeCommand::Template => output.bytes(TEMPLATE.as_bytes())?,
        NodeCommand::Check { config, running } => {
            let mut worth = Vec::new();
            let checked = check(&config, running, &mut worth);
            output.print(&CheckView::of(config, &checked, worth))?;
            if let Err(error) = checked {
                note!("customhouse: {error}");
                return Ok(CONFIGURATION.into());
            }
        }
        NodeCommand::Run { config, stop_with_stdin } => match NodeConfig::read(&config) {
            Ok(config) => return run_node(config, stop_with_stdin, output),
            Err(error) => return wrong_configuration(error, output),
        },
    }
    Ok(ExitCode::SUCCESS)
}

/// Whose node the configuration is, and on which chain. What is worth a look is said, and listed.
fn check(
    config: &Path,
    running: bool,
    worth: &mut Vec<String>,
) -> Result<(AgencyCode, Hash), ConfigError> {
    let config = NodeConfig::read(config)?;
    let genesis = config.read_genesis()?;
    let keys = config.read_keys()?;
    let mut findings = readiness::of_files(&config, &genesis, &keys);
    if !running {
        readiness::of_resources(&config, &genesis, &keys, &mut findings);
    }
    for finding in findings.up_to(Severity::Worth) {
        note!("{}: {finding}", config.file.display());
        worth.push(finding.to_string());
    }
    readiness::refuse(&config, &findings, Severity::Hinders)?;
    Ok((config.agency, genesis.chain_id()))
}

/// Whether a node could run like this.
#[derive(Serialize)]
struct CheckView {
    #[serde(serialize_with = "lossy")]
    config: PathBuf,
    ready: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    agency: Option<AgencyCode>,
    #[serde(skip_serializing_if = "Option::is_none")]
    chain_id: Option<Hash>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// What may be intended, and is worth a look.
    worth: Vec<String>,
}

impl CheckView {
    fn of(
        config: PathBuf,
        checked: &Result<(AgencyCode, Hash), ConfigError>,
        worth: Vec<String>,
    ) -> Self {
        let found = checked.as_ref().ok();
        Self {
            config,
            ready: found.is_some(),
            agency: found.map(|(agency, _)| *agency),
            chain_id: found.map(|(_, chain_id)| *chain_id),
            reason: checked.as_ref().err().map(ToString::to_string),
            worth,
        }
    }
}

impl fmt::Display for CheckView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.agency, &self.chain_id) {
            (Some(agency), Some(chain_id)) => {
                write!(f, "{agency}: ready to run on chain {chain_id}")
            }
            // Why is on standard error.
            _ => write!(f, "{}: not ready to run", self.config.display()),
        }
    }
}

fn wrong_configuration(error: ConfigError, output: Output) -> Done {
    output.failed(&error.into());
    Ok(CONFIGURATION.into())
}

fn run_node(config: NodeConfig, stop_with_stdin: bool, output: Output) -> Done {
    init_logs(&config.log)?;
    let panics = end_with_panics();
    let shutdown = CancellationToken::new();
    if stop_with_stdin {
        cancel_at_end_of_stdin(shutdown.clone())?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ran = runtime.block_on(run_until_stopped(config, shutdown, panics));
    // A thread that reads the store still, or waits for a disk that hangs, is not waited for.
    runtime.shutdown_timeout(THREADS_TIMEOUT);
    let Err(error) = ran else { return Ok(ExitCode::SUCCESS) };
    match error.downcast::<NodeError>() {
        Ok(NodeError::Config(error)) => wrong_configuration(error, output),
        Ok(error) => Err(anyhow::Error::new(error).context("the node stopped")),
        Err(error) => Err(error.context("the node stopped")),
    }
}

/// Runs until a signal, a failure, or a panic of whatever thread or task.
async fn run_until_stopped(
    config: NodeConfig,
    shutdown: CancellationToken,
    panics: Panics,
) -> anyhow::Result<()> {
    let mut signals = StopSignals::new()?;
    let stop = shutdown.clone();
    tokio::spawn(async move {
        signals.next().await;
        tracing::info!("asked to stop");
        stop.cancel();
        signals.next_insistent().await;
        std::process::exit(1);
    });
    let mut node = tokio::spawn(Node::run(config, shutdown.clone()));
    tokio::select! {
        ran = &mut node => Ok(ran??),
        panicked = panics.first() => {
            shutdown.cancel();
            let _as_far_as_it_goes = tokio::time::timeout(SHUTDOWN_GRACE, node).await;
            Err(panicked.into())
        }
    }
}

fn init_logs(log: &LogSection) -> anyhow::Result<()> {
    let filter: tracing_subscriber::EnvFilter =
        log.filter.parse().context("log.filter was checked when it was read")?;
    // Its warnings print whole messages, and a payload must never be in a log.
    let filter = filter.add_directive("libp2p_gossipsub=error".parse()?);
    let lines = logs::to_standard_error().context("no thread for the log could be started")?;
    // A line that cannot be written is counted, and no reason to say so on the way that failed.
    let subscriber = tracing_subscriber::fmt()
        .log_internal_errors(false)
        .with_env_filter(filter)
        .with_writer(move || lines.clone());
    let installed = match log.format {
        LogFormat::Text => {
            let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
            subscriber.with_ansi(terminal).try_init()
        }
        LogFormat::Json => subscriber.json().flatten_event(true).try_init(),
    };
    installed.map_err(|error| anyhow::anyhow!("logs: {error}"))
}

/// A thread, because a read of standard input cannot be given up.
fn cancel_at_end_of_stdin(shutdown: CancellationToken) -> anyhow::Result<()> {
    let wait = move || {
        let mut stdin = std::io::stdin().lock();
        let mut ignored = [0; 256];
        while !matches!(stdin.read(&mut ignored), Ok(0) | Err(_)) {}
        shutdown.cancel();
    };
    std::thread::Builder::new().name("stdin".into()).spawn(wait)?;
    Ok(())
}
