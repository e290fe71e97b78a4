//! TLS for listeners: certificates, choice by server name, reload, session tickets, and the
//! encrypted transport that the engines read and write. And TLS towards servers that are asked
//! something ([`ClientTls`]).
//!
//! No file is read here: PEM texts come in, with names to use in messages. TLS towards endpoints
//! is not here.

mod certificate;
mod client;
mod names;
mod problem;
mod refusal;
mod server;
mod stream;
mod tickets;

pub use certificate::{CertificateFacts, CertificateText};
pub use client::{ClientStream, ClientText, ClientTls};
pub use problem::{TlsProblem, TlsWarning};
pub use refusal::Refusal;
pub use server::{ServerTls, TlsText};
pub use stream::TlsStream;
pub use tickets::{TicketKeys, TicketSecret};
