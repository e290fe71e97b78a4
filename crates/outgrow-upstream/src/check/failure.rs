//! Why a check failed, in words for people.

use std::fmt;
use std::io;

/// Longest text of a server that is told on.
const LONGEST: usize = 200;

/// Why a check failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The connection failed.
    Io(io::Error),
    /// It was closed before the answer was complete.
    Closed,
    /// What came is not of the protocol.
    Not(&'static str),
    /// Another answer than the one that is healthy: what is wrong with it.
    Answer(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            Self::Closed
        } else {
            Self::Io(error)
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => match error.kind() {
                io::ErrorKind::ConnectionRefused => formatter.write_str("connection refused"),
                io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                    formatter.write_str("connection reset")
                }
                io::ErrorKind::NotFound => formatter.write_str("nothing is at the address"),
                _ => error.fmt(formatter),
            },
            Self::Closed => formatter.write_str("closed the connection without an answer"),
            Self::Not(protocol) => write!(formatter, "the answer is not {protocol}"),
            Self::Answer(text) => formatter.write_str(text),
        }
    }
}

/// A server's text as it may stand in a log: one line, without control characters, not long.
pub(super) fn printable(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let is_shown = |character: &char| !character.is_control();
    text.chars().filter(is_shown).take(LONGEST).collect()
}
