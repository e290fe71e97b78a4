//! Where names followed by `(` are no calls: parts of `WITH`, aliases with columns, windows.

use super::super::lexer::TokenKind;
use super::super::walk::Step;
use super::super::words::Word;

/// Parentheses within each other that are told apart; deeper ones are all taken for [`Opener::Other`].
const MOST_DEPTH: usize = 64;

/// What parentheses are, by what stands before them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Opener {
    /// Arguments: behind a name.
    Call,
    /// What may be an item of `FROM`: behind `FROM`, `JOIN`, `LATERAL` and commas.
    Item,
    /// Anything else.
    #[default]
    Other,
}

/// What parentheses there are around a token, and in which of them a list of `WITH` is under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parentheses {
    openers: [Opener; MOST_DEPTH],
    /// The one that was closed last.
    closed: Opener,
    /// By depth: between `WITH` and what follows its last part.
    with: u64,
}

impl Default for Parentheses {
    fn default() -> Self {
        Self {
            openers: [Opener::Other; MOST_DEPTH],
            closed: Opener::Other,
            with: 0,
        }
    }
}

impl Parentheses {
    /// A statement begins. What is in `openers` is written before it is read.
    pub(super) fn begin(&mut self) {
        self.closed = Opener::Other;
        self.with = 0;
    }

    /// `(` comes, with so many around it.
    #[inline(always)]
    pub(super) fn open(&mut self, opener: Opener, previous: Step, depth: u32) {
        if previous.is(TokenKind::Close) {
            // Behind a part of `WITH` or its columns nothing but `AS`, a comma or a statement comes.
            self.with &= !bit(depth);
        }
        let inside = depth + 1;
        if let Some(slot) = self.openers.get_mut(inside as usize) {
            *slot = opener;
        }
        self.with &= !bit(inside);
    }

    /// `)` comes, so deep inside.
    #[inline(always)]
    pub(super) fn close(&mut self, depth: u32) {
        self.closed = self
            .openers
            .get(depth as usize)
            .copied()
            .unwrap_or_default();
    }

    /// A reserved word comes, or `VALUES`.
    #[inline(always)]
    pub(super) fn keyword(&mut self, word: Word, previous: Step, depth: u32) {
        if word == Word::With {
            // Elsewhere it means something else: `WITH ORDINALITY`, `WITH TIES`, `WITH TIME ZONE`.
            let begins = previous.ends
                || previous.is(TokenKind::Open)
                || matches!(previous.word, Word::As | Word::For);
            if begins {
                self.with |= bit(depth);
            }
        } else if !matches!(word, Word::As | Word::Not) {
            self.with &= !bit(depth);
        }
    }

    /// `WITH` comes where a statement begins, behind `EXPLAIN` and its options.
    pub(super) fn begin_with(&mut self, depth: u32) {
        self.with |= bit(depth);
    }

    /// A name comes: whether `(` behind it begins anything but a call, as far as the grammar has it.
    #[inline(always)]
    pub(super) fn names(&self, previous: Step, depth: u32) -> bool {
        match previous.token.kind {
            // An alias with columns, `OVER`, `FILTER`, `WITHIN`.
            TokenKind::Close => self.closed != Opener::Other,
            TokenKind::Comma => self.with & bit(depth) != 0,
            TokenKind::Word if matches!(previous.word, Word::With | Word::Recursive) => {
                self.with & bit(depth) != 0
            }
            _ => false,
        }
    }
}

fn bit(depth: u32) -> u64 {
    1_u64.checked_shl(depth).unwrap_or_default()
}
