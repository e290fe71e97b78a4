//! What a client can make us hold, and what the ledger knows of it.

use std::time::Duration;

use outgrow_http::h3::FIRST_WINDOW;
use quinn::{Connection, RecvStream, SendStream, VarInt};

use super::client::*;
use super::server::{CONNECTION_BYTES, STREAM_WINDOW, Server, WIDEST_WINDOW};

/// How long a client that may send no more is given to show it.
const STUCK: Duration = Duration::from_millis(500);

/// Begins a request whose body nobody takes, and sends of it what it may; how much that is.
async fn fill(connection: &Connection, piece: usize) -> (usize, SendStream, RecvStream) {
    let (mut send, receive) = connection.open_bi().await.expect("opened");
    let head = request("POST", "/", &[]);
    let frames = data(&vec![b'x'; piece]).repeat(100_000_usize.div_ceil(piece));
    let mut sent = 0;
    let writing = async {
        if send.write_all(&head).await.is_err() {
            return;
        }
        while let Ok(count) = send.write(&frames).await {
            sent += count;
        }
    };
    // It waits for room for ever.
    let _ = tokio::time::timeout(STUCK, writing).await;
    (sent, send, receive)
}

/// Waits until the ledger counts nothing.
async fn all_back(server: &Server) {
    let back = async {
        while server.ledger.used_bytes() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let back = tokio::time::timeout(Duration::from_secs(20), back).await;
    assert!(back.is_ok(), "{} are left", server.ledger.used_bytes());
}

/// Nobody reads: what a client sends is bounded by its window however it is cut, and counted.
#[tokio::test]
async fn what_nobody_takes_is_bounded_and_counted() {
    for piece in [1, 10_000] {
        let server = Server::start(false);
        let (mut sent, mut open) = (0, Vec::new());
        for connections in 1..=2 {
            let connection = connect(&server).await;
            open.push((one_way(&connection, CONTROL).await, Vec::new()));
            for _ in 0..2 {
                let (more, send, receive) = fill(&connection, piece).await;
                sent += more;
                let streams = &mut open.last_mut().expect("it was pushed").1;
                streams.push((send, receive));
            }
            let window = 2 * STREAM_WINDOW as usize;
            // Beside what QUIC holds one buffer of each stream's.
            let most = connections * (window + 2 * STREAM_WINDOW as usize / 4);
            assert!((connections * window / 2..most).contains(&sent), "{sent}");
            let used = server.ledger.used_bytes();
            assert!(used >= sent as u64, "{used} are counted for {sent}");
        }
        drop(open);
    }
}

#[tokio::test]
async fn windows_are_widened_while_there_is_memory() {
    for (limit, is_widened) in [(128 << 20, true), (2 << 20, false)] {
        let server = Server::start(true);
        server.ledger.set_limit(limit);
        let connection = connect(&server).await;
        let _control = one_way(&connection, CONTROL).await;
        let body = data(&vec![b'x'; 8 << 20]);
        let post = [request("POST", "/p", &[]), body].concat();
        let told = ask(&connection, &post, true).await;
        let expected = format!("POST /p\n{} bytes, Unknown\n", 8 << 20);
        assert_eq!(told, Outcome::Answer(200, expected));
        let used = server.ledger.used_bytes();
        let widest = WIDEST_WINDOW + CONNECTION_BYTES;
        assert_eq!(used > widest, is_widened, "{used}");
    }
}

#[tokio::test]
async fn without_memory_a_request_that_is_not_whole_is_refused() {
    let server = Server::start(true);
    let connection = connect(&server).await;
    let _control = one_way(&connection, CONTROL).await;
    server.ledger.set_limit(64 * 1024);
    let told = ask(&connection, &request("POST", "/", &[]), false).await;
    assert!(matches!(told, Outcome::Answer(503, _)), "{told:?}");
    assert_eq!(server.ledger.refused_foreseen(), 1);
    // One that is there as a whole takes nothing but its buffer.
    let told = ask(&connection, &request("GET", "/", &[]), true).await;
    assert!(matches!(told, Outcome::Answer(200, _)), "{told:?}");
}

/// What came with its end QUIC has no more of: it takes nothing from what others may send.
#[tokio::test]
async fn a_short_body_that_came_with_its_end_is_in_its_buffer() {
    for (body, is_foreseen) in [(3_000, false), (20_000, true)] {
        let server = Server::start(false);
        let connection = connect(&server).await;
        let _control = one_way(&connection, CONTROL).await;
        let (mut send, _receive) = connection.open_bi().await.expect("opened");
        let post = [request("POST", "/", &[]), data(&vec![b'x'; body])].concat();
        send.write_all(&post).await.expect("written");
        send.finish().expect("finished");
        let stopped = tokio::time::timeout(STUCK, send.stopped()).await;
        assert!(matches!(stopped, Ok(Ok(None))), "it has all: {stopped:?}");
        let read = tokio::time::timeout(STUCK, async {
            while server.ledger.used_bytes() < CONNECTION_BYTES + 16 * 1024 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        assert!(read.await.is_ok(), "nobody takes it, and it is there");
        assert_eq!(server.ledger.foreseen_bytes() > 0, is_foreseen, "{body}");
    }
}

#[tokio::test]
async fn a_connection_counts_until_quic_has_forgotten_it() {
    let mut server = Server::start(true);
    let connection = connect(&server).await;
    let control = one_way(&connection, CONTROL).await;
    let filled = fill(&connection, 1_000).await;
    connection.close(0x100_u32.into(), b"");
    server.ends.recv().await.expect("it has ended");
    let used = server.ledger.used_bytes();
    let held = CONNECTION_BYTES + u64::from(FIRST_WINDOW);
    assert!(used >= held, "{used} are counted while it is drained");
    drop((control, filled));
    all_back(&server).await;
}

/// A body that nobody takes leaves others of its connection room.
#[tokio::test]
async fn a_body_that_is_not_taken_keeps_no_other_request_back() {
    let server = Server::start(false);
    let connection = connect(&server).await;
    let _control = one_way(&connection, CONTROL).await;
    let (sent, send, receive) = fill(&connection, 10_000).await;
    let first = FIRST_WINDOW as usize;
    assert!(sent > first, "{sent}: more than a connection begins with");
    let told = ask(&connection, &request("GET", "/beside", &[]), true).await;
    let expected = "GET /beside\n0 bytes, Empty\n".to_owned();
    assert_eq!(told, Outcome::Answer(200, expected));
    drop((send, receive));
}

/// A client that is gone before it has acknowledged a response that was sent as a whole.
#[tokio::test]
async fn what_a_client_that_is_gone_has_not_acknowledged_comes_back() {
    let mut server = Server::start(true);
    let connection = connect(&server).await;
    let control = one_way(&connection, CONTROL).await;
    let (mut send, receive) = connection.open_bi().await.expect("opened");
    let get = request("GET", "/long", &[]);
    send.write_all(&get).await.expect("written");
    send.finish().expect("finished");
    // QUIC has all of it, and sends no more than it may before something is acknowledged.
    let delivered = server.deliveries.recv().await;
    assert_eq!(delivered, Some(true));
    let held = server.ledger.used_bytes();
    assert!(held > 128 * 1024, "{held} are held for the client");
    connection.close(0x100_u32.into(), b"");
    server.ends.recv().await.expect("it has ended");
    drop((control, send, receive, connection));
    all_back(&server).await;
}

/// A client that lets us say nothing of the connection: what it may send meanwhile is counted.
#[tokio::test]
async fn a_client_that_gives_no_stream_is_counted() {
    let mut server = Server::start(true);
    configure(&mut server, |transport| {
        transport.max_concurrent_uni_streams(VarInt::from_u32(0));
    });
    let _connection = connect(&server).await;
    let held = CONNECTION_BYTES + u64::from(FIRST_WINDOW) * 5 / 2;
    let counted = async {
        while server.ledger.used_bytes() < held {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let counted = tokio::time::timeout(Duration::from_secs(20), counted).await;
    assert!(
        counted.is_ok(),
        "{} are counted",
        server.ledger.used_bytes()
    );
}

/// A client that takes no answer cannot go on sending what was refused.
#[tokio::test]
async fn what_is_refused_is_stopped_before_the_answer_is_taken() {
    let mut server = Server::start(true);
    configure(&mut server, |transport| {
        // Just what our settings take.
        transport.stream_receive_window(VarInt::from_u32(8));
    });
    let connection = connect(&server).await;
    let _control = one_way(&connection, CONTROL).await;
    let (mut send, _receive) = connection.open_bi().await.expect("opened");
    // 431, which takes more than that window.
    let bad = request("GET", "/", &[("x-many", "fields"); 30]);
    send.write_all(&bad).await.expect("written");
    let stopped = tokio::time::timeout(Duration::from_secs(20), send.stopped()).await;
    let code = stopped.expect("in time").expect("connected");
    assert_eq!(code.map(VarInt::into_inner), Some(0x100));
    let delivered = tokio::time::timeout(STUCK, server.deliveries.recv()).await;
    assert!(delivered.is_err(), "the answer still waits: {delivered:?}");
}

/// An answer that waits for memory which only the client's acknowledgements could give back.
#[tokio::test]
async fn an_answer_that_waits_for_memory_ends_with_its_connection() {
    let mut server = Server::start(true);
    configure(&mut server, |transport| {
        transport.stream_receive_window(VarInt::from_u32(20_000));
    });
    server.ledger.set_limit(256 * 1024);
    let connection = connect(&server).await;
    let _control = one_way(&connection, CONTROL).await;
    let (mut send, _receive) = connection.open_bi().await.expect("opened");
    let get = request("GET", "/long", &[]);
    send.write_all(&get).await.expect("written");
    send.finish().expect("finished");
    let early = tokio::time::timeout(STUCK, server.deliveries.recv()).await;
    assert!(early.is_err(), "it waits: {early:?}");
    connection.close(0x100_u32.into(), b"");
    let end = tokio::time::timeout(Duration::from_secs(20), server.deliveries.recv()).await;
    assert_eq!(end.expect("it does not wait for ever"), Some(false));
}

/// Requests that are opened and left open, GETs too, cost others nothing: a connection has few of them where
/// many have some.
#[tokio::test]
async fn requests_that_are_left_open_are_few() {
    // Its sixth is forty requests and the windows of one connection; its third is more.
    const LIMIT: u64 = 8 << 20;
    let server = Server::start(true);
    server.ledger.set_limit(LIMIT);
    let (mut answered, mut refused, mut open) = (0, 0, Vec::new());
    for _ in 0..6 {
        let connection = connect(&server).await;
        open.push((one_way(&connection, CONTROL).await, Vec::new()));
        let mut told = Vec::new();
        for _ in 0..60 {
            let (mut send, receive) = connection.open_bi().await.expect("opened");
            let get = request("GET", "/", &[]);
            send.write_all(&get).await.expect("written");
            told.push(receive);
            open.last_mut().expect("it was pushed").1.push(send);
        }
        for receive in told {
            match outcome(&connection, receive).await {
                Outcome::Answer(200, body) => {
                    assert_eq!(body, "open");
                    answered += 1;
                }
                Outcome::Answer(503, _) => refused += 1,
                other => panic!("{other:?}"),
            }
        }
        assert!(!server.ledger.is_tight(), "{}", server.ledger.used_bytes());
    }
    assert!(answered >= 30 && refused > 100, "{answered} and {refused}");
}
