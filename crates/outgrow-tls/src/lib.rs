//! TLS for listeners: certificates, choice by server name, reload, session tickets, and the
//! encrypted transport that the engines read and write. And TLS towards servers: those that are
//! asked something ([`ClientTls`], always verified), and those that clients' data goes to
//! ([`EndpointTls`], verified as it is said for each).
//!
//! No file is read here: PEM texts come in, with names to use in messages.

mod certificate;
mod choices;
mod client;
pub mod der;
mod endpoint;
mod holder;
mod issuers;
mod managed;
mod names;
mod ocsp;
mod problem;
#[cfg(feature = "http3")]
mod quic;
mod records;
mod refusal;
mod revocation;
mod server;
mod stream;
mod tickets;
mod verify;
mod x509;

pub use certificate::{CertificateFacts, CertificateText, StapleText};
pub use choices::{Choices, CipherSuite, TlsVersion};
pub use client::{ClientStream, ClientText, ClientTls};
pub use endpoint::{EndpointStream, EndpointText, EndpointTls, Verification};
pub use holder::{Holder, fingerprint};
pub use issuers::{Issuers, SYSTEM_ISSUERS};
pub use managed::{ACME_TLS, AlpnChallenges, Managed, facts};
pub use ocsp::inspect as ocsp_inspect;
pub use ocsp::{
    OcspProblem, OcspResponse, OcspStatus, RESPONSE_LIMIT, Schedule, Staple, StapleFacts, Staples,
};
pub use problem::{TlsProblem, TlsWarning};
#[cfg(feature = "http3")]
pub use quic::quic_client_certificate;
pub use refusal::Refusal;
pub use server::{ClientCertificates, RevocationText, ServerTls, Stapling, TlsText};
pub use stream::TlsStream;
pub use tickets::{TicketKeys, TicketSecret};
pub use x509::renewal_identity;
