//! What a run has seen, and what many runs have seen together.

use std::fmt;

/// Counts. A kind of fault that never struck in many runs means that they tested less than they say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Runs.
    pub seeds: u64,
    /// Simulated time.
    pub virtual_ms: u64,
    /// Sum of the heights reached.
    pub heights: u64,
    /// Sum of the views that blocks were decided in, beyond the first.
    pub later_views: u64,
    /// Transactions that a client was told are accepted.
    pub acknowledged: u64,
    /// Receipts made and verified.
    pub receipts: u64,
    /// Messages delivered.
    pub messages: u64,
    /// Messages lost by the network.
    pub lost: u64,
    /// Messages delivered twice.
    pub duplicated: u64,
    /// Messages held back for long.
    pub straggled: u64,
    /// Partitions and single cut links.
    pub partitions: u64,
    /// Links that carried everything late.
    pub clogged: u64,
    /// Nodes whose connections led nowhere for a while.
    pub half_opens: u64,
    /// Gossip messages of others that nodes passed on.
    pub passed_on: u64,
    /// What nodes held against peers.
    pub faults: u64,
    /// Of that, against honest ones by honest ones.
    pub honest_blamed: u64,
    /// Peers cut off for their faults.
    pub cut_offs: u64,
    /// Processes killed between two steps.
    pub crashes: u64,
    /// All processes killed at once.
    pub blackouts: u64,
    /// Writes that failed and took their process with them.
    pub lost_writes: u64,
    /// Processes stopped for a while.
    pub pauses: u64,
    /// Stores wiped.
    pub wipes: u64,
    /// Stores put back to an older state, the journal not.
    pub store_restores: u64,
    /// Stores and journals put back together.
    pub full_restores: u64,
    /// Keys that stopped signing because of it.
    pub stopped_keys: u64,
    /// Clocks changed.
    pub clock_changes: u64,
    /// Agencies that were registered while it ran.
    pub agencies_joined: u64,
    /// Agencies that were given a vote.
    pub votes_given: u64,
    /// Agencies that lost theirs.
    pub votes_ended: u64,
    /// Parameters that were set, or have their defaults again.
    pub parameters_set: u64,
    /// Validator keys that took another's place.
    pub keys_rotated: u64,
    /// Epochs of agreements.
    pub epochs: u64,
    /// Parties that left an agreement.
    pub parties_left: u64,
    /// Sealed slots that count.
    pub sealed: u64,
    /// Grants that count.
    pub granted: u64,
    /// Sealed slots and grants that blocks refused.
    pub sealed_refused: u64,
    /// Sealed slots and grants that were repeats.
    pub sealed_again: u64,
    /// Lying validators.
    pub twins: u64,
    /// Of those, silent ones.
    pub silent: u64,
    /// Of those, ones that sign anything.
    pub liars: u64,
    /// Of those, ones that do one thing on purpose.
    pub attackers: u64,
    /// What liars have said.
    pub lies: u64,
    /// Views in which a key was caught.
    pub equivocations: u64,
    /// Of those, recorded on the chain.
    pub recorded: u64,
    /// Longest time from the end of all faults until every node had everything.
    pub healing_ms_max: u64,
}

impl Summary {
    /// Adds another's counts.
    pub fn add(&mut self, other: &Self) {
        self.stopped_keys += other.stopped_keys;
        self.healing_ms_max = self.healing_ms_max.max(other.healing_ms_max);
        for ((_, own), (_, others)) in self.counts_mut().into_iter().zip(other.counts()) {
            *own += others;
        }
    }

    /// Kinds of fault that never struck.
    pub fn never(&self) -> Vec<&'static str> {
        self.counts().into_iter().filter(|(_, count)| *count == 0).map(|(name, _)| name).collect()
    }

    fn counts(&self) -> Vec<(&'static str, u64)> {
        let mut copy = *self;
        copy.counts_mut().into_iter().map(|(name, count)| (name, *count)).collect()
    }

    fn counts_mut(&mut self) -> Vec<(&'static str, &mut u64)> {
        vec![
            ("seeds", &mut self.seeds),
            ("virtual milliseconds", &mut self.virtual_ms),
            ("heights", &mut self.heights),
            ("later views", &mut self.later_views),
            ("acknowledged transactions", &mut self.acknowledged),
            ("receipts verified", &mut self.receipts),
            ("messages", &mut self.messages),
            ("messages lost", &mut self.lost),
            ("messages duplicated", &mut self.duplicated),
            ("stragglers", &mut self.straggled),
            ("partitions", &mut self.partitions),
            ("clogged links", &mut self.clogged),
            ("connections that led nowhere", &mut self.half_opens),
            ("messages passed on", &mut self.passed_on),
            ("faults of peers", &mut self.faults),
            ("peers cut off", &mut self.cut_offs),
            ("crashes", &mut self.crashes),
            ("blackouts", &mut self.blackouts),
            ("lost writes", &mut self.lost_writes),
            ("pauses", &mut self.pauses),
            ("wipes", &mut self.wipes),
            ("stores put back", &mut self.store_restores),
            ("stores and journals put back", &mut self.full_restores),
            ("clock changes", &mut self.clock_changes),
            ("agencies joined", &mut self.agencies_joined),
            ("votes given", &mut self.votes_given),
            ("votes ended", &mut self.votes_ended),
            ("parameters set", &mut self.parameters_set),
            ("validator keys exchanged", &mut self.keys_rotated),
            ("epochs of agreements", &mut self.epochs),
            ("parties that left", &mut self.parties_left),
            ("sealed slots", &mut self.sealed),
            ("grants", &mut self.granted),
            ("sealed slots refused", &mut self.sealed_refused),
            ("sealed slots repeated", &mut self.sealed_again),
            ("twins", &mut self.twins),
            ("silent validators", &mut self.silent),
            ("liars", &mut self.liars),
            ("attackers", &mut self.attackers),
            ("lies", &mut self.lies),
            ("equivocations caught", &mut self.equivocations),
            ("equivocations recorded", &mut self.recorded),
        ]
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, count) in self.counts() {
            writeln!(f, "{name:<32}{count:>14}")?;
        }
        writeln!(f, "{:<32}{:>14}", "keys stopped", self.stopped_keys)?;
        writeln!(f, "{:<32}{:>14}", "longest healing, ms", self.healing_ms_max)
    }
}
