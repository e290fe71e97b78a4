//! Request and response heads: the one type that all protocols fill and serialise.

use crate::body::BodyLength;
use crate::fields::{Fields, Span};
use crate::names::Known;
use crate::path::{self, PathProblem};

/// The request method. Case matters (RFC 9110 section 9.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each variant is the method of that name")]
pub enum Method {
    #[default]
    Get,
    Head,
    Post,
    Put,
    Delete,
    Options,
    Trace,
    Patch,
    Connect,
    /// Any other token; its text is in the head.
    Other,
}

impl Method {
    /// The method of a token.
    #[inline]
    pub fn of(token: &[u8]) -> Self {
        match token {
            b"GET" => Self::Get,
            b"HEAD" => Self::Head,
            b"POST" => Self::Post,
            b"PUT" => Self::Put,
            b"DELETE" => Self::Delete,
            b"OPTIONS" => Self::Options,
            b"TRACE" => Self::Trace,
            b"PATCH" => Self::Patch,
            b"CONNECT" => Self::Connect,
            _ => Self::Other,
        }
    }

    /// Whether it asks for nothing to be changed (RFC 9110 section 9.2.1).
    pub fn is_safe(self) -> bool {
        matches!(self, Self::Get | Self::Head | Self::Options | Self::Trace)
    }

    /// Whether sending it twice means the same as once (RFC 9110 section 9.2.2).
    pub fn is_idempotent(self) -> bool {
        matches!(
            self,
            Self::Get | Self::Head | Self::Put | Self::Delete | Self::Options | Self::Trace
        )
    }
}

/// The protocol version of a head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    #[default]
    Http11,
    /// HTTP/2.
    Http2,
    /// HTTP/3.
    Http3,
}

/// The form of a request target (RFC 9112 section 3.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// `/path?query`.
    #[default]
    Origin,
    /// `http://host/path?query`.
    Absolute,
    /// `host:port`, for CONNECT.
    Authority,
    /// `*`, for OPTIONS.
    Asterisk,
}

/// The head of a request. Reused from request to request through [`RequestHead::clear`].
#[derive(Clone, Debug, Default)]
pub struct RequestHead {
    /// Field lines; their buffer holds the method and the target too.
    pub fields: Fields,
    /// The method.
    pub method: Method,
    /// The method's text.
    pub method_text: Span,
    /// The form of the target.
    pub target: Target,
    /// The target as it came.
    pub target_text: Span,
    /// The authority that the request is for: of an absolute target, else of Host; may be empty.
    pub authority: Span,
    /// The path as it came, without the query; empty for CONNECT.
    pub raw_path: Span,
    /// The query, without the question mark.
    pub query: Option<Span>,
    /// The version spoken.
    pub version: Version,
    /// What follows the head.
    pub length: BodyLength,
    /// Whether the client may send another request on the connection afterwards.
    pub keep_alive: bool,
    /// Whether the client waits for `100 Continue`.
    pub expects_continue: bool,
    /// Whether the request asks to change the protocol (`Connection: upgrade` with `Upgrade`).
    pub wants_upgrade: bool,
    /// The protocols that an upgrade asks for, kept aside when hop-by-hop fields are removed.
    pub upgrade_to: Span,
    /// Whether who asks takes a trailer section (`TE: trailers`), kept aside when hop-by-hop fields are
    /// removed.
    pub takes_trailers: bool,
    /// The path to send on instead of the request's own.
    pub rewritten_path: Option<Span>,
    normal_path: Vec<u8>,
    raw_is_normal: bool,
}

impl RequestHead {
    /// Forgets everything and keeps the memory.
    pub fn clear(&mut self) {
        self.fields.clear();
        self.method = Method::Get;
        self.method_text = Span::default();
        self.target = Target::Origin;
        self.target_text = Span::default();
        self.authority = Span::default();
        self.raw_path = Span::default();
        self.query = None;
        self.version = Version::Http11;
        self.length = BodyLength::Empty;
        self.keep_alive = false;
        self.expects_continue = false;
        self.wants_upgrade = false;
        self.upgrade_to = Span::default();
        self.takes_trailers = false;
        self.rewritten_path = None;
        self.normal_path.clear();
        self.raw_is_normal = true;
    }

    /// Forgets all but the method's text, the path as it came and the query: what is recorded of a head
    /// that was refused, of which nothing else is to be believed. It is a GET's then.
    pub fn keep_line(&mut self) {
        let [method, path] = [self.method_text, self.raw_path].map(|span| self.text(span).to_vec());
        let query = self.query.map(|query| self.text(query).to_vec());
        self.clear();
        self.method_text = self.fields.push_bytes(&method);
        self.raw_path = self.fields.push_bytes(&path);
        self.query = query.map(|query| self.fields.push_bytes(&query));
    }

    /// The bytes of a span of this head.
    #[inline]
    pub fn text(&self, span: Span) -> &[u8] {
        span.of(self.fields.bytes())
    }

    /// Normalises the path; must be called once after [`RequestHead::raw_path`] is set.
    pub fn normalise_path(&mut self) -> Result<(), PathProblem> {
        let raw = self.raw_path.of(self.fields.bytes());
        self.raw_is_normal = path::is_normal(raw);
        if self.raw_is_normal {
            return Ok(());
        }
        path::normalise(raw, &mut self.normal_path)
    }

    /// The normalised path: what routing, guards and caches read.
    #[inline]
    pub fn path(&self) -> &[u8] {
        if self.raw_is_normal {
            self.text(self.raw_path)
        } else {
            &self.normal_path
        }
    }

    /// The path to send on: the rewritten one, or else as it came, but normalised when it has dot segments, so that the
    /// endpoint resolves to what was routed.
    #[inline]
    pub fn forward_path(&self) -> &[u8] {
        if let Some(path) = self.rewritten_path {
            return self.text(path);
        }
        let raw = self.text(self.raw_path);
        if self.raw_is_normal || !has_dots(raw) {
            raw
        } else {
            &self.normal_path
        }
    }

    /// The host of the authority, without the port; lower case is not ensured.
    pub fn host(&self) -> &[u8] {
        host_of(self.text(self.authority))
    }

    /// Whether it may be sent a second time: an idempotent method, or, where the route says so,
    /// any with an Idempotency-Key.
    pub fn may_repeat(&self, honour_idempotency_key: bool) -> bool {
        self.method.is_idempotent()
            || (honour_idempotency_key && self.fields.get(Known::IdempotencyKey).is_some())
    }

    /// Memory held, in bytes.
    pub fn memory(&self) -> usize {
        self.fields.memory() + self.normal_path.capacity()
    }
}

/// Whether a path may contain dot segments, plain or escaped.
fn has_dots(path: &[u8]) -> bool {
    path.windows(2).any(|pair| pair == b"/.")
        || path
            .windows(3)
            .any(|three| three.eq_ignore_ascii_case(b"%2e"))
}

/// The host of `host`, `host:port`, `[v6]` or `[v6]:port`.
pub fn host_of(authority: &[u8]) -> &[u8] {
    if authority.first() == Some(&b'[') {
        let end = authority.iter().position(|&byte| byte == b']');
        return end.map_or(authority, |end| &authority[..=end]);
    }
    let end = authority.iter().rposition(|&byte| byte == b':');
    end.map_or(authority, |end| &authority[..end])
}

/// The head of a response. Reused through [`ResponseHead::clear`].
#[derive(Clone, Debug, Default)]
pub struct ResponseHead {
    /// Field lines; their buffer holds the reason phrase too.
    pub fields: Fields,
    /// The status code, 100 to 999.
    pub status: u16,
    /// The reason phrase; often empty.
    pub reason: Span,
    /// The version spoken.
    pub version: Version,
    /// What follows the head.
    pub length: BodyLength,
    /// Whether the connection can carry another exchange afterwards.
    pub keep_alive: bool,
    /// Whether the body ends where the connection does.
    pub until_close: bool,
}

impl ResponseHead {
    /// Forgets everything and keeps the memory.
    pub fn clear(&mut self) {
        self.fields.clear();
        self.status = 0;
        self.reason = Span::default();
        self.version = Version::Http11;
        self.length = BodyLength::Empty;
        self.keep_alive = false;
        self.until_close = false;
    }

    /// The bytes of a span of this head.
    #[inline]
    pub fn text(&self, span: Span) -> &[u8] {
        span.of(self.fields.bytes())
    }

    /// Whether a response of that status to that method can have no body
    /// (RFC 9110 section 6.4.1).
    #[inline]
    pub fn never_has_body(status: u16, method: Method) -> bool {
        method == Method::Head || status < 200 || status == 204 || status == 304
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_authorities() {
        for (authority, host) in [
            ("a.b", "a.b"),
            ("a.b:80", "a.b"),
            ("[::1]", "[::1]"),
            ("[::1]:80", "[::1]"),
            ("", ""),
        ] {
            assert_eq!(host_of(authority.as_bytes()), host.as_bytes());
        }
    }

    #[test]
    fn what_is_routed_is_what_is_sent() {
        let check = |raw: &str, path: &str, forward: &str| {
            let mut head = RequestHead::default();
            head.clear();
            head.raw_path = head.fields.push_bytes(raw.as_bytes());
            head.normalise_path().expect("well formed");
            assert_eq!(head.path(), path.as_bytes());
            assert_eq!(head.forward_path(), forward.as_bytes());
        };
        check("/a/b", "/a/b", "/a/b");
        check("/a//b", "/a/b", "/a//b");
        check("/a%20b%41", "/a%20bA", "/a%20b%41");
        check("/a/../b", "/b", "/b");
        check("/a/%2E%2e/b", "/b", "/b");
    }
}
