//! What Outgrow tells an endpoint about the client, and what it believes of what was told to it:
//! `X-Forwarded-*`, `Forwarded` (RFC 7239), `Via`, the request id.

use std::io::Write;
use std::net::IpAddr;

use outgrow_core::context::RequestId;
use outgrow_message::{Fields, Known, RequestHead};

/// Who is at the other end of a client's connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    /// Its address as text, which every request needs; empty for a Unix socket.
    text: [u8; 46],
    text_length: u8,
    /// Whether the listener believes what it says about its own client.
    pub(crate) trusted: bool,
    /// Whether the connection is encrypted.
    pub(crate) secure: bool,
}

impl Peer {
    /// The peer at `address`; none for a Unix socket.
    pub(crate) fn new(address: Option<IpAddr>, trusted: bool, secure: bool) -> Self {
        let mut text = [0; 46];
        let mut rest = &mut text[..];
        if let Some(address) = address {
            // The longest IPv6 text has 45 bytes: it fits.
            let _ = write!(rest, "{}", address.to_canonical());
        }
        let text_length = (46 - rest.len()) as u8;
        Self {
            text,
            text_length,
            trusted,
            secure,
        }
    }

    /// Its address as text.
    #[inline]
    pub(crate) fn address(&self) -> &[u8] {
        &self.text[..usize::from(self.text_length)]
    }
}

/// The id that the request came with, if its sender may give one and it is a sane one.
pub(crate) fn given_id<'f>(fields: &'f Fields, peer: &Peer) -> Option<&'f [u8]> {
    if !peer.trusted {
        return None;
    }
    let id = fields.get(Known::XRequestId)?;
    let sane = !id.is_empty()
        && id.len() <= 128
        && id
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.:/+=".contains(byte));
    sane.then_some(id)
}

/// Adds what the endpoint is told about the client. What an untrusted client says about itself is
/// replaced, never forwarded.
pub(crate) fn tell_endpoint(head: &mut RequestHead, peer: &Peer, id: RequestId) {
    let address = peer.address();
    let keeps_id = given_id(&head.fields, peer).is_some();
    let fields = &mut head.fields;
    if peer.trusted {
        append_to_list(fields, Known::XForwardedFor, b"X-Forwarded-For", address);
        if !fields.may_have(Known::XForwardedProto) {
            fields.push(b"X-Forwarded-Proto", scheme(peer));
        }
    } else {
        fields.remove(Known::XForwardedFor);
        fields.remove(Known::XForwardedProto);
        fields.remove(Known::XForwardedHost);
        fields.remove(Known::XForwardedPort);
        fields.remove(Known::Forwarded);
        if !address.is_empty() {
            fields.push(b"X-Forwarded-For", address);
        }
        fields.push(b"X-Forwarded-Proto", scheme(peer));
    }
    if !fields.may_have(Known::XForwardedHost) && head.authority.len > 0 {
        let name = head.fields.push_bytes(b"X-Forwarded-Host");
        head.fields.push_spans(name, head.authority);
    }
    if !keeps_id {
        head.fields.remove(Known::XRequestId);
        head.fields.push(b"X-Request-Id", &id.hex());
    }
    add_via(head);
}

fn scheme(peer: &Peer) -> &'static [u8] {
    if peer.secure { b"https" } else { b"http" }
}

/// RFC 9110 section 7.6.3: a gateway says that it stands in between.
fn add_via(head: &mut RequestHead) {
    let via: &[u8] = match head.version {
        outgrow_message::Version::Http10 => b"1.0 outgrow",
        outgrow_message::Version::Http11 => b"1.1 outgrow",
        outgrow_message::Version::Http2 => b"2 outgrow",
    };
    append_to_list(&mut head.fields, Known::Via, b"Via", via);
}

/// Appends a member to a list field, joining the lines that are there.
fn append_to_list(fields: &mut Fields, known: Known, name: &[u8], member: &[u8]) {
    if member.is_empty() {
        return;
    }
    if !fields.may_have(known) {
        fields.push(name, member);
        return;
    }
    let mut joined = Vec::with_capacity(64);
    for value in fields.values(known) {
        joined.extend_from_slice(value);
        joined.extend_from_slice(b", ");
    }
    joined.extend_from_slice(member);
    fields.remove(known);
    fields.push(name, &joined);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(lines: &[(&str, &str)], trusted: bool) -> Vec<String> {
        let mut head = RequestHead::default();
        for (name, value) in lines {
            head.fields.push(name.as_bytes(), value.as_bytes());
        }
        head.authority = head.fields.span_of(Known::Host).unwrap_or_default();
        let peer = Peer::new(Some(IpAddr::from([192, 0, 2, 7])), trusted, true);
        tell_endpoint(&mut head, &peer, RequestId([7; 16]));
        let line = |(_, name, value): (Known, &[u8], &[u8])| {
            format!(
                "{}: {}",
                String::from_utf8_lossy(name),
                String::from_utf8_lossy(value)
            )
        };
        head.fields.iter().map(line).collect()
    }

    #[test]
    fn an_untrusted_client_cannot_say_who_it_is() {
        let lines = [
            ("Host", "a.example"),
            ("X-Forwarded-For", "1.1.1.1"),
            ("x-forwarded-for", "2.2.2.2"),
            ("Forwarded", "for=1.1.1.1"),
            ("X-Forwarded-Proto", "gopher"),
            ("X-Forwarded-Host", "evil.example"),
            ("X-Request-Id", "mine"),
        ];
        let expected = [
            "Host: a.example",
            "X-Forwarded-For: 192.0.2.7",
            "X-Forwarded-Proto: https",
            "X-Forwarded-Host: a.example",
            "X-Request-Id: 07070707070707070707070707070707",
            "Via: 1.1 outgrow",
        ];
        assert_eq!(told(&lines, false), expected);
    }

    #[test]
    fn a_trusted_proxy_is_believed_and_appended_to() {
        let lines = [
            ("Host", "a.example"),
            ("X-Forwarded-For", "1.1.1.1"),
            ("X-Forwarded-For", "2.2.2.2"),
            ("X-Forwarded-Proto", "http"),
            ("X-Forwarded-Host", "shop.example"),
            ("X-Request-Id", "mine"),
            ("Via", "1.1 first"),
        ];
        let expected = [
            "Host: a.example",
            "X-Forwarded-Proto: http",
            "X-Forwarded-Host: shop.example",
            "X-Request-Id: mine",
            "X-Forwarded-For: 1.1.1.1, 2.2.2.2, 192.0.2.7",
            "Via: 1.1 first, 1.1 outgrow",
        ];
        assert_eq!(told(&lines, true), expected);
    }
}
