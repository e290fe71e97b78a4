//! How many connections each address has, where that is limited.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use outgrow_net::network_of;

/// The tables that the count is split into, so that workers rarely meet.
const SHARDS: usize = 16;

/// The connections of a listener by address. Holds an entry only for addresses that have one.
#[derive(Debug, Default)]
pub struct Addresses {
    shards: [Mutex<HashMap<IpAddr, u32>>; SHARDS],
}

/// One connection of an address; counted until it is dropped.
#[derive(Debug)]
pub struct OfAddress {
    all: Arc<Addresses>,
    key: IpAddr,
}

impl Addresses {
    /// Counts a connection of the address, of at most `limit`.
    pub fn enter(self: &Arc<Self>, address: IpAddr, limit: u32) -> Option<OfAddress> {
        let key = network_of(address);
        let mut shard = self
            .shard(key)
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let count = shard.entry(key).or_insert(0);
        if *count >= limit {
            return None;
        }
        *count += 1;
        drop(shard);
        Some(OfAddress {
            all: Arc::clone(self),
            key,
        })
    }

    fn shard(&self, key: IpAddr) -> &Mutex<HashMap<IpAddr, u32>> {
        let last = match key {
            IpAddr::V4(address) => address.octets()[3],
            IpAddr::V6(address) => address.octets()[7],
        };
        &self.shards[usize::from(last) % SHARDS]
    }
}

impl Drop for OfAddress {
    fn drop(&mut self) {
        let shard = self.all.shard(self.key);
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = shard.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                shard.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_so_many_and_no_more() {
        let all = Arc::new(Addresses::default());
        let enter = |text: &str| all.enter(text.parse().expect("an address"), 2);
        let first = enter("192.0.2.1").expect("one");
        let _second = enter("::ffff:192.0.2.1").expect("two");
        assert!(enter("192.0.2.1").is_none());
        assert!(enter("192.0.2.2").is_some(), "another one");
        drop(first);
        let third = enter("192.0.2.1");
        assert!(third.is_some());
        let _one = enter("2001:db8::1").expect("one");
        let _other = enter("2001:db8::2").expect("two");
        assert!(enter("2001:db8::3").is_none(), "the same network");
        assert!(enter("2001:db8:0:1::1").is_some(), "another one");
    }

    #[test]
    fn nothing_is_left_of_those_who_left() {
        let all = Arc::new(Addresses::default());
        for last in 0..=255 {
            drop(all.enter([10, 0, 0, last].into(), 1));
        }
        let left = all
            .shards
            .iter()
            .map(|shard| shard.lock().expect("good").len());
        assert_eq!(left.sum::<usize>(), 0);
    }
}
