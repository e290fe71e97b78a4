//! Whole responses through a compressor, with seeds: what the client decodes is what the source
//! gave, however it comes and whoever does the work.

use std::future::poll_fn;
use std::io::Read;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use outgrow_core::{Clock, Fault, Random};
use outgrow_http::Downstream;
use outgrow_message::{BodyLength, BodySource, Fields, Ledger, Method, ResponseHead};
use zstd_safe::{DCtx, InBuffer, OutBuffer};

use super::codec::Manner;
use super::encoder::Encoder;
use super::shelf::Shelf;
use super::turns::Desk;
use crate::settings::{CompressSettings, ContentCoding};

/// The bytes that a client makes of `bytes`, which may be only the beginning.
fn decoded(coding: ContentCoding, bytes: &[u8]) -> Vec<u8> {
    fn all(mut reader: impl Read) -> Vec<u8> {
        let mut plain = Vec::new();
        let mut piece = [0; 4_096];
        loop {
            match reader.read(&mut piece) {
                Ok(0) => return plain,
                Ok(count) => plain.extend_from_slice(&piece[..count]),
                // The beginning has ended (Brotli's reader calls that invalid): whether what came out
                // is right is seen by who compares it.
                Err(_) => return plain,
            }
        }
    }
    match coding {
        ContentCoding::Gzip => all(flate2::read::GzDecoder::new(bytes)),
        ContentCoding::Br => all(brotli::Decompressor::new(bytes, 4_096)),
        ContentCoding::Zstd => {
            let mut context = DCtx::create();
            let mut source = InBuffer::around(bytes);
            let mut plain = Vec::new();
            loop {
                let mut piece = [0; 4_096];
                let mut target = OutBuffer::around(&mut piece[..]);
                let step = context.decompress_stream(&mut target, &mut source);
                step.expect("zstd");
                let given = target.pos();
                plain.extend_from_slice(&piece[..given]);
                if given < 4_096 && source.pos() == bytes.len() {
                    return plain;
                }
            }
        }
    }
}

/// A client that takes as much as it likes, and lets us wait.
struct Taker {
    random: Random,
    came: Vec<u8>,
    rests: bool,
}

impl BodySource for Taker {
    fn poll_data(&mut self, _: &mut Context<'_>) -> Poll<Result<bool, Fault>> {
        Poll::Ready(Ok(false))
    }

    fn data(&self) -> &[u8] {
        &[]
    }

    fn consume(&mut self, _: usize) {}

    fn trailers(&mut self) -> Option<&mut Fields> {
        None
    }
}

impl Downstream for Taker {
    fn interim(&mut self, _: &ResponseHead) -> Result<(), Fault> {
        Ok(())
    }

    fn respond(&mut self, _: &ResponseHead, _: BodyLength, _: Method) -> Result<(), Fault> {
        Ok(())
    }

    fn poll_push(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, Fault>> {
        self.rests = !self.rests && self.random.next_u64().is_multiple_of(3);
        if self.rests {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let most = 1 + self.random.next_u64() as usize % 9_000;
        let count = data.len().min(most);
        self.came.extend_from_slice(&data[..count]);
        Poll::Ready(Ok(count))
    }

    fn finish(&mut self, _: Option<&Fields>) -> Result<(), Fault> {
        Ok(())
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        Poll::Ready(Ok(()))
    }

    fn written(&self) -> u64 {
        self.came.len() as u64
    }

    fn abort(&mut self) {}

    fn poll_gone(&mut self, _: &mut Context<'_>) -> Poll<Fault> {
        Poll::Pending
    }

    fn has_responded(&self) -> bool {
        true
    }
}

/// Text that shrinks as text does.
fn text(random: &mut Random, length: usize) -> Vec<u8> {
    const WORDS: [&str; 8] = ["<li>", "shop", " of ", "\n", "the ", "price=", "</li>", "é"];
    let mut text = Vec::with_capacity(length + 8);
    while text.len() < length {
        let draw = random.next_u64();
        text.extend_from_slice(WORDS[(draw % 8) as usize].as_bytes());
        if draw.is_multiple_of(5) {
            text.extend_from_slice(draw.to_string().as_bytes());
        }
    }
    text.truncate(length);
    text
}

/// Pushes `plain` in pieces with pauses between them; what the client got.
async fn exchange(
    seed: u64,
    (shelf, ledger): (&Arc<Shelf>, &Arc<Ledger>),
    manner: Manner,
    is_tight: bool,
) -> (Vec<u8>, Vec<u8>) {
    let mut random = Random::from_seed(seed);
    let most = [100, 20_000, 700_000][(random.next_u64() % 3) as usize];
    let length = random.next_u64() as usize % most;
    let plain = text(&mut random, length);
    let known = random
        .next_u64()
        .is_multiple_of(2)
        .then_some(plain.len() as u64);
    let blocks = outgrow_message::Blocks::new(Arc::clone(ledger));
    let desk = Desk::new(Arc::clone(shelf), blocks, Clock::start());
    let mut encoder = Encoder::new(&desk, manner, known).expect("memory");
    // No memory from here on: nothing can be copied for a thread.
    let _above = is_tight.then(|| ledger.charge_anyway(ledger.limit_bytes()));
    let mut down = Taker {
        random: Random::from_seed(!seed),
        came: Vec::new(),
        rests: false,
    };
    let (mut at, mut piece, mut pauses) = (0, 0, false);
    poll_fn(|cx| {
        while at < plain.len() {
            if pauses {
                ready!(encoder.poll_pause(cx, &mut down))?;
                pauses = false;
                if known.is_none() {
                    assert_eq!(
                        decoded(manner.coding, &down.came),
                        plain[..at],
                        "seed {seed}"
                    );
                }
                if random.next_u64().is_multiple_of(2) {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
            }
            if piece == 0 {
                let most = [10, 3_000, 100_000][(random.next_u64() % 3) as usize];
                piece = 1 + random.next_u64() as usize % most;
            }
            let end = plain.len().min(at + piece);
            let taken = ready!(encoder.poll_push(cx, &mut down, &plain[at..end]))?;
            at += taken;
            piece -= taken.min(piece);
            pauses = piece == 0 && random.next_u64().is_multiple_of(8);
        }
        encoder.poll_finish(cx, &mut down)
    })
    .await
    .expect("no fault");
    assert_eq!(
        encoder.totals(),
        (plain.len() as u64, down.came.len() as u64)
    );
    (plain, down.came)
}

#[test]
fn what_is_decoded_is_what_was_given() {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.expect("a runtime");
    for (waiting, is_tight) in [(256, false), (1, false), (1, true)] {
        let ledger = Ledger::new(64 << 20);
        let shelf = Shelf::with_room(Arc::clone(&ledger), 2, waiting);
        for seed in 0..40 {
            let settings = CompressSettings {
                gzip_level: 1 + (seed as u32 * 7) % 9,
                zstd_level: 1 + (seed as u32 * 5) % 12,
                br_level: (seed as u32 * 3) % 7,
                ..CompressSettings::default()
            };
            for coding in ContentCoding::ALL {
                let manner = Manner::new(coding, &settings);
                let (plain, came) =
                    runtime.block_on(exchange(seed, (&shelf, &ledger), manner, is_tight));
                let same = decoded(coding, &came) == plain;
                assert!(same, "seed {seed}, {manner:?}, {} bytes", plain.len());
            }
        }
        drop(shelf);
        assert_eq!(
            ledger.used_bytes(),
            0,
            "nothing is counted that is not there"
        );
    }
}

/// The ledger is told of no less than what a library allocates, as far as it says.
#[test]
fn zstd_holds_no_more_than_is_counted() {
    for level in 1..=12 {
        let manner = Manner {
            coding: ContentCoding::Zstd,
            level,
        };
        let super::codec::Codec::Zstd(mut context) =
            super::codec::Codec::new(manner, None).expect("a compressor")
        else {
            panic!("not zstd");
        };
        let mut random = Random::from_seed(1);
        let plain = text(&mut random, 1 << 20);
        let mut source = InBuffer::around(&plain);
        let mut out = vec![0; 1 << 20];
        let mut target = OutBuffer::around(&mut out[..]);
        let end = zstd_safe::zstd_sys::ZSTD_EndDirective::ZSTD_e_continue;
        let step = context.compress_stream2(&mut target, &mut source, end);
        step.expect("compressed");
        let held = context.sizeof() as u64;
        let counted = manner.memory_bytes(None);
        assert!(
            held <= counted && counted <= 3 * held,
            "level {level}: {held} of {counted}"
        );
    }
}
