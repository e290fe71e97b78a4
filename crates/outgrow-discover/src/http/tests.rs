//! Answers in pieces, cut off, too long, and none at all.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use outgrow_core::Clock;

use super::{Client, Problem, Question, Server};
use crate::discovery::Surroundings;

/// What is made of these bytes, sent in pieces of `size`.
async fn answered(bytes: &[u8], size: usize) -> Result<Vec<u8>, Problem> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = listener.local_addr().expect("an address");
    let server: Server = format!("http://{at}").parse().expect("a server");
    let serve = async {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut question = vec![0; 1_024];
        let length = stream.read(&mut question).await.expect("a question");
        let question = String::from_utf8_lossy(&question[..length]).into_owned();
        for piece in bytes.chunks(size) {
            // The other side may have had enough.
            let _ = stream.write_all(piece).await;
            tokio::task::yield_now().await;
        }
        question
    };
    let question = Question {
        target: "/v1/x?a=1",
        fields: &[("X-Token", "secret")],
        ..Question::default()
    };
    let patience = Duration::from_secs(5);
    let client = Client::new(None, Surroundings::without_files(Clock::start()));
    let ask = client.ask_whole(&server, &question, patience, 64);
    let (answer, asked) = tokio::join!(ask, serve);
    let expected = format!("GET /v1/x?a=1 HTTP/1.1\r\nHost: {at}\r\n");
    assert!(asked.starts_with(&expected), "{asked}");
    assert!(asked.contains("\r\nX-Token: secret\r\n"), "{asked}");
    answer.map(|(_, body)| body)
}

#[tokio::test]
async fn whole_answers_come_however_they_are_cut() {
    for bytes in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"[..],
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello, more",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\nhello",
    ] {
        for size in [1, 3, 1_000] {
            assert_eq!(answered(bytes, size).await.expect("an answer"), b"hello");
        }
    }
}

#[tokio::test]
async fn what_is_wrong_is_told_and_bounded() {
    let check = async |bytes: &[u8], expected: &str| {
        let problem = answered(bytes, 7).await.expect_err(expected);
        assert!(problem.to_string().contains(expected), "{problem}");
    };
    check(b"", "without an answer: perhaps it speaks TLS").await;
    check(b"HTTP/1.1 200 OK\r\nContent-", "ends within its head").await;
    check(
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello",
        "cut off",
    )
    .await;
    check(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n",
        "cut off",
    )
    .await;
    check(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        "malformed",
    )
    .await;
    check(
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "malformed",
    )
    .await;
    check(b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "malformed").await;
    let long = [&b"HTTP/1.1 200 OK\r\n\r\n"[..], &[b'x'; 65]].concat();
    check(&long, "too long").await;
    let head = [&b"HTTP/1.1 200 OK\r\nX: "[..], &vec![b'x'; 70_000]].concat();
    check(&head, "malformed").await;
    check(
        b"HTTP/1.1 403 No\r\nContent-Length: 7\r\n\r\nACL not",
        "status 403: ACL not",
    )
    .await;
}

#[test]
fn the_method_follows_from_the_body_unless_it_is_said() {
    let server = Server::loopback(8_500);
    let check = |method, body: Option<&[u8]>, expected: &str, end: &str| {
        let question = Question {
            target: "/v1/x",
            body,
            method,
            ..Question::default()
        };
        let text = super::write(&server, &question).expect("a question");
        let text = String::from_utf8(text).expect("text");
        assert!(text.starts_with(expected) && text.ends_with(end), "{text}");
    };
    check(None, None, "GET /v1/x HTTP/1.1\r\n", "\r\n\r\n");
    check(
        None,
        Some(b"{}"),
        "POST /v1/x HTTP/1.1\r\n",
        "Content-Length: 2\r\n\r\n{}",
    );
    check(
        Some("PUT"),
        Some(b""),
        "PUT /v1/x HTTP/1.1\r\n",
        "Content-Length: 0\r\n\r\n",
    );
}
