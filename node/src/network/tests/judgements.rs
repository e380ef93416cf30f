//! Faults find whoever sent what was wrong, by whichever way, and nobody passes on what was not judged.

use prost::{Message as _, encoding};

use super::*;
use crate::network::{
    DropReason,
    gossip::{JUST_ACCEPTED, Topics},
};

const FAULTS_MAX: u32 = 4;

/// Two nodes; the first cuts the second off after four faults.
async fn two_nodes() -> (Node, Node) {
    let limits = Limits { faults_max: FAULTS_MAX, ..Limits::default() };
    let node = NetworkConfig { limits, ..config(1, vec![peer(2, &[])]) };
    let mut node = Node::start(node).await;
    let mut other = Node::start(config(2, vec![peer(1, node.addresses())])).await;
    node.connected_to(public(2)).await;
    other.connected_to(public(1)).await;
    (node, other)
}

#[tokio::test]
async fn who_pushes_what_is_wrong_is_cut_off_and_who_pushes_what_is_of_no_use_is_not() {
    let (mut node, other) = two_nodes().await;
    let pushed = async |node: &mut Node, height| {
        other.handle.push(public(1), vote(height));
        node.expect("a push", |event| match event {
            NetworkEvent::Pushed { judgement, .. } => Some(judgement),
            _ => None,
        })
        .await
    };
    for height in 0..3 * u64::from(FAULTS_MAX) {
        match height % 3 {
            0 => pushed(&mut node, height).await.accept(),
            1 => pushed(&mut node, height).await.ignore(),
            _ => drop(pushed(&mut node, height).await),
        }
    }
    for height in 0..u64::from(FAULTS_MAX) {
        assert_eq!(node.metrics().dropped(DropReason::Rejected), height);
        pushed(&mut node, height).await.reject("wrong");
        eventually("a fault", || node.metrics().dropped(DropReason::Rejected) > height).await;
    }
    node.disconnected_from(public(2)).await;
    assert_eq!(node.metrics().dropped(DropReason::CutOff), 1);
}

#[tokio::test]
async fn who_answers_what_is_wrong_is_cut_off_and_nobody_else() {
    let (mut node, mut other) = two_nodes().await;
    node.handle.list(vec![peer(2, &[]), peer(3, &[])]);
    let _third = Node::start(config(3, vec![peer(1, node.addresses())])).await;
    node.connected_to(public(3)).await;
    for _ in 1..FAULTS_MAX {
        node.handle.charge(public(2), "wrong");
    }
    // Nobody has such a key.
    node.handle.charge(public(9), "wrong");
    node.handle.charge(public(2), "wrong");
    node.disconnected_from(public(2)).await;
    other.disconnected_from(public(1)).await;
    let connected = node.handle.connected().borrow().clone();
    assert_eq!(connected.iter().map(|peer| peer.key).collect::<Vec<_>>(), [public(3)]);
    assert_eq!(node.metrics().dropped(DropReason::CutOff), 1);
}

/// A liar, and a last node that is connected by way of the middle one alone.
async fn in_a_row() -> (Intruder, Node, Node) {
    let mut middle = Node::start(config(2, vec![peer(1, &[]), peer(3, &[])])).await;
    let mut last = Node::start(config(3, vec![peer(2, middle.addresses())])).await;
    last.connected_to(public(2)).await;
    let first = Intruder::start(config(1, vec![peer(2, middle.addresses())])).await;
    for _ in 0..2 {
        middle.expect("both", |e| matches!(e, NetworkEvent::Connected(_)).then_some(())).await;
    }
    (first, middle, last)
}

/// The messages of the next batch that a node hears.
async fn next_batch(node: &mut Node) -> u64 {
    node.expect("a vote", |event| match event {
        NetworkEvent::Consensus { message, .. } => Some(height_of(&message)),
        _ => None,
    })
    .await
}

#[tokio::test]
async fn only_the_messages_themselves_are_passed_on_of_a_batch_with_more_in_it() {
    let (first, mut middle, mut last) = in_a_row().await;
    let topic = Topics::new(&CHAIN).consensus;
    let batch = |height| v1::ConsensusBatch { messages: vec![vote(height)] }.encode_to_vec();
    // A field that nobody knows, of a thousand bytes: in the batch, in its message, as a message of a
    // kind that this version does not know.
    let mut beside = batch(1);
    encoding::bytes::encode(9, &vec![7; 1000], &mut beside);
    let mut inside = vote(2).encode_to_vec();
    encoding::bytes::encode(9, &vec![7; 1000], &mut inside);
    let mut batch_inside = Vec::new();
    encoding::bytes::encode(1, &inside, &mut batch_inside);
    let mut unknown = Vec::new();
    encoding::bytes::encode(9, &vec![7; 1000], &mut unknown);
    let mut with_unknown = batch(3);
    encoding::bytes::encode(1, &unknown, &mut with_unknown);
    for (height, data) in (1..).zip([beside, batch_inside, with_unknown]) {
        first.order(Order::Gossip(topic.clone(), data));
        middle.receives(height).await;
        assert_eq!(next_batch(&mut last).await, height);
    }
    let bytes = last.metrics().bytes_in("consensus");
    assert!(bytes < 1000, "{bytes} bytes of three votes were passed on");
}

#[tokio::test]
async fn what_was_pushed_goes_no_further() {
    let (first, mut middle, mut last) = in_a_row().await;
    let request = v1::sync_request::Request::Push(vote(1));
    let request = v1::SyncRequest { request: Some(request) };
    first.order(Order::Request(public(2), Box::new(request)));
    let judgement = middle.expect("a push", |event| match event {
        NetworkEvent::Pushed { judgement, .. } => Some(judgement),
        _ => None,
    });
    judgement.await.accept();
    let topic = Topics::new(&CHAIN).consensus;
    let batch = v1::ConsensusBatch { messages: vec![vote(2)] }.encode_to_vec();
    first.order(Order::Gossip(topic, batch));
    middle.receives(2).await;
    assert_eq!(next_batch(&mut last).await, 2);
}

#[tokio::test]
async fn a_message_that_comes_again_in_other_batches_is_neither_judged_nor_passed_on_again() {
    let (first, mut middle, mut last) = in_a_row().await;
    let topic = Topics::new(&CHAIN).consensus;
    let gossip = |messages: Vec<v1::ConsensusMessage>, mark: u64| {
        let mut data = v1::ConsensusBatch { messages }.encode_to_vec();
        encoding::uint64::encode(15, &mark, &mut data);
        first.order(Order::Gossip(topic.clone(), data));
    };
    gossip(vec![vote(1)], 0);
    middle.receives(1).await;
    assert_eq!(next_batch(&mut last).await, 1);
    // The same message under other marks and in other company, as fast as they come.
    for mark in 1..50 {
        gossip(vec![vote(1); 3], mark);
    }
    gossip(vec![vote(1), vote(2), vote(1), vote(2)], 50);
    let mut heard = Vec::new();
    middle
        .expect("the second", |event| {
            let NetworkEvent::Consensus { message, judgement, .. } = event else { return None };
            heard.push(height_of(&message));
            judgement.accept();
            (heard.last() == Some(&2)).then_some(())
        })
        .await;
    assert_eq!(heard, [2], "nothing is judged twice");
    assert_eq!(next_batch(&mut last).await, 2);
    let sent = middle.metrics().messages_out("consensus");
    assert_eq!(sent, 1, "the second alone");
}

#[tokio::test]
async fn what_is_sent_again_a_second_later_is_heard_and_passed_on_again() {
    let (first, mut middle, mut last) = in_a_row().await;
    let topic = Topics::new(&CHAIN).consensus;
    let began = tokio::time::Instant::now();
    let (mut mark, mut passed_on) = (0, 0);
    while passed_on < 2 {
        let mut data = v1::ConsensusBatch { messages: vec![vote(1)] }.encode_to_vec();
        encoding::uint64::encode(15, &mark, &mut data);
        mark += 1;
        first.order(Order::Gossip(topic.clone(), data));
        let wait = Duration::from_millis(50);
        while let Ok(Some(event)) = tokio::time::timeout(wait, middle.events.recv()).await {
            if let NetworkEvent::Consensus { judgement, .. } = event {
                judgement.accept();
            }
        }
        while let Ok(Some(event)) = tokio::time::timeout(wait, last.events.recv()).await {
            if let NetworkEvent::Consensus { .. } = event {
                passed_on += 1;
            }
        }
        assert!(began.elapsed() < DEADLINE, "{passed_on} of {mark} were passed on");
    }
    assert!(began.elapsed() >= JUST_ACCEPTED, "and not at once");
}
