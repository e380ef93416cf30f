#![no_main]

use customhouse_fuzz::targets;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    targets::sealed_history_proof(bytes);
});
