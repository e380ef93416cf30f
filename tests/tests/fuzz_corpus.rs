//! The fuzz targets of tests/fuzz without a fuzzer: each function runs over the published vectors of
//! its structure, over its corpus, and over mutations of both, made from a seed that is printed.
//! `CUSTOMHOUSE_FUZZ_SEED=N` sets the seed; `CUSTOMHOUSE_WRITE_SEEDS=FOLDER` writes what libFuzzer
//! should begin from to a folder a target.

use std::{
    env, fs,
    panic::catch_unwind,
    path::{Path, PathBuf},
};

#[allow(unreachable_pub, reason = "the file is also the library of the fuzz targets")]
#[path = "../fuzz/src/lib.rs"]
mod fuzz;
#[path = "fuzz_corpus/mutation.rs"]
mod mutation;

use fuzz::{
    seeds::{self, Seed},
    targets::{TARGETS, Target},
};
use mutation::Mutator;

/// Mutations for each target. All together take a few seconds.
const MUTATIONS: usize = 2000;
/// The largest seeds are all zeros, for limits: they are not mutated.
const MUTATED_BYTES_MAX: usize = 256 * 1024;
const SEED: u64 = 20_261_127;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let name = |entry: Result<fs::DirEntry, _>| entry.expect("an entry").file_name();
    let mut names: Vec<_> = entries.map(|e| name(e).to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The corpus of a target. A name begins with what must come of it, and ends in `.seed`; what a fuzzer
/// found and nobody has named yet is not part of it.
fn corpus(target: &str) -> Vec<Seed> {
    let folder = folder("fuzz/corpus").join(target);
    let names = if folder.exists() { names_in(&folder) } else { vec![] };
    let read = |name: &String| {
        let valid = name.starts_with("taken-");
        assert!(valid || name.starts_with("refused-"), "{target}/{name}: taken or refused?");
        let bytes = fs::read(folder.join(name)).expect("readable");
        Seed { name: name.clone(), valid: Some(valid), bytes }
    };
    names.iter().filter(|name| name.ends_with(".seed")).map(read).collect()
}

/// Runs a target, and shows the bytes where a promise is broken.
fn run(name: &str, target: Target, what: &str, bytes: &[u8]) -> bool {
    catch_unwind(|| target(bytes)).unwrap_or_else(|_| {
        let shown = hex::encode(&bytes[..bytes.len().min(8192)]);
        panic!("{name} breaks a promise on {what}, {} bytes: {shown}", bytes.len())
    })
}

#[test]
fn each_target_of_the_fuzzer_is_a_call_of_the_function_of_its_name() {
    let names: Vec<_> = TARGETS.iter().map(|(name, _)| *name).collect();
    let files = names.iter().map(|name| format!("{name}.rs")).collect::<Vec<_>>();
    assert_eq!(names_in(&folder("fuzz/fuzz_targets")), files);
    let manifest = fs::read_to_string(folder("fuzz/Cargo.toml")).expect("a manifest");
    assert_eq!(manifest.matches("[[bin]]").count(), names.len());
    for name in names {
        let path = folder("fuzz/fuzz_targets").join(format!("{name}.rs"));
        let text = fs::read_to_string(path).expect("readable");
        let call = format!("fuzz_target!(|bytes: &[u8]| {{\n    targets::{name}(bytes);\n}});\n");
        assert!(text.ends_with(&call), "{name}.rs does not end in {call}");
        let entry = format!("name = \"{name}\"\npath = \"fuzz_targets/{name}.rs\"\n");
        assert!(manifest.contains(&entry), "fuzz/Cargo.toml has no {entry}");
    }
}

#[test]
fn every_published_structure_and_every_corpus_has_a_target() {
    let files: Vec<_> = seeds::FILES.iter().map(|(name, _)| *name).collect();
    assert_eq!(names_in(&folder("../docs/vectors")), files);
    let is_target = |name: &String| TARGETS.iter().any(|(target, _)| target == name);
    let structures = seeds::structures();
    assert!(structures.len() > 20, "{structures:?}");
    for name in structures.iter().chain(&names_in(&folder("fuzz/corpus"))) {
        assert!(is_target(name), "{name} is no target");
    }
}

#[test]
fn every_target_has_seeds_that_it_takes_and_takes_no_case_otherwise_than_published() {
    for (name, target) in TARGETS {
        let seeds = seeds::of(name);
        assert!(!seeds.is_empty(), "{name} has no seeds");
        let mut taken = 0;
        for seed in &seeds {
            let takes = run(name, *target, &seed.name, &seed.bytes);
            // What is refused for its signatures or its place is still decoded.
            assert!(takes || seed.valid != Some(true), "{name} refuses {}", seed.name);
            taken += usize::from(takes);
        }
        assert!(taken > 0, "{name} takes none of its {} seeds", seeds.len());
        for seed in corpus(name) {
            let takes = run(name, *target, &seed.name, &seed.bytes);
            assert_eq!(Some(takes), seed.valid, "{name}/{}", seed.name);
        }
        write_seeds(name, &seeds);
    }
}

fn write_seeds(target: &str, seeds: &[Seed]) {
    let Some(folder) = env::var_os("CUSTOMHOUSE_WRITE_SEEDS") else { return };
    let folder = Path::new(&folder).join(target);
    fs::create_dir_all(&folder).expect("a folder");
    for (index, seed) in seeds.iter().enumerate().filter(|(_, s)| s.bytes.len() <= 1 << 20) {
        fs::write(folder.join(index.to_string()), &seed.bytes).expect("written");
    }
}

#[test]
fn no_mutation_of_a_seed_breaks_a_promise() {
    let seed =
        env::var("CUSTOMHOUSE_FUZZ_SEED").map_or(SEED, |text| text.parse().expect("a number"));
    eprintln!("CUSTOMHOUSE_FUZZ_SEED={seed}");
    let mut mutator = Mutator::new(seed);
    let small = |seed: &Seed| seed.bytes.len() <= MUTATED_BYTES_MAX;
    let of_target = |(name, _): &(&str, Target)| {
        let all = seeds::of(name).into_iter().chain(corpus(name)).filter(small);
        all.map(|seed| seed.bytes).collect::<Vec<_>>()
    };
    let pools: Vec<_> = TARGETS.iter().map(of_target).collect();
    for ((name, target), pool) in TARGETS.iter().zip(&pools) {
        let mut refused = 0;
        for number in 0..MUTATIONS {
            // Every tenth is spliced with another structure, or is random.
            let other = if number % 10 == 0 { mutator.pick(&pools) } else { pool };
            let bytes = mutator.mutated(pool, other);
            refused += usize::from(!run(name, *target, &format!("mutation {number}"), &bytes));
        }
        assert!(refused > 0, "{name} takes whatever it is given");
    }
}
