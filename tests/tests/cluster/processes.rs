//! A node among what its process may meet: a log that cannot be written, few descriptors and many
//! strangers.

use customhouse_tests::{
    cluster::Cluster,
    load::Acknowledged,
    node_process::StandardError,
    records::submission,
    wait::{PATIENCE, until},
};

/// Records that are submitted to a node to see that it works.
const RECORDS: usize = 40;

/// Submits records to one node, one after the other, and waits until each is final.
async fn works(cluster: &Cluster, node: usize, case: &str) {
    let client = cluster.client(node, "broker");
    for number in 0..RECORDS {
        let record = submission(&format!("{case}/{number}"), case);
        until("the node takes a record, and it becomes final", PATIENCE, async || {
            let results = client.submit_records(vec![record.clone()], true).await;
            let results = results.map_err(|error| error.to_string())?;
            let acknowledged = Acknowledged::read(&results[0]).and_then(|taken| taken.place);
            acknowledged.map(|_| ()).ok_or_else(|| format!("{results:?}"))
        })
        .await;
    }
}

async fn lines_are_lost(cluster: &Cluster, node: usize) {
    until("lines of the log are lost", PATIENCE, async || {
        match cluster.metric(node, "customhouse_log_lines_lost_total") {
            0 => Err("none".to_owned()),
            _ => Ok(()),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_log_cannot_be_written_works_on_and_counts_the_lines() {
    let mut cluster = Cluster::start(4).await;
    // So that a pipe is full within a moment.
    cluster.log_filter(2, "trace");
    for (standard_error, leaves) in
        [(StandardError::Full, false), (StandardError::Pipe, false), (StandardError::Pipe, true)]
    {
        let case = format!("{standard_error:?}/{leaves}");
        assert!(cluster.terminate(2).await.success(), "{case}");
        cluster.surroundings(2).standard_error = standard_error;
        cluster.restart(2).await;
        cluster.reaches(2, 0).await;
        if leaves {
            cluster.hang_up(2);
        }
        works(&cluster, 2, &case).await;
        lines_are_lost(&cluster, 2).await;
        works(&cluster, 2, &format!("{case}/then")).await;
        let health = cluster.health(2).expect("served");
        assert_eq!(health.status, 200, "{case}: {}", health.text());
    }
    // It ends as it should, though its last words are not heard.
    assert!(cluster.terminate(2).await.success());
    cluster.same_head(&[0, 1, 3], 1).await;
}
