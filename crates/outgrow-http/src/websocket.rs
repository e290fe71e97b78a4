//! Where frames of a WebSocket begin and end (RFC 6455 section 5.2), and Close frames of our own.
//!
//! Headers are followed and nothing else: payloads, extensions (permessage-deflate), masks and texts
//! are the endpoint's and the client's business and pass as they are. What cannot be followed is no
//! error: then nothing is put in between.

/// The code of a Close frame: the server is going away, and so is the connection.
pub const GOING_AWAY: u16 = 1001;
/// The code of a Close frame: the service restarts; the client may come again, best after a wait of
/// its own choice (the registry of RFC 6455 section 11.7).
pub const SERVICE_RESTART: u16 = 1012;

/// The opcode of a Close frame.
const CLOSE: u8 = 8;
/// The longest Close frame of ours: header, mask, code, reason.
const CLOSE_BYTES: usize = 2 + 4 + 2 + REASON_BYTES;
/// The longest reason of ours.
const REASON_BYTES: usize = 32;

/// One direction of a WebSocket, followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Frames {
    state: State,
    is_close: bool,
    /// The Close frame of this direction has passed.
    closed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
enum State {
    /// Between frames.
    #[default]
    Boundary,
    /// The byte with the mask bit and the length comes.
    Length,
    /// So many bytes of an extended length are still to come.
    Extended { left: u8, value: u64, masked: bool },
    /// So many bytes are still to come before the next frame.
    Payload { left: u64 },
    /// A length that the protocol forbids: nobody knows where the next frame begins.
    Lost,
}

impl Frames {
    /// Bytes pass.
    pub fn pass(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() && !self.closed {
            let count = self.pass_frame(rest);
            rest = &rest[count..];
        }
    }

    /// How many of the bytes that come next belong to the frame that is under way; all, when it does
    /// not end in them.
    pub fn until_boundary(&self, bytes: &[u8]) -> usize {
        let mut probe = *self;
        probe.pass_frame(bytes)
    }

    /// Whether a frame could be put in here.
    pub fn is_at_boundary(&self) -> bool {
        self.state == State::Boundary
    }

    /// Whether the Close frame of this direction has passed.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Up to the end of a frame, or of the bytes; how many that are.
    fn pass_frame(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            if let State::Payload { left } = self.state {
                let count = usize::try_from(left).unwrap_or(usize::MAX);
                let count = count.min(bytes.len() - at);
                at += count;
                self.payload(left - count as u64);
            } else if self.state == State::Lost {
                return bytes.len();
            } else {
                self.header(bytes[at]);
                at += 1;
            }
            if self.state == State::Boundary {
                return at;
            }
        }
        at
    }

    fn header(&mut self, byte: u8) {
        match self.state {
            State::Boundary => {
                self.is_close = byte & 0x0f == CLOSE;
                self.state = State::Length;
            }
            State::Length => {
                let masked = byte & 0x80 != 0;
                let extended = |left| State::Extended {
                    left,
                    value: 0,
                    masked,
                };
                match byte & 0x7f {
                    126 => self.state = extended(2),
                    127 => self.state = extended(8),
                    length => self.length(u64::from(length), masked),
                }
            }
            State::Extended {
                left,
                value,
                masked,
            } => {
                let value = value << 8 | u64::from(byte);
                if left == 1 {
                    self.length(value, masked);
                } else {
                    self.state = State::Extended {
                        left: left - 1,
                        value,
                        masked,
                    };
                }
            }
            State::Payload { .. } | State::Lost => {}
        }
    }

    fn length(&mut self, length: u64, masked: bool) {
        if length >> 63 != 0 {
            self.state = State::Lost;
            return;
        }
        self.payload(length + if masked { 4 } else { 0 });
    }

    fn payload(&mut self, left: u64) {
        if left > 0 {
            self.state = State::Payload { left };
            return;
        }
        self.state = State::Boundary;
        self.closed |= self.is_close;
    }
}

/// A Close frame of ours, on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Close {
    bytes: [u8; CLOSE_BYTES],
    length: usize,
    taken: usize,
}

impl Close {
    /// For a client: without a mask. A reason that is too long is cut.
    pub fn to_client(code: u16, reason: &str) -> Self {
        Self::new(code, reason, None)
    }

    /// For a server, which takes only what is masked; the key is to be anything that the other side
    /// could not have foreseen.
    pub fn to_server(code: u16, reason: &str, key: [u8; 4]) -> Self {
        Self::new(code, reason, Some(key))
    }

    fn new(code: u16, reason: &str, key: Option<[u8; 4]>) -> Self {
        let reason = &reason.as_bytes()[..reason.len().min(REASON_BYTES)];
        let mut bytes = [0; CLOSE_BYTES];
        bytes[0] = 0x80 | CLOSE;
        // At most 34, so it needs no extended length.
        bytes[1] = (2 + reason.len()) as u8;
        let mut start = 2;
        if let Some(key) = key {
            bytes[1] |= 0x80;
            bytes[2..6].copy_from_slice(&key);
            start = 6;
        }
        bytes[start..start + 2].copy_from_slice(&code.to_be_bytes());
        bytes[start + 2..start + 2 + reason.len()].copy_from_slice(reason);
        let length = start + 2 + reason.len();
        if let Some(key) = key {
            for (at, byte) in bytes[start..length].iter_mut().enumerate() {
                *byte ^= key[at % 4];
            }
        }
        Self {
            bytes,
            length,
            taken: 0,
        }
    }

    /// What is still to be sent.
    pub fn rest(&self) -> &[u8] {
        &self.bytes[self.taken..self.length]
    }

    /// So many bytes of it were taken.
    pub fn take(&mut self, count: usize) {
        self.taken = self.length.min(self.taken + count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame with this first byte and payload length; masked or not.
    fn frame(first: u8, length: usize, masked: bool) -> Vec<u8> {
        let mask = if masked { 0x80 } else { 0 };
        let mut bytes = vec![first];
        match length {
            0..=125 => bytes.push(mask | length as u8),
            126..=0xffff => {
                bytes.push(mask | 0x7e);
                bytes.extend((length as u16).to_be_bytes());
            }
            _ => {
                bytes.push(mask | 0x7f);
                bytes.extend((length as u64).to_be_bytes());
            }
        }
        if masked {
            bytes.extend([0x88; 4]);
        }
        // Payloads look like frames, and are none.
        bytes.extend(std::iter::repeat_n(0x88, length));
        bytes
    }

    #[test]
    fn boundaries_are_found_however_the_bytes_come() {
        let frames = [
            frame(0x81, 0, false),
            frame(0xc2, 125, true),
            frame(0x01, 126, false),
            frame(0x89, 3, true),
            frame(0x80, 65_535, true),
            frame(0x82, 65_536, false),
        ];
        let all = frames.concat();
        let mut ends = Vec::new();
        for one in &frames {
            ends.push(ends.last().copied().unwrap_or(0) + one.len());
        }
        for step in [1, 2, 3, 7, 1000, all.len()] {
            let mut followed = Frames::default();
            let mut at = 0;
            for piece in all.chunks(step) {
                // A piece may hold several ends; each is found by asking.
                let mut rest = piece;
                while !rest.is_empty() {
                    let count = followed.until_boundary(rest);
                    followed.pass(&rest[..count]);
                    at += count;
                    rest = &rest[count..];
                    assert_eq!(followed.is_at_boundary(), ends.contains(&at), "{step} {at}");
                }
            }
            assert!(followed.is_at_boundary() && !followed.is_closed());
        }
    }

    #[test]
    fn a_close_frame_is_seen_when_it_is_whole() {
        for masked in [false, true] {
            let mut bytes = frame(0x82, 10, masked);
            bytes.extend(frame(0x88, 2, masked));
            let (last, before) = bytes.split_last().expect("bytes");
            let mut followed = Frames::default();
            followed.pass(before);
            assert!(!followed.is_closed());
            followed.pass(&[*last]);
            assert!(followed.is_closed());
            // What comes behind it is of no interest.
            followed.pass(b"anything at all");
            assert!(followed.is_closed() && followed.is_at_boundary());
        }
    }

    #[test]
    fn a_length_that_cannot_be_loses_the_way_and_nothing_else() {
        let mut followed = Frames::default();
        followed.pass(&[0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0]);
        followed.pass(&[0x88, 0]);
        assert!(!followed.is_at_boundary() && !followed.is_closed());
        assert_eq!(followed.until_boundary(b"abc"), 3);
        // The longest that the protocol allows does not overflow with its mask.
        let mut followed = Frames::default();
        followed.pass(&[0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
        followed.pass(&[0; 100]);
        assert!(!followed.is_at_boundary());
    }

    #[test]
    fn our_close_frames_are_as_the_protocol_wants_them() {
        let mut close = Close::to_client(SERVICE_RESTART, "service restart");
        assert_eq!(close.rest(), b"\x88\x11\x03\xf4service restart");
        close.take(4);
        assert_eq!(close.rest(), b"service restart");
        let close = Close::to_server(GOING_AWAY, "", [1, 2, 3, 4]);
        assert_eq!(close.rest(), [0x88, 0x82, 1, 2, 3, 4, 0x03 ^ 1, 0xe9 ^ 2]);
        let long = "x".repeat(200);
        let mut followed = Frames::default();
        followed.pass(Close::to_server(GOING_AWAY, &long, [9; 4]).rest());
        assert!(followed.is_closed());
    }
}
