//! The smallest HTTP client: one question, of whose answer the status line is read, strictly and up
//! to a limit, and of the body as much as is looked at. Not for anything but checks.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::failure::Failure;
use crate::settings::{CheckMethod, CheckSettings, StatusSet};

/// Longest status line.
const LINE_LIMIT: usize = 1024;

/// Longest head when the body is looked at.
const HEAD_LIMIT: usize = 16 * 1024;

/// How much of a body is looked at, with what frames its chunks.
pub(super) const BODY_LIMIT: usize = 64 * 1024;

const NOT_HTTP: Failure = Failure::Not("HTTP/1");

/// What is asked, and what is a healthy answer. Its fields may be secret: it is never printed.
pub(super) struct Question<'a> {
    pub(super) method: CheckMethod,
    pub(super) path: &'a str,
    pub(super) host: &'a str,
    /// Further fields.
    pub(super) headers: Vec<(&'a str, &'a str)>,
    pub(super) status: &'a StatusSet,
    /// What the body must hold.
    pub(super) body: &'a str,
}

impl<'a> Question<'a> {
    /// GET for the path, for any answer of these statuses.
    pub(super) fn get(path: &'a str, host: &'a str, status: &'a StatusSet) -> Self {
        Self {
            method: CheckMethod::Get,
            path,
            host,
            headers: Vec::new(),
            status,
            body: "",
        }
    }

    /// As the settings say.
    pub(super) fn new(check: &'a CheckSettings, host: &'a str) -> Self {
        let headers = check.headers.iter();
        Self {
            method: check.method,
            path: check.path(),
            host,
            headers: headers
                .map(|(name, value)| (name.as_str(), value.expose()))
                .collect(),
            status: &check.status,
            body: &check.body,
        }
    }

    /// The whole request.
    fn request(&self) -> String {
        let field = |(name, value): &(&str, &str)| format!("{name}: {value}\r\n");
        let fields: String = self.headers.iter().map(field).collect();
        let (method, path, host) = (self.method, self.path, self.host);
        format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: outgrow-check\r\nAccept: \
             */*\r\n{fields}Connection: close\r\n\r\n"
        )
    }
}

/// What is wrong when the text that was looked for is not there.
pub(super) fn missing(status: u16, text: &str) -> Failure {
    Failure::Answer(format!("status {status}, but {text:?} is not in the body"))
}

/// Asks, and says what is wrong with the answer.
pub(super) async fn ask(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    question: &Question<'_>,
) -> Result<(), Failure> {
    stream.write_all(question.request().as_bytes()).await?;
    let mut answer = Vec::with_capacity(LINE_LIMIT);
    let end = read_until(stream, &mut answer, 0, b"\n", LINE_LIMIT).await?;
    let status = status_of(&answer[..end]).ok_or(NOT_HTTP)?;
    if !question.status.contains(status) {
        return Err(Failure::Answer(format!("status {status}")));
    }
    if question.body.is_empty() {
        return Ok(());
    }
    let end = read_until(stream, &mut answer, end - 2, b"\r\n\r\n", HEAD_LIMIT).await?;
    let chunked = is_chunked(&answer[..end]);
    let mut body = answer.split_off(end);
    loop {
        let seen = if chunked { join(&body) } else { body.clone() };
        if contains(&seen, question.body.as_bytes()) {
            return Ok(());
        }
        if body.len() >= BODY_LIMIT || !read_more(stream, &mut body, BODY_LIMIT).await? {
            return Err(missing(status, question.body));
        }
    }
}

/// Reads until `mark` is there, from `start` on; returns where it ends.
async fn read_until(
    stream: &mut (impl AsyncRead + Unpin),
    answer: &mut Vec<u8>,
    start: usize,
    mark: &[u8],
    limit: usize,
) -> Result<usize, Failure> {
    loop {
        let place = answer[start..]
            .windows(mark.len())
            .position(|bytes| bytes == mark);
        if let Some(place) = place {
            return Ok(start + place + mark.len());
        }
        if answer.len() >= limit {
            return Err(NOT_HTTP);
        }
        if !read_more(stream, answer, limit).await? {
            return Err(Failure::Closed);
        }
    }
}

/// Reads a piece, up to the limit; false at the end.
async fn read_more(
    stream: &mut (impl AsyncRead + Unpin),
    bytes: &mut Vec<u8>,
    limit: usize,
) -> Result<bool, Failure> {
    let length = bytes.len();
    // Doubles, so that looking at everything again costs no more than twice the whole.
    bytes.resize(limit.min(length.max(512) * 2), 0);
    let read = stream.read(&mut bytes[length..]).await;
    bytes.truncate(length + read.as_ref().copied().unwrap_or(0));
    Ok(read? > 0)
}

/// Whether the body comes in chunks (RFC 9112 section 7.1).
fn is_chunked(head: &[u8]) -> bool {
    head.split(|&byte| byte == b'\n').any(|line| {
        let line = line.trim_ascii().to_ascii_lowercase();
        line.strip_prefix(b"transfer-encoding:")
            .is_some_and(|value| value.ends_with(b"chunked"))
    })
}

/// What is in the chunks that came so far.
fn join(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::with_capacity(rest.len());
    while let Some(end) = rest.windows(2).position(|bytes| bytes == b"\r\n") {
        let digits = rest[..end].split(|&byte| byte == b';').next();
        let size = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| usize::from_str_radix(digits.trim(), 16).ok());
        let Some(size @ 1..) = size else { break };
        rest = &rest[end + 2..];
        body.extend_from_slice(&rest[..size.min(rest.len())]);
        rest = rest.get(size.saturating_add(2)..).unwrap_or(&[]);
    }
    body
}

pub(super) fn contains(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}

/// The status in a status line with its CR and LF.
fn status_of(line: &[u8]) -> Option<u16> {
    let rest = line.strip_prefix(b"HTTP/1.")?.strip_suffix(b"\r\n")?;
    let (minor, rest) = rest.split_first()?;
    let rest = rest.strip_prefix(b" ")?;
    let (digits, reason) = rest.split_at_checked(3)?;
    // A server may leave out the space with an empty reason; many do.
    let reason = if reason.is_empty() {
        reason
    } else {
        reason.strip_prefix(b" ")?
    };
    let is_reason = |&byte: &u8| byte == b'\t' || (byte >= b' ' && byte != 0x7f);
    if !matches!(minor, b'0' | b'1') || !reason.iter().all(is_reason) {
        return None;
    }
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let status = digits
        .iter()
        .fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'));
    (100..600).contains(&status).then_some(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_status_line_has_a_status() {
        let check = |line: &[u8], expected| {
            assert_eq!(status_of(line), expected, "{}", line.escape_ascii());
        };
        check(b"HTTP/1.1 200 OK\r\n", Some(200));
        check(b"HTTP/1.0 503 \r\n", Some(503));
        check(b"HTTP/1.1 204\r\n", Some(204));
        check(b"HTTP/1.1 200 d\xc3\xa9j\xc3\xa0\tvu\r\n", Some(200));
        check(b"HTTP/1.1 200 OK\n", None);
        check(b"HTTP/1.2 200 OK\r\n", None);
        check(b"HTTP/2 200\r\n", None);
        check(b"HTTP/1.1  200 OK\r\n", None);
        check(b"HTTP/1.1 20 OK\r\n", None);
        check(b"HTTP/1.1 2000\r\n", None);
        check(b"HTTP/1.1 200OK\r\n", None);
        check(b"HTTP/1.1 099 x\r\n", None);
        check(b"HTTP/1.1 999 x\r\n", None);
        check(b"HTTP/1.1 200 a\0b\r\n", None);
        check(b"SSH-2.0-OpenSSH_9.2\r\n", None);
        check(b"\r\n", None);
    }

    /// What the check says of an answer that comes in these pieces.
    async fn answer(check: &CheckSettings, pieces: &[&[u8]]) -> String {
        let (mut ours, mut theirs) = tokio::io::duplex(4096);
        let serve = async {
            let mut request = [0; 512];
            let length = theirs.read(&mut request).await.unwrap();
            for piece in pieces {
                // The other side may have had enough.
                if theirs.write_all(piece).await.is_err() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            drop(theirs);
            String::from_utf8_lossy(&request[..length]).into_owned()
        };
        let question = Question::new(check, "a");
        let ask = async {
            let result = ask(&mut ours, &question).await;
            drop(ours);
            result
        };
        let (result, request) = tokio::join!(ask, serve);
        assert_eq!(request, question.request());
        result.map_or_else(|failure| failure.to_string(), |()| "healthy".to_owned())
    }

    #[tokio::test]
    async fn the_line_may_come_in_pieces_but_not_without_end() {
        let check = CheckSettings::default();
        let pieces: [&[u8]; 4] = [b"HTTP/1.", b"1 2", b"00 OK\r", b"\n"];
        assert_eq!(answer(&check, &pieces).await, "healthy");
        let closed = "closed the connection without an answer";
        assert_eq!(answer(&check, &[b"HTTP/1.1 200"]).await, closed);
        assert_eq!(answer(&check, &[]).await, closed);
        let endless = [b"HTTP/1.1 200 ".as_slice(), &[b'a'; 2_000]];
        assert_eq!(answer(&check, &endless).await, "the answer is not HTTP/1");
        assert_eq!(answer(&check, &[b"HTTP/1.1 500 X\r\n"]).await, "status 500");
    }

    #[tokio::test]
    async fn a_text_in_the_body_is_found_whole_or_in_chunks() {
        let check = CheckSettings {
            body: "\"ok\": true".to_owned(),
            ..CheckSettings::default()
        };
        let missing = "status 200, but \"\\\"ok\\\": true\" is not in the body";
        let whole: [&[u8]; 3] = [b"HTTP/1.1 200 OK\r\n", b"A: b\r\n\r", b"\n{\"ok\": true}"];
        assert_eq!(answer(&check, &whole).await, "healthy");
        let chunks: [&[u8]; 3] = [
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4;x=y\r\n{\"ok\r\n",
            b"8\r\n\": tr",
            b"ue}\r\n0\r\n\r\n",
        ];
        assert_eq!(answer(&check, &chunks).await, "healthy");
        let other: [&[u8]; 2] = [b"HTTP/1.1 200 OK\r\n\r\n", b"{\"ok\": false}"];
        assert_eq!(answer(&check, &other).await, missing);
        let in_head: [&[u8]; 1] = [b"HTTP/1.1 200 OK\r\nA: \"ok\": true\r\n\r\n"];
        assert_eq!(answer(&check, &in_head).await, missing);
        let large = vec![b'x'; 2 * BODY_LIMIT];
        let late: [&[u8]; 3] = [b"HTTP/1.1 200 OK\r\n\r\n", &large, b"\"ok\": true"];
        assert_eq!(answer(&check, &late).await, missing);
        let odd: [&[u8]; 1] =
            [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n"];
        assert_eq!(answer(&check, &odd).await, missing);
    }

    #[tokio::test]
    async fn method_and_fields_are_those_of_the_settings() {
        let check = CheckSettings {
            method: CheckMethod::Head,
            path: "/ready".parse().ok(),
            headers: [(
                "X-Check".to_owned(),
                outgrow_core::settings::Secret::new("1"),
            )]
            .into(),
            ..CheckSettings::default()
        };
        assert!(
            Question::new(&check, "a")
                .request()
                .starts_with("HEAD /ready HTTP/1.1\r\nHost: a\r\n")
        );
        assert!(
            Question::new(&check, "a")
                .request()
                .contains("\r\nX-Check: 1\r\n")
        );
        assert_eq!(
            answer(&check, &[b"HTTP/1.1 204 X\r\n\r\n"]).await,
            "healthy"
        );
    }
}
