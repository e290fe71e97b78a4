//! Request heads as they are filled in, what is refused, and response heads.

use outgrow_http::Downstream;
use outgrow_message::{BodyLength, Known, Method, Target, Version};

use crate::support::{answer, collect, read_all, refusal, request, response_head, usual};

#[tokio::test]
async fn a_request_is_as_it_would_be_by_http_1() {
    let (mut client, mut server) = usual().await;
    let mut sent = request("GET", "https://Shop.Example:8443/a//b%41?x=1&y");
    for (name, value) in [("x-b", "1"), ("accept", "*/*"), ("x-a", "2"), ("x-b", "3")] {
        let name = http::HeaderName::from_static(name);
        let value = http::HeaderValue::from_static(value);
        sent.headers_mut().append(name, value);
    }
    let (response, _) = client.send_request(sent, true).expect("sent");
    let (head, mut stream) = server.next().await;
    assert_eq!(
        (head.method, head.version, head.target),
        (Method::Get, Version::Http2, Target::Origin)
    );
    assert_eq!(head.text(head.method_text), b"GET");
    assert_eq!(head.text(head.authority), b"Shop.Example:8443");
    assert_eq!(head.host(), b"Shop.Example");
    assert_eq!(
        (head.path(), head.text(head.raw_path)),
        (&b"/a/bA"[..], &b"/a//b%41"[..])
    );
    assert_eq!(
        head.query.map(|query| head.text(query)),
        Some(&b"x=1&y"[..])
    );
    assert_eq!(head.text(head.target_text), b"/a//b%41?x=1&y");
    assert_eq!(head.length, BodyLength::Empty);
    let lines: Vec<_> = head.fields.iter().map(|line| (line.1, line.2)).collect();
    let expected: [(&[u8], &[u8]); 4] = [
        (b"x-b", b"1"),
        (b"x-b", b"3"),
        (b"accept", b"*/*"),
        (b"x-a", b"2"),
    ];
    assert_eq!(lines, expected);
    assert_eq!(read_all(&mut stream).await, Ok(Vec::new()));
    assert!(!stream.has_responded());
    answer(&head, &mut stream, 200, b"hello").await;
    assert!(stream.has_responded());
    drop(stream);

    let (parts, body) = response.await.expect("answered").into_parts();
    assert_eq!(parts.status, 200);
    assert_eq!(parts.headers["content-length"], "5");
    assert_eq!(parts.headers["server"], "test");
    let (body, trailers) = collect(body).await.expect("whole");
    assert_eq!((&body[..], trailers), (&b"hello"[..], None));
}

#[tokio::test]
async fn crumbs_of_cookies_are_joined() {
    let (mut client, mut server) = usual().await;
    let mut sent = request("GET", "https://a.example/");
    for crumb in ["a=1", "b=2", "c=3"] {
        let value = http::HeaderValue::from_static(crumb);
        sent.headers_mut().append("cookie", value);
    }
    sent.headers_mut()
        .insert("x-last", http::HeaderValue::from_static("1"));
    let _response = client.send_request(sent, true).expect("sent");
    let (head, _stream) = server.next().await;
    let cookies: Vec<_> = head.fields.values(Known::Cookie).collect();
    assert_eq!(cookies, [&b"a=1; b=2; c=3"[..]]);
    assert_eq!(head.fields.get_named(b"x-last"), Some(&b"1"[..]));
}

#[tokio::test]
async fn what_http_1_refuses_is_refused_with_the_same_status() {
    let (mut client, mut server) = usual().await;
    let long = format!("https://a.example/{}", "x".repeat(9000));
    let fat = "v".repeat(17 * 1024);
    let check = async |client: &mut h2::client::SendRequest<bytes::Bytes>,
                       server: &mut crate::support::Server,
                       (method, uri): (&str, &str),
                       fields: &[(&'static str, &str)],
                       status: Option<u16>| {
        let mut sent = request(method, uri);
        if uri.starts_with('/') {
            *sent.version_mut() = http::Version::HTTP_11;
        }
        for (name, value) in fields {
            let value = http::HeaderValue::from_str(value).expect("value");
            sent.headers_mut().append(*name, value);
        }
        let (response, _) = client.send_request(sent, true).expect("sent");
        let mut arrived = server.streams.recv().await.expect("a stream");
        let got = arrived.checked.err().map(refusal);
        assert_eq!(got, status, "{method} {uri} {fields:?}");
        let status = got.unwrap_or(200);
        answer(&arrived.head, &mut arrived.stream, status, b"").await;
        assert_eq!(response.await.expect("answered").status(), status);
    };
    let get = ("GET", "https://a.example/");
    let table: &[(_, &[(&'static str, &str)], _)] = &[
        (get, &[], None),
        (get, &[("host", "A.example")], None),
        (("GET", "/"), &[("host", "a.example:80")], None),
        (("OPTIONS", "https://a.example/"), &[], None),
        (get, &[("te", "trailers")], None),
        (get, &[("expect", "100-continue")], None),
        (get, &[("host", "b.example")], Some(400)),
        (
            get,
            &[("host", "a.example"), ("host", "a.example")],
            Some(400),
        ),
        (("GET", "/"), &[], Some(400)),
        (("GET", "/"), &[("host", "")], Some(400)),
        (("GET", "/"), &[("host", "a b")], Some(400)),
        (("GET", "https://user@a.example/"), &[], Some(400)),
        (("GET", "ftp://a.example/"), &[], Some(400)),
        (("GET", "https://a.example/%zz"), &[], Some(400)),
        (("GET", "https://a.example/a/..%2fb"), &[], Some(400)),
        (("GET", &long), &[], Some(414)),
        (get, &[("content_length", "5")], Some(400)),
        (get, &[("x_forwarded_for", "1.1.1.1")], Some(400)),
        (
            get,
            &[("content-length", "0"), ("content-length", "0")],
            Some(400),
        ),
        (get, &[("x", " a")], Some(400)),
        (get, &[("expect", "200-ok")], Some(417)),
        (get, &[("x", &fat)], Some(431)),
        (get, &[("x", "1"); 101], Some(431)),
        (("CONNECT", "a.example:443"), &[], Some(501)),
    ];
    for (line, fields, status) in table {
        check(&mut client, &mut server, *line, fields, *status).await;
    }
}

#[tokio::test]
async fn a_head_far_too_large_never_arrives() {
    let (mut client, server) = usual().await;
    let mut sent = request("GET", "https://a.example/");
    let value = http::HeaderValue::from_str(&"v".repeat(60 * 1024)).expect("value");
    sent.headers_mut().insert("x", value);
    let (response, _) = client.send_request(sent, true).expect("sent");
    assert_eq!(response.await.expect("answered").status(), 431);
    assert!(server.streams.is_empty());
}

#[tokio::test]
async fn responses_without_a_body_end_with_their_head() {
    let (mut client, mut server) = usual().await;
    let table = [
        ("HEAD", 200, BodyLength::Empty, Some("7"), Some("7")),
        ("HEAD", 200, BodyLength::Known(9), None, Some("9")),
        ("GET", 204, BodyLength::Empty, Some("7"), None),
        ("GET", 304, BodyLength::Empty, Some("7"), Some("7")),
        ("GET", 200, BodyLength::Empty, None, Some("0")),
    ];
    for (method, status, length, told, expected) in table {
        let sent = request(method, "https://a.example/");
        let (response, _) = client.send_request(sent, true).expect("sent");
        let (head, mut stream) = server.next().await;
        let mut answer = response_head(status, &[("ETag", "\"1\""), ("Connection", "close")]);
        if let Some(told) = told {
            answer.fields.push(b"Content-Length", told.as_bytes());
        }
        stream.respond(&answer, length, head.method).expect("head");
        // Nothing was pushed, nothing finished: the head alone has ended the stream.
        let response = response.await.expect("answered");
        assert!(response.body().is_end_stream(), "{method} {status}");
        let length = response.headers().get("content-length");
        assert_eq!(length.map(|value| value.to_str().expect("text")), expected);
        assert_eq!(response.headers()["etag"], "\"1\"");
        assert!(!response.headers().contains_key("connection"));
        stream.finish(None).expect("nothing more");
    }
}

#[tokio::test]
async fn interim_responses_come_first() {
    let (mut client, mut server) = usual().await;
    let mut sent = request("POST", "https://a.example/");
    let value = http::HeaderValue::from_static("100-continue");
    sent.headers_mut().insert("expect", value);
    let (mut response, mut body) = client.send_request(sent, false).expect("sent");
    let (head, mut stream) = server.next().await;
    assert!(head.expects_continue);
    stream.interim(&response_head(100, &[])).expect("100");
    let hints = response_head(103, &[("Link", "</a.css>")]);
    stream.interim(&hints).expect("103");
    let mut seen = Vec::new();
    for _ in 0..2 {
        let interim = std::future::poll_fn(|cx| response.poll_informational(cx)).await;
        let interim = interim.expect("one").expect("well formed");
        seen.push((interim.status().as_u16(), interim.headers().len()));
    }
    assert_eq!(seen, [(100, 0), (103, 1)]);
    body.send_data(bytes::Bytes::from_static(b"x"), true)
        .expect("sent");
    assert_eq!(read_all(&mut stream).await, Ok(b"x".to_vec()));
    answer(&head, &mut stream, 200, b"").await;
    assert_eq!(response.await.expect("answered").status(), 200);
}
