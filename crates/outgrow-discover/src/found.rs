//! What all sources give: a bounded, ordered list of endpoints without doubles.

use outgrow_core::settings::Address;

/// Most endpoints of one service that are taken from a source; those beyond, in the order of
/// their addresses, are left out and counted.
pub const LIMIT: usize = 1_024;

/// The largest weight, as in the configuration.
const WEIGHT_MAX: u32 = 1_000;
/// The largest priority, as in the configuration.
const PRIORITY_MAX: u32 = 100;
/// Longest name of a zone, in bytes.
const ZONE_LIMIT: usize = 64;

/// One endpoint as a source tells it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    /// Where it answers.
    pub address: Address,
    /// Its share compared with the others, 1 to 1000.
    pub weight: u32,
    /// Those of a higher number are used only as far as those below are not healthy.
    pub priority: u32,
    /// The zone that it is in; empty is none.
    pub zone: String,
}

impl Found {
    /// An endpoint of which only the address is known.
    pub fn at(address: Address) -> Self {
        Self {
            address,
            weight: 1,
            priority: 0,
            zone: String::new(),
        }
    }
}

/// One answer of a source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Discovered {
    /// Ordered by address, each address once, at most [`LIMIT`].
    endpoints: Vec<Found>,
    /// What was told and cannot be used: beyond the limit, or not an address.
    left_out: usize,
}

impl Discovered {
    /// Brings what a source told into order: values that the configuration would not take are cut
    /// to what it takes, an address that nothing can listen at is left out, of two with the same
    /// address the first counts. `unusable` is what the source's own part could not read.
    pub fn new(told: impl IntoIterator<Item = Found>, unusable: usize) -> Self {
        let mut left_out = unusable;
        let mut endpoints: Vec<Found> = Vec::new();
        for mut found in told {
            if !can_be_connected_to(&found.address) || endpoints.len() >= 16 * LIMIT {
                left_out += 1;
                continue;
            }
            found.weight = found.weight.clamp(1, WEIGHT_MAX);
            found.priority = found.priority.min(PRIORITY_MAX);
            if found.zone.len() > ZONE_LIMIT {
                found.zone.clear();
            }
            endpoints.push(found);
        }
        // Stable: of those with the same address the first stays in front.
        endpoints.sort_by(|one, other| one.address.cmp(&other.address));
        endpoints.dedup_by(|later, first| later.address == first.address);
        left_out += endpoints.len().saturating_sub(LIMIT);
        endpoints.truncate(LIMIT);
        Self {
            endpoints,
            left_out,
        }
    }

    /// The endpoints, ordered by address.
    pub fn endpoints(&self) -> &[Found] {
        &self.endpoints
    }

    /// How many were told and cannot be used.
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// Whether the source says that there are none. An answer of which nothing can be used says
    /// no such thing; it is a failure of the source.
    pub fn is_empty(&self) -> bool {
        self.endpoints.is_empty()
    }
}

fn can_be_connected_to(address: &Address) -> bool {
    if let Some(socket) = address.socket_address() {
        let ip = socket.ip().to_canonical();
        let is_broadcast = ip == std::net::IpAddr::V4(std::net::Ipv4Addr::BROADCAST);
        return socket.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !is_broadcast;
    }
    !matches!(address, Address::Tcp { port: 0, .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_ordered_bounded_and_without_doubles() {
        let found = |text: &str, weight| Found {
            weight,
            ..Found::at(text.parse().expect("an address"))
        };
        let told = [
            found("10.0.0.2:80", 5_000),
            found("10.0.0.1:80", 0),
            found("10.0.0.2:80", 7),
            found("0.0.0.0:80", 1),
            found("[::]:80", 1),
            found("224.0.0.1:80", 1),
            found("255.255.255.255:80", 1),
            found("[::ffff:0.0.0.0]:80", 1),
            found("10.0.0.3:0", 1),
            found("app:0", 1),
        ];
        let discovered = Discovered::new(told, 1);
        let expected = [found("10.0.0.1:80", 1), found("10.0.0.2:80", 1_000)];
        assert_eq!(discovered.endpoints(), expected);
        assert_eq!(discovered.left_out(), 8);
        let many = (0..3_000).map(|port| Found::at(Address::tcp("10.0.0.1", port + 1)));
        let discovered = Discovered::new(many, 0);
        assert_eq!(discovered.endpoints().len(), LIMIT);
        assert_eq!(discovered.left_out(), 3_000 - LIMIT);
    }
}
