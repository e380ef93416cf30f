//! Every cell of the two tables, one by one: who changes a rule changes it here too.

use super::*;

/// For lawyers: the same tables, in their words.
const RULES: &str = include_str!("../../../docs/RULES.md");

const KINDS_OF_OPERATORS: [RecordKind; 4] = [Declaration, TransportDocument, Event, Certificate];
const CUSTOMS_ACTS: [RecordKind; 7] = [
    DeclarationStatus,
    Inspection,
    EnforcementAction,
    RiskAlert,
    AssistanceRequest,
    AssistanceResponse,
    TraderStatus,
];
const OPERATORS: [Role; 4] = [Role::Broker, Role::Carrier, Role::Trader, Role::Port];
const RELATIONS: [Relation; 5] = [
    Relation::Amends,
    Relation::Cancels,
    Relation::RespondsTo,
    Relation::Evidences,
    Relation::Corrects,
];

fn may_state(role: Role, kind: RecordKind) -> bool {
    match kind {
        _ if KINDS_OF_OPERATORS.contains(&kind) => role != Role::Node,
        _ if CUSTOMS_ACTS.contains(&kind) => role == Role::Office,
        _ => role == Role::Node,
    }
}

#[test]
fn every_kind_in_every_role() {
    let mut cells = 0;
    for (role, name) in role::ROLES {
        for kind in RecordKind::ALL {
            let stated = check_kind(role, kind);
            assert_eq!(stated.is_ok(), may_state(role, kind), "{role:?} {kind}");
            if let Err(refused) = stated {
                let said = refused.to_string();
                assert!(said.contains(name) && said.contains(kind.as_str()), "{said}");
            }
            cells += 1;
        }
    }
    assert_eq!(cells, 6 * 14);
    for kind in RecordKind::ALL {
        assert!(check_kind(Role::Unspecified, kind).is_err(), "{kind}");
    }
}

/// The pairs of kinds that a relation joins, as they are written down in the module's documentation.
fn joins(relation: Relation, from: RecordKind, to: RecordKind) -> bool {
    let of_trade = |kind| !matches!(kind, RegistryChange | Misbehaviour | AgreementChange);
    if !of_trade(from) || !of_trade(to) {
        return false;
    }
    match relation {
        Relation::Amends | Relation::Cancels | Relation::Corrects => from == to,
        Relation::Evidences => KINDS_OF_OPERATORS.contains(&from) || from == Inspection,
        Relation::RespondsTo => [
            (DeclarationStatus, Declaration),
            (Declaration, DeclarationStatus),
            (Inspection, Declaration),
            (Inspection, RiskAlert),
            (EnforcementAction, Declaration),
            (EnforcementAction, Inspection),
            (EnforcementAction, RiskAlert),
            (EnforcementAction, EnforcementAction),
            (RiskAlert, RiskAlert),
            (AssistanceResponse, AssistanceRequest),
        ]
        .contains(&(from, to)),
        Relation::Unspecified => false,
    }
}

fn stated(kind: RecordKind, role: Role, submitter: &str) -> Stated {
    Stated {
        kind,
        submitter: submitter.into(),
        role,
        by_certificate: true,
        references: Vec::new(),
        is_checked: false,
    }
}

/// Kind × role × relation × kind × whose: each cell.
#[test]
fn every_relation_between_every_two_kinds_of_everybody() {
    let (own, other): (AgencyCode, AgencyCode) =
        ("NL-DOUANE".parse().expect("a code"), "BE-DOUANE".parse().expect("a code"));
    let mut cells = 0;
    for relation in RELATIONS {
        for from in RecordKind::ALL {
            let leads = RecordKind::ALL.into_iter().any(|to| joins(relation, from, to));
            assert_eq!(check_relation(relation, from).is_ok(), leads, "{relation:?} {from}");
            for to in RecordKind::ALL {
                for (role, _) in role::ROLES {
                    for (agency, submitter) in [(own, "a"), (own, "b"), (other, "a")] {
                        let record_id = crate::hash::Hash([7; 32]);
                        let reference = StatedReference { relation, record_id, agency };
                        let target = Target { kind: Some(to), submitter: submitter.into() };
                        let found =
                            check_target(&own, &stated(from, role, "a"), &reference, Some(&target));
                        let is_of_own = matches!(
                            relation,
                            Relation::Amends | Relation::Cancels | Relation::Corrects
                        );
                        let expected = match () {
                            () if is_of_own && agency != own => Err(SlotRefused::Agency),
                            () if !joins(relation, from, to) => Err(SlotRefused::Kind),
                            () if is_of_own && submitter != "a" && role != Role::Office => {
                                Err(SlotRefused::Submitter)
                            }
                            () => Ok(()),
                        };
                        assert_eq!(found, expected, "{relation:?} {from} {to} {role:?} {agency}");
                        let unknown =
                            check_target(&own, &stated(from, role, "a"), &reference, None);
                        let none = match is_of_own && agency != own {
                            true => SlotRefused::Agency,
                            false => SlotRefused::Unknown,
                        };
                        assert_eq!(unknown, Err(none));
                        cells += 1;
                    }
                }
            }
        }
    }
    assert_eq!(cells, 5 * 14 * 14 * 6 * 3);
}

#[test]
fn each_refusal_has_a_number_a_code_and_a_sentence() {
    for (reason, number) in SlotRefused::ALL {
        assert_eq!(reason.number(), number);
        let about = ["REFERENCE_", "AGREEMENT_", "GRANT_"];
        assert!(about.iter().any(|about| reason.code().starts_with(about)), "{}", reason.code());
        assert!(reason.sentence().len() > 20);
    }
    let [only] =
        OPERATORS.map(|role| check_kind(role, DeclarationStatus).expect_err("an act"))[..1]
    else {
        panic!("one");
    };
    assert_eq!(
        only.to_string(),
        "who speaks as broker may not state a declaration_status; office may"
    );
}

/// The cells of the rows of a table, under its head.
fn table(head: &str) -> Vec<Vec<&'static str>> {
    let mut lines = RULES.lines().skip_while(|line| *line != head);
    assert_eq!(lines.next(), Some(head), "docs/RULES.md has the table");
    let cells = |line: &'static str| line.trim_matches('|').split('|').map(str::trim).collect();
    lines.skip(1).take_while(|line| line.starts_with('|')).map(cells).collect()
}

/// The kinds that a cell names.
fn kinds_of(cell: &str) -> Vec<RecordKind> {
    let words = [
        ("the status of a declaration", DeclarationStatus),
        ("status of a declaration", DeclarationStatus),
        ("status of a trader", TraderStatus),
        ("an answer to a request for assistance", AssistanceResponse),
        ("request for assistance", AssistanceRequest),
        ("the answer to one", AssistanceResponse),
        ("the request", AssistanceRequest),
        ("change of the registry", RegistryChange),
        ("change of an agreement", AgreementChange),
        ("report that a validator broke the rules", Misbehaviour),
        ("enforcement action", EnforcementAction),
        ("transport document", TransportDocument),
        ("certificate", Certificate),
        ("inspection", Inspection),
        ("risk alert", RiskAlert),
        ("declaration", Declaration),
        ("event", Event),
    ];
    if cell == "any kind of trade" {
        return TRADE.to_vec();
    }
    // Examples are in brackets.
    let mut text = String::new();
    for part in cell.split('(') {
        text.push_str(part.split_once(')').map_or(part, |(_, after)| after));
    }
    let mut found = Vec::new();
    for (phrase, kind) in words {
        if text.contains(phrase) {
            text = text.replace(phrase, "");
            found.push(kind);
        }
    }
    let other = |word: &&str| !["a", "an", "another", "and", "the", "of"].contains(word);
    let left: Vec<_> =
        text.split(|c: char| !c.is_alphabetic()).filter(|w| !w.is_empty()).filter(other).collect();
    assert!(left.is_empty() && !found.is_empty(), "`{cell}`: {left:?}");
    found.sort_by_key(|kind| kind.number());
    found.dedup();
    found
}

fn sorted(kinds: &[RecordKind]) -> Vec<RecordKind> {
    let mut kinds = kinds.to_vec();
    kinds.sort_by_key(|kind| kind.number());
    kinds
}

#[test]
fn what_a_role_may_state_is_what_lawyers_read() {
    let head = "| what is stated | office | broker, carrier, trader, port | node |";
    let mut stated = Vec::new();
    for row in table(head) {
        let columns = [&[Role::Office][..], &OPERATORS, &[Role::Node]];
        for (kind, (column, cell)) in kinds_of(row[0])
            .into_iter()
            .flat_map(|k| columns.iter().zip(&row[1..]).map(move |c| (k, c)))
        {
            let may = match *cell {
                "yes" => true,
                "no" => false,
                other => panic!("{kind}: `{other}`"),
            };
            for role in *column {
                assert_eq!(roles(kind).contains(role), may, "{kind}, {role:?}");
            }
        }
        stated.extend(kinds_of(row[0]));
    }
    assert_eq!(sorted(&stated), sorted(&RecordKind::ALL), "each kind once");
}

#[test]
fn what_may_refer_to_what_is_what_lawyers_read() {
    let mut documented = Vec::new();
    for row in table("| a record may | what may | to what | whose |") {
        let relations = match row[0] {
            "amend, cancel or correct" => {
                &[Relation::Amends, Relation::Cancels, Relation::Corrects][..]
            }
            "respond to" => &[Relation::RespondsTo],
            "be evidence for" => &[Relation::Evidences],
            other => panic!("`{other}`"),
        };
        for (relation, from) in
            relations.iter().flat_map(|r| kinds_of(row[1]).into_iter().map(move |from| (*r, from)))
        {
            let to = if row[2] == "the same kind" { vec![from] } else { kinds_of(row[2]) };
            assert_eq!(sorted(targets(relation, from)), to, "{relation:?} from {from}");
            assert_eq!(is_of_own(relation), row[3] == "its own", "{relation:?}: `{}`", row[3]);
            documented.push((relation, from));
        }
    }
    let leads = |(relation, from): &(Relation, RecordKind)| !targets(*relation, *from).is_empty();
    let all = RELATIONS.into_iter().flat_map(|r| RecordKind::ALL.into_iter().map(move |k| (r, k)));
    let all: Vec<_> = all.filter(leads).collect();
    assert!(all.iter().all(|pair| documented.contains(pair)), "{documented:?}");
    assert_eq!(documented.len(), all.len());
}
