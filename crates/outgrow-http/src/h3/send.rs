//! A response on its way out: what the connection has not taken yet, and what it holds until the
//! client acknowledges it, in blocks that the ledger counts.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use outgrow_message::Blocks;
use outgrow_message::ledger::BLOCK_SIZES;
use quinn::SendStream;

use super::code::Code;
use super::frame::{self, FrameHead};
use super::sent::{Held, Memory};
use super::shared::Shared;

/// Up to here a block would be mostly empty.
const SMALL_BYTES: usize = 2 * 1024;
/// What one connection may hold until it is acknowledged while memory is short. Else its send window
/// is the limit.
const TIGHT_BYTES: usize = 4 * BLOCK_SIZES[0];
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
    /// What the connection has not taken yet: a head, a piece of the body, trailers.
    waiting: VecDeque<Bytes>,
    /// The end is to follow.
    ends: bool,
    has_ended: bool,
    /// The client wants no more, or the connection has ended.
    is_over: bool,
    written: u64,
}

impl Outgoing {
    pub(super) fn new(stream: SendStream, shared: Arc<Shared>) -> Self {
        Self {
            stream,
            shared,
            waiting: VecDeque::new(),
            ends: false,
            has_ended: false,
            is_over: false,
            written: 0,
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

    /// Gives frames to the connection, behind what waits.
    pub(super) fn put(&mut self, frames: Vec<u8>) {
        if !frames.is_empty() {
            // A head goes out however little memory there is; others get less for it.
            let charge = self.shared.account.charge_anyway(frames.capacity());
            let bytes = Held::bytes(Memory::Small(frames, charge), &self.shared.sent);
            self.waiting.push_back(bytes);
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

    /// Takes some of `data`, which is not empty, as a frame of its own; how much.
    pub(super) fn poll_push(
        &mut self,
        cx: &mut Context<'_>,
        data: &[u8],
        blocks: &Arc<Blocks>,
    ) -> Poll<Result<usize, NotSent>> {
        ready!(self.poll_flush(cx))?;
        let count = data.len().min(BLOCK_SIZES[0] - HEAD_BYTES);
        let mut head = Vec::with_capacity(if count <= SMALL_BYTES {
            count + HEAD_BYTES
        } else {
            HEAD_BYTES
        });
        FrameHead {
            kind: frame::DATA,
            length: count as u64,
        }
        .put(&mut head);
        let memory = if count <= SMALL_BYTES {
            let charge = || self.shared.account.charge(count + HEAD_BYTES);
            let charge = ready!(self.poll_memory(cx, charge))?;
            head.extend_from_slice(&data[..count]);
            Memory::Small(head, charge)
        } else {
            let mut block = ready!(self.poll_memory(cx, || blocks.take()))?;
            let end = head.len() + count;
            block[..head.len()].copy_from_slice(&head);
            block[head.len()..end].copy_from_slice(&data[..count]);
            Memory::Block(block, end)
        };
        self.waiting
            .push_back(Held::bytes(memory, &self.shared.sent));
        // It is ours now, whether or not the connection takes it at once.
        match self.poll_flush(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(count)),
        }
    }

    /// Memory for a piece. While it is short a connection has little of it at a time; where there is
    /// none, what was sent before comes back as it is acknowledged.
    fn poll_memory<M>(
        &self,
        cx: &mut Context<'_>,
        take: impl Fn() -> Option<M>,
    ) -> Poll<Result<M, NotSent>> {
        let take = || {
            let held = self.shared.sent.held();
            match self.shared.account.is_tight() && held >= TIGHT_BYTES {
                true => None,
                false => take(),
            }
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

    /// Gives the connection what waits, and the end.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), NotSent>> {
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
        self.ends = false;
        // It fails when there is nothing left to reset.
        let _ = self.stream.reset(code.number());
    }
}
