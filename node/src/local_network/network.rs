//! A network of several agencies on one machine.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use customhouse_files::{
    agency_file::{AgencyFile, RegisteredKey, genesis_of},
    folder::{FolderError, create_dir, io_error, write_public},
    keyfile::{KeyFile, KeyPurpose},
    profile::Profile,
    readfile,
};
use customhouse_ledger::{
    agency::AgencyCode, limits::GENESIS_JSON_BYTES_MAX, registry::genesis::Genesis,
};

use customhouse_vault::vault::Protection;

use super::{LocalNetworkError, agreements, create_agency_keys};
use crate::{config::NodeConfig, identity::Role, tls::Authority};

/// The clients that every agency of a local network gets: directory, name in the certificate, role.
const CLIENTS: [(&str, Role); 5] = [
    ("broker", Role::Broker),
    ("carrier", Role::Carrier),
    ("officer", Role::Officer),
    ("auditor", Role::Auditor),
    ("operator", Role::Operator),
];
/// Most agencies: a port range has room for them, a machine hardly.
const AGENCIES_MAX: usize = 64;

/// The ports of one node, all on 127.0.0.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// libp2p.
    pub peer: u16,
    /// gRPC.
    pub api: u16,
    /// Metrics and health.
    pub metrics: u16,
    /// The log as tiles.
    pub tlog: u16,
}

impl Ports {
    /// Ten ports apart for each agency, from a base port.
    ///
    /// # Errors
    /// Where they would pass 65,535, or the base is 0, which means any port.
    pub fn from_base(base: u16, agencies: usize) -> Result<Vec<Self>, LocalNetworkError> {
        let ports = |index: usize| {
            let offset = u16::try_from(index).ok()?.checked_mul(10)?;
            let peer = base.checked_add(offset)?;
            let port = |offset| peer.checked_add(offset);
            Some(Self { peer, api: port(1)?, metrics: port(2)?, tlog: port(3)? })
        };
        let all: Option<Vec<Self>> = (0..agencies).map(ports).collect();
        all.filter(|_| base != 0).ok_or_else(|| {
            LocalNetworkError::Plan(format!("no room for {agencies} nodes from port {base} on"))
        })
    }
}

/// What to lay out.
#[derive(Clone, Debug)]
pub struct NewNetwork {
    /// A directory that does not exist, or is empty.
    pub dir: PathBuf,
    /// Name of the network in the genesis.
    pub name: String,
    /// Each agency with its ports.
    pub agencies: Vec<(AgencyCode, Ports)>,
    /// 2^history_bits buckets.
    pub history_bits: u32,
    /// Parameters that are not to have their defaults.
    pub parameters: BTreeMap<String, u64>,
    /// Parties of agreements that are approved from the beginning, on all kinds of records.
    pub agreements: Vec<Vec<AgencyCode>>,
}

/// A network that is laid out.
#[derive(Clone, Debug)]
pub struct LocalNetwork {
    /// Its directory.
    pub dir: PathBuf,
    /// Its genesis.
    pub genesis: Genesis,
    /// Its agencies, sorted by code.
    pub agencies: Vec<LocalAgency>,
}

/// One agency of it.
#[derive(Clone, Debug)]
pub struct LocalAgency {
    /// Its directory.
    pub dir: PathBuf,
    /// Its node's configuration.
    pub config: NodeConfig,
}

impl LocalAgency {
    /// The directory of a client's profile.
    pub fn client(&self, name: &str) -> PathBuf {
        self.dir.join("clients").join(name)
    }

    /// The agency.
    pub fn code(&self) -> AgencyCode {
        self.config.agency
    }
}

impl LocalNetwork {
    /// Lays a network out.
    ///
    /// # Errors
    /// Where the directory is in use, the plan makes no network, or a file cannot be written.
    pub fn create(new: &NewNetwork) -> Result<Self, LocalNetworkError> {
        new.check()?;
        create_dir(&new.dir)?;
        let mut files = Vec::new();
        for (agency, ports) in &new.agencies {
            let others = new.agencies.iter().filter(|(other, _)| other != agency);
            let address = |ports: &Ports| format!("/ip4/127.0.0.1/tcp/{}", ports.peer);
            let others: Vec<_> = others.map(|(other, ports)| (*other, address(ports))).collect();
            files.push(lay_out_agency(&new.dir, *agency, *ports, &others)?);
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let time_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let genesis = genesis_of(&new.name, time_ms, new.history_bits, &files, &new.parameters)?;
        write_public(&new.dir.join("genesis.json"), &(genesis.to_json() + "\n"))?;
        let network = Self::open(&new.dir)?;
        for parties in &new.agreements {
            network.lay_out_agreement(parties)?;
        }
        Ok(network)
    }

    /// Reads a network that was laid out before.
    ///
    /// # Errors
    /// Where there is none, or one of its files is damaged.
    pub fn open(dir: &Path) -> Result<Self, LocalNetworkError> {
        let path = dir.join("genesis.json");
        let text = readfile::text(&path, GENESIS_JSON_BYTES_MAX).map_err(io_error(&path))?;
        let genesis = Genesis::from_json(&text)?;
        let mut agencies = Vec::new();
        for entry in fs::read_dir(dir).map_err(io_error(dir))? {
            let dir = entry.map_err(io_error(dir))?.path();
            let file = dir.join("node.toml");
            if file.is_file() {
                agencies.push(LocalAgency { config: NodeConfig::read(&file)?, dir });
            }
        }
        agencies.sort_by_key(LocalAgency::code);
        Ok(Self { dir: dir.to_owned(), genesis, agencies })
    }

    /// Lays out one more agency, which the genesis does not have: it joins by changes of the registry.
    /// Its node knows where the others are, and dials them; it stands at the end of the list.
    ///
    /// # Errors
    /// Where it is there already, or a file cannot be written.
    pub fn add(&mut self, agency: AgencyCode, ports: Ports) -> Result<(), LocalNetworkError> {
        if self.agencies.iter().any(|other| other.code() == agency) {
            return Err(LocalNetworkError::Plan(format!("agency {agency} is there already")));
        }
        let address = |other: &LocalAgency| {
            let address = other.config.network.listen.first().map(ToString::to_string);
            (other.code(), address.unwrap_or_default())
        };
        let others: Vec<_> = self.agencies.iter().map(address).collect();
        lay_out_agency(&self.dir, agency, ports, &others)?;
        let dir = self.dir.join(agency.as_str());
        let config = NodeConfig::read(&dir.join("node.toml"))?;
        self.agencies.push(LocalAgency { config, dir });
        Ok(())
    }
}

impl NewNetwork {
    fn check(&self) -> Result<(), LocalNetworkError> {
        if self.agencies.is_empty() || self.agencies.len() > AGENCIES_MAX {
            let found = self.agencies.len();
            return Err(LocalNetworkError::Plan(format!(
                "{found} agencies: 1 to {AGENCIES_MAX} expected"
            )));
        }
        for (index, (agency, _)) in self.agencies.iter().enumerate() {
            if self.agencies[..index].iter().any(|(other, _)| other == agency) {
                return Err(LocalNetworkError::Plan(format!("agency {agency} is listed twice")));
            }
        }
        let codes: Vec<_> = self.agencies.iter().map(|(agency, _)| *agency).collect();
        self.agreements.iter().try_for_each(|parties| agreements::check(parties, &codes))?;
        if fs::read_dir(&self.dir).is_ok_and(|mut entries| entries.next().is_some()) {
            return Err(FolderError::Exists(self.dir.clone()).into());
        }
        Ok(())
    }
}

/// Lays out an agency's directory; `others` are the other agencies and where their nodes listen.
fn lay_out_agency(
    network_dir: &Path,
    agency: AgencyCode,
    ports: Ports,
    others: &[(AgencyCode, String)],
) -> Result<AgencyFile, LocalNetworkError> {
    let dir = network_dir.join(agency.as_str());
    create_dir(&dir)?;
    let country = agency.as_str().get(..2).unwrap_or("ZZ");
    // All of it is for trying out: nobody is there to be asked for passphrases.
    let root_key = &Protection::Plain;
    let mut file = create_agency_keys(&dir, agency, agency.as_str(), country, root_key)?;
    let authority = Authority::new(agency)?;
    let tls = dir.join("tls");
    create_dir(&tls)?;
    authority.keyed().write(&tls.join("ca.crt"), &tls.join("ca.key"))?;
    authority.server(&[])?.write(&tls.join("server.crt"), &tls.join("server.key"))?;
    for (name, role) in CLIENTS {
        let submitter = lay_out_client(&dir, &authority, agency, ports, (name, role))?;
        file.signing_keys.extend(submitter);
    }
    write_public(&dir.join("node.toml"), &node_config(agency, ports, others))?;
    Ok(file)
}

/// The text of a node's configuration.
fn node_config(agency: AgencyCode, ports: Ports, others: &[(AgencyCode, String)]) -> String {
    let section = |(other, address): &(AgencyCode, String)| {
        format!("[[network.peers]]\nagency = \"{other}\"\naddresses = [\"{address}\"]\n\n")
    };
    let peers: String = others.iter().map(section).collect();
    let Ports { peer, api, metrics, tlog } = ports;
    format!(
        r#"# The node of {agency} on a network that runs on one machine.
# `customhouse node template` prints every field with its meaning.
data_dir = "data"
genesis = "../genesis.json"
agency = "{agency}"

[keys]
validator = "keys/validator.key"
peer = "keys/peer.key"
signing = "keys/signing.key"
checkpoint = "keys/checkpoint.key"

[network]
listen = ["/ip4/127.0.0.1/tcp/{peer}"]

{peers}[api]
listen = "127.0.0.1:{api}"

[api.tls]
ca = "tls/ca.crt"
cert = "tls/server.crt"
key = "tls/server.key"

[metrics]
listen = "127.0.0.1:{metrics}"

[tlog]
listen = "127.0.0.1:{tlog}"

[vault]
directory = "vault"
root_key = "plain"
single_copy = true

[log]
format = "text"
filter = "info"
"#
    )
}

/// Makes a client's certificate and profile; for who lodges also a key to sign with.
fn lay_out_client(
    agency_dir: &Path,
    authority: &Authority,
    agency: AgencyCode,
    ports: Ports,
    (name, role): (&str, Role),
) -> Result<Option<RegisteredKey>, LocalNetworkError> {
    let dir = agency_dir.join("clients").join(name);
    create_dir(&dir)?;
    authority.client(name, role)?.write(&dir.join("client.crt"), &dir.join("client.key"))?;
    let mut profile = Profile {
        node: format!("https://127.0.0.1:{}", ports.api),
        ca: "../../tls/ca.crt".into(),
        cert: "client.crt".into(),
        key: "client.key".into(),
        genesis: Some("../../../genesis.json".into()),
        submitter_key: None,
    };
    let mut registered = None;
    if let Some(speaks_as) = role.speaks_as() {
        let path = dir.join("submitter.key");
        let key = KeyFile::generate(KeyPurpose::Submitter, agency).map_err(io_error(&path))?;
        key.write(&path)?;
        profile.submitter_key = Some("submitter.key".into());
        registered = Some(RegisteredKey {
            public_key: key.key.public(),
            role: speaks_as,
            submitter: name.to_owned(),
            kinds: Vec::new(),
            label: String::new(),
        });
    }
    profile.write(&dir)?;
    Ok(registered)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::SignerJournal;

    fn plan(dir: &Path, codes: &[&str]) -> NewNetwork {
        let ports = Ports::from_base(7400, codes.len()).expect("room");
        let codes = codes.iter().map(|code| code.parse().expect("a code"));
        NewNetwork {
            dir: dir.to_owned(),
            name: "test".into(),
            agencies: codes.zip(ports).collect(),
            history_bits: 8,
            parameters: BTreeMap::from([("heartbeat_ms".to_owned(), 5000)]),
            agreements: Vec::new(),
        }
    }

    #[test]
    fn every_node_of_a_new_network_finds_its_keys_registered() {
        let dir = tempfile::tempdir().expect("a directory");
        let new = plan(&dir.path().join("net"), &["NL-DOUANE", "BE-AADA", "DE-ZOLL", "FR-DGDDI"]);
        let network = LocalNetwork::create(&new).expect("laid out");
        assert_eq!(network.agencies.len(), 4);
        assert_eq!(network.genesis.registry.parameters_at(1).expect("valid").heartbeat_ms, 5000);
        for agency in &network.agencies {
            let genesis = agency.config.read_genesis().expect("the genesis");
            assert_eq!(genesis.chain_id(), network.genesis.chain_id());
            let keys = agency.config.read_keys().expect("keys");
            assert!(agency.config.unregistered(&keys, &genesis).is_empty());
            let key = KeyFile::read(&agency.config.keys.validator).expect("a key").key.public();
            SignerJournal::open(&agency.config.journal_path(), &key).expect("a journal");
            assert_eq!(agency.config.network.peers.len(), 3);
            for (client, _) in CLIENTS {
                let profile = Profile::read(&agency.client(client)).expect("a profile");
                assert!(profile.ca.is_file() && profile.cert.is_file() && profile.key.is_file());
                assert!(profile.genesis.is_some_and(|path| path.is_file()));
            }
        }
    }

    #[test]
    fn a_key_that_the_genesis_does_not_register_is_named() {
        let dir = tempfile::tempdir().expect("a directory");
        let new = plan(&dir.path().join("net"), &["NL-DOUANE", "BE-AADA"]);
        let network = LocalNetwork::create(&new).expect("laid out");
        let mut config = network.agencies[0].config.clone();
        let path = dir.path().join("other.key");
        let key = KeyFile::generate(KeyPurpose::Peer, config.agency).expect("a key");
        key.write(&path).expect("written");
        config.keys.peer = path;
        let keys = config.read_keys().expect("keys");
        assert_eq!(config.unregistered(&keys, &network.genesis), ["keys.peer"]);
    }

    #[test]
    fn nothing_is_laid_out_over_something_else() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("file"), "").expect("writable");
        let error = LocalNetwork::create(&plan(dir.path(), &["NL-DOUANE"]));
        assert!(matches!(error, Err(LocalNetworkError::Folder(FolderError::Exists(_)))));
        let twice = LocalNetwork::create(&plan(&dir.path().join("net"), &["NL-A", "NL-A"]));
        assert!(twice.expect_err("refused").to_string().contains("listed twice"));
        assert!(Ports::from_base(65_500, 5).is_err() && Ports::from_base(0, 1).is_err());
    }
}
