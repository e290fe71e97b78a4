//! TLS of QUIC connections (RFC 9001): the same certificates, clients and choices as of TCP, TLS 1.3
//! only.

use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::ServerConfig as QuicConfig;
use quinn::crypto::rustls::QuicServerConfig;
use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
use rustls::pki_types::CertificateDer;
use rustls::server::ServerSessionMemoryCache;

use crate::problem::TlsProblem;
use crate::server::ServerTls;
use crate::tickets::TicketKeys;

/// Sessions that are remembered where early data is taken.
const SESSIONS: usize = 8 * 1024;

impl ServerTls {
    /// The same for QUIC, with the certificates that are served now, for one application protocol.
    ///
    /// With `early_data` clients may send requests with their first packets (0-RTT). Whoever saw such
    /// packets can send them again, so each session is resumed once at most: sessions are then kept in
    /// this process's memory, not in tickets that the client carries, and one that another process
    /// began is not resumed. Without it tickets carry sessions as they do over TCP.
    ///
    /// # Errors
    /// The library refuses what was chosen.
    pub fn quic(
        &self,
        protocol: &[u8],
        early_data: bool,
    ) -> Result<Arc<dyn QuicConfig>, TlsProblem> {
        let mut config = self.config();
        config.alpn_protocols = vec![protocol.to_vec()];
        if early_data {
            // What QUIC calls "any amount": its windows bound it.
            config.max_early_data_size = u32::MAX;
            config.ticketer = TicketKeys::new(&[], Duration::ZERO)? as _;
            config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
        }
        // First packets are encrypted with this suite, whichever ones are chosen for what follows.
        let first = TLS13_AES_128_GCM_SHA256.tls13();
        let first = first.and_then(|suite| suite.quic_suite());
        let first = first.ok_or_else(|| unusable("there is no suite for first packets"))?;
        let config = QuicServerConfig::with_initial(Arc::new(config), first);
        config.map(|config| Arc::new(config) as _).map_err(unusable)
    }
}

fn unusable(error: impl ToString) -> TlsProblem {
    TlsProblem::Unusable {
        detail: error.to_string(),
    }
}

/// The certificate of a QUIC connection's client, in DER, if it was asked and showed one. It was
/// verified then.
pub fn quic_client_certificate(connection: &quinn::Connection) -> Option<Vec<u8>> {
    let identity = connection.peer_identity()?;
    let chain = identity.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    chain.first().map(|certificate| certificate.to_vec())
}
