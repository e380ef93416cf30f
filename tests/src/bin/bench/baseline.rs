//! The most that the machine can do, whatever is built on it.

use std::{fs::File, io::Write as _, path::Path, time::Instant};

use customhouse_ledger::{
    keys::{PublicKey, Signature, SigningKey},
    record::field_tree::{self, FieldTreeError},
};
use customhouse_proto::v1;
use prost::Message as _;

use crate::report::{Report, Section};

/// Bytes written before each sync.
const WRITE_BYTES: usize = 4096;
/// Bytes of a signed message: about a transaction header's.
const MESSAGE_BYTES: usize = 160;

pub(crate) fn measure(dir: &Path, repetitions: usize, report: &mut Report) -> anyhow::Result<()> {
    let mut times = sync_times_ms(dir, repetitions)?;
    report.times(Section::Baseline, "append of 4 KiB and fdatasync", &mut times, None);
    let per_second = verifications_per_second(repetitions * 5);
    report.figure(Section::Baseline, "strict Ed25519 checks, one core", per_second, "/s");
    for (name, items) in [("of 30 fields", 1), ("of 999 items", 999)] {
        let (leaves, microseconds) = field_root(items, repetitions)?;
        let name = format!("field root of a declaration {name} ({leaves} leaves)");
        report.figure(Section::Baseline, &name, microseconds, "µs");
    }
    Ok(())
}

/// What a record's id costs, beyond reading the record: how many leaves it has, and the time of one.
fn field_root(items: usize, repetitions: usize) -> anyhow::Result<(usize, f64)> {
    let item = |number: u32| v1::GoodsItem {
        sequence: number,
        hs_code: "8471300000".into(),
        description: "Portable machines for processing data".into(),
        country_origin: "KR".into(),
        value: Some(v1::Money { amount: "4825.00".into(), currency: "EUR".into() }),
        net_mass_kg: "12.5".into(),
        gross_mass_kg: "13.1".into(),
        procedure: "4000".into(),
        packages: vec![v1::Package { type_code: "CT".into(), count: 4, marks: "AB 1".into() }],
        taxes: vec![v1::Tax {
            type_code: "A00".into(),
            rate: "2.5".into(),
            amount: Some(v1::Money { amount: "120.63".into(), currency: "EUR".into() }),
            ..Default::default()
        }],
        ..Default::default()
    };
    let declaration = v1::Declaration {
        regime: v1::declaration::Regime::Import as i32,
        reference: "LRN1".into(),
        mrn: "26NL00000000000001".into(),
        office: "NL000396".into(),
        items: (1..).map(item).take(items).collect(),
        ..Default::default()
    };
    let record = v1::Record {
        agency: "NL-DOUANE".into(),
        body: Some(v1::record::Body::Declaration(declaration)),
        ..Default::default()
    };
    let (bytes, salt) = (record.encode_to_vec(), [7; 32]);
    let mut leaves = 0;
    let counted: Result<(), FieldTreeError> = field_tree::walk(&bytes, &mut |_, _, _| {
        leaves += 1;
        Ok(())
    });
    counted?;
    let rounds = (repetitions * 100 / items).max(3);
    let begun = Instant::now();
    for _ in 0..rounds {
        std::hint::black_box(field_tree::record_id(std::hint::black_box(&bytes), &salt)?);
    }
    Ok((leaves, begun.elapsed().as_secs_f64() * 1e6 / rounds as f64))
}

fn sync_times_ms(dir: &Path, repetitions: usize) -> anyhow::Result<Vec<f64>> {
    let dir = tempfile::tempdir_in(dir)?;
    let mut file = File::create(dir.path().join("syncs"))?;
    let bytes = [7; WRITE_BYTES];
    let mut times = Vec::with_capacity(repetitions);
    for _ in 0..repetitions {
        let begun = Instant::now();
        file.write_all(&bytes)?;
        file.sync_data()?;
        times.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    Ok(times)
}

fn verifications_per_second(repetitions: usize) -> f64 {
    let key = SigningKey::from_seed(&[7; 32]);
    let messages: Vec<(Vec<u8>, Signature)> = (0..=u8::MAX)
        .map(|number| {
            let message = vec![number; MESSAGE_BYTES];
            let signature = key.sign(&message);
            (message, signature)
        })
        .collect();
    let public: PublicKey = key.public();
    let begun = Instant::now();
    let valid = messages
        .iter()
        .cycle()
        .take(repetitions)
        .filter(|(message, signature)| public.verify(message, signature).is_ok())
        .count();
    valid as f64 / begun.elapsed().as_secs_f64()
}
