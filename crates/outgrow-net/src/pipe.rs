//! Pipes of the kernel's, through which bytes go from one socket to another without being copied
//! into this process (`splice(2)`).
//!
//! A pipe is filled only when it is empty: the kernel counts its room in pages, so that a pipe with
//! a few bytes in it may take no more, and "it would block" would not say who is meant.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use rustix::pipe::{PipeFlags, SpliceFlags};
use tokio::io::Interest;

use crate::Stream;

/// What a pipe is asked to hold, in bytes. The kernel may refuse it to users without privileges,
/// who have 64 MiB in all; then it holds 64 KiB.
const PIPE_BYTES: usize = 256 * 1024;

/// A worker's pipes: a bounded number, used again.
#[derive(Debug)]
pub struct Pipes {
    free: Mutex<Vec<Ends>>,
    /// Pipes that there are, lent ones included.
    count: AtomicUsize,
    most: usize,
}

#[derive(Debug)]
struct Ends {
    read: OwnedFd,
    write: OwnedFd,
}

impl Pipes {
    /// A supply of at most so many.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            free: Mutex::default(),
            count: AtomicUsize::new(0),
            most,
        })
    }

    /// An empty pipe; none when all are lent, or the system gives none.
    pub fn lend(self: &Arc<Self>) -> Option<Pipe> {
        let free = self
            .free
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        let ends = match free {
            Some(ends) => ends,
            None => self.make()?,
        };
        Some(Pipe {
            ends: Some(ends),
            held: 0,
            supply: Arc::clone(self),
        })
    }

    fn make(&self) -> Option<Ends> {
        if self.count.fetch_add(1, Ordering::Relaxed) >= self.most {
            self.count.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let made = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK);
        let Ok((read, write)) = made else {
            self.count.fetch_sub(1, Ordering::Relaxed);
            return None;
        };
        // Where it is refused the pipe is as large as all.
        let _ = rustix::pipe::fcntl_setpipe_size(&write, PIPE_BYTES);
        Some(Ends { read, write })
    }
}

/// A pipe that is lent. Goes back to its supply when dropped; with bytes in it, it is closed.
#[derive(Debug)]
pub struct Pipe {
    ends: Option<Ends>,
    held: usize,
    supply: Arc<Pipes>,
}

impl Pipe {
    /// Bytes in it.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Moves what has come on `from` into the empty pipe; 0 is the end of the stream. Ready with an
    /// error of kind `InvalidInput` where the socket cannot do it, with nothing lost.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>, from: &Stream) -> Poll<io::Result<usize>> {
        debug_assert_eq!(self.held, 0, "only an empty pipe is filled");
        let Some(ends) = &self.ends else {
            return Poll::Ready(Err(io::ErrorKind::InvalidInput.into()));
        };
        loop {
            ready!(from.poll_read_ready(cx))?;
            let moved = from.try_io(Interest::READABLE, |from| {
                splice(from, ends.write.as_fd(), PIPE_BYTES)
            });
            match moved {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
                Ok(moved) => {
                    self.held = moved;
                    return Poll::Ready(Ok(moved));
                }
            }
        }
    }

    /// Moves some of what is in the pipe on to `to`.
    pub fn poll_empty(&mut self, cx: &mut Context<'_>, to: &Stream) -> Poll<io::Result<usize>> {
        let Some(ends) = &self.ends else {
            return Poll::Ready(Err(io::ErrorKind::InvalidInput.into()));
        };
        loop {
            ready!(to.poll_write_ready(cx))?;
            let moved = to.try_io(Interest::WRITABLE, |to| {
                splice(ends.read.as_fd(), to, self.held)
            });
            match moved {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
                Ok(moved) => {
                    self.held -= moved;
                    return Poll::Ready(Ok(moved));
                }
            }
        }
    }
}

fn splice(from: BorrowedFd<'_>, to: BorrowedFd<'_>, most: usize) -> io::Result<usize> {
    let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
    loop {
        match rustix::pipe::splice(from, None, to, None, most, flags) {
            Err(rustix::io::Errno::INTR) => {}
            moved => return moved.map_err(io::Error::from),
        }
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let supply = &self.supply;
        match self.ends.take() {
            Some(ends) if self.held == 0 => {
                let mut free = supply.free.lock().unwrap_or_else(PoisonError::into_inner);
                free.push(ends);
            }
            // What is in it belongs to a connection that is gone.
            _ => {
                supply.count.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    async fn pair() -> (TcpStream, Stream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("an address");
        let far = TcpStream::connect(address).await.expect("connected");
        let (near, _) = listener.accept().await.expect("accepted");
        (far, Stream::Tcp(near))
    }

    #[tokio::test]
    async fn bytes_go_from_socket_to_socket_and_pipes_are_used_again() {
        let pipes = Pipes::new(1);
        let (mut sender, from) = pair().await;
        let (mut receiver, to) = pair().await;
        let mut pipe = pipes.lend().expect("the first");
        assert!(pipes.lend().is_none(), "there is one");
        sender.write_all(b"hello").await.expect("sent");
        let filled = poll_fn(|cx| pipe.poll_fill(cx, &from)).await;
        assert_eq!(filled.expect("filled"), 5);
        let emptied = poll_fn(|cx| pipe.poll_empty(cx, &to)).await;
        assert_eq!((emptied.expect("emptied"), pipe.held()), (5, 0));
        let mut bytes = [0; 5];
        receiver.read_exact(&mut bytes).await.expect("received");
        assert_eq!(&bytes, b"hello");
        drop(sender);
        let end = poll_fn(|cx| pipe.poll_fill(cx, &from)).await;
        assert_eq!(end.expect("the end"), 0);
        drop(pipe);
        assert!(pipes.lend().is_some(), "it came back");
    }

    #[tokio::test]
    async fn what_is_left_in_a_pipe_goes_to_nobody_else() {
        let pipes = Pipes::new(1);
        let (mut sender, from) = pair().await;
        let mut pipe = pipes.lend().expect("the first");
        sender.write_all(b"secret").await.expect("sent");
        let filled = poll_fn(|cx| pipe.poll_fill(cx, &from)).await;
        assert_eq!(filled.expect("filled"), 6);
        drop(pipe);
        let mut next = pipes.lend().expect("another one");
        let (mut sender, from) = pair().await;
        let (mut receiver, to) = pair().await;
        sender.write_all(b"own").await.expect("sent");
        let filled = poll_fn(|cx| next.poll_fill(cx, &from)).await;
        assert_eq!(filled.expect("filled"), 3);
        let emptied = poll_fn(|cx| next.poll_empty(cx, &to)).await;
        assert_eq!(emptied.expect("emptied"), 3);
        let mut bytes = [0; 3];
        receiver.read_exact(&mut bytes).await.expect("received");
        assert_eq!(&bytes, b"own");
    }
}
