//! The header by which a proxy says whose connection it passes on: HAProxy's PROXY protocol,
//! versions 1 (a line of text) and 2 (binary). Pure: bytes in, addresses out.
//!
//! Not here: whom to believe. Whoever reads a header from anybody but a known proxy lets every
//! client write its own address, and whoever takes a header for optional lets a client of a known
//! proxy do so: it is demanded from trusted peers and refused from all others.
//!
//! Of version 2 the further fields (TLVs) must be whole, and a checksum among them right; what they
//! say is for who asks ([`fields`]). How a header is written is in [`outgoing`](self::Outgoing), how
//! it is taken from a stream in [`receive`].

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

mod accept;
mod checksum;
mod fields;
mod outgoing;
mod receive;
#[cfg(test)]
mod tests;

pub use accept::{AcceptProxy, Demand};
pub use fields::{Fields, fields, kind};
pub use outgoing::{Outgoing, Version};
pub use receive::{ReceiveError, receive};

/// Longest header of version 1, its end of line included (section 2.1 of the protocol).
pub const LONGEST_LINE: usize = 107;
/// Longest header of version 2 that is taken, in bytes; the protocol allows 64 KiB, and what
/// proxies send of certificates and names takes some hundred.
pub const LONGEST_BINARY: usize = 4 * 1024;

/// How version 2 begins.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// How version 1 begins.
const WORD: &[u8] = b"PROXY ";
/// The signature, version and command, family and protocol, length.
const FIXED_BYTES: usize = 16;

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyHeader {
    /// The protocol's version: 1 or 2.
    pub version: u8,
    /// Where the connection comes from and where it went to; none when the proxy speaks for itself
    /// (a health check), or of something that is not TCP over IP: then the connection's own
    /// addresses count.
    pub addresses: Option<Addresses>,
}

/// Both ends of the connection that the proxy has accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The client.
    pub source: SocketAddr,
    /// Where the client connected to.
    pub destination: SocketAddr,
}

/// Why bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyHeaderError {
    /// They begin with something else.
    #[error("there is no PROXY header")]
    None,
    /// A line of version 1 does not end where it must.
    #[error("the PROXY header is longer than {LONGEST_LINE} bytes")]
    LongLine,
    /// One of version 2 says that it is too long.
    #[error("the PROXY header is longer than {LONGEST_BINARY} bytes")]
    LongBinary,
    /// A word of version 1 is not what must stand there.
    #[error("the PROXY header's {0} is malformed")]
    Word(Word),
    /// The version, command, family or protocol of version 2 is none.
    #[error("the PROXY header's {0} is unknown")]
    Unknown(Field),
    /// There are fewer bytes than the addresses of its family have.
    #[error("the PROXY header's addresses are cut off")]
    Short,
    /// A field of version 2 is longer than what is left.
    #[error("the PROXY header's fields are cut off")]
    Fields,
    /// Its checksum is another one than that of its bytes.
    #[error("the PROXY header's checksum is wrong")]
    Checksum,
}

/// A word of version 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// `TCP4`, `TCP6` or `UNKNOWN`.
    Protocol,
    /// The client's address.
    Source,
    /// Ours.
    Destination,
    /// The client's port.
    SourcePort,
    /// Ours.
    DestinationPort,
    /// The end of the line.
    End,
}

impl fmt::Display for Word {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Protocol => "protocol",
            Self::Source => "source address",
            Self::Destination => "destination address",
            Self::SourcePort => "source port",
            Self::DestinationPort => "destination port",
            Self::End => "end",
        })
    }
}

/// A field of version 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The version, which must be 2.
    Version,
    /// Whether the proxy speaks for a client.
    Command,
    /// IPv4, IPv6, Unix socket.
    Family,
    /// TCP, UDP.
    Protocol,
}

impl fmt::Display for Field {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Version => "version",
            Self::Command => "command",
            Self::Family => "address family",
            Self::Protocol => "transport protocol",
        })
    }
}

impl ProxyHeader {
    /// Reads the header at the start of `input`, with its length. None while more bytes are needed:
    /// never with [`LONGEST_BINARY`] of them.
    ///
    /// # Errors
    /// What begins there is no header, or one that makes no sense. It is told as soon as it is
    /// known.
    pub fn read(input: &[u8]) -> Result<Option<(Self, usize)>, ProxyHeaderError> {
        if is_begun(input, &SIGNATURE) {
            return binary(input);
        }
        if is_begun(input, WORD) {
            return line(input);
        }
        Err(ProxyHeaderError::None)
    }
}

/// Whether bytes begin a header, of either version; none while that cannot be told yet. Whether it
/// is a good one is not asked.
pub fn begins(input: &[u8]) -> Option<bool> {
    let [line, binary] = [WORD, &SIGNATURE].map(|start| is_begun(input, start));
    match (line, binary) {
        (false, false) => Some(false),
        (true, _) if input.len() >= WORD.len() => Some(true),
        (_, true) if input.len() >= SIGNATURE.len() => Some(true),
        _ => None,
    }
}

/// Whether one of them is the beginning of the other.
fn is_begun(input: &[u8], expected: &[u8]) -> bool {
    let length = input.len().min(expected.len());
    input[..length] == expected[..length]
}

/// `PROXY TCP4 192.0.2.1 192.0.2.2 56324 443` and CR LF.
fn line(input: &[u8]) -> Result<Option<(ProxyHeader, usize)>, ProxyHeaderError> {
    let within = &input[..input.len().min(LONGEST_LINE)];
    let Some(end) = within.iter().position(|&byte| byte == b'\n') else {
        return match within.len() {
            LONGEST_LINE => Err(ProxyHeaderError::LongLine),
            _ => Ok(None),
        };
    };
    let malformed = ProxyHeaderError::Word;
    let text = within[..end].strip_suffix(b"\r");
    let text = text.and_then(|text| std::str::from_utf8(text).ok());
    let text = text.ok_or(malformed(Word::End))?;
    // Whoever comes here has seen the word.
    let mut words = text.split(' ').skip(1);
    let mut next = |word| words.next().ok_or(malformed(word));
    let addresses = match next(Word::Protocol)? {
        // What else stands there is to be passed over.
        "UNKNOWN" => None,
        "TCP4" => Some(ends::<Ipv4Addr>(&mut next)?),
        "TCP6" => Some(ends::<Ipv6Addr>(&mut next)?),
        _ => return Err(malformed(Word::Protocol)),
    };
    if addresses.is_some() && words.next().is_some() {
        return Err(malformed(Word::End));
    }
    let header = ProxyHeader {
        version: 1,
        addresses,
    };
    Ok(Some((header, end + 1)))
}

fn ends<'t, A: FromStr + Into<IpAddr>>(
    next: &mut impl FnMut(Word) -> Result<&'t str, ProxyHeaderError>,
) -> Result<Addresses, ProxyHeaderError> {
    let mut address = |word| -> Result<IpAddr, ProxyHeaderError> {
        let address = next(word)?.parse::<A>();
        address
            .map(Into::into)
            .map_err(|_| ProxyHeaderError::Word(word))
    };
    let (source, destination) = (address(Word::Source)?, address(Word::Destination)?);
    let mut port = |word| {
        let text = next(word)?;
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse().ok().filter(|_| is_number);
        number.ok_or(ProxyHeaderError::Word(word))
    };
    Ok(Addresses {
        source: SocketAddr::new(source, port(Word::SourcePort)?),
        destination: SocketAddr::new(destination, port(Word::DestinationPort)?),
    })
}

fn binary(input: &[u8]) -> Result<Option<(ProxyHeader, usize)>, ProxyHeaderError> {
    let unknown = |field| Err(ProxyHeaderError::Unknown(field));
    let speaks_for_itself = match input.get(12) {
        None => return Ok(None),
        Some(byte) if byte >> 4 != 2 => return unknown(Field::Version),
        Some(byte) => match byte & 15 {
            0 => true,
            1 => false,
            _ => return unknown(Field::Command),
        },
    };
    // Of families and protocols those of the protocol's text; what is known and not served here
    // counts as no address.
    let address_bytes = match input.get(13) {
        None => return Ok(None),
        Some(byte) if byte & 15 > 2 => return unknown(Field::Protocol),
        Some(byte) => match byte >> 4 {
            0 => 0,
            1 => 12,
            2 => 36,
            3 => 216,
            _ => return unknown(Field::Family),
        },
    };
    let Some(&[high, low]) = input.get(14..FIXED_BYTES) else {
        return Ok(None);
    };
    let length = FIXED_BYTES + usize::from(u16::from_be_bytes([high, low]));
    if length > LONGEST_BINARY {
        return Err(ProxyHeaderError::LongBinary);
    }
    // A proxy that speaks for itself may say nothing of addresses.
    if !speaks_for_itself && length < FIXED_BYTES + address_bytes {
        return Err(ProxyHeaderError::Short);
    }
    let Some(body) = input.get(FIXED_BYTES..length) else {
        return Ok(None);
    };
    // Of one that speaks for itself, or of no family, nothing is looked at.
    if !speaks_for_itself && address_bytes > 0 {
        fields::check(&input[..length], FIXED_BYTES + address_bytes)?;
    }
    let header = ProxyHeader {
        version: 2,
        addresses: match input[13] {
            _ if speaks_for_itself => None,
            0x11 => pair(body, |bytes: [u8; 4]| Ipv4Addr::from(bytes).into()),
            0x21 => pair(body, |bytes: [u8; 16]| Ipv6Addr::from(bytes).into()),
            _ => None,
        },
    };
    Ok(Some((header, length)))
}

/// Two addresses, then two ports.
fn pair<const N: usize>(body: &[u8], address: impl Fn([u8; N]) -> IpAddr) -> Option<Addresses> {
    let (source, rest) = body.split_first_chunk::<N>()?;
    let (destination, rest) = rest.split_first_chunk::<N>()?;
    let (source_port, rest) = rest.split_first_chunk::<2>()?;
    let (destination_port, _) = rest.split_first_chunk::<2>()?;
    let end = |bytes: &[u8; N], port: &[u8; 2]| {
        SocketAddr::new(address(*bytes), u16::from_be_bytes(*port))
    };
    Some(Addresses {
        source: end(source, source_port),
        destination: end(destination, destination_port),
    })
}
