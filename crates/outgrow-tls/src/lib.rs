//! TLS for listeners: certificates, choice by server name, reload, session tickets, and the
//! encrypted transport that the engines read and write.
//!
//! No file is read here: PEM texts come in, with names to use in messages. TLS towards endpoints
//! is not here.

mod certificate;
mod names;
mod problem;
mod server;
mod stream;
mod tickets;

pub use certificate::{CertificateFacts, CertificateText};
pub use problem::{TlsProblem, TlsWarning};
pub use server::{ServerTls, TlsText};
pub use stream::TlsStream;
pub use tickets::{TicketKeys, TicketSecret};
