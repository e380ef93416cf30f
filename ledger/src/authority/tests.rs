//! Every cell of the two tables, one by one: who changes a rule changes it here too.

use super::*;

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
    assert_eq!(cells, 6 * 13);
    for kind in RecordKind::ALL {
        assert!(check_kind(Role::Unspecified, kind).is_err(), "{kind}");
    }
}

/// The pairs of kinds that a relation joins, as they are written down in the module's documentation.
fn joins(relation: Relation, from: RecordKind, to: RecordKind) -> bool {
    let of_trade = |kind| !matches!(kind, RegistryChange | Misbehaviour);
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
                        let target = Target { kind: to, submitter: submitter.into() };
                        let found =
                            check_target(&own, &stated(from, role, "a"), &reference, Some(&target));
                        let is_of_own = matches!(
                            relation,
                            Relation::Amends | Relation::Cancels | Relation::Corrects
                        );
                        let expected = match () {
                            () if is_of_own && agency != own => Err(ReferenceRefused::Agency),
                            () if !joins(relation, from, to) => Err(ReferenceRefused::Kind),
                            () if is_of_own && submitter != "a" && role != Role::Office => {
                                Err(ReferenceRefused::Submitter)
                            }
                            () => Ok(()),
                        };
                        assert_eq!(found, expected, "{relation:?} {from} {to} {role:?} {agency}");
                        let unknown =
                            check_target(&own, &stated(from, role, "a"), &reference, None);
                        let none = match is_of_own && agency != own {
                            true => ReferenceRefused::Agency,
                            false => ReferenceRefused::Unknown,
                        };
                        assert_eq!(unknown, Err(none));
                        cells += 1;
                    }
                }
            }
        }
    }
    assert_eq!(cells, 5 * 13 * 13 * 6 * 3);
}

#[test]
fn each_refusal_has_a_number_a_code_and_a_sentence() {
    for (reason, number) in ReferenceRefused::ALL {
        assert_eq!(reason.number(), number);
        assert!(reason.code().starts_with("REFERENCE_"));
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
