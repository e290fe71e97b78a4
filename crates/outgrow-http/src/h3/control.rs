//! The streams that a client opens besides its requests (RFC 9114 section 6.2): its control stream,
//! QPACK's two, and those without a meaning.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use quinn::{ReadError, RecvStream};
use tokio::task::JoinSet;

use super::code::Code;
use super::frame::{self, FrameHead};
use super::pieces::Pieces;
use super::shared::Shared;
use super::varint;

/// Types of streams.
const CONTROL: u64 = 0x0;
const PUSH: u64 = 0x1;
const ENCODER: u64 = 0x2;
const DECODER: u64 = 0x3;

/// The longest frame of a control stream that is gathered: settings are pairs of a few bytes.
const FRAME_BYTES: u64 = 4 * 1024;
/// How much is read at a time.
const READ_BYTES: usize = 512;
/// Frames on a control stream. A client needs a handful, and one for each request where it says
/// priorities (RFC 9218); each costs little more than its bytes.
const FRAMES: u32 = 1_000_000;

/// What makes a connection end.
type Wrong = (Code, &'static str);

/// Takes the client's streams for as long as the connection lives; ends it for what must not be.
pub(super) async fn run(shared: Arc<Shared>, unknown_streams: u32) {
    let seen = Arc::new(Seen::default());
    let mut streams = JoinSet::new();
    while let Ok(stream) = shared.quic.accept_uni().await {
        // Those that have ended.
        while streams.try_join_next().is_some() {}
        let (shared, seen) = (Arc::clone(&shared), Arc::clone(&seen));
        streams.spawn(async move {
            if let Err((code, reason)) = one(stream, &seen, unknown_streams).await {
                shared.break_off(code, reason);
            }
        });
    }
}

/// Which streams there have been.
#[derive(Debug, Default)]
struct Seen {
    /// A bit for each type that may be there once.
    types: AtomicU32,
    unknown: AtomicU32,
}

impl Seen {
    fn first(&self, kind: u64) -> Result<(), Wrong> {
        let bit = 1 << kind;
        match self.types.fetch_or(bit, Ordering::Relaxed) & bit {
            0 => Ok(()),
            _ => Err((Code::STREAM_CREATION, "a second stream of its type")),
        }
    }
}

async fn one(stream: RecvStream, seen: &Seen, unknown_streams: u32) -> Result<(), Wrong> {
    let mut reader = Reader::new(stream);
    let Some(kind) = reader.varint().await.unwrap_or_default() else {
        // One that ends before it says what it is does no harm (section 6.2).
        return unknown(seen, unknown_streams);
    };
    match kind {
        CONTROL => {
            seen.first(kind)?;
            control(&mut reader).await
        }
        ENCODER | DECODER => {
            seen.first(kind)?;
            instructions(&mut reader, kind == ENCODER).await
        }
        PUSH => Err((Code::STREAM_CREATION, "clients do not push")),
        _ => {
            let _ = reader.stream.stop(Code::STREAM_CREATION.number());
            unknown(seen, unknown_streams)
        }
    }
}

fn unknown(seen: &Seen, limit: u32) -> Result<(), Wrong> {
    match seen.unknown.fetch_add(1, Ordering::Relaxed) < limit {
        true => Ok(()),
        false => Err((Code::EXCESSIVE_LOAD, "too many streams without a meaning")),
    }
}

const CLOSED: Wrong = (
    Code::CLOSED_CRITICAL_STREAM,
    "a stream ended that the connection needs",
);
const MALFORMED: Wrong = (Code::FRAME, "a frame is malformed");

/// What a client says of the connection; it never ends.
async fn control(reader: &mut Reader) -> Result<(), Wrong> {
    let mut is_first = true;
    let mut goaway = varint::MAX;
    let mut max_push = 0;
    for _ in 0..FRAMES {
        let kind = reader.varint().await?.ok_or(CLOSED)?;
        let length = reader.varint().await?.ok_or(CLOSED)?;
        let head = FrameHead { kind, length };
        if is_first != (kind == frame::SETTINGS) {
            return Err(match is_first {
                true => (Code::MISSING_SETTINGS, "the first frame is not SETTINGS"),
                false => (Code::FRAME_UNEXPECTED, "SETTINGS again"),
            });
        }
        is_first = false;
        match kind {
            frame::DATA | frame::HEADERS | frame::PUSH_PROMISE => {
                return Err((Code::FRAME_UNEXPECTED, "a frame of a request"));
            }
            _ if head.is_reserved() => {
                return Err((Code::FRAME_UNEXPECTED, "a frame of HTTP/2"));
            }
            frame::SETTINGS => settings(&reader.payload(length).await?)?,
            frame::GOAWAY => {
                let id = only(&reader.payload(length).await?)?;
                if id > goaway {
                    return Err((Code::ID, "GOAWAY with a larger id"));
                }
                goaway = id;
            }
            frame::MAX_PUSH_ID => {
                let id = only(&reader.payload(length).await?)?;
                if id < max_push {
                    return Err((Code::ID, "MAX_PUSH_ID with a smaller id"));
                }
                max_push = id;
            }
            frame::CANCEL_PUSH => {
                only(&reader.payload(length).await?)?;
                return Err((Code::ID, "there is no such push"));
            }
            _ => reader.pass_over(length).await?,
        }
    }
    Err((
        Code::EXCESSIVE_LOAD,
        "too many frames on the control stream",
    ))
}

/// A payload that is one integer.
fn only(payload: &[u8]) -> Result<u64, Wrong> {
    match varint::read(payload) {
        Some((value, length)) if length == payload.len() => Ok(value),
        _ => Err(MALFORMED),
    }
}

/// Settings, of which none means anything to us: we put nothing into the client's table, and its
/// limit on heads is an advice.
fn settings(mut payload: &[u8]) -> Result<(), Wrong> {
    let mut seen = Vec::new();
    while !payload.is_empty() {
        let (id, first) = varint::read(payload).ok_or(MALFORMED)?;
        let (_, second) = varint::read(&payload[first..]).ok_or(MALFORMED)?;
        payload = &payload[first + second..];
        // Of HTTP/2 (section 7.2.4.1).
        if matches!(id, 0x0 | 0x2..=0x5) || seen.contains(&id) {
            return Err((Code::SETTINGS, "a setting that must not be"));
        }
        seen.push(id);
    }
    Ok(())
}

/// What a client's encoder or decoder says. Without a table there is nothing to be said but that it
/// has no room, and that a stream was cancelled (RFC 9204 sections 4.3 and 4.4).
async fn instructions(reader: &mut Reader, is_encoder: bool) -> Result<(), Wrong> {
    loop {
        let first = reader.byte().await?.ok_or(CLOSED)?;
        if is_encoder {
            // Set Dynamic Table Capacity to 0.
            if first != 0x20 {
                return Err((Code::ENCODER_STREAM, "there is no dynamic table"));
            }
            continue;
        }
        // Stream Cancellation.
        if first & 0xc0 != 0x40 {
            return Err((Code::DECODER_STREAM, "there is nothing to acknowledge"));
        }
        if first & 0x3f == 0x3f {
            let mut length = 0;
            while reader.byte().await?.ok_or(CLOSED)? & 0x80 != 0 {
                length += 1;
                if length > 9 {
                    return Err((Code::DECODER_STREAM, "an integer is too long"));
                }
            }
        }
    }
}

struct Reader {
    stream: RecvStream,
    pieces: Pieces,
}

impl Reader {
    fn new(stream: RecvStream) -> Self {
        Self {
            stream,
            pieces: Pieces::default(),
        }
    }

    /// The next byte; none at the end of the stream. One that is reset has ended as well.
    async fn byte(&mut self) -> Result<Option<u8>, Wrong> {
        loop {
            if let Some(byte) = self.pieces.byte() {
                return Ok(Some(byte));
            }
            // Whatever has come, so that QUIC keeps nothing of it.
            let chunk = match self.stream.read_chunk(READ_BYTES, false).await {
                Ok(Some(chunk)) => chunk,
                Ok(None) | Err(ReadError::Reset(_)) => return Ok(None),
                // The connection has ended; nothing more comes, and nothing is to be said.
                Err(_) => return std::future::pending().await,
            };
            let put = self.pieces.put(chunk.offset, &chunk.bytes);
            put.map_err(|_| (Code::EXCESSIVE_LOAD, "too much before its turn"))?;
        }
    }

    async fn varint(&mut self) -> Result<Option<u64>, Wrong> {
        let Some(first) = self.byte().await? else {
            return Ok(None);
        };
        let mut value = u64::from(first & 0x3f);
        for _ in 1..1 << (first >> 6) {
            let Some(byte) = self.byte().await? else {
                return Ok(None);
            };
            value = value << 8 | u64::from(byte);
        }
        Ok(Some(value))
    }

    async fn payload(&mut self, length: u64) -> Result<Vec<u8>, Wrong> {
        if length > FRAME_BYTES {
            return Err((Code::EXCESSIVE_LOAD, "a frame is too long"));
        }
        let mut payload = Vec::with_capacity(length as usize);
        for _ in 0..length {
            payload.push(self.byte().await?.ok_or(CLOSED)?);
        }
        Ok(payload)
    }

    async fn pass_over(&mut self, length: u64) -> Result<(), Wrong> {
        if length > FRAME_BYTES {
            return Err((Code::EXCESSIVE_LOAD, "a frame is too long"));
        }
        for _ in 0..length {
            self.byte().await?.ok_or(CLOSED)?;
        }
        Ok(())
    }
}
