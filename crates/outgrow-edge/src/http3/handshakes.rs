//! Handshakes under way: how many there may be, of all and of one address, and from how many on
//! addresses are verified.
//!
//! Who has not shown that an address is its own may have written somebody else's. So what it begins
//! only leads to addresses being verified, and never to somebody being refused.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use outgrow_net::network_of;

use crate::settings::Http3Settings;

/// From this part of what one address may have under way on it is verified.
const VERIFY_SHARE: u32 = 8;

/// Of one listener, all workers together.
#[derive(Debug)]
pub(crate) struct Handshakes {
    open: AtomicU32,
    /// Those of each address: no more addresses than there are handshakes.
    of_addresses: Mutex<HashMap<IpAddr, OfAddress>>,
    most: u32,
    verify_from: u32,
    most_of_address: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct OfAddress {
    all: u32,
    verified: u32,
}

/// What is to be done with who comes anew.
#[derive(Debug)]
pub(super) enum Entry {
    /// The handshake may begin; it is under way until this is dropped.
    Begin(Handshake),
    /// It has to show first that its address is its own.
    Verify,
    /// There are too many.
    Refuse,
}

/// A handshake under way.
#[derive(Debug)]
pub(super) struct Handshake {
    all: Arc<Handshakes>,
    address: IpAddr,
    verified: bool,
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.all.open.fetch_sub(1, Ordering::Relaxed);
        let mut addresses = self.all.addresses();
        let Some(of_address) = addresses.get_mut(&self.address) else {
            return;
        };
        of_address.all -= 1;
        of_address.verified -= u32::from(self.verified);
        if of_address.all == 0 {
            addresses.remove(&self.address);
        }
    }
}

impl Handshakes {
    pub(super) fn new(settings: &Http3Settings) -> Arc<Self> {
        Arc::new(Self {
            open: AtomicU32::new(0),
            of_addresses: Mutex::default(),
            most: settings.max_handshakes,
            verify_from: settings.verify_from,
            most_of_address: settings.max_handshakes_per_address,
        })
    }

    fn addresses(&self) -> MutexGuard<'_, HashMap<IpAddr, OfAddress>> {
        let addresses = self.of_addresses.lock();
        addresses.unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody comes anew from an address, which is verified or not.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr, verified: bool) -> Entry {
        let address = network_of(address);
        let mut addresses = self.addresses();
        let of_address = addresses.get(&address).copied().unwrap_or_default();
        let open = self.open.load(Ordering::Relaxed);
        let verify_from = self.most_of_address.div_ceil(VERIFY_SHARE);
        if !verified && (open >= self.verify_from || of_address.all >= verify_from) {
            return Entry::Verify;
        }
        // The lock is held: nobody else enters meanwhile.
        if open >= self.most || of_address.verified >= self.most_of_address {
            return Entry::Refuse;
        }
        self.open.fetch_add(1, Ordering::Relaxed);
        let of_address = addresses.entry(address).or_default();
        of_address.all += 1;
        of_address.verified += u32::from(verified);
        Entry::Begin(Handshake {
            all: Arc::clone(self),
            address,
            verified,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handshakes(most: u32, verify_from: u32, of_address: u32) -> Arc<Handshakes> {
        Arc::new(Handshakes {
            open: AtomicU32::new(0),
            of_addresses: Mutex::default(),
            most,
            verify_from,
            most_of_address: of_address,
        })
    }

    struct Entering {
        handshakes: Arc<Handshakes>,
        open: Vec<Handshake>,
    }

    impl Entering {
        fn new(handshakes: Arc<Handshakes>) -> Self {
            let open = Vec::new();
            Self { handshakes, open }
        }

        fn enter(&mut self, address: &str, verified: bool) -> &'static str {
            let address = address.parse().expect("an address");
            match self.handshakes.enter(address, verified) {
                Entry::Begin(handshake) => {
                    self.open.push(handshake);
                    "begin"
                }
                Entry::Verify => "verify",
                Entry::Refuse => "refuse",
            }
        }
    }

    #[test]
    fn handshakes_are_verified_and_then_bounded() {
        let mut all = Entering::new(handshakes(3, 2, 100));
        let mut enter = |verified| all.enter("192.0.2.1", verified);
        assert_eq!(
            [enter(false), enter(true), enter(false)],
            ["begin", "begin", "verify"]
        );
        assert_eq!(
            [enter(true), enter(true), enter(false)],
            ["begin", "refuse", "verify"]
        );
        all.open.clear();
        assert_eq!(all.enter("192.0.2.1", false), "begin");
    }

    #[test]
    fn addresses_may_be_verified_always() {
        let mut all = Entering::new(handshakes(3, 0, 100));
        assert_eq!(all.enter("192.0.2.1", false), "verify");
        assert_eq!(all.enter("192.0.2.1", true), "begin");
    }

    #[test]
    fn one_address_has_few_and_others_do_not_notice() {
        let mut all = Entering::new(handshakes(1_000, 100, 16));
        let one = "::ffff:192.0.2.1";
        assert_eq!([all.enter(one, false), all.enter(one, false)], ["begin"; 2]);
        assert_eq!(all.enter("192.0.2.1", false), "verify");
        // Whoever wrote that address does not keep its owner out.
        for _ in 0..16 {
            assert_eq!(all.enter("192.0.2.1", true), "begin");
        }
        assert_eq!(all.enter(one, true), "refuse");
        assert_eq!(all.enter("192.0.2.2", false), "begin");
        // One /64 is one client.
        for host in 0..16 {
            let address = format!("2001:db8::{host}");
            assert_eq!(all.enter(&address, true), "begin");
        }
        assert_eq!(all.enter("2001:db8::ffff:0:0:1", true), "refuse");
        assert_eq!(all.enter("2001:db8:0:1::1", true), "begin");
        let handshakes = Arc::clone(&all.handshakes);
        drop(all);
        assert!(handshakes.addresses().is_empty());
        assert_eq!(handshakes.open.load(Ordering::Relaxed), 0);
    }
}
