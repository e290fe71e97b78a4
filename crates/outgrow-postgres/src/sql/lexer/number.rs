//! Where numbers end.
//!
//! Up to version 14 a number ends where a word begins (`1and` is `1` and `and`), from 15 on that is an
//! error; from 16 on there are `0x1F`, `0o17`, `0b11` and `1_000`. Here the newest form counts where no
//! word follows, else the oldest: so every text that any of these servers takes is read as it reads
//! it, but for what `x1F` or `_000` would be up to version 14: the name of a result's column.

/// Where the number that begins at `at`, with a digit or with a dot before one, ends.
#[inline]
pub(super) fn end(text: &[u8], at: usize) -> usize {
    let simple = plain_digits(text, at);
    let next = text.get(simple).copied().unwrap_or_default();
    if simple > at && !matches!(next, b'.' | b'_') && !begins_word(next) {
        return simple;
    }
    let newest = form(text, at, true);
    match text.get(newest) {
        Some(&byte) if begins_word(byte) => form(text, at, false),
        _ => newest,
    }
}

fn begins_word(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 128
}

fn form(text: &[u8], at: usize, newest: bool) -> usize {
    let digits = if newest { underscored } else { plain_digits };
    if newest && text.get(at) == Some(&b'0') {
        let based = match text.get(at + 1) {
            Some(b'x' | b'X') => based(text, at + 2, |byte| byte.is_ascii_hexdigit()),
            Some(b'o' | b'O') => based(text, at + 2, |byte| matches!(byte, b'0'..=b'7')),
            Some(b'b' | b'B') => based(text, at + 2, |byte| matches!(byte, b'0' | b'1')),
            _ => at,
        };
        if based > at + 2 {
            return based;
        }
    }
    let mut end = digits(text, at);
    if text.get(end) == Some(&b'.') {
        if end > at && text.get(end + 1) == Some(&b'.') {
            // `1..10` is `1`, `..`, `10`.
            return end;
        }
        end = digits(text, end + 1);
    }
    if matches!(text.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(text.get(end + 1), Some(b'+' | b'-')));
        let exponent = digits(text, end + 1 + sign);
        if exponent > end + 1 + sign {
            return exponent;
        }
    }
    end
}

fn plain_digits(text: &[u8], mut at: usize) -> usize {
    while text.get(at).is_some_and(u8::is_ascii_digit) {
        at += 1;
    }
    at
}

/// Digits with single underscores between them.
fn underscored(text: &[u8], at: usize) -> usize {
    let mut end = plain_digits(text, at);
    while end > at && text.get(end) == Some(&b'_') {
        let more = plain_digits(text, end + 1);
        if more == end + 1 {
            break;
        }
        end = more;
    }
    end
}

/// Digits of another base, each with an underscore before it or not.
fn based(text: &[u8], mut at: usize, is_digit: fn(u8) -> bool) -> usize {
    loop {
        let underscore = usize::from(text.get(at) == Some(&b'_'));
        match text.get(at + underscore) {
            Some(&byte) if is_digit(byte) => at += underscore + 1,
            _ => return at,
        }
    }
}
