//! The fake's TLS, blocking like the rest of it.

use std::{io, net::TcpStream, sync::Arc, time::Duration};

use rustls::{ServerConfig, ServerConnection, StreamOwned, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use crate::authority::Issued;

/// How long a client may take for a step.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) type Stream = StreamOwned<ServerConnection, TcpStream>;

pub(super) fn config(issued: &Issued) -> io::Result<Arc<ServerConfig>> {
    let certificate = CertificateDer::from_pem_slice(issued.certificate.as_bytes());
    let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes());
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.map_err(io::Error::other)?],
            key.map_err(io::Error::other)?,
        );
    let mut config = config.map_err(io::Error::other)?;
    // A real one prefers HTTP/2, and takes what there is.
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

pub(super) fn accept(stream: TcpStream, config: Arc<ServerConfig>) -> io::Result<Stream> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let connection = ServerConnection::new(config).map_err(io::Error::other)?;
    Ok(StreamOwned::new(connection, stream))
}
