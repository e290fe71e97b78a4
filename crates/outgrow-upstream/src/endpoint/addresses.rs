//! The socket addresses of an endpoint whose address is a name.

use std::net::SocketAddr;
use std::sync::{MutexGuard, PoisonError};

use super::Endpoint;
use crate::connect::Place;

/// After how many answers without it, in a row, an address is gone whose name moved: the first of them had
/// none of the addresses before.
const MOVED: u8 = 3;
/// And where only a part was another one. Many names are told in part, another part each time, for as long
/// as a resolver keeps an answer; and one family of addresses may fail to be found.
const PART: u8 = 60;

/// What a name was resolved to.
#[derive(Debug, Default)]
pub(super) struct Resolved {
    /// Those to try, the one that worked last in front.
    addresses: Vec<SocketAddr>,
    /// Those that were there and were not in the last answers, with the number of answers that they are
    /// waited for yet.
    missed: Vec<(SocketAddr, u8)>,
}

impl Resolved {
    /// The addresses of one that is no name.
    pub(super) fn new(addresses: Vec<SocketAddr>) -> Self {
        Self {
            addresses,
            missed: Vec::new(),
        }
    }

    fn has(&self, address: SocketAddr) -> bool {
        let is_missed = |(missed, _): &(SocketAddr, u8)| *missed == address;
        self.addresses.contains(&address) || self.missed.iter().any(is_missed)
    }

    /// Takes over an answer; whether an address is gone for good.
    fn take(&mut self, mut answer: Vec<SocketAddr>) -> bool {
        let preferred = self.addresses.first();
        let place = answer.iter().position(|one| Some(one) == preferred);
        if let Some(place) = place {
            answer[..=place].rotate_right(1);
        }
        let before = std::mem::replace(&mut self.addresses, answer);
        let has_moved = !before.iter().any(|one| self.addresses.contains(one));
        let patience = if has_moved { MOVED } else { PART };
        self.missed
            .extend(before.into_iter().map(|one| (one, patience)));
        let mut is_gone = false;
        self.missed.retain_mut(|(address, left)| {
            *left -= 1;
            let is_there = self.addresses.contains(address);
            is_gone |= !is_there && *left == 0;
            !is_there && *left > 0
        });
        is_gone
    }
}

impl Endpoint {
    fn resolved(&self) -> MutexGuard<'_, Resolved> {
        self.resolved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The socket addresses to try, best first; none for a Unix socket or a name that was not
    /// resolved yet.
    pub(crate) fn socket_addresses(&self) -> Vec<SocketAddr> {
        self.resolved().addresses.clone()
    }

    /// The socket address to try first; none for a Unix socket or a name that was not resolved yet.
    pub fn first_address(&self) -> Option<SocketAddr> {
        self.resolved().addresses.first().copied()
    }

    /// Puts the address that answered in front.
    pub(crate) fn prefer(&self, address: SocketAddr) {
        let addresses = &mut self.resolved().addresses;
        if let Some(place) = addresses.iter().position(|known| *known == address) {
            addresses[..=place].rotate_right(1);
        }
    }

    /// Takes over what its name was resolved to; keeps what it had when that is nothing, and the
    /// preferred address in front when it is still among them. Connections to an address that is
    /// gone are not used again.
    pub(crate) fn set_socket_addresses(&self, addresses: Vec<SocketAddr>) {
        if addresses.is_empty() {
            return;
        }
        // The lock is gone before lists are locked.
        let one_is_gone = self.resolved().take(addresses);
        if one_is_gone {
            self.pool.keep_where(|address| self.has_address(address));
        }
    }

    /// Whether the address is one of those of its name.
    pub(super) fn has_address(&self, address: SocketAddr) -> bool {
        self.resolved().has(address)
    }

    /// Whether a connection to there leads to where the endpoint is now, as far as its name says.
    #[inline]
    pub fn is_at(&self, place: &Place) -> bool {
        place.is_of(self.pool.moves(), |address| self.has_address(address))
    }
}
