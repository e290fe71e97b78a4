//! HTTP/2 by hand: frames that no library would send, and what comes back.

use std::net::SocketAddr;

use super::{field::Tally, line::Line};

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;
pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;
/// `SETTINGS_HEADER_TABLE_SIZE`.
pub(super) const TABLE: u16 = 1;
/// `:status` 413 in HPACK of who may index nothing: four bytes of text in Huffman's code, or three as they are.
const TOO_LARGE: [&[u8]; 2] = [&[0x83, 0x68, 0x2c, 0xff], &[3, b'4', b'1', b'3']];
/// `SETTINGS_INITIAL_WINDOW_SIZE`.
pub(super) const INITIAL_WINDOW: u16 = 4;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes before a payload.
const FRAME_HEAD: usize = 9;
/// A connection on which this waits has a server that reads nothing: no more is put behind it.
const MOST_HEARD: usize = 1 << 20;

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A setting as it is in SETTINGS.
pub(super) fn setting(name: u16, value: u32) -> Vec<u8> {
    [&name.to_be_bytes()[..], &value.to_be_bytes()].concat()
}

/// A head in HPACK (RFC 7541): indexed method and scheme, a literal path and authority.
pub(super) fn block(is_post: bool, path: &str) -> Vec<u8> {
    let method = if is_post { 0x83 } else { 0x82 };
    let mut bytes = vec![method, 0x86, 0x04, path.len() as u8];
    bytes.extend(path.as_bytes());
    bytes.extend([0x01, 1, b'a']);
    bytes
}

/// A request's head whose stream stays open or not.
pub(super) fn request(stream: u32, is_post: bool, path: &str) -> Vec<u8> {
    let flags = END_HEADERS | if is_post { 0 } else { END_STREAM };
    frame(HEADERS, flags, stream, &block(is_post, path))
}

/// A connection of an attacker's, and what the server said on it.
pub(super) struct Connection {
    pub(super) line: Line,
    next: u32,
    /// The code of the server's GOAWAY.
    goaway: Option<u32>,
    /// Streams that the server has reset.
    pub(super) resets: u64,
    /// Answers to PING and SETTINGS.
    acknowledged: u64,
    /// Heads of answers.
    answers: u64,
    /// Streams that are answered with 413, where the client's [`TABLE`] is empty.
    pub(super) too_large: Vec<u32>,
}

impl Connection {
    /// With the preface and these settings.
    pub(super) fn open(address: SocketAddr, settings: &[u8]) -> Option<Self> {
        let mut line = Line::open(address)?;
        line.say(&[PREFACE, &frame(SETTINGS, 0, 0, settings)].concat());
        Some(Self {
            line,
            next: 1,
            goaway: None,
            resets: 0,
            acknowledged: 0,
            answers: 0,
            too_large: Vec::new(),
        })
    }

    /// The next stream of the client's.
    pub(super) fn next_stream(&mut self) -> u32 {
        let next = self.next;
        self.next += 2;
        next
    }

    /// Takes what has come.
    pub(super) fn hear(&mut self) {
        self.line.hear(MOST_HEARD);
        let mut at = 0;
        let heard = &self.line.heard;
        while heard.len() >= at + FRAME_HEAD {
            let length = u32::from_be_bytes([0, heard[at], heard[at + 1], heard[at + 2]]) as usize;
            let Some(payload) = heard.get(at + FRAME_HEAD..at + FRAME_HEAD + length) else {
                break;
            };
            match (heard[at + 3], heard[at + 4] & 1) {
                (GOAWAY, _) if length >= 8 => {
                    let code = [payload[4], payload[5], payload[6], payload[7]];
                    self.goaway = Some(u32::from_be_bytes(code));
                }
                (RST_STREAM, _) => self.resets += 1,
                (PING | SETTINGS, 1) => self.acknowledged += 1,
                (HEADERS, _) => {
                    self.answers += 1;
                    let says = |status: &&[u8]| payload.windows(4).any(|four| four == *status);
                    if TOO_LARGE.iter().any(says) {
                        let stream = [heard[at + 5], heard[at + 6], heard[at + 7], heard[at + 8]];
                        self.too_large.push(u32::from_be_bytes(stream));
                    }
                }
                _ => {}
            }
            at += FRAME_HEAD + length;
        }
        self.line.heard.drain(..at);
    }

    /// Why it has ended.
    fn end(&self) -> String {
        match self.goaway {
            Some(code) => format!("GOAWAY {code}"),
            None => format!("{:?}", self.line.end).to_lowercase(),
        }
    }

    pub(super) fn count(&self, tally: &mut Tally) {
        self.line.count(tally);
        tally.tell(self.end());
        for (what, count) in [
            ("RST_STREAM", self.resets),
            ("acknowledged", self.acknowledged),
            ("answers", self.answers),
        ] {
            if count > 0 {
                *tally.told.entry(what.to_owned()).or_default() += count;
            }
        }
    }
}
