//! The socket addresses of an endpoint whose address is a name.

use std::net::SocketAddr;
use std::sync::PoisonError;

use super::Endpoint;
use crate::pool::Connection;

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
        let is_gone = |address: &SocketAddr| !addresses.contains(address);
        let one_went = resolved.iter().any(is_gone);
        *resolved = addresses;
        if one_went {
            let addresses = resolved.clone();
            drop(resolved);
            self.pool.keep_to(&addresses);
        }
    }

    /// Whether the address is one of those of its name now.
    pub(super) fn has_address(&self, address: SocketAddr) -> bool {
        let resolved = self.resolved.lock().unwrap_or_else(PoisonError::into_inner);
        resolved.contains(&address)
    }

    /// Whether the connection leads to where the endpoint is now, as far as its name says.
    #[inline]
    pub(super) fn leads_here(&self, connection: &mut Connection) -> bool {
        let moves = self.pool.moves();
        if connection.moves == moves {
            return true;
        }
        connection.moves = moves;
        let is_here = |address| self.has_address(address);
        connection.address.is_none_or(is_here)
    }
}
