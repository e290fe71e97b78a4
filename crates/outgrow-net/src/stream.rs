//! A byte stream over TCP or a Unix socket, with the poll functions that the engines use.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::net::{RecvFlags, SendFlags};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// One connection, registered with the runtime of the thread that made it.
#[derive(Debug)]
pub enum Stream {
    /// TCP, with `TCP_NODELAY` set.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
}

impl Stream {
    /// Reads into `buffer`; `Ok(0)` is the end of the stream (or an empty buffer).
    ///
    /// Costs no system call while the runtime knows that nothing is there.
    #[inline]
    pub fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut target = ReadBuf::new(buffer);
        let result = match self {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, &mut target),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, &mut target),
        };
        result.map_ok(|()| target.filled().len())
    }

    /// Writes some of `bytes`.
    #[inline]
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    /// Writes some of `slices` in one system call.
    #[inline]
    pub fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    /// Whether something can be read, without reading it: bytes, the end or an error.
    #[inline]
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(cx),
            Self::Unix(stream) => stream.poll_read_ready(cx),
        }
    }

    /// Whether something can be written.
    #[inline]
    pub fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_write_ready(cx),
            Self::Unix(stream) => stream.poll_write_ready(cx),
        }
    }

    /// Does something with the descriptor once it is ready for it; an error of kind `WouldBlock`
    /// makes the runtime wait for the next time.
    #[inline]
    pub fn try_io<R>(
        &self,
        interest: Interest,
        work: impl FnOnce(BorrowedFd<'_>) -> io::Result<R>,
    ) -> io::Result<R> {
        match self {
            Self::Tcp(stream) => stream.try_io(interest, || work(stream.as_fd())),
            Self::Unix(stream) => stream.try_io(interest, || work(stream.as_fd())),
        }
    }

    /// Reads what is there; an error of kind `WouldBlock` when nothing is known to be. What does not fill
    /// the buffer is taken for all that there is, as the runtime does it.
    #[inline]
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut part = None;
        let whole = buffer.len();
        let read = self.try_io(Interest::READABLE, |descriptor| {
            let (read, _) = rustix::net::recv(descriptor, &mut *buffer, RecvFlags::empty())?;
            some_of(read, whole, &mut part)
        });
        part.map_or(read, Ok)
    }

    /// Writes what can be written now; an error of kind `WouldBlock` when nothing can, as far as is known.
    #[inline]
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut part = None;
        let written = self.try_io(Interest::WRITABLE, |descriptor| {
            let written = rustix::net::send(descriptor, bytes, SendFlags::NOSIGNAL)?;
            some_of(written, bytes.len(), &mut part)
        });
        part.map_or(written, Ok)
    }

    /// What came and was not read yet, which stays unread.
    pub fn poll_peek(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.poll_read_ready(cx))?;
            let peeked = self.try_io(Interest::READABLE, |descriptor| {
                let (peeked, _) = rustix::net::recv(descriptor, &mut *buffer, RecvFlags::PEEK)?;
                Ok(peeked)
            });
            match peeked {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                peeked => return Poll::Ready(peeked),
            }
        }
    }

    /// Where the stream was accepted, or was connected from; none for a Unix socket.
    pub fn near(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(stream) => stream.local_addr().ok(),
            Self::Unix(_) => None,
        }
    }

    /// Ends our direction of the stream.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    /// Makes the coming close an orderly one again, after [`Transport::reset`](crate::Transport::reset).
    pub fn end_in_order(&self) {
        if let Self::Tcp(stream) = self {
            // A socket that refuses is reset: the peer knows that it may miss something.
            let _ = SockRef::from(stream).set_linger(None);
        }
    }

    /// Registers the stream with the runtime of the calling thread instead of the one that it was
    /// registered with.
    ///
    /// # Errors
    /// There are no more descriptors, or no memory for it: then it is as before, and wakes from there.
    pub fn move_here(&mut self) -> io::Result<()> {
        let copy = self.as_fd().try_clone_to_owned()?;
        *self = match self {
            Self::Tcp(_) => Self::Tcp(TcpStream::from_std(copy.into())?),
            Self::Unix(_) => Self::Unix(UnixStream::from_std(copy.into())?),
        };
        Ok(())
    }

    /// Takes the stream from its runtime, so that another one can take it over.
    pub fn into_std(self) -> io::Result<Detached> {
        Ok(match self {
            Self::Tcp(stream) => Detached::Tcp(stream.into_std()?),
            Self::Unix(stream) => Detached::Unix(stream.into_std()?),
        })
    }
}

/// So many of `whole` bytes went: when it is a part, the runtime is told that no more would, so that nobody
/// has to ask the system to find that out.
#[inline]
fn some_of(went: usize, whole: usize, part: &mut Option<usize>) -> io::Result<usize> {
    if went > 0 && went < whole {
        *part = Some(went);
        return Err(io::ErrorKind::WouldBlock.into());
    }
    Ok(went)
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Self::poll_write(self.get_mut(), cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Self::poll_shutdown(self.get_mut(), cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Self::poll_write_vectored(self.get_mut(), cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}

/// A stream that belongs to no runtime.
#[derive(Debug)]
pub enum Detached {
    /// TCP.
    Tcp(std::net::TcpStream),
    /// A Unix socket.
    Unix(std::os::unix::net::UnixStream),
}

impl Detached {
    /// A connected stream that another process has passed on.
    ///
    /// # Errors
    /// It is none: of another family or kind, or not connected any more.
    pub fn passed_on(descriptor: OwnedFd) -> io::Result<Self> {
        let socket = socket2::Socket::from(descriptor);
        if socket.r#type()? != socket2::Type::STREAM || socket.is_listener()? {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let near = socket.local_addr()?;
        socket.peer_addr()?;
        socket.set_nonblocking(true)?;
        if near.is_unix() {
            return Ok(Self::Unix(OwnedFd::from(socket).into()));
        }
        match near.as_socket() {
            Some(_) => Ok(Self::Tcp(OwnedFd::from(socket).into())),
            None => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    /// Registers the stream with the runtime of the calling thread.
    pub fn attach(self) -> io::Result<Stream> {
        Ok(match self {
            Self::Tcp(stream) => Stream::Tcp(TcpStream::from_std(stream)?),
            Self::Unix(stream) => Stream::Unix(UnixStream::from_std(stream)?),
        })
    }
}
