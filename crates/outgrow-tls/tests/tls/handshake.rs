//! Handshakes with a real TLS client: choice by name, reload, protocols, resumption, nonsense.

use std::future::poll_fn;

use crate::support::{Client, client_config, connect, issue, pair, server, shown, text, tickets};
use outgrow_core::{Cause, Random, WallTime};
use outgrow_net::Transport;
use outgrow_tls::ServerTls;
use rustls::version::{TLS12, TLS13};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Sends a line each way.
async fn exchange(client: &mut Client, ours: &mut outgrow_tls::TlsStream) {
    client.write_all(b"ping").await.expect("written");
    client.flush().await.expect("flushed");
    let mut bytes = [0; 4];
    let count = poll_fn(|cx| ours.poll_read(cx, &mut bytes)).await;
    assert_eq!((count.expect("read"), &bytes), (4, b"ping"));
    let count = poll_fn(|cx| ours.poll_write(cx, b"pong")).await;
    assert_eq!(count.expect("written"), 4);
    poll_fn(|cx| ours.poll_flush(cx)).await.expect("flushed");
    client.read_exact(&mut bytes).await.expect("read");
    assert_eq!(&bytes, b"pong");
}

#[tokio::test]
async fn the_certificate_is_that_of_the_name() {
    let first = issue(&["first.example"]);
    let wild = issue(&["*.shop.example", "shop.example"]);
    let exact = issue(&["pay.shop.example"]);
    let server = server(&[&first, &wild, &exact], &tickets(1));
    let check = async |name: &str, expected: &crate::support::Issued| {
        let (client, ours) = connect(&server, &client_config(&TLS13, &[]), name).await;
        assert!(shown(&client) == expected.der, "{name}");
        let asked = (!name.starts_with('[') && name != "127.0.0.1").then_some(name);
        assert_eq!(
            ours.sni().map(str::to_owned),
            asked.map(str::to_ascii_lowercase)
        );
    };
    check("first.example", &first).await;
    check("shop.example", &wild).await;
    check("a.shop.example", &wild).await;
    check("A.Shop.Example", &wild).await;
    check("pay.shop.example", &exact).await;
    check("a.b.shop.example", &first).await;
    check("unknown.example", &first).await;
    check("127.0.0.1", &first).await;
}

#[tokio::test]
async fn a_reload_is_for_new_connections_only() {
    let (old, new) = (issue(&["a.example"]), issue(&["a.example"]));
    let server = server(&[&old], &tickets(1));
    let config = client_config(&TLS13, &[b"http/1.1"]);
    let (mut client, mut ours) = connect(&server, &config, "a.example").await;
    assert!(shown(&client) == old.der);

    // One that has begun its handshake keeps what it began with.
    let (half, half_ours) = pair();
    let begun = server.accept(half_ours);
    assert_eq!(
        server.replace(&text(&[&new]), WallTime::now()),
        Ok(Vec::new())
    );
    let name = rustls_pki_types::ServerName::try_from("a.example").expect("name");
    let fresh = client_config(&TLS13, &[]);
    let connector = tokio_rustls::TlsConnector::from(fresh.clone());
    let (half, begun) = tokio::join!(connector.connect(name, half), begun);
    assert!(shown(&half.expect("client")) == old.der && begun.is_ok());

    exchange(&mut client, &mut ours).await;
    let (mut client, mut ours) = connect(&server, &fresh, "a.example").await;
    exchange(&mut client, &mut ours).await;

    // A reload that fails changes nothing.
    let mut broken = text(&[&old]);
    broken.certificates[0].key = new.text.key.clone();
    assert!(server.replace(&broken, WallTime::now()).is_err());
    let unknown = client_config(&TLS13, &[]);
    let (client, _ours) = connect(&server, &unknown, "a.example").await;
    assert!(shown(&client) == new.der);
    assert_eq!(server.certificates()[0].names, ["a.example"]);
}

#[tokio::test]
async fn the_protocol_is_agreed_on() {
    let certificate = issue(&["a.example"]);
    let server = server(&[&certificate], &tickets(1));
    let check = async |offered: &[&[u8]], expected: Option<&[u8]>| {
        let config = client_config(&TLS13, offered);
        let (mut client, mut ours) = connect(&server, &config, "a.example").await;
        assert_eq!(ours.alpn(), expected);
        exchange(&mut client, &mut ours).await;
    };
    check(&[b"http/1.1", b"h2"], Some(b"h2")).await;
    check(&[b"http/1.1"], Some(b"http/1.1")).await;
    check(&[], None).await;

    let (client, ours) = pair();
    let connector = tokio_rustls::TlsConnector::from(client_config(&TLS13, &[b"spdy/3"]));
    let name = rustls_pki_types::ServerName::try_from("a.example").expect("name");
    let (client, ours) = tokio::join!(connector.connect(name, client), server.accept(ours));
    assert!(client.is_err());
    assert_eq!(ours.expect_err("refused").cause, Cause::BadRequest);
}

#[tokio::test]
async fn sessions_are_resumed_by_another_process_with_the_same_secrets() {
    let certificate = issue(&["a.example"]);
    for version in [&TLS13, &TLS12] {
        let config = client_config(version, &[b"http/1.1"]);
        let visit = async |server: &ServerTls| {
            let (mut client, mut ours) = connect(server, &config, "a.example").await;
            // The ticket comes with the first bytes.
            exchange(&mut client, &mut ours).await;
            let resumed = client.get_ref().1.handshake_kind();
            assert_eq!(
                resumed == Some(rustls::HandshakeKind::Resumed),
                ours.is_resumed()
            );
            ours.is_resumed()
        };
        let (old, new) = (tickets(1), tickets(1));
        assert!(!visit(&server(&[&certificate], &old)).await);
        let other = server(&[&certificate], &new);
        assert!(visit(&other).await, "{version:?}");
        let secrets = [2, 1].map(|byte| outgrow_tls::TicketSecret::new([byte; 32]));
        new.rotate(&secrets).expect("rotated");
        assert!(visit(&other).await, "the secret before is still read");
        new.rotate(&[outgrow_tls::TicketSecret::new([3; 32])])
            .expect("rotated");
        assert!(!visit(&other).await, "its secret is forgotten");
        assert!(visit(&other).await);
    }
}

#[tokio::test]
async fn nonsense_is_a_fault() {
    let certificate = issue(&["a.example"]);
    let server = server(&[&certificate], &tickets(1));
    let check = async |bytes: &[u8], expected: &[Cause], what: &str| {
        let (mut client, ours) = pair();
        client.write_all(bytes).await.expect("written");
        client.shutdown().await.expect("shut down");
        let fault = server.accept(ours).await.expect_err("refused");
        assert!(expected.contains(&fault.cause), "{what}: {fault:?}");
    };
    check(b"", &[Cause::ClientGone], "nothing").await;
    let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    check(request, &[Cause::BadRequest], "plain HTTP").await;
    check(&[0x16, 3, 1, 0, 200], &[Cause::ClientGone], "cut off").await;
    let any = [Cause::BadRequest, Cause::ClientGone];
    for seed in 0..500 {
        let mut random = Random::from_seed(seed);
        let mut bytes = vec![0x16, 3, 1, 0, 100, 1, 0, 0, 96, 3, 3];
        bytes.resize_with(5 + 100 + random.below(300), || random.next_u64() as u8);
        if seed % 2 == 0 {
            bytes.drain(..random.below(11));
        }
        check(&bytes, &any, &format!("seed {seed}")).await;
    }
}

#[tokio::test]
async fn what_is_held_back_goes_out_while_the_engine_reads() {
    let certificate = issue(&["a.example"]);
    let server = server(&[&certificate], &tickets(1));
    let config = client_config(&TLS13, &[]);
    let (mut client, mut ours) = connect(&server, &config, "a.example").await;
    // Until the kernel takes no more: then records lie in the TLS layer.
    let piece = vec![7; 16 * 1024];
    let mut written = 0;
    poll_fn(|cx| {
        loop {
            match ours.poll_write(cx, &piece) {
                std::task::Poll::Ready(count) => written += count.expect("written"),
                std::task::Poll::Pending => return std::task::Poll::Ready(()),
            }
        }
    })
    .await;
    let reader = tokio::spawn(async move {
        let mut bytes = vec![0; written];
        client.read_exact(&mut bytes).await.expect("all of it");
        client.write_all(b"x").await.expect("written");
        client
    });
    // No flush: only reading, as between two requests.
    let mut byte = [0];
    let count = poll_fn(|cx| ours.poll_read(cx, &mut byte)).await;
    assert_eq!(count.expect("read"), 1);

    let mut client = reader.await.expect("reader");
    poll_fn(|cx| ours.poll_shutdown(cx)).await.expect("shut");
    assert_eq!(
        client.read(&mut byte).await.expect("a clean end"),
        0,
        "close_notify was sent"
    );
}
