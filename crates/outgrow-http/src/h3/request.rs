//! Request heads: from a field section to what HTTP/2 has as well (RFC 9114 sections 4.2 and 4.3).
//! What makes a request malformed is told with an answer; only what cannot be read at all ends the
//! connection.

use ::h2::ext::Protocol;
use http::header::{self, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{HeaderMap, Method};
use outgrow_core::Cause;
use outgrow_message::Version;

use super::qpack::{self, Broken};
use crate::h1::{Limits, Reject};
use crate::h2::RequestParts;

/// The head of a request, to be checked further; `ends`: no body follows.
pub(super) fn parts(
    section: &[u8],
    ends: bool,
    limits: Limits,
) -> Result<RequestParts, Broken<Reject>> {
    let mut head = Head {
        limits,
        ..Head::default()
    };
    qpack::decode(section, |name, value| head.take(name, value))?;
    let parts = head.into_parts().map_err(Broken::Stopped)?;
    Ok(RequestParts::new(parts, ends, limits, Version::Http3))
}

/// The trailer section of a request.
pub(super) fn trailers(section: &[u8], limits: Limits) -> Result<HeaderMap, Broken<Reject>> {
    let mut head = Head {
        limits,
        is_trailer: true,
        ..Head::default()
    };
    qpack::decode(section, |name, value| head.take(name, value))?;
    Ok(head.fields)
}

#[derive(Default)]
struct Head {
    limits: Limits,
    is_trailer: bool,
    bytes: usize,
    method: Option<Method>,
    scheme: Option<Scheme>,
    authority: Option<Authority>,
    path: Option<PathAndQuery>,
    /// Of an extended CONNECT (RFC 9220).
    protocol: Option<Protocol>,
    fields: HeaderMap,
}

impl Head {
    fn take(&mut self, name: &[u8], value: &[u8]) -> Result<(), Reject> {
        /// What a field line has in HTTP/1.1 beside name and value.
        const LINE_BYTES: usize = 4;
        self.bytes += name.len() + value.len() + LINE_BYTES;
        if self.bytes > self.limits.head_bytes {
            return Err(Reject::new(Cause::HeadTooLarge, "the head is too large"));
        }
        match name.first() {
            None => Err(Reject::bad("a field has no name")),
            Some(b':') => self.take_pseudo(name, value),
            Some(_) => self.take_field(name, value),
        }
    }

    fn take_pseudo(&mut self, name: &[u8], value: &[u8]) -> Result<(), Reject> {
        if self.is_trailer {
            return Err(Reject::bad("a pseudo-header field is among the trailers"));
        }
        if !self.fields.is_empty() {
            return Err(Reject::bad("a pseudo-header field comes after a field"));
        }
        let target = |detail| Reject::new(Cause::BadTarget, detail);
        match name {
            b":method" => {
                let method = Method::from_bytes(value);
                once(
                    &mut self.method,
                    method.map_err(|_| Reject::bad("the method is no token"))?,
                )
            }
            b":scheme" => {
                let scheme = Scheme::try_from(value);
                once(
                    &mut self.scheme,
                    scheme.map_err(|_| target("the scheme is malformed"))?,
                )
            }
            b":authority" => {
                let malformed = Reject::new(Cause::BadHost, "the authority is malformed");
                once(
                    &mut self.authority,
                    Authority::try_from(value).map_err(|_| malformed)?,
                )
            }
            b":path" => {
                let path = PathAndQuery::try_from(value);
                let path =
                    path.map_err(|_| target("the target has a character that it must not have"))?;
                if path.as_str().len() != value.len() {
                    return Err(target("the target has a fragment"));
                }
                once(&mut self.path, path)
            }
            b":protocol" => {
                let protocol = std::str::from_utf8(value)
                    .ok()
                    .filter(|one| !one.is_empty());
                let protocol = protocol.ok_or(Reject::bad(":protocol is malformed"))?;
                once(&mut self.protocol, Protocol::from(protocol))
            }
            _ => Err(Reject::bad("a pseudo-header field is not known")),
        }
    }

    fn take_field(&mut self, name: &[u8], value: &[u8]) -> Result<(), Reject> {
        let not_a_token = Reject::bad("a field name is no token in lower case");
        let name = HeaderName::from_lowercase(name).map_err(|_| not_a_token)?;
        let control = Reject::bad("a field value has a control character");
        let bytes = value;
        let value = HeaderValue::from_bytes(value).map_err(|_| control)?;
        if is_of_connection(&name) {
            return Err(Reject::bad("a field is of the connection"));
        }
        if name == header::TE && !bytes.eq_ignore_ascii_case(b"trailers") {
            return Err(Reject::bad("TE says more than trailers"));
        }
        if self.fields.len() >= self.limits.fields {
            let many = "there are too many field lines";
            return Err(Reject::new(Cause::HeadTooLarge, many));
        }
        let full = Reject::new(Cause::HeadTooLarge, "there are too many field lines");
        self.fields.try_append(name, value).map_err(|_| full)?;
        Ok(())
    }

    fn into_parts(self) -> Result<http::request::Parts, Reject> {
        let Some(method) = self.method else {
            return Err(Reject::bad(":method is missing"));
        };
        let is_connect = method == Method::CONNECT;
        if !is_connect && self.protocol.is_some() {
            return Err(Reject::bad(":protocol is with CONNECT only"));
        }
        let is_plain_connect = is_connect && self.protocol.is_none();
        if !is_plain_connect && (self.scheme.is_none() || self.path.is_none()) {
            return Err(Reject::bad(":scheme or :path is missing"));
        }
        let mut uri = http::uri::Parts::default();
        // A scheme stands with an authority only; what it is has been seen.
        let (scheme, authority) = (self.scheme, self.authority);
        if let Some(scheme) = &scheme
            && *scheme != Scheme::HTTPS
            && *scheme != Scheme::HTTP
        {
            let detail = "the scheme is neither http nor https";
            return Err(Reject::new(Cause::BadTarget, detail));
        }
        if authority.is_some() && self.path.is_some() {
            uri.scheme = scheme;
        }
        uri.authority = authority;
        uri.path_and_query = self.path;
        let malformed = Reject::new(Cause::BadTarget, "the target is malformed");
        let (mut parts, ()) = http::Request::new(()).into_parts();
        parts.uri = Uri::from_parts(uri).map_err(|_| malformed)?;
        parts.method = method;
        parts.version = http::Version::HTTP_3;
        parts.headers = self.fields;
        if let Some(protocol) = self.protocol {
            parts.extensions.insert(protocol);
        }
        Ok(parts)
    }
}

fn once<T>(place: &mut Option<T>, value: T) -> Result<(), Reject> {
    if place.is_some() {
        return Err(Reject::bad("a pseudo-header field is repeated"));
    }
    *place = Some(value);
    Ok(())
}

/// Fields that HTTP/3 has no place for (section 4.2).
fn is_of_connection(name: &HeaderName) -> bool {
    const OTHERS: [&str; 2] = ["keep-alive", "proxy-connection"];
    [
        header::CONNECTION,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
    ]
    .contains(name)
        || OTHERS.contains(&name.as_str())
}

#[cfg(test)]
mod tests;
