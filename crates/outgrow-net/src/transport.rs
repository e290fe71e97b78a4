//! What an engine needs of a byte stream: plain, encrypted or simulated.

use std::io::{self, IoSlice};
use std::task::{Context, Poll};

use tokio::io::Interest;

use crate::Stream;

/// A byte stream with poll functions; errors of kind `WouldBlock` are never returned.
pub trait Transport: Send + Unpin {
    /// Reads into `buffer`; `Ok(0)` is the end.
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>>;

    /// Whether a read could give something, as far as is known without trying: asked before a
    /// buffer is taken for it. Ready when it is not known.
    fn poll_readable(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }

    /// The same without the runtime's account of how much a task does in one turn: for who bounds by
    /// himself how often he asks in one.
    fn poll_read_unmetered(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_read(cx, buffer)
    }

    /// As [`Transport::poll_readable`], for who asks again and again and always for the same task; metered
    /// only where that task is not known yet. `waits` is his to keep: whether it is to be woken already. It
    /// has to be false after each read, whoever has read, and when another task has asked: who is not to be
    /// woken and believes it waits for ever.
    fn poll_readable_again(&mut self, cx: &mut Context<'_>, waits: &mut bool) -> Poll<()> {
        *waits = false;
        self.poll_readable(cx)
    }

    /// Writes some of `bytes`, unmetered: see [`Transport::poll_read_unmetered`].
    fn poll_write_unmetered(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write(cx, bytes)
    }

    /// Writes some of `bytes`.
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>>;

    /// Writes some of `slices`, at best in one system call.
    fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>>;

    /// Hands what the transport itself holds back (a TLS record) to the kernel.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Ends our direction.
    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Whether the peer must be told the end before the close, or else takes what it got for cut
    /// off: TLS has its closing alert.
    fn must_say_end(&self) -> bool {
        true
    }

    /// Makes the coming close one that the peer cannot take for an orderly end, where there is
    /// such a thing: a TCP reset. (TLS ends without its closing alert when it is just dropped.)
    fn reset(&mut self) {}
}

impl Transport for Stream {
    #[inline]
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        Self::poll_read(self, cx, buffer)
    }

    #[inline]
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // An error is for the read to find.
        self.poll_read_ready(cx).map(|_| ())
    }

    #[inline]
    fn poll_read_unmetered(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        match self.try_read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Self::poll_read(self, cx, buffer)
            }
            read => Poll::Ready(read),
        }
    }

    #[inline]
    fn poll_readable_again(&mut self, cx: &mut Context<'_>, waits: &mut bool) -> Poll<()> {
        if self.try_io(Interest::READABLE, |_| Ok(())).is_ok() {
            return Poll::Ready(());
        }
        if *waits {
            return Poll::Pending;
        }
        let ready = self.poll_readable(cx);
        // Whoever has used up his turn is not waited with but called again.
        *waits = ready.is_pending() && tokio::task::coop::has_budget_remaining();
        ready
    }

    #[inline]
    fn poll_write_unmetered(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.try_write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Self::poll_write(self, cx, bytes)
            }
            written => Poll::Ready(written),
        }
    }

    #[inline]
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Self::poll_write(self, cx, bytes)
    }

    #[inline]
    fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Self::poll_write_vectored(self, cx, slices)
    }

    #[inline]
    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Self::poll_shutdown(self, cx)
    }

    fn must_say_end(&self) -> bool {
        false
    }

    fn reset(&mut self) {
        if let Self::Tcp(stream) = self {
            // A socket that refuses is closed in order: the client may take it for whole.
            let _ = stream.set_zero_linger();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use tokio::io::AsyncWriteExt;
    use tokio::net::UnixStream;

    use super::*;

    fn pair() -> (Stream, UnixStream) {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        (Stream::Unix(ours), theirs)
    }

    /// Reads until the end, each piece as soon as it is there, as who asks again and again does.
    async fn received(stream: &mut Stream, spends: bool) -> usize {
        let (mut waits, mut sum) = (false, 0);
        let mut buffer = [0; 64];
        poll_fn(|cx| {
            loop {
                // What the task may do in one turn is done.
                while spends && tokio::task::coop::has_budget_remaining() {
                    let Poll::Ready(spent) = tokio::task::coop::poll_proceed(cx) else {
                        break;
                    };
                    spent.made_progress();
                }
                if stream.poll_readable_again(cx, &mut waits).is_pending() {
                    return Poll::Pending;
                }
                waits = false;
                match stream.poll_read_unmetered(cx, &mut buffer) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(sum),
                    Poll::Ready(read) => sum += read.expect("read"),
                    Poll::Pending => {}
                }
            }
        })
        .await
    }

    /// Whoever waits already is woken each time, also when the runtime had him wait for another turn.
    #[tokio::test]
    async fn who_asks_again_is_woken_each_time() {
        for spends in [false, true] {
            let (mut ours, mut theirs) = pair();
            let reading = tokio::spawn(async move { received(&mut ours, spends).await });
            for _ in 0..20 {
                tokio::time::sleep(Duration::from_millis(2)).await;
                theirs.write_all(b"piece").await.expect("written");
            }
            drop(theirs);
            let limit = Duration::from_secs(10);
            let sum = tokio::time::timeout(limit, reading).await;
            assert_eq!(sum.expect("it is woken").expect("no panic"), 100);
        }
    }

    /// What was read in part has nothing more; the end is read after all.
    #[tokio::test]
    async fn reads_end_with_what_is_there() {
        let (ours, mut theirs) = pair();
        theirs.write_all(b"piece").await.expect("written");
        poll_fn(|cx| ours.poll_read_ready(cx)).await.expect("ready");
        let mut buffer = [0; 64];
        assert_eq!(ours.try_read(&mut buffer).expect("read"), 5);
        let nothing = ours.try_read(&mut buffer).expect_err("nothing is there");
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        drop(theirs);
        poll_fn(|cx| ours.poll_read_ready(cx)).await.expect("ready");
        assert_eq!(ours.try_read(&mut buffer).expect("read"), 0);
    }
}
