//! The chunked coding (RFC 9112 section 7.1), both ways.
//!
//! [`Decoder`] says, for the bytes at hand, how many are framing and how many are data after it.

use outgrow_message::Fields;
use outgrow_message::claims::is_claim;

use super::scan::Scan;
use super::{Limits, Reject, fields};

/// Extensions of all chunks of a body together; they carry nothing that anybody uses, and
/// without a bound they are a way to keep a server busy for free.
const EXTENSION_BYTES: usize = 4 * 1024;

/// What a trailer section may take. It has no target: only the other two bound it.
const TRAILER_LIMITS: Limits = Limits {
    head_bytes: 8 * 1024,
    fields: 64,
    target_bytes: usize::MAX / 2,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the first digit of a size.
    Start,
    /// Within a size.
    Size,
    /// Within extensions, after a `;`.
    Extension { named: bool },
    /// After the CR of a size line.
    SizeLf,
    /// Within data.
    Data,
    /// Before the CR after data.
    DataCr,
    /// Before the LF after data.
    DataLf,
    /// Within the trailer section.
    Trailers,
    /// After the end.
    Done,
    /// After bytes that were refused: whatever follows is refused as well.
    Failed(Reject),
}

/// Reads a chunked body.
#[derive(Clone, Debug)]
pub struct Decoder {
    state: State,
    remaining: u64,
    digits: u8,
    extension_bytes: usize,
    scan: Scan,
}

/// What the beginning of the bytes at hand is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// So many bytes of framing, to be passed over.
    pub skip: usize,
    /// So many bytes of data after them. To be told to [`Decoder::took`] as they are taken.
    pub data: usize,
    /// Whether the body has ended after the framing.
    pub done: bool,
}

impl Default for Decoder {
    fn default() -> Self {
        Self {
            state: State::Start,
            remaining: 0,
            digits: 0,
            extension_bytes: 0,
            scan: Scan::default(),
        }
    }
}

impl Decoder {
    /// Looks at `bytes`, which follow what was skipped and taken before. Trailer lines, if any,
    /// are put into `trailers` at the end. A step that skips nothing, has no data and is not done
    /// needs more bytes; a trailer section is taken only when it is whole. What was refused once is
    /// refused for ever: the same bytes must not be read a second time from another state.
    pub fn step(&mut self, bytes: &[u8], trailers: &mut Fields) -> Result<Step, Reject> {
        let step = self.advance(bytes, trailers);
        if let Err(reject) = step {
            self.state = State::Failed(reject);
        }
        step
    }

    fn advance(&mut self, bytes: &[u8], trailers: &mut Fields) -> Result<Step, Reject> {
        let mut at = 0;
        while at < bytes.len() {
            match self.state {
                State::Data => {
                    let available = (bytes.len() - at) as u64;
                    let data = self.remaining.min(available) as usize;
                    return Ok(Step {
                        skip: at,
                        data,
                        done: false,
                    });
                }
                State::Trailers => return self.trailer_section(bytes, at, trailers),
                State::Done => break,
                State::Failed(reject) => return Err(reject),
                _ => self.framing_byte(bytes[at])?,
            }
            at += 1;
        }
        Ok(Step {
            skip: at,
            data: 0,
            done: self.state == State::Done,
        })
    }

    /// So many bytes of data were taken.
    pub fn took(&mut self, bytes: usize) {
        self.remaining = self.remaining.saturating_sub(bytes as u64);
        if self.remaining == 0 && self.state == State::Data {
            self.state = State::DataCr;
        }
    }

    /// Whether the body ends with the last of `bytes`, which begin with `data` bytes of data that the last
    /// step has told of and nobody has taken.
    pub fn ends_with(&self, bytes: &[u8], mut data: usize) -> bool {
        // The last line alone may be missing.
        if !bytes.ends_with(b"\r\n") {
            return false;
        }
        let (mut ahead, mut trailers, mut at) = (self.clone(), Fields::default(), 0);
        loop {
            ahead.took(data);
            at += data;
            match ahead.advance(&bytes[at..], &mut trailers) {
                Ok(step) if step.done => return at + step.skip == bytes.len(),
                Ok(step) if step.data > 0 => (at, data) = (at + step.skip, step.data),
                Ok(_) | Err(_) => return false,
            }
        }
    }

    /// Whether the body has ended.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    fn framing_byte(&mut self, byte: u8) -> Result<(), Reject> {
        self.state = match (self.state, byte) {
            (State::Start | State::Size, _) if byte.is_ascii_hexdigit() => {
                self.digits += 1;
                if self.digits > 15 {
                    return Err(Reject::framing("a chunk size is too large"));
                }
                let digit = (byte as char).to_digit(16).unwrap_or(0);
                self.remaining = self.remaining << 4 | u64::from(digit);
                State::Size
            }
            (State::Size, b'\r') => State::SizeLf,
            (State::Size, b';') => State::Extension { named: false },
            (State::Extension { named: true }, b'\r') => State::SizeLf,
            (State::Extension { named }, _) => self.extension_byte(byte, named)?,
            (State::SizeLf, b'\n') if self.remaining == 0 => {
                self.scan = Scan::default();
                State::Trailers
            }
            (State::SizeLf, b'\n') => State::Data,
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => {
                self.digits = 0;
                State::Start
            }
            (State::Start | State::Size, _) => {
                return Err(Reject::framing("a chunk size is malformed"));
            }
            (State::SizeLf, _) => return Err(Reject::framing("a chunk size line is malformed")),
            _ => return Err(Reject::framing("chunk data is longer than its size")),
        };
        Ok(())
    }

    fn extension_byte(&mut self, byte: u8, named: bool) -> Result<State, Reject> {
        self.extension_bytes += 1;
        if self.extension_bytes > EXTENSION_BYTES {
            return Err(Reject::framing("chunk extensions are too large"));
        }
        match byte {
            b'\t' | b' ' | 0x21..=0x7e | 0x80.. => Ok(State::Extension {
                named: named || byte.is_ascii_alphanumeric(),
            }),
            _ => Err(Reject::framing("a chunk extension is malformed")),
        }
    }

    fn trailer_section(
        &mut self,
        bytes: &[u8],
        at: usize,
        trailers: &mut Fields,
    ) -> Result<Step, Reject> {
        let section = &bytes[at..];
        let Some(end) = self.scan.head_end(section, &TRAILER_LIMITS)? else {
            return Ok(Step {
                skip: at,
                data: 0,
                done: false,
            });
        };
        trailers.clear();
        // Nearly all trailer sections are an empty line, for which nothing is kept.
        if end > 2 {
            trailers.push_bytes(&section[..end]);
            fields::parse(trailers, 0, &TRAILER_LIMITS)?;
            trailers.remove_where(|known, name, _| is_forbidden_trailer(known, name));
        }
        self.state = State::Done;
        Ok(Step {
            skip: at + end,
            data: 0,
            done: true,
        })
    }
}

/// Fields that are taken out of every trailer section, of requests and of responses, whoever sent it:
/// those that must not come after the content they describe (RFC 9110 section 6.5.1), and those that say
/// who the client is, which some endpoints would merge into the head. What a route sets or removes is
/// not among them.
pub(crate) fn is_forbidden_trailer(known: outgrow_message::Known, name: &[u8]) -> bool {
    use outgrow_message::Known as K;
    known.is_hop_by_hop()
        || known == K::Other && is_claim(name)
        || matches!(
            known,
            K::ContentLength
                | K::ContentEncoding
                | K::ContentType
                | K::Host
                | K::Authorization
                | K::Cookie
                | K::SetCookie
                | K::CacheControl
                | K::Expect
                | K::MaxForwards
                | K::Forwarded
                | K::XForwardedFor
                | K::XForwardedHost
                | K::XForwardedPort
                | K::XForwardedProto
                | K::XRequestId
                | K::Via
                | K::Vary
                | K::Location
                | K::RetryAfter
                | K::Date
        )
}

/// The longest size line that [`write_size`] makes.
pub const SIZE_LINE_BYTES: usize = 18;

/// Writes the size line of a chunk at the beginning of `out`, which has room for
/// [`SIZE_LINE_BYTES`]; returns its length.
pub fn write_size(size: usize, out: &mut [u8]) -> usize {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let width = (size.max(1).ilog2() / 4 + 1) as usize;
    for place in 0..width {
        out[place] = DIGITS[size >> (4 * (width - 1 - place)) & 15];
    }
    out[width] = b'\r';
    out[width + 1] = b'\n';
    width + 2
}
