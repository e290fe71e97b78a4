//! The encrypted byte stream, as the engines see it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use outgrow_net::{Stream, Transport};
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream as Inner;

use crate::choices;

/// A client's connection after its handshake.
#[derive(Debug)]
pub struct TlsStream {
    inner: Inner<Stream>,
    certificate: Option<Arc<CertifiedKey>>,
}

impl TlsStream {
    pub(crate) fn new(inner: Inner<Stream>) -> Self {
        Self {
            inner,
            certificate: None,
        }
    }

    pub(crate) fn with_certificate(self, certificate: Option<Arc<CertifiedKey>>) -> Self {
        Self {
            certificate,
            ..self
        }
    }

    /// Our certificate on this connection, in DER; known after
    /// [`accept_bound`](crate::ServerTls::accept_bound).
    pub fn own_certificate(&self) -> Option<&[u8]> {
        let own = self.certificate.as_ref()?;
        own.cert.first().map(AsRef::as_ref)
    }

    /// The client's certificate, in DER, if it was asked and showed one. It was verified then.
    pub fn client_certificate(&self) -> Option<&[u8]> {
        let chain = self.inner.get_ref().1.peer_certificates();
        chain?.first().map(AsRef::as_ref)
    }

    /// The application protocol that was agreed on (`http/1.1`, `h2`), if any.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.inner.get_ref().1.alpn_protocol()
    }

    /// The host that the client asked for, if it did.
    pub fn sni(&self) -> Option<&str> {
        self.inner.get_ref().1.server_name()
    }

    /// Whether the handshake continued an earlier session.
    pub fn is_resumed(&self) -> bool {
        self.inner.get_ref().1.handshake_kind() == Some(rustls::HandshakeKind::Resumed)
    }

    /// The version and the cipher suite, by the names that OpenSSL has for them:
    /// `TLSv1.3/TLS_AES_256_GCM_SHA384`.
    pub fn protocol(&self) -> String {
        choices::told(self.inner.get_ref().1)
    }

    /// The stream below.
    pub fn stream(&self) -> &Stream {
        self.inner.get_ref().0
    }

    /// Sends records that are held back, as far as that is possible now: those of the last write
    /// when the kernel's buffer was full, and the answer to a peer's key update. Nobody else
    /// would, while the engine waits for a next request.
    #[inline]
    fn push_held_back(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if !self.inner.get_ref().1.wants_write() {
            return Ok(());
        }
        match Pin::new(&mut self.inner).poll_flush(cx) {
            Poll::Ready(Err(error)) => Err(error),
            Poll::Ready(Ok(())) | Poll::Pending => Ok(()),
        }
    }
}

impl Transport for TlsStream {
    /// Without plaintext at hand it is the stream below that decides: no buffer is taken to learn
    /// that nothing came.
    #[inline]
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.push_held_back(cx).is_err() || !self.inner.get_ref().1.wants_read() {
            return Poll::Ready(());
        }
        self.stream().poll_read_ready(cx).map(|_| ())
    }

    #[inline]
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut target = ReadBuf::new(buffer);
        let result = Pin::new(&mut self.inner).poll_read(cx, &mut target);
        self.push_held_back(cx)?;
        ready!(result)?;
        Poll::Ready(Ok(target.filled().len()))
    }

    #[inline]
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    #[inline]
    fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, slices)
    }

    #[inline]
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    /// Says the end (close_notify), then ends our direction.
    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
