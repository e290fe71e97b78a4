//! A request's stream of HTTP/3: frames and field sections. Nothing panics, there is an end to it, how it
//! is cut into packets makes no difference, what was said stays said when less of it comes, and what is
//! written anew means the same.
#![no_main]

use std::io::{self, IoSlice};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};

use libfuzzer_sys::fuzz_target;
use outgrow_http::h1::Limits;
use outgrow_http::h3::inspect::{self, End, Seen};
use outgrow_message::{Blocks, Ledger};

/// Reads of one input at most: pieces of one byte are for short inputs.
const MOST_READS: usize = 512;
const LIMITS: Limits = Limits {
    head_bytes: 4_096,
    fields: 32,
    target_bytes: 512,
};

/// One supply for all inputs: its blocks are used again, as a worker's are.
static SUPPLY: LazyLock<(Arc<Ledger>, Arc<Blocks>)> = LazyLock::new(|| {
    let ledger = Ledger::new(1 << 24);
    (Arc::clone(&ledger), Blocks::new(ledger))
});

/// Gives `piece` bytes a call, and then the end, if there is one.
struct Wire<'a> {
    input: &'a [u8],
    piece: usize,
    ends: bool,
}

impl outgrow_net::Transport for Wire<'_> {
    fn poll_read(&mut self, _: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.input.is_empty() && !self.ends {
            return Poll::Pending;
        }
        let count = self.piece.min(self.input.len()).min(buffer.len());
        buffer[..count].copy_from_slice(&self.input[..count]);
        self.input = &self.input[count..];
        Poll::Ready(Ok(count))
    }

    fn poll_write(&mut self, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::Unsupported.into()))
    }

    fn poll_write_vectored(
        &mut self,
        _: &mut Context<'_>,
        _: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::Unsupported.into()))
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn seen(input: &[u8], piece: usize, ends: bool) -> Seen {
    let wire = Wire { input, piece, ends };
    inspect::request(wire, &SUPPLY.1, LIMITS)
}

/// The same message in frames of its own.
fn anew(seen: &Seen, head: &[u8]) -> Vec<u8> {
    let mut bytes = head.to_vec();
    for piece in seen.body.chunks(97) {
        bytes.extend(inspect::frame_head(0, piece.len() as u64));
        bytes.extend(piece);
    }
    if let Some(trailers) = &seen.trailers {
        let section = inspect::put_section(trailers);
        bytes.extend(inspect::frame_head(1, section.len() as u64));
        bytes.extend(section);
    }
    bytes
}

/// The first frame with HEADERS, said anew; `stream` begins with whole frames up to it.
fn head_of(mut stream: &[u8]) -> Option<Vec<u8>> {
    let varint = |bytes: &mut &[u8]| {
        let first = *bytes.first()?;
        let (number, rest) = bytes.split_at_checked(1 << (first >> 6))?;
        *bytes = rest;
        let rest = number[1..].iter();
        Some(rest.fold(u64::from(first & 0x3f), |sum, byte| {
            sum << 8 | u64::from(*byte)
        }))
    };
    loop {
        let kind = varint(&mut stream)?;
        let length = usize::try_from(varint(&mut stream)?).ok()?;
        let (payload, rest) = stream.split_at_checked(length)?;
        if kind == 1 {
            let section = inspect::put_section(&inspect::section(payload, 1 << 20)?);
            let mut frame = inspect::frame_head(1, section.len() as u64);
            frame.extend(section);
            return Some(frame);
        }
        stream = rest;
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((&piece, bytes)) = input.split_first() else {
        return;
    };

    // A field section by itself: what is read and written anew says the same, in lower case.
    if let Some(mut lines) = inspect::section(bytes, 64 * 1024) {
        let written = inspect::put_section(&lines);
        for (name, _) in &mut lines {
            name.make_ascii_lowercase();
        }
        assert_eq!(inspect::section(&written, 1 << 20), Some(lines));
    }

    // A stream, whole and in pieces.
    let whole = seen(bytes, usize::MAX, true);
    let least = bytes.len().div_ceil(MOST_READS).max(1);
    assert_eq!(whole, seen(bytes, least.max(usize::from(piece)), true));
    assert_ne!(whole.end, End::Open);
    assert_ne!(whole.end, End::Gone);
    assert!(whole.body.len() <= bytes.len());
    assert!(whole.fields.is_some() || whole.body.is_empty() && whole.trailers.is_none());

    // Less of it says nothing else.
    let part = &bytes[..bytes.len() * usize::from(piece) / 256];
    let less = seen(part, usize::MAX, false);
    assert!(whole.body.starts_with(&less.body));
    assert!(less.fields.is_none() || less.fields == whole.fields);
    assert!(less.trailers.is_none() || less.trailers == whole.trailers);
    if less.end != End::Open {
        assert_eq!(less.end, whole.end);
    }

    // The same message in other frames.
    if whole.end == End::Whole {
        let head = head_of(bytes).expect("it was whole");
        assert_eq!(seen(&anew(&whole, &head), usize::MAX, true), whole);
    }
    assert_eq!(SUPPLY.0.used_bytes(), 0);
});
