//! The tables of who may state what, and of what may refer to what.

use customhouse_ledger::{
    agency::AgencyCode,
    authority::{self, RecordKind, Role, Stated, StatedReference, Target, role},
    hash::Hash,
};
use customhouse_proto::v1::reference::Relation;
use serde_json::{Value, json};

const RELATIONS: [Relation; 5] = [
    Relation::Amends,
    Relation::Cancels,
    Relation::RespondsTo,
    Relation::Evidences,
    Relation::Corrects,
];

/// Every cell of both tables, and what becomes of references that break one rule each.
pub(crate) fn tables() -> Value {
    let of_kind = |kind: RecordKind| {
        let roles: Vec<_> = authority::roles(kind).iter().map(|role| role::name(*role)).collect();
        json!({ "kind": kind, "number": kind.number(), "roles": roles })
    };
    let of_relation = |relation: Relation| {
        RecordKind::ALL.map(|from| {
            json!({
                "relation": relation.as_str_name(),
                "from": from,
                "to": authority::targets(relation, from),
                "own": authority::is_of_own(relation),
            })
        })
    };
    json!({
        "roles": RecordKind::ALL.map(of_kind).to_vec(),
        "relations": RELATIONS.into_iter().flat_map(of_relation).collect::<Vec<_>>(),
        "references": references(),
    })
}

/// A record's kind, role and submitter; how it refers; to a record of which agency, kind and submitter.
type Case =
    (RecordKind, Role, &'static str, Relation, &'static str, Option<(RecordKind, &'static str)>);

/// What becomes of references of NL-DOUANE's records.
fn references() -> Vec<Value> {
    use RecordKind::{Declaration, DeclarationStatus, Event};
    use Role::{Broker, Office};
    let [own, other] = ["NL-DOUANE", "BE-DOUANE"];
    let cases = [
        (Declaration, Broker, "A", Relation::Amends, own, Some((Declaration, "A"))),
        (Declaration, Broker, "A", Relation::Amends, own, Some((Declaration, "B"))),
        (Declaration, Office, "A", Relation::Cancels, own, Some((Declaration, "B"))),
        (Declaration, Broker, "A", Relation::Amends, own, Some((Event, "A"))),
        (Declaration, Broker, "A", Relation::Amends, own, None),
        (Declaration, Broker, "A", Relation::Cancels, other, Some((Declaration, "A"))),
        (Declaration, Broker, "A", Relation::Corrects, other, None),
        (DeclarationStatus, Office, "A", Relation::RespondsTo, other, Some((Declaration, "B"))),
        (DeclarationStatus, Office, "A", Relation::RespondsTo, other, Some((Event, "B"))),
        (DeclarationStatus, Office, "A", Relation::RespondsTo, other, None),
        (Event, Broker, "A", Relation::Evidences, other, Some((Declaration, "B"))),
    ];
    let agency: AgencyCode = own.parse().expect("a code");
    let case = |(kind, role, submitter, relation, of, found): Case| {
        let target = found.map(|(kind, submitter)| Target { kind, submitter: submitter.into() });
        let reference = StatedReference {
            relation,
            record_id: Hash([1; 32]),
            agency: of.parse().expect("a code"),
        };
        let stated = Stated {
            kind,
            submitter: submitter.to_owned(),
            role,
            by_certificate: true,
            references: vec![reference],
            is_checked: false,
        };
        let checked = authority::check_target(&agency, &stated, &reference, target.as_ref());
        json!({
            "agency": agency,
            "kind": kind,
            "role": role::name(role),
            "submitter": submitter,
            "relation": relation.as_str_name(),
            "target_agency": of,
            "target": found.map(|(kind, submitter)| json!({ "kind": kind, "submitter": submitter })),
            "code": checked.err().map(|refused| refused.code()),
        })
    };
    cases.into_iter().map(case).collect()
}
