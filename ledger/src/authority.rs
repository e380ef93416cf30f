//! Who may state what, and which record may refer to which: the rules of the ledger, as tables.
//!
//! **What a role may state.** Customs acts are stated by an agency's office and by nobody else. Economic
//! operators lodge declarations, transport documents, events and certificates. An office enters those too:
//! what came to it on paper, or to a system of its own. The node itself states what is about the network, and
//! nothing about trade.
//!
//! | kind | node | office | broker | carrier | trader | port |
//! |---|---|---|---|---|---|---|
//! | declaration, transport document, event, certificate | – | yes | yes | yes | yes | yes |
//! | declaration status, inspection, enforcement action, risk alert | – | yes | – | – | – | – |
//! | assistance request, assistance response, trader status | – | yes | – | – | – | – |
//! | registry change, misbehaviour, agreement change | yes | – | – | – | – | – |
//!
//! **What may refer to what**, and whose that may be. *Own* is a record of the same agency and, unless an
//! office speaks, of the same submitter.
//!
//! | relation | from | to | whose |
//! |---|---|---|---|
//! | amends, cancels, corrects | any kind of trade | the same kind | own |
//! | responds to | declaration status | declaration | anybody's |
//! | responds to | declaration | declaration status | anybody's |
//! | responds to | inspection | declaration, risk alert | anybody's |
//! | responds to | enforcement action | declaration, inspection, risk alert, enforcement action | anybody's |
//! | responds to | risk alert | risk alert | anybody's |
//! | responds to | assistance response | assistance request | anybody's |
//! | evidences | declaration, transport document, event, certificate, inspection | any kind of trade | anybody's |
//!
//! An answer to another agency's declaration is that agency's view: it is on the ledger and in the
//! declaration's history, and never the declaration's status (`customhouse_trade::clearance`).

use std::fmt;

use customhouse_proto::v1::reference::Relation;

use self::RecordKind::*;
pub use self::{
    kind::RecordKind,
    role::Role,
    stated::{Stated, StatedReference},
};

mod kind;
pub mod role;
mod stated;

use crate::agency::AgencyCode;

const OFFICE: &[Role] = &[Role::Office];
const OFFICE_AND_OPERATORS: &[Role] =
    &[Role::Office, Role::Broker, Role::Carrier, Role::Trader, Role::Port];
const NODE: &[Role] = &[Role::Node];

/// Kinds of trade: all but those about the network itself.
const TRADE: &[RecordKind] = &[
    Declaration,
    DeclarationStatus,
    TransportDocument,
    Event,
    Certificate,
    Inspection,
    EnforcementAction,
    RiskAlert,
    AssistanceRequest,
    AssistanceResponse,
    TraderStatus,
];

/// Kinds of the network itself, whose records are open whatever its parameters say: without them no key could be
/// exchanged and no breach reported.
pub const ALWAYS_OPEN: &[RecordKind] = &[RegistryChange, Misbehaviour, AgreementChange];

/// The roles that may state a kind.
pub fn roles(kind: RecordKind) -> &'static [Role] {
    match kind {
        Declaration | TransportDocument | Event | Certificate => OFFICE_AND_OPERATORS,
        DeclarationStatus | Inspection | EnforcementAction | RiskAlert | AssistanceRequest
        | AssistanceResponse | TraderStatus => OFFICE,
        RegistryChange | Misbehaviour | AgreementChange => NODE,
    }
}

/// The kinds that a record of a kind may refer to so; none where it may not.
pub fn targets(relation: Relation, from: RecordKind) -> &'static [RecordKind] {
    match (relation, from) {
        (_, RegistryChange | Misbehaviour | AgreementChange) | (Relation::Unspecified, _) => &[],
        (Relation::Amends | Relation::Cancels | Relation::Corrects, kind) => same(kind),
        (Relation::RespondsTo, DeclarationStatus) => &[Declaration],
        (Relation::RespondsTo, Declaration) => &[DeclarationStatus],
        (Relation::RespondsTo, Inspection) => &[Declaration, RiskAlert],
        (Relation::RespondsTo, EnforcementAction) => {
            &[Declaration, Inspection, RiskAlert, EnforcementAction]
        }
        (Relation::RespondsTo, RiskAlert) => &[RiskAlert],
        (Relation::RespondsTo, AssistanceResponse) => &[AssistanceRequest],
        (Relation::RespondsTo, _) => &[],
        (
            Relation::Evidences,
            Declaration | TransportDocument | Event | Certificate | Inspection,
        ) => TRADE,
        (Relation::Evidences, _) => &[],
    }
}

/// Whether the record that is referred to so must be the speaker's own.
pub fn is_of_own(relation: Relation) -> bool {
    matches!(relation, Relation::Amends | Relation::Cancels | Relation::Corrects)
}

fn same(kind: RecordKind) -> &'static [RecordKind] {
    let place = TRADE.iter().position(|known| *known == kind);
    place.map_or(&[], |place| &TRADE[place..=place])
}

/// Checks that a role may state a kind.
///
/// # Errors
/// [`NotStated`].
pub fn check_kind(role: Role, kind: RecordKind) -> Result<(), NotStated> {
    if roles(kind).contains(&role) { Ok(()) } else { Err(NotStated { role, kind }) }
}

/// A kind that a role may not state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotStated {
    /// Who speaks.
    pub role: Role,
    /// What about.
    pub kind: RecordKind,
}

impl fmt::Display for NotStated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { role, kind } = *self;
        let role = role::name(role);
        let allowed: Vec<_> = roles(kind).iter().map(|role| role::name(*role)).collect();
        write!(f, "who speaks as {role} may not state a {kind}; {} may", allowed.join(", "))
    }
}

/// Checks that a relation leads anywhere from a record of a kind.
///
/// # Errors
/// [`NoRelation`].
pub fn check_relation(relation: Relation, from: RecordKind) -> Result<(), NoRelation> {
    match targets(relation, from) {
        [] => Err(NoRelation { relation, from }),
        _ => Ok(()),
    }
}

/// A relation that leads from no record of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRelation {
    /// How it was to refer.
    pub relation: Relation,
    /// The record's kind.
    pub from: RecordKind,
}

impl fmt::Display for NoRelation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { relation, from } = *self;
        write!(f, "a {from} has no reference of the relation {}", relation.as_str_name())
    }
}

/// What the chain knows of a record that another refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its kind; `None` where it is sealed, and the chain does not know.
    pub kind: Option<RecordKind>,
    /// Who lodged it; empty where it is sealed.
    pub submitter: String,
}

impl Target {
    /// What is known of a record by what it states; `None` where it is sealed.
    pub fn of(stated: Option<&Stated>) -> Self {
        let submitter = stated.map(|stated| stated.submitter.clone()).unwrap_or_default();
        Self { kind: stated.map(|stated| stated.kind), submitter }
    }
}

/// Why a slot does not count: what an open record refers to, or what a sealed one is lodged under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SlotRefused {
    /// There is no such record on the chain, nor before it in its block.
    Unknown,
    /// The relation does not lead to a record of that kind.
    Kind,
    /// It is another agency's.
    Agency,
    /// It is another submitter's of the agency.
    Submitter,
    /// There is no such agreement, or it has no such epoch.
    AgreementUnknown,
    /// The agency is no party of the epoch.
    AgreementParty,
    /// The epoch has not begun, is over, or one of its parties is a member no more.
    AgreementEpoch,
    /// What is granted is no sealed record of the agency.
    GrantRecord,
}

impl SlotRefused {
    /// Each, with its number under a block's outcomes root.
    #[rustfmt::skip]
    pub const ALL: [(Self, u16); 8] = [
        (Self::Unknown, 1), (Self::Kind, 2), (Self::Agency, 3), (Self::Submitter, 4),
        (Self::AgreementUnknown, 5), (Self::AgreementParty, 6), (Self::AgreementEpoch, 7),
        (Self::GrantRecord, 8),
    ];

    /// Its number under a block's outcomes root.
    pub fn number(self) -> u16 {
        Self::ALL.iter().find(|(known, _)| *known == self).map_or(0, |(_, number)| *number)
    }

    /// A stable code for clients and metrics.
    pub fn code(self) -> &'static str {
        match self {
            Self::Unknown => "REFERENCE_UNKNOWN",
            Self::Kind => "REFERENCE_KIND",
            Self::Agency => "REFERENCE_AGENCY",
            Self::Submitter => "REFERENCE_SUBMITTER",
            Self::AgreementUnknown => "AGREEMENT_UNKNOWN",
            Self::AgreementParty => "AGREEMENT_PARTY",
            Self::AgreementEpoch => "AGREEMENT_EPOCH",
            Self::GrantRecord => "GRANT_RECORD",
        }
    }

    /// What happened and what to do, for people.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Unknown => {
                "it refers to a record that this agency has not on the ledger: lodge that one first, correct the \
                 id, or name the agency whose it is"
            }
            Self::Kind => {
                "it refers to a record of a kind that this relation does not lead to (see `docs/RULES.md`)"
            }
            Self::Agency => {
                "it amends, cancels or corrects a record of another agency, which only that agency may"
            }
            Self::Submitter => {
                "it amends, cancels or corrects a record of another submitter, which only that one or an \
                 office of the agency may"
            }
            Self::AgreementUnknown => {
                "there is no such agreement on the chain, or it has no such epoch: another node may not have committed it yet"
            }
            Self::AgreementParty => {
                "this agency is no party of that epoch of the agreement: lodge under one that it is a party of"
            }
            Self::AgreementEpoch => {
                "that epoch of the agreement was not in force when the block was made: submit it again, under the \
                 present epoch, or as `own`"
            }
            Self::GrantRecord => {
                "what is granted is no sealed record of this agency that is on the ledger: lodge it first"
            }
        }
    }
}

/// Whether a record that answers to an agency may refer to another.
///
/// # Errors
/// The first rule that is broken.
pub fn check_target(
    agency: &AgencyCode,
    from: &Stated,
    reference: &StatedReference,
    target: Option<&Target>,
) -> Result<(), SlotRefused> {
    let is_of_own = is_of_own(reference.relation);
    if is_of_own && reference.agency != *agency {
        return Err(SlotRefused::Agency);
    }
    let target = target.ok_or(SlotRefused::Unknown)?;
    let leads = |kind: &RecordKind| targets(reference.relation, from.kind).contains(kind);
    if !target.kind.as_ref().is_some_and(leads) {
        return Err(SlotRefused::Kind);
    }
    if !is_of_own {
        return Ok(());
    }
    if from.role != Role::Office && target.submitter != from.submitter {
        return Err(SlotRefused::Submitter);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
