//! Base64 (RFC 4648 section 4), in which etcd's gateway writes keys and values. Strict: padded, no
//! blanks, no bits left over.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// As text.
pub(super) fn encode(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let part = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = part(0) << 16 | part(1) << 8 | part(2);
        for place in 0..4 {
            let index = bits >> (18 - 6 * place) & 0x3f;
            let is_padding = place > group.len();
            out.push(if is_padding {
                '='
            } else {
                char::from(ALPHABET[index as usize])
            });
        }
    }
    out
}

/// The bytes of a text; `None` when it is not Base64.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    let text = text.as_bytes();
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let padding = text.iter().rev().take_while(|byte| **byte == b'=').count();
    if padding > 2 {
        return None;
    }
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let digits = &text[..text.len() - padding];
    for group in digits.chunks(4) {
        let mut bits = 0_u32;
        for byte in group {
            let index = ALPHABET.iter().position(|one| one == byte)?;
            bits = bits << 6 | index as u32;
        }
        let missing = 4 - group.len();
        bits <<= 6 * missing;
        if missing > 0 && bits & (0xff_ffff >> (8 * (3 - missing))) != 0 {
            return None;
        }
        out.extend(&bits.to_be_bytes()[1..4 - missing]);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_as_the_standard_says() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(encode(bytes.as_bytes()), text);
            assert_eq!(decode(text).as_deref(), Some(bytes.as_bytes()), "{text}");
        }
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(decode(&encode(&all)), Some(all));
        for wrong in [
            "Z", "Zg=", "Zg", "Zh==", "Zm9=", "Z===", "====", "Zm 9", "Z=g=", "Zm9-",
        ] {
            assert_eq!(decode(wrong), None, "{wrong}");
        }
    }
}
