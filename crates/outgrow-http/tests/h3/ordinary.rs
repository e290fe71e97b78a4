//! What clients usually say.

use super::client::*;
use super::server::Server;

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
