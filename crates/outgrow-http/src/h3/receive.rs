//! A request's stream as it arrives: frames, one after the other, through one buffer.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use outgrow_core::Cause;
use outgrow_message::{Blocks, Need};
use outgrow_net::Transport;
use quinn::{ReadError, RecvStream};

use super::code::Code;
use super::frame::{self, FrameHead};
use crate::conn::{Problem, ReadBuffer};
use crate::h1::Reject;

/// Bytes of frames without a meaning that a stream may have.
const PASSED_OVER: u64 = 64 * 1024;

pub(super) const NO_REQUEST: &str = "the stream ends without a request";
pub(super) const WRONG_LENGTH: &str = "the body does not have the length that Content-Length says";

/// Why nothing more can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// The client reset the stream, or its connection has ended.
    Gone,
    /// The ledger gave no buffer.
    Memory,
    /// The request is malformed.
    Reject(Reject),
    /// The connection has to end.
    Connection(Code, &'static str),
}

/// What is at the beginning of the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Some of the body: see [`Receive::data`].
    Data,
    /// A whole field section of so many bytes: see [`Receive::section`].
    Section(usize),
    /// The end of the stream.
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A frame's head is next.
    Between,
    /// So many bytes of a DATA frame.
    Data(u64),
    /// A HEADERS frame of so many bytes.
    Section(usize),
    /// So many bytes of a frame without a meaning.
    PassOver(u64),
    End,
}

/// Which parts of a message there have been (RFC 9114 section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
enum Part {
    Nothing,
    Head,
    Trailers,
}

#[derive(Debug)]
pub(super) struct Receive<T = Reading> {
    io: T,
    buffer: ReadBuffer,
    state: State,
    part: Part,
    /// The longest field section.
    section_limit: usize,
    /// The length of the body by its Content-Length.
    declared: Option<u64>,
    /// The length of all DATA frames so far.
    announced: u64,
    passed_over: u64,
}

impl Receive {
    /// Of a stream of QUIC.
    pub(super) fn of_stream(stream: RecvStream, section_limit: usize) -> Self {
        Self::new(Reading(stream), section_limit)
    }

    /// The stream.
    pub(super) fn stream(&mut self) -> &mut RecvStream {
        &mut self.io.0
    }
}

impl<T: Transport> Receive<T> {
    pub(super) fn new(io: T, section_limit: usize) -> Self {
        Self {
            io,
            buffer: ReadBuffer::default(),
            state: State::Between,
            part: Part::Nothing,
            section_limit,
            declared: None,
            announced: 0,
            passed_over: 0,
        }
    }

    /// Says that the body has so many bytes.
    pub(super) fn declare(&mut self, length: u64) {
        self.declared = Some(length);
        self.buffer.expect(length);
    }

    /// The data at hand.
    pub(super) fn data(&self) -> &[u8] {
        let State::Data(left) = self.state else {
            return &[];
        };
        let bytes = self.buffer.bytes();
        &bytes[..bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX))]
    }

    /// Takes `count` bytes of the data.
    pub(super) fn consume(&mut self, count: usize) {
        let count = count.min(self.data().len());
        if let State::Data(left) = &mut self.state {
            *left -= count as u64;
            self.buffer.consume(count);
        }
    }

    /// The field section at hand.
    pub(super) fn section(&self, length: usize) -> &[u8] {
        let bytes = self.buffer.bytes();
        &bytes[..length.min(bytes.len())]
    }

    /// Takes the field section at hand.
    pub(super) fn take_section(&mut self, length: usize) {
        self.buffer.consume(length);
        self.state = State::Between;
    }

    /// Waits for data, a field section or the end.
    pub(super) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        blocks: &Arc<Blocks>,
    ) -> Poll<Result<Next, Wrong>> {
        if self.declared.is_some_and(|length| self.announced > length) {
            return Poll::Ready(Err(Wrong::Reject(Reject::framing(WRONG_LENGTH))));
        }
        loop {
            match &mut self.state {
                State::End => return Poll::Ready(Ok(Next::End)),
                State::Data(0) | State::PassOver(0) => {
                    self.state = State::Between;
                    continue;
                }
                State::Data(_) if !self.buffer.is_empty() => return Poll::Ready(Ok(Next::Data)),
                State::Section(length) if self.buffer.bytes().len() >= *length => {
                    return Poll::Ready(Ok(Next::Section(*length)));
                }
                State::PassOver(left) if !self.buffer.is_empty() => {
                    let here = self.buffer.bytes().len() as u64;
                    let count = here.min(*left);
                    *left -= count;
                    self.buffer.consume(count as usize);
                    continue;
                }
                State::Between => {
                    if let Some((head, length)) = FrameHead::read(self.buffer.bytes()) {
                        self.buffer.consume(length);
                        self.begin(head)?;
                        continue;
                    }
                    debug_assert!(self.buffer.bytes().len() < frame::LONGEST_HEAD);
                }
                State::Data(_) | State::Section(_) | State::PassOver(_) => {}
            }
            if !ready!(self.poll_fill(cx, blocks))? {
                return Poll::Ready(self.end());
            }
        }
    }

    /// Whether the rest of a short body is in the buffer, and the stream ends behind it: QUIC holds nothing
    /// of it then. Reads what is there, and does not wait.
    pub(super) fn look_for_end(
        &mut self,
        cx: &mut Context<'_>,
        blocks: &Arc<Blocks>,
    ) -> Result<bool, Wrong> {
        loop {
            let State::Data(left) = self.state else {
                return Ok(false);
            };
            if self.buffer.is_full() || self.buffer.bytes().len() as u64 > left {
                return Ok(false);
            }
            match self.poll_fill(cx, blocks) {
                Poll::Ready(Ok(true)) => {}
                Poll::Ready(Ok(false)) => return Ok(true),
                Poll::Ready(Err(wrong)) => return Err(wrong),
                Poll::Pending => return Ok(false),
            }
        }
    }

    /// Reads once; false at the end of the stream.
    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        blocks: &Arc<Blocks>,
    ) -> Poll<Result<bool, Wrong>> {
        let need = match self.part {
            Part::Nothing => Need::Head,
            _ => Need::Usual,
        };
        if self.buffer.is_full() && !self.buffer.grow(blocks) {
            return Poll::Ready(Err(Wrong::Memory));
        }
        let filled = ready!(self.buffer.poll_fill_for(need, cx, &mut self.io, blocks));
        Poll::Ready(match filled {
            Ok(count) => Ok(count > 0),
            Err(Problem::Memory | Problem::Full) => Err(Wrong::Memory),
            Err(_) => Err(Wrong::Gone),
        })
    }

    /// Begins a frame, if it may be here.
    fn begin(&mut self, head: FrameHead) -> Result<(), Wrong> {
        let unexpected = |reason| Err(Wrong::Connection(Code::FRAME_UNEXPECTED, reason));
        self.state = match head.kind {
            frame::DATA if self.part != Part::Head => {
                return unexpected("DATA without HEADERS, or after trailers");
            }
            frame::DATA => {
                self.announced = self.announced.saturating_add(head.length);
                if self.declared.is_some_and(|length| self.announced > length) {
                    return Err(Wrong::Reject(Reject::framing(WRONG_LENGTH)));
                }
                State::Data(head.length)
            }
            frame::HEADERS if self.part == Part::Trailers => {
                return unexpected("HEADERS after trailers");
            }
            frame::HEADERS => {
                self.part = match self.part {
                    Part::Nothing => Part::Head,
                    _ => Part::Trailers,
                };
                let length = usize::try_from(head.length).unwrap_or(usize::MAX);
                if length > self.section_limit {
                    let reject = Reject::new(Cause::HeadTooLarge, "the head is too large");
                    return Err(Wrong::Reject(reject));
                }
                State::Section(length)
            }
            _ if head.is_elsewhere() => return unexpected("a frame that no request has"),
            _ => {
                self.passed_over = self.passed_over.saturating_add(head.length);
                if self.passed_over > PASSED_OVER {
                    let reason = "too much without a meaning";
                    return Err(Wrong::Connection(Code::EXCESSIVE_LOAD, reason));
                }
                State::PassOver(head.length)
            }
        };
        Ok(())
    }

    /// The stream has ended, in order or within something.
    fn end(&mut self) -> Result<Next, Wrong> {
        if self.state != State::Between || !self.buffer.is_empty() {
            return Err(Wrong::Connection(
                Code::FRAME,
                "a stream ends within a frame",
            ));
        }
        self.state = State::End;
        if self.declared.is_some_and(|length| self.announced < length) {
            return Err(Wrong::Reject(Reject::framing(WRONG_LENGTH)));
        }
        Ok(Next::End)
    }
}

/// A stream of QUIC that is only read, as the read buffer wants it.
#[derive(Debug)]
pub(super) struct Reading(RecvStream);

impl Transport for Reading {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let read = ready!(self.0.poll_read(cx, buffer));
        Poll::Ready(read.map_err(|error| match error {
            ReadError::Reset(_) => io::ErrorKind::ConnectionReset.into(),
            _ => io::ErrorKind::ConnectionAborted.into(),
        }))
    }

    fn poll_write(&mut self, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::Unsupported.into()))
    }

    fn poll_write_vectored(
        &mut self,
        _: &mut Context<'_>,
        _: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::Unsupported.into()))
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
