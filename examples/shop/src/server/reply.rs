//! The shop's response bodies and the few shapes of answer that it gives.

use std::{io, time::Duration};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;

use crate::content;

/// Any body that the shop answers with.
pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Largest piece in which `/bytes/N` and `/chunked/N` are made.
const PIECE_BYTES: u64 = 16 * 1024;

/// A response whose whole body is known.
pub(super) fn whole(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Body> {
    let body = Full::new(body)
        .map_err(|never| match never {})
        .boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let kind = HeaderValue::from_static(kind);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// A line of text.
pub(super) fn text(status: StatusCode, line: &'static str) -> Response<Body> {
    whole(
        status,
        "text/plain; charset=utf-8",
        Bytes::from_static(line.as_bytes()),
    )
}

/// 200 with JSON.
pub(super) fn json(body: Bytes) -> Response<Body> {
    whole(StatusCode::OK, "application/json", body)
}

/// An error that tells the client what is wrong.
pub(super) fn refusal(status: StatusCode, error: &str) -> Response<Body> {
    let value = serde_json::json!({ "error": error });
    whole(status, "application/json", Bytes::from(value.to_string()))
}

/// A body in pieces, sent chunked unless its length is added to the headers.
fn pieces(
    kind: &'static str,
    stream: impl futures_util::Stream<Item = io::Result<Frame<Bytes>>> + Send + 'static,
) -> Response<Body> {
    let mut response = Response::new(BodyExt::boxed_unsync(StreamBody::new(stream)));
    let kind = HeaderValue::from_static(kind);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// The pattern's first `length` bytes, with or without a Content-Length.
pub(super) fn pattern(length: u64, chunked: bool) -> Response<Body> {
    let stream = stream::unfold(0_u64, move |sent| async move {
        let size = (length - sent).min(PIECE_BYTES);
        if size == 0 {
            return None;
        }
        let piece = content::pattern(sent, size as usize);
        Some((Ok(Frame::data(piece)), sent + size))
    });
    let mut response = pieces("application/octet-stream", stream);
    if !chunked {
        let length = HeaderValue::from(length);
        response
            .headers_mut()
            .insert(header::CONTENT_LENGTH, length);
    }
    response
}

/// The report, whose pieces come with pauses between.
pub(super) fn report(id: u64) -> Response<Body> {
    let pause: Duration = content::report_time(id) / content::REPORT_PIECES;
    let stream = stream::unfold(0_u32, move |piece| async move {
        if piece == content::REPORT_PIECES {
            return None;
        }
        tokio::time::sleep(pause).await;
        let bytes = content::report_piece(id, piece);
        Some((Ok(Frame::data(bytes)), piece + 1))
    });
    pieces("text/csv; charset=utf-8", stream)
}
