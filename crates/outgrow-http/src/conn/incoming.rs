//! The body of a message as it arrives, by its framing.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use outgrow_message::{Blocks, BodyLength, Fields};
use outgrow_net::Transport;

use super::buffer::ReadBuffer;
use crate::h1::Reject;
use crate::h1::chunk::Decoder;

/// Why nothing more can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The peer closed in order.
    Closed,
    /// The connection broke.
    Reset,
    /// What came is not HTTP.
    Reject(Reject),
    /// The ledger gave no buffer.
    Memory,
    /// The buffer is full and nobody takes from it.
    Full,
}

impl Problem {
    /// The problem that an I/O error is. TLS peers that close without saying so are told by
    /// `UnexpectedEof`, and count as closed.
    pub fn of(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Closed,
            _ => Self::Reset,
        }
    }
}

#[derive(Debug, Default)]
enum Framing {
    #[default]
    None,
    Length(u64),
    Chunked(Decoder),
    UntilClose,
    /// It broke. Asked again, a socket that was reset says "end of file": that must not become
    /// the end of a body.
    Broken(Problem),
}

/// One direction of a connection: bytes that arrive, and the body that they are of.
#[derive(Debug, Default)]
pub struct Incoming {
    /// What arrived.
    pub buffer: ReadBuffer,
    framing: Framing,
    /// Bytes of data at the buffer's beginning.
    exposed: usize,
    trailers: Fields,
    has_trailers: bool,
}

impl Incoming {
    /// One whose bytes are passed on as they arrive: see [`ReadBuffer::for_passing_on`].
    pub fn for_passing_on() -> Self {
        Self {
            buffer: ReadBuffer::for_passing_on(),
            ..Self::default()
        }
    }

    /// The same where there may be many: see [`ReadBuffer::for_passing_on_one_of_many`].
    pub fn for_passing_on_one_of_many() -> Self {
        Self {
            buffer: ReadBuffer::for_passing_on_one_of_many(),
            ..Self::default()
        }
    }

    /// Begins a body. `until_close`: it ends where the connection does.
    #[inline]
    pub fn begin(&mut self, length: BodyLength, until_close: bool) {
        self.exposed = 0;
        self.has_trailers = false;
        self.framing = match length {
            _ if until_close => Framing::UntilClose,
            BodyLength::Empty | BodyLength::Known(0) => {
                // What an earlier, large body needed is not what heads need.
                self.buffer.expect(0);
                Framing::None
            }
            BodyLength::Known(bytes) => {
                let left = bytes.saturating_sub(self.buffer.bytes().len() as u64);
                self.buffer.expect(left);
                Framing::Length(bytes)
            }
            BodyLength::Unknown => Framing::Chunked(Decoder::default()),
        };
    }

    /// Whether the body has ended.
    #[inline]
    pub fn is_done(&self) -> bool {
        match &self.framing {
            Framing::None => true,
            Framing::Length(left) => *left == 0,
            Framing::Chunked(decoder) => decoder.is_done(),
            Framing::UntilClose | Framing::Broken(_) => false,
        }
    }

    /// The data at hand.
    #[inline]
    pub fn data(&self) -> &[u8] {
        &self.buffer.bytes()[..self.exposed]
    }

    /// Takes `count` bytes of the data.
    #[inline]
    pub fn consume(&mut self, count: usize) {
        let count = count.min(self.exposed);
        self.buffer.consume(count);
        self.exposed -= count;
        match &mut self.framing {
            Framing::Length(left) => *left = left.saturating_sub(count as u64),
            Framing::Chunked(decoder) => decoder.took(count),
            Framing::None | Framing::UntilClose | Framing::Broken(_) => {}
        }
    }

    /// The trailer section of a chunked body that has ended.
    pub fn trailers(&mut self) -> Option<&mut Fields> {
        self.has_trailers.then_some(&mut self.trailers)
    }

    /// Waits for data (true) or the end (false).
    #[inline]
    pub fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut impl Transport,
        blocks: &Arc<Blocks>,
    ) -> Poll<Result<bool, Problem>> {
        loop {
            if self.exposed > 0 {
                return Poll::Ready(Ok(true));
            }
            match &mut self.framing {
                Framing::None | Framing::Length(0) => return Poll::Ready(Ok(false)),
                Framing::Length(left) => {
                    let here = self.buffer.bytes().len() as u64;
                    self.exposed = here.min(*left) as usize;
                }
                Framing::UntilClose => self.exposed = self.buffer.bytes().len(),
                Framing::Broken(problem) => return Poll::Ready(Err(*problem)),
                Framing::Chunked(decoder) => {
                    let step = decoder
                        .step(self.buffer.bytes(), &mut self.trailers)
                        .map_err(Problem::Reject)?;
                    self.buffer.consume(step.skip);
                    self.exposed = step.data;
                    if step.done {
                        self.has_trailers = !self.trailers.is_empty();
                        self.framing = Framing::None;
                        return Poll::Ready(Ok(false));
                    }
                }
            }
            if self.exposed > 0 {
                return Poll::Ready(Ok(true));
            }
            let problem = match ready!(self.buffer.poll_fill(cx, io, blocks)) {
                Ok(1..) => continue,
                Ok(0) if matches!(self.framing, Framing::UntilClose) => {
                    self.framing = Framing::None;
                    return Poll::Ready(Ok(false));
                }
                Ok(0) => Problem::Closed,
                Err(problem) => problem,
            };
            self.framing = Framing::Broken(problem);
            return Poll::Ready(Err(problem));
        }
    }
}
