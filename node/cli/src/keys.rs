//! `customhouse keys`.

use std::{
    fmt,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::Subcommand;
use customhouse_files::{
    folder::write_public,
    keyfile::{KeyFile, KeyPurpose},
    pem::KeyedCertificate,
    profile::Profile,
};
use customhouse_ledger::{
    agency::AgencyCode,
    keys::PublicKey,
    registry::genesis::Genesis,
    tlog::{self, note::VerifierKey},
};
use customhouse_node::{config::RootKeyProtection, identity::Role, local_network, tls::Authority};
use libp2p::identity::ed25519;
use serde::Serialize;

use super::{
    command::Done,
    genesis,
    output::{Output, lossy},
};

mod protect;

#[derive(Subcommand)]
pub(crate) enum KeysCommand {
    /// Make an agency's keys (validator, peer, signing, checkpoint), its vault, and agency.json for the genesis.
    #[command(after_help = NEW_EXAMPLES)]
    New(NewArgs),
    /// Show key files without their secrets.
    #[command(after_help = SHOW_EXAMPLES)]
    Show {
        /// The genesis of the network: shows what tools verify the checkpoints of a checkpoint key with.
        #[arg(long, value_name = "FILE")]
        genesis: Option<PathBuf>,
        /// Key files.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Put key files under a passphrase.
    #[command(after_help = protect::PROTECT_HELP)]
    Protect(protect::ProtectArgs),
    /// Take the passphrase from key files.
    #[command(after_help = protect::UNPROTECT_HELP)]
    Unprotect(protect::UnprotectArgs),
    /// Make an agency's certificate authority and its node's certificate.
    #[command(after_help = "Examples:\n  \
        customhouse keys authority --agency NL-DOUANE --dir nl --host node.douane.example")]
    Authority(AuthorityArgs),
    /// Make the node's certificate anew, when it ends or its hosts change.
    #[command(after_help = "The node reads it when it is started.\n\nExamples:\n  \
        customhouse keys server --agency NL-DOUANE --dir nl --host node.douane.example")]
    Server(AuthorityArgs),
    /// Make a client's certificate and profile.
    #[command(after_help = "Examples:\n  \
        customhouse keys client --agency NL-DOUANE --dir nl --name acme-brokers --role broker \\\n    \
        --node https://node.douane.example:7401 --out acme")]
    Client(ClientArgs),
}

#[derive(clap::Args)]
pub(crate) struct NewArgs {
    /// The agency's code: 2 to 16 of A-Z, 0-9 and -.
    #[arg(long, value_name = "CODE")]
    agency: AgencyCode,
    /// Directory for the keys; agency.json and keys/ are made in it.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// The agency's name, for people. The code where absent.
    #[arg(long)]
    name: Option<String>,
    /// ISO 3166-1 alpha-2. The first two letters of the code where absent.
    #[arg(long, value_name = "CC", value_parser = country)]
    country: Option<String>,
    /// What protects the vault's root key: `plain` (its file's mode alone), or a passphrase, from `prompt`,
    /// `file:PATH` or `credential:NAME`. node.toml says the same under [vault].
    #[arg(long, value_name = "HOW", default_value = "plain")]
    vault: RootKeyProtection,
    /// Make only one key, in DIR/PURPOSE.key: validator, peer, signing, submitter or checkpoint.
    #[arg(long)]
    purpose: Option<KeyPurpose>,
}

#[derive(clap::Args)]
pub(crate) struct AuthorityArgs {
    /// The agency's code.
    #[arg(long, value_name = "CODE")]
    agency: AgencyCode,
    /// The agency's directory; tls/ is made in it.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Host names or addresses under which clients reach the node, beside localhost.
    #[arg(long, value_name = "HOST")]
    host: Vec<String>,
}

#[derive(clap::Args)]
pub(crate) struct ClientArgs {
    /// The agency's code.
    #[arg(long, value_name = "CODE")]
    agency: AgencyCode,
    /// The agency's directory, where `keys authority` made tls/.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// The client's name: the submitter of its records.
    #[arg(long)]
    name: String,
    /// What it may do: officer (lodges for the agency's office), broker, carrier, trader, port, auditor or
    /// operator.
    #[arg(long, default_value_t = Role::Broker)]
    role: Role,
    /// The node's endpoint.
    #[arg(long, value_name = "URL", default_value = "https://127.0.0.1:7401")]
    node: String,
    /// Directory for the profile; hand it to the client in a safe way.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

const SHOW_EXAMPLES: &str = "\
Examples:
  customhouse keys show nl/keys/*.key

  # The verifier key that an auditor gives to a tool for transparency logs
  customhouse --output json keys show nl/keys/checkpoint.key --genesis genesis.json | jq -r \\
    .[0].verifier_key";

const NEW_EXAMPLES: &str = "\
Examples:
  # All that an agency needs to join: send nl/agency.json to whoever makes the genesis
  customhouse keys new --agency NL-DOUANE --name 'Douane' --country NL --dir nl

  # A key for a submitter that signs its own transactions
  customhouse keys new --agency NL-DOUANE --purpose submitter --dir acme";

pub(crate) fn run(command: KeysCommand, output: Output) -> Done {
    match command {
        KeysCommand::New(args) => new(&args, output)?,
        KeysCommand::Show { files, genesis } => {
            let genesis = genesis.map(|path| genesis::read(&path)).transpose()?;
            let show = |path: &PathBuf| show(path, genesis.as_ref());
            let keys = files.iter().map(show).collect::<Result<Vec<_>, _>>()?;
            output.print(&KeyList(keys))?;
        }
        KeysCommand::Protect(args) => protect::protect(&args, output)?,
        KeysCommand::Unprotect(args) => protect::unprotect(&args, output)?,
        KeysCommand::Authority(args) => authority(&args, output)?,
        KeysCommand::Server(args) => server(&args, output)?,
        KeysCommand::Client(args) => client(&args, output)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The chain takes any text, and what is in it stays there.
fn country(text: &str) -> Result<String, &'static str> {
    match text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_uppercase()) {
        true => Ok(text.to_owned()),
        false => Err("two capital letters expected, such as NL"),
    }
}

fn new(args: &NewArgs, output: Output) -> anyhow::Result<()> {
    let NewArgs { agency, dir, .. } = args;
    let Some(purpose) = args.purpose else {
        let country = args.country.as_deref().or(agency.as_str().get(..2)).unwrap_or("ZZ");
        let name = args.name.as_deref().unwrap_or(agency.as_str());
        local_network::create_agency_keys(dir, *agency, name, country, &args.vault.0)?;
        let made =
            [KeyPurpose::Validator, KeyPurpose::Peer, KeyPurpose::Signing, KeyPurpose::Checkpoint];
        let keys = made
            .map(|purpose| show(&dir.join("keys").join(format!("{purpose}.key")), None))
            .into_iter()
            .collect::<Result<Vec<_>, _>>()?;
        output.print(&KeyList(keys))?;
        let file = dir.join("agency.json");
        note!("Public keys for the genesis: {}. The .key files stay here.", file.display());
        return Ok(());
    };
    std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    let path = dir.join(format!("{purpose}.key"));
    let key = KeyFile::generate(purpose, *agency).context("the system gives no randomness")?;
    key.write(&path)?;
    if purpose == KeyPurpose::Validator {
        let journal = customhouse_node::config::journal_path(&path);
        customhouse_node::journal::SignerJournal::create(&journal, &key.key.public())?;
    }
    output.print(&KeyList(vec![show(&path, None)?]))?;
    Ok(())
}

fn authority(args: &AuthorityArgs, output: Output) -> anyhow::Result<()> {
    let dir = args.dir.join("tls");
    let certificate = dir.join("ca.crt");
    anyhow::ensure!(
        !certificate.exists(),
        "{} exists: a new authority would make every client's certificate useless",
        certificate.display()
    );
    std::fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
    let authority = Authority::new(args.agency)?;
    let server = authority.server(&args.host)?;
    authority.keyed().write(&certificate, &dir.join("ca.key"))?;
    server.write(&dir.join("server.crt"), &dir.join("server.key"))?;
    output.print(&Made { made: dir, next: "Keep ca.key offline; the node does not need it." })?;
    Ok(())
}

fn server(args: &AuthorityArgs, output: Output) -> anyhow::Result<()> {
    let dir = args.dir.join("tls");
    let server = Authority::restore(args.agency, &own_authority(&dir)?)?.server(&args.host)?;
    server.write(&dir.join("server.crt"), &dir.join("server.key"))?;
    output.print(&Made { made: dir.join("server.crt"), next: "Start the node anew with it." })?;
    Ok(())
}

/// The authority that `keys authority` made in a directory.
fn own_authority(tls: &Path) -> anyhow::Result<KeyedCertificate> {
    KeyedCertificate::read(&tls.join("ca.crt"), &tls.join("ca.key"))
        .context("no certificate authority; `customhouse keys authority` makes one")
}

fn client(args: &ClientArgs, output: Output) -> anyhow::Result<()> {
    let own = own_authority(&args.dir.join("tls"))?;
    let client = Authority::restore(args.agency, &own)?.client(&args.name, args.role)?;
    let out = &args.out;
    anyhow::ensure!(!out.join("client.toml").exists(), "{} has a profile already", out.display());
    std::fs::create_dir_all(out).with_context(|| out.display().to_string())?;
    client.write(&out.join("client.crt"), &out.join("client.key"))?;
    write_public(&out.join("ca.crt"), &own.certificate)?;
    let profile = Profile {
        node: args.node.clone(),
        ca: "ca.crt".into(),
        cert: "client.crt".into(),
        key: "client.key".into(),
        genesis: None,
        submitter_key: None,
    };
    profile.write(out)?;
    output.print(&Made { made: out.clone(), next: "Use it with `customhouse --profile`." })?;
    Ok(())
}

/// A key without its secret.
#[derive(Serialize)]
struct ShownKey {
    #[serde(serialize_with = "lossy")]
    file: PathBuf,
    agency: AgencyCode,
    purpose: KeyPurpose,
    public_key: PublicKey,
    /// Whether it is under a passphrase: then the public key is what the file says, not compared with the key.
    protected: bool,
    /// Of a peer key: the libp2p identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    peer_id: Option<String>,
    /// Of a checkpoint key, where the network is known: what verifies its notes.
    #[serde(skip_serializing_if = "Option::is_none")]
    verifier_key: Option<String>,
}

fn show(path: &Path, genesis: Option<&Genesis>) -> anyhow::Result<ShownKey> {
    let found = KeyFile::read_public(path)?;
    let public_key = found.public_key;
    let peer_id = (found.purpose == KeyPurpose::Peer).then(|| peer_id(&public_key)).transpose()?;
    let signs_checkpoints = found.purpose == KeyPurpose::Checkpoint;
    let network = genesis.filter(|_| signs_checkpoints);
    let verifier_key = network.map(|genesis| {
        let origin = tlog::origin(&genesis.network, &genesis.chain_id());
        VerifierKey::new(&origin, public_key).map(|key| key.to_string())
    });
    Ok(ShownKey {
        file: path.to_owned(),
        agency: found.agency,
        purpose: found.purpose,
        public_key,
        protected: found.is_protected,
        peer_id,
        verifier_key: verifier_key.transpose()?,
    })
}

/// The libp2p identity of a peer key.
pub(crate) fn peer_id(key: &PublicKey) -> anyhow::Result<String> {
    let key = ed25519::PublicKey::try_from_bytes(key.as_bytes())?;
    Ok(libp2p::identity::PublicKey::from(key).to_peer_id().to_string())
}

#[derive(Serialize)]
struct KeyList(Vec<ShownKey>);

impl fmt::Display for KeyList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, key) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            let ShownKey { file, agency, purpose, public_key, protected, peer_id, verifier_key } =
                key;
            write!(f, "{agency:<16} {:<10} {public_key}  {}", purpose.as_str(), file.display())?;
            if *protected {
                write!(f, "  (under a passphrase)")?;
            }
            if let Some(peer_id) = peer_id {
                write!(f, "\n{:<16} peer id    {peer_id}", "")?;
            }
            if let Some(verifier_key) = verifier_key {
                write!(f, "\n{:<16} verifier   {verifier_key}", "")?;
            }
        }
        Ok(())
    }
}

#[derive(Serialize)]
struct Made {
    #[serde(serialize_with = "lossy")]
    made: PathBuf,
    #[serde(skip)]
    next: &'static str,
}

impl fmt::Display for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "made {}\n{}", self.made.display(), self.next)
    }
}
