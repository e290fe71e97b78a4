//! A body through a decompressor with nobody around it: for fuzzing.

use std::net::{IpAddr, Ipv6Addr};
use std::task::{Context, Poll, Waker};

use outgrow_core::{Cause, Clock, Fault};
use outgrow_message::{Blocks, BodySource, Fields, Ledger};

use super::inflater::{Bounds, Inflater};
use crate::compress::{Desk, Shelf};
use crate::settings::RequestCoding;

/// The memory of a process, of which decompressors have a quarter.
const MEMORY: u64 = 256 << 20;
/// The most that a body may become.
const MOST_BYTES: u64 = 1 << 20;

/// A client that has everything at hand, and gives so much of it at a time.
struct Whole<'a> {
    rest: &'a [u8],
    piece: usize,
}

impl BodySource for Whole<'_> {
    fn poll_data(&mut self, _: &mut Context<'_>) -> Poll<Result<bool, Fault>> {
        Poll::Ready(Ok(!self.rest.is_empty()))
    }

    fn data(&self) -> &[u8] {
        &self.rest[..self.rest.len().min(self.piece)]
    }

    fn consume(&mut self, count: usize) {
        self.rest = &self.rest[count..];
    }

    fn trailers(&mut self) -> Option<&mut Fields> {
        None
    }
}

/// What a body becomes that comes in pieces of `piece` bytes (at least one), and why it is refused, if it
/// is. What it becomes is bound to 1 MiB, and its window to `window` bytes.
///
/// # Errors
/// The cause with which a client would be answered.
pub fn decompressed(
    coding: RequestCoding,
    body: &[u8],
    piece: usize,
    window: u64,
) -> (Vec<u8>, Result<(), Cause>) {
    let ledger = Ledger::new(MEMORY);
    let shelf = Shelf::new(std::sync::Arc::clone(&ledger), 1);
    let desk = Desk::new(shelf, Blocks::new(ledger), Clock::start());
    let bounds = Bounds {
        coded: None,
        plain: MOST_BYTES,
        ratio: u64::MAX,
        window,
    };
    let mut plain = Vec::new();
    let client = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let mut inflater = Inflater::new(&desk, (coding, bounds), client);
    let mut down = Whole {
        rest: body,
        piece: piece.max(1),
    };
    let mut cx = Context::from_waker(Waker::noop());
    loop {
        match inflater.poll_data(&mut cx, &mut down) {
            // A thread is at it.
            Poll::Pending => std::thread::yield_now(),
            Poll::Ready(Ok(true)) => {
                let data = inflater.data();
                plain.extend_from_slice(data);
                let count = data.len();
                inflater.consume(count);
            }
            Poll::Ready(Ok(false)) => return (plain, Ok(())),
            Poll::Ready(Err(fault)) => return (plain, Err(fault.cause)),
        }
    }
}
