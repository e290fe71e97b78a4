//! The body of a message as it arrives, by its framing.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use outgrow_message::{Blocks, BodyLength, Fields};
use outgrow_net::Transport;

use super::buffer::{FIRST_AHEAD, ReadBuffer};
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

/// Up to here bytes at hand are little, and what follows them is read although nobody takes them: they are in
/// the smallest block.
const LITTLE: u64 = FIRST_AHEAD as u64;

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
    /// What follows it of a body that was made of pieces ([`Incoming::whole`]).
    further: VecDeque<ReadBuffer>,
    framing: Framing,
    /// Bytes of data at the buffer's beginning.
    exposed: usize,
    trailers: Fields,
    has_trailers: bool,
    /// What comes after the bytes at hand, where that was found out before they were taken.
    ahead: Option<Result<usize, Problem>>,
    /// The chunks at hand do not end the body.
    is_part: bool,
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

    /// A body of which all is at hand, in `pieces` of so many bytes, with the trailers after it; none where
    /// no more may wait ([`outgrow_message::Ledger::may_let_wait`]).
    pub(crate) fn whole<'a>(
        bytes: usize,
        pieces: impl IntoIterator<Item = &'a [u8]>,
        trailers: Option<&mut Fields>,
        blocks: &Arc<Blocks>,
    ) -> Option<Self> {
        let mut further = ReadBuffer::holding(bytes, pieces, blocks)?;
        Some(Self {
            buffer: further.pop_front().unwrap_or_default(),
            further,
            framing: Framing::Length(bytes as u64),
            has_trailers: trailers.is_some(),
            trailers: trailers.map(std::mem::take).unwrap_or_default(),
            ..Self::default()
        })
    }

    /// Begins a body. `until_close`: it ends where the connection does.
    #[inline]
    pub fn begin(&mut self, length: BodyLength, until_close: bool) {
        self.exposed = 0;
        self.has_trailers = false;
        self.ahead = None;
        self.is_part = false;
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

    /// What its blocks take of the ledger.
    pub fn held_bytes(&self) -> u64 {
        let further: u64 = self.further.iter().map(ReadBuffer::held_bytes).sum();
        self.buffer.held_bytes() + further
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
            if let Some(found) = self.at_hand() {
                return Poll::Ready(found);
            }
            let filled = match self.ahead {
                Some(ahead) => ahead,
                None => ready!(self.buffer.poll_fill(cx, io, blocks)),
            };
            if let Some(end) = self.filled(filled) {
                return Poll::Ready(end);
            }
        }
    }

    /// The same for a body of which all is at hand ([`Incoming::is_whole`]).
    pub(super) fn rest(&mut self) -> Result<bool, Problem> {
        if self.buffer.is_empty()
            && let Some(next) = self.further.pop_front()
        {
            self.buffer = next;
        }
        let nothing = self.ahead.unwrap_or(Ok(0));
        self.at_hand()
            .or_else(|| self.filled(nothing))
            .unwrap_or(Err(Problem::Closed))
    }

    /// Data (true) or the end (false), where no more bytes are needed for either.
    #[inline]
    fn at_hand(&mut self) -> Option<Result<bool, Problem>> {
        if self.exposed > 0 {
            return Some(Ok(true));
        }
        match &mut self.framing {
            Framing::None | Framing::Length(0) => return Some(Ok(false)),
            Framing::Length(left) => {
                let here = self.buffer.bytes().len() as u64;
                self.exposed = here.min(*left) as usize;
            }
            Framing::UntilClose => self.exposed = self.buffer.bytes().len(),
            Framing::Broken(problem) => return Some(Err(*problem)),
            Framing::Chunked(decoder) => {
                let step = match decoder.step(self.buffer.bytes(), &mut self.trailers) {
                    Ok(step) => step,
                    Err(reject) => return Some(Err(Problem::Reject(reject))),
                };
                self.buffer.consume(step.skip);
                self.exposed = step.data;
                if step.done {
                    self.has_trailers = !self.trailers.is_empty();
                    self.framing = Framing::None;
                    return Some(Ok(false));
                }
            }
        }
        (self.exposed > 0).then_some(Ok(true))
    }

    /// What a read means that brought so many bytes, or none; none when there is to be looked again.
    #[inline]
    fn filled(&mut self, filled: Result<usize, Problem>) -> Option<Result<bool, Problem>> {
        let problem = match filled {
            Ok(1..) => {
                self.is_part = false;
                return None;
            }
            Ok(0) if matches!(self.framing, Framing::UntilClose) => {
                self.framing = Framing::None;
                return Some(Ok(false));
            }
            Ok(0) => Problem::Closed,
            Err(problem) => problem,
        };
        self.framing = Framing::Broken(problem);
        Some(Err(problem))
    }

    /// Whether all that is left of the body is at hand, and nothing beyond it: then [`Incoming::rest`] gives
    /// it, and nobody else is needed. To be asked where nobody takes what is at hand; as long as that is
    /// little, what follows it is read.
    pub fn is_whole(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut impl Transport,
        blocks: &Arc<Blocks>,
    ) -> bool {
        loop {
            let here = self.buffer.bytes().len() as u64;
            let (is_whole, may_come) = match &self.framing {
                Framing::None => (here == 0, false),
                Framing::Length(left) => (here == *left, here < *left && *left <= LITTLE),
                Framing::UntilClose => (self.ahead == Some(Ok(0)), true),
                Framing::Chunked(decoder) => {
                    let bytes = self.buffer.bytes();
                    (
                        !self.is_part && decoder.ends_with(bytes, self.exposed),
                        true,
                    )
                }
                Framing::Broken(_) => (false, false),
            };
            self.is_part = !is_whole;
            if is_whole || !may_come || self.ahead.is_some() || here >= LITTLE {
                return is_whole;
            }
            match self.buffer.poll_fill(cx, io, blocks) {
                Poll::Ready(Ok(1..)) => self.is_part = false,
                // Full, or without memory for a block: that tells nothing of what comes.
                Poll::Ready(Err(Problem::Full | Problem::Memory)) | Poll::Pending => return false,
                Poll::Ready(end) => self.ahead = Some(end),
            }
        }
    }
}
