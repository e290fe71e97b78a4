//! Integers with a prefix (RFC 7541 section 5.1, by RFC 9204 section 4.1.1).

/// Larger ones than this are never meant: no length or index here comes near.
const LARGEST: u64 = 1 << 32;

/// The integer whose first byte has a prefix of `bits` bits; how many bytes it takes. None when it is
/// not whole or too large.
pub(super) fn read(bytes: &[u8], bits: u32) -> Option<(u64, usize)> {
    let mask = (1_u64 << bits) - 1;
    let mut value = u64::from(*bytes.first()?) & mask;
    if value < mask {
        return Some((value, 1));
    }
    let mut shift = 0;
    for (at, byte) in bytes.iter().enumerate().skip(1) {
        value = value.checked_add(u64::from(byte & 0x7f) << shift)?;
        if value > LARGEST {
            return None;
        }
        if byte & 0x80 == 0 {
            return Some((value, at + 1));
        }
        shift += 7;
        if shift > 35 {
            return None;
        }
    }
    None
}

/// Appends `value` with a prefix of `bits` bits under the bits of `first`.
pub(super) fn put(value: usize, bits: u32, first: u8, out: &mut Vec<u8>) {
    let mask = (1_usize << bits) - 1;
    if value < mask {
        out.push(first | value as u8);
        return;
    }
    out.push(first | mask as u8);
    let mut rest = value - mask;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_rfc() {
        // RFC 7541 appendix C.1.
        assert_eq!(read(&[0b0110_1010], 5), Some((10, 1)));
        assert_eq!(
            read(&[0b0001_1111, 0b1001_1010, 0b0000_1010], 5),
            Some((1337, 3))
        );
        assert_eq!(read(&[42], 8), Some((42, 1)));
    }

    #[test]
    fn what_is_cut_off_or_too_large_is_none() {
        assert_eq!(read(&[], 5), None);
        assert_eq!(read(&[0x1f], 5), None);
        assert_eq!(read(&[0x1f, 0x80], 5), None);
        assert_eq!(read(&[0x1f, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], 5), None);
        assert_eq!(
            read(&[0x1f, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00], 5),
            None
        );
    }

    #[test]
    fn what_is_written_is_read() {
        for value in [0, 1, 6, 7, 8, 126, 127, 128, 5_000, 1 << 20] {
            for bits in 3..=7 {
                let mut bytes = Vec::new();
                put(value, bits, 0, &mut bytes);
                assert_eq!(read(&bytes, bits), Some((value as u64, bytes.len())));
            }
        }
    }
}
