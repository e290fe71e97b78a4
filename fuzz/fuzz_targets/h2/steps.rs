//! An input as steps: what the peer says, what it takes, and what we do with the streams.

/// One step.
#[derive(Debug)]
pub(crate) enum Step<'a> {
    /// A frame; its payload may be anything.
    Frame {
        kind: u8,
        flags: u8,
        stream: u32,
        payload: &'a [u8],
    },
    /// HEADERS that are in order, with or without the end of the stream.
    Head {
        stream: u32,
        ends: bool,
        is_post: bool,
    },
    /// So many zeros as DATA, with or without the end of the stream.
    Data {
        stream: u32,
        bytes: usize,
        ends: bool,
    },
    /// Bytes that are no frame.
    Bytes(&'a [u8]),
    /// The peer takes so many more bytes.
    Room(usize),
    /// Something is done with one of the streams.
    Act { stream: usize, act: u8 },
    /// Something happens to the connection.
    Connection(u8),
}

/// Streams of clients, so few that steps meet; 0 and even ones among them.
fn stream(byte: u8) -> u32 {
    u32::from(byte & 0x0f)
}

/// The first step, and what is behind it.
pub(crate) fn next(input: &[u8]) -> Option<(Step<'_>, &[u8])> {
    let (&word, rest) = input.split_first()?;
    let byte = |at: usize| rest.get(at).copied();
    let some = |rest: &'_ [u8], length: usize| rest.len().min(length);
    match word & 0x0f {
        kind @ 0..=9 => {
            let [flags, number, length] = [byte(0)?, byte(1)?, byte(2)?];
            let rest = rest.get(3..)?;
            let (payload, rest) = rest.split_at(some(rest, length.into()));
            let stream = stream(number);
            let frame = Step::Frame {
                kind,
                flags,
                stream,
                payload,
            };
            Some((frame, rest))
        }
        10 => {
            let number = byte(0)?;
            let head = Step::Head {
                stream: stream(number),
                ends: number & 0x80 != 0,
                is_post: number & 0x40 != 0,
            };
            Some((head, rest.get(1..)?))
        }
        11 => {
            let (number, size) = (byte(0)?, byte(1)?);
            let data = Step::Data {
                stream: stream(number),
                bytes: usize::from(size) * 64,
                ends: number & 0x80 != 0,
            };
            Some((data, rest.get(2..)?))
        }
        12 => {
            let length = byte(0)?;
            let rest = rest.get(1..)?;
            let (bytes, rest) = rest.split_at(some(rest, length.into()));
            Some((Step::Bytes(bytes), rest))
        }
        13 => Some((Step::Room(usize::from(byte(0)?) * 256), rest.get(1..)?)),
        14 => {
            let (stream, act) = (usize::from(byte(0)?), byte(1)?);
            Some((Step::Act { stream, act }, rest.get(2..)?))
        }
        _ => Some((Step::Connection(byte(0)?), rest.get(1..)?)),
    }
}

const HEADERS: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A request's head: indexed method, scheme and path, a literal authority (RFC 7541).
pub(crate) fn request(stream: u32, ends: bool, is_post: bool) -> Vec<u8> {
    let method = if is_post { 0x83 } else { 0x82 };
    let block = [method, 0x86, 0x84, 0x01, 1, b'a'];
    head(stream, ends, &block)
}

/// A response's head: 200, indexed.
pub(crate) fn response(stream: u32, ends: bool) -> Vec<u8> {
    head(stream, ends, &[0x88])
}

fn head(stream: u32, ends: bool, block: &[u8]) -> Vec<u8> {
    let flags = END_HEADERS | if ends { END_STREAM } else { 0 };
    frame(HEADERS, flags, stream, block)
}
