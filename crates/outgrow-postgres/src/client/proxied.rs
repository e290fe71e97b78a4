//! Whose connection it is, where proxies say so (the PROXY protocol): before the first word of the
//! client.

use outgrow_net::ProxyHeader;

use super::Peer;
use super::login::{End, Login};
use crate::plan::Plan;
use crate::problem::{PROTOCOL, Refusal};

impl Login {
    /// Reads what the proxy says, where there must be one; the client is then where the proxy says
    /// that it is. A proxy that speaks for itself stays where it is.
    pub(super) async fn learn_peer(&mut self, plan: &Plan) -> Result<(), End> {
        let (Some(proxies), Peer::Tcp(proxy)) = (&plan.house.proxies, self.peer) else {
            return Ok(());
        };
        if !proxies.iter().any(|network| network.contains(proxy)) {
            let proxy = proxy.to_canonical();
            let message = format!("{proxy} is none of the proxies that may connect here");
            return Err(Refusal::new(PROTOCOL, message).into());
        }
        loop {
            match ProxyHeader::read(&self.input) {
                Ok(Some((header, length))) => {
                    self.input.drain(..length);
                    if let Some(addresses) = header.addresses {
                        self.peer = Peer::Tcp(addresses.source.ip());
                        self.entry.seen.set_proxied(addresses.source);
                    }
                    return Ok(());
                }
                Ok(None) => self.receive().await?,
                Err(error) => return Err(Refusal::new(PROTOCOL, error.to_string()).into()),
            }
        }
    }
}
