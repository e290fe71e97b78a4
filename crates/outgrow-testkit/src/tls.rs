//! A client of TLS that trusts one certificate, step by step: for what no usual client does.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use rustls::{ClientConfig, ClientConnection, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};

/// How long a step may take.
const LIMIT: Duration = Duration::from_secs(10);

/// A client's side of one connection.
#[derive(Debug)]
pub struct TlsClient {
    stream: TcpStream,
    connection: ClientConnection,
}

/// The settings of a client that trusts the certificates in `trusted` (PEM) and speaks these protocols.
fn settings(trusted: &str, protocols: &[&str]) -> io::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(trusted.as_bytes()) {
        let certificate = certificate.map_err(io::Error::other)?;
        roots.add(certificate).map_err(io::Error::other)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut settings = versions
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let protocols = protocols
        .iter()
        .map(|protocol| protocol.as_bytes().to_vec());
    settings.alpn_protocols = protocols.collect();
    Ok(Arc::new(settings))
}

fn connection(name: &str, trusted: &str, protocols: &[&str]) -> io::Result<ClientConnection> {
    let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
    ClientConnection::new(settings(trusted, protocols)?, name).map_err(io::Error::other)
}

/// The first bytes of a connection: a ClientHello, unlike all others.
///
/// # Errors
/// When the name or a certificate is none.
pub fn client_hello(name: &str, trusted: &str) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    connection(name, trusted, &[])?.write_tls(&mut bytes)?;
    Ok(bytes)
}

impl TlsClient {
    /// Connects and finishes the handshake.
    ///
    /// # Errors
    /// What the system says, and why the handshake failed.
    pub fn connect(
        address: SocketAddr,
        name: &str,
        trusted: &str,
        protocols: &[&str],
    ) -> io::Result<Self> {
        let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        let mut connection = connection(name, trusted, protocols)?;
        while connection.is_handshaking() {
            connection.complete_io(&mut stream)?;
        }
        Ok(Self { stream, connection })
    }

    /// Says that it sends with new keys from now on (`KeyUpdate`, TLS 1.3).
    ///
    /// # Errors
    /// When the connection has no such thing, or the other side has gone.
    pub fn update_keys(&mut self) -> io::Result<()> {
        self.connection
            .refresh_traffic_keys()
            .map_err(io::Error::other)?;
        while self.connection.wants_write() {
            self.connection.write_tls(&mut self.stream)?;
        }
        Ok(())
    }
}

impl Read for TlsClient {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        rustls::Stream::new(&mut self.connection, &mut self.stream).read(bytes)
    }
}

impl Write for TlsClient {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        rustls::Stream::new(&mut self.connection, &mut self.stream).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        rustls::Stream::new(&mut self.connection, &mut self.stream).flush()
    }
}
