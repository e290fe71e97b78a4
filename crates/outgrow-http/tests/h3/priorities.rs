//! In what order answers are sent.

use quinn::{Connection, RecvStream, VarInt};

use super::client::*;
use super::server::{LONG_WORDS, LONGEST_WORDS, Server};

/// Asks for this, as urgent as it says.
async fn begin(connection: &Connection, path: &str, priority: &str) -> RecvStream {
    let get = request("GET", path, &[("priority", priority)]);
    let (mut send, receive) = connection.open_bi().await.expect("opened");
    send.write_all(&get).await.expect("written");
    send.finish().expect("finished");
    receive
}

/// A server, and a connection whose client takes whatever is sent.
async fn taking_all() -> (Server, Connection) {
    let mut server = Server::start(true);
    configure(&mut server, |transport| {
        transport.stream_receive_window(VarInt::from_u32(1 << 26));
    });
    let connection = connect(&server).await;
    (server, connection)
}

/// Takes all of it, counting.
async fn read(mut answer: RecvStream, count: &mut usize) {
    while let Some(chunk) = answer.read_chunk(1 << 20, true).await.expect("read") {
        *count += chunk.bytes.len();
    }
}

/// What QUIC has of two answers goes out by their urgency, and not by turns.
#[tokio::test]
async fn what_is_urgent_is_sent_first() {
    let mut server = Server::start(true);
    let connection = connect(&server).await;
    let _control = one_way(&connection, CONTROL).await;
    let mut answers = Vec::new();
    for priority in ["u=5", "u=1, i"] {
        answers.push(begin(&connection, "/long", priority).await);
    }
    // QUIC has both before the client has taken much.
    for _ in 0..2 {
        assert_eq!(server.deliveries.recv().await, Some(true));
    }
    let (urgent, other) = (answers.pop().expect("two"), answers.pop().expect("one"));
    let (mut all, mut early) = (0, 0);
    let long = 5 * LONG_WORDS;
    tokio::select! {
        biased;
        () = read(urgent, &mut all) => {}
        () = read(other, &mut early) => panic!("it was first"),
    }
    assert!(all > long, "{all}");
    assert!(
        early < long / 2,
        "{early} of the other one were sent by then"
    );
}

/// Who asks for something long and calls it urgent still gets what else it asks for meanwhile.
#[tokio::test]
async fn what_is_long_takes_turns() {
    for priority in ["u=3", "u=6, i"] {
        let (_server, connection) = taking_all().await;
        let _control = one_way(&connection, CONTROL).await;
        let mut urgent = begin(&connection, "/longest", "u=0").await;
        urgent.read_chunk(1 << 20, true).await.expect("read");
        let other = begin(&connection, "/long", priority).await;
        let (mut taken, mut all) = (0, 0);
        tokio::select! {
            biased;
            () = read(other, &mut all) => {}
            () = read(urgent, &mut taken) => panic!("{priority}: {all} until all of it was sent"),
        }
        assert!(all > 5 * LONG_WORDS, "{priority}: {all}");
        assert!(taken < 5 * LONGEST_WORDS / 2, "{priority}: {taken}");
    }
}

/// So does a tunnel on which the endpoint says something without a pause.
#[tokio::test]
async fn a_tunnel_that_fills_the_line_takes_turns() {
    let (_server, connection) = taking_all().await;
    let _control = one_way(&connection, CONTROL).await;
    let opens = headers(&[
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "https"),
        (":authority", "localhost"),
        (":path", "/tunnel"),
        ("sec-websocket-version", "13"),
        ("priority", "u=0"),
    ]);
    let (mut send, mut tunnel) = connection.open_bi().await.expect("opened");
    send.write_all(&opens).await.expect("written");
    tunnel.read_chunk(1 << 20, true).await.expect("read");
    let other = begin(&connection, "/long", "u=3").await;
    let (mut taken, mut all) = (0, 0);
    tokio::select! {
        biased;
        () = read(other, &mut all) => {}
        () = read(tunnel, &mut taken) => panic!("{all} until all of it was sent"),
    }
    assert!(all > 5 * LONG_WORDS, "{all}");
    assert!(taken < 5 * LONGEST_WORDS / 2, "{taken}");
}
