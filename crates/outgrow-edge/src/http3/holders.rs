//! What clients' addresses could make us hold: one account for each address, of all listeners and workers.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use outgrow_message::ledger::Holder;
use outgrow_net::network_of;

/// From so many addresses on it is looked which of them are gone.
const FEW: usize = 64;

/// The addresses that have connections.
#[derive(Debug, Default)]
pub(crate) struct Holders {
    shown: Mutex<Addresses>,
    /// All whose address may be anybody's: nobody is to be kept out by what others write.
    unknown: Arc<Holder>,
}

#[derive(Debug, Default)]
struct Addresses {
    holders: HashMap<IpAddr, Weak<Holder>>,
    /// From so many on those that are gone are forgotten.
    sweep_at: usize,
}

impl Holders {
    /// Of all connections whose handshakes have not shown their addresses, although something may come.
    pub(super) fn unknown(&self) -> Arc<Holder> {
        Arc::clone(&self.unknown)
    }

    /// Of an address that was shown to be the client's.
    pub(super) fn of(&self, address: IpAddr) -> Arc<Holder> {
        let address = network_of(address);
        let mut addresses = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
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
        // Whatever one writes, it is not that of all who are not known.
        assert!(!Arc::ptr_eq(&of("::1"), &holders.unknown()));
        assert!(Arc::ptr_eq(&holders.unknown(), &holders.unknown()));
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
        let known = holders.shown.lock().expect("no panic").holders.len();
        assert!(known <= FEW + 1, "{known}");
    }
}
