//! A listener's TLS: handshakes with what was published last.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use outgrow_core::{Cause, Fault, Phase, Snapshot, WallTime};
use outgrow_net::Stream;
use rustls::crypto::CryptoProvider;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ServerConfig, ServerConnection};
use tokio_rustls::TlsAcceptor;

use crate::certificate::{self, CertificateFacts, CertificateText, Loaded};
use crate::choices::Choices;
use crate::issuers::{self, Issuers};
use crate::managed::{ACME_TLS, Both, Managed};
use crate::names::{ByName, Chosen};
use crate::ocsp::{self, Staples};
use crate::problem::{TlsProblem, TlsWarning};
use crate::revocation;
use crate::stream::TlsStream;
use crate::tickets::TicketKeys;

/// How many bytes one connection may hold back, sealed, when its client does not take them. No
/// ledger counts them.
const HELD_BACK_BYTES: usize = 64 * 1024;

/// Most issuers that clients are told the names of, so that they know which certificate to show; the
/// list has at most 64 KiB on the wire.
const NAMED_ISSUERS: usize = 64;

/// What a listener's TLS is made of.
#[derive(Clone, Debug, Default)]
pub struct TlsText {
    /// Certificates with their keys; the first is for clients that ask for no name, or for one
    /// that no certificate has.
    pub certificates: Vec<CertificateText>,
    /// Application protocols (`h2`, `http/1.1`), the preferred one first. A client that offers
    /// only others is refused (RFC 7301 section 3.2); one that offers none is taken.
    pub alpn: Vec<Vec<u8>>,
    /// Whether a client that asks for no name, or for one that no certificate has, is refused
    /// (alert `unrecognized_name`, RFC 6066 section 3) instead of getting the first certificate.
    pub refuses_unknown_names: bool,
    /// Whether clients show certificates.
    pub clients: ClientCertificates,
    /// Which of those have been revoked, by the lists of their issuers.
    pub revoked: Vec<RevocationText>,
    /// Versions and cipher suites.
    pub choices: Choices,
    /// Certificates besides, that others replace while this runs.
    pub managed: Option<Arc<Managed>>,
    /// Whether and how OCSP responses are stapled.
    pub stapling: Stapling,
}

/// How OCSP responses are stapled. The default: those of files only.
#[derive(Clone, Debug, Default)]
pub struct Stapling {
    /// The staples of the process.
    pub staples: Arc<Staples>,
    /// Whether certificates that name responders are stapled with their responses. Somebody asks for
    /// them: see [`Staples::live`].
    pub asks: bool,
}

impl Stapling {
    pub(crate) fn apply(
        &self,
        loaded: &mut Loaded,
        text: &CertificateText,
        now: WallTime,
        warnings: &mut Vec<TlsWarning>,
    ) {
        ocsp::with_staple(loaded, text, &self.staples, self.asks, now, warnings);
    }
}

/// Lists of revoked certificates (RFC 5280 section 5) as PEM, with the name by which messages speak
/// of them. Of an issuer without a list nothing is known to be revoked; a list whose time is over is
/// still believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevocationText {
    /// One list or several.
    pub text: Vec<u8>,
    /// Where they are from, usually a file's path.
    pub name: String,
}

/// Whether clients show certificates. Where they do no session should be resumed (no
/// [`TicketKeys`]): it would go on with a certificate that was verified when it began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ClientCertificates {
    /// They are not asked for one.
    #[default]
    NotAsked,
    /// They are, and need not have one; one of another issuer is refused.
    Asked(Issuers),
    /// There is no handshake without one.
    Required(Issuers),
}

/// TLS for the connections of a listener. Versions 1.2 and 1.3, over TCP no early data.
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

    /// What handshakes are done with now.
    #[cfg(feature = "http3")]
    pub(crate) fn config(&self) -> ServerConfig {
        ServerConfig::clone(&self.state.load().config)
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

    /// As [`ServerTls::accept`], for protocols that bind a login to the certificate: the stream
    /// knows [its own](TlsStream::own_certificate). `first` is what was read of the connection
    /// already.
    pub fn accept_bound(
        &self,
        stream: Stream,
        first: Vec<u8>,
    ) -> impl Future<Output = Result<TlsStream, Fault>> + Send + 'static {
        let mut config = ServerConfig::clone(&self.state.load().config);
        let chosen = Arc::new(Chosen::new(Arc::clone(&config.cert_resolver)));
        config.cert_resolver = Arc::clone(&chosen) as _;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        async move {
            let mut refused = None;
            let mut handshake = acceptor.accept_with(stream, |connection| {
                connection.set_buffer_limit(Some(HELD_BACK_BYTES));
                refused = feed(connection, &first).err();
            });
            if let Some(error) = refused {
                // It would wait for more before it says what was wrong.
                poll_fn(|cx| {
                    let _ = Pin::new(&mut handshake).poll(cx);
                    Poll::Ready(())
                })
                .await;
                return Err(fault(&error));
            }
            let stream = handshake.await.map_err(|error| fault(&error))?;
            Ok(TlsStream::new(stream).with_certificate(chosen.take()))
        }
    }
}

/// Gives a connection the first bytes of its client.
fn feed(connection: &mut ServerConnection, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        connection.read_tls(&mut bytes)?;
        let taken = connection.process_new_packets();
        taken.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    }
    Ok(())
}

fn load(
    text: &TlsText,
    tickets: &Arc<TicketKeys>,
    now: WallTime,
) -> Result<(State, Vec<TlsWarning>), Vec<TlsProblem>> {
    let provider = Arc::new(text.choices.provider());
    let mut warnings = Vec::new();
    let mut problems = Vec::new();
    let mut loaded = Vec::with_capacity(text.certificates.len());
    for one in &text.certificates {
        match certificate::load(one, &provider, now, &mut warnings) {
            Ok(mut certificate) => {
                let stapling = &text.stapling;
                stapling.apply(&mut certificate, one, now, &mut warnings);
                loaded.push(certificate);
            }
            Err(problem) => problems.push(problem),
        }
    }
    if text.certificates.is_empty() && text.managed.is_none() {
        problems.push(TlsProblem::NothingToServe);
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let config = config(
        provider,
        ByName::new(&loaded, text.refuses_unknown_names),
        text,
        tickets,
    )
    .map_err(|problem| vec![problem])?;
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
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&text.choices.versions()?)
        .map_err(unusable)?;
    let builder = match clients(text, provider)? {
        None => builder.with_no_client_auth(),
        Some(verifier) => builder.with_client_cert_verifier(verifier),
    };
    let mut config = match &text.managed {
        None => builder.with_cert_resolver(Arc::new(certificates)),
        Some(managed) => builder.with_cert_resolver(Arc::new(Both {
            own: certificates,
            managed: Arc::clone(managed),
        })),
    };
    config.alpn_protocols.clone_from(&text.alpn);
    if text.managed.is_some() {
        config.alpn_protocols.push(ACME_TLS.to_vec());
    }
    config.ticketer = Arc::clone(tickets) as _;
    // Tickets carry sessions over processes; a table in memory would be per process and grow.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    // Early data can be replayed by anybody who saw it (RFC 8446 section 8).
    config.max_early_data_size = 0;
    Ok(config)
}

/// The verifier of clients' certificates, if they are asked for.
fn clients(
    text: &TlsText,
    provider: Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsProblem> {
    let (issuers, is_required) = match &text.clients {
        ClientCertificates::NotAsked => return Ok(None),
        ClientCertificates::Asked(issuers) => (issuers, false),
        ClientCertificates::Required(issuers) => (issuers, true),
    };
    let (roots, _) = issuers::read(&issuers.text, &issuers.name)?;
    let is_long = roots.len() > NAMED_ISSUERS;
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    if !is_required {
        builder = builder.allow_unauthenticated();
    }
    if is_long {
        builder = builder.clear_root_hint_subjects();
    }
    if !text.revoked.is_empty() {
        builder = builder
            .with_crls(revocation::read(&text.revoked)?)
            .allow_unknown_revocation_status();
    }
    builder.build().map(Some).map_err(unusable)
}

fn unusable(error: impl ToString) -> TlsProblem {
    TlsProblem::Unusable {
        detail: error.to_string(),
    }
}

fn fault(error: &io::Error) -> Fault {
    let cause = match error.kind() {
        io::ErrorKind::InvalidData => Cause::BadRequest,
        _ => Cause::ClientGone,
    };
    Fault::client(Phase::RequestHead, cause)
}
