//! What executing and committing costs a node, without network, consensus or signature checks of
//! transactions: `cargo run --release -p customhouse-ledger --features rocksdb --example
//! commit_throughput [records]`.

use std::{
    error::Error,
    fs,
    io::{Write as _, stdout},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

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
use customhouse_proto::v1;

/// Bytes of a record, about.
const RECORD_BYTES: usize = 500;
/// Blocks whose transactions are made before the clock runs.
const BLOCKS_A_ROUND: u64 = 10;

fn main() -> Result<(), Box<dyn Error>> {
    let records = std::env::args().nth(1).map_or(Ok(200_000), |text| text.parse())?;
    writeln!(stdout(), "records per transaction, transactions per block: µs per record")?;
    for (per_transaction, per_block) in [(100, 20), (1, 500), (1, 20)] {
        run(per_transaction, per_block, records)?;
    }
    Ok(())
}

#[derive(Default)]
struct Spent {
    prepare: Duration,
    store: Duration,
    validate: Duration,
    commit: Duration,
    processor: Duration,
}

fn run(per_transaction: u64, per_block: u64, records: u64) -> Result<(), Box<dyn Error>> {
    let genesis = Genesis::from_json(&genesis_json())?;
    let (leading, following) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let mut leader = Chain::open(leading.path(), &genesis, &StoreOptions::default())?;
    let mut follower = Chain::open(following.path(), &genesis, &StoreOptions::default())?;
    let mut spent = Spent::default();
    let mut made = 0;
    while made < records {
        let transactions: Vec<_> = (0..BLOCKS_A_ROUND * per_block)
            .map(|i| transaction(&genesis, made + i * per_transaction, per_transaction))
            .collect::<Result<_, _>>()?;
        let before = processor_time()?;
        for block in transactions.chunks(per_block as usize) {
            commit_block(&genesis, &mut leader, &mut follower, block, &mut spent)?;
        }
        spent.processor += processor_time()? - before;
        made += BLOCKS_A_ROUND * per_block * per_transaction;
    }
    let per_record = |time: Duration| time.as_secs_f64() * 1e6 / made as f64;
    writeln!(
        stdout(),
        "{per_transaction:>4} × {per_block:<4} prepare {:.1}, validate {:.1}, store {:.1}, \
         commit {:.1}; processor time of both nodes with compaction {:.1}",
        per_record(spent.prepare),
        per_record(spent.validate),
        per_record(spent.store) / 2.0,
        per_record(spent.commit) / 2.0,
        per_record(spent.processor),
    )?;
    let disk = directory_bytes(leading.path())? as f64 / made as f64;
    writeln!(stdout(), "            {disk:.0} bytes on disk a record, {:?}", leader.metrics())?;
    let tip = leader.tip();
    drop(leader);
    let start = Instant::now();
    let reopened = Chain::open(leading.path(), &genesis, &StoreOptions::default())?;
    assert_eq!(reopened.tip(), tip);
    writeln!(stdout(), "            reopened in {} ms", start.elapsed().as_millis())?;
    Ok(())
}

fn commit_block(
    genesis: &Genesis,
    leader: &mut Chain,
    follower: &mut Chain,
    transactions: &[Arc<VerifiedTransaction>],
    spent: &mut Spent,
) -> Result<(), Box<dyn Error>> {
    let tip = leader.tip();
    let context = BlockContext {
        view: 1,
        proposer: tip.leaders.leader(&tip.validators, tip.header.height + 1, 1),
        time_ms: tip.header.time_ms + 1,
        bytes_max: u64::MAX,
    };
    let start = Instant::now();
    let led = leader.prepare(&context, transactions.iter().cloned())?.staged;
    spent.prepare += start.elapsed();
    let start = Instant::now();
    leader.store_pending(led.block(), led.transactions())?;
    follower.store_pending(led.block(), led.transactions())?;
    spent.store += start.elapsed();
    let start = Instant::now();
    let followed = follower.validate(led.block(), led.transactions())??;
    spent.validate += start.elapsed();
    let certificate = finalization(genesis, &led.block().header)?;
    let start = Instant::now();
    leader.commit(led, certificate.clone())?;
    follower.commit(followed, certificate)?;
    spent.commit += start.elapsed();
    Ok(())
}

fn validator(agency: u8) -> SigningKey {
    SigningKey::from_seed(&[agency; 32])
}

fn signer() -> SigningKey {
    SigningKey::from_seed(&[101; 32])
}

fn genesis_json() -> String {
    let agency = |i: u8| {
        let signing_keys = if i == 1 {
            serde_json::json!([{ "public_key": signer().public(), "role": "node" }])
        } else {
            serde_json::json!([])
        };
        serde_json::json!({
            "agency": format!("A{i:03}"),
            "name": format!("Agency {i}"),
            "country": "NL",
            "validators": [validator(i).public()],
            "signing_keys": signing_keys,
        })
    };
    let agencies: Vec<_> = (1..=4).map(agency).collect();
    serde_json::json!({
        "network": "throughput",
        "time_ms": 1_700_000_000_000_u64,
        "history_bits": 20,
        "agencies": agencies,
    })
    .to_string()
}

/// Records of about [`RECORD_BYTES`] with two subjects each; the content does not compress.
fn transaction(
    genesis: &Genesis,
    first: u64,
    count: u64,
) -> Result<Arc<VerifiedTransaction>, Box<dyn Error>> {
    let agency = "A001".parse()?;
    let mut records = Vec::new();
    for number in first..first + count {
        let content: Vec<u8> = (0..RECORD_BYTES as u64 / 32)
            .flat_map(|part| dedupe_key(&agency, &number.to_string(), &part.to_string()).0)
            .collect();
        let declaration = v1::Declaration {
            regime: v1::declaration::Regime::Import as i32,
            reference: format!("LRN{number}"),
            mrn: format!("24NL{number:014}"),
            ..Default::default()
        };
        let record = v1::Record {
            salt: vec![7; 16],
            agency: "A001".into(),
            submitter: "broker".into(),
            source: Some(v1::Source { content, ..Default::default() }),
            body: Some(v1::record::Body::Declaration(declaration)),
            ..Default::default()
        };
        let key = dedupe_key(&agency, "broker", &number.to_string());
        records.push((ValidRecord::from_record(record)?, key));
    }
    let not_after_ms = genesis.time_ms + 3_600_000;
    let chain_id = genesis.chain_id();
    let signed = VerifiedTransaction::sign(&records, agency, not_after_ms, &chain_id, &signer())?;
    Ok(Arc::new(signed))
}

fn finalization(genesis: &Genesis, header: &Header) -> Result<Certificate, Box<dyn Error>> {
    let block_hash = header.hash();
    let ballot = Ballot { kind: VoteKind::Finalize, height: header.height, view: 1, block_hash };
    let votes: Vec<_> =
        (1..=3).map(|i| Vote::sign(ballot, &genesis.chain_id(), &validator(i))).collect();
    let certificate = Certificate::from_votes(ballot, &votes, &genesis.validators());
    certificate.ok_or_else(|| "no quorum".into())
}

/// User and system time of all threads of this process (Linux, 100 ticks a second).
fn processor_time() -> Result<Duration, Box<dyn Error>> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(Duration::from_millis(ticks * 10))
}

fn directory_bytes(path: &Path) -> Result<u64, Box<dyn Error>> {
    let lengths = fs::read_dir(path)?.map(|entry| Ok(entry?.metadata()?.len()));
    lengths.sum::<Result<u64, std::io::Error>>().map_err(Into::into)
}
