//! Request heads: from pseudo-header fields and fields to the one head type (RFC 9113 sections
//! 8.2 and 8.3); of HTTP/3 as well, which has the same (RFC 9114 sections 4.2 and 4.3).
//!
//! The `h2` crate has refused already, by resetting the stream, and so has the adapter of HTTP/3, which answers: fields of the connection
//! (`Connection`, `Transfer-Encoding`, `Upgrade`, `Keep-Alive`, `Proxy-Connection`), `TE` with
//! anything but `trailers`, upper-case names, repeated or late pseudo-header fields, and lengths
//! that contradict each other.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use outgrow_core::Cause;
use outgrow_message::{BodyLength, Method, RequestHead, Version};

use crate::h1::fields::check_lookalike;
use crate::h1::token::is_authority;
use crate::h1::{Limits, Reject, framing, request};

/// The head of a request as it came, to be checked and filled in.
#[derive(Debug)]
pub struct RequestParts {
    parts: http::request::Parts,
    /// No body follows.
    ends: bool,
    limits: Limits,
    version: Version,
}

impl RequestParts {
    pub(crate) fn new(
        parts: http::request::Parts,
        ends: bool,
        limits: Limits,
        version: Version,
    ) -> Self {
        Self {
            parts,
            ends,
            limits,
            version,
        }
    }

    /// Says that no body follows, where that is known only now.
    #[cfg(feature = "http3")]
    pub(crate) fn ended(self) -> Self {
        Self { ends: true, ..self }
    }

    /// Whether a body is likely, by the method and the fields.
    #[cfg(feature = "http3")]
    pub(crate) fn may_have_body(&self) -> bool {
        use http::Method as M;
        let without = [M::GET, M::HEAD, M::DELETE, M::OPTIONS, M::TRACE];
        self.parts.headers.contains_key(header::CONTENT_LENGTH)
            || !without.contains(&self.parts.method)
    }

    /// Fills `head`, which is cleared. A request that is refused can still be answered on its
    /// stream.
    pub fn fill(self, head: &mut RequestHead) -> Result<(), Reject> {
        head.clear();
        head.version = self.version;
        head.keep_alive = true;
        let method = self.parts.method.as_str().as_bytes();
        request::check_method(method)?;
        head.method = Method::of(method);
        head.method_text = head.fields.push_bytes(method);
        if head.method == Method::Connect {
            self.websocket(head)?;
        }
        self.target(head)?;
        self.authority(head)?;
        put_fields(&self.parts.headers, head, &self.limits)?;
        head.length = match framing::declared(&head.fields, self.version)? {
            Some(_) if head.wants_upgrade => {
                return Err(Reject::bad("a WebSocket has a Content-Length"));
            }
            // What follows is the tunnel's.
            None if head.wants_upgrade => BodyLength::Empty,
            Some(length) => length,
            None if self.ends => BodyLength::Empty,
            None => BodyLength::Unknown,
        };
        head.expects_continue = request::expectation(head)? && !self.ends && !head.wants_upgrade;
        Ok(())
    }

    /// Whether what follows the head is a tunnel's and no body.
    pub(crate) fn is_tunnel(&self) -> bool {
        self.parts.method == http::Method::CONNECT
    }

    /// The fields.
    #[cfg(feature = "http3")]
    pub(crate) fn fields(&self) -> &HeaderMap {
        &self.parts.headers
    }

    /// An extended CONNECT is what GET with `Upgrade` is in HTTP/1.1 (RFC 8441 section 5).
    fn websocket(&self, head: &mut RequestHead) -> Result<(), Reject> {
        let not_here = |detail| Err(Reject::new(Cause::NotImplemented, detail));
        let Some(protocol) = self.parts.extensions.get::<::h2::ext::Protocol>() else {
            return not_here("CONNECT is not implemented");
        };
        if !protocol.as_str().eq_ignore_ascii_case("websocket") {
            return not_here("only websocket is known as :protocol of CONNECT");
        }
        if self.ends {
            return Err(Reject::bad("the stream of a WebSocket ends with its head"));
        }
        head.method = Method::Get;
        head.method_text = head.fields.push_bytes(b"GET");
        head.wants_upgrade = true;
        head.upgrade_to = head.fields.push_bytes(b"websocket");
        Ok(())
    }

    fn target(&self, head: &mut RequestHead) -> Result<(), Reject> {
        let bad = |detail| Err(Reject::new(Cause::BadTarget, detail));
        let scheme = self.parts.uri.scheme_str().unwrap_or("https");
        if !scheme.eq_ignore_ascii_case("https") && !scheme.eq_ignore_ascii_case("http") {
            return bad("the scheme is neither http nor https");
        }
        let Some(target) = self.parts.uri.path_and_query() else {
            return bad(":path is missing");
        };
        let target = target.as_str().as_bytes();
        request::check_target(target, &self.limits)?;
        if target[0] != b'/' && target != b"*" {
            return bad(":path is neither a path nor *");
        }
        head.target_text = head.fields.push_bytes(target);
        let start = head.target_text.start as usize;
        request::take_target(head, start, start + target.len())
    }

    fn authority(&self, head: &mut RequestHead) -> Result<(), Reject> {
        let bad = |detail| Err(Reject::new(Cause::BadHost, detail));
        let mut hosts = self.parts.headers.get_all(header::HOST).iter();
        let host = hosts.next().map(HeaderValue::as_bytes);
        if hosts.next().is_some() {
            return bad("Host is repeated");
        }
        let pseudo = self.parts.uri.authority();
        let authority = match (pseudo.map(|text| text.as_str().as_bytes()), host) {
            (Some(pseudo), Some(host)) if !pseudo.eq_ignore_ascii_case(host) => {
                return bad(":authority and Host differ");
            }
            (Some(authority), _) | (None, Some(authority)) => authority,
            (None, None) => return bad(":authority and Host are missing"),
        };
        if !is_authority(authority) {
            return bad("the authority is malformed");
        }
        head.authority = head.fields.push_bytes(authority);
        Ok(())
    }
}

/// Appends the fields in their order; crumbs of `Cookie` become one line (section 8.2.3).
fn put_fields(map: &HeaderMap, head: &mut RequestHead, limits: &Limits) -> Result<(), Reject> {
    /// What a field line has in HTTP/1.1 beside name and value.
    const LINE_BYTES: usize = 4;
    let too_large = |detail| Err(Reject::new(Cause::HeadTooLarge, detail));
    if map.len() > limits.fields {
        return too_large("there are too many field lines");
    }
    let fields: usize = map
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + LINE_BYTES)
        .sum();
    if head.fields.bytes().len() + fields > limits.head_bytes {
        return too_large("the head is too large");
    }
    let mut has_cookie = false;
    for (name, value) in map {
        check_field(name, value)?;
        if head.wants_upgrade && name == header::SEC_WEBSOCKET_KEY {
            // HTTP/2 has none; the endpoint gets one of ours.
            continue;
        }
        if name != header::COOKIE {
            head.fields.push(name.as_str().as_bytes(), value.as_bytes());
        } else if !has_cookie {
            has_cookie = true;
            put_cookies(map, head);
        }
    }
    Ok(())
}

fn put_cookies(map: &HeaderMap, head: &mut RequestHead) {
    let name = head.fields.push_bytes(b"cookie");
    let mut value = outgrow_message::Span::new(name.end(), name.end());
    for (at, crumb) in map.get_all(header::COOKIE).iter().enumerate() {
        if at > 0 {
            value.len += head.fields.push_bytes(b"; ").len;
        }
        value.len += head.fields.push_bytes(crumb.as_bytes()).len;
    }
    head.fields.push_spans(name, value);
}

/// What the crate lets pass although it is malformed, or would mean something else further on.
pub(crate) fn check_field(name: &HeaderName, value: &HeaderValue) -> Result<(), Reject> {
    let value = value.as_bytes();
    if value.trim_ascii().len() != value.len() {
        return Err(Reject::bad("a field value has whitespace around it"));
    }
    check_lookalike(name.as_str().as_bytes())
}
