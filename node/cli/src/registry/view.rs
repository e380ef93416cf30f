//! How the registry and a change of it are shown.

use std::fmt;

use customhouse_audit::time;
use customhouse_ledger::{
    authority::{RecordKind, role},
    finality::validators::{Validator, ValidatorSet},
    hash::Hash,
    registry::{self, Registry, RegistryProposal, parameters},
};
use customhouse_proto::v1::{
    ParameterEntry, RegistryEntry, SigningKeyEntry, registry_entry::Entry,
};
use serde::Serialize;

use super::{
    Present,
    values::{self, ParameterView},
};
use crate::output::one_line;

/// The registry after a block.
#[derive(Serialize)]
pub(super) struct RegistryView {
    chain_id: Hash,
    height: u64,
    members_root: Hash,
    registry_root: Hash,
    validators: usize,
    faulty_max: usize,
    quorum: usize,
    /// Those in force at the next height.
    parameters: Vec<ParameterView>,
    entries: Vec<EntryView>,
}

/// An entry, whichever it is.
#[derive(Serialize)]
struct EntryView {
    #[serde(skip_serializing_if = "String::is_empty")]
    agency: String,
    kind: &'static str,
    /// A key in hexadecimal; an agency's name; a parameter's name and value.
    value: String,
    from_height: u64,
    /// 0: open.
    end_height: u64,
}

/// What a proposal would change.
#[derive(Serialize)]
pub(super) struct Proposed {
    proposal: Hash,
    members_root: Hash,
    not_after_ms: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    added: Vec<EntryView>,
    ended: Vec<EntryView>,
    /// How many of the present validators must approve.
    approvals_needed: usize,
    validators_before: usize,
    validators_after: usize,
    quorum_after: usize,
    faulty_max_after: usize,
    /// What an approver should make sure of first.
    warnings: Vec<String>,
}

impl RegistryView {
    pub(super) fn of(present: &Present, all: bool) -> Self {
        let next_height = present.height + 1;
        let shown = |entry: &&RegistryEntry| all || registry::is_open_at(entry, next_height);
        let mut entries: Vec<EntryView> =
            present.registry.entries().filter(shown).map(EntryView::of).collect();
        // Each agency with all that is its own, in the registry's order.
        entries.sort_by(|a, b| a.agency.cmp(&b.agency));
        Self {
            chain_id: present.chain_id,
            height: present.height,
            members_root: present.registry.members_root(),
            registry_root: present.registry_root,
            validators: present.validators.count(),
            faulty_max: present.validators.faulty_max(),
            quorum: present.validators.quorum(),
            parameters: ParameterView::all(&present.registry, next_height),
            entries,
        }
    }
}

impl Proposed {
    pub(super) fn of(proposal: &RegistryProposal, present: &Present, after: &Registry) -> Self {
        let proto = proposal.to_proto();
        // Applied, so it has validators.
        let validators = after.validators_at(present.height + 2);
        let counts = |set: &ValidatorSet| (set.count(), set.quorum(), set.faulty_max());
        let (validators_after, quorum_after, faulty_max_after) =
            validators.as_ref().map(counts).unwrap_or_default();
        Self {
            proposal: proposal.hash(),
            members_root: proposal.members_root(),
            not_after_ms: proposal.not_after_ms(),
            reason: proto.reason.clone(),
            added: proto.added.iter().map(EntryView::of).collect(),
            ended: proto.ended.iter().map(EntryView::of).collect(),
            approvals_needed: present.validators.quorum(),
            validators_before: present.validators.count(),
            validators_after,
            quorum_after,
            faulty_max_after,
            warnings: warnings(proposal, present, after, faulty_max_after),
        }
    }
}

/// How a change of who votes can stop a network, which then cannot take it back; and what a change of the parameters
/// ends.
fn warnings(
    proposal: &RegistryProposal,
    present: &Present,
    after: &Registry,
    faulty_max_after: usize,
) -> Vec<String> {
    let votes = |entry: &RegistryEntry| matches!(entry.entry, Some(Entry::Validator(_)));
    let proto = proposal.to_proto();
    let mut warnings = Vec::new();
    if faulty_max_after == 0 && proto.added.iter().chain(&proto.ended).any(votes) {
        warnings
            .push("afterwards no validator may be away: make sure that all of them run".to_owned());
    }
    if let Some(Validator { agency, .. }) = proposal.validator_added() {
        let exchanges = present.validators.as_slice().iter().any(|v| v.agency == agency);
        let named = if exchanges { "next_validator" } else { "validator" };
        warnings.push(format!(
            "from the next height on the vote of {agency} is the new key's: make sure that its node \
             runs with that key as `{named}`"
        ));
    }
    let height = present.height;
    let parameters = present
        .registry
        .parameters_at(height + 1)
        .and_then(|before| Ok((before, after.parameters_at(height + 2)?)));
    if let Ok((before, after)) = parameters {
        warnings.extend(values::warnings(&before, &after));
    }
    warnings
}

impl EntryView {
    fn of(entry: &RegistryEntry) -> Self {
        let (kind, value) = match &entry.entry {
            Some(Entry::Agency(agency)) => {
                ("agency", format!("{} ({})", agency.name, agency.country))
            }
            Some(Entry::Validator(validator)) => ("validator", hex::encode(&validator.public_key)),
            Some(Entry::Peer(peer)) => ("peer", hex::encode(&peer.public_key)),
            Some(Entry::SigningKey(signing)) => (role::name(signing.role()), signing_key(signing)),
            Some(Entry::Parameter(parameter)) => {
                let ParameterEntry { name, value } = parameter;
                ("parameter", format!("{name} = {}", parameters::text_of_value(name, *value)))
            }
            Some(Entry::EncryptionKey(own)) => ("encryption", hex::encode(&own.public_key)),
            Some(Entry::DedupeCheck(own)) => ("dedupe", hex::encode(&own.check)),
            None => ("nothing", String::new()),
        };
        let (from_height, end_height) = (entry.from_height, entry.end_height);
        let agency = agency_of(entry).unwrap_or_default().to_owned();
        Self { agency, kind, value, from_height, end_height }
    }
}

/// The key, whom it is bound to, and what it may sign where that is not all that its role may state.
fn signing_key(entry: &SigningKeyEntry) -> String {
    let mut shown = hex::encode(&entry.public_key);
    if !entry.submitter.is_empty() {
        shown.push_str(&format!(" ({})", entry.submitter));
    }
    if entry.kinds != 0 {
        let kinds: Vec<_> =
            RecordKind::of_bits(entry.kinds).iter().map(|kind| kind.as_str()).collect();
        shown.push_str(&format!(" for {}", kinds.join(", ")));
    }
    shown
}

/// The agency that an entry is about.
pub(super) fn agency_of(entry: &RegistryEntry) -> Option<&str> {
    match entry.entry.as_ref()? {
        Entry::Agency(agency) => Some(&agency.agency),
        Entry::Validator(validator) => Some(&validator.agency),
        Entry::Peer(peer) => Some(&peer.agency),
        Entry::SigningKey(signing) => Some(&signing.agency),
        Entry::EncryptionKey(own) => Some(&own.agency),
        Entry::DedupeCheck(own) => Some(&own.agency),
        Entry::Parameter(_) => None,
    }
}

/// The key that an entry registers.
pub(super) fn key_of(entry: &RegistryEntry) -> Option<&[u8]> {
    match entry.entry.as_ref()? {
        Entry::Validator(validator) => Some(&validator.public_key),
        Entry::Peer(peer) => Some(&peer.public_key),
        Entry::SigningKey(signing) => Some(&signing.public_key),
        Entry::EncryptionKey(own) => Some(&own.public_key),
        Entry::Agency(_) | Entry::Parameter(_) | Entry::DedupeCheck(_) => None,
    }
}

impl fmt::Display for EntryView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { agency, kind, value, from_height, end_height } = self;
        write!(f, "{:<16} {kind:<10} {}", one_line(agency), one_line(value))?;
        match (from_height, end_height) {
            (0, 0) => Ok(()),
            (from, 0) => write!(f, "  from {from}"),
            (from, end) => write!(f, "  from {from}, ended at {end}"),
        }
    }
}

impl fmt::Display for RegistryView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "chain id       {}", self.chain_id)?;
        writeln!(f, "after height   {}", self.height)?;
        writeln!(f, "members root   {}", self.members_root)?;
        writeln!(f, "registry root  {}", self.registry_root)?;
        write!(
            f,
            "validators     {} (up to {} faulty; {} decide)",
            self.validators, self.faulty_max, self.quorum
        )?;
        write!(f, "\nparameters")?;
        self.parameters.iter().try_for_each(|parameter| write!(f, "\n  {parameter}"))?;
        write!(f, "\nentries")?;
        // What parameters have now is above.
        let own = |entry: &&EntryView| entry.kind != "parameter" || entry.end_height != 0;
        self.entries.iter().filter(own).try_for_each(|entry| write!(f, "\n  {entry}"))
    }
}

impl fmt::Display for Proposed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "proposal       {}", self.proposal)?;
        writeln!(f, "members root   {} (the present one)", self.members_root)?;
        writeln!(f, "may be used    until {}", time::shown(self.not_after_ms))?;
        if !self.reason.is_empty() {
            writeln!(f, "reason         {}", one_line(&self.reason))?;
        }
        for (what, entries) in [("adds", &self.added), ("ends", &self.ended)] {
            for entry in entries {
                writeln!(f, "{what}  {entry}")?;
            }
        }
        write!(
            f,
            "needs {} approvals of {} validators; afterwards {} vote, {} decide, up to {} may fail",
            self.approvals_needed,
            self.validators_before,
            self.validators_after,
            self.quorum_after,
            self.faulty_max_after
        )?;
        self.warnings.iter().try_for_each(|warning| write!(f, "\nwarning        {warning}"))
    }
}
