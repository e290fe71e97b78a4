//! What Outgrow tells an endpoint about the client, and what it believes of what was told to it:
//! `X-Forwarded-*`, `Forwarded` (RFC 7239), `Via`, the request id.

use std::io::Write;
use std::net::IpAddr;
use std::sync::Arc;

use outgrow_core::context::RequestId;
use outgrow_message::claims::{is_claim, is_of_certificate};
use outgrow_message::fields::list_members;
use outgrow_message::{Fields, Known, RequestHead};

use crate::shown::Shown;

/// Who is at the other end of a client's connection.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// Its address as text, which every request needs; empty for a Unix socket.
    text: [u8; 46],
    text_length: u8,
    /// Whether the listener believes what it says about its own client.
    pub(crate) trusted: bool,
    /// Whether the connection is encrypted.
    pub(crate) secure: bool,
    /// The certificate that it has shown.
    pub(crate) shown: Option<Arc<Shown>>,
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
            shown: None,
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
        if !address.is_empty() {
            fields.append_to_list(Known::XForwardedFor, b"X-Forwarded-For", address);
        }
        if fields.may_have(Known::Forwarded) && !address.is_empty() {
            let mut element = [0; 80];
            let length = forwarded_element(peer, &mut element);
            fields.append_to_list(Known::Forwarded, b"Forwarded", &element[..length]);
        }
        if !fields.may_have(Known::XForwardedProto) {
            fields.push_as(Known::XForwardedProto, b"X-Forwarded-Proto", scheme(peer));
        }
    } else {
        fields.remove(Known::XForwardedFor);
        fields.remove(Known::XForwardedProto);
        fields.remove(Known::XForwardedHost);
        fields.remove(Known::XForwardedPort);
        fields.remove(Known::Forwarded);
        if fields.may_have_claims() {
            fields.remove_where(|known, name, _| known == Known::Other && is_claim(name));
        }
        if !address.is_empty() {
            fields.push_as(Known::XForwardedFor, b"X-Forwarded-For", address);
        }
        fields.push_as(Known::XForwardedProto, b"X-Forwarded-Proto", scheme(peer));
    }
    if let Some(shown) = &peer.shown {
        if peer.trusted && fields.may_have_claims() {
            // Of a certificate that came here nobody else tells.
            fields.remove_where(|known, name, _| known == Known::Other && is_of_certificate(name));
        }
        shown.tell(fields);
    }
    if !fields.may_have(Known::XForwardedHost) && head.authority.len > 0 {
        let name = b"X-Forwarded-Host";
        head.fields
            .push_within(Known::XForwardedHost, name, head.authority);
    }
    if !keeps_id {
        head.fields.remove(Known::XRequestId);
        head.fields
            .push_as(Known::XRequestId, b"X-Request-Id", &id.hex());
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
        outgrow_message::Version::Http3 => b"3 outgrow",
    };
    head.fields.append_to_list(Known::Via, b"Via", via);
}

/// Our element of `Forwarded` (RFC 7239 section 4); its length.
fn forwarded_element(peer: &Peer, out: &mut [u8]) -> usize {
    let size = out.len();
    let mut rest = out;
    let address = peer.address();
    let (open, close): (&[u8], &[u8]) = if address.contains(&b':') {
        (b"\"[", b"]\"")
    } else {
        (b"", b"")
    };
    for piece in [b"for=", open, address, close, b";proto=", scheme(peer)] {
        // The longest address and what is around it fit.
        let _ = rest.write_all(piece);
    }
    size - rest.len()
}

/// The client, for records: behind proxies that are believed the last address in
/// `X-Forwarded-For` that is none of them; else the peer. What no proxy of ours wrote is not read.
pub(crate) fn client<'a>(
    fields: &'a Fields,
    peer: &'a Peer,
    trusts: impl Fn(IpAddr) -> bool,
) -> &'a [u8] {
    if !peer.trusted {
        return peer.address();
    }
    let mut client = None;
    for member in list_members(fields.values(Known::XForwardedFor)) {
        let text = std::str::from_utf8(member).unwrap_or_default();
        client = match text.parse() {
            Ok(address) if trusts(address) => client.or(Some(member)),
            Ok(_) => Some(member),
            Err(_) => None,
        };
    }
    client.unwrap_or(peer.address())
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
            ("X-Forwarded-Prefix", "//evil.example"),
            ("x_forwarded_user", "admin"),
            ("X-Forwarded_Ssl", "on"),
            ("X-Real-IP", "1.1.1.1"),
            ("X_Real_Ip", "1.1.1.1"),
            ("X_Request_Id", "mine"),
            ("X-Real-IPs", "kept"),
            ("X-Forwarded", "kept"),
        ];
        let expected = [
            "Host: a.example",
            "X-Real-IPs: kept",
            "X-Forwarded: kept",
            "X-Forwarded-For: 192.0.2.7",
            "X-Forwarded-Proto: https",
            "X-Forwarded-Host: a.example",
            "X-Request-Id: 07070707070707070707070707070707",
            "Via: 1.1 outgrow",
        ];
        assert_eq!(told(&lines, false), expected);
    }

    #[test]
    fn each_lie_is_found_alone() {
        // Together one may be what makes the others be looked for.
        for name in [
            "x_forwarded_user",
            "X-Real-IP",
            "Client-Cert",
            "client_cert",
            "CLIENT-CERT-CHAIN",
            "X-Client-Cert-CN",
        ] {
            let told = told(&[("Host", "a.example"), (name, ":TElF:")], false);
            assert!(!told.iter().any(|line| line.contains("TElF")), "{told:?}");
        }
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
            ("Forwarded", "for=1.1.1.1"),
            ("X-Forwarded-Prefix", "/shop"),
        ];
        let expected = [
            "Host: a.example",
            "X-Forwarded-Proto: http",
            "X-Forwarded-Host: shop.example",
            "X-Request-Id: mine",
            "X-Forwarded-Prefix: /shop",
            "X-Forwarded-For: 1.1.1.1, 2.2.2.2, 192.0.2.7",
            "Forwarded: for=1.1.1.1, for=192.0.2.7;proto=https",
            "Via: 1.1 first, 1.1 outgrow",
        ];
        assert_eq!(told(&lines, true), expected);
    }

    #[test]
    fn the_client_of_a_record_is_the_last_one_that_is_not_ours() {
        let ours = |address: IpAddr| address.to_string().starts_with("10.");
        for (lines, trusted, client) in [
            (&["1.1.1.1"][..], false, "10.0.0.7"),
            (&[], true, "10.0.0.7"),
            (&["6.6.6.6, 1.1.1.1", "10.0.0.1"], true, "1.1.1.1"),
            (&["10.0.0.2, 10.0.0.1"], true, "10.0.0.2"),
            (&["1.1.1.1, nonsense, 10.0.0.1"], true, "10.0.0.1"),
            (&["nonsense"], true, "10.0.0.7"),
            (&["2001:db8::1"], true, "2001:db8::1"),
        ] {
            let mut fields = Fields::default();
            for line in lines {
                fields.push(b"X-Forwarded-For", line.as_bytes());
            }
            let peer = Peer::new(Some(IpAddr::from([10, 0, 0, 7])), trusted, false);
            let found = super::client(&fields, &peer, ours);
            assert_eq!(String::from_utf8_lossy(found), client, "{lines:?}");
        }
    }

    #[test]
    fn our_element_of_forwarded_is_quoted_where_it_must() {
        for (address, expected) in [
            ("192.0.2.7", "for=192.0.2.7;proto=https"),
            ("2001:db8::7", "for=\"[2001:db8::7]\";proto=https"),
        ] {
            let peer = Peer::new(address.parse().ok(), true, true);
            let mut out = [0; 80];
            let length = forwarded_element(&peer, &mut out);
            assert_eq!(&out[..length], expected.as_bytes());
        }
    }
}
