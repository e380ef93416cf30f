//! An agency that is registered and has no vote follows the network as those with one do.

use customhouse_tests::{
    cluster::Cluster,
    load::{Load, nothing_is_lost_though_wiped},
};
use prost::Message as _;

use crate::{
    agreement::submit_final,
    changes::{Change, follows},
};

/// Neither of two validators may fail: whoever waited for the observer would stand still without it.
#[tokio::test(flavor = "multi_thread")]
async fn an_observer_follows_and_comes_back_and_nobody_waits_for_it() {
    let mut cluster = Cluster::start(2).await;
    let mut load = Load::start(&cluster, 2, "observed");
    load.more(50).await;
    let observer = cluster.add_node();
    cluster.restart(observer).await;
    let public = cluster.agency(observer).dir.join("agency.json").into_os_string();
    let join = Change { cluster: &cluster, approving: &[0, 1], submitting: 0, joining_key: None };
    let admitted = join.make("join", ["--join".as_ref(), &*public]);
    follows(&cluster, observer, admitted).await;

    for wiped in [false, true] {
        cluster.kill(observer);
        if wiped {
            cluster.wipe(observer);
        }
        load.more(50).await;
        let head = cluster.head(0).await;
        cluster.restart(observer).await;
        follows(&cluster, observer, head.height).await;
    }
    // What its clients submit is final by the others' votes, and its receipts are as good as theirs.
    let mut acknowledged = vec![submit_final(&cluster, observer, "through-it", "observed").await];
    let auditor = cluster.client(observer, "auditor");
    let receipt = auditor.receipt(acknowledged[0].record_id, false).await.expect("a receipt");
    let receipt = receipt.encode_to_vec();
    let verified = cluster.verifier().verify_receipt(&receipt).expect("it verifies");
    assert_eq!(verified.signer.agency, cluster.agency(observer).code());
    acknowledged.extend(load.stop().await);
    let all = [0, 1, observer];
    cluster.same_head(&all, admitted).await;
    nothing_is_lost_though_wiped(&cluster, "observed", &acknowledged).await;
    cluster.nobody_lied();
}
