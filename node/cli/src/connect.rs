//! Which node a command talks to, and as whom.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail};
use customhouse_audit::asked::AskedNode;
use customhouse_client::{Client, tls::ClientTls};
use customhouse_files::{pem::PEM_BYTES_MAX, profile::Profile, readfile};
use customhouse_ledger::agency::AgencyCode;
use x509_parser::{pem::parse_x509_pem, x509::AttributeTypeAndValue};

use super::failure::WrongUsage;

/// Environment variable that names the profile where `--profile` does not.
const PROFILE_VARIABLE: &str = "CUSTOMHOUSE_PROFILE";
/// A node that does not take the connection by then is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How to reach a node.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct ConnectArgs {
    /// Client profile: a directory with client.toml, or the file [env: CUSTOMHOUSE_PROFILE].
    #[arg(long, global = true, value_name = "DIR", help_heading = "Global options")]
    profile: Option<PathBuf>,
    /// The node's endpoint, https://HOST:PORT, instead of the profile's.
    #[arg(long, global = true, value_name = "URL", help_heading = "Global options")]
    node: Option<String>,
}

/// A connection to a node.
pub(crate) struct Connection {
    pub(crate) client: Client,
    pub(crate) profile: Profile,
}

impl ConnectArgs {
    /// The profile, with the endpoint that was asked for; `None` where no profile was named.
    pub(crate) fn profile(&self) -> anyhow::Result<Option<Profile>> {
        // `CUSTOMHOUSE_PROFILE= customhouse …` means none.
        let variable = || std::env::var_os(PROFILE_VARIABLE).filter(|path| !path.is_empty());
        let variable = || variable().map(PathBuf::from);
        let Some(path) = self.profile.clone().or_else(variable) else {
            if self.node.is_some() {
                let reason =
                    "--node needs --profile too: the node wants to see a client certificate";
                bail!(WrongUsage(reason.to_owned()));
            }
            return Ok(None);
        };
        let mut profile = Profile::read(&path).context("no client profile")?;
        if let Some(node) = &self.node {
            profile.node.clone_from(node);
        }
        Ok(Some(profile))
    }

    /// Connects as the profile says.
    pub(crate) async fn connect(&self) -> anyhow::Result<Connection> {
        let Some(profile) = self.profile()? else {
            bail!(WrongUsage(format!(
                "which node? Name a client profile: --profile DIR, or {PROFILE_VARIABLE}. \
                 `network new` and `keys client` make one"
            )));
        };
        connect(profile).await
    }
}

/// A profile, by its directory or file.
pub(crate) fn profile_at(path: &Path) -> anyhow::Result<Profile> {
    Profile::read(path).with_context(|| format!("no client profile: {}", path.display()))
}

/// Connects as a profile says.
pub(crate) async fn connect(profile: Profile) -> anyhow::Result<Connection> {
    let tls = ClientTls::read(&profile.ca, &profile.cert, &profile.key)?;
    let connecting = Client::connect(&profile.node, &tls);
    let client = tokio::time::timeout(CONNECT_TIMEOUT, connecting)
        .await
        .with_context(|| format!("{}: no connection after {CONNECT_TIMEOUT:?}", profile.node))?
        .context("is the node running, and is this its agency's client certificate?")?;
    Ok(Connection { client, profile })
}

impl Connection {
    /// The node, to be asked by an audit.
    pub(crate) fn node(&self) -> AskedNode<'_> {
        AskedNode { client: &self.client, name: &self.profile.node }
    }

    /// The agency of the client certificate, which is also the node's.
    pub(crate) fn agency(&self) -> anyhow::Result<AgencyCode> {
        agency_of(&self.profile.cert)
    }
}

fn agency_of(certificate: &Path) -> anyhow::Result<AgencyCode> {
    let name = || format!("client certificate {}", certificate.display());
    let pem = readfile::bytes(certificate, PEM_BYTES_MAX).with_context(name)?;
    let (_, pem) = parse_x509_pem(&pem).with_context(name)?;
    let certificate = pem.parse_x509().with_context(name)?;
    let organization = certificate.subject().iter_organization().next();
    let text = organization.map(AttributeTypeAndValue::as_str).with_context(name)?;
    Ok(text.with_context(name)?.parse()?)
}
