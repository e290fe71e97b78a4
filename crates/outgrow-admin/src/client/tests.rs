//! Tests of the client against peers that misbehave; against the listener it is tested there.

use std::net::TcpListener;
use std::thread;

use super::*;

/// Asks a peer that reads the request and answers with these bytes, then closes.
fn ask_peer(answer: Vec<u8>) -> (Result<(u16, Vec<u8>), ClientProblem>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let peer = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut asked = Vec::new();
        let mut byte = [0];
        while !asked.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).unwrap();
            asked.push(byte[0]);
        }
        // The client may have seen enough before all is written.
        let _ = stream.write_all(&answer);
        String::from_utf8(asked).unwrap()
    });
    let address = Address::tcp("127.0.0.1", port);
    let result = request(&address, &Secret::new("s3cret"), Verb::Get, "/state", b"");
    (result, peer.join().unwrap())
}

#[test]
fn what_is_sent() {
    let (result, asked) = ask_peer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec());
    assert_eq!(result.unwrap(), (200, b"ok".to_vec()));
    assert!(
        asked.starts_with("GET /state HTTP/1.1\r\nHost: 127.0.0.1:"),
        "{asked}"
    );
    assert!(asked.contains("\r\nAuthorization: Bearer s3cret\r\n"));
    assert!(asked.contains("\r\nConnection: close\r\n"));
}

#[test]
fn answers_are_read_strictly() {
    let check = |answer: &str, expected: &str| {
        let (result, _) = ask_peer(answer.as_bytes().to_vec());
        let text = match result {
            Ok((status, body)) => format!("{status} {}", String::from_utf8(body).unwrap()),
            Err(problem) => problem.to_string(),
        };
        assert!(text.contains(expected), "{answer:?}: {text}");
    };
    check("HTTP/1.1 503 No\r\nContent-Length: 3\r\n\r\nwhy", "503 why");
    check("HTTP/1.0 200 OK\r\n\r\nuntil the end", "200 until the end");
    check("HTTP/1.1 204 No Content\r\n\r\n", "204 ");
    check(
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nwhy",
        "before its answer was whole",
    );
    check(
        "HTTP/1.1 200 OK\r\nContent-Le",
        "before its answer was whole",
    );
    check("", "before its answer was whole");
    check("SSH-2.0-OpenSSH_9.2\r\n\r\n", "is not an admin listener");
    check("HTTP/1.1 100 Continue\r\n\r\n", "is not an admin listener");
    let chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    check(chunks, "it sent chunks");
    let both = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab";
    check(both, "is not an admin listener");
    check(
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n",
        "larger than 64 MiB",
    );
}

#[test]
fn endless_heads_and_bodies_end() {
    let mut head = b"HTTP/1.1 200 OK\r\n".to_vec();
    head.extend(b"X: y\r\n".repeat(3000));
    assert!(matches!(
        ask_peer(head).0,
        Err(ClientProblem::NotAdmin { .. })
    ));
    let mut body = b"HTTP/1.0 200 OK\r\n\r\n".to_vec();
    body.resize(65 * 1024 * 1024, b'x');
    assert!(matches!(ask_peer(body).0, Err(ClientProblem::TooLarge(_))));
}

#[test]
fn problems_say_what_to_do() {
    let ask = |address: &Address, token: &str, path: &str| {
        let result = request(address, &Secret::new(token), Verb::Post, path, b"");
        result.unwrap_err().to_string()
    };
    let port = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let nobody = Address::tcp("127.0.0.1", port);
    let text = ask(&nobody, "", "/reload");
    let expected = format!("nothing listens at 127.0.0.1:{port}: is outgrow running?");
    assert!(text.starts_with(&expected), "{text}");
    let missing = Address::Unix("/nonexistent/admin.sock".into());
    assert!(ask(&missing, "", "/reload").starts_with("nothing listens at unix:/nonexistent"));
    let unnamed = Address::tcp("no-such-host.invalid", 1);
    assert!(ask(&unnamed, "", "/reload").contains("use its IP address"));
    assert!(ask(&nobody, "a\r\nX: y", "/reload").contains("visible ASCII"));
    assert!(ask(&nobody, "", "/reload HTTP/1.1\r\n").contains("is not a path"));
    assert!(ask(&nobody, "", "reload").contains("is not a path"));
}

#[test]
fn a_peer_that_says_nothing_is_left_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Address::tcp("0.0.0.0", listener.local_addr().unwrap().port());
    let patience = Duration::from_millis(20);
    let call = Call {
        address: &address,
        patience,
        deadline: Instant::now() + patience,
    };
    let mut wire = call.connect().unwrap();
    let problem = call.receive(&mut wire).unwrap_err();
    assert!(
        matches!(problem, ClientProblem::Timeout { .. }),
        "{problem}"
    );
}
