//! Addresses of clients.

use std::net::IpAddr;

use super::line::Token;

/// An address of this machine, with its network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The address.
    pub address: IpAddr,
    /// How many of its bits are the network's, 0 to 32 or 128.
    pub prefix: u8,
}

/// Addresses, as a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Addresses {
    All,
    /// One of this machine's own.
    SameHost,
    /// One in a network that this machine is in.
    SameNet,
    Network(Interface),
}

impl Addresses {
    pub(super) fn has(&self, address: IpAddr, interfaces: &[Interface]) -> bool {
        // A socket for both families gives IPv4 addresses as IPv6 ones.
        let address = address.to_canonical();
        match self {
            Self::All => true,
            Self::SameHost => interfaces.iter().any(|own| own.address == address),
            Self::SameNet => interfaces.iter().any(|own| own.has(address)),
            Self::Network(network) => network.has(address),
        }
    }

    /// Reads the address of a rule, and the mask where it is a word of its own; with how many words
    /// that were.
    pub(super) fn read(words: &[&Token]) -> Result<(Self, usize), String> {
        let first = words.first().ok_or("the address is missing")?;
        for (word, addresses) in [
            ("all", Self::All),
            ("samehost", Self::SameHost),
            ("samenet", Self::SameNet),
        ] {
            if first.is_keyword(word) {
                return Ok((addresses, 1));
            }
        }
        let text = first.text.as_str();
        let (address, prefix) = match text.split_once('/') {
            None => (text, None),
            Some((address, prefix)) => (address, Some(prefix)),
        };
        let address: IpAddr = address.parse().map_err(|_| {
            format!(
                "\"{text}\" is no address: write `ADDRESS/PREFIX`, `ADDRESS MASK`, all, samehost \
                 or samenet; host names are not looked up"
            )
        })?;
        let prefix = match (prefix, words.get(1)) {
            (Some(prefix), _) => (prefix_of(prefix, address)?, 1),
            (None, Some(mask)) => (prefix_of_mask(&mask.text, address)?, 2),
            (None, None) => {
                return Err(format!(
                    "\"{text}\" has no mask: write {text}/{}",
                    bits(address)
                ));
            }
        };
        let (prefix, count) = prefix;
        Ok((Self::Network(Interface { address, prefix }), count))
    }
}

impl Interface {
    /// Whether the address is in its network. Bits of its own that are not the network's do not
    /// count.
    fn has(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let differs = own.to_bits() ^ other.to_bits();
                differs
                    .checked_shr(32 - u32::from(self.prefix.min(32)))
                    .unwrap_or(0)
                    == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let differs = own.to_bits() ^ other.to_bits();
                differs
                    .checked_shr(128 - u32::from(self.prefix.min(128)))
                    .unwrap_or(0)
                    == 0
            }
            _ => false,
        }
    }
}

fn bits(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

fn prefix_of(text: &str, address: IpAddr) -> Result<u8, String> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let prefix = text.parse().ok().filter(|_| is_number);
    let most = bits(address);
    prefix
        .filter(|&prefix| prefix <= most)
        .ok_or_else(|| format!("\"/{text}\" is no prefix of {address}: write 0 to {most}"))
}

fn prefix_of_mask(text: &str, address: IpAddr) -> Result<u8, String> {
    let ones = match (text.parse(), address) {
        (Ok(IpAddr::V4(mask)), IpAddr::V4(_)) => {
            let mask = mask.to_bits();
            (mask.leading_ones() == mask.count_ones()).then_some(mask.count_ones())
        }
        (Ok(IpAddr::V6(mask)), IpAddr::V6(_)) => {
            let mask = mask.to_bits();
            (mask.leading_ones() == mask.count_ones()).then_some(mask.count_ones())
        }
        (Err(_), _) => {
            return Err(format!(
                "{address} has no mask: write {address}/{}",
                bits(address)
            ));
        }
        (Ok(_), _) => None,
    };
    ones.map(|ones| ones as u8)
        .ok_or_else(|| format!("\"{text}\" is no mask for {address}"))
}
