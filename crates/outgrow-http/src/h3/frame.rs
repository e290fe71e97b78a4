//! Frames of HTTP/3 (RFC 9114 section 7): their heads. What is in them is read where it is expected.

use super::varint;

pub(super) const DATA: u64 = 0x0;
pub(super) const HEADERS: u64 = 0x1;
pub(super) const CANCEL_PUSH: u64 = 0x3;
pub(super) const SETTINGS: u64 = 0x4;
pub(super) const PUSH_PROMISE: u64 = 0x5;
pub(super) const GOAWAY: u64 = 0x7;
pub(super) const MAX_PUSH_ID: u64 = 0xd;

/// The most bytes that a frame's head has.
pub(super) const LONGEST_HEAD: usize = 16;

/// What stands before a frame's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHead {
    pub(super) kind: u64,
    /// Bytes of its payload.
    pub(super) length: u64,
}

impl FrameHead {
    /// The head at the beginning of `bytes`, and how many bytes it takes; none while some are missing.
    pub(super) fn read(bytes: &[u8]) -> Option<(Self, usize)> {
        let (kind, first) = varint::read(bytes)?;
        let (length, second) = varint::read(&bytes[first..])?;
        Some((Self { kind, length }, first + second))
    }

    /// Appends it.
    pub(super) fn put(self, out: &mut Vec<u8>) {
        varint::put(self.kind, out);
        varint::put(self.length, out);
    }

    /// Whether the kind is one of HTTP/2 that must not be sent (section 7.2.8).
    pub(super) fn is_reserved(self) -> bool {
        matches!(self.kind, 0x2 | 0x6 | 0x8 | 0x9)
    }

    /// Whether the kind has a place on a control stream only, or none at all where clients send.
    pub(super) fn is_elsewhere(self) -> bool {
        let known = [CANCEL_PUSH, SETTINGS, PUSH_PROMISE, GOAWAY, MAX_PUSH_ID];
        self.is_reserved() || known.contains(&self.kind)
    }
}

/// Appends a whole frame.
pub(super) fn put(kind: u64, payload: &[u8], out: &mut Vec<u8>) {
    let length = payload.len() as u64;
    FrameHead { kind, length }.put(out);
    out.extend_from_slice(payload);
}
