//! A response on its way out: what the connection has not taken yet, and what it holds until the
//! client acknowledges it, in blocks that the ledger counts.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use outgrow_message::Blocks;
use outgrow_message::ledger::{BLOCK_SIZES, Charge};
use quinn::SendStream;

use super::code::Code;
use super::frame::{self, FrameHead};
use super::sent::{Held, Memory};
use super::shared::Shared;
use super::turn::Turn;

/// Up to here a block would be mostly empty.
const SMALL_BYTES: usize = 2 * 1024;
/// What one connection may hold until it is acknowledged while memory is short. Else its send window
/// is the limit.
const TIGHT_BYTES: usize = 4 * BLOCK_SIZES[0];
/// How long a frame of small pieces becomes.
const GATHERED_BYTES: usize = 8 * 1024;
/// The head of a DATA frame whose length is put in later.
const OPEN_HEAD: [u8; 3] = [frame::DATA as u8, 0, 0];
/// What QUIC and the allocator have of each piece beside its bytes.
const PIECE_BYTES: usize = 128;
/// What a frame's head takes before so much data as a block has.
const HEAD_BYTES: usize = 5;

/// Why nothing more can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotSent {
    /// The client wants no more, or the connection has ended.
    Ended,
    /// The ledger gave no buffer.
    Memory,
}

#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) stream: SendStream,
    shared: Arc<Shared>,
    turn: Turn,
    /// What the connection has not taken yet: a head, a piece of the body, trailers.
    waiting: VecDeque<Bytes>,
    /// A DATA frame behind that, which may become longer.
    gathered: Option<(Vec<u8>, Charge)>,
    /// The end is to follow.
    ends: bool,
    has_ended: bool,
    /// The client wants no more, or the connection has ended.
    is_over: bool,
    written: u64,
    /// Where the stretch began that counts for its turn.
    turn_from: u64,
}

impl Outgoing {
    pub(super) fn new(stream: SendStream, shared: Arc<Shared>) -> Self {
        Self {
            stream,
            turn: Turn::new(&shared.levels),
            shared,
            waiting: VecDeque::new(),
            gathered: None,
            ends: false,
            has_ended: false,
            is_over: false,
            written: 0,
            turn_from: 0,
        }
    }

    /// Bytes that the connection took, ever.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Whether all was taken, the end too.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Takes what fields say of how urgent it is.
    pub(super) fn prioritise<'v>(&mut self, values: impl Iterator<Item = &'v [u8]>) {
        self.turn.take(values, &self.stream);
    }

    /// There was nothing more to send for a moment: another stretch begins.
    pub(super) fn pause(&mut self) {
        self.turn_from = self.written;
    }

    fn wait(&mut self, memory: Memory) {
        let bytes = Held::bytes(memory, &self.shared.sent, self.turn.under_way());
        self.waiting.push_back(bytes);
    }

    /// Gives frames to the connection, behind what waits.
    pub(super) fn put(&mut self, frames: Vec<u8>) {
        if !frames.is_empty() {
            self.seal();
            // A head goes out however little memory there is; others get less for it.
            let bytes = frames.capacity() + PIECE_BYTES;
            let charge = self.shared.account.charge_anyway(bytes);
            self.wait(Memory::Small(frames, charge));
            self.try_flush();
        }
    }

    /// Ends the response behind what waits.
    pub(super) fn end(&mut self) {
        self.ends = true;
        self.try_flush();
    }

    /// What the connection takes now goes now; for the rest somebody waits later.
    fn try_flush(&mut self) {
        let mut nobody = Context::from_waker(Waker::noop());
        let _ = self.poll_flush(&mut nobody);
    }

    /// Takes some of `data`, which is not empty; how much. Small pieces are gathered in one frame until
    /// [`Outgoing::poll_flush`]: each that QUIC has costs it more than a few bytes, and it looks through
    /// all of them, one after the other.
    pub(super) fn poll_push(
        &mut self,
        cx: &mut Context<'_>,
        data: &[u8],
        blocks: &Arc<Blocks>,
    ) -> Poll<Result<usize, NotSent>> {
        let stretch = self.written - self.turn_from;
        self.turn.share(stretch, &self.stream);
        ready!(self.poll_waiting(cx))?;
        let count = data.len().min(BLOCK_SIZES[0] - HEAD_BYTES);
        let data = &data[..count];
        let is_small = count <= SMALL_BYTES;
        if is_small && self.gather(data) {
            return Poll::Ready(Ok(count));
        }
        self.seal();
        ready!(self.poll_waiting(cx))?;
        if is_small {
            let bytes = OPEN_HEAD.len() + count;
            let charge = || self.shared.account.charge(bytes + PIECE_BYTES);
            let charge = ready!(self.poll_memory(cx, charge))?;
            let mut frame = Vec::with_capacity(bytes);
            frame.extend_from_slice(&OPEN_HEAD);
            frame.extend_from_slice(data);
            self.gathered = Some((frame, charge));
            return Poll::Ready(Ok(count));
        }
        let mut block = ready!(self.poll_memory(cx, || blocks.take()))?;
        let mut head = Vec::with_capacity(HEAD_BYTES);
        FrameHead {
            kind: frame::DATA,
            length: count as u64,
        }
        .put(&mut head);
        let end = head.len() + count;
        block[..head.len()].copy_from_slice(&head);
        block[head.len()..end].copy_from_slice(data);
        self.wait(Memory::Block(block, end));
        // It is ours now, whether or not the connection takes it at once.
        match self.poll_waiting(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(count)),
        }
    }

    /// Puts a small piece behind those that were gathered, if there are any, and room and memory.
    fn gather(&mut self, data: &[u8]) -> bool {
        let is_short = self.has_enough();
        let Some((frame, charge)) = &mut self.gathered else {
            return false;
        };
        let length = frame.len() + data.len();
        if is_short || length > GATHERED_BYTES {
            return false;
        }
        if length > frame.capacity() {
            let capacity = (2 * frame.capacity()).clamp(length, GATHERED_BYTES);
            let more = capacity - frame.capacity();
            let Some(more) = self.shared.account.charge(more) else {
                return false;
            };
            charge.join(more);
            frame.reserve_exact(capacity - frame.len());
        }
        frame.extend_from_slice(data);
        true
    }

    /// What was gathered becomes a frame that waits.
    fn seal(&mut self) {
        let Some((mut frame, charge)) = self.gathered.take() else {
            return;
        };
        // Two bytes, however short it is (RFC 9000 section 16).
        let length = (frame.len() - OPEN_HEAD.len()) as u16;
        frame[1..OPEN_HEAD.len()].copy_from_slice(&(0x4000 | length).to_be_bytes());
        self.wait(Memory::Small(frame, charge));
    }

    /// Whether the connection holds as much as it may while memory is short.
    fn has_enough(&self) -> bool {
        self.shared.account.is_tight() && self.shared.sent.held() >= TIGHT_BYTES
    }

    /// Memory for a piece. While it is short a connection has little of it at a time; where there is
    /// none, what was sent before comes back as it is acknowledged.
    fn poll_memory<M>(
        &self,
        cx: &mut Context<'_>,
        take: impl Fn() -> Option<M>,
    ) -> Poll<Result<M, NotSent>> {
        let take = || match self.has_enough() {
            true => None,
            false => take(),
        };
        if let Some(memory) = take() {
            return Poll::Ready(Ok(memory));
        }
        self.shared.sent.wait_for_room(cx);
        // It may have come back meanwhile; where nothing will, nobody would wake us. What a connection
        // that has ended holds is held until its streams have gone.
        match take() {
            Some(memory) => Poll::Ready(Ok(memory)),
            None if self.shared.has_ended() => Poll::Ready(Err(NotSent::Ended)),
            None if self.shared.sent.held() > 0 => Poll::Pending,
            None => Poll::Ready(Err(NotSent::Memory)),
        }
    }

    /// Gives the connection what was gathered and what waits, and the end.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), NotSent>> {
        self.seal();
        self.poll_waiting(cx)
    }

    fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), NotSent>> {
        if self.is_over {
            return Poll::Ready(Err(NotSent::Ended));
        }
        while let Some(front) = self.waiting.front_mut() {
            let written = {
                // It is done within one poll, and registers who is to be woken with the connection.
                let write = self.stream.write_chunks(std::slice::from_mut(front));
                ready!(pin!(write).poll(cx))
            };
            match written {
                Ok(written) => self.written += written.bytes as u64,
                Err(_) => {
                    self.is_over = true;
                    self.waiting.clear();
                    return Poll::Ready(Err(NotSent::Ended));
                }
            }
            if front.is_empty() {
                self.waiting.pop_front();
            }
        }
        if self.ends && !self.has_ended {
            self.has_ended = true;
            // It fails only where the client wants no more, which nobody waits for any more.
            let _ = self.stream.finish();
        }
        Poll::Ready(Ok(()))
    }

    /// Ends the stream visibly early.
    pub(super) fn reset(&mut self, code: Code) {
        self.waiting.clear();
        self.gathered = None;
        self.ends = false;
        // It fails when there is nothing left to reset.
        let _ = self.stream.reset(code.number());
    }
}
