//! What clients' addresses could make us hold: one account for each address, of all listeners and workers.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use outgrow_message::ledger::Holder;
use outgrow_net::network_of;

/// From so many addresses on it is looked which of them are gone.
const FEW: usize = 64;

/// The addresses that have connections.
#[derive(Debug, Default)]
pub(crate) struct Holders(Mutex<Addresses>);

#[derive(Debug, Default)]
struct Addresses {
    holders: HashMap<IpAddr, Weak<Holder>>,
    /// From so many on those that are gone are forgotten.
    sweep_at: usize,
}

impl Holders {
    /// Of an address that is shown to be the client's before it can hold anything.
    pub(super) fn of(&self, address: IpAddr) -> Arc<Holder> {
        self.named(network_of(address))
    }

    /// Of all whose address may be anybody's: nobody is to be kept out by what others write.
    pub(super) fn of_unknown(&self) -> Arc<Holder> {
        self.named(IpAddr::V6(Ipv6Addr::UNSPECIFIED))
    }

    fn named(&self, address: IpAddr) -> Arc<Holder> {
        let mut addresses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Addresses { holders, sweep_at } = &mut *addresses;
        if let Some(holder) = holders.get(&address).and_then(Weak::upgrade) {
            return holder;
        }
        if holders.len() >= *sweep_at {
            holders.retain(|_, holder| holder.strong_count() > 0);
            *sweep_at = FEW.max(2 * holders.len());
        }
        let holder = Arc::default();
        holders.insert(address, Arc::downgrade(&holder));
        holder
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_one_account_while_it_has_connections() {
        let holders = Holders::default();
        let of = |address: &str| holders.of(address.parse().expect("an address"));
        let first = of("192.0.2.1");
        assert!(Arc::ptr_eq(&first, &of("::ffff:192.0.2.1")));
        assert!(!Arc::ptr_eq(&first, &of("192.0.2.2")));
        assert!(!Arc::ptr_eq(&first, &holders.of_unknown()));
        let network = of("2001:db8::1");
        assert!(Arc::ptr_eq(&network, &of("2001:db8::2:0:0:3")));
        assert!(!Arc::ptr_eq(&network, &of("2001:db8:0:1::1")));
    }

    #[test]
    fn addresses_that_are_gone_are_forgotten() {
        let holders = Holders::default();
        let stays = holders.of(IpAddr::from([192, 0, 2, 1]));
        for at in 0..10_000_u32 {
            holders.of(IpAddr::from(at.to_be_bytes()));
        }
        let again = holders.of(IpAddr::from([192, 0, 2, 1]));
        assert!(Arc::ptr_eq(&stays, &again));
        let known = holders.0.lock().expect("no panic").holders.len();
        assert!(known <= FEW + 1, "{known}");
    }
}
