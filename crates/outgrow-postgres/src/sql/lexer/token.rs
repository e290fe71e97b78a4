//! What a piece of a statement is.

use std::ops::Range;

/// A piece of a statement's text that stands for something: no blanks, no comments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: TokenKind,
    /// Offset of its first byte.
    pub start: u32,
    /// Offset behind its last byte.
    pub end: u32,
}

/// What a token is. Keywords are words: which ones are keywords is not for the lexer to say, it differs
/// between versions and places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// An identifier or a keyword without quotes; its ASCII letters are folded by the server.
    Word,
    /// `"An identifier"`; two quotes in it stand for one.
    Quoted,
    /// `U&"an identifier"`, whose name also depends on a `UESCAPE` behind it.
    UnicodeQuoted,
    /// A number without a sign.
    Number,
    /// `$1`
    Parameter,
    /// `'text'` or `N'text'` in which only two quotes stand for something else.
    String,
    /// `E'text'` with backslashes, or `'text'` when `standard_conforming_strings` is off.
    EscapeString,
    /// `$tag$text$tag$`
    DollarString,
    /// `B'01'` or `X'0F'`
    BitString,
    /// `U&'text'`, whose value also depends on a `UESCAPE` behind it.
    UnicodeString,
    /// One or more of `+-*/<>=~!@#%^&|` and the back-quote and `?`; `=>` is not one.
    Operator,
    /// `(`
    Open,
    /// `)`
    Close,
    /// `[`
    OpenBracket,
    /// `]`
    CloseBracket,
    /// `,`
    Comma,
    /// `;`
    Semicolon,
    /// `.`
    Dot,
    /// `..`
    DotDot,
    /// `:`
    Colon,
    /// `::`
    Cast,
    /// `:=`
    ColonEquals,
    /// `=>`
    EqualsGreater,
    /// What no server would take: a quote or comment without an end, a byte that begins nothing.
    /// What stands behind it is not to be relied on.
    Wrong,
    /// What a server may take, but what it is cannot be told from here; it goes on to the end. See
    /// [`Lexing`](super::Lexing).
    Unknown,
}

impl Token {
    /// Where it stands.
    pub fn range(&self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    /// Its bytes in the text it was read from.
    pub fn of<'a>(&self, text: &'a [u8]) -> &'a [u8] {
        text.get(self.range()).unwrap_or_default()
    }
}

impl TokenKind {
    /// Whether it names something: a word, with or without quotes.
    pub fn is_name(self) -> bool {
        matches!(self, Self::Word | Self::Quoted | Self::UnicodeQuoted)
    }

    /// Whether it is a number or any string.
    pub fn is_literal(self) -> bool {
        matches!(self, Self::Number) || self.is_string()
    }

    /// Whether it is any string.
    pub fn is_string(self) -> bool {
        matches!(
            self,
            Self::String
                | Self::EscapeString
                | Self::DollarString
                | Self::BitString
                | Self::UnicodeString
        )
    }
}
