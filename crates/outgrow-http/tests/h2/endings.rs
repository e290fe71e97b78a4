//! Ends that are not the usual one: resets by either side, early answers, drain, floods.

use std::future::poll_fn;
use std::task::Poll;

use bytes::Bytes;
use h2::Reason;
use outgrow_core::Cause;
use outgrow_http::Downstream;
use outgrow_http::h2::Settings;
use outgrow_message::{BodyLength, BodySource};

use crate::support::{answer, collect, connect, push_all, request, response_head, usual};

fn get() -> http::Request<()> {
    request("GET", "https://a.example/")
}

#[tokio::test]
async fn a_reset_by_the_client_is_seen_at_every_stage() {
    let (mut client, mut server) = usual().await;
    for stage in ["waiting", "streaming", "reading"] {
        let sent = request("POST", "https://a.example/");
        let (response, mut sender) = client.send_request(sent, false).expect("sent");
        let (head, mut stream) = server.next().await;
        if stage == "streaming" {
            stream
                .respond(&response_head(200, &[]), BodyLength::Unknown, head.method)
                .expect("head");
        }
        let gone = poll_fn(|cx| Poll::Ready(stream.poll_gone(cx))).await;
        assert!(gone.is_pending(), "{stage}");
        sender.send_reset(Reason::CANCEL);
        let fault = match stage {
            "reading" => poll_fn(|cx| stream.poll_data(cx)).await.expect_err("cut"),
            _ => poll_fn(|cx| stream.poll_gone(cx)).await,
        };
        assert_eq!(fault.cause, Cause::ClientGone, "{stage}");
        if stage == "streaming" {
            let fault = push_all(&mut stream, b"x").await.expect_err("gone");
            assert_eq!(fault.cause, Cause::ClientGone);
        }
        drop((response, stream));
    }
    // The connection is none the worse for it.
    let (response, _) = client.send_request(get(), true).expect("sent");
    let (head, mut stream) = server.next().await;
    answer(&head, &mut stream, 200, b"").await;
    assert_eq!(response.await.expect("answered").status(), 200);
}

#[tokio::test]
async fn a_connection_that_breaks_is_seen_by_its_streams() {
    let (ours, theirs) = tokio::net::UnixStream::pair().expect("pair");
    let mut server = crate::support::Server::start(theirs, Settings::default());
    let (mut client, connection) = h2::client::handshake(ours).await.expect("handshake");
    let connection = tokio::spawn(connection);
    let _response = client.send_request(get(), true).expect("sent");
    let (_, mut stream) = server.next().await;
    connection.abort();
    let fault = poll_fn(|cx| stream.poll_gone(cx)).await;
    assert_eq!(fault.cause, Cause::ClientGone);
    drop((client, stream));
    let fault = server.ended.await.expect("pump");
    assert!(fault.is_none_or(|fault| fault.cause == Cause::ClientGone));
}

#[tokio::test]
async fn a_cut_off_response_never_looks_whole() {
    let (mut client, mut server) = usual().await;
    for (how, length) in [
        ("abort", BodyLength::Unknown),
        ("abort", BodyLength::Known(10)),
        ("drop", BodyLength::Unknown),
    ] {
        let (response, _) = client.send_request(get(), true).expect("sent");
        let (head, mut stream) = server.next().await;
        stream
            .respond(&response_head(200, &[]), length, head.method)
            .expect("head");
        push_all(&mut stream, b"some").await.expect("pushed");
        let body = response.await.expect("answered").into_body();
        if how == "abort" {
            stream.abort();
        }
        drop(stream);
        let error = collect(body).await.expect_err("cut off");
        assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR), "{how}");
    }
    let (response, _) = client.send_request(get(), true).expect("sent");
    let (_, stream) = server.next().await;
    drop(stream);
    let error = response.await.expect_err("no answer at all");
    assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR));
}

#[tokio::test]
async fn an_early_answer_is_whole_and_the_rest_is_not_wanted() {
    let (mut client, mut server) = usual().await;
    let sent = request("POST", "https://a.example/");
    let (response, mut sender) = client.send_request(sent, false).expect("sent");
    sender
        .send_data(Bytes::from(vec![0; 1000]), false)
        .expect("sent");
    let (head, mut stream) = server.next().await;
    assert_eq!(poll_fn(|cx| stream.poll_data(cx)).await, Ok(true));
    answer(&head, &mut stream, 413, b"too much").await;
    drop(stream);
    let response = response.await.expect("answered");
    assert_eq!(response.status(), 413);
    let (body, _) = collect(response.into_body()).await.expect("whole");
    assert_eq!(body, b"too much");
    let reset = poll_fn(|cx| sender.poll_reset(cx)).await;
    assert_eq!(reset.expect("reset"), Reason::NO_ERROR);
}

#[tokio::test]
async fn early_answers_give_the_connection_its_window_back() {
    // Were data that nobody took not given back, the fifth of these would hang.
    let (mut client, mut server) = usual().await;
    for _ in 0..20 {
        client = client.ready().await.expect("ready");
        let sent = request("POST", "https://a.example/");
        let (response, mut sender) = client.send_request(sent, false).expect("sent");
        let (head, mut stream) = server.next().await;
        sender
            .send_data(Bytes::from(vec![0; 60_000]), false)
            .expect("sent");
        assert_eq!(poll_fn(|cx| stream.poll_data(cx)).await, Ok(true));
        answer(&head, &mut stream, 403, b"").await;
        drop(stream);
        assert_eq!(response.await.expect("answered").status(), 403);
    }
}

#[tokio::test]
async fn a_drain_finishes_what_is_open() {
    let (mut client, mut server) = usual().await;
    let (response, _) = client.send_request(get(), true).expect("sent");
    let (head, mut stream) = server.next().await;
    stream
        .respond(&response_head(200, &[]), BodyLength::Unknown, head.method)
        .expect("head");
    push_all(&mut stream, b"begun ").await.expect("pushed");
    server.drain.send(()).expect("asked");
    let response = response.await.expect("answered");
    // A client that has seen the GOAWAY opens no stream any more.
    loop {
        match client.clone().ready().await {
            Err(error) => {
                assert!(error.is_go_away(), "{error:?}");
                break;
            }
            Ok(_) => tokio::task::yield_now().await,
        }
    }
    push_all(&mut stream, b"and ended").await.expect("pushed");
    stream.finish(None).expect("end");
    drop(stream);
    let (body, _) = collect(response.into_body()).await.expect("whole");
    assert_eq!(body, b"begun and ended");
    assert_eq!(server.ended.await.expect("pump"), None);
}

#[tokio::test]
async fn a_flood_of_resets_ends_the_connection() {
    let settings = Settings {
        premature_resets: 10,
        ..Settings::default()
    };
    let (client, mut server) = connect(settings, &h2::client::Builder::new()).await;
    let mut made = 0;
    let mut client = Some(client);
    while let Some(ready) = client.take() {
        let Ok(mut ready) = ready.ready().await else {
            break;
        };
        let Ok((response, mut sender)) =
            ready.send_request(request("POST", "https://a.example/"), false)
        else {
            break;
        };
        let Some(mut arrived) = server.streams.recv().await else {
            break;
        };
        made += 1;
        assert!(made < 20, "nobody stops it");
        sender.send_reset(Reason::CANCEL);
        poll_fn(|cx| arrived.stream.poll_gone(cx)).await;
        drop((response, arrived));
        client = Some(ready);
    }
    assert!(made > 10, "stopped after {made}");
    server.ended.await.expect("pump");
}

#[tokio::test]
async fn a_client_that_cancels_answered_streams_is_left_alone() {
    let settings = Settings {
        premature_resets: 3,
        ..Settings::default()
    };
    let (mut client, mut server) = connect(settings, &h2::client::Builder::new()).await;
    for _ in 0..20 {
        client = client.ready().await.expect("not closed");
        let (response, _) = client.send_request(get(), true).expect("sent");
        let (head, mut stream) = server.next().await;
        stream
            .respond(&response_head(200, &[]), BodyLength::Unknown, head.method)
            .expect("head");
        drop(response.await.expect("answered"));
        poll_fn(|cx| stream.poll_gone(cx)).await;
    }
}
