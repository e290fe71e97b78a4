//! One direction of a connection: bytes from one socket to the other, with one buffer that is there
//! only while it holds something. Who moves much is moved by the kernel (`splice`).

use std::sync::Arc;
use std::task::{Context, Poll};

use outgrow_message::ledger::{BLOCK_SIZES, Block, Blocks, Need};
use outgrow_net::{Pipe, Pipes, Stream};

use super::guard::{self, Guard};

/// Pieces that are moved before others of the worker get their turn.
const TURN: u32 = 4;
/// What must have been moved before a pipe is asked for: below it costs more than it saves.
const SPLICE_AFTER: u64 = 4 * 1024 * 1024;
/// A piece from this size on speaks for a pipe.
const LARGE: usize = 32 * 1024;
/// Large pieces in a row that bring a pipe, and small ones that take it away.
const IN_A_ROW: u32 = 8;

/// A side of the connection that failed, as this direction sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// Where bytes come from.
    From,
    /// Where they go to.
    To,
    /// What came is what must not come: a PROXY header of somebody who is not believed.
    Forged,
}

/// What a worker has for its connections.
#[derive(Clone, Copy, Debug)]
pub(super) struct Supply<'a> {
    pub(super) blocks: &'a Arc<Blocks>,
    pub(super) pipes: &'a Arc<Pipes>,
}

/// One direction.
#[derive(Debug, Default)]
pub(super) struct Flow {
    block: Option<Block>,
    start: usize,
    end: usize,
    /// The size of the next block.
    class: usize,
    pipe: Option<Pipe>,
    is_spliced: bool,
    /// Pieces in a row that are large while copied, small while spliced.
    in_a_row: u32,
    guard: Guard,
    /// The end of the stream was read.
    has_ended: bool,
    /// Nothing more is to be done.
    pub(super) is_done: bool,
    /// The other direction has ended in order: who closes the sockets says the end of this one with it.
    pub(super) is_last: bool,
    /// Where bytes go to took no more.
    pub(super) is_broken: bool,
    /// No memory was to be had: it is to be asked again soon.
    pub(super) is_short: bool,
    /// Bytes moved.
    pub(super) bytes: u64,
}

impl Flow {
    /// A direction of which `length` bytes have been read already, into a block.
    pub(super) fn beginning_with(block: Option<Block>, length: usize) -> Self {
        Self {
            block,
            end: length,
            ..Self::default()
        }
    }

    /// Whoever sends here is not to begin with a PROXY header.
    pub(super) fn guard(&mut self) {
        self.guard = Guard::Looks;
    }

    /// Whether the end of the stream was read.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Whether the end was passed on in order. Of a direction that broke it was not: the sockets are reset
    /// then, and whoever can still hear of an end must be told before.
    pub(super) fn has_passed_on_end(&self) -> bool {
        self.is_done && !self.is_broken
    }

    /// Moves what there is; ready when the end has been passed on, or nothing can be.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Stream,
        to: &mut Stream,
        supply: Supply<'_>,
    ) -> Poll<Result<(), Broken>> {
        self.is_short = false;
        for _ in 0..TURN {
            if self.is_done {
                return Poll::Ready(Ok(()));
            }
            let moved = match self.is_spliced {
                true => self.poll_spliced(cx, from, to, supply),
                false => self.poll_copied(cx, from, to, supply),
            };
            match moved {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(Broken::To)) => {
                    // The other direction goes on: what was said before may still arrive.
                    self.let_go();
                    (self.is_broken, self.is_done) = (true, true);
                }
                Poll::Ready(Err(broken)) => return Poll::Ready(Err(broken)),
                Poll::Pending => return Poll::Pending,
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// One piece.
    fn poll_copied(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Stream,
        to: &mut Stream,
        supply: Supply<'_>,
    ) -> Poll<Result<(), Broken>> {
        if self.start < self.end && self.guard == Guard::Passed {
            return self.poll_write(cx, to);
        }
        if self.has_ended {
            self.let_go();
            if !self.is_last {
                // A peer that is gone already cannot be told the end.
                let _ = std::task::ready!(to.poll_shutdown(cx));
            }
            self.is_done = true;
            return Poll::Ready(Ok(()));
        }
        if self.block.is_none() {
            // An error is for the read to find.
            if from.poll_read_ready(cx).is_pending() {
                return Poll::Pending;
            }
            self.block = supply.blocks.take_up_to(self.class, Need::Usual);
        }
        let Some(block) = &mut self.block else {
            self.is_short = true;
            return Poll::Pending;
        };
        match from.poll_read(cx, &mut block[self.end..]) {
            Poll::Ready(Ok(0)) => {
                self.has_ended = true;
                self.guard = Guard::Passed;
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Ok(length)) => {
                self.end += length;
                self.note(length, supply);
                self.look()
            }
            Poll::Ready(Err(_)) => Poll::Ready(Err(Broken::From)),
            Poll::Pending => {
                if self.end == 0 {
                    self.block = None;
                }
                Poll::Pending
            }
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, to: &mut Stream) -> Poll<Result<(), Broken>> {
        let Some(block) = &self.block else {
            return Poll::Ready(Ok(()));
        };
        let written = std::task::ready!(to.poll_write(cx, &block[self.start..self.end]));
        let written = written.map_err(|_| Broken::To)?;
        self.start += written;
        self.bytes += written as u64;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            // Of another size now: the next read takes that.
            if self.is_spliced || block.len() != BLOCK_SIZES[self.class] {
                self.block = None;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// What was read may be what must not come.
    fn look(&mut self) -> Poll<Result<(), Broken>> {
        if self.guard == Guard::Looks
            && let Some(block) = &self.block
        {
            self.guard = guard::look(&block[..self.end]);
        }
        Poll::Ready(match self.guard {
            Guard::Forged => Err(Broken::Forged),
            _ => Ok(()),
        })
    }

    /// Larger blocks for who fills them, and a pipe for who does so for long.
    fn note(&mut self, length: usize, supply: Supply<'_>) {
        let size = BLOCK_SIZES[self.class];
        if length == size && self.class + 1 < BLOCK_SIZES.len() {
            self.class += 1;
        } else if length < size / 8 && self.class > 0 {
            self.class -= 1;
        }
        self.in_a_row = match length >= LARGE {
            true => self.in_a_row + 1,
            false => 0,
        };
        if self.in_a_row >= IN_A_ROW && self.bytes >= SPLICE_AFTER {
            self.in_a_row = 0;
            self.pipe = supply.pipes.lend();
            self.is_spliced = self.pipe.is_some();
        }
    }

    /// One piece through a pipe.
    fn poll_spliced(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Stream,
        to: &mut Stream,
        supply: Supply<'_>,
    ) -> Poll<Result<(), Broken>> {
        if self.start < self.end {
            return self.poll_write(cx, to);
        }
        let held = self.pipe.as_ref().map_or(0, Pipe::held);
        if held == 0 && from.poll_read_ready(cx).is_pending() {
            self.pipe = None;
            return Poll::Pending;
        }
        if self.pipe.is_none() {
            self.pipe = supply.pipes.lend();
        }
        let Some(pipe) = &mut self.pipe else {
            self.is_spliced = false;
            return Poll::Ready(Ok(()));
        };
        if held > 0 {
            let moved = std::task::ready!(pipe.poll_empty(cx, to));
            self.bytes += moved.map_err(|_| Broken::To)? as u64;
            return Poll::Ready(Ok(()));
        }
        match pipe.poll_fill(cx, from) {
            Poll::Ready(Ok(0)) => {
                (self.has_ended, self.is_spliced, self.pipe) = (true, false, None);
            }
            Poll::Ready(Ok(length)) => {
                self.in_a_row = match length < LARGE {
                    true => self.in_a_row + 1,
                    false => 0,
                };
                if self.in_a_row >= IN_A_ROW {
                    self.in_a_row = 0;
                    return self.poll_out_of_pipe(cx, to);
                }
            }
            // Not with these sockets: nothing was taken.
            Poll::Ready(Err(error)) if error.kind() == std::io::ErrorKind::InvalidInput => {
                self.is_spliced = false;
                self.pipe = None;
            }
            Poll::Ready(Err(_)) => return Poll::Ready(Err(Broken::From)),
            Poll::Pending => {
                self.pipe = None;
                return Poll::Pending;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// The last piece through the pipe.
    fn poll_out_of_pipe(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut Stream,
    ) -> Poll<Result<(), Broken>> {
        if let Some(pipe) = &mut self.pipe {
            match pipe.poll_empty(cx, to) {
                Poll::Ready(Ok(moved)) => self.bytes += moved as u64,
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Broken::To)),
                Poll::Pending => return Poll::Pending,
            }
            if pipe.held() == 0 {
                (self.is_spliced, self.pipe) = (false, None);
            }
        }
        Poll::Ready(Ok(()))
    }

    fn let_go(&mut self) {
        (self.block, self.pipe) = (None, None);
        (self.start, self.end) = (0, 0);
    }
}
