//! `customhouse genesis`.

use std::{
    collections::BTreeMap,
    fmt, io,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use clap::Subcommand;
use customhouse_audit::invalid_file::InvalidFile;
use customhouse_files::{
    agency_file::{genesis_of, read_agency_file},
    folder::write_public,
    readfile,
};
use customhouse_ledger::{
    hash::Hash,
    limits::GENESIS_JSON_BYTES_MAX,
    registry::{
        genesis::Genesis,
        parameters::{self, Parameters},
    },
};
use serde::Serialize;

use super::{
    command::Done,
    failure::WrongUsage,
    output::{Output, one_line},
};

#[derive(Subcommand)]
pub(crate) enum GenesisCommand {
    /// Put a genesis together from the agencies' public files.
    #[command(after_help = NEW_EXAMPLES)]
    New(NewArgs),
    /// Show a genesis: chain id, agencies, validators, parameters.
    #[command(after_help = "Examples:\n  customhouse genesis show genesis.json\n  \
        customhouse --output json genesis show genesis.json | jq -r .chain_id")]
    Show {
        /// The genesis.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Check a genesis, and that it is the one whose chain id you were told in another way.
    #[command(after_help = "Exit code 1 where the file is no valid genesis or has another chain \
        id.\n\nExamples:\n  customhouse genesis verify genesis.json --chain-id ab12…")]
    Verify {
        /// The genesis.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// The chain id that it should have: 64 hexadecimal digits.
        #[arg(long, value_name = "HEX")]
        chain_id: Option<Hash>,
    },
}

#[derive(clap::Args)]
pub(crate) struct NewArgs {
    /// Each agency's agency.json.
    #[arg(required = true, value_name = "AGENCY.json")]
    agencies: Vec<PathBuf>,
    /// Name of the network: 1 to 64 of a-z, 0-9 and -.
    #[arg(long)]
    network: String,
    /// The history index has 2^BITS buckets; for the life of the network. 8 to 24.
    #[arg(long, value_name = "BITS", default_value_t = 20)]
    history_bits: u32,
    /// A parameter that is not to have its default, such as heartbeat_ms=60000 or open_kinds=declaration,event.
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_parameter)]
    parameter: Vec<(String, u64)>,
    /// The file to write.
    #[arg(long, value_name = "FILE", default_value = "genesis.json")]
    out: PathBuf,
}

const NEW_EXAMPLES: &str = "\
Examples:
  customhouse genesis new nl/agency.json be/agency.json --network benelux-pilot

Every agency then runs `customhouse genesis verify genesis.json`, and the agencies compare the
chain id over the telephone before they start their nodes.";

/// Parameters by name, each given once: of two values nobody knows which is meant.
pub(crate) fn by_name(given: &[(String, u64)]) -> anyhow::Result<BTreeMap<String, u64>> {
    let mut parameters = BTreeMap::new();
    for (name, value) in given {
        if parameters.insert(name.clone(), *value).is_some() {
            anyhow::bail!(WrongUsage(format!("--parameter {name} is given twice")));
        }
    }
    Ok(parameters)
}

pub(crate) fn parse_parameter(text: &str) -> Result<(String, u64), String> {
    let (name, value) = text.split_once('=').ok_or("NAME=VALUE expected")?;
    let value = parameters::value_of_text(name, value).map_err(|error| error.to_string())?;
    Parameters::default().set(name, value).map_err(|error| error.to_string())?;
    Ok((name.to_owned(), value))
}

pub(crate) fn run(command: GenesisCommand, output: Output) -> Done {
    match command {
        GenesisCommand::New(args) => {
            let genesis = new(&args)?;
            output.print(&GenesisView::of(&genesis)?)?;
            note!("Written to {}.", args.out.display());
        }
        GenesisCommand::Show { file } => output.print(&GenesisView::of(&read(&file)?)?)?,
        GenesisCommand::Verify { file, chain_id } => {
            let genesis = read(&file)?;
            let found = genesis.chain_id();
            if let Some(expected) = chain_id.filter(|expected| *expected != found) {
                anyhow::bail!(
                    "{}: another genesis: its chain id is {found}, {expected} was expected",
                    file.display()
                );
            }
            output.print(&GenesisView::of(&genesis)?)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads a genesis file.
pub(crate) fn read(path: &Path) -> anyhow::Result<Genesis> {
    let name = || path.display().to_string();
    let text = readfile::text(path, GENESIS_JSON_BYTES_MAX).map_err(|error| {
        let code = match error.kind() {
            io::ErrorKind::FileTooLarge => "GENESIS_TOO_LARGE",
            _ => "GENESIS_JSON",
        };
        InvalidFile::or_unread(error, code)
    });
    Genesis::from_json(&text.with_context(name)?).with_context(name)
}

fn new(args: &NewArgs) -> anyhow::Result<Genesis> {
    let files = args.agencies.iter().map(|path| read_agency_file(path));
    let agencies = files.collect::<Result<Vec<_>, _>>()?;
    let parameters = by_name(&args.parameter)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
    let time_ms = u64::try_from(now.as_millis())?;
    let genesis = genesis_of(&args.network, time_ms, args.history_bits, &agencies, &parameters)?;
    write_public(&args.out, &(genesis.to_json() + "\n"))?;
    Ok(genesis)
}

/// What people compare.
#[derive(Serialize)]
struct GenesisView {
    network: String,
    chain_id: Hash,
    time_ms: u64,
    history_bits: u32,
    registry_root: Hash,
    validators: Vec<ValidatorView>,
    faulty_max: usize,
    quorum: usize,
    parameters: BTreeMap<&'static str, u64>,
}

#[derive(Serialize)]
struct ValidatorView {
    agency: String,
    public_key: String,
}

impl GenesisView {
    fn of(genesis: &Genesis) -> anyhow::Result<Self> {
        let validators = genesis.validators();
        let view = |v: &customhouse_ledger::finality::validators::Validator| ValidatorView {
            agency: v.agency.to_string(),
            public_key: v.key.to_string(),
        };
        Ok(Self {
            network: genesis.network.clone(),
            chain_id: genesis.chain_id(),
            time_ms: genesis.time_ms,
            history_bits: genesis.history_bits,
            registry_root: genesis.registry.root_without_agreements(),
            faulty_max: validators.faulty_max(),
            quorum: validators.quorum(),
            validators: validators.as_slice().iter().map(view).collect(),
            parameters: genesis.registry.parameters_at(1)?.named().collect(),
        })
    }
}

impl fmt::Display for GenesisView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "network        {}", one_line(&self.network))?;
        writeln!(f, "chain id       {}", self.chain_id)?;
        writeln!(f, "registry root  {}", self.registry_root)?;
        writeln!(f, "history        2^{} buckets", self.history_bits)?;
        writeln!(
            f,
            "validators     {} (up to {} faulty; {} decide)",
            self.validators.len(),
            self.faulty_max,
            self.quorum
        )?;
        for ValidatorView { agency, public_key } in &self.validators {
            writeln!(f, "  {agency:<16} {public_key}")?;
        }
        write!(f, "parameters")?;
        for (name, value) in &self.parameters {
            write!(f, "\n  {name:<28} {}", parameters::text_of_value(name, *value))?;
        }
        Ok(())
    }
}
