//! The life cycle of a declaration, as one table.
//!
//! Its source is the WCO Data Model, version 3.6: what a response says by its function code. Where that leaves
//! the order open, the table follows what customs systems are seen to do:
//!
//! - Tax is calculated before acceptance or after it. An amount alone accepts nothing, and both orders end
//!   the same.
//! - While a control or documents are open, tax and receipts change nothing about that; a result does.
//! - What was released is not taken back by a control, a demand or a tax that comes later. Only an
//!   invalidation takes it back.

use ClearanceState::*;
use To::{Be, Resume, Stay};

use super::{
    anomaly::{ClearanceAnomaly, ClearanceAnomaly as A},
    state::ClearanceState,
};

/// What a record says of the declaration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum On {
    /// The declaration itself.
    Lodgement,
    /// The declarant asks for a change.
    Amendment,
    /// The declarant asks for an end.
    Cancellation,
    /// The declarant says that the goods are there.
    Presentation,
    /// 02 about a request.
    RequestReceived,
    /// 03 about a request.
    RequestRejected,
    /// 11, which is always about a request.
    RequestDecided,
    /// 01
    Acceptance,
    /// 02
    Receipt,
    /// 03
    Rejection,
    /// 05
    Control,
    /// 06
    Documents,
    /// 07: of a control, or of an amendment that customs made.
    Outcome,
    /// 08
    Release,
    /// 09
    Clearing,
    /// 10
    Invalidation,
    /// 13
    Tax,
    /// 14: a balance does not cover what is due.
    Balance,
    /// 15: what is due was not paid yet.
    Reminder,
    /// 16
    Exit,
}

impl On {
    /// What a function code says of the declaration; nothing of one that is not known. Written with and
    /// without a leading zero, it is the same.
    pub(super) fn function(code: &str) -> Option<Self> {
        Some(match code.trim_start_matches('0') {
            "1" => Self::Acceptance,
            "2" => Self::Receipt,
            "3" => Self::Rejection,
            "5" => Self::Control,
            "6" => Self::Documents,
            "7" => Self::Outcome,
            "8" => Self::Release,
            "9" => Self::Clearing,
            "10" => Self::Invalidation,
            "11" => Self::RequestDecided,
            "13" => Self::Tax,
            "14" => Self::Balance,
            "15" => Self::Reminder,
            "16" => Self::Exit,
            _ => return None,
        })
    }

    /// What it says if it is about a request of the declarant's and not about the declaration.
    pub(super) fn of_request(self) -> Option<Self> {
        match self {
            Self::Receipt | Self::RequestReceived => Some(Self::RequestReceived),
            Self::Rejection | Self::RequestRejected => Some(Self::RequestRejected),
            Self::RequestDecided => Some(self),
            _ => None,
        }
    }

    /// Whether customs may say by it that a next version is in force.
    pub(super) fn opens_version(self) -> bool {
        matches!(self, Self::Acceptance | Self::Tax | Self::Outcome)
    }
}

/// Where a record leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum To {
    /// Nowhere.
    Stay,
    /// There.
    Be(ClearanceState),
    /// Where the declaration stands apart from controls and demands: its tax is assessed, or else it is
    /// accepted, or else no more than received.
    Resume,
}

/// What a record does in some of the states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) on: On,
    pub(super) from: &'static [ClearanceState],
    pub(super) to: To,
    /// Why this is shown; nothing where it is expected. A row that stays and has an anomaly changes nothing
    /// at all.
    pub(super) anomaly: Option<ClearanceAnomaly>,
}

/// The row that holds for a record in a state.
pub(super) fn row(on: On, state: ClearanceState) -> Option<&'static Row> {
    TABLE.iter().find(|row| row.on == on && row.from.contains(&state))
}

const fn ok(on: On, from: &'static [ClearanceState], to: To) -> Row {
    Row { on, from, to, anomaly: None }
}

const fn but(on: On, from: &'static [ClearanceState], to: To, anomaly: ClearanceAnomaly) -> Row {
    Row { on, from, to, anomaly: Some(anomaly) }
}

const ENDED: &[ClearanceState] = &[Rejected, Invalidated];
const NOT_ACCEPTED: &[ClearanceState] = &[Lodged, Received];
const RELEASED: &[ClearanceState] = &[Released, Cleared, Exited];
/// All but those that ended.
const ALIVE: &[ClearanceState] = &[
    Lodged,
    Received,
    Accepted,
    UnderControl,
    DocumentsRequired,
    TaxAssessed,
    Released,
    Cleared,
    Exited,
];
const ALL: &[ClearanceState] = ClearanceState::ALL;

/// Each thing that a record may say has exactly one row for each state.
#[rustfmt::skip]
pub(super) const TABLE: &[Row] = &[
    // What the declarant says. After a rejection the same reference may be lodged again.
    ok (On::Lodgement,    &[Rejected],                          Be(Lodged)),
    but(On::Lodgement,    ALIVE,                                Stay,         A::ReferenceUsedAgain),
    but(On::Lodgement,    &[Invalidated],                       Stay,         A::ReferenceUsedAgain),
    // A request changes nothing until customs has decided it.
    ok (On::Amendment,    ALIVE,                                Stay),
    but(On::Amendment,    ENDED,                                Stay,         A::RequestAfterEnd),
    ok (On::Cancellation, &[Lodged, Received, Accepted, UnderControl, DocumentsRequired,
                            TaxAssessed, Released, Cleared],    Stay),
    but(On::Cancellation, &[Exited],                            Stay,         A::CancellationAfterExit),
    but(On::Cancellation, ENDED,                                Stay,         A::RequestAfterEnd),
    ok (On::Presentation, &[Lodged, Received, Accepted, UnderControl, DocumentsRequired,
                            TaxAssessed],                       Stay),
    but(On::Presentation, RELEASED,                             Stay,         A::PresentationAfterRelease),
    but(On::Presentation, ENDED,                                Stay,         A::RequestAfterEnd),

    // 02, 03 and 11 about a request: the declaration stands where it stood, cleared if it was.
    ok (On::RequestReceived, ALL,                               Stay),
    ok (On::RequestRejected, ALL,                               Stay),
    ok (On::RequestDecided,  ALL,                               Stay),

    // 02. A receipt later on is of something else that customs received.
    ok (On::Receipt,      &[Lodged],                            Be(Received)),
    ok (On::Receipt,      &[Received, Accepted, UnderControl, DocumentsRequired, TaxAssessed,
                            Released, Cleared, Exited],         Stay),
    but(On::Receipt,      ENDED,                                Stay,         A::StatusAfterEnd),
    // 01. Each version is accepted anew.
    ok (On::Acceptance,   NOT_ACCEPTED,                         Resume),
    ok (On::Acceptance,   &[Accepted, UnderControl, DocumentsRequired, TaxAssessed, Released,
                            Cleared, Exited],                   Stay),
    but(On::Acceptance,   ENDED,                                Stay,         A::StatusAfterEnd),
    // 03. What customs has gone on with is not undone; a rejected request has its row above.
    ok (On::Rejection,    NOT_ACCEPTED,                         Be(Rejected)),
    but(On::Rejection,    &[Accepted, UnderControl, DocumentsRequired, TaxAssessed, Released,
                            Cleared, Exited],                   Stay,         A::RejectedLate),
    ok (On::Rejection,    &[Rejected],                          Stay),
    but(On::Rejection,    &[Invalidated],                       Stay,         A::StatusAfterEnd),
    // 13. An amount accepts nothing, ends no control and takes back no release; it is noted.
    ok (On::Tax,          &[Accepted],                          Be(TaxAssessed)),
    ok (On::Tax,          &[Lodged, Received, UnderControl, DocumentsRequired, TaxAssessed,
                            Released, Cleared, Exited],         Stay),
    but(On::Tax,          ENDED,                                Stay,         A::StatusAfterEnd),
    // 14, 15
    ok (On::Balance,      ALIVE,                                Stay),
    but(On::Balance,      ENDED,                                Stay,         A::StatusAfterEnd),
    ok (On::Reminder,     ALIVE,                                Stay),
    but(On::Reminder,     ENDED,                                Stay,         A::StatusAfterEnd),

    // 05
    ok (On::Control,      &[Accepted, DocumentsRequired, TaxAssessed],
                                                                Be(UnderControl)),
    ok (On::Control,      &[UnderControl],                      Stay),
    but(On::Control,      NOT_ACCEPTED,                         Be(UnderControl), A::ControlBeforeAcceptance),
    but(On::Control,      RELEASED,                             Stay,         A::ControlAfterRelease),
    but(On::Control,      ENDED,                                Stay,         A::StatusAfterEnd),
    // 06. A control outweighs it.
    ok (On::Documents,    &[Accepted, TaxAssessed],             Be(DocumentsRequired)),
    ok (On::Documents,    &[UnderControl, DocumentsRequired],   Stay),
    but(On::Documents,    NOT_ACCEPTED,                         Be(DocumentsRequired), A::DocumentsBeforeAcceptance),
    but(On::Documents,    RELEASED,                             Stay,         A::DocumentsAfterRelease),
    but(On::Documents,    ENDED,                                Stay,         A::StatusAfterEnd),
    // 07
    ok (On::Outcome,      &[UnderControl, DocumentsRequired],   Resume),
    ok (On::Outcome,      &[Accepted, TaxAssessed, Released, Cleared, Exited],
                                                                Stay),
    but(On::Outcome,      NOT_ACCEPTED,                         Stay,         A::ResultBeforeAcceptance),
    but(On::Outcome,      ENDED,                                Stay,         A::StatusAfterEnd),

    // 08. Customs has let the goods go: what was missing before is shown, and holds nothing back.
    ok (On::Release,      &[Accepted, DocumentsRequired, TaxAssessed],
                                                                Be(Released)),
    but(On::Release,      &[UnderControl],                      Be(Released), A::ReleasedUnderControl),
    but(On::Release,      NOT_ACCEPTED,                         Be(Released), A::ReleasedBeforeAcceptance),
    ok (On::Release,      &[Released],                          Stay),
    but(On::Release,      &[Cleared, Exited],                   Stay,         A::ReleasedAfterClearance),
    but(On::Release,      ENDED,                                Stay,         A::StatusAfterEnd),
    // 09
    ok (On::Clearing,     &[Accepted, DocumentsRequired, TaxAssessed, Released],
                                                                Be(Cleared)),
    but(On::Clearing,     &[UnderControl],                      Be(Cleared),  A::ClearedUnderControl),
    but(On::Clearing,     NOT_ACCEPTED,                         Be(Cleared),  A::ClearedBeforeAcceptance),
    ok (On::Clearing,     &[Cleared],                           Stay),
    but(On::Clearing,     &[Exited],                            Stay,         A::ClearedAfterExit),
    but(On::Clearing,     ENDED,                                Stay,         A::StatusAfterEnd),
    // 16. Parts of a consignment leave one by one.
    ok (On::Exit,         &[Released, Cleared],                 Be(Exited)),
    ok (On::Exit,         &[Exited],                            Stay),
    but(On::Exit,         &[Lodged, Received, Accepted, UnderControl, DocumentsRequired,
                            TaxAssessed],                       Be(Exited),   A::ExitedBeforeRelease),
    but(On::Exit,         ENDED,                                Stay,         A::StatusAfterEnd),
    // 10
    ok (On::Invalidation, &[Lodged, Received, Accepted, UnderControl, DocumentsRequired,
                            TaxAssessed, Released, Cleared],    Be(Invalidated)),
    but(On::Invalidation, &[Exited],                            Be(Invalidated), A::InvalidatedAfterExit),
    ok (On::Invalidation, &[Invalidated],                       Stay),
    but(On::Invalidation, &[Rejected],                          Stay,         A::StatusAfterEnd),
];

#[cfg(test)]
mod tests {
    use super::*;

    const EVERYTHING: [On; 20] = [
        On::Lodgement,
        On::Amendment,
        On::Cancellation,
        On::Presentation,
        On::RequestReceived,
        On::RequestRejected,
        On::RequestDecided,
        On::Acceptance,
        On::Receipt,
        On::Rejection,
        On::Control,
        On::Documents,
        On::Outcome,
        On::Release,
        On::Clearing,
        On::Invalidation,
        On::Tax,
        On::Balance,
        On::Reminder,
        On::Exit,
    ];

    #[test]
    fn whatever_a_record_says_there_is_one_row_for_each_state() {
        for on in EVERYTHING {
            for state in ClearanceState::ALL {
                let rows = TABLE.iter().filter(|row| row.on == on && row.from.contains(state));
                assert_eq!(rows.count(), 1, "{on:?} in {state:?}");
            }
        }
        assert!(TABLE.iter().all(|row| EVERYTHING.contains(&row.on)));
    }

    #[test]
    fn what_was_released_is_taken_back_by_an_invalidation_alone() {
        for row in TABLE.iter().filter(|row| row.on != On::Invalidation) {
            for from in row.from.iter().filter(|from| RELEASED.contains(from)) {
                let stays = match row.to {
                    To::Stay => true,
                    To::Be(to) => RELEASED.contains(&to) && to >= *from,
                    To::Resume => false,
                };
                assert!(stays, "{row:?}");
            }
        }
    }

    #[test]
    fn what_ended_begins_again_only_if_it_is_lodged_again() {
        for row in TABLE.iter().filter(|row| row.from.iter().any(|from| ENDED.contains(from))) {
            let is_again = row.on == On::Lodgement && row.to == Be(Lodged);
            assert!(row.to == To::Stay || is_again, "{row:?}");
        }
    }

    #[test]
    fn a_function_code_is_known_with_and_without_its_zero_and_others_are_not() {
        assert_eq!(On::function("01"), Some(On::Acceptance));
        assert_eq!(On::function("1"), Some(On::Acceptance));
        assert_eq!(On::function("10"), Some(On::Invalidation));
        for unknown in ["", "0", "04", "12", "17", "18", "99", "1 ", "-1", "ACC"] {
            assert_eq!(On::function(unknown), None, "{unknown:?}");
        }
    }
}
