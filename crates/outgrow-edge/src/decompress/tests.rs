//! Whole bodies through a decompressor, with seeds: what the endpoint gets is what the client compressed,
//! however it comes and whoever does the work; and what is no such body, or too much of one.

mod room;
mod threads;

use std::future::poll_fn;
use std::io::Write;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use outgrow_core::{Cause, Clock, Fault, Random};
use outgrow_message::{Blocks, BodyLength, BodySource, Fields, Known, Ledger, RequestHead};

use super::codec::{DecodeError, Decoder};
use super::hold::Hold;
use super::inflater::{Bounds, Inflater};
use super::{accepted, coding_of, rewrite};
use crate::compress::{Desk, Shelf};
use crate::settings::{DecompressSettings, RequestCoding};

/// As clients compress.
fn coded(coding: RequestCoding, plain: &[u8]) -> Vec<u8> {
    match coding {
        RequestCoding::Gzip => {
            let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
            writer.write_all(plain).expect("written");
            writer.finish().expect("ended")
        }
        RequestCoding::Deflate => {
            let mut writer =
                flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::new(6));
            writer.write_all(plain).expect("written");
            writer.finish().expect("ended")
        }
        RequestCoding::Br => {
            let mut out = Vec::new();
            let mut writer = brotli::CompressorWriter::new(&mut out, 4_096, 5, 22);
            writer.write_all(plain).expect("written");
            drop(writer);
            out
        }
        RequestCoding::Zstd => {
            let mut out = vec![0; zstd_safe::compress_bound(plain.len())];
            let count = zstd_safe::compress(&mut out[..], plain, 3).expect("compressed");
            out.truncate(count);
            out
        }
    }
}

/// A client that sends in pieces, and lets us wait.
struct Sender<'a> {
    random: Random,
    bytes: &'a [u8],
    piece: usize,
    rests: bool,
    /// It says nothing more, and does not end either.
    stays: bool,
}

impl<'a> Sender<'a> {
    fn new(seed: u64, bytes: &'a [u8]) -> Self {
        Self {
            random: Random::from_seed(seed),
            bytes,
            piece: 0,
            rests: false,
            stays: false,
        }
    }
}

impl BodySource for Sender<'_> {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Fault>> {
        if self.piece == 0 && !self.bytes.is_empty() {
            self.rests = !self.rests && self.random.next_u64().is_multiple_of(4);
            if self.rests {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let most = [3, 2_000, 70_000][(self.random.next_u64() % 3) as usize];
            self.piece = self
                .bytes
                .len()
                .min(1 + self.random.next_u64() as usize % most);
        }
        match self.bytes.is_empty() && self.stays {
            true => Poll::Pending,
            false => Poll::Ready(Ok(!self.bytes.is_empty())),
        }
    }

    fn data(&self) -> &[u8] {
        &self.bytes[..self.piece]
    }

    fn consume(&mut self, count: usize) {
        self.bytes = &self.bytes[count..];
        self.piece -= count;
    }

    fn trailers(&mut self) -> Option<&mut Fields> {
        None
    }
}

struct House {
    ledger: Arc<Ledger>,
    desk: Arc<Desk>,
    runtime: tokio::runtime::Runtime,
}

impl House {
    fn new(memory: u64) -> Self {
        let ledger = Ledger::new(memory);
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let shelf = Shelf::new(Arc::clone(&ledger), 2);
        let blocks = Blocks::new(Arc::clone(&ledger));
        Self {
            desk: Desk::new(shelf, blocks, Clock::start()),
            ledger,
            runtime: runtime.expect("a runtime"),
        }
    }

    fn inflater(&self, coding: RequestCoding, bounds: Bounds, client: u8) -> Box<Inflater> {
        Inflater::new(&self.desk, (coding, bounds), address(client))
    }

    /// The decompressor for a client that sends `bytes` and then stays; or why there is none: no fault where it
    /// waits for others of its client.
    fn begun(
        &self,
        coding: RequestCoding,
        bytes: &[u8],
        client: u8,
    ) -> Result<Inflater, Option<Fault>> {
        let mut down = Sender::new(1, bytes);
        down.stays = true;
        let mut inflater = *self.inflater(coding, WIDE, client);
        self.runtime.block_on(poll_fn(|cx| {
            loop {
                match inflater.poll_data(cx, &mut down) {
                    Poll::Ready(Ok(_)) => inflater.consume(inflater.data().len()),
                    Poll::Ready(Err(fault)) => return Poll::Ready(Err(Some(fault))),
                    Poll::Pending if inflater.waits_for() == Some(Cause::MemoryLimit) => {
                        return Poll::Ready(Err(None));
                    }
                    Poll::Pending if down.bytes.is_empty() && inflater.is_here() => {
                        return Poll::Ready(Ok(()));
                    }
                    Poll::Pending => return Poll::Pending,
                }
            }
        }))?;
        Ok(inflater)
    }

    /// What the endpoint gets, and the most that was held for it.
    fn exchange(
        &self,
        seed: u64,
        coding: RequestCoding,
        bounds: Bounds,
        bytes: &[u8],
    ) -> (Vec<u8>, Result<u64, Fault>) {
        let mut random = Random::from_seed(!seed);
        let mut down = Sender::new(seed, bytes);
        let mut came = Vec::new();
        let mut inflater = self.inflater(coding, bounds, 0);
        let mut held = 0;
        let ended = self.runtime.block_on(poll_fn(|cx| {
            while ready!(inflater.poll_data(cx, &mut down))? {
                held = held.max(self.ledger.used_bytes());
                let data = inflater.data();
                assert!(!data.is_empty(), "seed {seed}: data without data");
                let count = 1 + random.next_u64() as usize % data.len();
                came.extend_from_slice(&data[..count]);
                inflater.consume(count);
            }
            Poll::Ready(Ok(held))
        }));
        let (taken, given) = inflater.totals();
        if ended.is_ok() {
            assert_eq!((taken, given), (bytes.len() as u64, came.len() as u64));
        }
        (came, ended)
    }
}

fn address(client: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, client])
}

const WIDE: Bounds = Bounds {
    coded: None,
    plain: 1 << 30,
    ratio: 1 << 20,
    window: 8 << 20,
};

fn text(random: &mut Random, length: usize) -> Vec<u8> {
    let mut text = Vec::new();
    while text.len() < length {
        let draw = random.next_u64();
        text.extend_from_slice(b"{\"user\":");
        text.extend_from_slice((draw % 100_000).to_string().as_bytes());
        if draw.is_multiple_of(3) {
            text.extend_from_slice(&draw.to_le_bytes());
        }
    }
    text.truncate(length);
    text
}

#[test]
fn what_the_endpoint_gets_is_what_was_compressed() {
    let house = House::new(256 << 20);
    for seed in 0..60 {
        let mut random = Random::from_seed(seed);
        let most = [50, 20_000, 1_500_000][(seed % 3) as usize];
        let length = random.next_u64() as usize % most;
        let plain = text(&mut random, length);
        for coding in RequestCoding::ALL {
            let bytes = coded(coding, &plain);
            let (came, ended) = house.exchange(seed, coding, WIDE, &bytes);
            ended.expect("no fault");
            assert!(came == plain, "seed {seed}, {coding}, {length} bytes");
        }
    }
    drop(house.desk);
    assert_eq!(house.ledger.used_bytes(), 0);
}

#[test]
fn a_body_may_be_several_streams_where_the_coding_has_that() {
    let house = House::new(256 << 20);
    for coding in RequestCoding::ALL {
        let one = coded(coding, b"one, ");
        let both = [&one[..], &coded(coding, b"two"), &coded(coding, b"")].concat();
        let (came, ended) = house.exchange(1, coding, WIDE, &both);
        match coding {
            RequestCoding::Gzip | RequestCoding::Zstd => {
                ended.expect("no fault");
                assert_eq!(came, b"one, two", "{coding}");
            }
            RequestCoding::Br | RequestCoding::Deflate => {
                assert_eq!(ended.expect_err("a fault").cause, Cause::BadCoding);
            }
        }
    }
}

#[test]
fn what_is_cut_off_or_spoilt_is_never_whole() {
    let house = House::new(256 << 20);
    let mut random = Random::from_seed(7);
    let plain = text(&mut random, 3_000);
    for coding in RequestCoding::ALL {
        let whole = coded(coding, &plain);
        for end in 1..whole.len() {
            let (came, ended) = house.exchange(end as u64, coding, WIDE, &whole[..end]);
            assert!(plain.starts_with(&came), "{coding} {end}");
            assert_eq!(
                ended.expect_err("it is cut off").cause,
                Cause::BadCoding,
                "{coding} {end}"
            );
        }
        // Nothing at all is an empty body.
        assert!(house.exchange(0, coding, WIDE, b"").1.is_ok());
        let trailing = [&whole[..], b"x"].concat();
        assert!(house.exchange(0, coding, WIDE, &trailing).1.is_err());
        for seed in 0..2_000 {
            let mut spoilt = whole.clone();
            for _ in 0..=random.next_u64() % 3 {
                let at = random.next_u64() as usize % spoilt.len();
                spoilt[at] = random.next_u64() as u8;
            }
            // Nothing panics, and there is an end to it. zstd and Brotli have no sum of what was sent.
            let _ended = house.exchange(seed, coding, WIDE, &spoilt);
        }
    }
}

#[test]
fn a_bomb_ends_early() {
    let house = House::new(256 << 20);
    let zeros = vec![0; 64 << 20];
    for coding in RequestCoding::ALL {
        let bomb = coded(coding, &zeros);
        let ends = |bounds: Bounds, cause: Cause, most: usize| {
            let (came, ended) = house.exchange(3, coding, bounds, &bomb);
            let fault = ended.expect_err("it is too much");
            assert_eq!(fault.cause, cause, "{coding} {bounds:?}");
            assert!(came.len() <= most, "{coding}: {} bytes", came.len());
        };
        let ratio = Bounds { ratio: 200, ..WIDE };
        ends(ratio, Cause::DecompressionRatio, (1 << 20) + 65_536 * 200);
        let plain = Bounds {
            plain: 100_000,
            ..WIDE
        };
        ends(plain, Cause::BodyTooLarge, 100_000);
        let sent = Bounds {
            coded: Some(10),
            ..WIDE
        };
        ends(sent, Cause::BodyTooLarge, 2 * 65_536);
        // Below 1 MiB the ratio is nobody's business.
        let small = coded(coding, &zeros[..1 << 20]);
        let strict = Bounds { ratio: 1, ..WIDE };
        let (came, ended) = house.exchange(3, coding, strict, &small);
        assert!(ended.is_ok() && came.len() == 1 << 20, "{coding}");
    }
}

/// A client says how large the window is that the decompressor keeps.
#[test]
fn memory_is_counted_and_bounded() {
    let mut random = Random::from_seed(9);
    let plain = text(&mut random, 6 << 20);
    let bytes = coded(RequestCoding::Zstd, &plain);
    let large = House::new(256 << 20);
    let (_, ended) = large.exchange(1, RequestCoding::Zstd, WIDE, &bytes);
    let held = ended.expect("no fault");
    assert!(held > 2 << 20, "{held} bytes are counted");
    for coding in [RequestCoding::Zstd, RequestCoding::Br] {
        let small = House::new(8 << 20);
        let bytes = coded(coding, &plain);
        let (_, ended) = small.exchange(1, coding, WIDE, &bytes);
        let cause = ended.expect_err("a quarter of 8 MiB is too little").cause;
        assert_eq!(cause, Cause::MemoryLimit, "{coding}");
        assert_eq!(small.ledger.refused(), 0, "others had what they needed");
    }
    // A window of 16 MiB (RFC 9659), and one of a gigabyte of "large window" Brotli.
    let wide = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 14 << 3, 0x01, 0x00, 0x00];
    let (_, ended) = large.exchange(1, RequestCoding::Zstd, WIDE, &wide);
    assert_eq!(ended.expect_err("refused").cause, Cause::BadCoding);
    let (_, ended) = large.exchange(1, RequestCoding::Br, WIDE, &[0x11, 0x1e, 0x0f, 0x00]);
    assert_eq!(ended.expect_err("refused").cause, Cause::BadCoding);
}

/// A frame of zstd with so many bits of window, of which a block is on its way.
fn opened(window_bits: u8) -> [u8; 9] {
    let [one, two, three, _] = (100_u32 << 3).to_le_bytes();
    [
        0x28,
        0xb5,
        0x2f,
        0xfd,
        0x00,
        (window_bits - 10) << 3,
        one,
        two,
        three,
    ]
}

/// A stream of Brotli with so many bits of window, at least 18, of which a block as large is on its way, which
/// is not compressed (RFC 7932 sections 9.1 and 9.2).
fn opened_brotli(window_bits: u32) -> [u8; 6] {
    let length: u32 = (1 << window_bits) - 1;
    let nibbles = if window_bits > 20 { 6 } else { 5 };
    let head = 1 | (window_bits - 17) << 1 | (nibbles - 4) << 5 | length << 7;
    let [one, two, three, four] = (head | 1 << (7 + 4 * nibbles)).to_le_bytes();
    [one, two, three, four, b'a', b'b']
}

/// Who has large windows held takes no memory from those who need little, and not all from others.
#[test]
fn a_client_that_stays_leaves_room_for_others() {
    for coding in [RequestCoding::Zstd, RequestCoding::Br] {
        let house = House::new(256 << 20);
        let open = |window_bits: u8| match coding {
            RequestCoding::Zstd => opened(window_bits).to_vec(),
            _ => opened_brotli(window_bits.into()).to_vec(),
        };
        let mut stay = Vec::new();
        for window_bits in [21, 20, 19] {
            let before = (house.ledger.used_bytes(), stay.len());
            let why_not = loop {
                match house.begun(coding, &open(window_bits), 1) {
                    Ok(inflater) => stay.push(inflater),
                    Err(fault) => break fault,
                }
            };
            assert_eq!(why_not, None, "it waits for those before it");
            let held = (house.ledger.used_bytes() - before.0) >> window_bits;
            assert!(
                held as usize >= stay.len() - before.1,
                "windows are counted"
            );
        }
        // A fifth of 64 MiB.
        assert!((5..10).contains(&stay.len()), "{} windows", stay.len());
        let plain = text(&mut Random::from_seed(3), 100_000);
        for coding in RequestCoding::ALL {
            let small = coded(coding, &plain);
            let begun = house.begun(coding, &small[..small.len() / 2], 1);
            assert!(begun.is_ok(), "{coding} of the same client");
        }
        let others: Vec<_> = (2..8)
            .map_while(|client| house.begun(coding, &open(23), client).ok())
            .collect();
        assert_eq!(others.len(), 5, "one large window of everybody else's");
        let next = house.begun(coding, &open(21), 1);
        assert_eq!(next.err(), Some(None), "it waits");
        drop((stay, others));
        let again = house.begun(coding, &open(23), 1);
        assert!(again.is_ok(), "and its own, when it has let go");
    }
}

#[test]
fn windows_are_bounded() {
    let house = House::new(256 << 20);
    let mut random = Random::from_seed(5);
    let plain: Vec<u8> = (0..3 << 17)
        .flat_map(|_| random.next_u64().to_le_bytes())
        .collect();
    let brotli = |plain: &[u8]| {
        let mut out = Vec::new();
        let mut writer = brotli::CompressorWriter::new(&mut out, 4_096, 1, 24);
        writer.write_all(plain).expect("written");
        drop(writer);
        out
    };
    let (large, small) = (brotli(&plain), brotli(&plain[..500_000]));
    let bodies = [
        (RequestCoding::Br, &large[..], 4 << 20, 1 << 20),
        (RequestCoding::Zstd, &opened(22)[..], 4 << 20, (4 << 20) - 1),
    ];
    for (coding, bytes, enough, less) in bodies {
        let ends = |window| {
            house
                .exchange(1, coding, Bounds { window, ..WIDE }, bytes)
                .1
        };
        let refused = ends(less).expect_err("its window is too large");
        assert_eq!(refused.cause, Cause::BadCoding, "{coding}");
        // What was opened is cut off.
        assert_eq!(
            ends(enough).is_ok(),
            coding == RequestCoding::Br,
            "{coding}"
        );
    }
    let mut inflater = house.begun(RequestCoding::Zstd, b"", 1).expect("room");
    let mut down = Sender::new(1, &[0x28, 0xb5, 0x2f, 0xfd, 0x00, 14 << 3, 1, 0, 0]);
    let ended = house
        .runtime
        .block_on(poll_fn(|cx| inflater.poll_data(cx, &mut down)));
    assert!(ended.is_err() && inflater.detail().contains("window"));
    // As large as it may become, and not as large as it was announced.
    let window = 1 << 20;
    let (came, ended) = house.exchange(1, RequestCoding::Br, Bounds { window, ..WIDE }, &small);
    assert!(ended.is_ok() && came == plain[..500_000]);
}

#[test]
fn parts_without_content_are_bounded() {
    let house = House::new(256 << 20);
    for coding in [RequestCoding::Gzip, RequestCoding::Zstd] {
        let (nothing, last) = (coded(coding, b""), coded(coding, b"x"));
        for (count, is_taken) in [(1_024, true), (1_025, false)] {
            let body = [&nothing.repeat(count)[..], &last].concat();
            let (came, ended) = house.exchange(2, coding, WIDE, &body);
            assert_eq!(ended.is_ok() && came == b"x", is_taken, "{coding} {count}");
        }
        // Each that has some makes up for one.
        for body in [
            last.repeat(3_000),
            [&nothing[..], &last].concat().repeat(3_000),
        ] {
            let (came, ended) = house.exchange(2, coding, WIDE, &body);
            assert!(ended.is_ok() && came.len() == 3_000, "{coding}");
        }
    }
}

fn request(length: BodyLength, lines: &[(&str, &str)]) -> RequestHead {
    let mut head = RequestHead::default();
    head.length = length;
    for (name, value) in lines {
        head.fields.push(name.as_bytes(), value.as_bytes());
    }
    head
}

#[test]
fn which_bodies_are_taken() {
    const SOME: BodyLength = BodyLength::Known(10);
    type Row<'a> = (
        BodyLength,
        &'a [(&'a str, &'a str)],
        Result<Option<RequestCoding>, &'a str>,
    );
    let table: &[Row<'_>] = &[
        (SOME, &[], Ok(None)),
        (
            SOME,
            &[("Content-Encoding", "gzip")],
            Ok(Some(RequestCoding::Gzip)),
        ),
        (
            SOME,
            &[("Content-Encoding", "X-GZip")],
            Ok(Some(RequestCoding::Gzip)),
        ),
        (
            BodyLength::Unknown,
            &[("Content-Encoding", "BR")],
            Ok(Some(RequestCoding::Br)),
        ),
        (
            SOME,
            &[("Content-Encoding", "identity, zstd")],
            Ok(Some(RequestCoding::Zstd)),
        ),
        (SOME, &[("Content-Encoding", "identity")], Ok(None)),
        (SOME, &[("Content-Encoding", "")], Ok(None)),
        (BodyLength::Empty, &[("Content-Encoding", "gzip")], Ok(None)),
        (
            SOME,
            &[("Content-Encoding", "deflate")],
            Err("it is not among those that are taken"),
        ),
        (
            SOME,
            &[("Content-Encoding", "aes128gcm")],
            Err("it is not among those that are taken"),
        ),
        (
            SOME,
            &[("Content-Encoding", "gzip, gzip")],
            Err("it has more than one"),
        ),
        (
            SOME,
            &[("Content-Encoding", "gzip"), ("Content-Encoding", "br")],
            Err("it has more than one"),
        ),
        (
            SOME,
            &[
                ("Content-Encoding", "gzip"),
                ("Content-Range", "bytes 0-9/20"),
            ],
            Err("a part cannot be decompressed"),
        ),
    ];
    let mut settings = DecompressSettings::default();
    assert_eq!(accepted(&settings), "zstd, br, gzip, deflate");
    settings.codings.pop();
    for (length, lines, expected) in table {
        let coding = coding_of(&settings, &request(*length, lines));
        let coding = coding.map_err(|refused| {
            assert_eq!(refused.fault.cause, Cause::UnsupportedCoding);
            refused.detail
        });
        assert_eq!(coding, *expected, "{length:?} {lines:?}");
    }
}

#[test]
fn the_head_says_nothing_of_other_bytes() {
    let mut head = request(
        BodyLength::Known(10),
        &[
            ("Content-Type", "application/json"),
            ("Content-Encoding", "gzip"),
            ("Content-Length", "10"),
            ("Content-Digest", "sha-256=:x:"),
            ("Repr-Digest", "sha-256=:x:"),
            ("Content-MD5", "x"),
        ],
    );
    rewrite(&mut head);
    assert_eq!(head.length, BodyLength::Unknown);
    let left: Vec<_> = head
        .fields
        .iter()
        .map(|(_, name, _)| name.to_vec())
        .collect();
    assert_eq!(left, [b"Content-Type".to_vec()]);
    assert!(head.fields.get(Known::ContentEncoding).is_none());
}
