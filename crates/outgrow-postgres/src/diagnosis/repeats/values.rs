//! Values as they are compared: hashes of a value's text. A value may be written as text by one side
//! and in binary by the other, so what may be an integer or a UUID in binary has a second hash, of the
//! text that it would be.

use std::fmt::Write as _;

use outgrow_balance::hash::hash;

use crate::sql::lexer::string_value;
use crate::sql::{Lexer, Lexing, TokenKind};
use crate::wire::read;

/// Values of a statement that are compared, the first ones.
pub(crate) const MOST_VALUES: usize = 4;
/// The longest value that is, in bytes.
const MOST_BYTES: usize = 128;

/// What a value may be: hashes; 0 is nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hashes([u64; 2]);

impl Hashes {
    /// Of a value as it was sent; none for what is too long or empty.
    pub(crate) fn of(value: &[u8]) -> Self {
        if value.is_empty() || value.len() > MOST_BYTES {
            return Self::default();
        }
        let other = text_of_binary(value).map_or(0, |text| hash(text.as_bytes()));
        Self([hash(value), other])
    }

    /// Whether both may be the same value.
    #[inline]
    pub(crate) fn meets(self, other: Self) -> bool {
        let is_in = |one: u64| one != 0 && other.0.contains(&one);
        self.0.into_iter().any(is_in)
    }

    /// Whether it is nothing.
    pub(crate) fn is_none(self) -> bool {
        self.0 == [0; 2]
    }
}

/// The text of what may be an integer or a UUID in binary. What could be a text is one.
fn text_of_binary(value: &[u8]) -> Option<String> {
    let is_text = |text: &str| !text.contains(char::is_control);
    if std::str::from_utf8(value).is_ok_and(is_text) {
        return None;
    }
    let number = match value.len() {
        2 => i64::from(i16::from_be_bytes(value.try_into().ok()?)),
        4 => i64::from(i32::from_be_bytes(value.try_into().ok()?)),
        8 => i64::from_be_bytes(value.try_into().ok()?),
        16 => return Some(uuid(value)),
        _ => return None,
    };
    Some(number.to_string())
}

fn uuid(value: &[u8]) -> String {
    let mut text = String::with_capacity(36);
    for (place, byte) in value.iter().enumerate() {
        if matches!(place, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// The first values of a Bind message, of which the names are left out; nothing when it is no whole
/// one.
pub(crate) fn of_bind(rest: &[u8]) -> [Hashes; MOST_VALUES] {
    let mut values = [Hashes::default(); MOST_VALUES];
    let read = || -> Option<[Hashes; MOST_VALUES]> {
        let (formats, rest) = read::short(rest)?;
        let rest = rest.get(usize::try_from(formats).ok()? * 2..)?;
        let (count, mut rest) = read::short(rest)?;
        for value in values.iter_mut().take(usize::try_from(count).ok()?) {
            let (length, after) = read::number(rest)?;
            rest = after;
            // Nulls are of length -1.
            if let Ok(length) = usize::try_from(length) {
                *value = Hashes::of(rest.get(..length)?);
                rest = &rest[length..];
            }
        }
        Some(values)
    };
    let mut read = read;
    read().unwrap_or_default()
}

/// The first values in a text.
pub(crate) fn of_text(text: &[u8], lexing: Lexing) -> [Hashes; MOST_VALUES] {
    let mut values = [Hashes::default(); MOST_VALUES];
    let literals = Lexer::new(text, lexing).filter(|token| token.kind.is_literal());
    for (value, token) in values.iter_mut().zip(literals) {
        if token.kind == TokenKind::Number {
            *value = Hashes::of(token.of(text));
            continue;
        }
        let mut string = Vec::new();
        if token.range().len() <= 2 * MOST_BYTES && string_value(token, text, &mut string) {
            *value = Hashes::of(&string);
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(one: &[u8], other: &[u8], expected: bool) {
        let met = Hashes::of(one).meets(Hashes::of(other));
        assert_eq!(met, expected, "{one:?} {other:?}");
    }

    #[test]
    fn a_value_is_known_in_both_forms() {
        check(b"42", b"42", true);
        check(b"42", b"43", false);
        check(b"42", &42_i32.to_be_bytes(), true);
        check(&42_i64.to_be_bytes(), &42_i32.to_be_bytes(), true);
        check(&(-7_i16).to_be_bytes(), b"-7", true);
        check(b"abcd", b"1633837924", false);
        let id: Vec<u8> = (0..16).collect();
        check(&id, b"00010203-0405-0607-0809-0a0b0c0d0e0f", true);
        check(b"", b"", false);
        check(&[b'x'; 500], &[b'x'; 500], false);
        assert!(Hashes::of(b"").is_none() && !Hashes::of(b"0").is_none());
    }

    #[test]
    fn values_are_found() {
        let bind = b"\0\x01\0\x01\0\x03\0\0\0\x0242\xff\xff\xff\xff\0\0\0\x01x\0\0";
        let values = of_bind(bind);
        assert!(values[0].meets(Hashes::of(b"42")) && values[1].is_none());
        assert!(values[2].meets(Hashes::of(b"x")) && values[3].is_none());
        for end in 0..bind.len() - 2 {
            assert_eq!(of_bind(&bind[..end]), [Hashes::default(); MOST_VALUES]);
        }
        let none = [Hashes::default(); MOST_VALUES];
        assert_eq!(of_bind(b"\xff\xff\xff\xff"), none);
        let text = b"SELECT a FROM t WHERE b = 42 AND c = 'it''s' AND d = $1 LIMIT 1";
        let values = of_text(text, Lexing::default());
        assert!(values[0].meets(Hashes::of(b"42")));
        assert!(values[1].meets(Hashes::of(b"it's")));
        assert!(values[2].meets(Hashes::of(b"1")));
    }
}
