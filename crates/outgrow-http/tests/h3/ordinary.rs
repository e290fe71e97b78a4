//! What clients usually say.

use std::task::Poll;

use super::client::*;
use super::server::{LONG_WORDS, Server};

fn answer(status: u16, body: &str) -> Outcome {
    Outcome::Answer(status, body.to_owned())
}

#[tokio::test]
async fn requests_are_taken_as_they_are_meant() {
    let server = Server::start(true);
    let connection = connect(&server).await;
    let _control = one_way(&connection, CONTROL).await;
    let _encoder = one_way(&connection, &[0x02, 0x20]).await;
    // Cancels stream 4.
    let _decoder = one_way(&connection, &[0x03, 0x44]).await;
    let _unknown = one_way(&connection, &[0x21, 1, 2, 3]).await;
    let get = request(
        "GET",
        "/a?b",
        &[("x-a", "1"), ("cookie", "a=1"), ("cookie", "b=2")],
    );
    let told = ask(&connection, &get, true).await;
    assert_eq!(
        told,
        answer(200, "GET /a?b\nx-a: 1\ncookie: a=1; b=2\n0 bytes, Empty\n")
    );
    // A frame without a meaning before, in the middle and behind.
    let grease = frame(0x21, b"grease");
    let post = [
        grease.clone(),
        request("POST", "/p", &[("content-length", "10")]),
        data(b"hello"),
        grease.clone(),
        data(b""),
        data(b"world"),
        headers(&[("x-sum", "7"), ("content-length", "3")]),
        grease,
    ];
    let told = ask(&connection, &post.concat(), true).await;
    assert_eq!(
        told,
        answer(200, "POST /p\n10 bytes, Known(10)\nx-sum: 7\n")
    );
    // Without a length.
    let stream = [
        request("POST", "/s", &[]),
        data(&[b'x'; 40_000]),
        data(b"y"),
    ];
    let told = ask(&connection, &stream.concat(), true).await;
    assert_eq!(told, answer(200, "POST /s\n40001 bytes, Unknown\n"));
}

#[tokio::test]
async fn a_body_may_come_in_any_pieces() {
    let server = Server::start(true);
    let connection = connect(&server).await;
    let _control = one_way(&connection, CONTROL).await;
    let mut bytes = request("PUT", "/p", &[]);
    for _ in 0..3_000 {
        bytes.extend(data(b"z"));
    }
    let (mut send, receive) = connection.open_bi().await.expect("opened");
    for piece in bytes.chunks(7) {
        send.write_all(piece).await.expect("written");
    }
    send.finish().expect("finished");
    let told = outcome(&connection, receive).await;
    assert_eq!(told, answer(200, "PUT /p\n3000 bytes, Unknown\n"));
}

#[tokio::test]
async fn a_get_waits_for_its_end() {
    let server = Server::start(true);
    let connection = connect(&server).await;
    let _control = one_way(&connection, CONTROL).await;
    let (mut send, receive) = connection.open_bi().await.expect("opened");
    send.write_all(&request("GET", "/", &[]))
        .await
        .expect("written");
    // The end comes in a packet of its own.
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    send.finish().expect("finished");
    let told = outcome(&connection, receive).await;
    assert_eq!(told, answer(200, "GET /\n0 bytes, Empty\n"));
}

#[tokio::test]
async fn a_get_that_does_not_end_is_answered() {
    let server = Server::start(true);
    let connection = connect(&server).await;
    let _control = one_way(&connection, CONTROL).await;
    let told = ask(&connection, &request("GET", "/", &[]), false).await;
    assert_eq!(told, answer(200, "open"));
}

#[tokio::test]
async fn what_nobody_wants_is_not_delivered() {
    let mut server = Server::start(true);
    let connection = connect(&server).await;
    let _control = one_way(&connection, CONTROL).await;
    let told = ask(&connection, &request("GET", "/", &[]), true).await;
    assert!(matches!(told, Outcome::Answer(200, _)), "{told:?}");
    assert_eq!(server.deliveries.recv().await, Some(true));
    // Its client stops before it has asked.
    let (mut send, mut receive) = connection.open_bi().await.expect("opened");
    receive.stop(0x10c_u32.into()).expect("stopped");
    let post = [request("POST", "/", &[]), data(b"x")].concat();
    send.write_all(&post).await.expect("written");
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    send.finish().expect("finished");
    assert_eq!(server.deliveries.recv().await, Some(false));
}

/// QUIC takes more than there is memory for, and gives it back as the client acknowledges it.
#[tokio::test]
async fn with_little_memory_an_answer_waits_for_what_comes_back() {
    let server = Server::start(true);
    server.ledger.set_limit(256 * 1024);
    let connection = connect(&server).await;
    let _control = one_way(&connection, CONTROL).await;
    let get = request("GET", "/long", &[]);
    let asked = (0..3).map(|_| ask(&connection, &get, true));
    for told in join(asked).await {
        let Outcome::Answer(200, body) = told else {
            panic!("{told:?}");
        };
        assert!(body.ends_with(&"long ".repeat(LONG_WORDS)));
    }
    assert!(server.ledger.used_bytes() <= 256 * 1024);
}

/// All of them at a time, on one task.
async fn join<F: Future>(all: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut all: Vec<_> = all.map(|one| (Box::pin(one), None)).collect();
    std::future::poll_fn(|cx| {
        for (one, told) in all.iter_mut().filter(|(_, told)| told.is_none()) {
            if let Poll::Ready(output) = one.as_mut().poll(cx) {
                *told = Some(output);
            }
        }
        match all.iter().all(|(_, told)| told.is_some()) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
    all.into_iter().filter_map(|(_, told)| told).collect()
}

/// Bytes that come one by one are sent together.
#[tokio::test]
async fn small_pieces_are_gathered() {
    let server = Server::start(true);
    let connection = connect(&server).await;
    let _control = one_way(&connection, CONTROL).await;
    let get = request("GET", "/pieces", &[]);
    let told = "GET /pieces\n0 bytes, Empty\n";
    assert_eq!(ask(&connection, &get, true).await, answer(200, told));
    let (mut send, mut receive) = connection.open_bi().await.expect("opened");
    send.write_all(&get).await.expect("written");
    send.finish().expect("finished");
    let all = receive.read_to_end(10_000).await.expect("an answer");
    let frame = [&[0, 0x40, told.len() as u8], told.as_bytes()].concat();
    assert!(all.ends_with(&frame), "{all:?}: one frame has all of it");
}
