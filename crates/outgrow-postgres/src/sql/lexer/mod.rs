//! Statements cut into tokens, by the rules of Postgres' own lexer (`src/backend/parser/scan.l`,
//! versions 12 to 18), without a table of keywords and without a copy of anything.
//!
//! It is strict where it matters: a token that the server sees is never a part of another one here.
//! What the server refuses as a whole is at worst read otherwise, since then nothing of the text is
//! executed. It takes bytes and never fails: what cannot be told is a token of its own
//! ([`TokenKind::Unknown`]), what no server takes another ([`TokenKind::Wrong`]).

mod classes;
mod lexing;
mod number;
pub(crate) mod scan;
mod strings;
#[cfg(test)]
mod tests;
mod token;
mod value;

pub use lexing::{Lexing, is_safe_encoding};
pub use token::{Token, TokenKind};
pub use value::string_value;

use super::hint::Hints;
use classes::{CLASSES, Class};
use strings::Inside;

/// Gives a text's tokens one after the other. Every byte of the text is in one of them or is a blank
/// or a part of a comment.
#[derive(Debug, Clone)]
pub struct Lexer<'a> {
    text: &'a [u8],
    /// Where the last token begins.
    start: usize,
    /// Where it ends, and the next one is looked for.
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
            start: 0,
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

    /// Ends a token where the text ends, after which there is none.
    fn rest(&mut self, kind: TokenKind) -> TokenKind {
        self.at = self.text.len();
        kind
    }

    /// Ends a token.
    #[inline(always)]
    fn ends(&mut self, kind: TokenKind, end: usize) -> TokenKind {
        self.at = end;
        kind
    }

    /// Ends a token whose end was looked for.
    fn ended(&mut self, kind: TokenKind, end: Option<usize>) -> TokenKind {
        match end {
            Some(end) => self.ends(kind, end),
            None => self.rest(TokenKind::Wrong),
        }
    }

    #[inline(always)]
    fn byte(&self, at: usize) -> u8 {
        // Nothing begins with a zero, so it stands for the end.
        self.text.get(at).copied().unwrap_or_default()
    }

    #[inline(always)]
    fn word(&mut self, start: usize, names: &mut impl Names) -> TokenKind {
        if matches!(self.byte(start + 1), b'\'' | b'&')
            && let Some(prefixed) = self.prefixed(start)
        {
            return prefixed;
        }
        names.begin(false);
        let mut at = start;
        loop {
            let word = scan::load(self.text, at);
            let count = scan::word_bytes(word);
            at += count;
            if count < 8 {
                names.rest(scan::fold(scan::keep(word, count)), count);
                return self.ends(TokenKind::Word, at);
            }
            names.eight(scan::fold(word));
        }
    }

    /// A string or an identifier with a letter before it; `None` when it is a word of one letter.
    #[cold]
    fn prefixed(&mut self, start: usize) -> Option<TokenKind> {
        let letter = self.byte(start).to_ascii_lowercase();
        let behind = start + 2;
        Some(match (letter, self.byte(start + 1), self.byte(behind)) {
            (b'e', b'\'', _) => self.escaped(behind),
            (b'n', b'\'', _) => self.plain(behind),
            (b'b' | b'x', b'\'', _) => {
                let end = strings::quoted(self.text, behind, Inside::Bits);
                self.ended(TokenKind::BitString, end)
            }
            (b'u', b'&', b'\'') => {
                let end = strings::quoted(self.text, behind + 1, Inside::Doubled);
                self.ended(TokenKind::UnicodeString, end)
            }
            (b'u', b'&', b'"') => {
                let end = strings::identifier(self.text, behind + 1);
                self.ended(TokenKind::UnicodeQuoted, end)
            }
            _ => return None,
        })
    }

    #[inline(always)]
    fn quoted(&mut self, start: usize, names: &mut impl Names) -> TokenKind {
        names.begin(true);
        let mut at = start + 1;
        loop {
            let word = scan::load(self.text, at);
            let quote = scan::bytes_equal(word, b'"');
            if quote == 0 {
                names.eight(word);
                at += 8;
                if at > self.text.len() {
                    return self.rest(TokenKind::Wrong);
                }
                continue;
            }
            let count = quote.trailing_zeros() as usize / 8;
            let end = at + count;
            if self.byte(end + 1) == b'"' {
                return self.doubled(start, at, names);
            }
            names.rest(scan::keep(word, count), count);
            return self.ends(TokenKind::Quoted, end + 1);
        }
    }

    /// An identifier with quotes in it, of whose name everything before `at` was given already.
    #[cold]
    fn doubled(&mut self, start: usize, mut at: usize, names: &mut impl Names) -> TokenKind {
        names.doubled();
        let Some(end) = strings::identifier(self.text, start + 1) else {
            return self.rest(TokenKind::Wrong);
        };
        while end - 1 - at >= 8 {
            names.eight(scan::load(self.text, at));
            at += 8;
        }
        let count = end - 1 - at;
        names.rest(scan::keep(scan::load(self.text, at), count), count);
        self.ends(TokenKind::Quoted, end)
    }

    fn escaped(&mut self, inside: usize) -> TokenKind {
        let end = strings::quoted(self.text, inside, Inside::Escaped);
        self.ended(TokenKind::EscapeString, end)
    }

    /// `'text'`, with what the setting makes of it.
    fn plain(&mut self, inside: usize) -> TokenKind {
        if self.standard_strings == Some(false) {
            return self.escaped(inside);
        }
        let end = strings::quoted(self.text, inside, Inside::Doubled);
        if self.standard_strings.is_none() {
            let body = self.text.get(inside..end.unwrap_or(self.text.len()));
            if memchr::memchr(b'\\', body.unwrap_or_default()).is_some() {
                return self.rest(TokenKind::Unknown);
            }
        }
        self.ended(TokenKind::String, end)
    }

    fn dollar(&mut self, start: usize) -> TokenKind {
        let mut end = start + 1;
        while self.byte(end).is_ascii_digit() {
            end += 1;
        }
        if end > start + 1 {
            return self.ends(TokenKind::Parameter, end);
        }
        match strings::dollar(self.text, start) {
            Ok(end) => self.ended(TokenKind::DollarString, end),
            Err(()) => self.ends(TokenKind::Wrong, start + 1),
        }
    }

    fn dot(&mut self, start: usize) -> TokenKind {
        match self.byte(start + 1) {
            b'.' => self.ends(TokenKind::DotDot, start + 2),
            b'0'..=b'9' => {
                let end = number::end(self.text, start);
                self.ends(TokenKind::Number, end)
            }
            _ => self.ends(TokenKind::Dot, start + 1),
        }
    }

    fn colon(&mut self, start: usize) -> TokenKind {
        match self.byte(start + 1) {
            b':' => self.ends(TokenKind::Cast, start + 2),
            b'=' => self.ends(TokenKind::ColonEquals, start + 2),
            _ => self.ends(TokenKind::Colon, start + 1),
        }
    }

    /// The longest operator: up to a comment's start, and without a `+` or `-` at its end unless it
    /// has a character that operators of the SQL standard have not.
    #[inline(always)]
    fn operator(&mut self, start: usize) -> TokenKind {
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
        self.ends(kind, end)
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

/// Takes the bytes of names while they are read, eight at a time, the first one lowest: those of words folded,
/// those between quotes as they are.
pub(crate) trait Names {
    /// A name begins.
    fn begin(&mut self, is_quoted: bool);
    /// Its next eight bytes.
    fn eight(&mut self, word: u64);
    /// Its last bytes, none to seven.
    fn rest(&mut self, word: u64, count: usize);
    /// It has quotes in it, which are given as they are written: two for one.
    fn doubled(&mut self);
}

/// Of names nothing but where they end.
struct NoNames;

impl Names for NoNames {
    #[inline(always)]
    fn begin(&mut self, _: bool) {}
    #[inline(always)]
    fn eight(&mut self, _: u64) {}
    #[inline(always)]
    fn rest(&mut self, _: u64, _: usize) {}
    #[inline(always)]
    fn doubled(&mut self) {}
}

impl Lexer<'_> {
    /// The next token, whose bytes are given to `names` if it is a name.
    #[inline(always)]
    pub(crate) fn advance(&mut self, names: &mut impl Names) -> Option<Token> {
        // Made here of what is in registers: as the result of each branch it would go through memory.
        let kind = self.kind(names)?;
        Some(Token {
            kind,
            start: self.start as u32,
            end: self.at as u32,
        })
    }

    #[inline(always)]
    fn kind(&mut self, names: &mut impl Names) -> Option<TokenKind> {
        loop {
            let Some(&byte) = self.text.get(self.at) else {
                return self.end();
            };
            let start = self.at;
            self.start = start;
            return Some(match CLASSES[usize::from(byte)] {
                Class::Blank => {
                    self.at += 1;
                    continue;
                }
                Class::Word => self.word(start, names),
                Class::Digit => {
                    let end = number::end(self.text, start);
                    self.ends(TokenKind::Number, end)
                }
                Class::Operator => {
                    match (byte, self.byte(start + 1)) {
                        (b'-', b'-') => {
                            self.at = strings::line_comment(self.text, start);
                            continue;
                        }
                        (b'/', b'*') if self.comment(start) => continue,
                        (b'/', b'*') => return Some(self.rest(TokenKind::Wrong)),
                        _ => {}
                    }
                    self.operator(start)
                }
                Class::Quote => self.plain(start + 1),
                Class::DoubleQuote => self.quoted(start, names),
                Class::Dollar => self.dollar(start),
                Class::Dot => self.dot(start),
                Class::Colon => self.colon(start),
                Class::Single(kind) => self.ends(kind, start + 1),
                Class::Wrong => self.ends(TokenKind::Wrong, start + 1),
            });
        }
    }

    /// The end, or all of a text that is not to be read.
    #[cold]
    fn end(&mut self) -> Option<TokenKind> {
        let is_unread = self.at > self.text.len() && !self.text.is_empty();
        self.start = 0;
        is_unread.then(|| self.rest(TokenKind::Unknown))
    }
}

impl Iterator for Lexer<'_> {
    type Item = Token;

    #[inline]
    fn next(&mut self) -> Option<Token> {
        self.advance(&mut NoNames)
    }
}
