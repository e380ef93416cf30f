//! Whether a network gets on, and how many views it costs.

use customhouse_ledger::registry::parameters::Parameters;

use super::{Lies, MakeCore, Network, Weather};

impl Network {
    /// Heights at which the leader of the first view was passed over.
    pub fn passed_over(&self) -> Vec<u64> {
        let chain = &self.nodes[0].ledger.chain;
        let headers = chain.iter().map(|(block, _)| &block.header);
        headers.filter(|header| header.view > 1).map(|header| header.height).collect()
    }

    /// Makes one block after the other, each final on all that are up.
    pub fn make_blocks(&mut self, count: u64) {
        for _ in 0..count {
            let leaf = self.submit();
            self.run_until("final on all that are up", 2_000, |network| {
                let mut up = network.nodes.iter().filter(|node| node.core.is_some());
                up.all(|node| node.ledger.has_committed(&leaf))
            });
        }
    }
}

/// Makes blocks beside one liar of four that is heard early, late and in between, while what is
/// accepted is passed on. Gives the heights at which a first view was lost: the liar's own, once a term.
pub fn beside_a_liar(make: MakeCore, lies: Lies, seed: u64) -> Vec<u64> {
    let wind = Weather { delay_ms_max: 12, loss: 0, duplication: 0 };
    let mut network = Network::made_of(make, 4, seed, wind, Parameters::default()).gossiping();
    network.corrupt(3, lies);
    network.make_blocks(60);
    let charging = network.honest().filter(|(_, node)| node.charges > 0).count();
    assert_eq!(charging, 3, "seed {seed}: all honest nodes hold it against the liar");
    network.passed_over()
}
