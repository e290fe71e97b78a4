//! Base64 (RFC 4648) in its two alphabets, strict: padding where it belongs and nowhere else, no other
//! characters, no bits left over, so that no two texts stand for the same bytes.
//!
//! Deliberately not here: how it is done; that is a library's.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

/// Bytes as text, with `+` and `/`, padded (section 4).
pub fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// The bytes of such a text; `None` when it is none.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// Appends bytes as text with `-` and `_`, not padded (section 5): for cookies, fields and addresses.
pub fn put_url(bytes: &[u8], out: &mut Vec<u8>) {
    let (start, length) = (out.len(), (bytes.len() * 4).div_ceil(3));
    out.resize(start + length, 0);
    if URL_SAFE_NO_PAD
        .encode_slice(bytes, &mut out[start..])
        .is_err()
    {
        out.truncate(start);
    }
}

/// The bytes of such a text; `None` when it is none.
pub fn take_url(text: &[u8]) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// The bytes of such a text that are exactly as many, without allocating.
pub fn take_url_exactly<const COUNT: usize>(text: &[u8]) -> Option<[u8; COUNT]> {
    let mut bytes = [0; COUNT];
    let count = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
    (count == COUNT).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_that_of_the_rfc() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(encode(bytes.as_bytes()), text);
            assert_eq!(decode(text).as_deref(), Some(bytes.as_bytes()));
        }
        for odd in [
            "Zg=", "Z===", "Zg==Zg==", "Zm9-", "====", "Zh==", "Zm9=", "Zg", "Zm 9v",
        ] {
            assert_eq!(decode(odd), None, "{odd}");
        }
    }

    #[test]
    fn every_byte_comes_back() {
        let bytes: Vec<u8> = (0..=255).rev().chain(0..=255).collect();
        for end in 0..bytes.len() {
            let bytes = &bytes[..end];
            assert_eq!(decode(&encode(bytes)).as_deref(), Some(bytes));
            let mut text = b"before".to_vec();
            put_url(bytes, &mut text);
            assert_eq!(take_url(&text[6..]).as_deref(), Some(bytes));
            assert!(!text.iter().any(|letter| b"+/=".contains(letter)));
        }
    }

    #[test]
    fn as_many_as_are_wanted() {
        assert_eq!(take_url_exactly(b"Zm9v"), Some(*b"foo"));
        assert_eq!(
            take_url_exactly::<12>(b"Zm9vYmFyZm9vYmFy"),
            Some(*b"foobarfoobar")
        );
        assert_eq!(take_url_exactly::<2>(b"Zm9v"), None);
        assert_eq!(take_url_exactly::<4>(b"Zm9v"), None);
        assert_eq!(take_url_exactly::<3>(b"Zm9="), None);
        assert_eq!(take_url(b"Zh"), None);
    }
}
