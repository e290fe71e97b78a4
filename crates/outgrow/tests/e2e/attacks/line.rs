//! A connection of an attacker's, who never waits: what is not taken stays with it, what has come is
//! counted.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use super::field::{Tally, Watch};

/// How long a connection may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// How it is known that outgrow has ended it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Open,
    Closed,
    Reset,
}

pub(super) struct Line {
    stream: TcpStream,
    unsent: Vec<u8>,
    /// What has come and was not looked at.
    pub(super) heard: Vec<u8>,
    pub(super) end: End,
    pub(super) bytes_out: u64,
    pub(super) bytes_in: u64,
}

impl Line {
    /// None when nobody takes it.
    pub(super) fn open(address: SocketAddr) -> Option<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
        stream.set_nonblocking(true).ok()?;
        stream.set_nodelay(true).ok()?;
        Some(Self {
            stream,
            unsent: Vec::new(),
            heard: Vec::new(),
            end: End::Open,
            bytes_out: 0,
            bytes_in: 0,
        })
    }

    pub(super) fn is_open(&self) -> bool {
        self.end == End::Open
    }

    /// Whether outgrow takes everything so far.
    pub(super) fn is_taken(&self) -> bool {
        self.unsent.is_empty()
    }

    /// Says it, behind what was not taken yet. Whether all of it was taken.
    pub(super) fn say(&mut self, bytes: &[u8]) -> bool {
        self.unsent.extend_from_slice(bytes);
        while !self.unsent.is_empty() && self.is_open() {
            match self.stream.write(&self.unsent) {
                Ok(count) => {
                    self.bytes_out += count as u64;
                    self.unsent.drain(..count);
                }
                Err(error) => return self.failed(error.kind()),
            }
        }
        self.is_open()
    }

    /// Takes what has come, up to this much.
    pub(super) fn hear(&mut self, most: usize) {
        let mut bytes = [0; 16 * 1024];
        let mut left = most;
        while left > 0 && self.is_open() {
            let length = left.min(bytes.len());
            match self.stream.read(&mut bytes[..length]) {
                Ok(0) => self.end = End::Closed,
                Ok(count) => {
                    self.bytes_in += count as u64;
                    left -= count;
                    self.heard.extend_from_slice(&bytes[..count]);
                }
                Err(error) => {
                    self.failed(error.kind());
                    return;
                }
            }
        }
    }

    /// Ends it with a reset.
    pub(super) fn leave(self) {
        // One that is gone already needs none.
        let _gone = rustix::net::sockopt::set_socket_linger(&self.stream, Some(Duration::ZERO));
    }

    fn failed(&mut self, kind: ErrorKind) -> bool {
        match kind {
            ErrorKind::WouldBlock | ErrorKind::Interrupted => {}
            ErrorKind::BrokenPipe => self.end = End::Closed,
            _ => self.end = End::Reset,
        }
        false
    }

    /// The first line of what has come, or how it ended.
    pub(super) fn first_words(&self) -> String {
        let line = self.heard.split(|byte| *byte == b'\r').next();
        let line = line.filter(|line| !line.is_empty() && line.is_ascii());
        match line {
            Some(line) => String::from_utf8_lossy(&line[..line.len().min(40)]).into_owned(),
            None => format!("{:?}", self.end).to_lowercase(),
        }
    }

    /// Adds what passed to what is told of all.
    pub(super) fn count(&self, tally: &mut Tally) {
        tally.bytes_out += self.bytes_out;
        tally.bytes_in += self.bytes_in;
    }
}

/// Many connections that are held, each of which was begun in the same way.
pub(super) struct Crowd {
    pub(super) lines: Vec<Line>,
}

impl Crowd {
    /// So many, so many of them a second, each of which says this first.
    pub(super) fn gather(
        address: SocketAddr,
        watch: &Watch<'_>,
        (count, per_second): (usize, f64),
        first: &[u8],
    ) -> Self {
        let mut lines = Vec::new();
        let mut made = 0;
        while lines.len() < count
            && let Some(due) = watch.due(per_second, made)
        {
            for _ in 0..due.min((count - lines.len()) as u64) {
                made += 1;
                if let Some(mut line) = Line::open(address) {
                    line.say(first);
                    lines.push(line);
                }
            }
        }
        Self { lines }
    }

    /// What became of them.
    pub(super) fn tally(mut self, sent: u64) -> Tally {
        let mut tally = Tally {
            sent,
            connections: self.lines.len() as u64,
            ..Tally::default()
        };
        for line in &mut self.lines {
            line.hear(4_096);
            line.count(&mut tally);
            tally.tell(line.first_words());
        }
        tally
    }
}
