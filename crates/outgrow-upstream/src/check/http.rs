//! The smallest HTTP client: one GET, of whose answer only the status line is read, strictly and
//! up to a limit. Not for anything but checks.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Longest status line.
const LIMIT: usize = 1024;

/// Why there is no status.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The connection failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It was closed before a status line was complete.
    #[error("closed the connection without an answer")]
    Closed,
    /// What came is not a status line (RFC 9112 section 4).
    #[error("the answer is not HTTP/1")]
    NotHttp,
}

/// Asks for `path` and returns the status.
pub(super) async fn get(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    path: &str,
    host: &str,
) -> Result<u16, Failure> {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: outgrow-check\r\nAccept: */*\r\n\
         Connection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = [0; LIMIT];
    let mut length = 0;
    loop {
        let read = stream.read(&mut answer[length..]).await?;
        if read == 0 {
            return Err(if length == LIMIT {
                Failure::NotHttp
            } else {
                Failure::Closed
            });
        }
        length += read;
        let answer = &answer[..length];
        if let Some(end) = answer.iter().position(|&byte| byte == b'\n') {
            return status_of(&answer[..=end]).ok_or(Failure::NotHttp);
        }
    }
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

    #[tokio::test]
    async fn the_line_may_come_in_pieces_but_not_without_end() {
        async fn answer(pieces: &[&[u8]]) -> Result<u16, Failure> {
            let (mut ours, mut theirs) = tokio::io::duplex(4096);
            let serve = async {
                let mut request = [0; 512];
                let length = theirs.read(&mut request).await.unwrap();
                assert!(request[..length].starts_with(b"GET /ready HTTP/1.1\r\nHost: a\r\n"));
                for piece in pieces {
                    // The other side may have had enough.
                    let _ = theirs.write_all(piece).await;
                    tokio::task::yield_now().await;
                }
                drop(theirs);
            };
            let (status, ()) = tokio::join!(get(&mut ours, "/ready", "a"), serve);
            status
        }
        assert_eq!(
            answer(&[b"HTTP/1.", b"1 2", b"00 OK\r", b"\n"])
                .await
                .unwrap(),
            200
        );
        assert!(matches!(
            answer(&[b"HTTP/1.1 200"]).await,
            Err(Failure::Closed)
        ));
        assert!(matches!(answer(&[]).await, Err(Failure::Closed)));
        let endless = [b"HTTP/1.1 200 ".as_slice(), &[b'a'; 2_000]];
        assert!(matches!(answer(&endless).await, Err(Failure::NotHttp)));
    }
}
