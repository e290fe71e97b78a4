//! The strict reader against a table of responses, each whole and in pieces of
//! one byte.

use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
};

use super::*;

/// Reads `response` (then the end of the stream) as an answer.
async fn read(response: &[u8], piece: usize) -> Result<(u16, Vec<u8>, bool, usize), WireFault> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (client, server) = tokio::join!(
        TcpStream::connect(listener.local_addr().unwrap()),
        listener.accept()
    );
    let (mut client, mut server) = (client.unwrap(), server.unwrap().0);
    server.set_nodelay(true).unwrap();
    let send = async move {
        for part in response.chunks(piece) {
            server.write_all(part).await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    let mut buffer = BytesMut::new();
    let receive = async {
        let (reader, _writer) = client.split();
        Intake::new(reader, &mut buffer).answer().await
    };
    let ((), answer) = tokio::join!(send, receive);
    let answer = answer?;
    Ok((
        answer.status,
        answer.body.to_vec(),
        answer.closes,
        buffer.len(),
    ))
}

async fn check(response: &str, status: u16, body: &str, closes: bool) {
    for piece in [1, 7, 1 << 20] {
        let read = read(response.as_bytes(), piece).await;
        let expected = (status, body.as_bytes().to_vec(), closes, 0);
        assert_eq!(read, Ok(expected), "{response:?} by {piece}");
    }
}

#[tokio::test]
async fn what_is_allowed() {
    check(
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
        200,
        "abc",
        false,
    )
    .await;
    check("HTTP/1.1 200 \r\ncontent-length:0\r\n\r\n", 200, "", false).await;
    check(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA;x=1\r\n0123456789\r\n0\r\nT: 1\r\n\r\n",
        200,
        "abc0123456789",
        false,
    )
    .await;
    check("HTTP/1.1 404 No\r\n\r\nrest", 404, "rest", true).await;
    check(
        "HTTP/1.1 204 No\r\nConnection: a, close\r\n\r\n",
        204,
        "",
        true,
    )
    .await;
    check(
        "HTTP/1.1 304 No\r\nContent-Length: 9\r\n\r\n",
        304,
        "",
        false,
    )
    .await;
    check(
        "HTTP/1.1 103 Early\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
        200,
        "x",
        false,
    )
    .await;
}

#[tokio::test]
async fn what_is_malformed() {
    for response in [
        "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        "HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\n Content-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\na",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        "HTTP/1.1 204 No\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: \u{0}\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Le",
        "HTTP/1.1 101 Go\r\n\r\n",
    ] {
        let read = read(response.as_bytes(), 1 << 20).await;
        assert!(
            matches!(read, Err(WireFault::Malformed(_))),
            "{response:?}: {read:?}"
        );
    }
}

#[tokio::test]
async fn what_ends_early() {
    for (response, came) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", "ab"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
            "abc",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab",
            "ab",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n",
            "abc",
        ),
    ] {
        let expected = WireFault::Truncated {
            status: 200,
            body: came.to_owned().into(),
            how: CLOSED,
        };
        assert_eq!(
            read(response.as_bytes(), 5).await,
            Err(expected),
            "{response:?}"
        );
    }
    assert_eq!(read(b"", 1).await, Err(WireFault::Unanswered(CLOSED)));
}

#[tokio::test]
async fn what_follows_is_left() {
    let two = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxHTTP";
    let (_, body, _, left) = read(two, 1 << 20).await.unwrap();
    assert_eq!((body.as_slice(), left), (&b"x"[..], 4));
}
