//! The elements of a certificate in DER (X.690 section 8.1), as far as it takes to find names in one.
//!
//! Nothing panics, whatever the bytes. Not here: what the elements mean.

/// The tag of a sequence.
pub const SEQUENCE: u8 = 0x30;
/// The tag of an object identifier.
pub const OBJECT_IDENTIFIER: u8 = 0x06;
/// The tag of a string of bits.
const BIT_STRING: u8 = 0x03;

/// The content of the element at the start, which must have this tag, and what comes after it.
pub fn expect(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = element(bytes)?;
    (found == tag).then_some((content, rest))
}

/// The element at the start, which must have this tag, with its tag and length; and what comes after it.
pub(crate) fn whole(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (_, rest) = expect(bytes, tag)?;
    Some((bytes.get(..bytes.len() - rest.len())?, rest))
}

/// The bits of the string of bits at the start; they must fill their last byte.
pub(crate) fn bits(bytes: &[u8]) -> Option<&[u8]> {
    let (content, _) = expect(bytes, BIT_STRING)?;
    match content.split_first()? {
        (0, bits) => Some(bits),
        _ => None,
    }
}

/// Writes an element of less than 64 KiB.
pub(crate) fn write(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match content.len() {
        length @ 0..=0x7f => out.push(length as u8),
        length @ 0x80..=0xff => out.extend([0x81, length as u8]),
        length => {
            out.push(0x82);
            out.extend((length as u16).to_be_bytes());
        }
    }
    out.extend(content);
    out
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
