//! The further fields (TLVs) of a header of version 2 (section 2.2): what a proxy tells of a
//! connection besides its addresses. What they mean is not judged here, but for the checksum.

use super::checksum::crc32c;
use super::{FIXED_BYTES, ProxyHeaderError};

/// Kinds of fields (section 2.2.7).
pub mod kind {
    /// The application protocol (ALPN).
    pub const ALPN: u8 = 0x01;
    /// The host that the client asked for: the server name of its TLS.
    pub const AUTHORITY: u8 = 0x02;
    /// The header's CRC-32C.
    pub const CRC32C: u8 = 0x03;
    /// Nothing: it fills up.
    pub const NOOP: u8 = 0x04;
    /// A name for the connection, of at most 128 bytes.
    pub const UNIQUE_ID: u8 = 0x05;
    /// What TLS agreed on with the client, with fields of its own.
    pub const SSL: u8 = 0x20;
    /// The network namespace of the proxy's machine.
    pub const NETNS: u8 = 0x30;
}

/// Length of a field's kind and length.
const HEAD_BYTES: usize = 3;

/// Fields, each with its kind, its value and where the value begins. Ends at one that is cut off.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
    /// Where `rest` begins.
    at: usize,
}

impl<'a> Iterator for Fields<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (&[kind, high, low], rest) = self.rest.split_first_chunk::<HEAD_BYTES>()?;
        let length = usize::from(u16::from_be_bytes([high, low]));
        let (value, rest) = rest.split_at_checked(length)?;
        self.at += HEAD_BYTES + length;
        self.rest = rest;
        Some((kind, value))
    }
}

/// The fields of a whole header as [`read`](super::ProxyHeader::read) has accepted it; none in one
/// of version 1.
pub fn fields(header: &[u8]) -> Fields<'_> {
    let addresses = match header.get(13) {
        Some(byte) if header.starts_with(&super::SIGNATURE) => match byte >> 4 {
            1 => 12,
            2 => 36,
            3 => 216,
            _ => header.len(),
        },
        _ => header.len(),
    };
    let at = FIXED_BYTES + addresses;
    Fields {
        rest: header.get(at..).unwrap_or_default(),
        at,
    }
}

/// Whether the fields of a whole header, which begin at `at`, are whole, and its checksum is right.
pub(super) fn check(header: &[u8], at: usize) -> Result<(), ProxyHeaderError> {
    let mut all = Fields {
        rest: header.get(at..).unwrap_or_default(),
        at,
    };
    while let Some((kind, value)) = all.next() {
        if kind != kind::CRC32C {
            continue;
        }
        let said: [u8; 4] = value.try_into().map_err(|_| ProxyHeaderError::Checksum)?;
        let (before, after) = (&header[..all.at - value.len()], &header[all.at..]);
        // Its own bytes count as zeros.
        if crc32c(&[before, &[0; 4], after]) != u32::from_be_bytes(said) {
            return Err(ProxyHeaderError::Checksum);
        }
    }
    match all.rest {
        [] => Ok(()),
        _ => Err(ProxyHeaderError::Fields),
    }
}
