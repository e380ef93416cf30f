//! What became of a block's slots: leaves, roots and paths.

use customhouse_ledger::{
    authority::SlotRefused,
    merkle,
    transaction::{SlotOutcome, outcome},
};
use serde_json::{Value, json};

use super::{hashes, hex_of};

/// A block of four transactions: all slots count, one is a repeat of the block before, each reason for a
/// refusal, and one that counts alone.
fn block() -> [Vec<SlotOutcome>; 4] {
    let repeat = SlotOutcome::Duplicate { log_index: 4, position: 2 };
    let refused = SlotRefused::ALL.map(|(reason, _)| SlotOutcome::Refused(reason));
    let applied = SlotOutcome::Applied;
    [
        vec![applied; 3],
        vec![applied, repeat, applied],
        [&refused[..], &[applied]].concat(),
        vec![applied],
    ]
}

pub(crate) fn outcomes() -> Value {
    let block = block();
    let roots: Vec<_> = block.iter().map(|slots| outcome::slot_root(slots)).collect();
    let tree = outcome::block_tree(&roots);
    let transactions = (0..).zip(&block).map(|(place, slots)| {
        let of_slots = outcome::slot_tree(slots);
        let path =
            |position: usize| hashes(&of_slots.inclusion_path(position as u64).expect("one"));
        json!({
            "leaves": slots.iter().map(|slot| hex_of(slot.encode())).collect::<Vec<_>>(),
            "meaning": slots.iter().map(meaning).collect::<Vec<_>>(),
            "root": of_slots.root(),
            "outcome_paths": (0..slots.len()).map(path).collect::<Vec<_>>(),
            "outcomes_path": hashes(&tree.inclusion_path(place).expect("one")),
        })
    });
    json!({
        "log_start": 7,
        "transactions": transactions.collect::<Vec<_>>(),
        "outcomes_root": tree.root(),
        "outcomes_root_of_no_transactions": merkle::empty_root(),
    })
}

fn meaning(outcome: &SlotOutcome) -> Value {
    match outcome {
        SlotOutcome::Applied => json!("counts"),
        SlotOutcome::Duplicate { log_index, position } => {
            json!({ "repeat_of": { "log_index": log_index, "position": position } })
        }
        SlotOutcome::Refused(reason) => json!({ "refused": reason.code() }),
    }
}
