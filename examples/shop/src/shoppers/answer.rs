//! Reads one HTTP/1.1 response, strictly (RFC 9112): head, then a body by
//! Content-Length, chunked or until the connection closes.

use std::io;

use bytes::BytesMut;
use tokio::{io::AsyncReadExt, net::tcp::ReadHalf};

use super::wire::{Answer, WireFault};

/// Longest line of a head or of a chunk's size.
const LONGEST_LINE: usize = 16 * 1024;

/// Most fields of a head or of a trailer.
const MOST_FIELDS: usize = 200;

/// Longest body that is taken.
const LONGEST_BODY: u64 = 128 * 1024 * 1024;

/// Most interim (1xx) responses before the final one.
const MOST_INTERIM: usize = 8;

/// What is being read of a connection.
#[derive(Debug)]
pub(super) struct Intake<'a> {
    reader: ReadHalf<'a>,
    buffer: &'a mut BytesMut,
    status: Option<u16>,
    /// Any byte of this answer has come.
    begun: bool,
}

/// Why no more bytes come.
type Ended = &'static str;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length(u64),
    Chunked,
    UntilClose,
}

#[derive(Debug)]
struct Head {
    status: u16,
    framing: Framing,
    closes: bool,
}

impl<'a> Intake<'a> {
    pub(super) fn new(reader: ReadHalf<'a>, buffer: &'a mut BytesMut) -> Self {
        Self {
            reader,
            buffer,
            status: None,
            begun: false,
        }
    }

    /// The status, when a final head has come.
    pub(super) fn status(&self) -> Option<u16> {
        self.status
    }

    /// Reads the answer.
    pub(super) async fn answer(&mut self) -> Result<Answer, WireFault> {
        let head = self.final_head().await?;
        self.status = Some(head.status);
        let mut body = BytesMut::new();
        let read = match head.framing {
            Framing::Length(length) => self.take(length, &mut body).await.map_err(BodyEnd::Early),
            Framing::Chunked => self.chunked(&mut body).await,
            Framing::UntilClose => self.until_close(&mut body).await,
        };
        match read {
            Ok(()) => Ok(Answer {
                status: head.status,
                body: body.freeze(),
                closes: head.closes || head.framing == Framing::UntilClose,
                until_close: head.framing == Framing::UntilClose,
            }),
            Err(BodyEnd::Early(how)) => Err(WireFault::Truncated {
                status: head.status,
                body: body.freeze(),
                how,
            }),
            Err(BodyEnd::Malformed(what)) => Err(WireFault::Malformed(what)),
        }
    }

    async fn final_head(&mut self) -> Result<Head, WireFault> {
        for _ in 0..=MOST_INTERIM {
            let head = self.head().await?;
            if head.status == 101 {
                return Err(malformed("101 without Upgrade asked for"));
            }
            if head.status >= 200 {
                return Ok(head);
            }
        }
        Err(malformed("too many interim responses"))
    }

    async fn head(&mut self) -> Result<Head, WireFault> {
        let line = self.head_line().await?;
        let status = status_of(&line).ok_or_else(|| malformed(format!("status line {line:?}")))?;
        let mut fields = Vec::new();
        loop {
            let line = self.head_line().await?;
            if line.is_empty() {
                return framing_of(status, &fields).map_err(WireFault::Malformed);
            }
            if fields.len() == MOST_FIELDS {
                return Err(malformed("too many fields"));
            }
            let field = field_of(&line).ok_or_else(|| malformed(format!("field {line:?}")))?;
            fields.push(field);
        }
    }

    async fn head_line(&mut self) -> Result<String, WireFault> {
        match self.line().await {
            Ok(line) => Ok(line),
            Err(BodyEnd::Malformed(what)) => Err(WireFault::Malformed(what)),
            Err(BodyEnd::Early(how)) if self.begun => {
                Err(malformed(format!("{how} inside the response head")))
            }
            Err(BodyEnd::Early(how)) => Err(WireFault::Unanswered(how)),
        }
    }

    /// A line without its CR LF.
    async fn line(&mut self) -> Result<String, BodyEnd> {
        let mut looked = 0;
        loop {
            if let Some(place) = self.buffer[looked..].iter().position(|byte| *byte == b'\n') {
                let end = looked + place;
                let line = self.buffer.split_to(end + 1);
                let text = line.strip_suffix(b"\r\n").unwrap_or(b"\n");
                let bare = text.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0));
                return match std::str::from_utf8(text) {
                    Ok(text) if !bare => Ok(text.to_owned()),
                    _ => Err(BodyEnd::Malformed(format!("line {}", line.escape_ascii()))),
                };
            }
            looked = self.buffer.len();
            if looked > LONGEST_LINE {
                return Err(BodyEnd::Malformed("a line of more than 16 KiB".into()));
            }
            self.more().await.map_err(BodyEnd::Early)?;
        }
    }

    async fn take(&mut self, length: u64, into: &mut BytesMut) -> Result<(), Ended> {
        let mut left = length;
        loop {
            let here = left.min(self.buffer.len() as u64);
            into.extend_from_slice(&self.buffer.split_to(here as usize));
            left -= here;
            if left == 0 {
                return Ok(());
            }
            self.more().await?;
        }
    }

    async fn chunked(&mut self, into: &mut BytesMut) -> Result<(), BodyEnd> {
        loop {
            let line = self.line().await?;
            let size = chunk_size(&line)
                .filter(|size| *size + into.len() as u64 <= LONGEST_BODY)
                .ok_or_else(|| BodyEnd::Malformed(format!("chunk size {line:?}")))?;
            if size == 0 {
                break;
            }
            self.take(size, into).await.map_err(BodyEnd::Early)?;
            let end = self.line().await?;
            if !end.is_empty() {
                return Err(BodyEnd::Malformed(format!("{end:?} after a chunk")));
            }
        }
        for _ in 0..MOST_FIELDS {
            let line = self.line().await?;
            if line.is_empty() {
                return Ok(());
            }
            if field_of(&line).is_none() {
                return Err(BodyEnd::Malformed(format!("trailer {line:?}")));
            }
        }
        Err(BodyEnd::Malformed("too many trailers".into()))
    }

    async fn until_close(&mut self, into: &mut BytesMut) -> Result<(), BodyEnd> {
        loop {
            into.extend_from_slice(&self.buffer.split());
            if into.len() as u64 > LONGEST_BODY {
                return Err(BodyEnd::Malformed("a body of more than 128 MiB".into()));
            }
            match self.more().await {
                Ok(()) => {}
                Err(CLOSED) => return Ok(()),
                Err(how) => return Err(BodyEnd::Early(how)),
            }
        }
    }

    async fn more(&mut self) -> Result<(), Ended> {
        if !self.buffer.is_empty() {
            self.begun = true;
        }
        self.buffer.reserve(16 * 1024);
        match self.reader.read_buf(self.buffer).await {
            Ok(0) => Err(CLOSED),
            Ok(_) => {
                self.begun = true;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Err("reset"),
            Err(_) => Err("connection broken"),
        }
    }
}

const CLOSED: Ended = "closed";

enum BodyEnd {
    Early(Ended),
    Malformed(String),
}

fn malformed(what: impl Into<String>) -> WireFault {
    WireFault::Malformed(what.into())
}

fn status_of(line: &str) -> Option<u16> {
    let rest = line.strip_prefix("HTTP/1.1 ")?;
    let (digits, _reason) = rest.split_once(' ')?;
    let digits = digits.as_bytes();
    if digits.len() != 3 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let status = digits
        .iter()
        .fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'));
    (100..600).contains(&status).then_some(status)
}

fn field_of(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once(':')?;
    let token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    if name.is_empty() || !name.as_bytes().iter().all(token) {
        return None;
    }
    let value = value.trim_matches([' ', '\t']);
    Some((name.to_ascii_lowercase(), value.to_owned()))
}

fn framing_of(status: u16, fields: &[(String, String)]) -> Result<Head, String> {
    let all = |name: &'static str| {
        let named = fields.iter().filter(move |field| field.0 == name);
        named.map(|field| field.1.as_str())
    };
    let closes = all("connection")
        .flat_map(|value| value.split(','))
        .any(|option| option.trim().eq_ignore_ascii_case("close"));
    let lengths: Vec<&str> = all("content-length").collect();
    let codings: Vec<&str> = all("transfer-encoding").collect();
    let bodiless = status < 200 || status == 204 || status == 304;
    let framing = match (lengths.as_slice(), codings.as_slice()) {
        ([], []) if bodiless => Framing::Length(0),
        (_, [_, ..]) if bodiless => return Err(format!("Transfer-Encoding with {status}")),
        ([_, ..], _) if status < 200 || status == 204 => {
            return Err(format!("Content-Length with {status}"));
        }
        (_, []) if bodiless => Framing::Length(0),
        ([], []) => Framing::UntilClose,
        ([length], []) => Framing::Length(length_of(length)?),
        ([], [coding]) if coding.eq_ignore_ascii_case("chunked") => Framing::Chunked,
        ([_, ..], [_, ..]) => return Err("Content-Length and Transfer-Encoding".into()),
        ([_, _, ..], _) => return Err("Content-Length twice".into()),
        (_, codings) => return Err(format!("Transfer-Encoding {codings:?}")),
    };
    Ok(Head {
        status,
        framing,
        closes,
    })
}

fn length_of(text: &str) -> Result<u64, String> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(length) if digits && length <= LONGEST_BODY => Ok(length),
        _ => Err(format!("Content-Length {text:?}")),
    }
}

fn chunk_size(line: &str) -> Option<u64> {
    let digits = line.split(';').next().unwrap_or_default();
    let hexadecimal = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !hexadecimal || digits.len() > 12 {
        return None;
    }
    u64::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests;
