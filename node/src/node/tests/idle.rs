//! What waits and cannot be taken costs no blocks.

use super::*;
use crate::mempool::tests::another_signature;

#[tokio::test(flavor = "multi_thread")]
async fn several_signatures_over_one_transaction_cost_one_block() {
    let network = Network::start(2).await;
    let chain_id = network.genesis.chain_id();
    for number in 1..=10 {
        let one = Arc::new(signed_record(chain_id, 0, (number, &format!("MRN{number}"))));
        // As agency 0's seed has it.
        let other = another_signature(&one, key_seed(3, 0), &chain_id);
        assert!(one.id() == other.id() && one.leaf_hash() != other.leaf_hash());
        for (i, transaction) in [one, other].into_iter().enumerate() {
            lock(&network.shared(i).mempool).insert(transaction).expect("room");
        }
    }
    // Nothing moves until the drivers are told that there is something.
    let record_id = network.submit(0, 100).await;
    network.finality(0, record_id).await;
    let is_done = |i: usize| {
        let taken = network.shared(i).reader.tip().header.log_size == 11;
        taken && lock(&network.shared(i).mempool).count() == 0
    };
    let done = async {
        while !(is_done(0) && is_done(1)) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, done).await.expect("all leave the mempools");
    let reader = &network.shared(0).reader;
    for height in 1..=reader.tip().header.height {
        let header = reader.header(height).expect("readable").expect("committed").header;
        assert!(header.log_size > header.log_start, "height {height} is empty");
    }
    network.stop().await;
}
