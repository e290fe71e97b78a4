//! Buffers: what they hold, and that they hold no memory for nothing.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, Waker};

use outgrow_message::{Method, RequestHead};
use outgrow_net::Transport;

use super::blocks;
use super::wire::{Then, Wire, run};
use crate::conn::server::NoRequest;
use crate::conn::{ReadBuffer, ServerConnection, WriteBuffer};
use crate::downstream::Downstream;
use crate::h1::{Limits, Reject};
use outgrow_core::Cause;

fn head_of(bytes: usize) -> Vec<u8> {
    let frame = b"GET / HTTP/1.1\r\nHost: a\r\nX: \r\n\r\n".len();
    let value = "v".repeat(bytes - frame);
    format!("GET / HTTP/1.1\r\nHost: a\r\nX: {value}\r\n\r\n").into_bytes()
}

/// A limit is what it says, also when it is larger than a block.
#[test]
fn heads_are_taken_up_to_their_limit() {
    let check = |limit: usize, length: usize, good: bool| {
        let wire = Wire::in_pieces(3_000, &head_of(length), Then::Silence);
        let (ledger, blocks) = blocks();
        let limits = Limits {
            head_bytes: limit,
            ..Limits::default()
        };
        let mut connection = ServerConnection::new(wire.clone(), blocks, limits);
        let mut head = RequestHead::default();
        let got = run(&[&wire], poll_fn(|cx| connection.poll_head(cx, &mut head)));
        let expected = if good {
            Ok(())
        } else {
            let detail = "the head is too large";
            Err(NoRequest::Reject(Reject {
                cause: Cause::HeadTooLarge,
                detail,
            }))
        };
        assert_eq!(got, Some(expected), "{length} of {limit}");
        assert!(ledger.used_bytes() <= 256 * 1024);
    };
    check(16 * 1024, 16 * 1024, true);
    check(16 * 1024, 16 * 1024 + 1, false);
    check(1_024, 1_024, true);
    check(1_024, 1_025, false);
    check(64 * 1024, 64 * 1024, true);
    check(64 * 1024, 64 * 1024 + 1, false);
    check(100_000, 100_000, true);
    check(256 * 1024, 200_000, true);
    check(1024 * 1024, 300_000, false);
}

/// A large body must not leave its mark on the connection.
#[test]
fn after_a_large_body_heads_are_read_into_small_blocks_again() {
    let request = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n";
    let wire = Wire::in_pieces(
        1 << 20,
        &[&request[..], &vec![b'x'; 1_000_000]].concat(),
        Then::Silence,
    );
    let (ledger, blocks) = blocks();
    let mut connection = ServerConnection::new(wire.clone(), blocks, Limits::default());
    let mut head = RequestHead::default();
    let mut most = 0;
    run(&[&wire], async {
        use outgrow_message::BodySource;
        poll_fn(|cx| connection.poll_head(cx, &mut head))
            .await
            .expect("a request");
        while poll_fn(|cx| connection.poll_data(cx))
            .await
            .expect("a body")
        {
            most = most.max(ledger.used_bytes());
            let length = connection.data().len();
            connection.consume(length);
        }
    })
    .expect("all of it is there");
    assert_eq!(
        most,
        256 * 1024,
        "a large body is read into the largest block"
    );
    connection.rest();
    wire.feed(0, b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /2", Then::Silence);
    run(&[&wire], poll_fn(|cx| connection.poll_head(cx, &mut head)))
        .expect("there")
        .expect("good");
    connection.rest();
    assert_eq!(run(&[&wire], poll_fn(|cx| connection.poll_gone(cx))), None);
    assert!(ledger.used_bytes() <= 256 * 1024);
    wire.feed(0, b" HTTP/1.1\r\nHost: a\r\n\r\n", Then::Silence);
    run(&[&wire], poll_fn(|cx| connection.poll_head(cx, &mut head)))
        .expect("there")
        .expect("good");
    connection.rest();
    assert_eq!(ledger.used_bytes(), 0);
    wire.feed(0, b"G", Then::Silence);
    assert_eq!(
        run(&[&wire], poll_fn(|cx| connection.poll_head(cx, &mut head))),
        None
    );
    assert_eq!(ledger.used_bytes(), 16 * 1024);
    assert_eq!(head.method, Method::Get);
}

#[test]
fn a_write_buffer_grows_up_to_the_largest_block_and_no_further() {
    let (ledger, blocks) = blocks();
    let mut buffer = WriteBuffer::default();
    assert!(buffer.reserve(1, &blocks));
    assert_eq!(
        (buffer.append(&[1; 10]), ledger.used_bytes()),
        (10, 16 * 1024)
    );
    assert!(buffer.fits(16 * 1024 - 10) && !buffer.fits(16 * 1024 - 9));
    assert!(buffer.reserve(50_000, &blocks));
    assert_eq!(
        (buffer.append(&[2; 50_000]), ledger.used_bytes()),
        (50_000, 64 * 1024)
    );
    assert!(buffer.reserve(200_000, &blocks));
    assert_eq!(ledger.used_bytes(), 256 * 1024);
    assert!(!buffer.reserve(256 * 1024, &blocks));
    assert_eq!(buffer.len(), 50_010);
    let mut wire = Wire::in_pieces(999, b"", Then::Silence);
    let flushed = {
        let end = wire.clone();
        run(&[&end], poll_fn(|cx| buffer.poll_flush(cx, &mut wire)))
    };
    assert!(matches!(flushed, Some(Ok(()))));
    assert_eq!(wire.output(), [&[1; 10][..], &[2; 50_000]].concat());
    assert_eq!((ledger.used_bytes(), buffer.written()), (0, 50_010));
}

#[test]
fn a_read_buffer_gives_its_block_back_while_nothing_comes() {
    let (ledger, blocks) = blocks();
    let mut buffer = ReadBuffer::default();
    let mut wire = Wire::in_pieces(4, b"abcdef", Then::Silence);
    let end = wire.clone();
    let mut fill = |buffer: &mut ReadBuffer| {
        run(
            &[&end],
            poll_fn(|cx| buffer.poll_fill(cx, &mut wire, &blocks)),
        )
    };
    assert!(matches!(fill(&mut buffer), Some(Ok(1..=4))));
    let here = buffer.bytes().len();
    buffer.consume(here);
    while buffer.bytes().is_empty() && fill(&mut buffer).is_some() {
        buffer.consume(usize::MAX / 2);
    }
    assert_eq!((ledger.used_bytes(), buffer.is_full()), (0, false));
}

/// Gives as much as is asked for.
struct Spring;

impl Transport for Spring {
    fn poll_read(&mut self, _: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(buffer.len()))
    }

    fn poll_write(&mut self, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        &mut self,
        _: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()))
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// What waits for somebody who takes nothing is little, and what is taken comes in large pieces soon.
#[test]
fn what_is_passed_on_is_read_ahead_as_it_is_taken() {
    let (ledger, blocks) = blocks();
    let mut cx = Context::from_waker(Waker::noop());
    let mut buffer = ReadBuffer::for_passing_on_one_of_many();
    let mut fill = |buffer: &mut ReadBuffer| {
        let filled = buffer.poll_fill(&mut cx, &mut Spring, &blocks);
        assert!(matches!(filled, Poll::Ready(Ok(1..))));
        let came = buffer.bytes().len();
        buffer.settle(&blocks);
        (came / 1024, ledger.used_bytes() / 1024)
    };
    assert_eq!(fill(&mut buffer), (16, 16));
    buffer.consume(16 * 1024);
    assert_eq!(fill(&mut buffer), (80, 256));
    buffer.consume(80 * 1024);
    assert_eq!(fill(&mut buffer), (256, 256));
    drop(buffer);
    // A connection with one exchange at a time has the largest piece at once.
    let mut buffer = ReadBuffer::for_passing_on();
    assert_eq!(fill(&mut buffer), (256, 256));
}
