use v1::{sync_request::Request, sync_response::Response};

use super::*;
use crate::network::{DropReason, Reply, RequestError};

fn ask(from_height: u64) -> v1::SyncRequest {
    let blocks = v1::BlocksRequest { from_height, count_max: 1 };
    v1::SyncRequest { request: Some(Request::Blocks(blocks)) }
}

/// An answer whose encoding has a little more than this many bytes.
fn answer(bytes: usize) -> v1::SyncResponse {
    let certificates = v1::CertificateResponse { certificates: vec![vec![1; bytes]] };
    v1::SyncResponse { response: Some(Response::Certificate(certificates)) }
}

async fn next_request(node: &mut Node) -> (v1::SyncRequest, Reply) {
    node.expect("a request", |event| match event {
        NetworkEvent::Request { request, reply, .. } => Some((request, reply)),
        _ => None,
    })
    .await
}

/// Asks, answers with `response`, and gives what came of it.
async fn exchange(
    asking: &Node,
    answering: &mut Node,
    response: v1::SyncResponse,
) -> Result<v1::SyncResponse, RequestError> {
    let key = answering.key;
    let asked = asking.handle.request(key, ask(5));
    let answered = async {
        let (request, reply) = next_request(answering).await;
        assert_eq!(request, ask(5));
        reply.send(response);
    };
    within("an answer", futures::future::join(asked, answered)).await.0
}

#[tokio::test]
async fn a_request_is_answered_up_to_the_size_of_a_full_block() {
    let mut nodes = full_mesh(2, &Limits::default()).await;
    let [a, b] = &mut nodes[..] else { unreachable!("two nodes") };
    for bytes in [0, 1, 100_000, (8 << 20) + 100_000] {
        assert_eq!(exchange(a, b, answer(bytes)).await, Ok(answer(bytes)));
    }
}

#[tokio::test]
async fn an_oversize_answer_is_not_sent() {
    let mut nodes = full_mesh(2, &Limits::default()).await;
    let [a, b] = &mut nodes[..] else { unreachable!("two nodes") };
    assert_eq!(exchange(a, b, answer(9 << 20)).await, Err(RequestError::Refused));
    eventually("a count", || b.metrics().dropped(DropReason::Oversize) == 1).await;
    assert_eq!(exchange(a, b, answer(1)).await, Ok(answer(1)));
}

#[tokio::test]
async fn an_oversize_answer_is_not_read() {
    let mut b = Node::start(config(2, vec![peer(1, &[])])).await;
    let mut asking = config(1, vec![peer(2, b.addresses())]);
    asking.limits.response_bytes_max = 1000;
    let mut a = Node::start(asking).await;
    a.connected_to(public(2)).await;
    assert_eq!(exchange(&a, &mut b, answer(2000)).await, Err(RequestError::Oversize));
    assert_eq!(a.metrics().dropped(DropReason::Oversize), 1);
}

#[tokio::test]
async fn an_oversize_request_is_neither_sent_nor_read() {
    let mut node = Node::start(config(1, vec![peer(2, &[])])).await;
    let mut intruder = config(2, vec![peer(1, node.addresses())]);
    intruder.limits.request_bytes_max = 8 << 20;
    let intruder = Intruder::start(intruder).await;
    node.connected_to(public(2)).await;
    let large = v1::SyncRequest { request: Some(Request::Push(padded_vote(1, 3 << 20))) };
    intruder.order(Order::Request(public(1), Box::new(large.clone())));
    eventually("a count", || node.metrics().dropped(DropReason::Oversize) == 1).await;
    let refused = node.handle.request(public(2), large).await;
    assert_eq!(refused, Err(RequestError::Oversize));
}

#[tokio::test]
async fn a_request_without_an_answer_times_out_and_gives_its_place_back() {
    // The one that asks gives up first: otherwise the other's giving up is what it sees.
    let mut answering = config(2, vec![peer(1, &[])]);
    answering.limits.request_timeout = Duration::from_millis(900);
    let mut b = Node::start(answering).await;
    let mut asking = config(1, vec![peer(2, b.addresses())]);
    asking.limits.request_timeout = Duration::from_millis(300);
    asking.limits.requests_outbound_max = 1;
    let mut a = Node::start(asking).await;
    a.connected_to(public(2)).await;
    let unanswered = within("an error", a.handle.request(b.key, ask(1))).await;
    assert_eq!(unanswered, Err(RequestError::Timeout));
    let (_, reply) = next_request(&mut b).await;
    eventually("the end of it", || !reply.is_open()).await;
    reply.send(answer(1));
    within("an answer", async { while exchange_in_time(&a, &mut b).await.is_err() {} }).await;
}

/// An exchange that may come while the last one's place is just being given back.
async fn exchange_in_time(a: &Node, b: &mut Node) -> Result<v1::SyncResponse, RequestError> {
    let asked = a.handle.request(b.key, ask(2));
    let serve = async {
        loop {
            if let Some(NetworkEvent::Request { reply, .. }) = b.events.recv().await {
                reply.send(answer(1));
            }
        }
    };
    tokio::select! {
        outcome = asked => outcome,
        () = serve => unreachable!("serves for ever"),
    }
}

#[tokio::test]
async fn requests_beyond_a_peers_share_are_refused() {
    let mut b_config = config(2, vec![peer(1, &[])]);
    b_config.limits.requests_inbound_max = 2;
    let mut b = Node::start(b_config).await;
    let mut a_config = config(1, vec![peer(2, b.addresses())]);
    a_config.limits.requests_outbound_max = 20;
    let mut a = Node::start(a_config).await;
    a.connected_to(public(2)).await;

    let asked =
        futures::future::join_all((0..20).map(|height| a.handle.request(b.key, ask(height))));
    let answered = async {
        let replies = [next_request(&mut b).await.1, next_request(&mut b).await.1];
        eventually("18 refusals", || b.metrics().dropped(DropReason::RequestLimit) == 18).await;
        for reply in replies {
            reply.send(answer(1));
        }
    };
    let (outcomes, ()) = within("all outcomes", futures::future::join(asked, answered)).await;
    let answered = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    let refused = outcomes.iter().filter(|outcome| **outcome == Err(RequestError::Refused)).count();
    assert_eq!((answered, refused), (2, 18));
}

#[tokio::test]
async fn a_request_that_the_node_drops_is_refused() {
    let mut nodes = full_mesh(2, &Limits::default()).await;
    let [a, b] = &mut nodes[..] else { unreachable!("two nodes") };
    let key = b.key;
    let dropped = async { drop(next_request(b).await) };
    let asked = futures::future::join(a.handle.request(key, ask(1)), dropped);
    assert_eq!(within("an error", asked).await.0, Err(RequestError::Refused));
}

#[tokio::test]
async fn whom_this_node_cannot_ask_is_said_at_once() {
    let node = Node::start(config(1, vec![peer(2, &[])])).await;
    let outcome = node.handle.request(public(2), ask(1)).await;
    assert_eq!(outcome, Err(RequestError::NotConnected));
    let outcome = node.handle.request(public(3), ask(1)).await;
    assert_eq!(outcome, Err(RequestError::UnknownPeer));
    node.handle.push(public(2), vote(1));
    eventually("a count", || node.metrics().dropped(DropReason::NoPeers) == 1).await;
}

#[tokio::test]
async fn pushes_reach_the_one_peer_however_many_and_however_often_the_same() {
    let mut nodes = full_mesh(3, &Limits::default()).await;
    let [a, b, c] = &mut nodes[..] else { unreachable!("three nodes") };
    for _ in 0..2 {
        for height in 0..50 {
            a.handle.push(b.key, vote(height));
        }
    }
    let mut counts = [0; 50];
    b.expect("100 pushes", |event| {
        if let NetworkEvent::Pushed { from, message, .. } = event {
            assert_eq!(from, public(1));
            counts[height_of(&message) as usize] += 1;
        }
        (counts.iter().sum::<u32>() == 100).then_some(())
    })
    .await;
    assert_eq!(counts, [2; 50]);
    a.handle.push(c.key, vote(99));
    let height = c
        .expect("its push", |event| match event {
            NetworkEvent::Pushed { message, .. } => Some(height_of(&message)),
            _ => None,
        })
        .await;
    assert_eq!(height, 99);
}
