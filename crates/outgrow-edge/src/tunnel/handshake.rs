//! The opening handshake where it is ours: a WebSocket over HTTP/2 (RFC 8441) or HTTP/3 (RFC 9220) has
//! no key, and the endpoint, which is spoken to in HTTP/1.1, wants one (RFC 6455 section 4).

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use outgrow_core::base64;
use outgrow_message::{Fields, RequestHead, ResponseHead, Version};

/// Where the key is.
const KEY: &[u8] = b"Sec-WebSocket-Key";
/// Where the answer to it is.
const ACCEPT: &[u8] = b"Sec-WebSocket-Accept";
/// What the answer is made with (section 1.3).
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Gives a request over HTTP/2 or HTTP/3 that asks for a WebSocket a key of ours.
pub(crate) fn put_key(request: &mut RequestHead, chance: impl FnOnce() -> [u64; 2]) {
    if is_ours(request) {
        let chance = chance();
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&chance[0].to_le_bytes());
        nonce[8..].copy_from_slice(&chance[1].to_le_bytes());
        request.fields.push(KEY, base64::encode(&nonce).as_bytes());
    }
}

/// Whether a 101 is an answer to that key. What the client has not asked for is taken out of it.
pub(crate) fn check_accept(request: &RequestHead, response: &mut ResponseHead) -> bool {
    if !is_ours(request) {
        // The client's own key: it looks itself.
        return true;
    }
    let expected = request.fields.get_named(KEY).map(accept_of);
    let is_right = one_value(&response.fields).map(<[u8]>::to_vec) == expected;
    response.fields.remove_named(ACCEPT);
    is_right && expected.is_some()
}

fn is_ours(request: &RequestHead) -> bool {
    request.wants_upgrade && matches!(request.version, Version::Http2 | Version::Http3)
}

/// The answer, if there is exactly one.
fn one_value(fields: &Fields) -> Option<&[u8]> {
    let mut found = fields
        .iter()
        .filter(|(_, name, _)| name.eq_ignore_ascii_case(ACCEPT));
    let (_, _, value) = found.next()?;
    found.next().is_none().then_some(value)
}

fn accept_of(key: &[u8]) -> Vec<u8> {
    let text = [key, GUID.as_bytes()].concat();
    base64::encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &text).as_ref()).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(version: Version) -> RequestHead {
        let mut request = RequestHead::default();
        request.version = version;
        request.wants_upgrade = true;
        request
    }

    #[test]
    fn the_answer_is_that_of_the_rfc() {
        let accept = accept_of(b"dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(accept, b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn only_the_right_answer_counts_and_it_stays_here() {
        only_the_right_answer_counts(Version::Http2);
        only_the_right_answer_counts(Version::Http3);
    }

    fn only_the_right_answer_counts(version: Version) {
        let mut request = request(version);
        put_key(&mut request, || [1, 2]);
        let key = request.fields.get_named(KEY).expect("a key").to_vec();
        let right = accept_of(&key);
        let check = |values: &[&[u8]], expected: bool| {
            let mut response = ResponseHead::default();
            for value in values {
                response.fields.push(b"sec-websocket-accept", value);
            }
            response.fields.push(b"Sec-WebSocket-Protocol", b"chat");
            assert_eq!(check_accept(&request, &mut response), expected);
            assert_eq!(response.fields.iter().count(), 1);
        };
        check(&[&right], true);
        check(&[&right, &right], false);
        check(&[b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="], false);
        check(&[], false);
    }

    #[test]
    fn a_client_of_its_own_key_looks_itself() {
        let mut request = request(Version::Http11);
        put_key(&mut request, || [1, 2]);
        assert!(request.fields.get_named(KEY).is_none());
        let mut response = ResponseHead::default();
        response.fields.push(ACCEPT, b"whatever");
        assert!(check_accept(&request, &mut response));
        assert_eq!(response.fields.iter().count(), 1);
    }
}
