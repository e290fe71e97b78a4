//! Whose connection it is, where proxies say so (the PROXY protocol): before the first byte of HTTP
//! or TLS.
//!
//! Not here: what a client that is no proxy says about itself. A header of its own is no HTTP and no
//! TLS, and is refused as such.

use std::net::IpAddr;

use outgrow_core::Cause;
use outgrow_net::Stream;
use outgrow_net::proxy_header::{Demand, receive};

use crate::plan::ListenerPlan;
use crate::worker::Worker;

/// The client's address: that of the peer, or the one that a known proxy says. None when the
/// connection is to end, which is counted.
pub(crate) async fn learn(
    worker: &Worker,
    listener: &ListenerPlan,
    stream: &mut Stream,
    peer: Option<IpAddr>,
) -> Option<Option<IpAddr>> {
    match listener.accept_proxy.demands(listener.trusts(peer)) {
        Demand::Nothing | Demand::NoHeader => return Some(peer),
        Demand::Header => {}
        Demand::Refuse => {
            worker.cells().count_fault(Cause::ProxyHeader);
            return None;
        }
    }
    let mut bytes = Vec::new();
    let received = receive(stream, &mut bytes);
    let cause = match tokio::time::timeout(listener.timeouts.head, received).await {
        Ok(Ok(header)) => {
            let source = header.source();
            return Some(source.map_or(peer, |source| Some(source.ip())));
        }
        Ok(Err(_)) => Cause::ProxyHeader,
        Err(_) => Cause::HeadTimeout,
    };
    worker.cells().count_fault(cause);
    None
}
