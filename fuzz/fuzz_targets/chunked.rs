//! Chunked bodies through the whole driver: from one wire to another, in pieces by the input's
//! choice, and what comes out is what went in.
#![no_main]

use std::io::{self, IoSlice};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Waker};

use libfuzzer_sys::fuzz_target;
use outgrow_http::conn::{Incoming, Outgoing};
use outgrow_http::h1::chunk::Decoder;
use outgrow_message::{Blocks, BodyLength, Fields, Ledger};

/// Reads of one input at most: pieces of one byte are for short inputs, a long one in such pieces
/// takes milliseconds and shows nothing new.
const MOST_READS: usize = 512;

/// One supply for all inputs: its blocks are used again, as a worker's are. A new one for each
/// input would allocate and clear some 100 KiB every time.
static SUPPLY: LazyLock<(Arc<Ledger>, Arc<Blocks>)> = LazyLock::new(|| {
    let ledger = Ledger::new(1 << 24);
    (Arc::clone(&ledger), Blocks::new(ledger))
});

/// Gives and takes `piece` bytes a call.
struct Wire<'a> {
    input: &'a [u8],
    output: Vec<u8>,
    piece: usize,
}

impl outgrow_net::Transport for Wire<'_> {
    fn poll_read(&mut self, _: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let count = self.piece.min(self.input.len()).min(buffer.len());
        buffer[..count].copy_from_slice(&self.input[..count]);
        self.input = &self.input[count..];
        Poll::Ready(Ok(count))
    }

    fn poll_write(&mut self, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let count = self.piece.min(bytes.len());
        self.output.extend_from_slice(&bytes[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = slices
            .iter()
            .find(|slice| !slice.is_empty())
            .map_or(&[][..], |slice| slice);
        self.poll_write(cx, first)
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// The data and the number of trailer lines of a whole body; `None` when it is cut off or refused.
fn decode(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let mut decoder = Decoder::default();
    let mut trailers = Fields::default();
    let (mut data, mut at) = (Vec::new(), 0);
    loop {
        let step = decoder.step(&bytes[at..], &mut trailers).ok()?;
        at += step.skip;
        data.extend_from_slice(&bytes[at..at + step.data]);
        at += step.data;
        decoder.took(step.data);
        if step.done {
            return Some((data, trailers.iter().count()));
        }
        if step.data == 0 {
            return None;
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((&piece, bytes)) = input.split_first() else {
        return;
    };
    let (ledger, blocks) = &*SUPPLY;
    let piece = usize::from(piece)
        .max(bytes.len().div_ceil(MOST_READS))
        .max(1);
    let mut from = Wire {
        input: bytes,
        output: Vec::new(),
        piece,
    };
    let mut to = Wire {
        input: b"",
        output: Vec::new(),
        piece,
    };
    let mut incoming = Incoming::default();
    let mut outgoing = Outgoing::default();
    incoming.begin(BodyLength::Unknown, false);
    outgoing.begin(true);
    let mut cx = Context::from_waker(Waker::noop());
    let mut data = Vec::new();
    let complete = loop {
        let Poll::Ready(more) = incoming.poll_data(&mut cx, &mut from, blocks) else {
            panic!("this wire is always ready");
        };
        match more {
            Ok(true) => {
                let here = incoming.data();
                let pushed = outgoing.poll_push(&mut cx, &mut to, blocks, here);
                let Poll::Ready(Ok(taken)) = pushed else {
                    panic!("it takes what it is given")
                };
                data.extend_from_slice(&here[..taken]);
                incoming.consume(taken);
            }
            Ok(false) => break true,
            Err(_) => break false,
        }
    };
    let expected = decode(bytes);
    assert_eq!(complete, expected.is_some());
    if let Some((body, trailers)) = expected {
        assert_eq!(body, data);
        assert!(outgoing.finish(blocks, incoming.trailers().map(|fields| &*fields)));
        assert!(outgoing.poll_flush(&mut cx, &mut to).is_ready());
        assert_eq!(decode(&to.output), Some((body, trailers)));
    } else {
        assert!(outgoing.poll_flush(&mut cx, &mut to).is_ready());
        assert_eq!(decode(&to.output), None);
    }
    drop((incoming, outgoing));
    assert_eq!(ledger.used_bytes(), 0);
});
