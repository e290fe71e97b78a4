//! What a client would be understood to say, without QUIC around it: a request's stream from any
//! transport, and field sections. For tools that look at that, such as the fuzzer; requests are served by
//! [`super::H3Stream`], which reads by the same code.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use outgrow_core::Cause;
use outgrow_message::{Blocks, BodyLength, RequestHead};
use outgrow_net::Transport;

use super::code::Code;
use super::qpack::{self, Broken};
use super::receive::{NO_REQUEST, Next, Receive, Wrong};
use super::{request, stream};
use crate::h1::{Limits, Reject};

/// Names and values.
pub type Lines = Vec<(Vec<u8>, Vec<u8>)>;

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// In order.
    Whole,
    /// The transport gave no more, and did not say that there is none.
    Open,
    /// It is answered as one that is refused.
    Refused(Cause),
    /// It ends the connection.
    Closed(Code),
    /// The transport failed.
    Gone,
}

/// What there was on a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The fields of the head, if it was acceptable, the pseudo-header fields not among them.
    pub fields: Option<Lines>,
    /// The body.
    pub body: Vec<u8>,
    /// The trailers, also such as are not passed on.
    pub trailers: Option<Lines>,
    /// How it ended.
    pub end: End,
}

/// Reads a request's stream as far as it goes.
pub fn request(stream: impl Transport, blocks: &Arc<Blocks>, limits: Limits) -> Seen {
    let mut seen = Seen {
        fields: None,
        body: Vec::new(),
        trailers: None,
        end: End::Open,
    };
    let mut receive = Receive::new(stream, stream::section_limit(&limits));
    seen.end = match read(&mut receive, &mut seen, blocks, limits) {
        Ok(end) => end,
        Err(Wrong::Gone) => End::Gone,
        Err(Wrong::Memory) => End::Refused(Cause::MemoryLimit),
        Err(Wrong::Reject(reject)) => End::Refused(reject.cause),
        Err(Wrong::Connection(code, _)) => End::Closed(code),
    };
    seen
}

fn read<T: Transport>(
    receive: &mut Receive<T>,
    seen: &mut Seen,
    blocks: &Arc<Blocks>,
    limits: Limits,
) -> Result<End, Wrong> {
    let mut nobody = Context::from_waker(Waker::noop());
    loop {
        let Poll::Ready(next) = receive.poll_next(&mut nobody, blocks) else {
            return Ok(End::Open);
        };
        match next? {
            Next::Data => {
                let count = receive.data().len();
                seen.body.extend_from_slice(receive.data());
                receive.consume(count);
            }
            Next::Section(length) if seen.fields.is_none() => {
                let parts = request::parts(receive.section(length), false, limits);
                receive.take_section(length);
                let mut head = RequestHead::default();
                let parts = parts.map_err(wrong)?;
                parts.fill(&mut head).map_err(Wrong::Reject)?;
                if let BodyLength::Known(length) = head.length {
                    receive.declare(length);
                }
                let fields = head.fields.iter();
                seen.fields = Some(fields.map(|(_, name, value)| owned(name, value)).collect());
            }
            Next::Section(length) => {
                let trailers = request::trailers(receive.section(length), limits);
                receive.take_section(length);
                let trailers = trailers.map_err(wrong)?;
                let line = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
                    owned(name.as_str().as_bytes(), value.as_bytes())
                };
                seen.trailers = Some(trailers.iter().map(line).collect());
            }
            Next::End if seen.fields.is_none() => {
                return Err(Wrong::Reject(Reject::bad(NO_REQUEST)));
            }
            Next::End => return Ok(End::Whole),
        }
    }
}

fn wrong(broken: Broken<Reject>) -> Wrong {
    match broken {
        Broken::Stopped(reject) => Wrong::Reject(reject),
        Broken::Coding => Wrong::Connection(Code::DECOMPRESSION_FAILED, ""),
    }
}

fn owned(name: &[u8], value: &[u8]) -> (Vec<u8>, Vec<u8>) {
    (name.to_vec(), value.to_vec())
}

/// The lines of a field section, whatever they say; none when it cannot be read, or has more than
/// `most` bytes of names and values.
pub fn section(bytes: &[u8], most: usize) -> Option<Lines> {
    let (mut lines, mut sum) = (Vec::new(), 0);
    let read = qpack::decode(bytes, |name, value| {
        sum += name.len() + value.len();
        lines.push(owned(name, value));
        match sum <= most {
            true => Ok(()),
            false => Err(()),
        }
    });
    read.is_ok().then_some(lines)
}

/// The field section that says these lines; names become lower case.
pub fn put_section(lines: &Lines) -> Vec<u8> {
    let mut bytes = Vec::new();
    qpack::begin(&mut bytes);
    for (name, value) in lines {
        qpack::put_field(name, value, &mut bytes);
    }
    bytes
}

/// The head of a frame of this kind and length.
pub fn frame_head(kind: u64, length: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    super::frame::FrameHead { kind, length }.put(&mut bytes);
    bytes
}
