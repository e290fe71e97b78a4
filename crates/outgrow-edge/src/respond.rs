//! Answers that Outgrow gives itself: fixed responses and errors.

use std::future::poll_fn;
use std::task::{Poll, ready};
use std::time::Duration;

use outgrow_core::context::Context;
use outgrow_core::{Cause, Clock, Fault, Phase, Ticks};
use outgrow_http::Downstream;
use outgrow_http::h1::encode::reason_of;
use outgrow_http::{grpc, status};
use outgrow_message::{BodyLength, Known, Method, ResponseHead, Version};
use outgrow_net::Timer;

use crate::forward::Credit;

/// Answers with a body that is at hand. The client may take `patience` between two pieces.
pub(crate) async fn answer<D: Downstream>(
    down: &mut D,
    head: &mut ResponseHead,
    body: &[u8],
    method: Method,
    clock: Clock,
    timer: &mut Timer,
    patience: Duration,
) -> Result<u64, Fault> {
    let bodyless = ResponseHead::never_has_body(head.status, method);
    // An answer that ends with its head says so by that, where the protocol can.
    let ends = body.is_empty() && head.version == Version::Http2;
    let length = if bodyless || ends {
        BodyLength::Empty
    } else {
        BodyLength::Known(body.len() as u64)
    };
    // What a GET would have had, where it is not said by now; a 204 has none, and what a 304 stands for is not known
    // here.
    let is_told = head.fields.get(Known::ContentLength).is_some();
    if method == Method::Head && !is_told && !ResponseHead::never_has_body(head.status, Method::Get)
    {
        let text = body.len().to_string();
        head.fields.push(b"Content-Length", text.as_bytes());
    }
    let body = if bodyless { &[] } else { body };
    abandon_request_body(down).await;
    down.respond(head, length, method)?;
    send(down, body, clock, timer, patience).await?;
    Ok(body.len() as u64)
}

/// Sends the body of an answer that has begun, and its end.
pub(crate) async fn send<D: Downstream>(
    down: &mut D,
    body: &[u8],
    clock: Clock,
    timer: &mut Timer,
    patience: Duration,
) -> Result<(), Fault> {
    let (mut sent, mut ended) = (0, false);
    let times = Times {
        idle: patience,
        rate: 0,
        taking: Credit::default(),
        deadline: Ticks::NEVER,
    };
    while_it_takes(down, clock, timer, times, |down, cx| {
        poll_send(down, cx, body, &mut sent, &mut ended)
    })
    .await
}

/// How long a client may take.
#[derive(Debug)]
pub(crate) struct Times {
    /// It takes nothing for so long.
    pub(crate) idle: Duration,
    /// Bytes that it takes in each second, beside that; 0 is any.
    pub(crate) rate: u64,
    /// How late it was before.
    pub(crate) taking: Credit,
    /// When all must be over.
    pub(crate) deadline: Ticks,
}

/// Goes on with `step` for as long as the client takes what it gives as `times` say.
pub(crate) async fn while_it_takes<D: Downstream>(
    down: &mut D,
    clock: Clock,
    timer: &mut Timer,
    mut times: Times,
    mut step: impl FnMut(&mut D, &mut std::task::Context<'_>) -> Poll<Result<(), Fault>>,
) -> Result<(), Fault> {
    let mut written = down.written();
    let mut until = clock.now() + times.idle;
    poll_fn(|cx| {
        if let Poll::Ready(result) = step(down, cx) {
            return Poll::Ready(result);
        }
        let now = clock.now();
        if down.written() != written {
            written = down.written();
            until = now + times.idle;
        }
        times.taking.stop(now);
        let too_slow = match times.rate {
            0 => Ticks::NEVER,
            rate => times.taking.start(now, written, (rate, times.idle)),
        };
        timer.set(until.min(too_slow).min(times.deadline));
        let cause = match now >= times.deadline {
            true => Cause::RequestTimeout,
            false => Cause::SendTimeout,
        };
        let timed = timer.poll(cx, now);
        timed.map(|()| Err(Fault::client(Phase::ResponseBody, cause)))
    })
    .await
}

fn poll_send<D: Downstream>(
    down: &mut D,
    cx: &mut std::task::Context<'_>,
    body: &[u8],
    sent: &mut usize,
    ended: &mut bool,
) -> Poll<Result<(), Fault>> {
    while *sent < body.len() {
        *sent += ready!(down.poll_push(cx, &body[*sent..]))?;
    }
    if !*ended {
        *ended = true;
        down.finish(None)?;
    }
    down.poll_flush(cx)
}

/// What is passed over of a body that nobody will read, in pieces and bytes: a piece may be a single byte, and
/// parsing them takes time of the worker.
const PASSED_OVER: (u32, usize) = (1_024, 256 * 1024);

/// Passes over what is at hand of a request body that nobody will read; when there is much of it, or more is to
/// come, the connection ends after the answer.
pub(crate) async fn abandon_request_body<D: Downstream>(down: &mut D) {
    let (pieces, most) = PASSED_OVER;
    let complete = poll_fn(|cx| {
        let mut passed = 0;
        for _ in 0..pieces {
            match down.poll_data(cx) {
                Poll::Ready(Ok(true)) if passed < most => {
                    let length = down.data().len();
                    down.consume(length);
                    passed += length;
                }
                Poll::Ready(Ok(false)) => return Poll::Ready(true),
                _ => break,
            }
        }
        Poll::Ready(false)
    })
    .await;
    if !complete {
        down.close_after();
    }
}

/// Fills `head` and `body` with the answer to a fault; false when nobody is there to be told.
///
/// The body is short text with the reason and the request's id, so that a user can quote it and
/// an operator can find it in the record.
pub(crate) fn error(
    fault: Fault,
    detail: &str,
    context: &Context,
    head: &mut ResponseHead,
    body: &mut Vec<u8>,
) -> bool {
    let Some(status) = status::of(fault) else {
        return false;
    };
    head.clear();
    head.status = status;
    head.fields
        .push(b"Content-Type", b"text/plain; charset=utf-8");
    head.fields.push(b"Cache-Control", b"no-store");
    head.fields.push(b"X-Request-Id", &context.id.hex());
    if status == 503 {
        head.fields.push(b"Retry-After", b"1");
    }
    body.clear();
    body.extend_from_slice(status.to_string().as_bytes());
    body.push(b' ');
    body.extend_from_slice(reason_of(status).as_bytes());
    body.extend_from_slice(b"\n");
    body.extend_from_slice(fault.cause.text().as_bytes());
    if !detail.is_empty() {
        body.extend_from_slice(b" (");
        body.extend_from_slice(detail.as_bytes());
        body.push(b')');
    }
    body.extend_from_slice(b"\nreason: ");
    body.extend_from_slice(fault.cause.reason().as_bytes());
    body.extend_from_slice(b"\nrequest: ");
    body.extend_from_slice(&context.id.hex());
    body.push(b'\n');
    true
}

/// The same for a gRPC call of this content type: an answer that ends with its head ("Trailers-Only").
pub(crate) fn grpc_error(
    fault: Fault,
    detail: &str,
    context: &mut Context,
    content_type: &[u8],
    head: &mut ResponseHead,
) -> bool {
    let Some(status) = grpc::status_of(fault) else {
        return false;
    };
    context.grpc_status = Some(status);
    head.clear();
    head.status = 200;
    head.version = Version::Http2;
    head.fields.push(b"Content-Type", content_type);
    head.fields.push(b"X-Request-Id", &context.id.hex());
    head.fields
        .push(b"grpc-status", status.to_string().as_bytes());
    let cause = fault.cause;
    let mut message = format!("{} (outgrow: {}", cause.text(), cause.reason());
    if !detail.is_empty() {
        message.push_str(": ");
        message.push_str(detail);
    }
    message.push(')');
    head.fields
        .push(b"grpc-message", &percent_encoded(message.as_bytes()));
    true
}

/// What a `grpc-message` may hold: visible ASCII without the percent sign, the rest escaped.
fn percent_encoded(text: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = Vec::with_capacity(text.len());
    for &byte in text {
        match byte {
            b' '..=b'~' if byte != b'%' => out.push(byte),
            _ => out.extend([
                b'%',
                DIGITS[usize::from(byte >> 4)],
                DIGITS[usize::from(byte & 15)],
            ]),
        }
    }
    out
}
