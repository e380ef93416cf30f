//! Attackers by name. Each is one listed validator; what it costs the others is measured (`contest`).

/// What a validator does to the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Attacker {
    /// Says and answers nothing.
    Silent,
    /// Pushes forged votes in others' names to everybody: for each height, the next, and far ones.
    PushesForgeries,
    /// The same by gossip, for others to pass on, with proposals.
    GossipsForgeries,
    /// Passes every leader's proposal on first, with other leaves.
    SwapsLeaves,
    /// Sends proposals in the next height's leader's name before that leader can.
    CrowdsOutLeaders,
    /// Floods everybody with votes for the next height, forged ones and its own, and with a few too
    /// far away to be kept.
    FloodsEarly,
    /// Gossips transactions that are of no use: of an unknown key, committed ones, and known ones
    /// with another's records; each to one node, for it to pass on.
    GossipsJunk,
    /// Signs transactions of its own, as many as a mempool holds and more, again at each height.
    FillsMempools,
    /// Leads with genuine transactions that are together more than a block may have.
    ProposesTooMuch,
    /// Leads with transactions that it shows nobody.
    WithholdsBodies,
    /// Leads with transactions that all but one of the others can have; that one gets one body a
    /// request, just before it would ask somebody else, and then nothing.
    DripsBodies,
    /// Leads with transactions that all but one of the others can have, and answers that one with nothing,
    /// or with what it did not ask for.
    AnswersWrong,
    /// Leads with transactions that all but one of the others can have, answers that one nothing, and
    /// sends it each finalization hundreds of times.
    ResendsFinalizations,
    /// An honest node whose clock is an hour ahead.
    ClockAhead,
    /// An honest node whose clock is an hour behind.
    ClockBehind,
    /// An honest node all of whose connections lead nowhere for a while, with nobody being told.
    HalfOpen,
}

impl Attacker {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::Silent,
        Self::PushesForgeries,
        Self::GossipsForgeries,
        Self::SwapsLeaves,
        Self::CrowdsOutLeaders,
        Self::FloodsEarly,
        Self::GossipsJunk,
        Self::FillsMempools,
        Self::ProposesTooMuch,
        Self::WithholdsBodies,
        Self::DripsBodies,
        Self::AnswersWrong,
        Self::ResendsFinalizations,
        Self::ClockAhead,
        Self::ClockBehind,
        Self::HalfOpen,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::PushesForgeries => "pushes-forgeries",
            Self::GossipsForgeries => "gossips-forgeries",
            Self::SwapsLeaves => "swaps-leaves",
            Self::CrowdsOutLeaders => "crowds-out-leaders",
            Self::FloodsEarly => "floods-early",
            Self::GossipsJunk => "gossips-junk",
            Self::FillsMempools => "fills-mempools",
            Self::ProposesTooMuch => "proposes-too-much",
            Self::WithholdsBodies => "withholds-bodies",
            Self::DripsBodies => "drips-bodies",
            Self::AnswersWrong => "answers-wrong",
            Self::ResendsFinalizations => "resends-finalizations",
            Self::ClockAhead => "clock-ahead",
            Self::ClockBehind => "clock-behind",
            Self::HalfOpen => "half-open",
        }
    }

    /// Whether it breaks rules, rather than being struck by something.
    pub(super) fn lies(self) -> bool {
        !matches!(self, Self::ClockAhead | Self::ClockBehind | Self::HalfOpen)
    }

    /// Whether it runs the node's own code beside what it does.
    pub(super) fn runs(self) -> bool {
        self != Self::Silent
    }

    /// Whether it leads with transactions that it does not gossip.
    pub(super) fn keeps_bodies(self) -> bool {
        matches!(
            self,
            Self::WithholdsBodies
                | Self::DripsBodies
                | Self::AnswersWrong
                | Self::ResendsFinalizations
        )
    }

    /// Whether one of the others is its victim.
    pub(super) fn has_a_victim(self) -> bool {
        matches!(self, Self::DripsBodies | Self::AnswersWrong | Self::ResendsFinalizations)
    }
}
