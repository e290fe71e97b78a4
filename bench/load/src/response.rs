//! Reads one response as it comes and says whether it is the one that was wanted.
//!
//! Strict where a proxy could go wrong unseen (status, framing, length), indifferent to which of the
//! two framings the proxy chose. Deliberately not here: pipelined responses: there is one request
//! under way per connection, so bytes after the end are an error.

use memchr::memmem;

/// A response head beyond this is an error.
const HEAD_LIMIT: usize = 16 << 10;

/// Where a response stands.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Progress {
    /// More is to come.
    More,
    /// Complete and as wanted.
    Done,
}

/// Reads one response after the other.
pub(crate) struct ResponseReader {
    wanted_bytes: usize,
    head: Vec<u8>,
    state: State,
    body_bytes: usize,
}

enum State {
    Head,
    Length { left: usize },
    Chunk(Chunk),
}

#[derive(Clone, Copy)]
enum Chunk {
    Size { value: usize, digits: u32 },
    Extension { value: usize },
    SizeLineFeed { value: usize },
    Data { left: usize },
    DataReturn,
    DataLineFeed,
    Trailer { line_bytes: usize },
    TrailerLineFeed { last: bool },
}

impl ResponseReader {
    /// A reader of responses whose body must be `wanted_bytes` long.
    pub(crate) fn new(wanted_bytes: usize) -> Self {
        Self {
            wanted_bytes,
            head: Vec::new(),
            state: State::Head,
            body_bytes: 0,
        }
    }

    /// Whether no byte of the next response has come.
    pub(crate) fn is_between(&self) -> bool {
        matches!(self.state, State::Head) && self.head.is_empty()
    }

    /// Takes the next bytes; the error is a sentence.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) -> Result<Progress, String> {
        if matches!(self.state, State::Head) {
            let before = self.head.len();
            let body_at = if before == 0 {
                memmem::find(bytes, b"\r\n\r\n").map(|at| at + 4)
            } else {
                self.head.extend_from_slice(bytes);
                memmem::find(&self.head, b"\r\n\r\n").map(|at| at + 4)
            };
            let Some(body_at) = body_at else {
                if before == 0 {
                    self.head.extend_from_slice(bytes);
                }
                return if self.head.len() > HEAD_LIMIT {
                    Err("the response's head is endless".to_owned())
                } else {
                    Ok(Progress::More)
                };
            };
            self.state = if before == 0 {
                framing(&bytes[..body_at])?
            } else {
                framing(&self.head[..body_at])?
            };
            bytes = &bytes[body_at - before..];
            self.head.clear();
            self.body_bytes = 0;
        }
        let done = match &mut self.state {
            State::Head => false,
            State::Length { left } => {
                if bytes.len() > *left {
                    return Err(format!("{} bytes after the end", bytes.len() - *left));
                }
                *left -= bytes.len();
                self.body_bytes += bytes.len();
                *left == 0
            }
            State::Chunk(chunk) => chunked(chunk, &mut self.body_bytes, bytes)?,
        };
        if !done {
            return Ok(Progress::More);
        }
        self.state = State::Head;
        if self.body_bytes == self.wanted_bytes {
            Ok(Progress::Done)
        } else {
            Err(format!(
                "a body of {} bytes, {} were wanted",
                self.body_bytes, self.wanted_bytes
            ))
        }
    }
}

fn framing(head: &[u8]) -> Result<State, String> {
    if !head.starts_with(b"HTTP/1.1 200") {
        let line = head.split(|&byte| byte == b'\r').next().unwrap_or(head);
        return Err(format!(
            "the answer was {:?}",
            String::from_utf8_lossy(line)
        ));
    }
    let mut length = None;
    for line in head.split(|&byte| byte == b'\n').skip(1) {
        if let Some(value) = field(line, b"content-length:") {
            let parsed = std::str::from_utf8(value)
                .ok()
                .and_then(|text| text.parse().ok());
            length = Some(parsed.ok_or("a Content-Length that is no number")?);
        } else if field(line, b"transfer-encoding:").is_some_and(|value| value == b"chunked") {
            return Ok(State::Chunk(Chunk::Size {
                value: 0,
                digits: 0,
            }));
        }
    }
    match length {
        Some(left) => Ok(State::Length { left }),
        None => Err("neither Content-Length nor chunked".to_owned()),
    }
}

/// The value of the field `name` (lower case, with its colon) when `line` is that field.
fn field<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let start = line.get(..name.len())?;
    start
        .eq_ignore_ascii_case(name)
        .then(|| line[name.len()..].trim_ascii())
}

/// Advances over chunked bytes; true at the end of the last chunk's trailers.
fn chunked(state: &mut Chunk, body_bytes: &mut usize, bytes: &[u8]) -> Result<bool, String> {
    let mut at = 0;
    while at < bytes.len() {
        if let Chunk::Data { left } = *state {
            let taken = left.min(bytes.len() - at);
            *body_bytes += taken;
            at += taken;
            *state = match left - taken {
                0 => Chunk::DataReturn,
                left => Chunk::Data { left },
            };
            continue;
        }
        let byte = bytes[at];
        at += 1;
        let ended = matches!(*state, Chunk::TrailerLineFeed { last: true }) && byte == b'\n';
        if ended {
            return match bytes.len() - at {
                0 => Ok(true),
                more => Err(format!("{more} bytes after the end")),
            };
        }
        *state = next(*state, byte).ok_or("malformed chunked framing")?;
    }
    Ok(false)
}

fn next(state: Chunk, byte: u8) -> Option<Chunk> {
    Some(match (state, byte) {
        (Chunk::Size { value, digits }, b'\r') if digits > 0 => Chunk::SizeLineFeed { value },
        (Chunk::Size { value, digits }, b';' | b' ') if digits > 0 => Chunk::Extension { value },
        (Chunk::Size { value, digits }, digit) if digits < 8 => Chunk::Size {
            value: value * 16 + char::from(digit).to_digit(16)? as usize,
            digits: digits + 1,
        },
        (Chunk::Extension { value }, b'\r') => Chunk::SizeLineFeed { value },
        (Chunk::Extension { value }, _) => Chunk::Extension { value },
        (Chunk::SizeLineFeed { value: 0 }, b'\n') => Chunk::Trailer { line_bytes: 0 },
        (Chunk::SizeLineFeed { value }, b'\n') => Chunk::Data { left: value },
        (Chunk::DataReturn, b'\r') => Chunk::DataLineFeed,
        (Chunk::DataLineFeed, b'\n') => Chunk::Size {
            value: 0,
            digits: 0,
        },
        (Chunk::Trailer { line_bytes }, b'\r') => Chunk::TrailerLineFeed {
            last: line_bytes == 0,
        },
        (Chunk::Trailer { line_bytes }, _) => Chunk::Trailer {
            line_bytes: line_bytes + 1,
        },
        (Chunk::TrailerLineFeed { last: false }, b'\n') => Chunk::Trailer { line_bytes: 0 },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::Exchange;

    fn read(response: &[u8], piece_bytes: usize, wanted_bytes: usize) -> Result<Progress, String> {
        let mut reader = ResponseReader::new(wanted_bytes);
        let mut last = Progress::More;
        for piece in response.chunks(piece_bytes) {
            assert_eq!(last, Progress::More, "done before the last byte");
            last = reader.feed(piece)?;
        }
        Ok(last)
    }

    #[test]
    fn every_exchange_is_read_whole_and_in_pieces() {
        for exchange in Exchange::ALL {
            for piece_bytes in [1, 2, 7, 1000, usize::MAX] {
                let (response, wanted) = (exchange.response(), exchange.response_body_bytes());
                assert_eq!(
                    read(&response, piece_bytes, wanted),
                    Ok(Progress::Done),
                    "{exchange:?} by {piece_bytes}"
                );
            }
        }
    }

    #[test]
    fn what_is_wrong_is_an_error() {
        let cases: [(&str, &str); 8] = [
            (
                "HTTP/1.1 502 Bad Gateway\r\ncontent-length: 2\r\n\r\nok",
                "502",
            ),
            ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\noks", "3 bytes"),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokk",
                "after the end",
            ),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\nok",
                "no number",
            ),
            ("HTTP/1.1 200 OK\r\n\r\nok", "neither"),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nokX\n0\r\n\r\n",
                "malformed",
            ),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\noks\r\n0\r\n\r\n",
                "3 bytes",
            ),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nx",
                "after the end",
            ),
        ];
        for (response, reason) in cases {
            for piece_bytes in [1, usize::MAX] {
                // In pieces of one byte the surplus comes as the start of the next response.
                if reason == "after the end" && piece_bytes == 1 {
                    continue;
                }
                let error = read(response.as_bytes(), piece_bytes, 2).expect_err(response);
                assert!(error.contains(reason), "{error:?} for {response:?}");
            }
        }
    }

    #[test]
    fn a_chunked_response_may_carry_extensions_and_trailers() {
        let response = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nok\r\n0\r\nx: y\r\n\r\n";
        for piece_bytes in [1, 3, usize::MAX] {
            assert_eq!(read(response, piece_bytes, 2), Ok(Progress::Done));
        }
    }
}
