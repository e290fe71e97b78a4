//! A client's way to TLS: on its request, or at once; and what its handshake says of it.

use outgrow_net::Stream;
use outgrow_tls::{Holder, ServerTls, TlsStream};

use super::Peer;
use super::login::{End, Login};
use crate::encryption::ALPN;
use crate::login::scram::end_point_hash;
use crate::login::{ClientCertificate, Tls};
use crate::plan::Plan;
use crate::problem::{PROTOCOL, Refusal};
use crate::socket::Socket;

/// The kind of a TLS record of a handshake, with which a connection begins that has TLS at once. As
/// the beginning of a length it would be one of hundreds of megabytes.
const HANDSHAKE: u8 = 0x16;

/// What TLS says of a client, and of us.
pub(super) struct Secured {
    end_point: Option<Vec<u8>>,
    certificate: Option<Holder>,
}

impl Secured {
    fn of(stream: &TlsStream) -> Self {
        Self {
            end_point: stream.own_certificate().and_then(end_point_hash),
            certificate: stream.client_certificate().map(Holder::of),
        }
    }

    /// As the login looks at it.
    pub(super) fn facts(&self) -> Tls<'_> {
        let certificate = self.certificate.as_ref();
        Tls {
            end_point: self.end_point.as_deref(),
            certificate: certificate.map(|holder| ClientCertificate {
                common_name: holder.common_name.as_deref(),
                alternative_names: &holder.alternative_names,
            }),
        }
    }
}

impl Login {
    /// What TLS says, if the connection has it.
    pub(super) fn secured(&self) -> Option<Secured> {
        match &self.socket {
            Socket::Tls(stream) => Some(Secured::of(stream)),
            Socket::Plain(_) | Socket::Server(_) => None,
        }
    }

    /// Whether the client has begun with TLS instead of asking for it.
    pub(super) fn has_begun_tls(&self) -> bool {
        self.input.first() == Some(&HANDSHAKE) && !self.socket.is_encrypted()
    }

    /// Goes on with the handshake that the client has begun.
    pub(super) async fn go_on_with_tls(&mut self, plan: &Plan) -> Result<(), End> {
        let (Some(tls), Peer::Tcp(_)) = (&plan.house.tls, self.peer) else {
            // It would not understand a word.
            return Err(End::Gone);
        };
        let first = std::mem::take(&mut self.input);
        self.shake_hands(tls, first).await?;
        match &self.socket {
            // Without it a browser could be had to say something to us (ALPACA).
            Socket::Tls(stream) if stream.alpn() == Some(ALPN) => Ok(()),
            _ => {
                let message = "received direct SSL connection request without ALPN protocol \
                               negotiation extension";
                Err(Refusal::new(PROTOCOL, message).into())
            }
        }
    }

    /// Answers a request for TLS.
    pub(super) async fn answer_tls(&mut self, plan: &Plan) -> Result<(), End> {
        let (Some(tls), Peer::Tcp(_)) = (&plan.house.tls, self.peer) else {
            return self.send(b"N").await;
        };
        if !self.input.is_empty() {
            // It would be taken for what was said under encryption (CVE-2021-23214).
            let message = "received unencrypted data after SSL request";
            return Err(Refusal::new(PROTOCOL, message).into());
        }
        self.send(b"S").await?;
        self.shake_hands(tls, Vec::new()).await
    }

    async fn shake_hands(&mut self, tls: &ServerTls, first: Vec<u8>) -> Result<(), End> {
        let accept = tls.accept_bound(self.take_stream()?, first);
        let stream = accept.await.map_err(|_| End::Gone)?;
        self.entry.seen.set_tls(stream.protocol());
        self.socket = Socket::Tls(Box::new(stream));
        Ok(())
    }

    fn take_stream(&mut self) -> Result<Stream, End> {
        // A pair of sockets that goes nowhere stands in until the encrypted one is there.
        let (stand_in, _) = tokio::net::UnixStream::pair().map_err(|_| End::Gone)?;
        match std::mem::replace(&mut self.socket, Socket::Plain(Stream::Unix(stand_in))) {
            Socket::Plain(stream) => Ok(stream),
            Socket::Tls(_) | Socket::Server(_) => Err(End::Gone),
        }
    }
}
