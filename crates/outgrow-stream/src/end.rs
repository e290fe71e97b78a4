//! How a connection ended, and whose fault that was: what the record, the metrics and the
//! endpoint's health go by.

use outgrow_core::{Cause, Fault, Phase, Sent};

/// How a connection ended. The name in lower snake case is the reason in the record; a connection
/// that both sides ended in order has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Both sides ended it in order.
    Finished,
    /// The client reset it, or its machine is gone.
    ClientReset,
    /// The client left before an endpoint had taken it.
    ClientGone,
    /// The endpoint reset it, or its machine is gone.
    EndpointReset,
    /// Nothing came from either side for too long.
    IdleTimeout,
    /// It was open for as long as it may be.
    Lifetime,
    /// This process ends.
    Drained,
    /// The endpoint is down, and its connections are to end then.
    EndpointDown,
    /// The listener has as many connections as it may have.
    TooManyConnections,
    /// The client's address has as many as it may have.
    TooManyOfAddress,
    /// A proxy must say whose connection it is, and this is none that is believed.
    ProxyUntrusted,
    /// A proxy that must say whose connection it is did not, or not so that it can be understood.
    ProxyHeader,
    /// A proxy did not say it in time.
    ProxyTimeout,
    /// It does not begin with a TLS ClientHello that can be understood.
    NoClientHello,
    /// The ClientHello did not come in time.
    HelloTimeout,
    /// No route is for what the ClientHello says.
    NoRoute,
    /// No endpoint took it, for this cause.
    Refused(Cause),
    /// There was no memory.
    Memory,
    /// A session of datagrams made room for another one.
    GaveWay,
    /// A fault of ours.
    Internal,
}

impl End {
    /// The machine-readable reason; none for an orderly end.
    pub fn reason(self) -> Option<&'static str> {
        Some(match self {
            Self::Finished => return None,
            Self::ClientReset => "client_reset",
            Self::ClientGone => "client_gone",
            Self::EndpointReset => "endpoint_reset",
            Self::IdleTimeout => "idle_timeout",
            Self::Lifetime => "lifetime",
            Self::Drained => "drained",
            Self::EndpointDown => "endpoint_down",
            Self::TooManyConnections => "too_many_connections",
            Self::TooManyOfAddress => "too_many_of_address",
            Self::ProxyUntrusted => "proxy_untrusted",
            Self::ProxyHeader => "proxy_header",
            Self::ProxyTimeout => "proxy_timeout",
            Self::NoClientHello => "no_client_hello",
            Self::HelloTimeout => "hello_timeout",
            Self::NoRoute => "no_route",
            Self::Refused(cause) => cause.reason(),
            Self::GaveWay => "gave_way",
            Self::Memory => Cause::MemoryLimit.reason(),
            Self::Internal => Cause::Internal.reason(),
        })
    }

    /// What it means for the endpoint's health, when something came of it: one that resets
    /// connections before it said a word is no better than one that refuses them.
    pub fn fault(self, endpoint_spoke: bool) -> Option<Fault> {
        let is_endpoints = self == Self::EndpointReset && !endpoint_spoke;
        is_endpoints.then(|| Fault::upstream(Phase::Tunnel, Cause::UpstreamReset, Sent::Maybe))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_endpoint_that_said_nothing_is_blamed() {
        assert!(
            End::EndpointReset
                .fault(false)
                .is_some_and(Fault::blames_endpoint)
        );
        assert_eq!(End::EndpointReset.fault(true), None);
        assert_eq!(End::ClientReset.fault(false), None);
        assert_eq!(End::IdleTimeout.fault(false), None);
    }
}
