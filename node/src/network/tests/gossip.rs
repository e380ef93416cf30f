use std::{collections::BTreeSet, time::Instant};

use bytes::Bytes;
use prost::Message as _;

use super::*;
use crate::network::{
    DropReason, PendingJudgement,
    gossip::{HEARTBEAT, Topics},
};

/// Waits for a vote by gossip; gives its height and leaves it unjudged.
async fn next_vote(node: &mut Node) -> (u64, PendingJudgement) {
    node.expect("a vote", |event| match event {
        NetworkEvent::Consensus { message, judgement, .. } => {
            Some((height_of(&message), judgement))
        }
        _ => None,
    })
    .await
}

#[tokio::test]
async fn a_consensus_message_reaches_every_node_exactly_once() {
    let mut nodes = full_mesh(4, &Limits::default()).await;
    for height in 0..50 {
        nodes[height as usize % 4].handle.publish_consensus(vec![vote(height)]);
    }
    // Every node accepts, and so passes on, all votes of the others: 50 less its own 13 or 12.
    let mut counts = vec![[0u32; 50]; 4];
    for (index, (node, counts)) in nodes.iter_mut().zip(&mut counts).enumerate() {
        let foreign = if index < 2 { 37 } else { 38 };
        node.expect("all votes", |event| {
            if let NetworkEvent::Consensus { message, judgement, .. } = event {
                counts[height_of(&message) as usize] += 1;
                judgement.accept();
            }
            (counts.iter().sum::<u32>() == foreign).then_some(())
        })
        .await;
    }
    // Votes after which a second copy of an earlier one would have come too.
    for (index, node) in nodes.iter().enumerate() {
        node.handle.publish_consensus(vec![vote(100 + index as u64)]);
    }
    for (index, (node, counts)) in nodes.iter_mut().zip(&mut counts).enumerate() {
        let mut fences = 0;
        node.expect("the last votes", |event| {
            if let NetworkEvent::Consensus { message, judgement, .. } = event {
                match height_of(&message) {
                    height @ 0..50 => counts[height as usize] += 1,
                    _ => fences += 1,
                }
                judgement.accept();
            }
            (fences == 3).then_some(())
        })
        .await;
        for (height, count) in counts.iter().enumerate() {
            let own = height % 4 == index;
            assert_eq!(*count, u32::from(!own), "vote {height} at node {index}");
        }
    }
}

fn together(messages: impl Into<Vec<v1::ConsensusMessage>>) -> Vec<u8> {
    v1::ConsensusBatch { messages: messages.into() }.encode_to_vec()
}

#[tokio::test]
async fn what_is_published_at_once_travels_together_as_far_as_it_fits() {
    let limits = Limits { gossip_bytes_max: 100_000, ..Limits::default() };
    let mut nodes = full_mesh(2, &limits).await;
    let [a, b] = &mut nodes[..] else { unreachable!("two nodes") };
    for (heights, size, batches) in [(0..3, 64, 1), (3..103, 64, 2), (103..106, 60_000, 3)] {
        let before = a.metrics().messages_out("consensus");
        let votes = heights.clone().map(|height| padded_vote(height, size));
        a.handle.publish_consensus(votes.collect());
        for height in heights {
            b.receives(height).await;
        }
        assert_eq!(a.metrics().messages_out("consensus"), before + batches);
    }
    // What has just come from a peer stays out.
    a.handle.publish_consensus(vec![vote(200)]);
    b.receives(200).await;
    b.handle.publish_consensus(vec![vote(200), vote(201)]);
    assert_eq!(next_vote(a).await.0, 201);
}

#[tokio::test]
async fn of_what_travelled_together_what_is_accepted_is_passed_on_whatever_else_is_wrong() {
    // The first and last are connected by way of the middle one alone.
    let mut middle = Node::start(config(2, vec![peer(1, &[]), peer(3, &[])])).await;
    let mut first = Node::start(config(1, vec![peer(2, middle.addresses())])).await;
    let mut last = Node::start(config(3, vec![peer(2, middle.addresses())])).await;
    for _ in 0..2 {
        middle.expect("both", |e| matches!(e, NetworkEvent::Connected(_)).then_some(())).await;
    }
    first.connected_to(public(2)).await;
    last.connected_to(public(2)).await;
    let judge: [fn(PendingJudgement); 3] =
        [PendingJudgement::accept, PendingJudgement::ignore, |judgement| judgement.reject("wrong")];
    for (base, judgements) in [(10, [0, 2]), (20, [2, 1]), (30, [1, 1]), (40, [1, 0]), (50, [0, 0])]
    {
        first.handle.publish_consensus(vec![vote(base), vote(base + 1)]);
        for (height, how) in (base..).zip(judgements) {
            let (found, judgement) = next_vote(&mut middle).await;
            assert_eq!(found, height);
            judge[how](judgement);
        }
    }
    for height in [10, 41, 50, 51] {
        assert_eq!(next_vote(&mut last).await.0, height);
    }
    assert_eq!(middle.metrics().dropped(DropReason::Rejected), 2);
}

#[tokio::test]
async fn a_message_that_is_published_again_arrives_again() {
    let mut nodes = full_mesh(2, &Limits::default()).await;
    let [a, b] = &mut nodes[..] else { unreachable!("two nodes") };
    a.handle.publish_consensus(vec![vote(1)]);
    b.receives(1).await;
    for _ in 0..2 {
        // Not for a moment after it was accepted; then by gossip too.
        within("the same again", async {
            loop {
                a.handle.publish_consensus(vec![vote(1)]);
                let wait = Duration::from_millis(100);
                let event = tokio::time::timeout(wait, b.events.recv()).await;
                if let Ok(Some(NetworkEvent::Consensus { judgement, .. })) = event {
                    return judgement.accept();
                }
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_message_that_is_published_again_reaches_every_peer_beside_gossip() {
    let mut nodes = full_mesh(3, &Limits::default()).await;
    nodes[0].handle.publish_consensus(vec![vote(1)]);
    nodes[0].handle.publish_consensus(vec![vote(1)]);
    for node in &mut nodes[1..] {
        let pushed = node.expect("a push", |event| match event {
            NetworkEvent::Pushed { message, .. } => Some(height_of(&message)),
            _ => None,
        });
        assert_eq!(pushed.await, 1);
    }
}

#[tokio::test]
async fn a_message_that_has_just_come_from_a_peer_is_not_published_a_second_time() {
    let mut nodes = full_mesh(2, &Limits::default()).await;
    let [a, b] = &mut nodes[..] else { unreachable!("two nodes") };
    a.handle.publish_consensus(vec![vote(1)]);
    b.receives(1).await;
    b.handle.publish_consensus(vec![vote(1)]);
    b.handle.publish_consensus(vec![vote(2)]);
    let (height, _receipt) = next_vote(a).await;
    assert_eq!(height, 2);
}

/// One node publishes votes; all others read them, in any order, and pass none on.
async fn publishes_to_all(nodes: &mut [Node], publisher: usize, heights: std::ops::Range<u64>) {
    for height in heights.clone() {
        nodes[publisher].handle.publish_consensus(vec![vote(height)]);
    }
    let others = nodes.iter_mut().enumerate().filter(|(index, _)| *index != publisher);
    for (_, node) in others {
        let mut missing: BTreeSet<u64> = heights.clone().collect();
        node.expect("all votes", |event| {
            if let NetworkEvent::Consensus { message, .. } = event {
                missing.remove(&height_of(&message));
            }
            missing.is_empty().then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn an_offer_of_very_many_messages_does_not_end_the_stream_to_a_peer_outside_the_mesh() {
    // Each has three peers and asks one of them into its mesh: at most four of the six pairs are
    // mesh peers. To the others a node offers what it has published, at every heartbeat. Nothing is
    // passed on, so that only the stream from the publisher itself counts.
    let mut nodes = full_mesh(4, &Limits::default()).await;
    let (mut height, mut end, each) = (0, None, 50);
    while end.is_none_or(|end| Instant::now() < end) {
        for publisher in 0..nodes.len() {
            publishes_to_all(&mut nodes, publisher, height..height + each).await;
            height += each;
        }
        if height > 10_000 {
            end.get_or_insert(Instant::now() + 3 * HEARTBEAT);
        }
    }
}

#[tokio::test]
async fn a_peer_that_takes_no_gossip_any_more_is_connected_to_anew() {
    let limits = Limits { gossip_stuck: Duration::from_secs(2), ..Limits::default() };
    let first = config(1, vec![peer(2, &[])]);
    let mut a = Node::start(NetworkConfig { limits, ..first }).await;
    // Ends the stream at every message that is larger than its own limit.
    let limits = Limits { gossip_bytes_max: 1000, ..Limits::default() };
    let second = config(2, vec![peer(1, a.addresses())]);
    let mut b = Node::start(NetworkConfig { limits, ..second }).await;
    a.connected_to(public(2)).await;
    b.connected_to(public(1)).await;
    let mut height = 0;
    within("a new connection", async {
        while a.metrics().dropped(DropReason::StuckConnection) == 0 {
            a.handle.publish_consensus(vec![padded_vote(height, 50_000)]);
            height += 1;
            tokio::task::yield_now().await;
        }
    })
    .await;
    a.disconnected_from(public(2)).await;
    a.connected_to(public(2)).await;
    a.handle.publish_consensus(vec![vote(u64::MAX)]);
    b.receives(u64::MAX).await;
}

#[tokio::test]
async fn only_what_a_node_accepts_is_passed_on() {
    let mut middle = Node::start(config(2, vec![peer(1, &[]), peer(3, &[])])).await;
    let mut first = Node::start(config(1, vec![peer(2, middle.addresses())])).await;
    let mut last = Node::start(config(3, vec![peer(2, middle.addresses())])).await;
    first.connected_to(public(2)).await;
    last.connected_to(public(2)).await;
    eventually("both ends", || middle.handle.connected().borrow().len() == 2).await;

    // Unjudged: what the middle publishes after it overtakes it.
    first.handle.publish_consensus(vec![vote(1)]);
    let (height, judgement) = next_vote(&mut middle).await;
    assert_eq!(height, 1);
    middle.handle.publish_consensus(vec![vote(10)]);
    let (height, fence) = next_vote(&mut last).await;
    fence.accept();
    assert_eq!(height, 10);
    judgement.accept();
    let (height, _) = next_vote(&mut last).await;
    assert_eq!(height, 1);

    // Ignored, rejected, dropped: judgements are carried out in order, so the fifth would come last.
    for height in 2..=5 {
        first.handle.publish_consensus(vec![vote(height)]);
        let (received, judgement) = next_vote(&mut middle).await;
        assert_eq!(received, height);
        match height {
            2 => judgement.ignore(),
            3 => judgement.reject("wrong"),
            4 => drop(judgement),
            _ => judgement.accept(),
        }
    }
    let (height, _) = next_vote(&mut last).await;
    assert_eq!(height, 5);
    assert_eq!(middle.metrics().dropped(DropReason::Rejected), 1);
}

#[tokio::test]
async fn of_a_large_transaction_peers_are_told_and_its_bytes_stay() {
    let limits = Limits::default();
    let mut nodes = full_mesh(3, &limits).await;
    let of = |bytes: usize| {
        let (header, signature) = (vec![7; 124].into(), vec![8; 64].into());
        let records = vec![Bytes::from(vec![9; bytes])];
        v1::Transaction { header, signature, slots: Vec::new(), records }
    };
    let (small, large) = (of(1000), of(limits.gossiped_transaction_bytes_max));
    for transaction in [&large, &small] {
        nodes[0].handle.publish_transaction(transaction.encode_to_vec().into());
    }
    for node in &mut nodes[1..] {
        let (mut told, mut whole) = (0, 0);
        node.expect("both", |event| {
            match event {
                NetworkEvent::Transactions { transactions, judgement, .. } => {
                    assert_eq!(transactions, [small.encode_to_vec()]);
                    whole += 1;
                    judgement.accept();
                }
                NetworkEvent::Announced { announced, judgement, .. } => {
                    assert_eq!(announced.header, large.header);
                    assert_eq!(announced.signature, large.signature);
                    assert_eq!(announced.bytes as usize, large.encoded_len());
                    told += 1;
                    judgement.accept();
                }
                _ => {}
            }
            (told >= 1 && whole >= 1).then_some(())
        })
        .await;
    }
    let bytes = nodes[1].metrics().bytes_in("transactions");
    assert!(bytes < 100_000, "{bytes} bytes of gossip");
}

#[tokio::test]
async fn transactions_reach_every_node_and_travel_together_under_load() {
    let mut nodes = full_mesh(4, &Limits::default()).await;
    let total = 10_000usize;
    let start = Instant::now();
    for index in 0..total {
        let mut transaction = vec![0; 500];
        transaction[..8].copy_from_slice(&(index as u64).to_be_bytes());
        nodes[0].handle.publish_transaction(Bytes::from(transaction));
    }
    for node in &mut nodes[1..] {
        let mut seen = vec![0u8; total];
        let mut count = 0;
        node.expect("all transactions", |event| {
            if let NetworkEvent::Transactions { transactions, judgement, .. } = event {
                for transaction in transactions {
                    let index = u64::from_be_bytes(transaction[..8].try_into().expect("8 bytes"));
                    seen[index as usize] += 1;
                    count += 1;
                }
                judgement.accept();
            }
            (count >= total).then_some(())
        })
        .await;
        assert!(seen.iter().all(|count| *count == 1));
    }
    let rate = total as f64 / start.elapsed().as_secs_f64();
    eprintln!("gossip among four nodes: {rate:.0} transactions of 500 bytes a second");
    let batches = nodes[0].metrics().messages_out("transactions");
    assert!(batches < 300, "{batches} messages for {total} transactions");
}

#[tokio::test]
async fn what_the_node_does_not_take_up_is_dropped_and_counted_and_later_messages_pass() {
    let limits = Limits { unjudged_bytes_max: 16 * 4096, ..Limits::default() };
    let mut nodes = full_mesh(2, &limits).await;
    let [a, b] = &mut nodes[..] else { unreachable!("two nodes") };
    for height in 0..100 {
        a.handle.publish_consensus(vec![vote(height)]);
    }
    eventually("84 drops", || b.metrics().dropped(DropReason::ConsumerBehind) == 84).await;
    let mut held = Vec::new();
    for _ in 0..16 {
        held.push(next_vote(b).await.1);
    }
    a.handle.publish_consensus(vec![vote(200)]);
    eventually("another drop", || b.metrics().dropped(DropReason::ConsumerBehind) == 85).await;
    drop(held);
    // The judgements are on their way: send until there is room again.
    within("a vote that passes", async {
        for height in 300.. {
            a.handle.publish_consensus(vec![vote(height)]);
            let wait = std::time::Duration::from_millis(100);
            if tokio::time::timeout(wait, b.events.recv()).await.is_ok() {
                return;
            }
        }
    })
    .await;
}

/// A node with key 1 and an intruder with key 2 that may send more than the node takes.
async fn node_and_intruder(limits: Limits) -> (Node, Intruder) {
    let mut node = Node::start(NetworkConfig { limits, ..config(1, vec![peer(2, &[])]) }).await;
    let mut intruder = config(2, vec![peer(1, node.addresses())]);
    intruder.limits.gossip_bytes_max = 8 << 20;
    intruder.limits.request_bytes_max = 8 << 20;
    let intruder = Intruder::start(intruder).await;
    node.connected_to(public(2)).await;
    (node, intruder)
}

#[tokio::test]
async fn a_peer_that_gossips_garbage_is_counted_and_cut_off() {
    let limits = Limits { faults_max: 3, ..Limits::default() };
    let topics = Topics::new(&CHAIN);
    let empty_fields = [0x0a, 0].repeat(limits.batch_transactions_max + 1);
    for (topic, garbage, reason) in [
        (&topics.consensus, vec![0xff; 40], DropReason::Undecodable),
        (&topics.transactions, vec![0xff; 40], DropReason::Undecodable),
        (&topics.transactions, empty_fields, DropReason::Undecodable),
        (&topics.consensus, together([padded_vote(1, 3 << 20)]), DropReason::Oversize),
        (&topics.consensus, together([(); 65].map(|()| vote(1))), DropReason::Undecodable),
    ] {
        let (mut node, intruder) = node_and_intruder(limits.clone()).await;
        for index in 1..=3u64 {
            // Distinct content: the same would be one message.
            let mut garbage = garbage.clone();
            garbage.extend_from_slice(&[0x78, index as u8]);
            intruder.order(Order::Gossip(topic.clone(), garbage));
        }
        node.disconnected_from(public(2)).await;
        assert_eq!(node.metrics().dropped(reason), 3, "{reason:?}");
        assert_eq!(node.metrics().dropped(DropReason::CutOff), 1);
    }
}

#[tokio::test]
async fn a_cut_off_peer_is_refused_and_let_in_again_when_its_time_is_over() {
    let limits =
        Limits { faults_max: 1, cut_off: std::time::Duration::from_secs(1), ..Limits::default() };
    let mut node = Node::start(NetworkConfig { limits, ..config(1, vec![peer(2, &[])]) }).await;
    let mut other = Node::start(config(2, vec![peer(1, node.addresses())])).await;
    node.connected_to(public(2)).await;
    other.connected_to(public(1)).await;
    other.handle.publish_consensus(vec![vote(1)]);
    next_vote(&mut node).await.1.reject("wrong");
    node.disconnected_from(public(2)).await;
    eventually("a refusal", || node.metrics().dropped(DropReason::UnlistedPeer) > 0).await;
    node.connected_to(public(2)).await;
    other.disconnected_from(public(1)).await;
    other.connected_to(public(1)).await;
    other.handle.publish_consensus(vec![vote(2)]);
    node.receives(2).await;
}

#[tokio::test]
async fn a_message_of_a_kind_that_is_not_known_yet_is_no_fault() {
    let limits = Limits { faults_max: 1, ..Limits::default() };
    let (mut node, intruder) = node_and_intruder(limits).await;
    // Field 9, which no message has, in a batch and beside a message.
    let newer = v1::ConsensusMessage::decode(&[0x4a, 1, 0][..]).expect("a message");
    let topic = Topics::new(&CHAIN).consensus;
    intruder.order(Order::Gossip(topic.clone(), together([newer.clone()])));
    intruder.order(Order::Gossip(topic, together([newer, vote(5)])));
    node.receives(5).await;
    assert_eq!(node.metrics().dropped(DropReason::UnknownKind), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn latency_of_a_message_between_two_nodes_is_printed() {
    let mut nodes = full_mesh(4, &Limits::default()).await;
    let (first, others) = nodes.split_first_mut().expect("four nodes");
    let mut micros = Vec::new();
    for height in 0..200 {
        let start = Instant::now();
        first.handle.publish_consensus(vec![vote(height)]);
        others[0].receives(height).await;
        micros.push(start.elapsed().as_micros());
        for other in &mut others[1..] {
            other.receives(height).await;
        }
    }
    micros.sort_unstable();
    eprintln!("gossip, one hop: p50 {} µs, p99 {} µs", micros[100], micros[198]);
    let mut micros = Vec::new();
    let target = others[0].key;
    for height in 0..200 {
        let start = Instant::now();
        first.handle.push(target, vote(height));
        others[0]
            .expect("a push", |event| matches!(event, NetworkEvent::Pushed { .. }).then_some(()))
            .await;
        micros.push(start.elapsed().as_micros());
    }
    micros.sort_unstable();
    eprintln!("push: p50 {} µs, p99 {} µs", micros[100], micros[198]);
}
