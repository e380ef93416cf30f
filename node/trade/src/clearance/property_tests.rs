//! What holds for every sequence, however senseless.

use customhouse_ledger::hash::Hash;
use customhouse_proto::v1::{self, record::Body};
use proptest::prelude::*;

use super::{ClearanceAnomaly as A, *};

fn one_of(values: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::sample::select(values).prop_map(str::to_owned)
}

fn name() -> impl Strategy<Value = (String, String)> {
    (one_of(&["", "R1", "R1", "R1", "R2"]), one_of(&["", "M1", "M1", "M1", "M2"]))
}

fn body() -> impl Strategy<Value = Option<Body>> {
    let codes = (one_of(&["", "IMA", "COR", "INV", "GPR"]), one_of(&["", "9", "1", "13", "5"]));
    let declaration =
        (codes, name(), -1..6_i32).prop_map(|((type_code, function), name, regime)| {
            Some(Body::Declaration(v1::Declaration {
                regime,
                type_code,
                function_code: function,
                reference: name.0,
                mrn: name.1,
                ..v1::Declaration::default()
            }))
        });
    let function = prop_oneof![
        8 => (0..20_u8).prop_map(|code| format!("{code:02}")),
        1 => any::<String>(),
    ];
    let version = prop_oneof![
        8 => one_of(&["", "1", "1", "2", "3", "0", "4294967295", "4294967296"]),
        1 => any::<String>(),
    ];
    let status = (function, name(), version).prop_map(|(function_code, name, version)| {
        Some(Body::DeclarationStatus(v1::DeclarationStatus {
            function_code,
            declaration_reference: name.0,
            mrn: name.1,
            version,
            ..v1::DeclarationStatus::default()
        }))
    });
    prop_oneof![
        2 => declaration,
        8 => status,
        1 => Just(None),
        1 => Just(Some(Body::Inspection(v1::Inspection::default()))),
    ]
}

fn record() -> impl Strategy<Value = v1::Record> {
    let reference = (-1..7_i32, 0..6_u8, prop::sample::select(vec![0_usize, 31, 32, 32, 32]));
    let references = prop::collection::vec(reference, 0..2);
    (body(), one_of(&["", "AA", "AA", "BB"]), references).prop_map(|(body, agency, references)| {
        let references = references.into_iter().map(|(relation, id, length)| v1::Reference {
            relation,
            record_id: vec![id; length],
            ground: 0,
            agency: String::new(),
        });
        v1::Record { agency, references: references.collect(), body, ..v1::Record::default() }
    })
}

fn numbered(records: &[v1::Record]) -> impl Iterator<Item = Recorded<'_>> {
    let number = |index: usize| u8::try_from(index).expect("a short sequence");
    records
        .iter()
        .enumerate()
        .map(move |(index, record)| Recorded { id: Hash([number(index); 32]), record })
}

/// Anomalies of records that are not about this declaration as it is, or say nothing that is known.
const CHANGE_NOTHING: [A; 9] = [
    A::DeclarationUnnamed,
    A::ReferenceUsedAgain,
    A::OtherReference,
    A::OtherMrn,
    A::VersionPassed,
    A::VersionUnknown,
    A::CodeUnknown,
    A::RequestMissing,
    A::StatusAfterEnd,
];

proptest! {
    #[test]
    fn record_by_record_comes_to_the_same_as_all_at_once(
        records in prop::collection::vec(record(), 0..40),
        cut in 0..40_usize,
    ) {
        let (whole, shown) = fold(numbered(&records));
        // Stopped somewhere, and gone on with from the state alone.
        let cut = cut.min(records.len());
        let (mut state, mut seen) = fold(numbered(&records).take(cut));
        for next in numbered(&records).skip(cut) {
            let anomalies;
            (state, anomalies) = state.then(next);
            let of_next = |anomaly| AnomalousRecord { record: next.id, anomaly };
            seen.extend(anomalies.into_iter().map(of_next));
        }
        prop_assert_eq!((state, seen), (whole, shown));
    }

    #[test]
    fn what_changes_nothing_leaves_the_state_as_it_was(
        records in prop::collection::vec(record(), 0..40),
    ) {
        let mut state = Clearance::default();
        for next in numbered(&records) {
            let before = state.clone();
            let anomalies;
            (state, anomalies) = state.then(next);
            if anomalies.iter().any(|anomaly| CHANGE_NOTHING.contains(anomaly)) {
                prop_assert_eq!(&state, &before);
                prop_assert_eq!(anomalies.len(), 1);
            }
            // What another agency said before the declaration was there is passed over then.
            if before.declaration().is_none() && state.declaration().is_some() {
                continue;
            }
            let has_moved = state.state() != before.state();
            prop_assert_eq!(state.since() != before.since(), has_moved);
            prop_assert!(!has_moved || state.since() == Some(next.id));
            if before.state() == Some(ClearanceState::Cleared) && has_moved {
                let to = state.state();
                prop_assert!(
                    [Some(ClearanceState::Exited), Some(ClearanceState::Invalidated)].contains(&to)
                );
            }
        }
    }
}
