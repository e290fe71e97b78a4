//! Response heads and trailers on their way out to clients, as the `h2` crate wants them.

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use outgrow_core::{Cause, Fault, Phase};
use outgrow_message::{Fields, Known, ResponseHead};

use crate::h1::chunk::is_forbidden_trailer;

/// The head of a response whose length, if it is told at all, is `length`.
pub(super) fn response(head: &ResponseHead, length: Option<u64>) -> Result<Response<()>, Fault> {
    let broken = || Fault::outgrow(Phase::ResponseHead, Cause::Internal);
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(head.status).map_err(|_| broken())?;
    // Those of the connection are gone already; to send one would break the whole stream.
    let skip = |known: Known, _: &[u8]| known.is_hop_by_hop() || known == Known::ContentLength;
    *response.headers_mut() = map(&head.fields, skip).ok_or_else(broken)?;
    if let Some(length) = length {
        response
            .headers_mut()
            .insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    Ok(response)
}

/// The trailer section; none when a field cannot be sent.
pub(super) fn trailers(fields: &Fields) -> Option<HeaderMap> {
    map(fields, is_forbidden_trailer)
}

/// The fields as the crate has them, without those that are to be skipped; none when one cannot be sent.
pub(super) fn map(fields: &Fields, skip: impl Fn(Known, &[u8]) -> bool) -> Option<HeaderMap> {
    let mut map = HeaderMap::with_capacity(fields.len());
    for (known, name, value) in fields.iter() {
        if skip(known, name) {
            continue;
        }
        // Lower case is what this makes of it.
        let name = HeaderName::from_bytes(name).ok()?;
        // Copies: the crate's table of fields keeps some of them, which must not keep a whole head each.
        let value = HeaderValue::from_bytes(value).ok()?;
        map.try_append(name, value).ok()?;
    }
    Some(map)
}
