//! Whom a listener believes, and who must speak.

use super::ProxyHeader;

outgrow_core::choice! {
    /// Whether proxies say whose connection it is.
    pub enum AcceptProxy {
        /// Nobody is asked: what looks like a header is the client's own bytes.
        Off = "off",
        /// Connections of `trusted_proxies` must begin with a header; others are their clients' own,
        /// and end when they begin with one.
        Optional = "optional",
        /// Every connection must begin with a header and come from `trusted_proxies`.
        Required = "required",
    }
}

/// What is to be done with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// It is what it is.
    Nothing,
    /// A header is its client's forgery.
    NoHeader,
    /// It must begin with a header.
    #[doc(alias = "accept-proxy")]
    Header,
    /// It is not let in.
    Refuse,
}

impl AcceptProxy {
    /// What is demanded of a connection, by whether its peer is a known proxy.
    pub fn demands(self, is_trusted: bool) -> Demand {
        match (self, is_trusted) {
            (Self::Off, _) => Demand::Nothing,
            (Self::Optional, false) => Demand::NoHeader,
            (Self::Required, false) => Demand::Refuse,
            (_, true) => Demand::Header,
        }
    }
}

impl ProxyHeader {
    /// The client's address; none when the proxy speaks for itself.
    pub fn source(&self) -> Option<std::net::SocketAddr> {
        self.addresses.map(|addresses| addresses.source)
    }
}
