//! A listener's TLS: handshakes with what was published last.

use std::io;
use std::sync::Arc;

use outgrow_core::{Cause, Fault, Phase, Snapshot, WallTime};
use outgrow_net::Stream;
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::NoServerSessionStorage;
use tokio_rustls::TlsAcceptor;

use crate::certificate::{self, CertificateFacts, CertificateText};
use crate::names::ByName;
use crate::problem::{TlsProblem, TlsWarning};
use crate::stream::TlsStream;
use crate::tickets::TicketKeys;

/// How many bytes one connection may hold back, sealed, when its client does not take them. No
/// ledger counts them.
const HELD_BACK_BYTES: usize = 64 * 1024;

/// What a listener's TLS is made of.
#[derive(Clone, Debug, Default)]
pub struct TlsText {
    /// Certificates with their keys; the first is for clients that ask for no name, or for one
    /// that no certificate has.
    pub certificates: Vec<CertificateText>,
    /// Application protocols (`h2`, `http/1.1`), the preferred one first. A client that offers
    /// only others is refused (RFC 7301 section 3.2); one that offers none is taken.
    pub alpn: Vec<Vec<u8>>,
}

/// TLS for the connections of a listener. Versions 1.2 and 1.3, no early data, no client
/// certificates.
#[derive(Debug)]
pub struct ServerTls {
    state: Snapshot<State>,
    tickets: Arc<TicketKeys>,
}

#[derive(Debug)]
struct State {
    config: Arc<ServerConfig>,
    facts: Vec<CertificateFacts>,
}

impl ServerTls {
    /// Checks certificates and keys and gets ready for handshakes. All that is wrong is told at
    /// once; what is odd but can be served (an expired certificate) comes back beside the result.
    pub fn build(
        text: &TlsText,
        tickets: Arc<TicketKeys>,
        now: WallTime,
    ) -> Result<(Arc<Self>, Vec<TlsWarning>), Vec<TlsProblem>> {
        let (state, warnings) = load(text, &tickets, now)?;
        let state = Snapshot::new(state);
        Ok((Arc::new(Self { state, tickets }), warnings))
    }

    /// Takes new certificates and protocols for handshakes from now on. Connections that are
    /// open, or in their handshake, are untouched; with problems everything stays as it was.
    pub fn replace(
        &self,
        text: &TlsText,
        now: WallTime,
    ) -> Result<Vec<TlsWarning>, Vec<TlsProblem>> {
        let (state, warnings) = load(text, &self.tickets, now)?;
        self.state.publish(Arc::new(state));
        Ok(warnings)
    }

    /// The certificates that are served now.
    pub fn certificates(&self) -> Vec<CertificateFacts> {
        self.state.load().facts.clone()
    }

    /// Does the handshake on a new connection. To be bounded in time by the caller; dropping the
    /// future closes the connection.
    ///
    /// What is not TLS, or has no version or cipher in common with us, is
    /// [`Cause::BadRequest`] (an alert was sent); a client that goes away is
    /// [`Cause::ClientGone`].
    pub fn accept(
        &self,
        stream: Stream,
    ) -> impl Future<Output = Result<TlsStream, Fault>> + Send + 'static {
        let acceptor = TlsAcceptor::from(Arc::clone(&self.state.load().config));
        async move {
            acceptor
                .accept_with(stream, |connection| {
                    connection.set_buffer_limit(Some(HELD_BACK_BYTES));
                })
                .await
                .map(TlsStream::new)
                .map_err(|error| fault(&error))
        }
    }
}

fn load(
    text: &TlsText,
    tickets: &Arc<TicketKeys>,
    now: WallTime,
) -> Result<(State, Vec<TlsWarning>), Vec<TlsProblem>> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut warnings = Vec::new();
    let mut problems = Vec::new();
    let mut loaded = Vec::with_capacity(text.certificates.len());
    for one in &text.certificates {
        match certificate::load(one, &provider, now, &mut warnings) {
            Ok(certificate) => loaded.push(certificate),
            Err(problem) => problems.push(problem),
        }
    }
    if text.certificates.is_empty() {
        problems.push(TlsProblem::NothingToServe);
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let config =
        config(provider, ByName::new(&loaded), text, tickets).map_err(|problem| vec![problem])?;
    let state = State {
        config: Arc::new(config),
        facts: loaded.into_iter().map(|one| one.facts).collect(),
    };
    Ok((state, warnings))
}

fn config(
    provider: Arc<CryptoProvider>,
    certificates: ByName,
    text: &TlsText,
    tickets: &Arc<TicketKeys>,
) -> Result<ServerConfig, TlsProblem> {
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsProblem::Unusable {
            detail: error.to_string(),
        })?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(certificates));
    config.alpn_protocols.clone_from(&text.alpn);
    config.ticketer = Arc::clone(tickets) as _;
    // Tickets carry sessions over processes; a table in memory would be per process and grow.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    // Early data can be replayed by anybody who saw it (RFC 8446 section 8).
    config.max_early_data_size = 0;
    Ok(config)
}

fn fault(error: &io::Error) -> Fault {
    let cause = match error.kind() {
        io::ErrorKind::InvalidData => Cause::BadRequest,
        _ => Cause::ClientGone,
    };
    Fault::client(Phase::RequestHead, cause)
}
