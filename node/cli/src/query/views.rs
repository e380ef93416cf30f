//! Blocks, transactions and nodes, as they are shown.

use std::{fmt, path::PathBuf, time::Duration};

use anyhow::Context as _;
use customhouse_audit::time;
use customhouse_ledger::{finality::header::Header, hash::Hash, transaction::TransactionHeader};
use customhouse_proto::v1;
use prost::Message as _;
use serde::Serialize;

use crate::output::{lossy, one_line};

#[derive(Serialize)]
pub(super) struct TransactionView {
    transaction_id: Hash,
    agency: String,
    signer: String,
    height: u64,
    time_ms: u64,
    log_index: u64,
    not_after_ms: u64,
    record_ids: Vec<String>,
}

impl TransactionView {
    pub(super) fn of(answer: &v1::GetTransactionResponse) -> anyhow::Result<Self> {
        let transaction = answer.transaction.as_ref().context("an answer without a transaction")?;
        let header = TransactionHeader::decode(&transaction.header)?;
        let ids = transaction.slots.iter().map(|slot| {
            let slot = v1::Slot::decode(&slot[..])?;
            anyhow::Ok(hex::encode(slot.record_id))
        });
        Ok(Self {
            transaction_id: header.id(),
            agency: header.agency.to_string(),
            signer: header.signer.to_string(),
            height: answer.height,
            time_ms: answer.time_ms,
            log_index: answer.log_index,
            not_after_ms: header.not_after_ms,
            record_ids: ids.collect::<anyhow::Result<_>>()?,
        })
    }
}

impl fmt::Display for TransactionView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "transaction {}", self.transaction_id)?;
        writeln!(f, "signed by   {} ({})", self.signer, self.agency)?;
        let committed = time::shown(self.time_ms);
        writeln!(f, "committed   {committed}, height {}", self.height)?;
        write!(f, "log index   {}", self.log_index)?;
        for id in &self.record_ids {
            write!(f, "\nrecord      {id}")?;
        }
        Ok(())
    }
}

#[derive(Serialize)]
pub(super) struct HeaderView {
    height: u64,
    block_hash: Hash,
    parent_hash: Hash,
    time_ms: u64,
    view: u64,
    proposer: String,
    log_size: u64,
    log_root: Hash,
    history_root: Hash,
    registry_root: Hash,
    finalized_by: Option<usize>,
}

impl HeaderView {
    pub(super) fn of(header: &Header, finalized_by: Option<usize>) -> Self {
        Self {
            height: header.height,
            block_hash: header.hash(),
            parent_hash: header.parent_hash,
            time_ms: header.time_ms,
            view: header.view,
            proposer: hex::encode(header.proposer),
            log_size: header.log_size,
            log_root: header.log_root,
            history_root: header.history_root,
            registry_root: header.registry_root,
            finalized_by,
        }
    }
}

impl fmt::Display for HeaderView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "height         {} (view {})", self.height, self.view)?;
        writeln!(f, "block hash     {}", self.block_hash)?;
        writeln!(f, "parent         {}", self.parent_hash)?;
        writeln!(f, "time           {}", time::shown(self.time_ms))?;
        writeln!(f, "proposer       {}", self.proposer)?;
        writeln!(f, "log            {} transactions, root {}", self.log_size, self.log_root)?;
        writeln!(f, "history root   {}", self.history_root)?;
        write!(f, "registry root  {}", self.registry_root)?;
        match self.finalized_by {
            Some(count) => write!(f, "\nfinalized by   {count} validators (as the node says)"),
            None => Ok(()),
        }
    }
}

/// A node's status. Two nodes at one height have the same roots.
#[derive(Clone, Serialize)]
pub(crate) struct StatusView {
    pub(crate) agency: String,
    network: String,
    chain_id: Hash,
    version: String,
    pub(crate) height: u64,
    pub(crate) block_hash: Hash,
    time_ms: u64,
    pub(crate) log_size: u64,
    pub(crate) log_root: Hash,
    history_root: Hash,
    registry_root: Hash,
    view: u64,
    validators: u32,
    quorum: u32,
    pub(crate) peers_connected: u32,
    mempool_transactions: u64,
    mempool_bytes: u64,
    pub(crate) catching_up: bool,
    pub(crate) signing: bool,
    signing_reason: String,
    clock_ahead_ms: Option<i64>,
    pub(crate) clock_wrong: bool,
    pub(crate) stalled: Vec<String>,
    uptime_ms: u64,
    vault: Option<VaultView>,
}

/// The keys of sealed records.
#[derive(Clone, Serialize)]
struct VaultView {
    id: String,
    generation: u64,
    single_copy: bool,
    /// Whether the node makes backups of it.
    backups: bool,
    backup_age_ms: Option<u64>,
    backup_failures: u64,
}

impl VaultView {
    fn of(vault: v1::VaultStatus) -> Self {
        let v1::VaultStatus { id, generation, single_copy, .. } = vault;
        let v1::VaultStatus { backups, backup_age_ms, backup_failures, .. } = vault;
        Self { id, generation, single_copy, backups, backup_age_ms, backup_failures }
    }
}

impl fmt::Display for VaultView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "generation {}", self.generation)?;
        if self.single_copy {
            write!(f, ", SINGLE COPY")?;
        }
        match self.backup_age_ms {
            _ if !self.backups => write!(f, ", no backups")?,
            Some(age) => {
                let age = time::length(Duration::from_millis(age));
                write!(f, ", newest backup {age} old")?;
            }
            None => write!(f, ", NO BACKUP yet")?,
        }
        match self.backup_failures {
            0 => Ok(()),
            count => write!(f, ", {count} FAILED"),
        }
    }
}

impl StatusView {
    pub(crate) fn of(status: v1::GetStatusResponse) -> anyhow::Result<Self> {
        let hash = |bytes: &[u8]| Hash::from_slice(bytes).context("a hash of the node's status");
        Ok(Self {
            chain_id: hash(&status.chain_id)?,
            block_hash: hash(&status.block_hash)?,
            log_root: hash(&status.log_root)?,
            history_root: hash(&status.history_root)?,
            registry_root: hash(&status.registry_root)?,
            agency: status.agency,
            network: status.network,
            version: status.version,
            height: status.height,
            time_ms: status.time_ms,
            log_size: status.log_size,
            view: status.view,
            validators: status.validators,
            quorum: status.quorum,
            peers_connected: status.peers_connected,
            mempool_transactions: status.mempool_transactions,
            mempool_bytes: status.mempool_bytes,
            catching_up: status.catching_up,
            signing: status.signing,
            signing_reason: status.signing_reason,
            clock_ahead_ms: status.clock_ahead_ms,
            clock_wrong: status.clock_wrong,
            stalled: status.stalled,
            uptime_ms: status.uptime_ms,
            vault: status.vault.map(VaultView::of),
        })
    }
}

impl StatusView {
    /// Where the clock stands, in words; nothing where it is near the others'.
    pub(crate) fn clock(&self) -> Option<String> {
        let ahead_ms = self.clock_ahead_ms.filter(|_| self.clock_wrong)?;
        let (ms, side) = (ahead_ms.unsigned_abs(), if ahead_ms < 0 { "BEHIND" } else { "AHEAD" });
        Some(format!("CLOCK {} s {side} of the others'", ms / 1000))
    }

    /// Where too few are there to decide anything, in words, as far as the node's connections tell.
    pub(crate) fn no_quorum(&self) -> Option<String> {
        let (there, quorum) = (self.peers_connected.saturating_add(1), self.quorum);
        (there < quorum).then(|| {
            format!("NO QUORUM in sight: {there} connected with this one, {quorum} decide")
        })
    }
}

impl fmt::Display for StatusView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [agency, network, version] =
            [&self.agency, &self.network, &self.version].map(|value| one_line(value));
        writeln!(f, "agency         {agency} on {network} ({version})")?;
        writeln!(f, "chain id       {}", self.chain_id)?;
        let age = time::age(self.time_ms);
        writeln!(f, "head           height {}, {age}", self.height)?;
        writeln!(f, "block hash     {}", self.block_hash)?;
        writeln!(f, "log            {} transactions, root {}", self.log_size, self.log_root)?;
        writeln!(f, "history root   {}", self.history_root)?;
        writeln!(f, "registry root  {}", self.registry_root)?;
        let StatusView { validators, quorum, peers_connected, .. } = self;
        writeln!(
            f,
            "validators     {validators}, {quorum} decide; {peers_connected} peers connected"
        )?;
        writeln!(
            f,
            "mempool        {} transactions, {} bytes",
            self.mempool_transactions, self.mempool_bytes
        )?;
        let doing = if self.catching_up { "catching up" } else { "up to date" };
        if let Some(clock) = self.clock() {
            writeln!(f, "clock          {clock}: proposes nothing, takes no submissions")?;
        }
        if let Some(no_quorum) = self.no_quorum() {
            writeln!(f, "quorum         {no_quorum}")?;
        }
        if !self.stalled.is_empty() {
            writeln!(f, "stalled        {}", one_line(&self.stalled.join(", ")))?;
        }
        match &self.vault {
            Some(vault) => writeln!(f, "vault          {vault}")?,
            None => writeln!(f, "vault          none: no sealed records")?,
        }
        match self.signing {
            true => write!(f, "consensus      {doing}, view {}, signing", self.view),
            false => {
                let reason = one_line(&self.signing_reason);
                write!(f, "consensus      {doing}, NOT SIGNING: {reason}")
            }
        }
    }
}

#[derive(Serialize)]
pub(super) struct PeerView {
    agency: String,
    peer_id: String,
    connected: bool,
    address: String,
}

impl PeerView {
    pub(super) fn of(peer: v1::Peer) -> Self {
        let v1::Peer { agency, peer_id, connected, address } = peer;
        Self { agency, peer_id, connected, address }
    }
}

#[derive(Serialize)]
pub(super) struct Peers(pub(super) Vec<PeerView>);

impl fmt::Display for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, peer) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            let state = if peer.connected { "connected" } else { "absent" };
            let [agency, peer_id, address] =
                [&peer.agency, &peer.peer_id, &peer.address].map(|value| one_line(value));
            write!(f, "{agency:<16} {state:<10} {peer_id}  {address}")?;
        }
        Ok(())
    }
}

#[derive(Serialize)]
pub(super) struct Written {
    #[serde(serialize_with = "lossy")]
    pub(super) written: PathBuf,
    pub(super) bytes: usize,
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "written {} ({} bytes)", self.written.display(), self.bytes)
    }
}
