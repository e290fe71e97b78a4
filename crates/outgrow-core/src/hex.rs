//! Bytes as hexadecimal digits, where speed does not matter.

/// Two lower-case digits for each byte.
pub fn encode(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits =
        |byte: &u8| [byte >> 4, byte & 15].map(|digit| char::from(DIGITS[usize::from(digit)]));
    bytes.iter().flat_map(digits).collect()
}

/// Exactly so many bytes, from twice as many digits of either case.
pub fn decode_exactly<const COUNT: usize>(text: &str) -> Option<[u8; COUNT]> {
    let mut bytes = [0; COUNT];
    if text.len() != 2 * COUNT || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded() {
        let all: [u8; 256] = std::array::from_fn(|at| at as u8);
        let text = encode(&all);
        assert!(
            text.starts_with("000102") && text.ends_with("fdfeff"),
            "{text}"
        );
        assert_eq!(decode_exactly(&text), Some(all));
        assert_eq!(decode_exactly(&text.to_uppercase()), Some(all));
        for wrong in ["", "0", "000", "0g", "+1", "\u{e9}"] {
            assert_eq!(decode_exactly::<1>(wrong), None, "{wrong:?}");
        }
        assert_eq!(decode_exactly(""), Some([]));
    }
}
