//! Clients that wait, leave, pipeline or flood, one at a time.

use std::future::poll_fn;
use std::sync::Arc;

use outgrow_core::Cause;
use outgrow_message::{BodyLength, BodySource, Method, RequestHead, ResponseHead};

use super::wire::{Then, Wire, run};
use super::{blocks, over_seeds};
use crate::conn::ServerConnection;
use crate::conn::server::NoRequest;
use crate::downstream::Downstream;
use crate::h1::Limits;

/// The client sends its body only when it has been told to.
#[test]
fn a_client_that_waits_for_100_gets_it() {
    over_seeds(500, |seed| {
        let head =
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
        let wire = Wire::new(seed, head, Then::Silence, 0);
        let (_, blocks) = blocks();
        let mut connection = ServerConnection::new(wire.clone(), blocks, Limits::default());
        let mut request = RequestHead::default();
        let asked = async {
            poll_fn(|cx| connection.poll_head(cx, &mut request))
                .await
                .expect("a request");
            let mut interim = ResponseHead::default();
            interim.status = 100;
            connection.interim(&interim).expect("there is memory");
            poll_fn(|cx| connection.poll_flush(cx))
                .await
                .expect("the client is there");
        };
        run(&[&wire], asked).expect("nothing waits for the body");
        assert_eq!(wire.output(), b"HTTP/1.1 100 Continue\r\n\r\n");
        wire.feed(0, b"hello", Then::Silence);
        let got = run(&[&wire], poll_fn(|cx| connection.poll_data(cx)));
        assert_eq!(got, Some(Ok(true)));
    });
}

/// While an answer is awaited the client is watched, and what it sends meanwhile is kept.
#[test]
fn a_client_that_goes_is_seen_and_one_that_pipelines_is_not_lost() {
    over_seeds(500, |seed| {
        let first = b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n";
        let second = b"GET /2 HTTP/1.1\r\nHost: a\r\n\r\n";
        for then in [Then::End, Then::Reset, Then::Silence] {
            let wire = Wire::new(seed, &[&first[..], second].concat(), then, 0);
            let (_, blocks) = blocks();
            let mut connection = ServerConnection::new(wire.clone(), blocks, Limits::default());
            let mut request = RequestHead::default();
            let head = run(
                &[&wire],
                poll_fn(|cx| connection.poll_head(cx, &mut request)),
            );
            assert_eq!(head, Some(Ok(())));
            let gone = run(&[&wire], poll_fn(|cx| connection.poll_gone(cx)));
            assert_eq!(
                gone.map(|fault| fault.cause),
                match then {
                    Then::Silence => None,
                    _ => Some(Cause::ClientGone),
                }
            );
            assert_eq!(connection.peek(), second);
            // One that closed its side is answered what it asked before.
            assert_eq!(connection.is_half_closed(), then == Then::End);
            assert_eq!(connection.can_continue(), then != Then::Reset);
            if then == Then::End {
                let mut next = |connection: &mut ServerConnection<Wire>| {
                    run(
                        &[&wire],
                        poll_fn(|cx| connection.poll_head(cx, &mut request)),
                    )
                };
                assert_eq!(next(&mut connection), Some(Ok(())));
                let gone = run(&[&wire], poll_fn(|cx| connection.poll_gone(cx)));
                assert!(gone.is_some() && !connection.can_continue());
                assert_eq!(next(&mut connection), Some(Err(NoRequest::Closed)));
            }
        }
    });
}

/// A client that sends without end while an answer is awaited is not read without end.
#[test]
fn a_flood_of_pipelined_bytes_is_bounded() {
    let input = [
        &b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n"[..],
        &vec![b'x'; 1 << 20],
    ]
    .concat();
    let wire = Wire::in_pieces(5_000, &input, Then::Silence);
    let (ledger, blocks) = blocks();
    let mut connection = ServerConnection::new(wire.clone(), blocks, Limits::default());
    let mut request = RequestHead::default();
    let head = run(
        &[&wire],
        poll_fn(|cx| connection.poll_head(cx, &mut request)),
    );
    assert_eq!(head, Some(Ok(())));
    let waker = std::task::Waker::noop();
    let mut cx = std::task::Context::from_waker(waker);
    for _ in 0..1_000 {
        assert!(connection.poll_gone(&mut cx).is_pending());
    }
    assert!(connection.peek().len() <= 16 * 1024);
    assert!(ledger.used_bytes() <= 64 * 1024, "{}", ledger.used_bytes());
}

/// An unlucky moment without memory is ours to answer for, not the client's.
#[test]
fn memory_that_ends_blames_nobody_else() {
    let wire = Wire::in_pieces(1 << 20, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", Then::Silence);
    let (ledger, blocks) = blocks();
    let supply = Arc::clone(&blocks);
    let mut connection = ServerConnection::new(wire.clone(), blocks, Limits::default());
    let mut request = RequestHead::default();
    let head = run(
        &[&wire],
        poll_fn(|cx| connection.poll_head(cx, &mut request)),
    );
    assert_eq!(head, Some(Ok(())));
    let mut response = ResponseHead::default();
    response.status = 200;
    connection
        .respond(&response, BodyLength::Unknown, Method::Get)
        .expect("memory for a head");
    let flushed = run(&[&wire], poll_fn(|cx| connection.poll_flush(cx)));
    assert_eq!(flushed, Some(Ok(())));
    ledger.set_limit(0);
    let mut taken = Vec::new();
    taken.extend(std::iter::from_fn(|| supply.take()));
    let pushed = run(&[&wire], poll_fn(|cx| connection.poll_push(cx, b"hello")));
    let fault = pushed.expect("not pending").expect_err("no memory");
    assert_eq!(
        (fault.cause, fault.side),
        (Cause::MemoryLimit, outgrow_core::Side::Outgrow)
    );
}
