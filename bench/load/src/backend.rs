//! The backend behind every proxy: two ports, one thread, answers made beforehand.
//!
//! It reads no more of a request than the path, and the length where there is a body, so that it
//! costs little. It closes a connection only where the request says so. Deliberately not here: strictness; that is the proxies' work, and each of them sends well-formed requests.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use memchr::memmem;

use crate::exchange::{Exchange, asks_to_close};
use crate::poll::{Poller, Ready, listen};

/// The path that tells whether the proxy added X-Forwarded-For.
const PROBE_PATH: &[u8] = b"/probe";
const FORWARDED: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nforwarded";
const BARE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbare";
const MISSING: &[u8] = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";

/// One read takes this much at most.
const SCRATCH_BYTES: usize = 64 << 10;
/// A request, head and body, beyond this closes the connection.
const REQUEST_LIMIT: usize = 1 << 20;
const LISTENERS: usize = 2;

/// Two listeners and what connects to them.
pub(crate) struct Backend {
    listeners: [TcpListener; LISTENERS],
    replies: Vec<Vec<u8>>,
    poller: Poller,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
}

struct Connection {
    stream: TcpStream,
    /// Bytes of requests that are not answered yet.
    pending: Vec<u8>,
    /// The reply under way: its number and how much of it is sent.
    sending: Option<(usize, usize)>,
    /// The reply under way is the last one: where nobody between looks at HTTP, nobody else ends it.
    is_last: bool,
}

/// Whether a connection lives on.
#[derive(PartialEq, Eq)]
enum Fate {
    Open,
    Closed,
}

impl Backend {
    /// Binds two ports of loopback.
    pub(crate) fn bind() -> io::Result<Self> {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut replies: Vec<Vec<u8>> = Exchange::ALL.map(Exchange::response).to_vec();
        replies.extend([FORWARDED, BARE, MISSING].map(<[u8]>::to_vec));
        Ok(Self {
            listeners: [listen(any)?, listen(any)?],
            replies,
            poller: Poller::new()?,
            connections: Vec::new(),
            free: Vec::new(),
        })
    }

    /// The two ports.
    pub(crate) fn ports(&self) -> io::Result<[u16; LISTENERS]> {
        let [first, second] = &self.listeners;
        Ok([first.local_addr()?.port(), second.local_addr()?.port()])
    }

    /// Serves until the process is ended.
    pub(crate) fn run(mut self) -> anyhow::Result<()> {
        for (token, listener) in self.listeners.iter().enumerate() {
            self.poller.add_listener(listener, token)?;
        }
        let mut scratch = vec![0; SCRATCH_BYTES];
        let mut ready = Vec::new();
        loop {
            self.poller.wait(&mut ready, None)?;
            for event in &ready {
                if event.token < LISTENERS {
                    self.accept(event.token)?;
                } else {
                    self.drive(*event, &mut scratch);
                }
            }
        }
    }

    fn accept(&mut self, listener: usize) -> io::Result<()> {
        // The other side may have gone again; the listener itself is well.
        let Ok((stream, _)) = self.listeners[listener].accept() else {
            return Ok(());
        };
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() - 1
        });
        self.poller.add_connection(&stream, slot + LISTENERS)?;
        self.connections[slot] = Some(Connection {
            stream,
            pending: Vec::new(),
            sending: None,
            is_last: false,
        });
        Ok(())
    }

    fn drive(&mut self, event: Ready, scratch: &mut [u8]) {
        let slot = event.token - LISTENERS;
        let Some(connection) = &mut self.connections[slot] else {
            return;
        };
        let fate = connection
            .serve(&self.replies, scratch, event.hangup)
            .unwrap_or(Fate::Closed);
        if fate == Fate::Closed {
            self.connections[slot] = None;
            self.free.push(slot);
        }
    }
}

impl Connection {
    fn serve(&mut self, replies: &[Vec<u8>], scratch: &mut [u8], hangup: bool) -> io::Result<Fate> {
        let mut drained = false;
        loop {
            if let Some((reply, sent)) = self.sending {
                match self.stream.write(&replies[reply][sent..]) {
                    Ok(count) if sent + count < replies[reply].len() => {
                        self.sending = Some((reply, sent + count));
                        continue;
                    }
                    Ok(_) if self.is_last => return Ok(Fate::Closed),
                    Ok(_) => self.sending = None,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        return Ok(Fate::Open);
                    }
                    Err(error) => return Err(error),
                }
            }
            if let Some((reply, consumed)) = answer(&self.pending) {
                self.is_last = asks_to_close(&self.pending[..consumed]).is_some();
                self.pending.drain(..consumed);
                self.sending = Some((reply, 0));
                continue;
            }
            if drained && !hangup {
                return Ok(Fate::Open);
            }
            match self.stream.read(scratch) {
                Ok(0) => return Ok(Fate::Closed),
                Ok(count) => {
                    drained = count < scratch.len();
                    self.pending.extend_from_slice(&scratch[..count]);
                    if self.pending.len() > REQUEST_LIMIT {
                        return Ok(Fate::Closed);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Fate::Open),
                Err(error) => return Err(error),
            }
        }
    }
}

/// The reply to the first request in `bytes` and the request's length, once it is complete.
fn answer(bytes: &[u8]) -> Option<(usize, usize)> {
    let head_bytes = memmem::find(bytes, b"\r\n\r\n")? + 4;
    let head = &bytes[..head_bytes];
    let body_bytes = if head.starts_with(b"POST ") {
        body_length(head, &bytes[head_bytes..])?
    } else {
        0
    };
    let mut words = head.split(|&byte| byte == b' ');
    let path = words.nth(1).unwrap_or_default();
    let exchanges = Exchange::ALL.len();
    let reply = if path == PROBE_PATH {
        exchanges + usize::from(field(head, b"\r\nx-forwarded-for:").is_none())
    } else {
        Exchange::ALL
            .iter()
            .position(|exchange| exchange.path().as_bytes() == path)
            .unwrap_or(exchanges + 2)
    };
    Some((reply, head_bytes + body_bytes))
}

/// The body's length on the wire, once all of it is here.
fn body_length(head: &[u8], after: &[u8]) -> Option<usize> {
    if let Some(value) = field(head, b"\r\ncontent-length:") {
        let length: usize = std::str::from_utf8(value).ok()?.parse().ok()?;
        (after.len() >= length).then_some(length)
    } else {
        // Chunked. The generator's body is all one letter and nothing is pipelined, so the first
        // empty chunk is the end.
        memmem::find(after, b"\r\n0\r\n\r\n").map(|at| at + 7)
    }
}

/// The value of a field whose name is given with the line end before it and its colon, lower case.
fn field<'a>(head: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let at = head
        .windows(name.len())
        .position(|window| window.eq_ignore_ascii_case(name))?;
    let value = &head[at + name.len()..];
    let end = memchr::memchr(b'\r', value)?;
    Some(value[..end].trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_exchange_has_its_reply() {
        for (index, exchange) in Exchange::ALL.into_iter().enumerate() {
            let request = exchange.request(false);
            assert_eq!(answer(&request), Some((index, request.len())));
            assert_eq!(asks_to_close(&request), None);
            assert!(asks_to_close(&exchange.request(true)).is_some());
            assert_eq!(answer(&request[..request.len() - 1]), None, "not complete");
        }
    }

    #[test]
    fn a_chunked_request_is_read_to_its_end() {
        let request =
            b"POST /post-10k HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n2\r\nqq\r\n0\r\n\r\nGET";
        assert_eq!(answer(request), Some((3, request.len() - 3)));
    }

    #[test]
    fn the_probe_sees_the_forwarded_field() {
        let exchanges = Exchange::ALL.len();
        let with = b"GET /probe HTTP/1.1\r\nX-Forwarded-For: 127.0.0.1\r\n\r\n";
        let without = b"GET /probe HTTP/1.1\r\nHost: a\r\n\r\n";
        assert_eq!(answer(with).map(|(reply, _)| reply), Some(exchanges));
        assert_eq!(answer(without).map(|(reply, _)| reply), Some(exchanges + 1));
    }
}
