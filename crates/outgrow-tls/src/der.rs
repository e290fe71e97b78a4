//! The elements of a certificate in DER (X.690 section 8.1), as far as it takes to find names in one.
//!
//! Nothing panics, whatever the bytes. Not here: what the elements mean.

/// The tag of a sequence.
pub const SEQUENCE: u8 = 0x30;
/// The tag of an object identifier.
pub const OBJECT_IDENTIFIER: u8 = 0x06;

/// The content of the element at the start, which must have this tag, and what comes after it.
pub fn expect(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = element(bytes)?;
    (found == tag).then_some((content, rest))
}

/// The tag and the content of the element at the start, and what comes after it.
pub fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], rest) = bytes.split_first_chunk()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81 => {
            let (&[length], rest) = rest.split_first_chunk()?;
            (usize::from(length), rest)
        }
        0x82 => {
            let (&length, rest) = rest.split_first_chunk()?;
            (usize::from(u16::from_be_bytes(length)), rest)
        }
        // More than 64 KiB: no certificate is that long.
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}
