//! A node whose clock is not that of the others.

use std::{fs, path::PathBuf};

use customhouse_node::clock::SHIFT_VARIABLE;
use customhouse_tests::{
    cluster::Cluster,
    program,
    records::submission,
    wait::{PATIENCE, until},
};
use tonic::Code;

use crate::processes::works;

const HOUR_MS: i64 = 60 * 60 * 1000;
/// The node whose clock is set.
const NODE: usize = 3;

struct Clock(PathBuf);

impl Clock {
    /// Adds `ms` to it, from now on.
    fn shift(&self, ms: i64) {
        // In one step: the node never reads half a number.
        let new = self.0.with_extension("new");
        fs::write(&new, ms.to_string()).expect("the cluster's own directory");
        fs::rename(new, &self.0).expect("the cluster's own directory");
    }
}

async fn status_says(cluster: &Cluster, wrong: bool, about_ms: i64) {
    until("the node's status says how its clock is", PATIENCE, async || {
        let status = cluster.status(NODE).await.map_err(|error| error.to_string())?;
        let near = status.clock_ahead_ms.is_some_and(|ms| (ms - about_ms).abs() < 20_000);
        if near && status.clock_wrong == wrong { Ok(()) } else { Err(format!("{status:?}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_a_wrong_clock_says_so_stands_aside_and_comes_back_when_it_is_right() {
    let mut cluster = Cluster::start(4).await;
    let clock = Clock(cluster.genesis_file().with_file_name("clock"));
    clock.shift(0);
    assert!(cluster.terminate(NODE).await.success());
    cluster.surroundings(NODE).variables = vec![(SHIFT_VARIABLE, clock.0.clone())];
    cluster.restart(NODE).await;
    cluster.reaches(NODE, 0).await;
    for ahead_ms in [HOUR_MS, -HOUR_MS] {
        works(&cluster, NODE, &format!("before {ahead_ms}")).await;
        clock.shift(ahead_ms);
        status_says(&cluster, true, ahead_ms).await;
        // What it took could not become final, so it takes nothing.
        let record = vec![submission(&format!("{ahead_ms}"), "refused")];
        let error = cluster.client(NODE, "broker").submit_records(record, true).await;
        let refused = error.expect_err("refused").refused().cloned().expect("by the node");
        assert_eq!((refused.code, &*refused.reason_code), (Code::Unavailable, "CLOCK"));
        let health = cluster.health(NODE).expect("served");
        assert_eq!(health.status, 503, "{}", health.text());
        assert_eq!(cluster.metric(NODE, "customhouse_clock_wrong"), 1);
        let dir = cluster.genesis_file().with_file_name("");
        let shown = program::run(["network", "status", "--dir", &*dir.to_string_lossy()]);
        assert!(shown.text().contains("CLOCK 3"), "{shown:?}");
        // The others go on without it, and nobody calls theirs wrong.
        for other in 0..NODE {
            works(&cluster, other, &format!("{other} during {ahead_ms}")).await;
            let status = cluster.status(other).await.expect("it runs");
            assert!(!status.clock_wrong, "{status:?}");
        }
        clock.shift(0);
        status_says(&cluster, false, 0).await;
        works(&cluster, NODE, &format!("after {ahead_ms}")).await;
    }
    let log = cluster.log(NODE);
    for said in ["clock is not that of the other agencies", "clock is right again"] {
        assert!(log.contains(said), "{said}: {log}");
    }
    let head = cluster.head(0).await;
    cluster.same_head(&[0, 1, 2, 3], head.height).await;
    cluster.nobody_lied();
}
