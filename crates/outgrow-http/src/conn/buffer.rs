//! Read and write buffers that hold a block only while they hold bytes.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use outgrow_message::ledger::BLOCK_SIZES;
use outgrow_message::{Block, Blocks, Need};
use outgrow_net::Transport;

use super::incoming::Problem;
use crate::h1::encode::Sink;

/// What a message that is passed on may bring at first beyond what was asked for: the smallest block.
pub(super) const FIRST_AHEAD: usize = 16 * 1024;
/// How much more a read may bring for each byte that was taken.
const AHEAD_PER_BYTE: usize = 4;

/// Bytes that arrived and were not taken yet.
#[derive(Debug)]
pub struct ReadBuffer {
    block: Option<Block>,
    start: usize,
    end: usize,
    /// The size of block to take next.
    class: usize,
    /// The most that one read may bring.
    ahead: usize,
}

impl Default for ReadBuffer {
    fn default() -> Self {
        Self {
            block: None,
            start: 0,
            end: 0,
            class: 0,
            ahead: usize::MAX,
        }
    }
}

impl ReadBuffer {
    /// A buffer whose first block is the largest: for what is passed on as it arrives. Such blocks
    /// come from the top of the worker's shelf and go back within the same poll, so that all
    /// connections share one that is warm; what must wait moves to a smaller one
    /// ([`ReadBuffer::settle`]).
    pub fn for_passing_on() -> Self {
        Self {
            class: BLOCK_SIZES.len() - 1,
            ..Self::default()
        }
    }

    /// The same for who may have many under way at once: how much a read may bring follows from what was
    /// taken before. Who asks for a thousand large answers on one connection and takes nothing has the
    /// smallest block of each read, not the largest.
    pub fn for_passing_on_one_of_many() -> Self {
        Self {
            ahead: FIRST_AHEAD,
            ..Self::for_passing_on()
        }
    }

    /// Those that hold these `pieces`, of so many bytes, one after the other, in blocks of up to 64 KiB of
    /// which less than the smallest is empty; none where no more may wait ([`Ledger::may_let_wait`]).
    pub(super) fn holding<'a>(
        bytes: usize,
        pieces: impl IntoIterator<Item = &'a [u8]>,
        blocks: &Arc<Blocks>,
    ) -> Option<VecDeque<Self>> {
        let (mut held, mut left) = (VecDeque::<Self>::new(), bytes);
        for mut piece in pieces {
            while !piece.is_empty() {
                if held.back().is_none_or(Self::is_full) {
                    if !blocks.ledger().may_let_wait() {
                        return None;
                    }
                    let class = usize::from(left >= BLOCK_SIZES[1]);
                    held.push_back(Self {
                        block: Some(blocks.take_class(class)?),
                        ..Self::default()
                    });
                }
                let count = held.back_mut()?.append(piece);
                piece = &piece[count..];
                left = left.saturating_sub(count);
            }
        }
        Some(held)
    }

    /// Takes what fits behind what is there.
    fn append(&mut self, piece: &[u8]) -> usize {
        let Some(block) = &mut self.block else {
            return 0;
        };
        let count = piece.len().min(block.len() - self.end);
        block[self.end..self.end + count].copy_from_slice(&piece[..count]);
        self.end += count;
        count
    }

    /// What its block takes of the ledger.
    pub(super) fn held_bytes(&self) -> u64 {
        self.block.as_ref().map_or(0, |block| block.len() as u64)
    }

    /// What is there.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        self.block
            .as_ref()
            .map_or(&[], |block| &block[self.start..self.end])
    }

    /// Whether nothing is there.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Passes over `count` bytes.
    #[inline]
    pub fn consume(&mut self, count: usize) {
        let count = count.min(self.end - self.start);
        self.start += count;
        self.ahead = self.ahead.saturating_add(count * AHEAD_PER_BYTE);
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    /// Gives the block back when nothing is in it.
    #[inline]
    pub fn release(&mut self) {
        if self.is_empty() {
            self.block = None;
        }
    }

    /// Moves what must wait to the smallest block that holds it, and gives back a block in which
    /// nothing waits; nothing changes when there is no smaller one.
    pub fn settle(&mut self, blocks: &Arc<Blocks>) {
        if self.is_empty() {
            self.block = None;
            return;
        }
        let waiting = self.end - self.start;
        if let Some(block) = &self.block
            && let Some(class) = class_for(waiting)
            && BLOCK_SIZES[class] < block.len()
            && let Some(mut smaller) = blocks.take_class(class)
        {
            smaller[..waiting].copy_from_slice(&block[self.start..self.end]);
            self.start = 0;
            self.end = waiting;
            self.block = Some(smaller);
        }
    }

    /// Says how many bytes are expected, so that large bodies get large blocks.
    #[inline]
    pub fn expect(&mut self, bytes: u64) {
        self.class = match bytes {
            0..=32_768 => 0,
            32_769..=262_144 => 1,
            _ => 2,
        };
        if self.is_empty() && self.class > 0 {
            self.block = None;
        }
    }

    /// Makes room beyond a full block, which keeps its bytes; false when there is no larger one.
    pub fn grow(&mut self, blocks: &Arc<Blocks>) -> bool {
        let Some(block) = &self.block else {
            return true;
        };
        let Some(class) = BLOCK_SIZES.iter().position(|&size| size > block.len()) else {
            return false;
        };
        let Some(mut larger) = blocks.take_class(class) else {
            return false;
        };
        let waiting = self.end - self.start;
        larger[..waiting].copy_from_slice(&block[self.start..self.end]);
        self.start = 0;
        self.end = waiting;
        self.block = Some(larger);
        true
    }

    /// Whether another read would have no room.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.start == 0
            && self
                .block
                .as_ref()
                .is_some_and(|block| self.end == block.len())
    }

    /// A stream that comes faster than it is read never leaves its block: the next size is taken
    /// between two reads.
    #[inline]
    fn replace_small(&mut self, blocks: &Arc<Blocks>) {
        let wanted = BLOCK_SIZES[self.class.min(BLOCK_SIZES.len() - 1)];
        if let Some(block) = &self.block
            && block.len() < wanted
            && let Some(larger) = blocks.take_up_to(self.class, Need::Usual)
            && larger.len() > block.len()
        {
            self.block = Some(larger);
        }
    }

    /// Reads once; `Ok(0)` is the end of the stream. A full buffer is [`Problem::Full`].
    #[inline]
    pub fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut impl Transport,
        blocks: &Arc<Blocks>,
    ) -> Poll<Result<usize, Problem>> {
        self.poll_fill_for(Need::Usual, cx, io, blocks)
    }

    /// The same for a `need`.
    #[inline]
    pub fn poll_fill_for(
        &mut self,
        need: Need,
        cx: &mut Context<'_>,
        io: &mut impl Transport,
        blocks: &Arc<Blocks>,
    ) -> Poll<Result<usize, Problem>> {
        if self.is_empty() {
            self.replace_small(blocks);
        }
        let block = match &mut self.block {
            Some(block) => block,
            none => {
                std::task::ready!(io.poll_readable(cx));
                let taken = blocks.take_up_to(self.class, need);
                none.insert(taken.ok_or(Problem::Memory)?)
            }
        };
        if self.end == block.len() {
            if self.start == 0 {
                return Poll::Ready(Err(Problem::Full));
            }
            block.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let most = self.end.saturating_add(self.ahead).min(block.len());
        match io.poll_read(cx, &mut block[self.end..most]) {
            Poll::Ready(Ok(count)) => {
                self.end += count;
                if self.end == block.len() && self.start == 0 && self.class < 2 {
                    // It came as fast as it could be read: the next block is larger.
                    self.class += 1;
                }
                Poll::Ready(Ok(count))
            }
            Poll::Ready(Err(error)) => {
                self.release();
                Poll::Ready(Err(Problem::of(&error)))
            }
            Poll::Pending => {
                self.settle(blocks);
                Poll::Pending
            }
        }
    }
}

/// Bytes on their way out.
#[derive(Debug, Default)]
pub struct WriteBuffer {
    block: Option<Block>,
    start: usize,
    end: usize,
    written: u64,
    /// Bytes were given to the transport, which may hold them back until it is flushed.
    held_back: bool,
}

/// The smallest class of block that so many bytes fit into.
fn class_for(bytes: usize) -> Option<usize> {
    BLOCK_SIZES.iter().position(|&size| size >= bytes)
}

impl WriteBuffer {
    /// Whether nothing waits here.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// What waits.
    pub fn bytes(&self) -> &[u8] {
        self.block
            .as_ref()
            .map_or(&[], |block| &block[self.start..self.end])
    }

    /// Whether nothing waits, here or in the transport.
    #[inline]
    pub fn is_flushed(&self) -> bool {
        self.is_empty() && !self.held_back
    }

    /// How many bytes the transport took, ever.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Something was given to the transport past this buffer, and is to be flushed with it.
    pub fn note_written(&mut self) {
        self.held_back = true;
    }

    /// How many bytes wait.
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Makes sure that `bytes` more fit; false when there is no memory, or more than the largest
    /// block's worth waits.
    #[inline]
    pub fn reserve(&mut self, bytes: usize, blocks: &Arc<Blocks>) -> bool {
        self.reserve_for(Need::Usual, bytes, blocks)
    }

    /// The same for a `need`.
    pub fn reserve_for(&mut self, need: Need, bytes: usize, blocks: &Arc<Blocks>) -> bool {
        let waiting = self.len();
        match &mut self.block {
            Some(block) if block.len() - self.end >= bytes => true,
            Some(block) if self.start > 0 && block.len() - waiting >= bytes => {
                block.copy_within(self.start..self.end, 0);
                self.end = waiting;
                self.start = 0;
                true
            }
            Some(_) if waiting > 0 => self.move_to_larger(need, bytes, blocks),
            _ => {
                self.start = 0;
                self.end = 0;
                self.block = class_for(bytes).and_then(|class| blocks.take_for(need, class));
                self.block.is_some()
            }
        }
    }

    fn move_to_larger(&mut self, need: Need, bytes: usize, blocks: &Arc<Blocks>) -> bool {
        let waiting = self.len();
        let class = class_for(waiting + bytes);
        let Some(mut larger) = class.and_then(|class| blocks.take_for(need, class)) else {
            return false;
        };
        if let Some(block) = &self.block {
            larger[..waiting].copy_from_slice(&block[self.start..self.end]);
        }
        self.start = 0;
        self.end = waiting;
        self.block = Some(larger);
        true
    }

    /// Whether [`WriteBuffer::reserve`] would not need a larger block than it has.
    #[inline]
    pub fn fits(&self, bytes: usize) -> bool {
        let waiting = self.len();
        waiting == 0
            || self
                .block
                .as_ref()
                .is_some_and(|block| block.len() - waiting >= bytes)
    }

    /// How many bytes fit without taking memory.
    #[inline]
    pub fn room(&self) -> usize {
        self.block
            .as_ref()
            .map_or(0, |block| block.len() - self.end)
    }

    /// Appends; what does not fit is left out, so reserve first.
    #[inline]
    pub fn append(&mut self, bytes: &[u8]) -> usize {
        let Some(block) = &mut self.block else {
            return 0;
        };
        let count = bytes.len().min(block.len() - self.end);
        block[self.end..self.end + count].copy_from_slice(&bytes[..count]);
        self.end += count;
        count
    }

    /// The waiting bytes with the room before and after them, for closing a chunk in place:
    /// (buffer, start, end).
    pub(super) fn parts(&mut self) -> Option<(&mut [u8], &mut usize, &mut usize)> {
        let block = self.block.as_deref_mut()?;
        Some((block, &mut self.start, &mut self.end))
    }

    /// Position of the next byte to be appended.
    pub(super) fn position(&self) -> usize {
        self.end
    }

    /// Writes all that waits.
    #[inline]
    pub fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut impl Transport,
    ) -> Poll<io::Result<()>> {
        while let Some(block) = &self.block {
            if self.start == self.end {
                self.block = None;
                break;
            }
            let count = ready!(io.poll_write(cx, &block[self.start..self.end]))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.start += count;
            self.written += count as u64;
            self.held_back = true;
        }
        self.start = 0;
        self.end = 0;
        if self.held_back {
            ready!(io.poll_flush(cx))?;
            self.held_back = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Writes what waits and, in the same call, `tail`; how much of `tail` was taken.
    pub fn poll_flush_with(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut impl Transport,
        tail: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            let waiting = self.len();
            let count = match &self.block {
                Some(block) if waiting > 0 => {
                    let head = IoSlice::new(&block[self.start..self.end]);
                    ready!(io.poll_write_vectored(cx, &[head, IoSlice::new(tail)]))?
                }
                _ => ready!(io.poll_write(cx, tail))?,
            };
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += count as u64;
            self.held_back = true;
            if count >= waiting {
                self.start = 0;
                self.end = 0;
                self.block = None;
                if count > waiting {
                    return Poll::Ready(Ok(count - waiting));
                }
            } else {
                self.start += count;
            }
        }
    }
}

impl Sink for WriteBuffer {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.append(bytes);
    }
}
