//! A header of ours, for a server that wants to know whose connection we pass on.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};

use super::checksum::crc32c;
use super::{Addresses, FIXED_BYTES, LONGEST_BINARY, SIGNATURE, fields, kind};

/// The version of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// A line of text.
    One,
    /// Binary, with fields.
    Two,
}

/// What a header of ours says.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// Its version.
    pub version: Version,
    /// Both ends of the connection that we accepted; none when we speak for ourselves, as in a
    /// check, or of a client without an address.
    pub addresses: Option<Addresses>,
    /// The header that the connection came with, whose fields are passed on in version 2; empty
    /// without. What is of its own hop only is not: its checksum (ours is written instead), what
    /// fills up, its machine's namespace.
    pub received: &'a [u8],
    /// The server name that the client's TLS asks for, passed on in version 2 unless `received`
    /// says one; empty without.
    pub authority: &'a [u8],
}

impl Outgoing<'_> {
    /// Appends the header.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self.version {
            Version::One => self.write_line(out),
            Version::Two => self.write_binary(out),
        }
    }

    fn write_line(&self, out: &mut Vec<u8>) {
        // A `Vec` takes whatever is written to it.
        let _ = match self.addresses.map(alike) {
            None => write!(out, "PROXY UNKNOWN\r\n"),
            Some((source, destination)) => {
                let family = if source.is_ipv4() { 4 } else { 6 };
                let (from, to) = (source.ip(), destination.ip());
                let (from_port, to_port) = (source.port(), destination.port());
                write!(
                    out,
                    "PROXY TCP{family} {from} {to} {from_port} {to_port}\r\n"
                )
            }
        };
    }

    fn write_binary(&self, out: &mut Vec<u8>) {
        let begin = out.len();
        out.extend_from_slice(&SIGNATURE);
        let Some((source, destination)) = self.addresses.map(alike) else {
            // Version 2, LOCAL; of no family.
            out.extend_from_slice(&[0x20, 0, 0, 0]);
            return;
        };
        let family = if source.is_ipv4() { 0x11 } else { 0x21 };
        out.extend_from_slice(&[0x21, family, 0, 0]);
        for address in [source.ip(), destination.ip()] {
            match address {
                IpAddr::V4(address) => out.extend_from_slice(&address.octets()),
                IpAddr::V6(address) => out.extend_from_slice(&address.octets()),
            }
        }
        out.extend_from_slice(&source.port().to_be_bytes());
        out.extend_from_slice(&destination.port().to_be_bytes());
        let mut has_authority = self.authority.is_empty();
        let mut has_checksum = false;
        for (kind, value) in fields(self.received) {
            match kind {
                kind::CRC32C => has_checksum = true,
                kind::NOOP | kind::NETNS => {}
                _ => {
                    has_authority |= kind == kind::AUTHORITY;
                    put(begin, kind, value, out);
                }
            }
        }
        if !has_authority {
            put(begin, kind::AUTHORITY, self.authority, out);
        }
        let sum_at = has_checksum.then(|| {
            put(begin, kind::CRC32C, &[0; 4], out);
            out.len() - 4
        });
        let length = (out.len() - begin - FIXED_BYTES) as u16;
        out[begin + FIXED_BYTES - 2..begin + FIXED_BYTES].copy_from_slice(&length.to_be_bytes());
        if let Some(at) = sum_at {
            let sum = crc32c(&[&out[begin..]]);
            out[at..].copy_from_slice(&sum.to_be_bytes());
        }
    }
}

/// A field, unless the header would be longer than we ourselves would take, a checksum behind it.
fn put(begin: usize, kind: u8, value: &[u8], out: &mut Vec<u8>) {
    const CHECKSUM_BYTES: usize = 7;
    let room = if kind == kind::CRC32C {
        0
    } else {
        CHECKSUM_BYTES
    };
    if out.len() - begin + 3 + value.len() + room <= LONGEST_BINARY {
        out.push(kind);
        out.extend_from_slice(&(value.len() as u16).to_be_bytes());
        out.extend_from_slice(value);
    }
}

/// Both ends in one family: that of IPv4 when both are, in whatever form they came.
fn alike(addresses: Addresses) -> (SocketAddr, SocketAddr) {
    let Addresses {
        source,
        destination,
    } = addresses;
    let ends = [source, destination];
    let plain = ends.map(|end| SocketAddr::new(end.ip().to_canonical(), end.port()));
    if plain.iter().all(SocketAddr::is_ipv4) {
        return (plain[0], plain[1]);
    }
    let wide = plain.map(|end| {
        let address = match end.ip() {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        SocketAddr::new(IpAddr::V6(address), end.port())
    });
    (wide[0], wide[1])
}
