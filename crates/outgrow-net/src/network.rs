//! By what clients' addresses are counted.

use std::net::{IpAddr, Ipv6Addr};

/// The address of IPv4, or the network of one of IPv6: who has one of these has a network of them, /64 at
/// least.
pub fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let network = u128::from(address) & (u128::MAX << 64);
            IpAddr::V6(Ipv6Addr::from(network))
        }
    }
}
