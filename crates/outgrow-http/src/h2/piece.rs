//! Body bytes on their way out: in a block that the ledger counts, or, when they are few, in
//! memory of their own.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use outgrow_message::ledger::BLOCK_SIZES;
use outgrow_message::{Block, Blocks};

/// The most that one piece holds: a block of the smallest size, and the usual DATA frame.
pub(super) const PIECE_BYTES: usize = BLOCK_SIZES[0];

/// Up to here a block would be mostly empty; the send buffer's bound is enough.
const SMALL_BYTES: usize = 4 * 1024;

/// Some bytes of a response's body.
#[derive(Debug)]
pub(super) enum Piece {
    Small(Bytes),
    Block {
        block: Block,
        start: usize,
        end: usize,
    },
}

impl Piece {
    /// Nothing, for a frame that only ends the stream.
    pub(super) fn empty() -> Self {
        Self::Small(Bytes::new())
    }

    /// A copy of `data`, of at most [`PIECE_BYTES`]; none when the ledger is full.
    pub(super) fn copy(data: &[u8], blocks: &Arc<Blocks>) -> Option<Self> {
        if data.len() <= SMALL_BYTES {
            return Some(Self::Small(Bytes::copy_from_slice(data)));
        }
        let mut block = blocks.take()?;
        let end = data.len().min(block.len());
        block[..end].copy_from_slice(&data[..end]);
        Some(Self::Block {
            block,
            start: 0,
            end,
        })
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        match self {
            Self::Small(bytes) => bytes.len(),
            Self::Block { start, end, .. } => end - start,
        }
    }

    fn chunk(&self) -> &[u8] {
        match self {
            Self::Small(bytes) => bytes,
            Self::Block { block, start, end } => &block[*start..*end],
        }
    }

    fn advance(&mut self, count: usize) {
        match self {
            Self::Small(bytes) => bytes.advance(count),
            Self::Block { start, end, .. } => *start = (*start + count).min(*end),
        }
    }
}
