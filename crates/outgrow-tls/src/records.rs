//! Reading a connection as the engines do, the same on either side of a handshake.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use outgrow_net::Stream;
use rustls::CommonState;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::{client, server};

/// A connection after its handshake.
pub(crate) trait Records: AsyncRead + AsyncWrite + Unpin {
    /// The stream below, and what TLS knows.
    fn parts(&self) -> (&Stream, &CommonState);

    /// Sends records that are held back, as far as that is possible now: those of the last write
    /// when the kernel's buffer was full, and the answer to a peer's key update. Nobody else
    /// would, while the engine waits for something to read.
    ///
    /// # Errors
    /// As of a write.
    #[inline]
    fn push_held_back(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if !self.parts().1.wants_write() {
            return Ok(());
        }
        match Pin::new(self).poll_flush(cx) {
            Poll::Ready(Err(error)) => Err(error),
            Poll::Ready(Ok(())) | Poll::Pending => Ok(()),
        }
    }

    /// As of a [`Transport`](outgrow_net::Transport). Without plaintext at hand it is the stream
    /// below that decides: no buffer is taken to learn that nothing came.
    #[inline]
    fn poll_plain_readable(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.push_held_back(cx).is_err() || !self.parts().1.wants_read() {
            return Poll::Ready(());
        }
        self.parts().0.poll_read_ready(cx).map(|_| ())
    }

    /// As of a [`Transport`](outgrow_net::Transport); `told` makes of an error of the other side
    /// what is said of it.
    ///
    /// # Errors
    /// As of a read, and of a write of what is held back.
    #[inline]
    fn poll_read_plain(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
        told: impl FnOnce(io::Error) -> io::Error,
    ) -> Poll<io::Result<usize>>
    where
        Self: Sized,
    {
        let mut target = ReadBuf::new(buffer);
        let result = Pin::new(&mut *self).poll_read(cx, &mut target);
        self.push_held_back(cx)?;
        ready!(result).map_err(told)?;
        Poll::Ready(Ok(target.filled().len()))
    }
}

impl Records for server::TlsStream<Stream> {
    #[inline]
    fn parts(&self) -> (&Stream, &CommonState) {
        let (stream, session) = self.get_ref();
        (stream, session)
    }
}

impl Records for client::TlsStream<Stream> {
    #[inline]
    fn parts(&self) -> (&Stream, &CommonState) {
        let (stream, session) = self.get_ref();
        (stream, session)
    }
}
