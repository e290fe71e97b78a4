//! The tokens of one statement, one after the other.

use super::super::super::lexer::TokenKind;
use super::super::super::name::Name;
use super::super::super::walk::{Step, Walk};
use super::super::super::words::Word;
use super::super::{Isolation, Modes, Value};

/// The tokens of one statement, and one of them looked at.
pub(super) struct Reader<'a> {
    text: &'a [u8],
    walk: Walk<'a>,
    end: usize,
    next: Option<Step>,
}

impl<'a> Reader<'a> {
    /// At the first token of a statement that ends before `end`.
    pub(super) fn new(text: &'a [u8], walk: Walk<'a>, end: usize) -> Self {
        let mut reader = Self {
            text,
            walk,
            end,
            next: None,
        };
        reader.advance();
        reader
    }

    /// Takes the next token.
    pub(super) fn advance(&mut self) -> Option<Step> {
        let now = self.next.take();
        let step = self.walk.next();
        self.next = step.filter(|step| (step.token.start as usize) < self.end);
        now
    }

    /// The word that comes next.
    pub(super) fn word(&self) -> Word {
        self.next.map_or(Word::Other, |step| step.word)
    }

    /// Passes this word if it comes next.
    pub(super) fn accept(&mut self, word: Word) -> bool {
        let comes = self.word() == word;
        if comes {
            self.advance();
        }
        comes
    }

    /// The token behind the next one.
    pub(super) fn behind(&self) -> Option<Step> {
        let mut walk = self.walk.clone();
        walk.next()
            .filter(|step| (step.token.start as usize) < self.end)
    }

    /// Whether a token of this kind comes next.
    pub(super) fn is(&self, kind: TokenKind) -> bool {
        self.next.is_some_and(|step| step.is(kind))
    }

    /// The operator `=`, or `TO`.
    pub(super) fn assigns(&self, step: Option<Step>) -> bool {
        step.is_some_and(|step| step.word == Word::To || step.token.of(self.text) == b"=")
    }

    /// The name that comes next, with its parts behind dots.
    pub(super) fn name(&mut self) -> Option<Name<'a>> {
        let first = self.advance().filter(|step| is_told(*step))?;
        let (start, mut end) = (first.token.start, first.token.end);
        while self.is(TokenKind::Dot) {
            self.advance();
            end = self.advance().filter(|step| is_told(*step))?.token.end;
        }
        let text = self.text;
        text.get(start as usize..end as usize).map(Name::Written)
    }

    /// The string that comes next, as a name.
    pub(super) fn string(&mut self) -> Option<Name<'a>> {
        let step = self.advance().filter(|step| step.token.kind.is_string())?;
        let text = self.text;
        text.get(step.token.range()).map(Name::Written)
    }

    /// Everything from the next token to the end.
    pub(super) fn rest(&self) -> Option<&'a [u8]> {
        let text = self.text;
        text.get(self.next?.token.start as usize..self.end)
    }

    /// What comes, as a setting's value.
    pub(super) fn value(&mut self) -> Option<Value<'a>> {
        let rest = self.rest()?;
        let is_default = self.word() == Word::Default && self.behind().is_none();
        Some(if is_default {
            Value::Default
        } else {
            Value::Written(rest)
        })
    }

    /// What comes, as a transaction's modes.
    pub(super) fn modes(&mut self) -> Modes {
        let mut modes = Modes::default();
        while let Some(step) = self.advance() {
            match step.word {
                Word::Read => self.read_mode(&mut modes),
                Word::Serializable => modes.isolation = Some(Isolation::Serializable),
                Word::Repeatable => modes.isolation = Some(Isolation::RepeatableRead),
                Word::Not if self.accept(Word::Deferrable) => modes.deferrable = Some(false),
                Word::Deferrable => modes.deferrable = Some(true),
                _ => {}
            }
        }
        modes
    }

    fn read_mode(&mut self, modes: &mut Modes) {
        match self.word() {
            Word::Only => modes.read_only = Some(true),
            Word::Write => modes.read_only = Some(false),
            Word::Committed => modes.isolation = Some(Isolation::ReadCommitted),
            Word::Uncommitted => modes.isolation = Some(Isolation::ReadUncommitted),
            _ => {}
        }
    }
}

/// Whether a token is a name that can be told.
fn is_told(step: Step) -> bool {
    matches!(step.token.kind, TokenKind::Word | TokenKind::Quoted)
}
