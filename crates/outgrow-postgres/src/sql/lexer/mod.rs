//! Statements cut into tokens, by the rules of Postgres' own lexer (`src/backend/parser/scan.l`,
//! versions 12 to 18), without a table of keywords and without a copy of anything.
//!
//! It is strict where it matters: a token that the server sees is never a part of another one here.
//! What the server refuses as a whole is at worst read otherwise, since then nothing of the text is
//! executed. It takes bytes and never fails: what cannot be told is a token of its own
//! ([`TokenKind::Unknown`]), what no server takes another ([`TokenKind::Wrong`]).

mod number;
pub(crate) mod scan;
mod strings;
#[cfg(test)]
mod tests;
mod token;
mod value;

pub use token::{Token, TokenKind};
pub use value::string_value;

use super::hint::Hints;
use strings::Inside;

/// What a session's settings make of a text. Both are reported by the server (`ParameterStatus`), at
/// login and whenever they change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lexing {
    /// The setting `standard_conforming_strings`: without it a backslash in `'text'` escapes. `None`
    /// when it is not known, as while a statement that sets it is under way: then a text is unknown
    /// from its first such string with a backslash on.
    pub standard_conforming_strings: Option<bool>,
    /// Whether the client's encoding has ASCII bytes for ASCII characters only (see
    /// [`is_safe_encoding`]). Otherwise every text with a byte from 128 on is unknown.
    pub safe_encoding: bool,
}

impl Default for Lexing {
    /// What servers are set to unless somebody changes it.
    fn default() -> Self {
        Self {
            standard_conforming_strings: Some(true),
            safe_encoding: true,
        }
    }
}

/// Whether no byte of a character that is not ASCII looks like an ASCII one in this encoding, named as
/// the server reports `client_encoding`. It is not so in SJIS, BIG5, GBK, UHC, JOHAB and GB18030, in
/// which a quote or a backslash may be half of a character; encodings that nobody has heard of yet
/// are not safe either.
pub fn is_safe_encoding(name: &[u8]) -> bool {
    const SAFE: [&[u8]; 6] = [
        b"UTF8",
        b"SQL_ASCII",
        b"MULE_INTERNAL",
        b"EUC_JP",
        b"EUC_CN",
        b"EUC_KR",
    ];
    const SAFE_FAMILIES: [&[u8]; 6] = [
        b"EUC_TW",
        b"EUC_JIS_2004",
        b"LATIN",
        b"ISO_8859_",
        b"WIN",
        b"KOI8",
    ];
    SAFE.contains(&name) || SAFE_FAMILIES.iter().any(|family| name.starts_with(family))
}

/// What begins with a byte.
#[derive(Debug, Clone, Copy)]
enum Class {
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
const CLASSES: [Class; 256] = {
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

/// Gives a text's tokens one after the other. Every byte of the text is in one of them or is a blank
/// or a part of a comment.
#[derive(Debug, Clone)]
pub struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
    standard_strings: Option<bool>,
    hints: Hints,
}

impl<'a> Lexer<'a> {
    /// Begins with the text's first token. A text of 4 GiB or more is unknown.
    pub fn new(text: &'a [u8], lexing: Lexing) -> Self {
        let is_safe = lexing.safe_encoding || text.is_ascii();
        let is_short = u32::try_from(text.len()).is_ok();
        let mut lexer = Self {
            text,
            at: 0,
            standard_strings: lexing.standard_conforming_strings,
            hints: Hints::default(),
        };
        if !is_safe || !is_short {
            lexer.at = usize::MAX;
        }
        lexer
    }

    /// The hints in the comments that were passed so far.
    pub fn hints(&self) -> Hints {
        self.hints
    }

    /// Goes back to where a token begins, or anywhere between two.
    pub(crate) fn seek(&mut self, at: usize) {
        self.at = at;
    }

    /// A token up to the text's end, after which there is none.
    fn rest(&mut self, kind: TokenKind, start: usize) -> Option<Token> {
        self.at = self.text.len();
        let end = u32::try_from(self.at).unwrap_or(u32::MAX);
        let start = u32::try_from(start).unwrap_or(u32::MAX);
        (start < end).then_some(Token { kind, start, end })
    }

    fn token(&mut self, kind: TokenKind, start: usize, end: usize) -> Option<Token> {
        self.at = end;
        Some(Token {
            kind,
            start: start as u32,
            end: end as u32,
        })
    }

    /// A token whose end was looked for.
    fn ended(&mut self, kind: TokenKind, start: usize, end: Option<usize>) -> Option<Token> {
        match end {
            Some(end) => self.token(kind, start, end),
            None => self.rest(TokenKind::Wrong, start),
        }
    }

    fn byte(&self, at: usize) -> u8 {
        // Nothing begins with a zero, so it stands for the end.
        self.text.get(at).copied().unwrap_or_default()
    }

    fn word(&mut self, start: usize) -> Option<Token> {
        let end = scan::word_end(self.text, start);
        if end == start + 1 && matches!(self.byte(end), b'\'' | b'&') {
            let letter = self.byte(start).to_ascii_lowercase();
            match (letter, self.byte(end), self.byte(end + 1)) {
                (b'e', b'\'', _) => return self.escaped(start, end + 1),
                (b'n', b'\'', _) => return self.plain(start, end + 1),
                (b'b' | b'x', b'\'', _) => {
                    let end = strings::quoted(self.text, end + 1, Inside::Bits);
                    return self.ended(TokenKind::BitString, start, end);
                }
                (b'u', b'&', b'\'') => {
                    let end = strings::quoted(self.text, end + 2, Inside::Doubled);
                    return self.ended(TokenKind::UnicodeString, start, end);
                }
                (b'u', b'&', b'"') => {
                    let end = strings::identifier(self.text, end + 2);
                    return self.ended(TokenKind::UnicodeQuoted, start, end);
                }
                _ => {}
            }
        }
        self.token(TokenKind::Word, start, end)
    }

    fn escaped(&mut self, start: usize, inside: usize) -> Option<Token> {
        let end = strings::quoted(self.text, inside, Inside::Escaped);
        self.ended(TokenKind::EscapeString, start, end)
    }

    /// `'text'`, with what the setting makes of it.
    fn plain(&mut self, start: usize, inside: usize) -> Option<Token> {
        if self.standard_strings == Some(false) {
            return self.escaped(start, inside);
        }
        let end = strings::quoted(self.text, inside, Inside::Doubled);
        if self.standard_strings.is_none() {
            let body = self.text.get(inside..end.unwrap_or(self.text.len()));
            if memchr::memchr(b'\\', body.unwrap_or_default()).is_some() {
                return self.rest(TokenKind::Unknown, start);
            }
        }
        self.ended(TokenKind::String, start, end)
    }

    fn dollar(&mut self, start: usize) -> Option<Token> {
        let mut end = start + 1;
        while self.byte(end).is_ascii_digit() {
            end += 1;
        }
        if end > start + 1 {
            return self.token(TokenKind::Parameter, start, end);
        }
        match strings::dollar(self.text, start) {
            Ok(end) => self.ended(TokenKind::DollarString, start, end),
            Err(()) => self.token(TokenKind::Wrong, start, start + 1),
        }
    }

    fn dot(&mut self, start: usize) -> Option<Token> {
        match self.byte(start + 1) {
            b'.' => self.token(TokenKind::DotDot, start, start + 2),
            b'0'..=b'9' => {
                let end = number::end(self.text, start);
                self.token(TokenKind::Number, start, end)
            }
            _ => self.token(TokenKind::Dot, start, start + 1),
        }
    }

    fn colon(&mut self, start: usize) -> Option<Token> {
        match self.byte(start + 1) {
            b':' => self.token(TokenKind::Cast, start, start + 2),
            b'=' => self.token(TokenKind::ColonEquals, start, start + 2),
            _ => self.token(TokenKind::Colon, start, start + 1),
        }
    }

    /// The longest operator: up to a comment's start, and without a `+` or `-` at its end unless it
    /// has a character that operators of the SQL standard have not.
    fn operator(&mut self, start: usize) -> Option<Token> {
        let mut end = start + 1;
        let mut is_standard = !is_beyond_the_standard(self.byte(start));
        loop {
            let byte = self.byte(end);
            if !matches!(CLASSES[usize::from(byte)], Class::Operator)
                || matches!((byte, self.byte(end + 1)), (b'/', b'*') | (b'-', b'-'))
            {
                break;
            }
            is_standard &= !is_beyond_the_standard(byte);
            end += 1;
        }
        while is_standard && end > start + 1 && matches!(self.byte(end - 1), b'+' | b'-') {
            end -= 1;
        }
        let kind = match self.text.get(start..end) {
            Some(b"=>") => TokenKind::EqualsGreater,
            _ => TokenKind::Operator,
        };
        self.token(kind, start, end)
    }

    /// Passes a comment that begins at `start`, with a hint or not; false when it has no end.
    fn comment(&mut self, start: usize) -> bool {
        let Some(end) = strings::block_comment(self.text, start + 2) else {
            return false;
        };
        self.hints.read(&self.text[start + 2..end - 2]);
        self.at = end;
        true
    }
}

/// Whether operators with this character may end with `+` or `-`.
fn is_beyond_the_standard(byte: u8) -> bool {
    matches!(
        byte,
        b'~' | b'!' | b'@' | b'#' | b'^' | b'&' | b'|' | b'`' | b'?' | b'%'
    )
}

impl Iterator for Lexer<'_> {
    type Item = Token;

    #[inline]
    fn next(&mut self) -> Option<Token> {
        loop {
            let Some(&byte) = self.text.get(self.at) else {
                // Beyond the end: nothing of it was read.
                let unread = self.at > self.text.len();
                return unread.then(|| self.rest(TokenKind::Unknown, 0)).flatten();
            };
            let start = self.at;
            return match CLASSES[usize::from(byte)] {
                Class::Blank => {
                    self.at += 1;
                    continue;
                }
                Class::Word => self.word(start),
                Class::Digit => {
                    let end = number::end(self.text, start);
                    self.token(TokenKind::Number, start, end)
                }
                Class::Operator => {
                    match (byte, self.byte(start + 1)) {
                        (b'-', b'-') => {
                            self.at = strings::line_comment(self.text, start);
                            continue;
                        }
                        (b'/', b'*') if self.comment(start) => continue,
                        (b'/', b'*') => return self.rest(TokenKind::Wrong, start),
                        _ => {}
                    }
                    self.operator(start)
                }
                Class::Quote => self.plain(start, start + 1),
                Class::DoubleQuote => {
                    let end = strings::identifier(self.text, start + 1);
                    self.ended(TokenKind::Quoted, start, end)
                }
                Class::Dollar => self.dollar(start),
                Class::Dot => self.dot(start),
                Class::Colon => self.colon(start),
                Class::Single(kind) => self.token(kind, start, start + 1),
                Class::Wrong => self.token(TokenKind::Wrong, start, start + 1),
            };
        }
    }
}
