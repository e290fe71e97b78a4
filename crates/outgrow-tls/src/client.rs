//! TLS towards a server: who it must be, and who we are. Versions 1.2 and 1.3, HTTP/1.1 only, each
//! handshake a full one.
//!
//! Verification cannot be switched off: a server whose issuer is not in the system's roots is named
//! with a file of its own roots. Where the texts come from is the caller's matter.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream as Inner;

use crate::certificate::{self, CertificateText};
use crate::issuers;
use crate::problem::TlsProblem;
use crate::refusal::{self, Expected, Refusal};

/// What TLS towards servers is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientText {
    /// The issuers that are trusted, as PEM, and no others.
    pub roots: Vec<u8>,
    /// Where they are from, usually a file's path.
    pub roots_name: String,
    /// What is shown to a server that asks who we are.
    pub identity: Option<CertificateText>,
}

/// TLS for connections to servers.
#[derive(Clone, Debug)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
    expected: Arc<Expected>,
}

impl ClientTls {
    /// Checks the texts and gets ready for handshakes.
    pub fn build(text: &ClientText) -> Result<Self, TlsProblem> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(&error))?
            .with_root_certificates(issuers::read(&text.roots, &text.roots_name)?.0);
        let mut config = match &text.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let key = certificate::load_pair(identity, &provider)?;
                let resolver = rustls::sign::SingleCertAndKey::from(key);
                builder.with_client_cert_resolver(Arc::new(resolver))
            }
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // A session that goes on is not verified again; connections are too rare for it to pay.
        config.resumption = Resumption::disabled();
        Ok(Self {
            config: Arc::new(config),
            expected: Arc::new(Expected {
                roots_name: text.roots_name.clone(),
                has_identity: text.identity.is_some(),
                table: "tls",
                protocol: "HTTP/1.1",
                hint: ": http:// instead of https://?",
            }),
        })
    }

    /// Does the handshake with the server that must be `name`: a host, or an IP address without
    /// brackets. To be bounded in time by the caller.
    pub async fn connect(&self, stream: TcpStream, name: &str) -> Result<ClientStream, Refusal> {
        let host =
            ServerName::try_from(name.to_owned()).map_err(|_| Refusal::BadName(name.to_owned()))?;
        let connector = TlsConnector::from(Arc::clone(&self.config));
        let inner = connector
            .connect(host, stream)
            .await
            .map_err(|error| refusal::of(error, name, &self.expected))?;
        Ok(ClientStream {
            inner,
            expected: Arc::clone(&self.expected),
        })
    }
}

fn unusable(error: &rustls::Error) -> TlsProblem {
    TlsProblem::Unusable {
        detail: error.to_string(),
    }
}

/// A connection to a server after the handshake.
#[derive(Debug)]
pub struct ClientStream {
    inner: Inner<TcpStream>,
    expected: Arc<Expected>,
}

impl AsyncRead for ClientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // In TLS 1.3 what the server thinks of our certificate comes after the handshake.
        let result = Pin::new(&mut self.inner).poll_read(cx, buffer);
        result.map_err(|error| refusal::of_read(error, &self.expected))
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
