//! What a client's message on the console is.
//!
//! Deliberately not here: the commands within a query (`command.rs`).

use std::borrow::Cow;

use crate::wire::frontend;

use super::ConsoleError;

/// A message of a client that has logged in to the console.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request<'b> {
    /// A simple query.
    Query(Cow<'b, str>),
    /// The client goes (`close req`).
    Terminate,
    /// A query without its end: the connection is closed (`incomplete query`).
    Broken,
    /// Something that only databases understand. The connection is closed after the error.
    Refused(ConsoleError),
}

impl<'b> Request<'b> {
    /// Reads the message of that tag.
    pub fn read(tag: u8, body: &'b [u8]) -> Self {
        match tag {
            frontend::QUERY => match body.iter().position(|byte| *byte == 0) {
                Some(end) => Self::Query(String::from_utf8_lossy(&body[..end])),
                None => Self::Broken,
            },
            frontend::TERMINATE => Self::Terminate,
            frontend::PARSE | frontend::BIND | frontend::EXECUTE => {
                Self::Refused(ConsoleError::ExtendedProtocol)
            }
            other => Self::Refused(ConsoleError::Packet(other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_simple_queries_are_understood() {
        let check = |tag: u8, body: &'static [u8], expected: Request<'_>| {
            assert_eq!(Request::read(tag, body), expected, "{tag}");
        };
        check(b'Q', b"show help\0", Request::Query("show help".into()));
        check(b'Q', b"a\xff\0", Request::Query("a\u{fffd}".into()));
        check(b'Q', b"a\0b\0", Request::Query("a".into()));
        check(b'Q', b"show help", Request::Broken);
        check(b'X', b"", Request::Terminate);
        let extended = || Request::Refused(ConsoleError::ExtendedProtocol);
        check(b'P', b"\0select 1\0\0\0", extended());
        check(b'B', b"", extended());
        check(b'E', b"", extended());
        check(b'S', b"", Request::Refused(ConsoleError::Packet(83)));
        check(b'd', b"", Request::Refused(ConsoleError::Packet(100)));
    }
}
