//! The most that the machine can do, whatever is built on it.

use std::{fs::File, io::Write as _, path::Path, time::Instant};

use customhouse_ledger::keys::{PublicKey, Signature, SigningKey};

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
    Ok(())
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
