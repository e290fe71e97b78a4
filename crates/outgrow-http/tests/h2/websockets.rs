//! Extended CONNECT (RFC 8441): a request to change the protocol, and what follows is a tunnel.

use std::future::poll_fn;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::ext::Protocol;
use outgrow_core::Cause;
use outgrow_http::{Downstream, Tunnel};
use outgrow_message::{BodyLength, BodySource, Method};

use crate::support::{Server, answer, collect, push_all, read_all, request, response_head, usual};

/// A client that has heard that the server knows this.
async fn offered() -> (SendRequest<Bytes>, Server) {
    let (client, server) = usual().await;
    while !client.is_extended_connect_protocol_enabled() {
        tokio::task::yield_now().await;
    }
    (client, server)
}

fn websocket(protocol: &'static str) -> http::Request<()> {
    let mut request = request("CONNECT", "https://a.example/chat?room=1");
    let protocol = Protocol::from_static(protocol);
    request.extensions_mut().insert(protocol);
    let fields = request.headers_mut();
    let value = http::HeaderValue::from_static;
    fields.insert("sec-websocket-version", value("13"));
    fields.insert("sec-websocket-key", value("never"));
    request
}

#[tokio::test]
async fn a_websocket_is_a_tunnel_of_the_stream() {
    let (mut client, mut server) = offered().await;
    let (response, mut body) = client
        .send_request(websocket("websocket"), false)
        .expect("sent");
    tokio::spawn(async move {
        let (head, mut stream) = server.next().await;
        assert_eq!((head.method, head.length), (Method::Get, BodyLength::Empty));
        assert_eq!(head.text(head.method_text), b"GET");
        assert_eq!(head.text(head.target_text), b"/chat?room=1");
        assert!(head.wants_upgrade && stream.can_tunnel());
        assert_eq!(head.text(head.upgrade_to), b"websocket");
        // That of HTTP/1.1 is not the client's to say here.
        assert_eq!(head.fields.get_named(b"sec-websocket-key"), None);
        assert_eq!(
            head.fields.get_named(b"sec-websocket-version"),
            Some(&b"13"[..])
        );
        // It has no body.
        assert!(read_all(&mut stream).await.expect("no body").is_empty());
        let mut switched = response_head(101, &[("Sec-WebSocket-Protocol", "chat")]);
        switched.fields.remove_hop_by_hop();
        stream.switch(&switched, b"websocket").expect("open");
        while poll_fn(|cx| stream.poll_tunnel_data(cx))
            .await
            .expect("data")
        {
            let data = stream.data().to_vec();
            stream.consume(data.len());
            push_all(&mut stream, &data).await.expect("pushed");
        }
        poll_fn(|cx| stream.poll_tunnel_end(cx)).await.expect("end");
    });
    let response = response.await.expect("answered");
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["sec-websocket-protocol"], "chat");
    assert!(!response.headers().contains_key("content-length"));
    body.send_data(Bytes::from_static(b"there and "), false)
        .expect("sent");
    body.send_data(Bytes::from_static(b"back"), true)
        .expect("sent");
    let (bytes, _) = collect(response.into_body()).await.expect("whole");
    assert_eq!(bytes, b"there and back");
}

/// A server that knows no WebSocket answers 200; to the client that would be an open tunnel.
#[tokio::test]
async fn a_success_that_is_no_switch_is_not_passed_on() {
    let (mut client, mut server) = offered().await;
    let (response, _body) = client
        .send_request(websocket("websocket"), false)
        .expect("sent");
    tokio::spawn(async move {
        let (head, mut stream) = server.next().await;
        let told = stream.respond(&response_head(200, &[]), BodyLength::Known(5), head.method);
        assert_eq!(told.expect_err("refused").cause, Cause::UpstreamBadResponse);
        assert!(!stream.has_responded());
        answer(&head, &mut stream, 403, b"no").await;
    });
    let response = response.await.expect("answered");
    assert_eq!(response.status(), 403);
    let (bytes, _) = collect(response.into_body()).await.expect("whole");
    assert_eq!(bytes, b"no");
}

#[tokio::test]
async fn what_is_no_websocket_is_refused() {
    let mut long = websocket("websocket");
    let length = http::HeaderValue::from_static("5");
    long.headers_mut().insert("content-length", length);
    for (request, ends, expected) in [
        (websocket("connect-udp"), false, Cause::NotImplemented),
        (websocket("websocket"), true, Cause::BadRequest),
        (long, false, Cause::BadRequest),
    ] {
        let (mut client, mut server) = offered().await;
        let (_response, _body) = client.send_request(request, ends).expect("sent");
        let arrived = server.streams.recv().await.expect("a stream");
        assert_eq!(arrived.checked.expect_err("refused").cause, expected);
    }
}
