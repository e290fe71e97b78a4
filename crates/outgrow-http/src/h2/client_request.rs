//! Request heads on their way to an endpoint, and response heads on their way back, as the `h2` crate
//! has them (RFC 9113 sections 8.2 and 8.3).

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Method, Request, Uri, header};
use outgrow_core::{Cause, Fault, Phase, Sent};
use outgrow_message::{BodyLength, Known, RequestHead, ResponseHead, Target, Version};

use super::request::check_field;
use super::response::map;
use crate::conn::client::RESPONSE_LIMITS;
use crate::h1::{Reject, framing};

/// The head of a request.
pub(super) fn request(
    head: &RequestHead,
    host_if_none: &[u8],
    secure: bool,
) -> Result<Request<()>, Fault> {
    let broken = |cause| Fault::client(Phase::RequestHead, cause);
    let mut request = Request::new(());
    *request.method_mut() =
        Method::from_bytes(head.text(head.method_text)).map_err(|_| broken(Cause::BadRequest))?;
    *request.uri_mut() = uri(head, host_if_none, secure).ok_or(broken(Cause::BadTarget))?;
    // Those of the connection are gone already; to send one would break the whole stream.
    let skip = |known: Known, _: &[u8]| {
        known.is_hop_by_hop() || matches!(known, Known::Host | Known::ContentLength | Known::Expect)
    };
    let mut fields = map(&head.fields, skip).ok_or(broken(Cause::BadRequest))?;
    if let BodyLength::Known(length) = head.length {
        fields.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    if head.takes_trailers {
        fields.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    *request.headers_mut() = fields;
    Ok(request)
}

fn uri(head: &RequestHead, host_if_none: &[u8], secure: bool) -> Option<Uri> {
    let authority = match head.text(head.authority) {
        [] => host_if_none,
        authority => authority,
    };
    let mut path = Vec::with_capacity(256);
    match head.target {
        Target::Asterisk => path.push(b'*'),
        _ => path.extend_from_slice(head.forward_path()),
    }
    if let Some(query) = head.query {
        path.push(b'?');
        path.extend_from_slice(head.text(query));
    }
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(if secure { Scheme::HTTPS } else { Scheme::HTTP });
    parts.authority = Some(Authority::try_from(authority).ok()?);
    parts.path_and_query = Some(PathAndQuery::try_from(path).ok()?);
    Uri::from_parts(parts).ok()
}

/// Fills `head`, which is cleared, from a response to `request`. `ends`: no body follows.
pub(super) fn fill(
    parts: &http::response::Parts,
    ends: bool,
    request: &RequestHead,
    head: &mut ResponseHead,
) -> Result<(), Fault> {
    let bad = || Fault::upstream(Phase::ResponseHead, Cause::UpstreamBadResponse, Sent::Maybe);
    head.clear();
    head.version = Version::Http2;
    head.status = parts.status.as_u16();
    head.keep_alive = true;
    if parts.headers.len() > RESPONSE_LIMITS.fields || head.status == 101 {
        return Err(bad());
    }
    for (name, value) in &parts.headers {
        check_field(name, value).map_err(|_| bad())?;
        head.fields.push(name.as_str().as_bytes(), value.as_bytes());
    }
    head.length = length(head, ends, request).map_err(|_| bad())?;
    Ok(())
}

fn length(
    head: &mut ResponseHead,
    ends: bool,
    request: &RequestHead,
) -> Result<BodyLength, Reject> {
    let declared = framing::declared(&head.fields, Version::Http2)?;
    if ResponseHead::never_has_body(head.status, request.method) {
        if head.status < 200 || head.status == 204 {
            head.fields.remove(Known::ContentLength);
        }
        return Ok(BodyLength::Empty);
    }
    match declared {
        Some(BodyLength::Known(1..)) if ends => {
            Err(Reject::bad("the body is shorter than Content-Length says"))
        }
        _ if ends => Ok(BodyLength::Empty),
        Some(length) => Ok(length),
        None => Ok(BodyLength::Unknown),
    }
}
