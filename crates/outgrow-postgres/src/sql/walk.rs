//! The way through a text: its tokens, which words they are, how deep in parentheses they stand, and
//! where its statements begin and end.
//!
//! A semicolon ends a statement unless it stands in parentheses (`CREATE RULE … DO (…; …)`) or in the body of
//! an SQL-standard function (`BEGIN ATOMIC …; END`).

use super::hint::Hints;
use super::lexer::{Lexer, Lexing, Token, TokenKind};
use super::name::{Key, KeyReader, LONGEST};
use super::words::{Class, Word};

/// A token with what is known of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step {
    /// Of a name; of anything else, and of a name with Unicode escapes, of nothing.
    pub(crate) key: Key,
    pub(crate) token: Token,
    pub(crate) word: Word,
    /// Parentheses around it; those of its own count for `)` but not for `(`.
    pub(crate) depth: u32,
    /// It is the first of a statement.
    pub(crate) begins: bool,
    /// It is the semicolon behind a statement, and no part of it.
    pub(crate) ends: bool,
    /// It is a name that is not all ASCII.
    pub(crate) is_foreign: bool,
}

/// Gives a text's steps one after the other.
#[derive(Debug, Clone)]
pub(crate) struct Walk<'a> {
    text: &'a [u8],
    lexer: Lexer<'a>,
    reading: KeyReader,
    depth: u32,
    /// Whether a statement has begun.
    inside: bool,
    body: Body,
}

const NOTHING: Key = Key::of(b"");

/// Whether we are in a function's body, in which semicolons end nothing.
#[derive(Debug, Clone, Copy, Default)]
struct Body {
    /// The statement creates something, so it may have one.
    is_possible: bool,
    /// `BEGIN ATOMIC` and each `CASE` without their `END`.
    open: u32,
    previous: Option<Word>,
    /// The word before may be a name: it stands behind a dot or `AS`.
    names: bool,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(text: &'a [u8], lexing: Lexing) -> Self {
        Self {
            text,
            lexer: Lexer::new(text, lexing),
            reading: KeyReader::new(),
            depth: 0,
            inside: false,
            body: Body::default(),
        }
    }

    /// The hints in the comments passed so far.
    pub(crate) fn hints(&self) -> Hints {
        self.lexer.hints()
    }

    /// The same text's walk from a statement's first token on.
    pub(crate) fn from(mut self, at: usize) -> Self {
        self.lexer.seek(at);
        self.depth = 0;
        self.inside = false;
        self.body = Body::default();
        self
    }
}

impl Body {
    fn step(&mut self, token: Token, word: Word, begins: bool) {
        if begins {
            *self = Self {
                is_possible: word == Word::Create,
                ..Self::default()
            };
        }
        if !self.is_possible {
            return;
        }
        match word {
            Word::Atomic if self.previous == Some(Word::Begin) => self.open += 1,
            Word::Case if self.open > 0 && !self.names => self.open += 1,
            Word::End if self.open > 0 && !self.names => self.open -= 1,
            _ => {}
        }
        self.names = token.kind == TokenKind::Dot || word == Word::As;
        self.previous = Some(word);
    }
}

impl Iterator for Walk<'_> {
    type Item = Step;

    #[inline(always)]
    fn next(&mut self) -> Option<Step> {
        let token = self.lexer.advance(&mut self.reading)?;
        let reading = &self.reading;
        let (mut word, mut key) = (Word::Other, NOTHING);
        let mut depth = self.depth;
        let (mut ends, mut is_foreign) = (false, false);
        match token.kind {
            TokenKind::Word | TokenKind::Quoted => {
                key = reading.finish(self.text, token);
                word = Word::of(self.text, token, key, reading);
                is_foreign = reading.is_foreign();
            }
            TokenKind::Open => {
                self.depth = self.depth.saturating_add(1);
            }
            TokenKind::Close => {
                // One too many is an error of the whole text.
                self.depth = self.depth.saturating_sub(1);
                depth = depth.max(1);
            }
            TokenKind::Semicolon => ends = self.depth == 0 && self.body.open == 0,
            _ => {}
        }
        let begins = !self.inside && !ends;
        self.inside = !ends;
        if begins || self.body.is_possible {
            self.body.step(token, word, begins);
        }
        Some(Step {
            key,
            token,
            word,
            depth,
            begins,
            ends,
            is_foreign,
        })
    }
}

impl Step {
    /// What stands before the first.
    pub(crate) const NONE: Self = Self {
        token: Token {
            kind: TokenKind::Semicolon,
            start: 0,
            end: 0,
        },
        word: Word::Other,
        key: Key::of(b""),
        depth: 0,
        begins: false,
        ends: true,
        is_foreign: false,
    };

    /// Whether it is a word that can be no name here: a reserved one. What stands before it has to be
    /// asked as well.
    pub(crate) fn is_reserved(&self) -> bool {
        self.word.class() == Class::Reserved
    }

    /// Whether the server cuts it, so that it is another name.
    #[inline(always)]
    pub(crate) fn is_cut(&self) -> bool {
        let quotes = 2 * u32::from(self.is(TokenKind::Quoted));
        self.token.end - self.token.start > LONGEST + quotes
    }

    pub(crate) fn is(&self, kind: TokenKind) -> bool {
        self.token.kind == kind
    }
}
