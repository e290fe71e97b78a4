//! One direction of a relay: bytes are read into a block, judged message by message, and written
//! from where they lie as long as they go on unchanged.
//!
//! What is changed, left out or added makes the rest of the batch be copied; both happen with
//! small messages only. An empty flow holds no block.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use outgrow_message::ledger::Need;
use outgrow_message::{Block, Blocks};
use outgrow_net::Transport;

/// The largest block: messages that are looked at as a whole fit into it.
pub(crate) const LARGEST: usize = 256 * 1024;
/// What may wait to be written besides the block; more is judged when it is gone.
const OUT_LIMIT: usize = 256 * 1024;
/// What a buffer of written bytes may keep for the next ones.
const OUT_KEPT: usize = 4 * 1024;

/// What became of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// Bytes came.
    Some,
    /// The peer has ended.
    End,
    /// There is no memory to read into at the moment.
    NoMemory,
}

/// Counts so many units of work against what the task may do before others have their turn. Pending: it
/// has done enough, and goes on by itself.
#[inline]
pub(crate) fn proceed(cx: &mut Context<'_>, units: u32) -> Poll<()> {
    for _ in 0..units {
        ready!(tokio::task::coop::poll_proceed(cx)).made_progress();
    }
    Poll::Ready(())
}

/// One direction.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    block: Option<Block>,
    start: usize,
    end: usize,
    /// Bytes from `start` on that go on as they are.
    direct: usize,
    /// Bytes of the message under way that are not there yet and need no look.
    rest: usize,
    /// Whether those are left out.
    drops_rest: bool,
    out: Vec<u8>,
    written: usize,
    /// The last read filled the block: the next one is larger.
    filled: bool,
    /// The bytes that a message needs to be whole.
    wanted: usize,
    /// The task that reads is to be woken already when something comes.
    waits: bool,
    /// All that was written.
    pub(crate) bytes: u64,
    /// A copy of what goes on, and how much of it there may be.
    copy: Option<Box<(Vec<u8>, usize)>>,
}

impl Flow {
    /// What was read and not judged.
    #[inline]
    pub(crate) fn unread(&self) -> &[u8] {
        match &self.block {
            Some(block) => &block[self.start + self.direct..self.end],
            None => &[],
        }
    }

    /// The same, to be changed where it lies.
    pub(crate) fn unread_mut(&mut self) -> &mut [u8] {
        match &mut self.block {
            Some(block) => &mut block[self.start + self.direct..self.end],
            None => &mut [],
        }
    }

    /// Whether nothing is held: neither unjudged nor unwritten.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end && self.rest == 0 && !self.is_pending()
    }

    /// Whether a message's body is under way that is not looked at.
    #[inline]
    pub(crate) fn is_amid(&self) -> bool {
        self.rest > 0
    }

    /// Whether something waits to be written.
    #[inline]
    pub(crate) fn is_pending(&self) -> bool {
        self.direct > 0 || self.written < self.out.len()
    }

    /// Whether more may be judged before what waits is written.
    #[inline]
    pub(crate) fn has_room(&self) -> bool {
        self.out.len() - self.written < OUT_LIMIT
    }

    /// Bytes that wait to be written.
    pub(crate) fn waiting(&self) -> usize {
        self.direct + self.out.len() - self.written
    }

    /// Takes back all that waits to be written.
    pub(crate) fn take_back(&mut self) {
        let direct = std::mem::take(&mut self.direct);
        self.start += direct;
        self.out.clear();
        self.written = 0;
        self.tidy();
    }

    /// Puts `bytes` before what was not judged; what waits to be written is taken back. False when there
    /// is no memory for it, or it is more than a block takes.
    pub(crate) fn restore(&mut self, bytes: &[u8], blocks: &Arc<Blocks>) -> bool {
        self.take_back();
        let unread = self.unread();
        let whole = bytes.len() + unread.len();
        let block = (whole <= LARGEST).then(|| blocks.take_for(Need::Usual, class_of(whole)));
        let Some(mut block) = block.flatten() else {
            return false;
        };
        block[..bytes.len()].copy_from_slice(bytes);
        block[bytes.len()..whole].copy_from_slice(unread);
        self.block = Some(block);
        self.start = 0;
        self.end = whole;
        self.tidy();
        true
    }

    /// From now on what goes on is copied, as long as it is at most `limit` bytes.
    pub(crate) fn record(&mut self, limit: usize) {
        self.copy = Some(Box::new((Vec::new(), limit)));
    }

    /// The copy, which ends with this; none when there is none, or it was too much.
    pub(crate) fn recorded(&mut self) -> Option<Vec<u8>> {
        self.copy.take().map(|copy| copy.0)
    }

    #[cold]
    fn copy_range(&mut self, range: std::ops::Range<usize>, is_out: bool) {
        let Some(copy) = &mut self.copy else {
            return;
        };
        if copy.0.len() + range.len() > copy.1 {
            self.copy = None;
        } else if is_out {
            copy.0.extend_from_slice(&self.out[range]);
        } else if let Some(block) = &self.block {
            copy.0.extend_from_slice(&block[range]);
        }
    }

    /// Lets `count` unjudged bytes go on.
    #[inline]
    pub(crate) fn pass(&mut self, count: usize) {
        if self.copy.is_some() {
            let from = self.start + self.direct;
            self.copy_range(from..from + count, false);
        }
        if self.written == self.out.len() {
            self.direct += count;
        } else {
            self.copy(count);
        }
    }

    /// Lets a message of `whole` bytes go on, of which some may not have come yet.
    #[inline]
    pub(crate) fn pass_message(&mut self, whole: usize) {
        let there = self.unread().len().min(whole);
        self.pass(there);
        self.rest = whole - there;
        self.drops_rest = false;
    }

    /// Leaves out `count` unjudged bytes.
    pub(crate) fn leave_out(&mut self, count: usize) {
        self.settle_direct();
        self.start += count;
        self.tidy();
    }

    /// Leaves out a message of `whole` bytes, of which some may not have come yet.
    pub(crate) fn leave_out_message(&mut self, whole: usize) {
        let there = self.unread().len().min(whole);
        self.leave_out(there);
        self.rest = whole - there;
        self.drops_rest = true;
    }

    /// Deals with the body that is under way; true when it is over.
    #[inline]
    pub(crate) fn go_on(&mut self) -> bool {
        if self.rest == 0 {
            return true;
        }
        let there = self.unread().len().min(self.rest);
        if self.drops_rest {
            self.leave_out(there);
        } else {
            self.pass(there);
        }
        self.rest -= there;
        self.rest == 0
    }

    /// Adds bytes of our own.
    pub(crate) fn put<R>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        self.settle_direct();
        if self.written == self.out.len() {
            self.out.clear();
            self.written = 0;
        }
        let before = self.out.len();
        let written = write(&mut self.out);
        if self.copy.is_some() {
            self.copy_range(before..self.out.len(), true);
        }
        written
    }

    /// Replaces the first `count` unjudged bytes.
    pub(crate) fn replace(&mut self, count: usize, write: impl FnOnce(&[u8], &mut Vec<u8>)) {
        self.settle_direct();
        if let Some(block) = &self.block {
            let bytes = &block[self.start..self.start + count];
            if self.written == self.out.len() {
                self.out.clear();
                self.written = 0;
            }
            write(bytes, &mut self.out);
        }
        self.start += count;
        self.tidy();
    }

    fn settle_direct(&mut self) {
        let direct = std::mem::take(&mut self.direct);
        if direct > 0 {
            self.copy(direct);
        }
    }

    fn copy(&mut self, count: usize) {
        if self.written == self.out.len() {
            self.out.clear();
            self.written = 0;
        }
        if let Some(block) = &self.block {
            self.out
                .extend_from_slice(&block[self.start..self.start + count]);
        }
        self.start += count;
        self.tidy();
    }

    #[inline]
    fn tidy(&mut self) {
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
            self.block = None;
        }
    }

    /// Says how many bytes the next message needs to be whole.
    pub(crate) fn want(&mut self, bytes: usize) {
        self.wanted = bytes;
    }

    /// Makes room to read. False when there is no memory.
    fn make_room(&mut self, blocks: &Arc<Blocks>) -> bool {
        let held = self.end - self.start;
        let class = class_of(self.wanted.max(held + 1));
        let reads_much = self.filled && self.wanted == 0;
        let class = class.max(usize::from(reads_much));
        let Some(block) = &mut self.block else {
            self.block = blocks.take_up_to(class, Need::Usual);
            return self.block.is_some();
        };
        if self.end < block.len() && self.start + self.wanted.max(1) <= block.len() {
            return true;
        }
        if self.start > 0 && held < block.len() && self.wanted <= block.len() {
            block.copy_within(self.start..self.end, 0);
        } else {
            let Some(mut larger) = blocks.take_for(Need::Usual, class) else {
                return false;
            };
            larger[..held].copy_from_slice(&block[self.start..self.end]);
            self.block = Some(larger);
        }
        self.start = 0;
        self.end = held;
        true
    }

    /// Another task reads from now on, or somebody has read from the source by another way.
    #[inline]
    pub(crate) fn change_task(&mut self) {
        self.waits = false;
    }

    /// Reads once. To be called when nothing waits to be written, by one task until
    /// [`Flow::change_task`], and a bounded number of times in one turn of it.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut impl Transport,
        blocks: &Arc<Blocks>,
    ) -> Poll<io::Result<Read>> {
        if self.block.is_none() {
            ready!(source.poll_readable_again(cx, &mut self.waits));
        }
        self.waits = false;
        if !self.make_room(blocks) {
            return Poll::Ready(Ok(Read::NoMemory));
        }
        let Some(block) = &mut self.block else {
            return Poll::Ready(Ok(Read::NoMemory));
        };
        let read = source.poll_read_unmetered(cx, &mut block[self.end..]);
        match read {
            Poll::Ready(Ok(count)) => {
                self.end += count;
                self.filled = self.end == block.len();
                if self.end - self.start >= self.wanted {
                    self.wanted = 0;
                }
                self.tidy();
                Poll::Ready(Ok(if count == 0 { Read::End } else { Read::Some }))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                self.tidy();
                Poll::Pending
            }
        }
    }

    /// Writes all that waits.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        target: &mut impl Transport,
    ) -> Poll<io::Result<()>> {
        while self.written < self.out.len() {
            let count = ready!(target.poll_write_unmetered(cx, &self.out[self.written..]))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += count;
            self.bytes += count as u64;
        }
        if self.written > 0 {
            self.written = 0;
            self.out.clear();
            if self.out.capacity() > OUT_KEPT {
                self.out = Vec::new();
            }
        }
        while self.direct > 0 {
            let Some(block) = &self.block else { break };
            let bytes = &block[self.start..self.start + self.direct];
            let count = ready!(target.poll_write_unmetered(cx, bytes))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.start += count;
            self.direct -= count;
            self.bytes += count as u64;
        }
        self.tidy();
        target.poll_flush(cx)
    }

    /// Puts in what was read before; false when there is no memory, or too much of it.
    pub(crate) fn preload(&mut self, bytes: &[u8], blocks: &Arc<Blocks>) -> bool {
        if bytes.is_empty() {
            return true;
        }
        self.wanted = bytes.len();
        if bytes.len() > LARGEST || !self.make_room(blocks) {
            return false;
        }
        self.wanted = 0;
        if let Some(block) = &mut self.block {
            block[..bytes.len()].copy_from_slice(bytes);
            self.end = bytes.len();
        }
        true
    }

    /// Whether a read would not need a larger block: for who reads ahead.
    pub(crate) fn has_room_to_read(&self) -> bool {
        !self.is_pending()
            && self
                .block
                .as_ref()
                .is_none_or(|block| self.end < block.len())
    }
}

/// The class of blocks that hold so many bytes.
fn class_of(bytes: usize) -> usize {
    match bytes {
        0..=16_384 => 0,
        16_385..=65_536 => 1,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use outgrow_message::Ledger;
    use std::io::IoSlice;

    use super::*;

    /// Gives bytes in pieces, takes at most `takes` at a time.
    #[derive(Default)]
    struct Pipe {
        gives: Vec<u8>,
        piece: usize,
        taken: Vec<u8>,
        takes: usize,
    }

    impl Transport for Pipe {
        fn poll_read(&mut self, _: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
            if self.gives.is_empty() {
                return Poll::Pending;
            }
            let count = self.piece.min(self.gives.len()).min(buffer.len());
            buffer[..count].copy_from_slice(&self.gives[..count]);
            self.gives.drain(..count);
            Poll::Ready(Ok(count))
        }

        fn poll_write(&mut self, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            let count = bytes.len().min(self.takes);
            self.taken.extend_from_slice(&bytes[..count]);
            Poll::Ready(Ok(count))
        }

        fn poll_write_vectored(
            &mut self,
            _: &mut Context<'_>,
            _: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            Poll::Pending
        }

        fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn bytes_pass_are_left_out_replaced_and_added() {
        let blocks = Blocks::new(Ledger::new(8 << 20));
        let mut cx = Context::from_waker(std::task::Waker::noop());
        for piece in [1, 3, 7, 100] {
            let mut pipe = Pipe {
                gives: b"aaaabbbbccccdddd".to_vec(),
                piece,
                takes: 3,
                ..Pipe::default()
            };
            let mut flow = Flow::default();
            let mut judged = 0;
            loop {
                while flow.unread().len() >= 4 {
                    match judged {
                        0 => flow.pass(4),
                        1 => flow.leave_out(4),
                        2 => flow.replace(4, |old, out| {
                            assert_eq!(old, b"cccc");
                            out.extend_from_slice(b"C");
                        }),
                        _ => {
                            flow.put(|out| out.extend_from_slice(b"<"));
                            flow.pass(4);
                        }
                    }
                    judged += 1;
                }
                assert!(flow.poll_write(&mut cx, &mut pipe).is_ready());
                let Poll::Ready(read) = flow.poll_read(&mut cx, &mut pipe, &blocks) else {
                    break;
                };
                assert_eq!(read.expect("no error"), Read::Some);
            }
            assert_eq!(pipe.taken, b"aaaaC<dddd", "in pieces of {piece}");
            assert!(flow.is_empty() && flow.block.is_none());
        }
    }

    #[test]
    fn what_is_not_judged_fills_the_largest_block() {
        let blocks = Blocks::new(Ledger::new(8 << 20));
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut pipe = Pipe {
            gives: vec![b'x'; LARGEST],
            piece: LARGEST,
            ..Pipe::default()
        };
        let mut flow = Flow::default();
        while flow.unread().len() < LARGEST {
            let read = flow.poll_read(&mut cx, &mut pipe, &blocks);
            let held = flow.unread().len();
            assert!(matches!(read, Poll::Ready(Ok(Read::Some))), "{held}");
        }
        assert!(!flow.has_room_to_read());
    }

    #[test]
    fn what_was_judged_is_restored() {
        let blocks = Blocks::new(Ledger::new(8 << 20));
        let mut cx = Context::from_waker(std::task::Waker::noop());
        for behind in [0, 10, 20_000, LARGEST - 8] {
            let mut pipe = Pipe {
                gives: [&b"aaaabbbb"[..], &vec![b'c'; behind]].concat(),
                piece: LARGEST,
                takes: 100,
                ..Pipe::default()
            };
            let mut flow = Flow::default();
            while !pipe.gives.is_empty() {
                assert!(flow.poll_read(&mut cx, &mut pipe, &blocks).is_ready());
            }
            flow.pass(4);
            flow.replace(4, |_, out| out.extend_from_slice(b"B"));
            assert_eq!(flow.waiting(), 5);
            if behind == 10 {
                // Some of it was sent already.
                assert!(flow.poll_write(&mut cx, &mut pipe).is_ready());
            }
            assert!(flow.restore(b"aaaabbbb", &blocks), "{behind}");
            assert_eq!((flow.waiting(), flow.unread().len()), (0, behind + 8));
            assert!(flow.unread().starts_with(b"aaaabbbb"));
            assert!(flow.unread()[8..].iter().all(|byte| *byte == b'c'));
            assert!(!flow.restore(&vec![b'd'; LARGEST], &blocks), "too much");
        }
    }

    #[test]
    fn bodies_pass_without_being_whole() {
        let blocks = Blocks::new(Ledger::new(8 << 20));
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut pipe = Pipe {
            gives: vec![b'x'; 1_000_000],
            piece: 300_000,
            takes: 70_000,
            ..Pipe::default()
        };
        let mut flow = Flow::default();
        let mut begun = false;
        loop {
            if !flow.unread().is_empty() && !begun {
                begun = true;
                flow.pass_message(1_000_000);
            } else {
                flow.go_on();
            }
            assert!(flow.poll_write(&mut cx, &mut pipe).is_ready());
            if flow.poll_read(&mut cx, &mut pipe, &blocks).is_pending() {
                break;
            }
        }
        assert_eq!(pipe.taken.len(), 1_000_000);
        assert!(!flow.is_amid());
    }

    #[test]
    fn a_message_that_is_to_be_whole_gets_room() {
        let blocks = Blocks::new(Ledger::new(8 << 20));
        let mut cx = Context::from_waker(std::task::Waker::noop());
        for size in [10, 16_384, 16_385, 70_000, LARGEST] {
            let mut pipe = Pipe {
                gives: vec![b'x'; size],
                piece: 10_000,
                takes: size,
                ..Pipe::default()
            };
            let mut flow = Flow::default();
            while flow.unread().len() < size {
                flow.want(size);
                let read = flow.poll_read(&mut cx, &mut pipe, &blocks);
                assert!(matches!(read, Poll::Ready(Ok(Read::Some))), "{size}");
            }
        }
    }
}
