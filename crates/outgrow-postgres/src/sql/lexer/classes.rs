//! What a token may be, by its first byte.

use super::TokenKind;

/// What begins with a byte.
#[derive(Debug, Clone, Copy)]
pub(super) enum Class {
    Blank,
    Word,
    Digit,
    Operator,
    Quote,
    DoubleQuote,
    Dollar,
    Dot,
    Colon,
    Single(TokenKind),
    Wrong,
}

/// The class of every byte.
pub(super) const CLASSES: [Class; 256] = {
    let mut classes = [Class::Wrong; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = match byte as u8 {
            // From version 16 on the vertical tab is blank, before it is an error.
            b' ' | b'\t' | b'\n' | b'\r' | b'\x0b' | b'\x0c' => Class::Blank,
            b'A'..=b'Z' | b'a'..=b'z' | b'_' | 128..=255 => Class::Word,
            b'0'..=b'9' => Class::Digit,
            b'~' | b'!' | b'@' | b'#' | b'^' | b'&' | b'|' | b'`' | b'?' | b'+' | b'-' | b'*'
            | b'/' | b'%' | b'<' | b'>' | b'=' => Class::Operator,
            b'\'' => Class::Quote,
            b'"' => Class::DoubleQuote,
            b'$' => Class::Dollar,
            b'.' => Class::Dot,
            b':' => Class::Colon,
            b'(' => Class::Single(TokenKind::Open),
            b')' => Class::Single(TokenKind::Close),
            b'[' => Class::Single(TokenKind::OpenBracket),
            b']' => Class::Single(TokenKind::CloseBracket),
            b',' => Class::Single(TokenKind::Comma),
            b';' => Class::Single(TokenKind::Semicolon),
            _ => Class::Wrong,
        };
        byte += 1;
    }
    classes
};
