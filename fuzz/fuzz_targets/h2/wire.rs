//! A connection in memory: what the peer has said, how much it takes, and when it is over.

use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use outgrow_net::Transport;

/// What both ends see.
#[derive(Debug, Default)]
pub(crate) struct Line {
    /// Said by the peer and not read yet.
    pub(crate) said: Vec<u8>,
    /// The peer says no more.
    pub(crate) is_over: bool,
    /// Bytes that the peer takes before a write has to wait.
    pub(crate) room: usize,
    /// The peer is gone: writes fail.
    pub(crate) is_broken: bool,
    /// Bytes that the peer took.
    pub(crate) taken: u64,
}

/// One end of it, for the adapter; the fuzzer has the other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory(Arc<Mutex<Line>>);

impl Memory {
    pub(crate) fn line(&self) -> MutexGuard<'_, Line> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, bytes: usize) -> Poll<io::Result<usize>> {
        let mut line = self.line();
        if line.is_broken {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let count = bytes.min(line.room);
        if count == 0 && bytes > 0 {
            return Poll::Pending;
        }
        line.room -= count;
        line.taken += count as u64;
        Poll::Ready(Ok(count))
    }
}

/// Nobody is woken: the fuzzer polls after each step.
impl Transport for Memory {
    fn poll_read(&mut self, _: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut line = self.line();
        let count = buffer.len().min(line.said.len());
        if count == 0 && !buffer.is_empty() {
            return match line.is_over || line.is_broken {
                true => Poll::Ready(Ok(0)),
                false => Poll::Pending,
            };
        }
        buffer[..count].copy_from_slice(&line.said[..count]);
        line.said.drain(..count);
        Poll::Ready(Ok(count))
    }

    fn poll_write(&mut self, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.take(bytes.len())
    }

    fn poll_write_vectored(
        &mut self,
        _: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.take(slices.iter().map(|slice| slice.len()).sum())
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
