//! `customhouse audit tlog-proof` and `verify-tlog-proof`: a receipt for the tools of transparency logs.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use customhouse_audit::{
    files::read_form,
    invalid_file::InvalidFile,
    seen::{Basis, Seen},
    validators,
    verdict::Verdict,
};
use customhouse_files::{newfile, readfile};
use customhouse_ledger::{
    canonical,
    hash::Hash,
    limits::TLOG_PROOF_BYTES_MAX,
    proofs::receipt::ReceiptError,
    tlog::{
        self,
        export::{self, TlogProofError, VerifiedTlogProof},
        note::VerifierKey,
        proof::EXTENSION,
    },
};
use customhouse_proto::v1;
use serde::Serialize;

use crate::{
    audit::receipts,
    connect::ConnectArgs,
    genesis,
    output::{Output, lossy_option, one_line},
};

#[derive(clap::Args)]
pub(crate) struct ExportArgs {
    /// The receipt, binary or JSON.
    #[arg(value_name = "RECEIPT")]
    receipt: PathBuf,
    #[command(flatten)]
    trust: TrustArgs,
    /// Where to write the proof; must not exist. The receipt's name with .tlog-proof where absent.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Also write the log's leaf, to a new file: what a tool computes the leaf hash of.
    #[arg(long, value_name = "FILE")]
    leaf: Option<PathBuf>,
}

#[derive(clap::Args)]
pub(crate) struct VerifyArgs {
    /// The proof.
    #[arg(value_name = "FILE")]
    proof: PathBuf,
    #[command(flatten)]
    trust: TrustArgs,
}

/// What the answer is to rest on.
#[derive(clap::Args)]
struct TrustArgs {
    /// The genesis of the network, as you had it from a source that you trust.
    #[arg(long, value_name = "FILE")]
    genesis: PathBuf,
    /// The changes of validators since the genesis, as `audit validator-chain` wrote them. A
    /// validator.chain beside the file is used without being named.
    #[arg(long, value_name = "FILE")]
    validator_chain: Option<PathBuf>,
    /// The verifier key of the node that signed the checkpoint, as its agency told it to you.
    #[arg(long, value_name = "KEY")]
    vkey: Option<VerifierKey>,
}

pub(super) const EXPORT_HELP: &str = "\
Asks the profile's node for its checkpoint and the path of the receipt's transaction to it, checks both
against a block that a quorum finalized, and writes them as a C2SP tlog-proof. A tool of transparency
logs verifies that with the node's verifier key (`customhouse keys show --genesis`) and the leaf; who has
the genesis needs no key: `audit verify-tlog-proof`.

Exit codes: 0 written; 1 the receipt or an answer of the node is invalid; 2 not enough evidence; 3 proof
of a fork; 64 wrong arguments.

Examples:
  customhouse --profile net/NL-DOUANE/clients/auditor audit tlog-proof receipts/a.receipt \\
    --genesis genesis.json --out a.tlog-proof --leaf a.leaf";

pub(super) const VERIFY_HELP: &str = "\
Checks the receipt in the proof, that a quorum finalized a block with the checkpoint's log, and the path.
No network is needed, and no key; with --vkey the checkpoint's signature is checked too.

Exit codes: 0 verified; 1 invalid; 2 not enough evidence; 3 proof of a fork; 64 wrong arguments.

Examples:
  customhouse audit verify-tlog-proof a.tlog-proof --genesis genesis.json";

/// What is trusted, read.
struct Trust {
    seen: Seen,
    origin: String,
}

impl TrustArgs {
    /// The validator chain that was named, and the one beside the file.
    fn read(&self, file: &Path) -> anyhow::Result<Trust> {
        let genesis = genesis::read(&self.genesis)?;
        let mut verifier = customhouse_ledger::proofs::verifier::Verifier::new(&genesis);
        let beside = file.with_file_name(validators::FILE_NAME);
        let beside = Some(beside).filter(|file| file.is_file());
        for chain in self.validator_chain.iter().chain(&beside) {
            validators::follow_file(&mut verifier, chain)?;
        }
        let origin = tlog::origin(&genesis.network, &genesis.chain_id());
        Ok(Trust { seen: Seen::new(verifier), origin })
    }
}

pub(super) async fn export(
    args: &ExportArgs,
    output: Output,
    connect: &ConnectArgs,
) -> anyhow::Result<Verdict> {
    let out = args.out.clone().unwrap_or_else(|| args.receipt.with_extension(EXTENSION));
    for file in std::iter::once(&out).chain(&args.leaf) {
        newfile::is_free(file).with_context(|| file.display().to_string())?;
    }
    let mut trust = args.trust.read(&args.receipt)?;
    let bytes = read_form::<v1::Receipt>(&args.receipt, receipts::TOO_LARGE)?;
    let connection = connect.connect().await?;
    validators::follow_node(&mut trust.seen.verifier, connection.node()).await?;
    if let Err(error) = trust.seen.verifier.verify_receipt(&bytes) {
        let mut audit = TlogAudit::new(&trust.seen);
        audit.refuse(&error.into());
        return audit.told(output);
    }
    let receipt: v1::Receipt = canonical::decode(&bytes)?;
    let (checkpoint, told) = connection.client.checkpoint(receipt.log_index).await?;
    // Again, so that no change comes between the two.
    validators::follow_node(&mut trust.seen.verifier, connection.node()).await?;
    let text = export::tlog_proof(&receipt, checkpoint).text();
    let key = args.trust.vkey.as_ref().unwrap_or(&told);
    let (mut audit, verified) = examine(&text, &mut trust, Some(key));
    if let Some(verified) = verified.filter(|_| audit.verdict == Verdict::Verified) {
        write(&out, text.as_bytes())?;
        audit.written = Some(out);
        if let Some(file) = &args.leaf {
            write(file, &verified.leaf)?;
        }
    }
    audit.verifier_key_unchecked = audit.verifier_key.is_some() && args.trust.vkey.is_none();
    audit.told(output)
}

pub(super) fn verify(args: &VerifyArgs, output: Output) -> anyhow::Result<Verdict> {
    let mut trust = args.trust.read(&args.proof)?;
    let name = || args.proof.display().to_string();
    let text = readfile::text(&args.proof, TLOG_PROOF_BYTES_MAX)
        .map_err(|error| InvalidFile::or_unread(error, "TLOG_PROOF_MALFORMED"))
        .with_context(name)?;
    let (audit, _) = examine(&text, &mut trust, args.trust.vkey.as_ref());
    audit.told(output)
}

fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    newfile::output(path, bytes).with_context(|| path.display().to_string())
}

/// Checks a proof, and that its two certified blocks are of one chain.
fn examine(
    text: &str,
    trust: &mut Trust,
    key: Option<&VerifierKey>,
) -> (TlogAudit, Option<VerifiedTlogProof>) {
    let verified = export::verify(text, &trust.seen.verifier, &trust.origin, key);
    let mut audit = TlogAudit::new(&trust.seen);
    let verified = match verified {
        Ok(verified) => verified,
        Err(error) => {
            audit.refuse(&error);
            return (audit, None);
        }
    };
    let receipt = &verified.receipt;
    let blocks = [
        (&receipt.header, receipt.finalized_by.len()),
        (&verified.header, verified.finalized_by.len()),
    ];
    for (header, finalized_by) in blocks {
        if let Err(fork) = trust.seen.note(header, finalized_by) {
            (audit.verdict, audit.code) = (Verdict::Fork, "FORK");
            audit.reason = fork.to_string();
        }
    }
    audit.rests_on = trust.seen.basis();
    audit.verifier_key = key.map(ToString::to_string);
    audit.proves = Some(Proven {
        record_id: receipt.slot.record_id,
        agency: receipt.signer.agency.to_string(),
        log_index: receipt.log_index,
        log_size: verified.header.log_size,
        height: verified.header.height,
    });
    (audit, Some(verified))
}

#[derive(Serialize)]
struct TlogAudit {
    verdict: Verdict,
    /// Stable code of the refusal.
    #[serde(skip_serializing_if = "str::is_empty")]
    code: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    proves: Option<Proven>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "lossy_option")]
    written: Option<PathBuf>,
    /// The key under which the checkpoint's signature was checked, and is right.
    #[serde(skip_serializing_if = "Option::is_none")]
    verifier_key: Option<String>,
    /// Whether only the node said that it is its key.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    verifier_key_unchecked: bool,
    rests_on: Basis,
}

/// What a proof proves.
#[derive(Serialize)]
struct Proven {
    record_id: Hash,
    agency: String,
    log_index: u64,
    /// Log size of the checkpoint.
    log_size: u64,
    /// Height of the block that certifies the checkpoint.
    height: u64,
}

impl TlogAudit {
    fn new(seen: &Seen) -> Self {
        Self {
            verdict: Verdict::Verified,
            code: "",
            reason: String::new(),
            proves: None,
            written: None,
            verifier_key: None,
            verifier_key_unchecked: false,
            rests_on: seen.basis(),
        }
    }

    fn refuse(&mut self, error: &TlogProofError) {
        self.verdict = match error {
            TlogProofError::Receipt(ReceiptError::Finality(error))
            | TlogProofError::Finality(error) => Verdict::of_finality(error),
            _ => Verdict::Invalid,
        };
        (self.code, self.reason) = (error.code(), error.to_string());
    }

    fn told(&self, output: Output) -> anyhow::Result<Verdict> {
        output.print(self)?;
        Ok(self.verdict)
    }
}

impl fmt::Display for TlogAudit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Proven { record_id, agency, log_index, log_size, height }) = &self.proves {
            writeln!(
                f,
                "record {record_id} of {agency}, log index {log_index}: in the checkpoint of {log_size} \
                 transactions, certified at height {height}"
            )?;
        }
        write!(f, "{}", self.verdict)?;
        if !self.code.is_empty() {
            write!(f, ": {}: {}", self.code, one_line(&self.reason))?;
        }
        if let Some(file) = &self.written {
            write!(f, ": written to {}", file.display())?;
        }
        match &self.verifier_key {
            Some(key) => write!(f, "\ncheckpoint signed by {}", one_line(key))?,
            // Refused; nothing is said of a signature then.
            None if self.proves.is_none() => {}
            None => write!(f, "\nthe checkpoint's signature was not looked at (--vkey)")?,
        }
        if self.verifier_key_unchecked {
            write!(f, ", by the node's own word: compare the key with its agency's")?;
        }
        write!(f, "\nrests on {}", self.rests_on)
    }
}
