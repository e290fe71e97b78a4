//! The instance's output: cut into whole lines of bounded length, each with
//! the instance's name, and written line by line so that lines of several
//! instances never mix. Reading stops while the other end does not take what
//! is there: the instance then waits, as it would on a pipe of its own.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use serde::Serialize;

use crate::LogFormat;
use crate::log::timestamp;
use crate::standard::{ATOMIC_LIMIT, Standard};

/// The longest line in bytes; a longer one is written in pieces.
pub(super) const LINE_LIMIT: usize = 8 * 1024;
/// How many bytes may wait to be written before reading stops.
const QUEUE_LIMIT: usize = 64 * 1024;

/// Which of the two a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// Cuts bytes into lines.
#[derive(Debug, Default)]
pub(super) struct LineCutter {
    partial: Vec<u8>,
    /// The line before was cut at the limit: if its end comes next, it must
    /// not make an empty line.
    was_cut: bool,
}

impl LineCutter {
    /// Gives each line that is complete, without its end.
    pub(super) fn push(&mut self, mut bytes: &[u8], mut line: impl FnMut(&[u8])) {
        while !bytes.is_empty() {
            if std::mem::take(&mut self.was_cut)
                && let Some(rest) = bytes.strip_prefix(b"\n")
            {
                bytes = rest;
                continue;
            }
            let room = LINE_LIMIT - self.partial.len();
            let window = &bytes[..bytes.len().min(room)];
            match window.iter().position(|byte| *byte == b'\n') {
                Some(end) => {
                    self.partial.extend_from_slice(&bytes[..end]);
                    bytes = &bytes[end + 1..];
                    self.emit(&mut line);
                }
                None => {
                    self.partial.extend_from_slice(window);
                    bytes = &bytes[window.len()..];
                    if self.partial.len() == LINE_LIMIT {
                        self.emit(&mut line);
                        self.was_cut = true;
                    }
                }
            }
        }
    }

    /// Gives what is left without a line end.
    pub(super) fn finish(&mut self, mut line: impl FnMut(&[u8])) {
        if !self.partial.is_empty() {
            self.emit(&mut line);
        }
    }

    fn emit(&mut self, line: &mut impl FnMut(&[u8])) {
        let text = self.partial.strip_suffix(b"\r").unwrap_or(&self.partial);
        line(text);
        self.partial.clear();
    }
}

#[derive(Serialize)]
struct JsonLine<'a> {
    ts: String,
    instance: &'a str,
    stream: &'a str,
    line: &'a str,
}

/// Writes a line as the log format wants it.
pub(super) fn format_line(
    format: LogFormat,
    instance: &str,
    stream: Stream,
    line: &[u8],
) -> Vec<u8> {
    match format {
        LogFormat::Text => {
            let mut bytes = Vec::with_capacity(instance.len() + line.len() + 4);
            bytes.extend_from_slice(instance.as_bytes());
            bytes.extend_from_slice(b" | ");
            bytes.extend_from_slice(line);
            bytes.push(b'\n');
            bytes
        }
        LogFormat::Json => {
            let text = String::from_utf8_lossy(line);
            let record = JsonLine {
                ts: timestamp(),
                instance,
                stream: stream.name(),
                line: &text,
            };
            let mut bytes = serde_json::to_vec(&record).unwrap_or_default();
            bytes.push(b'\n');
            bytes
        }
    }
}

/// Lines on their way to the shim's own standard output or error.
#[derive(Debug)]
pub(super) struct Outlet {
    standard: Standard,
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    closed: bool,
}

impl Outlet {
    pub(super) fn new(stream: Stream) -> Self {
        Self {
            standard: match stream {
                Stream::Stdout => Standard::output(),
                Stream::Stderr => Standard::error(),
            },
            lines: VecDeque::new(),
            bytes: 0,
            closed: false,
        }
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.standard.as_fd()
    }

    pub(super) fn has_room(&self) -> bool {
        self.bytes < QUEUE_LIMIT
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// How many bytes wait to be written.
    pub(super) fn waiting(&self) -> u64 {
        self.bytes as u64
    }

    pub(super) fn push(&mut self, line: Vec<u8>) {
        if !self.closed {
            self.bytes += line.len();
            self.lines.push_back(line);
        }
    }

    /// Writes the next lines, as many as a pipe takes in one piece, or a part
    /// of a longer one; nothing while there is no room. When nobody can ever read it (EPIPE,
    /// EIO), output is dropped from then on: an instance must not die because a
    /// log reader did.
    pub(super) fn write(&mut self) {
        let Some(mut piece) = self.lines.pop_front() else {
            return;
        };
        while let Some(line) = self.lines.front()
            && piece.len() + line.len() <= ATOMIC_LIMIT
        {
            piece.extend_from_slice(line);
            self.lines.pop_front();
        }
        match self.standard.write(&piece) {
            Ok(written) => {
                self.bytes -= written;
                if written < piece.len() {
                    self.lines.push_front(piece.split_off(written));
                }
            }
            Err(Errno::AGAIN | Errno::INTR) => self.lines.push_front(piece),
            Err(_) => {
                self.closed = true;
                self.lines.clear();
                self.bytes = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut cutter = LineCutter::default();
        let mut lines = Vec::new();
        for piece in pieces {
            cutter.push(piece, |line| lines.push(line.to_vec()));
        }
        cutter.finish(|line| lines.push(line.to_vec()));
        lines
    }

    #[test]
    fn lines_are_whole_however_they_arrive() {
        let check = |pieces: &[&[u8]], expected: &[&[u8]]| assert_eq!(cut(pieces), expected);
        check(&[b"one\ntwo\n"], &[b"one", b"two"]);
        check(&[b"o", b"ne", b"\r\n\nla", b"st"], &[b"one", b"", b"last"]);
        check(&[], &[]);
        check(&[b"\n"], &[b""]);
    }

    #[test]
    fn long_lines_come_in_bounded_pieces_and_nothing_is_lost() {
        for length in [
            LINE_LIMIT - 1,
            LINE_LIMIT,
            LINE_LIMIT + 1,
            3 * LINE_LIMIT + 7,
        ] {
            let mut bytes = vec![b'x'; length];
            bytes.push(b'\n');
            bytes.extend_from_slice(b"next\n");
            for size in [1, 1000, bytes.len()] {
                let pieces: Vec<&[u8]> = bytes.chunks(size).collect();
                let lines = cut(&pieces);
                assert!(
                    lines
                        .iter()
                        .all(|line| (1..=LINE_LIMIT).contains(&line.len()))
                );
                let total: usize = lines.iter().map(Vec::len).sum();
                assert_eq!(total, length + 4, "length {length} in pieces of {size}");
                assert_eq!(lines.last().unwrap(), b"next");
            }
        }
    }

    #[test]
    fn lines_carry_the_name() {
        let text = format_line(LogFormat::Text, "web.1", Stream::Stdout, b"hello");
        assert_eq!(text, b"web.1 | hello\n");
        let json = format_line(LogFormat::Json, "web.1", Stream::Stderr, b"a \"b\" \xff");
        let value: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(value["instance"], "web.1");
        assert_eq!(value["stream"], "stderr");
        assert_eq!(value["line"], "a \"b\" \u{fffd}");
        assert!(value["ts"].as_str().unwrap().ends_with('Z'));
    }
}
