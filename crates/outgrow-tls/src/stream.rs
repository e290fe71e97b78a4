//! The encrypted byte stream, as the engines see it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use outgrow_net::{Stream, Transport};
use rustls::sign::CertifiedKey;
use tokio::io::AsyncWrite;
use tokio_rustls::server::TlsStream as Inner;

use crate::choices;
use crate::records::Records;

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

    /// As [`Stream::move_here`].
    ///
    /// # Errors
    /// As there.
    pub fn move_here(&mut self) -> io::Result<()> {
        self.inner.get_mut().0.move_here()
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
}

impl Transport for TlsStream {
    #[inline]
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.inner.poll_plain_readable(cx)
    }

    #[inline]
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.inner.poll_read_plain(cx, buffer, |error| error)
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
