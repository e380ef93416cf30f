//! What a node keeps when its core halts: with it, the liars, who were more than f, can be named.

use customhouse_consensus::HaltReason;
use customhouse_ledger::finality::decision::Grounds;

use super::{Driver, DriverError, Outside, SignerMemory};

impl<O: Outside, J: SignerMemory> Driver<O, J> {
    /// The core halted. The two certificates that contradict each other, and what it held beside
    /// them, are kept in the store.
    pub(super) fn halted(&mut self, reason: &HaltReason) -> DriverError {
        let HaltReason::ContradictingCertificates(first, second) = reason else {
            return DriverError::Halted(reason.to_string());
        };
        let height = first.ballot.height;
        let mut grounds = match self.core.height() == height {
            true => self.core.grounds(),
            false => Grounds::default(),
        };
        let certificates = vec![(**first).clone(), (**second).clone()];
        grounds.join(Grounds { certificates, claims: Vec::new() });
        if let Err(error) = self.chain.keep(height, grounds) {
            // It halts for the first reason; what it held until then may be in the journal still.
            tracing::error!(height, %error, "what this node held was not kept");
            return DriverError::Halted(reason.to_string());
        }
        DriverError::Halted(format!(
            "{reason}. What this node held is kept: `customhouse audit decisions --height {height} \
             --store DIR` exports it, `customhouse audit fork` names who signed both"
        ))
    }
}
