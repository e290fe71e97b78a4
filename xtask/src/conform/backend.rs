//! The application behind outgrow that the suites expect: echoes each request's body, and answers a
//! GET without one with some text, because h2spec wants a body to see.
//!
//! It reads only what outgrow writes and refuses everything else. Deliberately not here: the
//! recording backend of the tests (testkit), which would make xtask slow to build.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;

use anyhow::Context;

/// More than any suite sends.
const MOST_BODY: u64 = 16 * 1024 * 1024;
/// Lines of a head; more are refused.
const MOST_LINES: usize = 200;
/// Bytes of a line; more are refused.
const MOST_LINE: u64 = 64 * 1024;

/// The backend; it runs as long as xtask.
pub(super) struct Backend {
    address: SocketAddr,
}

impl Backend {
    /// Listens on a free port.
    pub(super) fn start() -> anyhow::Result<Self> {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port for the backend")?;
        let address = listener.local_addr()?;
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || {
                    // Outgrow may go at any time, and answers for it to the suite.
                    let _gone = serve(&stream);
                });
            }
        });
        Ok(Self { address })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

fn serve(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    let mut writer = stream;
    while let Some(answer) = exchange(&mut reader)? {
        writer.write_all(&answer)?;
    }
    Ok(())
}

/// Reads one request and makes its answer; `None` when the connection has ended.
fn exchange(reader: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let first = line(reader)?;
    if first.is_empty() {
        return Ok(None);
    }
    let (mut length, mut is_chunked) = (0, false);
    for _ in 0..MOST_LINES {
        let line = line(reader)?;
        let Some((name, value)) = line.split_once(':') else {
            let body = if is_chunked {
                chunks(reader)?
            } else {
                exactly(reader, length)?
            };
            return Ok(Some(answer(&first, body)));
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().map_err(io::Error::other)?,
            "transfer-encoding" => is_chunked = true,
            _ => {}
        }
    }
    Err(io::Error::other("too many fields"))
}

fn answer(first: &str, mut body: Vec<u8>) -> Vec<u8> {
    if body.is_empty() && first.starts_with("GET ") {
        body = b"outgrow ".repeat(32);
    }
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    if first.starts_with("HEAD ") {
        body.clear();
    }
    [head.as_bytes(), &body].concat()
}

fn chunks(reader: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let size = u64::from_str_radix(&line(reader)?, 16).map_err(io::Error::other)?;
        body.extend(exactly(reader, size)?);
        if body.len() as u64 > MOST_BODY {
            return Err(io::Error::other("too large a body"));
        }
        if size > 0 {
            line(reader)?;
            continue;
        }
        // Trailers, to the empty line.
        for _ in 0..MOST_LINES {
            if line(reader)?.is_empty() {
                return Ok(body);
            }
        }
        return Err(io::Error::other("too many trailers"));
    }
}

fn exactly(reader: &mut impl BufRead, length: u64) -> io::Result<Vec<u8>> {
    if length > MOST_BODY {
        return Err(io::Error::other("too large a body"));
    }
    let mut body = Vec::new();
    reader.by_ref().take(length).read_to_end(&mut body)?;
    if body.len() as u64 != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(body)
}

/// A line without its end; empty at the end of the connection as well.
fn line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    reader.by_ref().take(MOST_LINE).read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer_to(request: &str) -> String {
        let answer = exchange(&mut request.as_bytes()).unwrap().unwrap();
        String::from_utf8(answer).unwrap()
    }

    #[test]
    fn bodies_come_back_however_they_are_framed() {
        let known = answer_to("POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello");
        assert_eq!(known, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
        let chunked = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\
                       2\r\nhe\r\n3\r\nllo\r\n0\r\nX: 1\r\n\r\n";
        assert_eq!(answer_to(chunked), known);
        assert!(answer_to("PUT / HTTP/1.1\r\n\r\n").ends_with("Content-Length: 0\r\n\r\n"));
        assert!(answer_to("GET / HTTP/1.1\r\n\r\n").contains("outgrow outgrow"));
    }

    #[test]
    fn half_a_body_is_no_request() {
        let half = "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhel";
        assert!(exchange(&mut half.as_bytes()).is_err());
        assert!(exchange(&mut io::empty()).unwrap().is_none());
    }
}
