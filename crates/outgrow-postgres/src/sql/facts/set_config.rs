//! Settings that are set by `set_config('name', 'value', is_local)`.
//!
//! What a call sets can be known only where its arguments stand in the text, and whether it is made at
//! all only where the statement is nothing but such calls.

use std::ops::Range;

use super::super::lexer::{Lexing, Token, TokenKind, string_value};
use super::super::walk::{Step, Walk};
use super::super::words::Word;

/// A call of `set_config` whose arguments stand in the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingCall {
    /// The setting, as it is written: settings' names are compared without regard to case.
    pub name: Vec<u8>,
    /// What it is set to.
    pub value: Vec<u8>,
    /// Only until the transaction ends.
    pub is_local: bool,
}

/// How a statement uses `set_config`; of several calls the worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Use {
    None,
    /// For the transaction only, whatever it sets.
    Local,
    /// With arguments that stand in the text.
    Written,
    /// With others.
    Hidden,
}

/// What the call at `at` is, where its function's name begins.
pub(super) fn found(text: &[u8], lexing: Lexing, at: usize) -> Use {
    let mut walk = Walk::new(text, lexing).from(at);
    walk.next();
    match arguments(text, &mut walk) {
        Some(call) if call.is_local => Use::Local,
        Some(_) => Use::Written,
        None if is_surely_local(text, Walk::new(text, lexing).from(at)) => Use::Local,
        None => Use::Hidden,
    }
}

/// The call whose `(` comes next, if all of it stands in the text.
fn arguments(text: &[u8], walk: &mut Walk<'_>) -> Option<SettingCall> {
    expect(walk, TokenKind::Open)?;
    let name = string(text, walk.next()?.token)?;
    expect(walk, TokenKind::Comma)?;
    let value = string(text, walk.next()?.token)?;
    expect(walk, TokenKind::Comma)?;
    let is_local = boolean(text, walk.next()?)?;
    expect(walk, TokenKind::Close)?;
    Some(SettingCall {
        name,
        value,
        is_local,
    })
}

/// Whether the last argument of the call says that it is for the transaction only, whatever the
/// others are. Parentheses within them are passed.
fn is_surely_local(text: &[u8], walk: Walk<'_>) -> bool {
    let mut commas = 0;
    let mut last = None;
    for step in walk {
        match (step.token.kind, step.depth) {
            (TokenKind::Comma, 1) => commas += 1,
            (TokenKind::Close, 1) => {
                return last.is_some_and(|last| boolean(text, last) == Some(true));
            }
            // The last argument has to be this one token.
            _ if commas == 2 && last.is_some() => return false,
            _ if commas == 2 => last = Some(step),
            _ if step.ends => return false,
            _ => {}
        }
    }
    false
}

fn expect(walk: &mut Walk<'_>, kind: TokenKind) -> Option<()> {
    walk.next()?.is(kind).then_some(())
}

fn string(text: &[u8], token: Token) -> Option<Vec<u8>> {
    let mut value = Vec::new();
    string_value(token, text, &mut value).then_some(value)
}

/// A boolean as the server reads one.
fn boolean(text: &[u8], step: Step) -> Option<bool> {
    match step.word {
        Word::True => return Some(true),
        Word::False => return Some(false),
        _ => {}
    }
    let value = string(text, step.token)?.trim_ascii().to_ascii_lowercase();
    let is_start_of = |whole: &[u8]| !value.is_empty() && whole.starts_with(&value);
    match value.as_slice() {
        b"on" | b"1" => Some(true),
        b"of" | b"off" | b"0" => Some(false),
        _ if is_start_of(b"true") || is_start_of(b"yes") => Some(true),
        _ if is_start_of(b"false") || is_start_of(b"no") => Some(false),
        _ => None,
    }
}

/// Whether the statement is `SELECT` with calls of `set_config` whose arguments stand in the text, and
/// nothing else but names for their results.
pub(super) fn is_all(text: &[u8], lexing: Lexing, range: Range<usize>) -> bool {
    let mut walk = Walk::new(text, lexing).from(range.start);
    let begins = walk.next().is_some_and(|step| step.word == Word::Select);
    begins && list(text, &mut walk, range.end, &mut |_| {}).is_some()
}

/// The calls of a statement that [sets by function](super::Statement::sets_by_function), in their order.
pub fn setting_calls(text: &[u8], lexing: Lexing, range: Range<usize>) -> Vec<SettingCall> {
    let mut walk = Walk::new(text, lexing).from(range.start);
    walk.next();
    let mut calls = Vec::new();
    match list(text, &mut walk, range.end, &mut |call| calls.push(call)) {
        Some(()) => calls,
        None => Vec::new(),
    }
}

/// Reads `[pg_catalog.]set_config(…) [[AS] name]` with commas between, up to `end`.
fn list(
    text: &[u8],
    walk: &mut Walk<'_>,
    end: usize,
    take: &mut impl FnMut(SettingCall),
) -> Option<()> {
    let mut step = walk.next()?;
    loop {
        if step.word == Word::PgCatalog {
            expect(walk, TokenKind::Dot)?;
            step = walk.next()?;
        }
        if step.word != Word::SetConfig {
            return None;
        }
        take(arguments(text, walk)?);
        let next =
            |walk: &mut Walk<'_>| walk.next().filter(|step| (step.token.start as usize) < end);
        let mut behind = next(walk);
        if behind.is_some_and(|step| step.word == Word::As) {
            behind = Some(next(walk)?);
        }
        if behind.is_some_and(|step| step.token.kind.is_name() && !step.is_reserved()) {
            behind = next(walk);
        }
        match behind {
            None => return Some(()),
            Some(comma) if comma.is(TokenKind::Comma) => step = walk.next()?,
            Some(_) => return None,
        }
    }
}
