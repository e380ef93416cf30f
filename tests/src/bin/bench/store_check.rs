//! What checking a whole store takes (`customhouse store check`), with a signature that many records
//! share and with one a record. The store is made here: a chain without a network.

use std::{path::Path, sync::Arc, time::Instant};

use anyhow::{Context as _, ensure};
use customhouse_ledger::{
    certificate::Certificate,
    chain::{BlockContext, Chain},
    genesis::Genesis,
    header::Header,
    keys::SigningKey,
    record::{ValidRecord, dedupe_key},
    store::StoreOptions,
    transaction::VerifiedTransaction,
    vote::{Ballot, Vote, VoteKind},
};
use customhouse_node::store;
use customhouse_proto::v1;

use crate::{
    report::{Goal, Report, Section},
    usage::Usage,
};

/// Records a second that are to be reached on two cores, with 100 records a signature.
const GOAL: f64 = 100_000.0;
/// Records of a block.
const BLOCK_RECORDS: u64 = 2_000;
const AGENCY: &str = "A001";

/// Makes stores of `records` records with 100 a signature, and of a fifth of that with one.
pub(crate) fn measure(dir: &Path, records: u64, report: &mut Report) -> anyhow::Result<()> {
    for (a_signature, records, goal) in
        [(100, records, Some(Goal::AtLeast(GOAL))), (1, records / 5, None)]
    {
        let dir = tempfile::tempdir_in(dir)?;
        let genesis = genesis()?;
        grow(dir.path(), &genesis, a_signature, records)?;
        let (begun, before) = (Instant::now(), Usage::of(std::process::id())?.cpu_s);
        let options = StoreOptions::default();
        let checked = store::check(dir.path(), &genesis, &options, &[], &|_| ())?;
        let per_second = checked.records as f64 / begun.elapsed().as_secs_f64();
        let cpu_s = Usage::of(std::process::id())?.cpu_s - before;
        ensure!(checked.is_sound() && checked.records == records, "{:?}", checked.damage);
        let name = format!("records checked, {a_signature} a signature");
        match goal {
            Some(goal) => report.goal(Section::StoreCheck, name, per_second, "records/s", goal),
            None => report.figure(Section::StoreCheck, name, per_second, "records/s"),
        }
        let name = format!("processor time of 100,000, {a_signature} a signature");
        report.figure(Section::StoreCheck, name, cpu_s / records as f64 * 1e5, "s");
    }
    Ok(())
}

fn grow(dir: &Path, genesis: &Genesis, a_signature: u64, records: u64) -> anyhow::Result<()> {
    let mut chain = Chain::open(dir, genesis, &StoreOptions::default())?;
    for first in (0..records).step_by(BLOCK_RECORDS as usize) {
        let starts = (first..records.min(first + BLOCK_RECORDS)).step_by(a_signature as usize);
        let transactions: Vec<_> = starts
            .map(|first| transaction(genesis, first..records.min(first + a_signature)))
            .collect::<Result<_, _>>()?;
        let tip = chain.tip();
        let context = BlockContext {
            view: 1,
            proposer: tip.leaders.leader(&tip.validators, tip.header.height + 1, 1),
            time_ms: tip.header.time_ms + 1,
            bytes_max: u64::MAX,
        };
        let staged = chain.prepare(&context, transactions)?.staged;
        chain.store_pending(staged.block(), staged.transactions())?;
        let certificate = finalization(genesis, &staged.block().header)?;
        chain.commit(staged, certificate)?;
    }
    Ok(())
}

/// Declarations of about 500 bytes with two subjects each.
fn transaction(
    genesis: &Genesis,
    numbers: std::ops::Range<u64>,
) -> anyhow::Result<Arc<VerifiedTransaction>> {
    let agency = AGENCY.parse()?;
    let slot = |number: u64| {
        let declaration = v1::Declaration {
            regime: v1::declaration::Regime::Import as i32,
            reference: format!("LRN{number}"),
            mrn: format!("24NL{number:014}"),
            ..Default::default()
        };
        let part = |part: u64| dedupe_key(&agency, &number.to_string(), &part.to_string()).0;
        let source = v1::Source { content: (0..12).flat_map(part).collect(), ..Default::default() };
        let record = v1::Record {
            salt: vec![7; 16],
            agency: AGENCY.to_owned(),
            submitter: "broker".into(),
            source: Some(source),
            body: Some(v1::record::Body::Declaration(declaration)),
            ..Default::default()
        };
        let key = dedupe_key(&agency, "broker", &number.to_string());
        Ok((ValidRecord::from_record(record)?, key))
    };
    let slots = numbers.map(slot).collect::<anyhow::Result<Vec<_>>>()?;
    let (not_after_ms, chain_id) = (genesis.time_ms + 3_600_000, genesis.chain_id());
    let signed = VerifiedTransaction::sign(&slots, agency, not_after_ms, &chain_id, &key(101))?;
    Ok(Arc::new(signed))
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32])
}

fn genesis() -> anyhow::Result<Genesis> {
    let agency = |number: u8| {
        serde_json::json!({
            "agency": format!("A{number:03}"),
            "name": format!("Agency {number}"),
            "country": "NL",
            "validators": [key(number).public()],
            "signing_keys": [{ "public_key": key(100 + number).public(), "role": "node" }],
        })
    };
    let genesis = serde_json::json!({
        "network": "store-check",
        "time_ms": 1_700_000_000_000_u64,
        "history_bits": 20,
        "agencies": (1..=4).map(agency).collect::<Vec<_>>(),
    });
    Ok(Genesis::from_json(&genesis.to_string())?)
}

fn finalization(genesis: &Genesis, header: &Header) -> anyhow::Result<Certificate> {
    let block_hash = header.hash();
    let ballot = Ballot { kind: VoteKind::Finalize, height: header.height, view: 1, block_hash };
    let votes: Vec<_> =
        (1..=3).map(|seed| Vote::sign(ballot, &genesis.chain_id(), &key(seed))).collect();
    let certificate = Certificate::from_votes(ballot, &votes, &genesis.validators());
    certificate.context("three of four are a quorum")
}
