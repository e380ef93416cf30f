use futures::FutureExt as _;

use super::{bytes::UNIT, *};

fn client(name: &str, role: Role) -> ClientIdentity {
    let agency = "NL-DOUANE".parse().expect("a code");
    ClientIdentity { agency, name: name.into(), role, certificate: [0; 32] }
}

#[tokio::test]
async fn one_client_s_calls_do_not_take_another_s() {
    let quotas = Quotas::new(1024, 1024);
    let of = |name, role| quotas.share(&client(name, role));
    let (a, b) = (of("a", Role::Broker), of("b", Role::Broker));
    let mut held = Vec::new();
    for _ in 0..Class::Stream.share().0 {
        held.push(a.place(Class::Stream).await.expect("a place"));
    }
    // Of the same name, and another certificate.
    let officer = of("a", Role::Officer);
    for other in [&b, &officer] {
        other.place(Class::Stream).await.expect("its own");
    }
    a.place(Class::Submit).await.expect("of another class");
    let mut waiting = Box::pin(a.place(Class::Stream));
    assert!(futures::poll!(&mut waiting).is_pending(), "its share is taken");
    held.pop();
    waiting.await.expect("given back");
}

#[tokio::test]
async fn operators_have_room_whatever_the_others_hold() {
    let quotas = Quotas::new(4, 1024);
    let mut held = Vec::new();
    for number in 0..4 {
        let member = quotas.share(&client(&number.to_string(), Role::Auditor));
        held.push(member.place(Class::Read).await.expect("a place"));
        // Larger than a share is all of it.
        let bytes = member.answer(HELD_ANSWER_BYTES_MAX * WHOLE_SHARES).await.expect("its share");
        assert_eq!(bytes.bytes(), HELD_ANSWER_BYTES_MAX);
        std::mem::forget(bytes);
    }
    let fifth = quotas.share(&client("5", Role::Auditor));
    let mut waiting = Box::pin(fifth.place(Class::Read));
    assert!(futures::poll!(&mut waiting).is_pending(), "all calls are taken");
    let mut waiting = Box::pin(fifth.answer(bytes::FEW_BYTES + 1));
    assert!(futures::poll!(&mut waiting).is_pending(), "all bytes are taken");
    // A small answer needs none of them.
    let few = fifth.answer(bytes::FEW_BYTES).now_or_never().expect("at once").expect("room");
    let again = fifth.answer(bytes::LEAST_BYTES - bytes::FEW_BYTES).now_or_never();
    let mut again = again.expect("at once").expect("room");
    let mut waiting = Box::pin(fifth.answer(UNIT));
    assert!(futures::poll!(&mut waiting).is_pending(), "there are only so many of these");
    again.shrink(again.bytes() - UNIT);
    waiting.await.expect("given back");
    drop(few);
    let operator = quotas.share(&client("ops", Role::Operator));
    operator.place(Class::Status).await.expect("a place");
    operator.answer(HELD_ANSWER_BYTES_MAX).await.expect("bytes");
}

#[tokio::test]
async fn messages_that_are_announced_and_do_not_come_take_nothing_from_the_others() {
    let quotas = Quotas::new(1024, 1024);
    let announced = (HELD_REQUEST_BYTES_MAX / 2, bytes::FEW_BYTES);
    let mut announcing = Vec::new();
    for number in 0..2 * WHOLE_SHARES {
        let greedy = quotas.share(&client(&number.to_string(), Role::Broker));
        for _ in 0..2 {
            let place = greedy.place(Class::Submit).await.expect("a place");
            let held = place.clone().hold_request(0, announced, false).now_or_never();
            held.expect("at once").expect("room");
            announcing.push(place);
        }
    }
    // One that comes has its room.
    let share = quotas.share(&client("honest", Role::Broker));
    let place = share.place(Class::Submit).await.expect("a place");
    let few = place.clone().hold_request(0, (announced.0, UNIT), false).now_or_never();
    few.expect("at once").expect("room");
    for _ in 0..HELD_REQUEST_BYTES_MAX / 2 / bytes::FEW_BYTES {
        let more = place.clone().hold_more(0, bytes::FEW_BYTES, false).now_or_never();
        more.expect("at once").expect("room");
    }
}

#[tokio::test]
async fn messages_that_have_come_in_part_do_not_wait_for_each_other_for_ever() {
    let quotas = Quotas::new(1024, 1024);
    let mut coming = Vec::new();
    for number in 0..WHOLE_SHARES + 1 {
        let share = quotas.share(&client(&number.to_string(), Role::Broker));
        let place = share.place(Class::Stream).await.expect("a place");
        let first = (HELD_REQUEST_BYTES_MAX, UNIT);
        place.clone().hold_request(0, first, true).await.expect("room");
        coming.push(place);
    }
    // All of them come a piece at a time, until there is no room left.
    let piece = HELD_REQUEST_BYTES_MAX / 16;
    let mut waiting = Vec::new();
    for number in 0..WHOLE_SHARES * 16 + 2 {
        let place = coming[number % coming.len()].clone();
        let mut more = Box::pin(place.hold_more(0, piece, true));
        if futures::poll!(&mut more).is_pending() {
            waiting.push(more);
        }
    }
    // Of the two that found none, one goes on to its end all the same, and the other has its place then.
    assert_eq!(waiting.len(), 1);
    coming.iter().for_each(|place| drop(place.take_request(0)));
    waiting.pop().expect("there").await.expect("given back");
}

#[tokio::test]
async fn streams_that_wait_for_their_clients_take_no_call_s_place() {
    let quotas = Quotas::new(4, 1024);
    let mut open = Vec::new();
    for number in 0..8 {
        let member = quotas.share(&client(&number.to_string(), Role::Broker));
        open.push(member.place(Class::Stream).now_or_never().expect("at once").expect("room"));
    }
    let reader = quotas.share(&client("reader", Role::Officer));
    reader.place(Class::Read).now_or_never().expect("at once").expect("a place");
}

#[tokio::test]
async fn a_client_s_records_in_line_are_few_however_many_it_has() {
    let quotas = Quotas::new(1024, 1024);
    let share = quotas.share(&client("greedy", Role::Broker));
    let place = share.place(Class::Submit).await.expect("a place");
    // More than there may be wait for all that there may be.
    let all = place.in_line(10 * LINE_MAX).await;
    let mut next = Box::pin(place.in_line(1));
    assert!(futures::poll!(&mut next).is_pending());
    drop(all);
    drop(next.await);
}

#[tokio::test]
async fn a_client_has_few_questions_about_submissions_at_a_time() {
    let quotas = Quotas::new(1024, 1024);
    let place = async |name| {
        quotas.share(&client(name, Role::Broker)).place(Class::Feed).await.expect("a place")
    };
    let (greedy, again, other) =
        (place("greedy").await, place("greedy").await, place("other").await);
    let mut asked = Vec::new();
    while let Some(question) = greedy.question().now_or_never() {
        asked.push(question);
    }
    assert_eq!(asked.len(), QUESTIONS_MAX);
    assert!(again.question().now_or_never().is_none(), "by another call neither");
    drop(other.question().now_or_never().expect("at once"));
    asked.pop();
    drop(again.question().now_or_never().expect("given back"));
}

#[tokio::test]
async fn one_client_has_half_of_the_threads() {
    let quotas = Quotas::new(1024, 1024);
    let place = async |name, role| {
        let share = quotas.share(&client(name, role));
        share.place(Class::Read).await.expect("a place")
    };
    let (greedy, other) =
        (place("greedy", Role::Officer).await, place("other", Role::Officer).await);
    let mut working = Vec::new();
    while let Some(worker) = greedy.worker().now_or_never() {
        working.push(worker);
    }
    assert_eq!(working.len(), WORKERS_MIN.max(processors()) / 2);
    let mut queued = Box::pin(greedy.worker());
    assert!(futures::poll!(&mut queued).is_pending());
    working.push(other.worker().now_or_never().expect("at once"));
    while let Some(worker) = other.worker().now_or_never() {
        working.push(worker);
    }
    assert_eq!(working.len(), WORKERS_MIN.max(processors()));
    let operator = place("ops", Role::Operator).await;
    operator.worker().now_or_never().expect("of their own");
}

#[tokio::test]
async fn bytes_of_an_answer_are_given_back_as_far_as_it_is_shorter() {
    let quotas = Quotas::new(1024, 1024);
    let share = quotas.share(&client("a", Role::Officer));
    let mut bytes = share.answer(HELD_ANSWER_BYTES_MAX).await.expect("free");
    bytes.shrink(10_000);
    assert_eq!(bytes.bytes(), 10 * UNIT);
    let rest = share.answer(HELD_ANSWER_BYTES_MAX - 10 * UNIT).await.expect("given back");
    let mut more = Box::pin(share.answer(1));
    assert!(futures::poll!(&mut more).is_pending());
    drop(rest);
    bytes.merge(more.await.expect("given back"));
    assert_eq!(bytes.bytes(), 11 * UNIT);
}

#[test]
fn clients_that_hold_nothing_are_forgotten() {
    let quotas = Quotas::new(1024, 1024);
    let held = quotas.share(&client("held", Role::Officer));
    for number in 0..10 * FORGET_AT {
        drop(quotas.share(&client(&number.to_string(), Role::Officer)));
    }
    let clients = quotas.clients.lock().expect("not poisoned");
    assert!(clients.len() <= FORGET_AT && clients.contains_key(&client("held", Role::Officer)));
    drop(held);
}
