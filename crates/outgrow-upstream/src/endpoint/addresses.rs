//! The socket addresses of an endpoint whose address is a name.

use std::net::SocketAddr;
use std::sync::PoisonError;

use super::Endpoint;

impl Endpoint {
    /// The socket addresses to try, best first; none for a Unix socket or a name that was not
    /// resolved yet.
    pub(crate) fn socket_addresses(&self) -> Vec<SocketAddr> {
        self.resolved
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The socket address to try first; none for a Unix socket or a name that was not resolved yet.
    pub fn first_address(&self) -> Option<SocketAddr> {
        let resolved = self.resolved.lock();
        let resolved = resolved.unwrap_or_else(PoisonError::into_inner);
        resolved.first().copied()
    }

    /// Puts the address that answered in front.
    pub(crate) fn prefer(&self, address: SocketAddr) {
        let mut resolved = self.resolved.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = resolved.iter().position(|known| *known == address) {
            resolved[..=place].rotate_right(1);
        }
    }

    /// Takes over what its name was resolved to; keeps what it had when that is nothing, and the
    /// preferred address in front when it is still among them.
    pub(crate) fn set_socket_addresses(&self, mut addresses: Vec<SocketAddr>) {
        let mut resolved = self.resolved.lock().unwrap_or_else(PoisonError::into_inner);
        if addresses.is_empty() {
            return;
        }
        let preferred = resolved.first();
        if let Some(place) = addresses
            .iter()
            .position(|address| Some(address) == preferred)
        {
            addresses[..=place].rotate_right(1);
        }
        *resolved = addresses;
    }
}
