//! What is kept of a request's body, so that it can be sent again.

use std::sync::Arc;

use outgrow_http::conn::WriteBuffer;
use outgrow_message::{Block, Blocks};

/// The bytes of a request body that were sent already, kept so that they can be sent again.
#[derive(Debug, Default)]
pub(crate) struct Replay {
    block: Option<Block>,
    length: usize,
    /// Bytes that were taken and not kept: they lie in the endpoint's buffer until it writes them.
    unsent: usize,
    /// More was sent than is kept.
    lost: bool,
}

impl Replay {
    /// After an attempt has failed: keeps what was taken of the body and lies in `outgoing` yet,
    /// if not a byte was written of that (and it is not `framed`). Whether the body can be sent
    /// from its beginning.
    pub(crate) fn recover(
        &mut self,
        outgoing: &WriteBuffer,
        framed: bool,
        blocks: &Arc<Blocks>,
    ) -> bool {
        let unsent = std::mem::take(&mut self.unsent);
        if unsent > 0 {
            let waiting = outgoing.bytes();
            match waiting.len().checked_sub(unsent) {
                Some(at) if !framed && outgoing.written() == 0 => {
                    self.keep(&waiting[at..], true, blocks);
                }
                _ => self.lost = true,
            }
        }
        !self.lost
    }

    pub(super) fn keep(&mut self, bytes: &[u8], wanted: bool, blocks: &Arc<Blocks>) {
        if self.lost {
            return;
        }
        if !wanted {
            self.unsent += bytes.len();
            return;
        }
        if self.block.is_none() {
            self.block = blocks.take_class(1);
        }
        match &mut self.block {
            Some(block) if block.len() - self.length >= bytes.len() => {
                block[self.length..self.length + bytes.len()].copy_from_slice(bytes);
                self.length += bytes.len();
            }
            _ => {
                self.lost = true;
                self.block = None;
            }
        }
    }

    /// Whether something is missing that was sent.
    pub(super) fn is_lost(&self) -> bool {
        self.lost
    }

    /// Keeps nothing any more.
    pub(super) fn give_up(&mut self) {
        if self.block.is_some() {
            *self = Self {
                lost: true,
                ..Self::default()
            };
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.block
            .as_ref()
            .map_or(&[], |block| &block[..self.length])
    }
}

#[cfg(test)]
mod tests {
    use outgrow_message::Ledger;

    use super::*;

    /// A small body waits behind its head in the endpoint's buffer: as long as nothing of that was
    /// written it is as good as kept, and costs no copy.
    #[test]
    fn what_was_never_written_is_not_lost() {
        let blocks = Blocks::new(Ledger::new(1 << 20));
        for (name, waiting, framed, kept) in [
            (
                "behind its head",
                &b"head: x\r\n\r\nhello"[..],
                false,
                Some(&b"hello"[..]),
            ),
            ("in chunks", b"head: x\r\n\r\n5\r\nhello", true, None),
            ("written already", b"", false, None),
        ] {
            let mut outgoing = WriteBuffer::default();
            assert!(outgoing.reserve(100, &blocks));
            outgoing.append(waiting);
            let mut replay = Replay::default();
            replay.keep(b"he", false, &blocks);
            replay.keep(b"llo", false, &blocks);
            assert!(
                replay.bytes().is_empty(),
                "{name}: nothing is copied in advance"
            );
            let whole = replay.recover(&outgoing, framed, &blocks);
            assert_eq!(whole.then(|| replay.bytes()), kept, "{name}");
        }
    }
}
