//! Bodies both ways: trailers, back-pressure, lengths.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use bytes::Bytes;
use h2::client::SendRequest;
use outgrow_http::Downstream;
use outgrow_http::h2::{H2Stream, Settings};
use outgrow_message::{BodyLength, BodySource, Fields};

use crate::support::{
    Server, answer, collect, connect, push_all, read_all, request, response_head, usual,
};

/// Bytes that tell their place.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at ^ (at >> 8)) as u8).collect()
}

#[tokio::test]
async fn an_echo_with_trailers_both_ways() {
    let (mut client, mut server) = usual().await;
    let sent = request("POST", "https://a.example/");
    let (response, mut body) = client.send_request(sent, false).expect("sent");
    tokio::spawn(async move {
        let (head, mut stream) = server.next().await;
        assert_eq!(head.length, BodyLength::Unknown);
        let body = read_all(&mut stream).await.expect("whole");
        let trailers = stream.trailers().expect("trailers").clone();
        assert_eq!(trailers.get_named(b"x-sum"), Some(&b"7"[..]));
        assert_eq!(trailers.get_named(b"content-type"), None, "not in trailers");
        let response = response_head(200, &[]);
        stream
            .respond(&response, BodyLength::Unknown, head.method)
            .expect("head");
        push_all(&mut stream, &body).await.expect("pushed");
        let mut back = Fields::default();
        back.push(b"X-Sum", trailers.get_named(b"x-sum").expect("there"));
        back.push(b"Connection", b"close");
        stream.finish(Some(&back)).expect("end");
    });
    for piece in ["one", "two", ""] {
        body.send_data(Bytes::from_static(piece.as_bytes()), false)
            .expect("sent");
    }
    let mut trailers = http::HeaderMap::new();
    trailers.insert("x-sum", http::HeaderValue::from_static("7"));
    trailers.insert("content-type", http::HeaderValue::from_static("a/b"));
    body.send_trailers(trailers).expect("sent");
    let response = response.await.expect("answered");
    assert!(!response.headers().contains_key("content-length"));
    let (bytes, trailers) = collect(response.into_body()).await.expect("whole");
    assert_eq!(bytes, b"onetwo");
    let trailers = trailers.expect("trailers");
    assert_eq!(
        (trailers.len(), &trailers["x-sum"]),
        (1, &"7".parse().expect("value"))
    );
}

#[tokio::test]
async fn a_client_that_reads_nothing_stops_the_response() {
    const WINDOW: usize = 20_000;
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(WINDOW as u32);
    let (mut client, mut server) = connect(Settings::default(), &builder).await;
    let body = pattern(3 << 20);
    let sent = request("GET", "https://a.example/");
    let (response, _) = client.send_request(sent, true).expect("sent");
    let (head, mut stream) = server.next().await;
    let response_head = response_head(200, &[]);
    stream
        .respond(
            &response_head,
            BodyLength::Known(body.len() as u64),
            head.method,
        )
        .expect("head");
    let response = response.await.expect("answered");

    // The client gives nothing of its window back.
    let mut pushed = 0;
    poll_fn(|cx| {
        loop {
            match stream.poll_push(cx, &body[pushed..]) {
                Poll::Ready(count) => pushed += count.expect("pushed"),
                Poll::Pending => return Poll::Ready(()),
            }
        }
    })
    .await;
    assert!((1..=WINDOW).contains(&pushed), "{pushed} bytes were taken");
    assert!(server.ledger.used_bytes() <= WINDOW as u64 + 16 * 1024);

    let rest = body[pushed..].to_vec();
    let pusher = tokio::spawn(async move {
        push_all(&mut stream, &rest).await.expect("pushed");
        stream.finish(None).expect("end");
    });
    let (bytes, _) = collect(response.into_body()).await.expect("whole");
    assert!(bytes == body);
    pusher.await.expect("pusher");
    assert_eq!(server.ledger.used_bytes(), 0);
}

#[tokio::test]
async fn a_client_with_huge_windows_that_takes_nothing_is_bounded() {
    let (ours, theirs) = tokio::net::UnixStream::pair().expect("pair");
    let settings = Settings::default();
    let mut server = Server::start(theirs, settings);
    let mut builder = h2::client::Builder::new();
    builder
        .initial_window_size(1 << 30)
        .initial_connection_window_size(1 << 30);
    let (client, mut connection) = builder
        .handshake::<_, Bytes>(ours)
        .await
        .expect("handshake");
    let sent = request("GET", "https://a.example/");
    let mut client = client;
    let (_response, _) = client.send_request(sent, true).expect("sent");
    // The client's connection is polled until the stream is there, and then never again.
    let (head, mut stream) = tokio::select! {
        next = server.next() => next,
        _ = &mut connection => panic!("the connection ended"),
    };
    let response_head = response_head(200, &[]);
    stream
        .respond(&response_head, BodyLength::Unknown, head.method)
        .expect("head");
    let piece = vec![1; 16 * 1024];
    let mut pushed = 0_u64;
    let mut highest = 0;
    // It ends when the socket, too, takes no more: then only the connection could wake us.
    for _ in 0..10_000 {
        let count = poll_fn(|cx| Poll::Ready(stream.poll_push(cx, &piece))).await;
        match count {
            Poll::Ready(count) => pushed += count.expect("pushed") as u64,
            Poll::Pending => tokio::task::yield_now().await,
        }
        highest = highest.max(server.ledger.used_bytes());
    }
    // What is gathered for one write comes on top.
    let gathered = 64 * 1024;
    let bound = settings.send_buffer_bytes as u64 + 2 * 16 * 1024 + gathered;
    assert!(
        highest <= bound,
        "{highest} bytes were held, {pushed} pushed"
    );
    assert!(pushed < 2 << 20, "{pushed} bytes went into the void");
}

#[tokio::test]
async fn a_server_that_reads_nothing_stops_the_request() {
    let settings = Settings {
        stream_window_bytes: 30_000,
        connection_window_bytes: 100_000,
        ..Settings::default()
    };
    let (mut client, mut server) = connect(settings, &h2::client::Builder::new()).await;
    let body = pattern(2 << 20);
    // A first exchange, so that our settings have arrived.
    let (response, _) = client
        .send_request(request("GET", "https://a.example/"), true)
        .expect("sent");
    let (head, mut stream) = server.next().await;
    answer(&head, &mut stream, 200, b"").await;
    response.await.expect("answered");

    let sent = request("PUT", "https://a.example/");
    let (response, mut sender) = client.send_request(sent, false).expect("sent");
    let (head, mut stream) = server.next().await;
    assert!(
        poll_fn(|cx| Poll::Ready(stream.poll_data(cx)))
            .await
            .is_pending()
    );
    let all = Bytes::from(body.clone());
    sender.reserve_capacity(all.len());
    let mut capacity = 0;
    while capacity < 30_000 {
        capacity = poll_fn(|cx| sender.poll_capacity(cx))
            .await
            .expect("open")
            .expect("capacity");
    }
    assert_eq!(capacity, 30_000, "never more than the window");
    sender.send_data(all, true).expect("queued");
    let got = read_all(&mut stream).await.expect("whole");
    assert!(got == body);
    answer(&head, &mut stream, 200, b"").await;
    assert_eq!(response.await.expect("answered").status(), 200);
}

#[tokio::test]
async fn without_memory_a_push_is_a_fault() {
    let (mut client, mut server) = usual().await;
    let sent = request("GET", "https://a.example/");
    let _response = client.send_request(sent, true).expect("sent");
    let (head, mut stream) = server.next().await;
    // What the worker has in hand goes back with the next block.
    let block = server.blocks.take();
    server.ledger.set_limit(0);
    drop(block);
    stream
        .respond(&response_head(200, &[]), BodyLength::Unknown, head.method)
        .expect("head");
    let fault = push_all(&mut stream, &[0; 16 * 1024]).await;
    assert_eq!(
        fault.expect_err("refused").cause,
        outgrow_core::Cause::MemoryLimit
    );
}

/// Nobody takes from it for now.
async fn settle(stream: &mut H2Stream) {
    poll_fn(|cx| {
        stream.settle(cx);
        Poll::Ready(())
    })
    .await;
}

/// An upload of more than all windows, which arrives as a whole.
async fn upload(client: &mut SendRequest<Bytes>, server: &mut Server) {
    let body = pattern(200_000);
    let put = request("PUT", "https://a.example/");
    let (response, mut sender) = client.send_request(put, false).expect("sent");
    let (head, mut stream) = server.next().await;
    sender
        .send_data(Bytes::from(body.clone()), true)
        .expect("queued");
    let got = read_all(&mut stream).await.expect("whole");
    assert!(got == body);
    answer(&head, &mut stream, 200, b"").await;
    response.await.expect("answered");
}

/// Who has not begun to take a body, since it waits in line, keeps nobody else waiting either: it is told
/// when something comes.
#[tokio::test]
async fn streams_that_wait_in_line_leave_the_others_their_window() {
    let settings = Settings {
        stream_window_bytes: 40_000,
        connection_window_bytes: 65_535,
        ..Settings::default()
    };
    let (mut client, mut server) = connect(settings, &h2::client::Builder::new()).await;
    let mut waiting = Vec::new();
    for _ in 0..3 {
        let put = request("PUT", "https://a.example/");
        let (response, mut sender) = client.send_request(put, false).expect("sent");
        let (_, mut stream) = server.next().await;
        // It waits before anything is there.
        let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
        let waits = tokio::spawn(async move {
            poll_fn(|cx| {
                stream.settle(cx);
                Pin::new(&mut stopped).poll(cx).map(|_| ())
            })
            .await;
            stream
        });
        tokio::task::yield_now().await;
        sender
            .send_data(Bytes::from(vec![b'x'; 40_000]), true)
            .expect("queued");
        waiting.push((response, stop, waits));
    }
    upload(&mut client, &mut server).await;
    for (_, stop, waits) in waiting {
        stop.send(()).expect("it waits");
        let got = read_all(&mut waits.await.expect("a stream")).await;
        assert_eq!(got.expect("whole").len(), 40_000);
    }
}

/// Streams that nobody takes from, tunnels whose readers do not read, keep nobody else waiting.
#[tokio::test]
async fn stalled_streams_leave_the_others_their_window() {
    let settings = Settings {
        stream_window_bytes: 30_000,
        connection_window_bytes: 65_535,
        ..Settings::default()
    };
    let (mut client, mut server) = connect(settings, &h2::client::Builder::new()).await;
    let before = server.ledger.used_bytes();
    let mut stalled = Vec::new();
    for _ in 0..5 {
        let put = request("PUT", "https://a.example/");
        let (response, mut sender) = client.send_request(put, false).expect("sent");
        let (_, mut stream) = server.next().await;
        sender
            .send_data(Bytes::from(vec![b'x'; 30_000]), false)
            .expect("queued");
        // All of them come, which is more than the connection's window.
        let came = poll_fn(|cx| stream.poll_data(cx)).await;
        assert!(came.expect("data"));
        settle(&mut stream).await;
        settle(&mut stream).await;
        stalled.push((response, sender, stream));
    }
    upload(&mut client, &mut server).await;
    let counted = server.ledger.used_bytes() - before;
    assert!(counted >= 5 * 30_000, "{counted}");
    // Taken at last, they go on.
    for (_, mut sender, mut stream) in stalled {
        sender.send_data(Bytes::new(), true).expect("queued");
        let got = read_all(&mut stream).await.expect("whole");
        assert_eq!(got.len(), 30_000);
    }
}
