//! A client's unnamed statement, which it may prepare in one series of messages and use in a later one:
//! it is prepared again where that lands on another connection, and is never another client's.
//!
//! Most drivers bind it right behind its Parse; of those no text is kept.

use super::Client;
use crate::answers::Due;
use crate::server::Server;
use crate::wire::frontend;
use crate::wire::read::Parse;
use crate::wire::write;

/// Whose statement a connection has without a name: the client's number, and which of its.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    client: u64,
    number: u64,
}

/// What is kept of it to be prepared again.
#[derive(Debug)]
struct Text {
    query: Box<[u8]>,
    types: Box<[u8]>,
}

/// A client's unnamed statement.
#[derive(Debug, Default)]
pub(super) struct Unnamed {
    number: u64,
    text: Option<Box<Text>>,
}

impl Unnamed {
    /// Its text and the types of its parameters, as far as that is kept.
    pub(super) fn text(&self) -> Option<(&[u8], &[u8])> {
        let text = self.text.as_ref()?;
        Some((&text.query, &text.types))
    }

    /// It was prepared elsewhere.
    pub(super) fn restore(&mut self, query: &[u8], types: &[u8]) {
        self.renew();
        self.text = Some(Box::new(Text {
            query: query.into(),
            types: types.into(),
        }));
    }

    /// Another one, or none any more.
    fn renew(&mut self) {
        self.number += 1;
        self.text = None;
    }

    /// Takes note of a Parse without a name, followed by `next`. Without `is_followed` no text is kept:
    /// the client has one connection for its whole session.
    #[inline]
    pub(super) fn note(&mut self, parse: Option<Parse<'_>>, next: Option<&u8>, is_followed: bool) {
        self.renew();
        if let Some(parse) = parse
            && is_followed
            && next != Some(&frontend::BIND)
        {
            self.text = Some(Box::new(Text {
                query: parse.query.into(),
                types: parse.types.into(),
            }));
        }
    }
}

impl Client {
    fn mark(&self) -> Mark {
        Mark {
            client: self.identity.entry.seen.number,
            number: self.unnamed_statement.number,
        }
    }

    /// The server has the client's unnamed statement from now on.
    #[inline]
    pub(super) fn mark_unnamed(&self, server: &mut Server) {
        server.unnamed = self.mark();
    }

    /// A simple query ends the unnamed statement, and closing it does.
    #[inline]
    pub(super) fn end_unnamed(&mut self, server: &mut Server) {
        self.unnamed_statement.renew();
        server.unnamed = Mark::default();
    }

    /// Sees to it that what the unnamed statement is on the server is the client's, or none.
    #[inline]
    pub(super) fn bring_unnamed(&mut self, server: &mut Server) {
        if server.unnamed != self.mark() {
            self.prepare_unnamed(server);
        }
    }

    #[cold]
    fn prepare_unnamed(&mut self, server: &mut Server) {
        server.unnamed = self.mark();
        match &self.unnamed_statement.text {
            Some(text) => {
                self.up
                    .put(|out| write::parse(out, b"", &text.query, &text.types));
                server.answers.push(Due::Parse {
                    ours: true,
                    statement: None,
                    name: None,
                });
            }
            None => {
                self.up.put(|out| write::close(out, b'S', b""));
                server.answers.push(Due::Close { ours: true });
            }
        }
    }
}
