//! `customhouse registry propose`.

use std::{
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, bail, ensure};
use customhouse_files::agency_file::{AgencyFile, read_agency_file};
use customhouse_ledger::{
    agency::AgencyCode,
    authority::{RecordKind, role},
    hash::Hash,
    keys::PublicKey,
    registry::{self, EncryptionPublicKey, RegistryError, RegistryProposal},
};
use customhouse_node::absence;
use customhouse_proto::v1::{
    AgencyEntry, DedupeCheckEntry, EncryptionKeyEntry, PeerEntry, RegistryEntry, Role,
    SigningKeyEntry, ValidatorEntry, registry_entry::Entry,
};

use super::{
    Connection, Output, Present,
    files::ProposalFile,
    parse_key,
    values::ValueArgs,
    view::{self, Proposed},
};

pub(super) const HELP: &str = "\
Several options may be given at once: they are one change, all of it or nothing. Keys are public
keys, 64 hexadecimal digits, as `keys show` prints them. A key that was ever registered is never
registered again.

Examples:
  customhouse --profile ops registry propose --join se/agency.json --out join.proposal
  customhouse --profile ops registry propose --vote se/agency.json --out vote.proposal
  customhouse --profile ops registry propose --rotate NL-DOUANE=ab12… --out rotate.proposal
  customhouse --profile ops registry propose --add NL-DOUANE:peer=cd34… --end ef56… \\
    --reason 'new machine' --out move.proposal
  customhouse --profile ops registry propose --add NL-DOUANE:encryption=ab34… --out key.proposal
  customhouse --profile ops registry propose --set heartbeat_ms=60000 --out heartbeat.proposal
  customhouse --profile ops registry propose --set open_kinds=declaration,event --out open.proposal
  customhouse --profile ops registry propose --reset open_kinds --out reset.proposal

Parameters: block_bytes_max, block_transactions_max, transaction_bytes_max, transaction_slots_max,
record_bytes_max, heartbeat_ms, time_skew_ms_max, transaction_lifetime_ms_max (numbers; docs/FORMATS.md
has the ranges), and open_kinds: `all`, or the kinds of records that may be lodged open, with commas
between them. A change of the registry and a report of misbehaviour are always open. A value counts from
the height after the change's block on. What waits for a block then and is too large or of a kind that was
closed ends as rejected, with a code that says so.

An encryption key is exchanged in two changes: the new one is added, everybody seals to the newest, and the
old one ends when nothing sealed to it is under way any more.";

#[derive(clap::Args)]
pub(crate) struct ProposeArgs {
    /// Register an agency with its peer and signing keys; it does not vote yet.
    #[arg(long, value_name = "AGENCY.json")]
    join: Vec<PathBuf>,
    /// Give an agency that is registered its vote.
    #[arg(long, value_name = "AGENCY.json")]
    vote: Option<PathBuf>,
    /// Exchange an agency's validator key.
    #[arg(long, value_name = "CODE=KEY", value_parser = parse_rotation)]
    rotate: Option<(AgencyCode, PublicKey)>,
    /// Take an agency's vote from it; it follows on.
    #[arg(long, value_name = "CODE")]
    end_vote: Option<AgencyCode>,
    /// End an agency with all its keys.
    #[arg(long, value_name = "CODE")]
    leave: Vec<AgencyCode>,
    /// Register a key of an agency: CODE:peer, CODE:node (signs for clients), CODE:encryption (an X25519 key that
    /// what travels sealed to the agency is encrypted to), or CODE:ROLE:NAME for a submitter
    /// that signs its own (ROLE is office, broker, carrier, trader or port), and CODE:ROLE:NAME:KIND,KIND for
    /// one that may sign these kinds only.
    #[arg(long, value_name = "CODE:PURPOSE=KEY", value_parser = parse_addition)]
    add: Vec<Addition>,
    /// End a key.
    #[arg(long, value_name = "KEY", value_parser = parse_any_key)]
    end: Vec<Hash>,
    #[command(flatten)]
    values: ValueArgs,
    /// Why, for those who approve; at most 256 bytes.
    #[arg(long, default_value = "")]
    reason: String,
    /// For how many hours the proposal may be put on the chain.
    #[arg(long, value_name = "HOURS", default_value_t = 72)]
    valid_hours: u32,
    /// An agency whose node is away; a validator that is there may lose its vote in spite of that.
    #[arg(long, value_name = "CODE")]
    although_absent: Vec<AgencyCode>,
    /// The file to write.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// A key to register.
#[derive(Clone)]
struct Addition {
    agency: AgencyCode,
    key: Key,
}

#[derive(Clone)]
enum Key {
    Peer(PublicKey),
    Signing { key: PublicKey, bound: Bound },
    Encryption(EncryptionPublicKey),
}

/// What a signing key is bound to.
#[derive(Clone)]
struct Bound {
    role: Role,
    submitter: String,
    kinds: Vec<RecordKind>,
}

pub(super) async fn run(
    args: &ProposeArgs,
    output: Output,
    node: &Connection,
) -> anyhow::Result<()> {
    let present = Present::read(node).await?;
    let mut ended = Vec::new();
    for entry in present.registry.entries() {
        if registry::is_open_at(entry, present.height + 1) && args.ends(entry) {
            ended.push(entry.clone());
        }
    }
    args.check_ends(&ended)?;
    args.values.check(&present.registry, present.height + 1)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
    let not_after = now + Duration::from_secs(3600 * u64::from(args.valid_hours));
    let proposal = RegistryProposal::new(
        &present.registry.members_root(),
        u64::try_from(not_after.as_millis())?,
        args.added()?,
        ended,
        &args.reason,
    )?;
    let file = ProposalFile { chain_id: present.chain_id, proposal };
    let after = present.after(&file).map_err(joins_first)?;
    let validators = after.validators_at(present.height + 2)?;
    let absent = present.absent(node).await?;
    let objection =
        absence::objection(&present.validators, &validators, &absent, &args.although_absent);
    if let Some(objection) = objection {
        bail!(objection);
    }
    file.write(&args.out)?;
    output.print(&Proposed::of(&file.proposal, &present, &after))?;
    note!("Written to {}.", args.out.display());
    Ok(())
}

impl ProposeArgs {
    fn added(&self) -> anyhow::Result<Vec<RegistryEntry>> {
        let mut added = Vec::new();
        for path in &self.join {
            added.extend(joining(&read_agency_file(path)?));
        }
        if let Some(path) = &self.vote {
            let file = read_agency_file(path)?;
            let [key] = file.validators[..] else {
                bail!("{}: one validator key expected", path.display());
            };
            added.push(validator(file.agency, key));
        }
        if let Some((agency, key)) = self.rotate {
            added.push(validator(agency, key));
        }
        added.extend(self.add.iter().map(Addition::entry));
        added.extend(self.values.added());
        Ok(added)
    }

    /// Whether an open entry ends.
    fn ends(&self, entry: &RegistryEntry) -> bool {
        let key = view::key_of(entry);
        let agency = view::agency_of(entry);
        let agency = agency.and_then(|code| code.parse::<AgencyCode>().ok());
        let votes = matches!(entry.entry, Some(Entry::Validator(_)));
        let rotated = self.rotate.map(|(agency, _)| agency);
        key.is_some_and(|key| self.end.iter().any(|ended| ended.as_bytes() == key))
            || agency.is_some_and(|agency| self.leave.contains(&agency))
            || (votes && agency.is_some() && (agency == rotated || agency == self.end_vote))
            || self.values.ends(entry)
    }

    /// Everything that was to end was found.
    fn check_ends(&self, ended: &[RegistryEntry]) -> anyhow::Result<()> {
        for key in &self.end {
            let found = ended.iter().any(|entry| view::key_of(entry) == Some(&key.as_bytes()[..]));
            ensure!(found, "{key} is no key that is registered now");
        }
        let votes = |agency: &AgencyCode| {
            ended.iter().any(|entry| match &entry.entry {
                Some(Entry::Validator(validator)) => validator.agency == agency.as_str(),
                _ => false,
            })
        };
        let rotated = self.rotate.map(|(agency, _)| agency);
        for agency in rotated.iter().chain(&self.end_vote) {
            ensure!(votes(agency), "{agency} has no vote now");
        }
        for agency in &self.leave {
            let found = ended.iter().any(|entry| view::agency_of(entry) == Some(agency.as_str()));
            ensure!(found, "{agency} is not in the registry now");
        }
        Ok(())
    }
}

/// What an agency needs to connect, follow and submit.
fn joining(file: &AgencyFile) -> Vec<RegistryEntry> {
    let agency = file.agency;
    let named = AgencyEntry {
        agency: agency.to_string(),
        name: file.name.clone(),
        country: file.country.clone(),
    };
    let mut entries = vec![open(Entry::Agency(named))];
    entries.extend(file.peers.iter().map(|key| peer(agency, *key)));
    entries.extend(file.signing_keys.iter().map(|key| {
        open(Entry::SigningKey(SigningKeyEntry {
            agency: agency.to_string(),
            public_key: key.public_key.as_bytes().to_vec(),
            role: key.role as i32,
            label: key.label.clone(),
            submitter: key.submitter.clone(),
            kinds: RecordKind::bits(&key.kinds),
        }))
    }));
    entries.extend(file.encryption_keys.iter().map(|key| encryption_key(agency, *key)));
    entries.extend(file.dedupe_check.map(|check| {
        let (agency, check) = (agency.to_string(), check.as_bytes().to_vec());
        open(Entry::DedupeCheck(DedupeCheckEntry { agency, check }))
    }));
    entries
}

fn open(entry: Entry) -> RegistryEntry {
    RegistryEntry { from_height: 0, end_height: 0, entry: Some(entry) }
}

fn validator(agency: AgencyCode, key: PublicKey) -> RegistryEntry {
    let public_key = key.as_bytes().to_vec();
    open(Entry::Validator(ValidatorEntry { agency: agency.to_string(), public_key }))
}

fn peer(agency: AgencyCode, key: PublicKey) -> RegistryEntry {
    let public_key = key.as_bytes().to_vec();
    open(Entry::Peer(PeerEntry { agency: agency.to_string(), public_key }))
}

fn encryption_key(agency: AgencyCode, key: EncryptionPublicKey) -> RegistryEntry {
    let (agency, public_key) = (agency.to_string(), key.as_bytes().to_vec());
    open(Entry::EncryptionKey(EncryptionKeyEntry { agency, public_key }))
}

impl Addition {
    fn entry(&self) -> RegistryEntry {
        match &self.key {
            Key::Peer(key) => peer(self.agency, *key),
            Key::Encryption(key) => encryption_key(self.agency, *key),
            Key::Signing { key, bound: Bound { role, submitter, kinds } } => {
                open(Entry::SigningKey(SigningKeyEntry {
                    agency: self.agency.to_string(),
                    public_key: key.as_bytes().to_vec(),
                    role: *role as i32,
                    label: String::new(),
                    submitter: submitter.clone(),
                    kinds: RecordKind::bits(kinds),
                }))
            }
        }
    }
}

/// Says what to do where an agency is not there yet.
fn joins_first(error: anyhow::Error) -> anyhow::Error {
    let unknown = error.chain().find_map(|cause| match cause.downcast_ref() {
        Some(RegistryError::UnknownAgency(agency)) => Some(*agency),
        _ => None,
    });
    match unknown {
        Some(agency) => error.context(format!("{agency} joins first, with --join")),
        None => error,
    }
}

fn parse_rotation(text: &str) -> Result<(AgencyCode, PublicKey), String> {
    let (agency, key) = text.split_once('=').ok_or("CODE=KEY expected")?;
    Ok((parse_code(agency)?, parse_key(key)?))
}

fn parse_addition(text: &str) -> Result<Addition, String> {
    let parts = text.split_once('=').and_then(|(of, key)| Some((of.split_once(':')?, key)));
    let ((agency, purpose), key) = parts.ok_or("CODE:PURPOSE=KEY expected")?;
    let agency = parse_code(agency)?;
    let key = match purpose {
        "peer" => Key::Peer(parse_key(key)?),
        "encryption" => {
            let parsed = key.parse().map_err(|error| format!("`{key}`: {error}"))?;
            Key::Encryption(parsed)
        }
        bound => {
            let bound = parse_bound(bound)?;
            Key::Signing { key: parse_key(key)?, bound }
        }
    };
    Ok(Addition { agency, key })
}

fn parse_bound(text: &str) -> Result<Bound, String> {
    let mut parts = text.splitn(3, ':');
    let (word, name) = (parts.next().unwrap_or_default(), parts.next());
    let kinds = parts.next().map(parse_kinds).transpose()?.unwrap_or_default();
    let signing = |role, name: &str| Bound { role, submitter: name.to_owned(), kinds };
    match (word, name, role::named(word)) {
        // As `keys new` calls it.
        ("node" | "signing", None, _) => Ok(signing(Role::Node, "")),
        (_, Some(name), Some(role)) if role != Role::Node => Ok(signing(role, name)),
        _ => Err(format!(
            "`{text}`: peer, node, encryption, or ROLE:NAME expected, as in broker:acme (roles: office, \
             broker, carrier, trader, port)"
        )),
    }
}

fn parse_kinds(text: &str) -> Result<Vec<RecordKind>, String> {
    let kind = |name| {
        RecordKind::named(name)
            .ok_or_else(|| format!("`{name}` is not a kind of record, as in declaration"))
    };
    text.split(',').map(kind).collect()
}

/// Of whichever kind: it is looked for among those that are registered.
fn parse_any_key(text: &str) -> Result<Hash, String> {
    text.parse().map_err(|_| format!("`{text}` is no key of 64 hexadecimal digits"))
}

pub(super) fn parse_code(text: &str) -> Result<AgencyCode, String> {
    text.parse().map_err(|_| format!("`{text}` is not an agency code"))
}

#[cfg(test)]
mod tests {
    use customhouse_ledger::keys::SigningKey;

    use super::*;

    #[test]
    fn keys_are_named_with_agency_and_purpose() {
        let key = SigningKey::from_seed(&[5; 32]).public();
        let (agency, rotated) = parse_rotation(&format!("NL-DOUANE={key}")).expect("well-formed");
        assert_eq!((agency.as_str(), rotated), ("NL-DOUANE", key));
        for (purpose, role, submitter, kinds) in [
            ("node", Role::Node, "", 0),
            ("broker:acme", Role::Broker, "acme", 0),
            ("office:lab 2:inspection,certificate", Role::Office, "lab 2", 1 << 21 | 1 << 20),
        ] {
            let addition = parse_addition(&format!("NL-DOUANE:{purpose}={key}"));
            let Some(Entry::SigningKey(signing)) = addition.expect("well-formed").entry().entry
            else {
                panic!("not a signing key");
            };
            assert_eq!((signing.role(), &signing.public_key[..]), (role, &key.as_bytes()[..]));
            assert_eq!((&*signing.submitter, signing.kinds), (submitter, kinds));
        }
        let peer = parse_addition(&format!("NL-DOUANE:peer={key}")).expect("well-formed").entry();
        assert_eq!(view::agency_of(&peer), Some("NL-DOUANE"));
        assert_eq!(view::key_of(&peer), Some(&key.as_bytes()[..]));
        let text = "09".repeat(32);
        let sealed = parse_addition(&format!("NL-DOUANE:encryption={text}")).expect("well-formed");
        assert_eq!(view::agency_of(&sealed.entry()), Some("NL-DOUANE"));
        assert_eq!(view::key_of(&sealed.entry()), Some(&[9; 32][..]));
        assert_eq!(parse_any_key(&text), Ok(Hash([9; 32])));
        for (wrong, says) in [
            (format!("NL-DOUANE:validator={key}"), "encryption, or ROLE:NAME"),
            (format!("NL-DOUANE:broker={key}"), "encryption, or ROLE:NAME"),
            (format!("NL-DOUANE:node:acme={key}"), "encryption, or ROLE:NAME"),
            (format!("NL-DOUANE:encryption={}", "00".repeat(32)), "low order"),
            (format!("NL-DOUANE:broker:acme:toys={key}"), "`toys` is not a kind"),
            (format!("NL-DOUANE={key}"), "CODE:PURPOSE=KEY"),
            (format!("x:peer={key}"), "not an agency code"),
            ("NL-DOUANE:peer=ab".to_owned(), "`ab`"),
        ] {
            let error = parse_addition(&wrong).err().expect("refused");
            assert!(error.contains(says), "{wrong}: {error}");
        }
    }
}
