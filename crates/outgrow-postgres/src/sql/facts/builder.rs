//! A statement's facts, gathered token by token.
//!
//! Statements of which there are many are told from single tokens on the way; the others are read once
//! more when they have ended (`read.rs`).

use super::super::lexer::{Lexing, TokenKind};
use super::super::name::Key;
use super::super::walk::{Step, Walk};
use super::super::words::Word;
use super::read;
use super::set_config::{self, Use};
use super::{Kind, Modes, Pin, Pins, Statement};

/// Gathers one statement after the other.
#[derive(Debug)]
pub(crate) struct Builder<'a> {
    pub(super) text: &'a [u8],
    pub(super) lexing: Lexing,
    kind: Option<Kind>,
    /// Its first word, or what stands for one.
    verb: Word,
    start: usize,
    end: usize,
    pins: Pins,
    cleans: Pins,
    may_clean: Pins,
    reads_session_sequence: bool,
    /// Whether it calls `nextval`.
    advances: bool,
    inserts: bool,
    names_prepared: bool,
    returns: bool,
    notifies: bool,
    settings: Use,
}

impl<'a> Builder<'a> {
    pub(crate) fn new(text: &'a [u8], lexing: Lexing) -> Self {
        Self {
            text,
            lexing,
            kind: None,
            verb: Word::Other,
            start: 0,
            end: 0,
            pins: Pins::default(),
            cleans: Pins::default(),
            may_clean: Pins::default(),
            reads_session_sequence: false,
            advances: false,
            inserts: false,
            names_prepared: false,
            returns: false,
            notifies: false,
            settings: Use::None,
        }
    }

    /// Whether a statement has begun and has not been finished.
    pub(crate) fn is_open(&self) -> bool {
        self.kind.is_some()
    }

    /// Takes a step; true when it has ended the statement.
    #[inline(always)]
    pub(crate) fn step(&mut self, previous: Step, step: Step) -> bool {
        if step.ends {
            return self.is_open();
        }
        self.end = step.token.end as usize;
        if step.begins {
            self.begin(step);
            return false;
        }
        match step.token.kind {
            TokenKind::Open => self.open(previous),
            TokenKind::Word => self.word(previous, step),
            TokenKind::Unknown => self.pins.insert(Pin::Unread),
            TokenKind::Dot => self.dot(previous),
            _ => {}
        }
        false
    }

    fn begin(&mut self, step: Step) {
        self.start = step.token.start as usize;
        self.verb = step.word;
        self.pins = Pins::default();
        self.cleans = Pins::default();
        self.may_clean = Pins::default();
        self.reads_session_sequence = false;
        self.advances = false;
        self.inserts = matches!(step.word, Word::Insert | Word::Merge);
        self.names_prepared = step.word.is_of_preparation();
        self.returns = false;
        self.notifies = false;
        self.settings = Use::None;
        let kind = match step.word {
            Word::Select | Word::Values | Word::Table | Word::With => Kind::Select,
            Word::Insert => Kind::Insert,
            Word::Update => Kind::Update,
            Word::Delete => Kind::Delete,
            Word::Merge => Kind::Merge,
            Word::Other if step.is(TokenKind::Open) => Kind::Select,
            _ => Kind::Unknown,
        };
        if step.is(TokenKind::Unknown) {
            self.pins.insert(Pin::Unread);
        }
        self.kind = Some(kind);
    }

    #[inline(always)]
    fn word(&mut self, previous: Step, step: Step) {
        match step.word {
            Word::Other => {}
            Word::Into if !previous.is(TokenKind::Dot) => {
                let inserts = matches!(previous.word, Word::Insert | Word::Merge);
                if self.kind == Some(Kind::Select) && !inserts {
                    self.kind = Some(Kind::SelectInto);
                }
            }
            Word::Temp | Word::Temporary if self.kind == Some(Kind::SelectInto) => {
                if matches!(previous.word, Word::Into | Word::Local | Word::Global) {
                    self.pins.insert(Pin::Temporary);
                }
            }
            // `EXPLAIN ANALYZE` of what makes one.
            Word::Temp | Word::Temporary if self.verb == Word::Explain => {
                self.pins.insert(Pin::Temporary);
            }
            Word::PgSettings if self.kind == Some(Kind::Update) => self.pins.insert(Pin::Setting),
            Word::Returning => self.returns = true,
            Word::Execute | Word::Deallocate | Word::Prepare => self.names_prepared = true,
            Word::Insert | Word::Update | Word::Delete | Word::Merge => {
                self.inserts |= matches!(step.word, Word::Insert | Word::Merge);
                // Of `WITH`, the one behind its parts: nothing else may follow a `)` there.
                let is_main = self.verb == Word::With && step.depth == 0;
                if is_main && previous.is(TokenKind::Close) {
                    self.kind = Some(match step.word {
                        Word::Insert => Kind::Insert,
                        Word::Update => Kind::Update,
                        Word::Delete => Kind::Delete,
                        _ => Kind::Merge,
                    });
                }
            }
            _ => {}
        }
    }

    #[inline(always)]
    fn dot(&mut self, previous: Step) {
        const PG_TEMP: Key = Key::of(b"pg_temp");
        if previous.key == PG_TEMP && previous.token.kind.is_name() {
            // Whatever is made there; reading it there needs one who made it.
            self.pins.insert(Pin::Temporary);
        }
    }

    #[inline(always)]
    fn open(&mut self, previous: Step) {
        if previous.word.is_of_interest() || previous.is(TokenKind::Quoted) {
            self.call(previous);
        }
    }

    /// A call of a function that may concern us.
    #[cold]
    fn call(&mut self, name: Step) {
        match Word::named(self.text, name.token) {
            Word::AdvisoryLock
            | Word::AdvisoryLockShared
            | Word::TryAdvisoryLock
            | Word::TryAdvisoryLockShared => self.pins.insert(Pin::AdvisoryLock),
            Word::AdvisoryUnlock | Word::AdvisoryUnlockShared => {
                self.may_clean.insert(Pin::AdvisoryLock);
            }
            Word::AdvisoryUnlockAll => self.cleans.insert(Pin::AdvisoryLock),
            Word::Currval | Word::Lastval => self.reads_session_sequence = true,
            Word::Nextval => self.advances = true,
            Word::PgNotify => self.notifies = true,
            Word::Setseed => self.pins.insert(Pin::Seed),
            Word::DblinkConnect | Word::DblinkConnectUnprivileged => {
                self.pins.insert(Pin::Dblink);
            }
            Word::DblinkDisconnect => self.may_clean.insert(Pin::Dblink),
            Word::SetConfig => {
                let found = set_config::found(self.text, self.lexing, name.token.start as usize);
                self.settings = self.settings.max(found);
            }
            _ => {}
        }
    }

    /// The statement that has ended.
    pub(crate) fn finish(&mut self) -> Statement<'a> {
        let kind = self.kind.take().unwrap_or(Kind::Empty);
        let mut statement = Statement {
            kind,
            range: self.start..self.end,
            name: None,
            value: None,
            modes: Modes::default(),
            chains: false,
            holds: false,
            sets_by_function: false,
            reads_session_sequence: self.reads_session_sequence,
            gives_sequence_values: self.advances || (self.inserts && !self.returns),
            names_prepared: self.names_prepared,
            notifies: self.notifies,
            pins: self.pins,
            cleans: self.cleans,
            may_clean: self.may_clean,
            depends_on_values: self.settings != Use::None,
        };
        if kind == Kind::Unknown {
            let walk = Walk::new(self.text, self.lexing).from(self.start);
            read::read(&mut statement, self.text, walk);
            statement.gives_sequence_values |= statement.kind.hides_insertions();
        }
        if self.settings != Use::None {
            let only = self.settings == Use::Written
                && set_config::is_all(self.text, self.lexing, statement.range.clone());
            statement.sets_by_function = only;
            if self.settings != Use::Local && !only {
                statement.pins.insert(Pin::Setting);
            }
        }
        statement
    }
}
