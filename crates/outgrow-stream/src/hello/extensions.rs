//! The extensions of a ClientHello that say where it is to go: server_name (RFC 6066), ALPN (RFC
//! 7301), and that there is an encrypted one within (RFC 9849).

use std::net::IpAddr;

use super::{ClientHello, HelloError, Reader};

const SERVER_NAME: u16 = 0;
const PROTOCOLS: u16 = 16;
const ENCRYPTED_HELLO: u16 = 0xfe0d;

/// The only type of server name that there is.
const HOST_NAME: u8 = 0;
/// Longest name of a host, and of one of its labels.
const LONGEST_NAME: usize = 253;
const LONGEST_LABEL: usize = 63;

/// Reads them all.
pub(super) fn read(bytes: &[u8], hello: &mut ClientHello) -> Result<(), HelloError> {
    let mut reader = Reader(bytes);
    let mut seen = Vec::new();
    while !reader.0.is_empty() {
        let kind = reader.number16("an extension")?;
        let content = reader.vector16("an extension")?;
        seen.push(kind);
        match kind {
            SERVER_NAME => hello.server_name = server_name(content)?,
            PROTOCOLS => hello.protocols = protocols(content)?.to_vec(),
            ENCRYPTED_HELLO => hello.is_outer = true,
            _ => {}
        }
    }
    seen.sort_unstable();
    if seen.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(HelloError::Malformed("an extension comes twice"));
    }
    Ok(())
}

fn server_name(content: &[u8]) -> Result<Option<String>, HelloError> {
    const WRONG: HelloError = HelloError::Malformed("the server name");
    let mut outer = Reader(content);
    let mut list = Reader(outer.vector16("the server name")?);
    let kind = list.take(1, "the server name")?[0];
    let name = list.vector16("the server name")?;
    // One of each type at most, and there is one type.
    if kind != HOST_NAME || !outer.0.is_empty() || !list.0.is_empty() {
        return Err(WRONG);
    }
    let name = std::str::from_utf8(name).map_err(|_| WRONG)?;
    if name.parse::<IpAddr>().is_ok() {
        return Ok(None);
    }
    let is_label = |label: &str| {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=LONGEST_LABEL).contains(&label.len()) && label.bytes().all(is_plain)
    };
    if name.len() > LONGEST_NAME || !name.split('.').all(is_label) {
        return Err(WRONG);
    }
    Ok(Some(name.to_ascii_lowercase()))
}

fn protocols(content: &[u8]) -> Result<&[u8], HelloError> {
    const WRONG: HelloError = HelloError::Malformed("the protocols");
    let mut outer = Reader(content);
    let all = outer.vector16("the protocols")?;
    if all.is_empty() || !outer.0.is_empty() {
        return Err(WRONG);
    }
    let mut list = Reader(all);
    while !list.0.is_empty() {
        if list.vector8("the protocols")?.is_empty() {
            return Err(WRONG);
        }
    }
    Ok(all)
}
