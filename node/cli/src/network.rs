//! `customhouse network`: several agencies on one machine.

use std::{fmt, path::PathBuf, process::ExitCode};

use clap::Subcommand;
use customhouse_ledger::{
    agency::{AgencyCode, AgencyCodeError},
    authority::{ALWAYS_OPEN, RecordKind},
    hash::Hash,
};
use customhouse_node::local_network::{LocalNetwork, NewNetwork, Ports};
use serde::Serialize;

use super::{
    command::Done,
    genesis::{by_name, parse_parameter},
    output::{Output, lossy},
};

mod agreements;
mod run;
mod status;

#[derive(Subcommand)]
pub(crate) enum NetworkCommand {
    /// Lay out a network: keys, certificates, clients, configurations and the genesis.
    #[command(after_help = NEW_EXAMPLES)]
    New(NewArgs),
    /// Run all nodes of a network until Ctrl-C.
    #[command(after_help = RUN_HELP)]
    Run {
        /// The network's directory.
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
    },
    /// Show every node's head, and whether they are the same.
    #[command(after_help = status::HELP)]
    Status(status::StatusArgs),
}

#[derive(clap::Args)]
pub(crate) struct NewArgs {
    /// Codes of the agencies, separated by commas. Four or more survive a faulty one.
    #[arg(long, required = true, value_delimiter = ',', value_parser = parse_agency, value_name = "CODE,…")]
    agencies: Vec<AgencyCode>,
    /// A directory that does not exist yet, or is empty.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// First port; each agency takes four, ten apart: peers, gRPC, metrics, the log as tiles.
    #[arg(long, value_name = "PORT", default_value_t = 7400)]
    base_port: u16,
    /// Name of the network in the genesis.
    #[arg(long, default_value = "local")]
    name: String,
    /// The history index has 2^BITS buckets. The default is small, for many nodes on one machine.
    #[arg(long, value_name = "BITS", default_value_t = 16)]
    history_bits: u32,
    /// A parameter that is not to have its default, such as heartbeat_ms=60000 or open_kinds=declaration,event.
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_parameter)]
    parameter: Vec<(String, u64)>,
    /// Records of all kinds may be lodged open, where every member reads them: for trying out. Without it they are
    /// sealed, but for what is about the network itself.
    #[arg(long)]
    open: bool,
    /// Agencies that agree from the beginning to share sealed records of all kinds. May be given more than once.
    #[arg(long, value_name = "CODE,CODE,…", value_parser = parse_parties)]
    agreement: Vec<Parties>,
}

/// Parties of an agreement.
#[derive(Clone, Debug)]
struct Parties(Vec<AgencyCode>);

fn parse_parties(text: &str) -> Result<Parties, AgencyCodeError> {
    text.split(',').map(parse_agency).collect::<Result<_, _>>().map(Parties)
}

/// A code of a list, in which people put spaces after the commas.
fn parse_agency(text: &str) -> Result<AgencyCode, AgencyCodeError> {
    text.trim().parse()
}

/// The parameter that says which kinds may be lodged open.
const OPEN_KINDS: &str = "open_kinds";

const NEW_EXAMPLES: &str = "\
Examples:
  customhouse network new --agencies NL-DOUANE,BE-AADA,DE-ZOLL,FR-DGDDI --dir net
  customhouse network new --agencies KR-KCS,SG-CUSTOMS --dir pilot --base-port 9000
  customhouse network new --agencies NL-DOUANE,BE-AADA,DE-ZOLL,FR-DGDDI --dir net --agreement NL-DOUANE,BE-AADA
  customhouse network new --agencies NL-DOUANE,BE-AADA --dir net --open

An agreement has its file in DIR/agreements: all parties have approved it, `network run` lodges it when the nodes serve,
and so does `agreement lodge FILE`. It is for trying out: all keys are on this machine.

Each agency's directory has clients/{broker,officer,auditor,operator}, to be used with --profile.";

const RUN_HELP: &str = "\
The nodes' logs go to standard error, each line behind its agency. A node that dies is reported and
the others go on. Ctrl-C, SIGTERM or SIGHUP (unless ignored, as under nohup) stops all of them
gracefully; so does the end of this process.

Exit codes: 0 all nodes stopped when asked to, 1 a node died.

Examples:
  customhouse network run --dir net
  customhouse network run --dir net 2> nodes.log";

pub(crate) fn run(command: NetworkCommand, output: Output) -> Done {
    match command {
        NetworkCommand::New(args) => {
            let network = LocalNetwork::create(&args.plan()?)?;
            output.print(&NetworkView::of(&network))?;
            note!("Start it with: customhouse network run --dir {}", args.dir.display());
            Ok(ExitCode::SUCCESS)
        }
        NetworkCommand::Run { dir } => {
            let network = LocalNetwork::open(&dir)?;
            output.print(&NetworkView::of(&network))?;
            super::command::block_on(run::run(&network))
        }
        NetworkCommand::Status(args) => super::command::block_on(async {
            let agree = status::status(&args, output).await?;
            Ok(if agree { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }),
    }
}

impl NewArgs {
    fn plan(&self) -> anyhow::Result<NewNetwork> {
        let ports = Ports::from_base(self.base_port, self.agencies.len())?;
        let mut parameters = by_name(&self.parameter)?;
        if !self.open {
            let sealed = RecordKind::bits(ALWAYS_OPEN);
            parameters.entry(OPEN_KINDS.to_owned()).or_insert(sealed);
        }
        Ok(NewNetwork {
            dir: self.dir.clone(),
            name: self.name.clone(),
            agencies: self.agencies.iter().copied().zip(ports).collect(),
            history_bits: self.history_bits,
            parameters,
            agreements: self.agreement.iter().map(|parties| parties.0.clone()).collect(),
        })
    }
}

#[derive(Serialize)]
struct NetworkView {
    #[serde(serialize_with = "lossy")]
    dir: PathBuf,
    #[serde(serialize_with = "lossy")]
    genesis: PathBuf,
    chain_id: Hash,
    agencies: Vec<AgencyView>,
}

#[derive(Serialize)]
struct AgencyView {
    agency: AgencyCode,
    #[serde(serialize_with = "lossy")]
    config: PathBuf,
    peer: String,
    api: String,
    metrics: Option<String>,
    tlog: Option<String>,
    #[serde(serialize_with = "lossy")]
    clients: PathBuf,
}

impl NetworkView {
    fn of(network: &LocalNetwork) -> Self {
        let agencies = network.agencies.iter().map(|agency| {
            let config = &agency.config;
            AgencyView {
                agency: agency.code(),
                config: config.file.clone(),
                peer: config.network.listen.first().map(ToString::to_string).unwrap_or_default(),
                api: format!("https://{}", config.api.listen),
                metrics: config.metrics.as_ref().map(|m| format!("http://{}/metrics", m.listen)),
                tlog: config.tlog.as_ref().map(|tlog| format!("http://{}/", tlog.listen)),
                clients: agency.dir.join("clients"),
            }
        });
        Self {
            dir: network.dir.clone(),
            genesis: network.dir.join("genesis.json"),
            chain_id: network.genesis.chain_id(),
            agencies: agencies.collect(),
        }
    }
}

impl fmt::Display for NetworkView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "genesis   {}", self.genesis.display())?;
        write!(f, "chain id  {}", self.chain_id)?;
        for agency in &self.agencies {
            write!(f, "\n{:<16} gRPC {}  peers {}", agency.agency, agency.api, agency.peer)?;
            if let Some(metrics) = &agency.metrics {
                write!(f, "  metrics {metrics}")?;
            }
            if let Some(tlog) = &agency.tlog {
                write!(f, "  log {tlog}")?;
            }
        }
        Ok(())
    }
}
