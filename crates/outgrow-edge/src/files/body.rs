//! The bytes of a file on their way to a client: from memory, or read piece by piece by the pool's
//! threads.

use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;
use std::task::{Context, Poll};

use outgrow_core::{Cause, Fault, Phase};
use outgrow_message::{Block, BodySource, Fields, Need};

use super::lookup::{Content, Data, Gone, read_part};
use super::open_files::Whose;
use crate::pool::{Owner, Ticket};
use crate::worker::Worker;

/// The largest piece that is read for a client that takes them as fast as they come: the class of
/// its block, 256 KiB.
const LARGEST_CLASS: usize = 2;

/// A part of a file as the body of a response.
pub(crate) struct FileBody<'a> {
    worker: &'a Worker,
    owner: &'a Owner,
    /// None once nothing more is needed of it: who takes its time with what was read needs no descriptor.
    content: Option<Arc<Content>>,
    /// What is still to be read, or taken from memory.
    left: Range<u64>,
    piece: Option<Piece>,
    ticket: Option<Ticket<Read>>,
    class: usize,
}

/// What was read and not taken yet.
struct Piece {
    block: Block,
    range: Range<usize>,
}

/// What a thread gives back.
struct Read {
    block: Block,
    count: Result<usize, Gone>,
}

impl<'a> FileBody<'a> {
    /// These bytes of `content`, which is nobody else's if it is to be read, for a client of this network. Where
    /// there are none it is let go.
    ///
    /// # Errors
    /// As many files are open as may be.
    pub(crate) fn new(
        content: Arc<Content>,
        range: Range<u64>,
        (worker, owner): (&'a Worker, &'a Owner),
        client: impl FnOnce() -> IpAddr,
    ) -> Result<Self, Fault> {
        let shared = &worker.shared;
        if let (false, Data::There { file, open, .. }) = (range.is_empty(), &content.data) {
            let whose = Whose {
                client: client(),
                owner: owner.clone(),
                beside_others: shared.directories.are_several(),
            };
            let refused = Fault::outgrow(Phase::Route, Cause::FileLimit);
            let taken = shared.open_files.take(file, whose).ok_or(refused)?;
            open.get_or_init(|| taken);
        }
        Ok(Self {
            worker,
            owner,
            content: (!range.is_empty()).then_some(content),
            left: range,
            piece: None,
            ticket: None,
            class: 0,
        })
    }

    /// Whether a thread is reading.
    pub(crate) fn is_read(&self) -> bool {
        self.ticket.is_some()
    }

    /// Has the next piece read. The thread holds the file: it may live on there when nobody waits
    /// for it any more.
    fn begin_reading(&mut self) -> Result<Ticket<Read>, Fault> {
        let blocks = &self.worker.blocks;
        let block = blocks.take_up_to(self.class, Need::Usual);
        let mut block = block.ok_or(fault(Cause::MemoryLimit))?;
        self.class = (self.class + 1).min(LARGEST_CLASS);
        let content = self.content.clone().ok_or(fault(Cause::FileFailed))?;
        let (at, left) = (self.left.start, self.left.end - self.left.start);
        let job = move || {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(block.len());
            let count = match &content.data {
                Data::There { file, mark, .. } => read_part(file, *mark, at, &mut block[..most]),
                Data::Here { .. } => Ok(0),
            };
            Read { block, count }
        };
        // It has begun: it goes on however many wait to begin.
        let submitted = self.worker.shared.files.go_on(self.owner, job);
        submitted.map_err(|_| fault(Cause::Overload))
    }

    /// So much less is left.
    fn advance(&mut self, count: usize) {
        self.left.start = (self.left.start + count as u64).min(self.left.end);
        if self.left.is_empty() {
            self.content = None;
        }
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        let ticket = match self.ticket.take() {
            Some(ticket) => ticket,
            None => self.begin_reading()?,
        };
        let Poll::Ready(read) = ticket.poll(cx) else {
            self.ticket = Some(ticket);
            return Poll::Pending;
        };
        let Read { block, count } = read.ok_or(fault(Cause::FileFailed))?;
        let count = count.map_err(|gone| match gone {
            Gone::Changed => fault(Cause::FileChanged),
            Gone::Failed => fault(Cause::FileFailed),
        })?;
        self.advance(count);
        self.piece = Some(Piece {
            block,
            range: 0..count,
        });
        Poll::Ready(Ok(()))
    }
}

impl BodySource for FileBody<'_> {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Fault>> {
        if self.piece.is_some() {
            return Poll::Ready(Ok(true));
        }
        if self.left.is_empty() {
            return Poll::Ready(Ok(false));
        }
        match self.content.as_deref().map(|content| &content.data) {
            Some(Data::There { .. }) => self.poll_piece(cx).map_ok(|()| true),
            _ => Poll::Ready(Ok(true)),
        }
    }

    fn data(&self) -> &[u8] {
        if let Some(piece) = &self.piece {
            return &piece.block[piece.range.clone()];
        }
        match self.content.as_deref().map(|content| &content.data) {
            Some(Data::Here { bytes, .. }) => {
                let range = self.left.start as usize..self.left.end as usize;
                bytes.get(range).unwrap_or_default()
            }
            _ => &[],
        }
    }

    fn consume(&mut self, count: usize) {
        let Some(piece) = &mut self.piece else {
            self.advance(count);
            return;
        };
        piece.range.start = (piece.range.start + count).min(piece.range.end);
        if piece.range.is_empty() {
            self.piece = None;
        }
    }

    fn trailers(&mut self) -> Option<&mut Fields> {
        None
    }
}

fn fault(cause: Cause) -> Fault {
    Fault::outgrow(Phase::ResponseBody, cause)
}
