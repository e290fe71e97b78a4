//! TLS towards servers that clients' data goes to, as strictly as it is said for each of them.
//!
//! Beside [`ClientTls`](crate::ClientTls), whose verification cannot be switched off: what is made
//! here may be told to verify less, or nobody. Sessions are resumed, with the verification that
//! they began with; what is made anew begins anew. Where the texts come from is the caller's
//! matter.

use std::io::{self, IoSlice, Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use outgrow_net::link::Sealed;
use outgrow_net::{Stream, Transport};
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::client::danger::ServerCertVerifier;
use rustls_pki_types::ServerName;
use tokio::io::AsyncWrite;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream as Inner;

use crate::certificate::{self, CertificateText};
use crate::choices::{self, Choices};
use crate::issuers::Issuers;
use crate::problem::TlsProblem;
use crate::records::Records;
use crate::refusal::{self, Expected, Refusal};
use crate::verify::{AnybodyWithTheKey, OfIssuers};

/// How many servers' sessions are kept, to go on with them.
const SESSIONS: usize = 256;

/// How many reads may go by without a word for us before a connection counts as one that does not
/// keep quiet.
const SILENT_READS: usize = 16;

/// How many bytes one connection may hold back, sealed, when its server does not take them.
const HELD_BACK_BYTES: usize = 64 * 1024;

/// Which servers are spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verification {
    /// Anybody: nobody is verified. What is sent cannot be read by those who listen, and can be
    /// read and changed by those who come in between.
    Nobody,
    /// Those who have a certificate of these issuers, for whatever name.
    Issuer(Issuers),
    /// Those who have one of these issuers for the name that is connected to.
    IssuerAndName(Issuers),
}

/// What TLS towards such servers is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointText {
    /// Which servers are spoken to.
    pub verification: Verification,
    /// What is shown to a server that asks who we are.
    pub identity: Option<CertificateText>,
    /// The application protocols that are offered; a server may leave them out.
    pub alpn: Vec<Vec<u8>>,
    /// Versions and cipher suites.
    pub choices: Choices,
    /// The table of the configuration that all this is from, for what messages advise.
    pub table: &'static str,
}

/// TLS for connections to servers that clients' data goes to. A copy is the same one.
#[derive(Clone, Debug)]
pub struct EndpointTls {
    config: Arc<ClientConfig>,
    expected: Arc<Expected>,
    text: Arc<EndpointText>,
}

/// Two are equal that are made from the same.
impl PartialEq for EndpointTls {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl EndpointTls {
    /// Checks the texts and gets ready for handshakes.
    ///
    /// # Errors
    /// A text is not what it should be.
    pub fn build(text: &EndpointText) -> Result<Self, TlsProblem> {
        let provider = Arc::new(text.choices.provider());
        let verifier: Arc<dyn ServerCertVerifier> = match &text.verification {
            Verification::Nobody => Arc::new(AnybodyWithTheKey(Arc::clone(&provider))),
            Verification::Issuer(issuers) => Arc::new(OfIssuers::new(issuers, false, &provider)?),
            Verification::IssuerAndName(issuers) => {
                Arc::new(OfIssuers::new(issuers, true, &provider)?)
            }
        };
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&text.choices.versions()?)
            .map_err(|error| TlsProblem::Unusable {
                detail: error.to_string(),
            })?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match &text.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let key = certificate::load_pair(identity, &provider)?;
                let resolver = rustls::sign::SingleCertAndKey::from(key);
                builder.with_client_cert_resolver(Arc::new(resolver))
            }
        };
        config.alpn_protocols.clone_from(&text.alpn);
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        let roots_name = match &text.verification {
            Verification::Nobody => "",
            Verification::Issuer(issuers) | Verification::IssuerAndName(issuers) => &issuers.name,
        };
        Ok(Self {
            config: Arc::new(config),
            expected: Arc::new(Expected {
                roots_name: roots_name.to_owned(),
                has_identity: text.identity.is_some(),
                table: text.table,
                protocol: "what it should (ALPN)",
                hint: "",
            }),
            text: Arc::new(text.clone()),
        })
    }

    /// Does the handshake with the server that should be `name`: a host, or an IP address without
    /// brackets. To be bounded in time by the caller.
    ///
    /// # Errors
    /// There is no handshake, or the server is not one that is spoken to.
    pub async fn connect(&self, stream: Stream, name: &str) -> Result<EndpointStream, Refusal> {
        let host = match ServerName::try_from(name.to_owned()) {
            Ok(host) => host,
            Err(_) if matches!(self.text.verification, Verification::IssuerAndName(_)) => {
                return Err(Refusal::BadName(name.to_owned()));
            }
            // It would only be told to the server, and an address is not.
            Err(_) => ServerName::from(IpAddr::from(Ipv4Addr::UNSPECIFIED)),
        };
        let connector = TlsConnector::from(Arc::clone(&self.config));
        let limit = |connection: &mut rustls::ClientConnection| {
            connection.set_buffer_limit(Some(HELD_BACK_BYTES));
        };
        let inner = connector
            .connect_with(host, stream, limit)
            .await
            .map_err(|error| refusal::of(error, name, &self.expected))?;
        Ok(EndpointStream {
            inner,
            expected: Arc::clone(&self.expected),
        })
    }
}

/// A connection to a server after its handshake.
#[derive(Debug)]
pub struct EndpointStream {
    inner: Inner<Stream>,
    expected: Arc<Expected>,
}

impl EndpointStream {
    /// As [`Stream::move_here`].
    ///
    /// # Errors
    /// As there.
    pub fn move_here(&mut self) -> io::Result<()> {
        self.inner.get_mut().0.move_here()
    }

    /// The server's certificate, in DER.
    pub fn certificate(&self) -> Option<&[u8]> {
        let chain = self.inner.get_ref().1.peer_certificates();
        chain?.first().map(AsRef::as_ref)
    }

    /// The application protocol that was agreed on, if any.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.inner.get_ref().1.alpn_protocol()
    }

    /// Whether the handshake went on with an earlier session.
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

    /// As [`Sealed::is_quiet`].
    pub fn is_quiet(&mut self) -> bool {
        let (stream, session) = self.inner.get_mut();
        for _ in 0..SILENT_READS {
            match session.process_new_packets() {
                Ok(state) if state.plaintext_bytes_to_read() == 0 && !state.peer_has_closed() => {}
                _ => return false,
            }
            match session.read_tls(&mut WithoutWaiting(stream)) {
                Ok(0) => return false,
                Ok(_) => {}
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
        }
        false
    }

    /// Says something and the end (close_notify) before the connection is dropped, as far as it goes
    /// without waiting; gives how many bytes of records went.
    ///
    /// # Errors
    /// As of a write; nothing is to be done about it.
    pub fn say_last(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (stream, session) = self.inner.get_mut();
        session.writer().write_all(bytes)?;
        session.send_close_notify();
        session.write_tls(&mut WithoutWaiting(stream))
    }
}

/// A stream that is read and written as far as it goes.
struct WithoutWaiting<'s>(&'s Stream);

impl Read for WithoutWaiting<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Write for WithoutWaiting<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self.0 {
            Stream::Tcp(stream) => stream.try_write_vectored(slices),
            Stream::Unix(stream) => stream.try_write_vectored(slices),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sealed for EndpointStream {
    fn is_quiet(&mut self) -> bool {
        Self::is_quiet(self)
    }

    fn stream(&self) -> &Stream {
        Self::stream(self)
    }
}

impl Transport for EndpointStream {
    #[inline]
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.inner.poll_plain_readable(cx)
    }

    #[inline]
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        // In TLS 1.3 what the server thinks of our certificate comes after the handshake.
        let told = |error| refusal::of_read(error, &self.expected);
        self.inner.poll_read_plain(cx, buffer, told)
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
