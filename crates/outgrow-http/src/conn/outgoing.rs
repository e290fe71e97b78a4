//! The body of a message as it leaves: small pieces are gathered, large ones go to the kernel from
//! where they lie, chunks are made as large as what is at hand.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use outgrow_message::{Blocks, Fields};
use outgrow_net::Transport;

use super::buffer::WriteBuffer;
use crate::h1::chunk::{SIZE_LINE_BYTES, write_size};

/// Pieces up to this size are copied behind what waits; larger ones are written from their place.
const COPY_BYTES: usize = 4 * 1024;
/// Chunked data is gathered up to this size, larger pieces become a chunk of their own.
const GATHER_BYTES: usize = 12 * 1024;
/// `ffff` CR LF: what an open chunk's size line takes.
const OPEN_BYTES: usize = 6;
/// The largest chunk that is gathered, for which that is enough.
const OPEN_LIMIT: usize = 0xffff;
/// CR LF after a chunk and the last chunk with its empty trailer section.
const CLOSE_BYTES: usize = 2 + 5;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Framing {
    #[default]
    Raw,
    Chunked,
}

/// One direction of a connection: bytes that leave.
#[derive(Debug, Default)]
pub struct Outgoing {
    /// What waits for the kernel.
    pub buffer: WriteBuffer,
    framing: Framing,
    /// Where the size line of a chunk that is being gathered lies.
    open_chunk: Option<usize>,
    /// Bytes that are missing from a chunk whose size was said already.
    exact: usize,
}

impl Outgoing {
    /// Begins a body after its head was written into the buffer.
    pub fn begin(&mut self, chunked: bool) {
        self.framing = if chunked {
            Framing::Chunked
        } else {
            Framing::Raw
        };
        self.open_chunk = None;
        self.exact = 0;
    }

    /// Takes some of `data`, which is not empty; how much. What was taken may wait in the buffer
    /// until [`Outgoing::poll_flush`].
    #[inline]
    pub fn poll_push(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut impl Transport,
        blocks: &Arc<Blocks>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.framing {
            Framing::Raw => self.push_raw(cx, io, blocks, data),
            Framing::Chunked => self.push_chunked(cx, io, blocks, data),
        }
    }

    #[inline]
    fn push_raw(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut impl Transport,
        blocks: &Arc<Blocks>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let small = data.len() <= COPY_BYTES && self.buffer.fits(data.len());
        if small && self.buffer.reserve(data.len(), blocks) {
            return Poll::Ready(Ok(self.buffer.append(data)));
        }
        self.buffer.poll_flush_with(cx, io, data)
    }

    fn push_chunked(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut impl Transport,
        blocks: &Arc<Blocks>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.exact == 0 && data.len() < GATHER_BYTES {
            if let Some(taken) = self.gather(blocks, data) {
                return Poll::Ready(Ok(taken));
            }
            // No room: what waits must go first.
            std::task::ready!(self.poll_flush(cx, io))?;
            return match self.gather(blocks, data) {
                Some(taken) => Poll::Ready(Ok(taken)),
                None => Poll::Ready(Err(io::ErrorKind::OutOfMemory.into())),
            };
        }
        if self.exact == 0 {
            self.close_chunk();
            if !self.buffer.reserve(SIZE_LINE_BYTES, blocks) {
                std::task::ready!(self.buffer.poll_flush(cx, io))?;
                if !self.buffer.reserve(SIZE_LINE_BYTES, blocks) {
                    return Poll::Ready(Err(io::ErrorKind::OutOfMemory.into()));
                }
            }
            let mut line = [0; SIZE_LINE_BYTES];
            let length = write_size(data.len(), &mut line);
            self.buffer.append(&line[..length]);
            self.exact = data.len();
        }
        let piece = &data[..data.len().min(self.exact)];
        let taken = std::task::ready!(self.buffer.poll_flush_with(cx, io, piece))?;
        self.exact -= taken;
        if self.exact == 0 {
            if !self.buffer.reserve(2, blocks) {
                return Poll::Ready(Err(io::ErrorKind::OutOfMemory.into()));
            }
            self.buffer.append(b"\r\n");
        }
        Poll::Ready(Ok(taken))
    }

    /// Copies into the open chunk, opening one if need be; none when there is no room.
    fn gather(&mut self, blocks: &Arc<Blocks>, data: &[u8]) -> Option<usize> {
        let opened = match self.open_chunk {
            Some(at) => at,
            None => self.open_chunk(blocks)?,
        };
        let gathered = self.buffer.position() - opened - OPEN_BYTES;
        let room = self.buffer.room().saturating_sub(CLOSE_BYTES);
        let count = data.len().min(room).min(OPEN_LIMIT - gathered);
        if count == 0 {
            return None;
        }
        Some(self.buffer.append(&data[..count]))
    }

    fn open_chunk(&mut self, blocks: &Arc<Blocks>) -> Option<usize> {
        const LEAST: usize = OPEN_BYTES + CLOSE_BYTES + 1;
        if !self.buffer.fits(LEAST) || !self.buffer.reserve(LEAST, blocks) {
            return None;
        }
        let at = self.buffer.position();
        self.open_chunk = Some(at);
        self.buffer.append(b"0000\r\n");
        Some(at)
    }

    /// Writes the size of the gathered chunk in front of it. The size line takes as many digits
    /// as it needs: what lies before it (a head at most) moves up to meet it.
    fn close_chunk(&mut self) {
        let Some(at) = self.open_chunk.take() else {
            return;
        };
        let Some((block, start, end)) = self.buffer.parts() else {
            return;
        };
        let size = *end - at - OPEN_BYTES;
        if size == 0 {
            *end = at;
            return;
        }
        let mut line = [0; SIZE_LINE_BYTES];
        let length = write_size(size, &mut line);
        let gap = OPEN_BYTES.saturating_sub(length);
        block.copy_within(*start..at, *start + gap);
        *start += gap;
        block[at + gap..at + OPEN_BYTES].copy_from_slice(&line[..length]);
        block[*end..*end + 2].copy_from_slice(b"\r\n");
        *end += 2;
    }

    /// Ends the body: all of it was pushed. What is left is in the buffer then.
    pub fn finish(&mut self, blocks: &Arc<Blocks>, trailers: Option<&Fields>) -> bool {
        if self.framing == Framing::Raw {
            return true;
        }
        self.close_chunk();
        self.framing = Framing::Raw;
        let size = trailers.map_or(0, |fields| fields.bytes().len() + 4 * fields.len());
        if !self.buffer.reserve(5 + size, blocks) {
            return false;
        }
        self.buffer.append(b"0\r\n");
        for (_, name, value) in trailers.into_iter().flat_map(Fields::iter) {
            self.buffer.append(name);
            self.buffer.append(b": ");
            self.buffer.append(value);
            self.buffer.append(b"\r\n");
        }
        self.buffer.append(b"\r\n");
        true
    }

    /// Hands everything that was pushed to the kernel.
    #[inline]
    pub fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut impl Transport,
    ) -> Poll<io::Result<()>> {
        if self.open_chunk.is_some() {
            self.close_chunk();
        }
        if self.buffer.is_flushed() {
            return Poll::Ready(Ok(()));
        }
        self.buffer.poll_flush(cx, io)
    }
}
