//! A node whose signing key is exchanged while something waits.

use super::*;

/// Four agencies, of which only the first has a node that runs: what it accepts waits.
async fn alone_with_two_keys() -> Network {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = folder.path().join("0.journal");
    SignerJournal::create(&journal, &key(1, 0).public()).expect("created");
    let second = Entry::SigningKey(SigningKeyEntry {
        agency: code(0).to_string(),
        public_key: key(4, 0).public().as_bytes().to_vec(),
        role: Role::Node as i32,
        ..Default::default()
    });
    let second = v1::RegistryEntry { entry: Some(second), ..Default::default() };
    let entries = genesis(4).registry.entries().cloned().chain([second]).collect();
    let genesis = Genesis::new("test".into(), 1, 10, entries).expect("valid");
    let nodes = (0..4).map(|_| None).collect();
    let mut network = Network { folder, genesis, addresses: Vec::new(), nodes };
    network.start_signing(0, 3).await;
    network
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_is_known_after_the_signing_key_was_exchanged() {
    let mut network = alone_with_two_keys().await;
    let first = network.submit(0, 7).await;
    assert_eq!(network.submit(0, 7).await, first);
    // The same key after a restart, and then the other.
    for purpose in [3, 4] {
        network.stop_node(0).await;
        network.start_signing(0, purpose).await;
        assert_eq!(network.submit_as(0, 7, "MRN7").await, Ok(first), "key {purpose}");
        let other = network.submit_as(0, 7, "ANOTHER").await.expect_err("another body");
        assert!(matches!(other, SubmissionRefusal::AlreadyExists { first: of, .. } if of == first));
    }
    network.stop().await;
}
