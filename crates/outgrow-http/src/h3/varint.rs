//! Integers of variable length (RFC 9000 section 16).

/// The largest that there is.
pub(super) const MAX: u64 = (1 << 62) - 1;

/// The integer at the beginning of `bytes` and how many bytes it takes; none while some are missing.
pub(super) fn read(bytes: &[u8]) -> Option<(u64, usize)> {
    let first = *bytes.first()?;
    let length = 1 << (first >> 6);
    let rest = bytes.get(1..length)?;
    let value = rest.iter().fold(u64::from(first & 0x3f), |value, byte| {
        value << 8 | u64::from(*byte)
    });
    Some((value, length))
}

/// Appends `value` in as few bytes as it takes; what is above [`MAX`] becomes that.
pub(super) fn put(value: u64, out: &mut Vec<u8>) {
    let value = value.min(MAX);
    let (length, mark) = match value {
        0..=0x3f => (1, 0),
        0x40..=0x3fff => (2, 0x40),
        0x4000..=0x3fff_ffff => (4, 0x80),
        _ => (8, 0xc0),
    };
    let bytes = value.to_be_bytes();
    let at = out.len();
    out.extend_from_slice(&bytes[8 - length..]);
    out[at] |= mark;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_rfc() {
        // RFC 9000 appendix A.1.
        let check = |bytes: &[u8], value| assert_eq!(read(bytes), Some((value, bytes.len())));
        check(
            &[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c],
            151_288_809_941_952_652,
        );
        check(&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333);
        check(&[0x7b, 0xbd], 15_293);
        check(&[0x25], 37);
        check(&[0x40, 0x25], 37);
        assert_eq!(read(&[]), None);
        assert_eq!(read(&[0x7b]), None);
        assert_eq!(read(&[0xc2, 0x19, 0x7c]), None);
    }

    #[test]
    fn what_is_written_is_read() {
        for value in [0, 0x3f, 0x40, 0x3fff, 0x4000, 0x3fff_ffff, 0x4000_0000, MAX] {
            let mut bytes = Vec::new();
            put(value, &mut bytes);
            assert_eq!(read(&bytes), Some((value, bytes.len())));
        }
    }
}
