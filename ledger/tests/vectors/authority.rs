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
        let target =
            found.map(|(kind, submitter)| Target { kind: Some(kind), submitter: submitter.into() });
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

/// Compares the tables of docs/FORMATS.md with the code, cell by cell.
pub(crate) fn check_documented(section: &str) {
    let mut tables = section.split("\n\n").filter(|part| part.starts_with('|'));
    let [roles, relations] = [(); 2].map(|()| cells(tables.next().expect("two tables")));
    let (names, rows) = roles.split_first().expect("a head");
    let mut stated = Vec::new();
    for row in rows {
        for kind in kinds(row[0]) {
            let may = names.iter().zip(row).skip(1).filter(|(_, cell)| **cell == "yes");
            let may: Vec<_> = may.filter_map(|(name, _)| role::named(name)).collect();
            assert_eq!(may, authority::roles(kind), "{kind}");
            stated.push(kind);
        }
    }
    assert_eq!(stated.len(), RecordKind::ALL.len());
    let mut documented = Vec::new();
    for row in &relations[1..] {
        for (relation, from) in relations_of(row[0])
            .into_iter()
            .flat_map(|relation| kinds(row[1]).into_iter().map(move |from| (relation, from)))
        {
            let to = if row[2] == "the same kind" { vec![from] } else { kinds(row[2]) };
            assert_eq!(to, authority::targets(relation, from), "{relation:?} from {from}");
            assert_eq!(row[3] == "own", authority::is_of_own(relation), "{relation:?}");
            documented.push((relation, from));
        }
    }
    for relation in RELATIONS {
        for from in RecordKind::ALL {
            let leads = !authority::targets(relation, from).is_empty();
            assert_eq!(documented.contains(&(relation, from)), leads, "{relation:?} from {from}");
        }
    }
}

/// The rows of a table, without the line below its head.
fn cells(table: &str) -> Vec<Vec<&str>> {
    let rows = table.lines().filter(|row| !row.starts_with("|---"));
    rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

fn kinds(cell: &str) -> Vec<RecordKind> {
    let network = authority::ALWAYS_OPEN;
    if cell == "any kind of trade" {
        return RecordKind::ALL.into_iter().filter(|kind| !network.contains(kind)).collect();
    }
    let named = |name: &str| RecordKind::named(&name.replace(' ', "_")).expect("a kind");
    cell.split(", ").map(named).collect()
}

/// Relations by their numbers.
fn relations_of(cell: &str) -> Vec<Relation> {
    let relation = |part: &str| {
        let number = part.split(' ').next().and_then(|number| number.parse::<i32>().ok());
        Relation::try_from(number.expect("a number")).expect("known")
    };
    cell.split(", ").map(relation).collect()
}
