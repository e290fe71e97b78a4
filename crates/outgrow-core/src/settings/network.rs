//! Networks: which addresses are meant by `10.0.0.0/8`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// An IP address with the number of its leading bits that count (CIDR, RFC 4632).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// Why a text is not a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// What stands before the slash is not an IP address.
    #[error("it does not start with an IP address")]
    Address,
    /// What stands behind the slash is not a number of bits.
    #[error("the prefix is a number of bits, at most 32 for IPv4 and 128 for IPv6")]
    Prefix,
    /// The address has bits behind the prefix.
    #[error("bits are set behind the prefix; the network is {0}")]
    HostBits(Network),
}

impl Network {
    /// Whether the address is in this network. An IPv4 address that arrives in IPv6 form
    /// (`::ffff:10.0.0.1`) counts as the IPv4 address that it is.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.address, ip.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(ip)) => {
                let mask = mask(u32::MAX.into(), 32, self.prefix) as u32;
                u32::from(network) & mask == u32::from(ip) & mask
            }
            (IpAddr::V6(network), IpAddr::V6(ip)) => {
                let mask = mask(u128::MAX, 128, self.prefix);
                u128::from(network) & mask == u128::from(ip) & mask
            }
            _ => false,
        }
    }

    /// Whether the network is the whole Internet, of IPv4 or IPv6.
    pub fn is_everything(&self) -> bool {
        self.prefix == 0
    }

    /// The same network with the bits behind the prefix cleared.
    fn first(self) -> Self {
        let address = match self.address {
            IpAddr::V4(ip) => {
                let mask = mask(u32::MAX.into(), 32, self.prefix) as u32;
                IpAddr::V4((u32::from(ip) & mask).into())
            }
            IpAddr::V6(ip) => {
                IpAddr::V6((u128::from(ip) & mask(u128::MAX, 128, self.prefix)).into())
            }
        };
        Self { address, ..self }
    }
}

/// The leading `prefix` of `bits` bits set.
fn mask(all: u128, bits: u8, prefix: u8) -> u128 {
    all & all
        .checked_shl(u32::from(bits - prefix.min(bits)))
        .unwrap_or(0)
}

impl fmt::Display for Network {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = if self.address.is_ipv4() { 32 } else { 128 };
        if self.prefix == bits {
            write!(formatter, "{}", self.address)
        } else {
            write!(formatter, "{}/{}", self.address, self.prefix)
        }
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NetworkError::Address)?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => bits,
            Some(text) => text
                .parse()
                .ok()
                .filter(|prefix| *prefix <= bits && !text.starts_with('+'))
                .ok_or(NetworkError::Prefix)?,
        };
        let network = Self { address, prefix };
        if network.first() != network {
            return Err(NetworkError::HostBits(network.first()));
        }
        Ok(network)
    }
}

crate::text_setting!(Network, "a network or an address", ["10.0.0.0/8", "::1"]);
