//! Names: as the server folds them, and in a form that is quick to compare.

use std::borrow::Cow;
use std::fmt;

use super::lexer::{Lexer, Lexing, Names, Token, TokenKind, string_value};

/// Longest name in bytes (`NAMEDATALEN` less one); the server cuts longer ones.
pub(crate) const LONGEST: u32 = 63;

/// What a name is found by: a hash of its bytes, folded if it is a word and without its quotes if it has some.
/// Not secret: whoever compares by it compares the bytes as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key(pub(crate) u64);

const MULTIPLIER: u64 = 0x9fb2_1c65_1e98_df25;

/// Takes eight bytes into a hash.
const fn mix(hash: u64, word: u64) -> u64 {
    let hash = (hash ^ word).wrapping_mul(MULTIPLIER);
    hash ^ (hash >> 32)
}

impl Key {
    /// Of a name that is folded already.
    pub(crate) const fn of(name: &[u8]) -> Self {
        KeyReader::of(name).key()
    }
}

/// Makes the key of a name that is being read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeyReader {
    // All of one size, so that what is stored is what is loaded.
    hash: u64,
    first: u64,
    length: u64,
    high: u64,
    doubled: u64,
}

impl KeyReader {
    #[inline(always)]
    pub(crate) const fn new() -> Self {
        Self {
            hash: 0,
            first: 0,
            length: 0,
            high: 0,
            doubled: 0,
        }
    }

    #[inline(always)]
    const fn take(&mut self, word: u64, count: usize) {
        if self.length == 0 {
            self.first = word;
        }
        self.hash = mix(self.hash, word);
        self.high |= word;
        self.length += count as u64;
    }

    #[inline(always)]
    pub(crate) const fn key(&self) -> Key {
        Key(mix(self.hash, self.length))
    }

    /// Of a name that is folded already.
    pub(crate) const fn of(name: &[u8]) -> Self {
        let mut reading = Self::new();
        let mut at = 0;
        while at < name.len() {
            let (mut word, mut index) = (0_u64, 0);
            while index < 8 && at + index < name.len() {
                word |= (name[at + index] as u64) << (8 * index);
                index += 1;
            }
            reading.take(word, index);
            at += index;
        }
        reading
    }

    /// Its first eight bytes and its length, which say all of a name of eight bytes or less.
    #[inline(always)]
    pub(crate) const fn beginning(&self) -> (u64, u64) {
        (self.first, self.length)
    }

    /// Whether a byte of it is not ASCII: then how the server knows it depends on encodings.
    #[inline(always)]
    pub(crate) const fn is_foreign(&self) -> bool {
        self.high & 0x8080_8080_8080_8080 != 0
    }

    /// The key of the name that was read last, which is `token`.
    #[inline(always)]
    pub(crate) fn finish(&self, text: &[u8], token: Token) -> Key {
        if self.doubled != 0 {
            return finish_doubled(text, token);
        }
        self.key()
    }
}

#[cold]
fn finish_doubled(text: &[u8], token: Token) -> Key {
    let inside = text.get(token.start as usize + 1..token.end as usize - 1);
    Key::of(&unquote(inside.unwrap_or_default()))
}

impl Names for KeyReader {
    #[inline(always)]
    fn begin(&mut self, _: bool) {
        *self = Self::new();
    }

    #[inline(always)]
    fn eight(&mut self, word: u64) {
        self.take(word, 8);
    }

    #[inline(always)]
    fn rest(&mut self, word: u64, count: usize) {
        if count > 0 {
            self.take(word, count);
        }
    }

    #[inline(always)]
    fn doubled(&mut self) {
        self.doubled = 1;
    }
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

    fn only(text: &str) -> (Key, bool) {
        let mut tokens = Lexer::new(text.as_bytes(), Lexing::default());
        let mut reading = KeyReader::new();
        let token = tokens.advance(&mut reading).expect("a token");
        assert_eq!(tokens.next(), None, "{text}");
        (reading.finish(text.as_bytes(), token), reading.is_foreign())
    }

    #[test]
    fn keys_are_those_of_the_folded_name() {
        let check = |written: &str, folded: &str| {
            let (key, is_foreign) = only(written);
            assert_eq!(key, Key::of(folded.as_bytes()), "{written}");
            assert_eq!(is_foreign, !folded.is_ascii());
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
