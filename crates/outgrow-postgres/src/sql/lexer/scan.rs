//! Eight bytes at a time: where a word ends, and how it reads with ASCII letters folded.
//!
//! Deliberately not here: what the bytes mean.

/// One bit for each of eight bytes.
const HIGH_BITS: u64 = 0x8080_8080_8080_8080;
/// One in each of eight bytes.
const ONES: u64 = 0x0101_0101_0101_0101;

/// The eight bytes from `at` on, the first one lowest; zeros behind the end.
#[inline(always)]
pub(crate) fn load(text: &[u8], at: usize) -> u64 {
    match text.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        Some(chunk) => u64::from_le_bytes(*chunk),
        None => load_end(text, at),
    }
}

#[cold]
fn load_end(text: &[u8], at: usize) -> u64 {
    let rest = text.get(at..).unwrap_or_default();
    let bytes = rest.iter().take(8).enumerate();
    bytes.fold(0, |word, (index, &byte)| {
        word | u64::from(byte) << (8 * index)
    })
}

/// The first `count` bytes of a word of eight, the others zero.
#[inline(always)]
pub(crate) const fn keep(word: u64, count: usize) -> u64 {
    if count >= 8 {
        word
    } else {
        word & ((1 << (8 * count)) - 1)
    }
}

/// Sets the high bit of the bytes from `low` to `high`, of bytes that are below 128.
#[inline(always)]
const fn between(sevens: u64, low: u8, high: u8) -> u64 {
    let at_least = sevens + ONES * (0x80 - low as u64);
    let above = sevens + ONES * (0x7f - high as u64);
    at_least & !above & HIGH_BITS
}

/// Sets the high bit of the bytes that are `byte`, of bytes that are below 128.
#[inline(always)]
const fn equal(sevens: u64, byte: u8) -> u64 {
    !((sevens ^ (ONES * byte as u64)) + ONES * 0x7f) & HIGH_BITS
}

/// ASCII capitals as small letters, everything else as it is.
#[inline(always)]
pub(crate) const fn fold(word: u64) -> u64 {
    let capitals = between(word & !HIGH_BITS, b'A', b'Z') & !word;
    word | capitals >> 2
}

/// How many of these eight bytes go on with a word: letters, digits, `_`, `$` and what is not ASCII.
#[inline(always)]
pub(crate) fn word_bytes(word: u64) -> usize {
    let sevens = word & !HIGH_BITS;
    let letters = between(sevens | (ONES * 0x20), b'a', b'z');
    let digits = between(sevens, b'0', b'9');
    let others = equal(sevens, b'_') | equal(sevens, b'$');
    let good = letters | digits | others | word & HIGH_BITS;
    (!good & HIGH_BITS).trailing_zeros() as usize / 8
}

/// Whether one of eight bytes is below 32.
#[inline(always)]
pub(crate) const fn has_control(word: u64) -> bool {
    between(word & !HIGH_BITS, 0, 31) & !word != 0
}

/// Where `byte` is found first, at `at` or behind: short distances by hand, longer ones by `memchr`.
#[inline(always)]
pub(crate) fn find(text: &[u8], at: usize, byte: u8) -> Option<usize> {
    for from in [at, at + 8, at + 16] {
        let found = bytes_equal(load(text, from), byte);
        if found != 0 {
            return Some(from + found.trailing_zeros() as usize / 8);
        }
    }
    let from = at + 24;
    memchr::memchr(byte, text.get(from..)?).map(|index| from + index)
}

/// Sets the high bit of those of eight bytes that are `byte`, an ASCII one.
#[inline(always)]
pub(crate) const fn bytes_equal(word: u64, byte: u8) -> u64 {
    equal(word & !HIGH_BITS, byte) & !word
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_told_as_by_hand() {
        for byte in 0..=255_u8 {
            let part_of_a_word =
                byte.is_ascii_alphanumeric() || byte >= 128 || byte == b'_' || byte == b'$';
            for index in 0..8 {
                let mut bytes = *b"aZ_$09bY";
                bytes[index] = byte;
                let word = u64::from_le_bytes(bytes);
                let expected = if part_of_a_word { 8 } else { index };
                assert_eq!(word_bytes(word), expected, "{byte} at {index}");
                let folded = bytes.map(|byte| byte.to_ascii_lowercase());
                assert_eq!(fold(word), u64::from_le_bytes(folded), "{byte} at {index}");
            }
        }
    }

    #[test]
    fn bytes_are_found_near_and_far() {
        let mut text = vec![b'.'; 40];
        for at in 0..40 {
            text[at] = b'"';
            for from in 0..=at {
                assert_eq!(find(&text, from, b'"'), Some(at));
            }
            assert_eq!(find(&text, at + 1, b'"'), None);
            text[at] = b'\xa2';
            assert_eq!(find(&text, 0, b'"'), None);
            text[at] = b'.';
        }
    }

    #[test]
    fn loads_stop_at_the_end() {
        assert_eq!(load(b"abc", 1), u64::from_le_bytes(*b"bc\0\0\0\0\0\0"));
        assert_eq!(load(b"abc", 3), 0);
        assert_eq!(load(b"abc", 9), 0);
        assert_eq!(keep(u64::MAX, 2), 0xffff);
        assert_eq!(keep(u64::MAX, 8), u64::MAX);
    }
}
