//! Names: as the server folds them, and in a form that is quick to compare.

use std::borrow::Cow;
use std::fmt;

use super::lexer::{Lexer, Lexing, Token, TokenKind, scan, string_value};

/// Longest name in bytes (`NAMEDATALEN` less one); the server cuts longer ones.
pub(crate) const LONGEST: usize = 63;

/// A name as it is compared: its bytes folded if it is a word, its quotes removed if it has some.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key {
    /// Of all of it. Not secret: whoever compares by it compares the bytes as well.
    pub(crate) hash: u64,
    /// Its first eight bytes, the first one lowest.
    pub(crate) first: u64,
    /// Bytes of it.
    pub(crate) length: u32,
    /// Whether a byte of it is not ASCII: then how the server knows it depends on encodings.
    pub(crate) is_ascii: bool,
}

const MULTIPLIER: u64 = 0x9fb2_1c65_1e98_df25;

/// Takes eight bytes into a hash.
const fn mix(hash: u64, word: u64) -> u64 {
    let hash = (hash ^ word).wrapping_mul(MULTIPLIER);
    hash ^ (hash >> 32)
}

impl Key {
    /// Of a name that is folded already.
    pub(crate) const fn of(name: &[u8]) -> Self {
        let (mut hash, mut first, mut at) = (name.len() as u64, 0, 0);
        let mut is_ascii = true;
        while at < name.len() || at == 0 {
            let (mut word, mut index) = (0_u64, 0);
            while index < 8 && at + index < name.len() {
                is_ascii &= name[at + index] < 128;
                word |= (name[at + index] as u64) << (8 * index);
                index += 1;
            }
            hash = mix(hash, word);
            if at == 0 {
                first = word;
            }
            at += 8;
        }
        Self {
            hash,
            first,
            length: name.len() as u32,
            is_ascii,
        }
    }

    /// Of the bytes from `start` to `end`, folded or as they are. Same as [`Key::of`] of them.
    #[inline(always)]
    fn within(text: &[u8], start: usize, end: usize, folds: bool) -> Self {
        let length = end - start;
        let read = |at: usize| {
            let word = scan::keep(scan::load(text, at), end - at);
            if folds { scan::fold(word) } else { word }
        };
        let first = read(start);
        let mut hash = mix(length as u64, first);
        let mut high = first;
        let mut at = start + 8;
        while at < end {
            let word = read(at);
            hash = mix(hash, word);
            high |= word;
            at += 8;
        }
        Self {
            hash,
            first,
            length: length as u32,
            is_ascii: high & 0x8080_8080_8080_8080 == 0,
        }
    }

    /// Of a name in a text; of an identifier with Unicode escapes, none.
    #[inline(always)]
    pub(crate) fn of_token(text: &[u8], token: Token) -> Option<Self> {
        let range = token.range();
        match token.kind {
            TokenKind::Word => Some(Self::within(text, range.start, range.end, true)),
            TokenKind::Quoted => {
                let (start, end) = (range.start + 1, range.end - 1);
                match has_quote(text, start, end) {
                    false => Some(Self::within(text, start, end, false)),
                    true => Some(Self::of(&unquote(&text[start..end]))),
                }
            }
            _ => None,
        }
    }

    /// Whether the server cuts it, so that it is another name.
    pub(crate) fn is_cut(&self) -> bool {
        self.length as usize > LONGEST
    }
}

/// Whether a quote stands in a quoted identifier.
#[inline(always)]
fn has_quote(text: &[u8], start: usize, end: usize) -> bool {
    scan::find(text, start, b'"').is_some_and(|found| found < end)
}

/// An identifier's bytes between its quotes, with two quotes as one.
fn unquote(inside: &[u8]) -> Vec<u8> {
    let mut name = Vec::with_capacity(inside.len());
    let mut bytes = inside.iter();
    while let Some(&byte) = bytes.next() {
        name.push(byte);
        if byte == b'"' {
            bytes.next();
        }
    }
    name
}

/// A name in a statement: an identifier, a setting's dotted name, a string that names something.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Name<'a> {
    /// As it stands in the text; tokens of it may have blanks between them.
    Written(&'a [u8]),
    /// What a special form stands for: `TIME ZONE` for `timezone`.
    Implied(&'static str),
}

impl<'a> Name<'a> {
    /// As the server knows it: words folded, quotes removed, of a string what it stands for. A name
    /// that cannot be told (`U&"…"`) is given as it is written.
    pub fn folded(&self) -> Cow<'a, [u8]> {
        let written = match *self {
            Self::Implied(name) => return Cow::Borrowed(name.as_bytes()),
            Self::Written(written) => written,
        };
        let is_plain =
            |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'_';
        if written.iter().all(is_plain) {
            return Cow::Borrowed(written);
        }
        let mut name = Vec::with_capacity(written.len());
        for token in Lexer::new(written, Lexing::default()) {
            let raw = token.of(written);
            match token.kind {
                TokenKind::Word => name.extend(raw.iter().map(u8::to_ascii_lowercase)),
                TokenKind::Quoted => name.extend(unquote(&raw[1..raw.len() - 1])),
                TokenKind::Dot => name.push(b'.'),
                _ if string_value(token, written, &mut name) => {}
                _ => return Cow::Borrowed(written),
            }
        }
        Cow::Owned(name)
    }

    /// Whether it is this one, given folded.
    pub fn is(&self, name: &str) -> bool {
        self.folded() == name.as_bytes()
    }
}

impl fmt::Debug for Name<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}", String::from_utf8_lossy(&self.folded()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(text: &str) -> Token {
        let mut tokens = Lexer::new(text.as_bytes(), Lexing::default());
        let token = tokens.next().expect("a token");
        assert_eq!(tokens.next(), None, "{text}");
        token
    }

    #[test]
    fn keys_are_those_of_the_folded_name() {
        let check = |written: &str, folded: &str| {
            let token = only(written);
            let key = Key::of_token(written.as_bytes(), token).expect("a name");
            assert_eq!(key, Key::of(folded.as_bytes()), "{written}");
            assert_eq!(key.is_ascii, folded.is_ascii());
            let name = Name::Written(written.as_bytes());
            assert!(name.is(folded), "{name:?}");
        };
        for length in 1..70 {
            let name = "AbCdEfGhIj".repeat(7)[..length].to_owned();
            check(&name, &name.to_lowercase());
            check(&format!("\"{name}\""), &name);
        }
        check("Grün", "grün");
        check("\"a\"\"b\"", "a\"b");
        check("\"\"\"\"", "\"");
    }

    #[test]
    fn names_of_several_tokens() {
        let check = |written: &str, folded: &str| {
            let name = Name::Written(written.as_bytes());
            assert_eq!(String::from_utf8_lossy(&name.folded()), folded);
        };
        check("App . \"User\"", "app.User");
        check("'It''s'", "It's");
        check("U&\"\\0061\"", "U&\"\\0061\"");
        assert!(Name::Implied("timezone").is("timezone"));
    }
}
