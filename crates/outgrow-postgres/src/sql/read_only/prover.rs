//! The proof, token by token.
//!
//! What is looked at is every name, every operator and every keyword that writes. That a name is no call
//! of a function is concluded from the grammar only for names that no suspect function has: so whatever is
//! wrong in such a conclusion costs no more than that a function is missed which was made after the catalogue
//! was loaded.

use super::super::catalogue::{Catalogue, Flags};
use super::super::lexer::{TokenKind, string_value};
use super::super::name::Key;
use super::super::walk::Step;
use super::super::words::{Class, Word};
use super::parentheses::{Opener, Parentheses};
use super::start::Start;
use super::verdict::{Cause, Excerpt, Finding, Verdict};

/// Proves one statement after the other.
#[derive(Debug)]
pub(crate) struct Prover<'a> {
    pub(super) text: &'a [u8],
    catalogue: &'a Catalogue,
    /// Of the statement at hand.
    verdict: Verdict,
    /// Of those before it.
    whole: Verdict,
    pub(super) start: Start,
    pub(super) parentheses: Parentheses,
    /// The last name, and what it may be.
    name: NameAt,
    /// Right behind `AS` or `::`: what comes is a label, an alias or a type.
    labels: bool,
    /// Right behind the dot behind a name.
    chains: bool,
    /// How much of the arguments of `current_setting` is still to be looked at.
    setting: Setting,
}

/// What is known of the last name, when `(` follows it.
#[derive(Debug, Clone, Copy)]
struct NameAt {
    word: Word,
    /// It stands behind a dot.
    is_part: bool,
    /// It is a label, an alias or a type.
    is_label: bool,
    /// It is right behind `FROM` or `JOIN`, or the last part of what is: an alias may follow, no call can.
    is_table: bool,
    /// The grammar allows no call here.
    is_no_call: bool,
    /// The word before it.
    behind: Word,
}

const NO_NAME: NameAt = NameAt {
    word: Word::Other,
    is_part: false,
    is_label: false,
    is_table: false,
    is_no_call: false,
    behind: Word::Other,
};

impl<'a> Prover<'a> {
    pub(crate) fn new(text: &'a [u8], catalogue: &'a Catalogue) -> Self {
        Self {
            text,
            catalogue,
            verdict: Verdict::ReadOnly,
            whole: Verdict::ReadOnly,
            start: Start::Body,
            parentheses: Parentheses::default(),
            name: NO_NAME,
            labels: false,
            chains: false,
            setting: Setting::None,
        }
    }

    /// The verdict on all statements that have ended.
    pub(crate) fn finish(&mut self) -> Verdict {
        self.end();
        self.whole
    }

    fn end(&mut self) {
        self.verdict = self.verdict.worse(self.start.end());
        self.whole = self.whole.worse(self.verdict);
        self.verdict = Verdict::ReadOnly;
        self.start = Start::Body;
    }

    /// A token as it is told. What is found is kept for texts with other values, so no value is; the name
    /// of a setting is none.
    fn excerpt(&self, cause: Cause, step: Step) -> Excerpt {
        if step.token.kind.is_literal() && cause != Cause::Setting {
            Excerpt::of(b"(a value)")
        } else {
            Excerpt::of(step.token.of(self.text))
        }
    }

    #[cold]
    pub(super) fn writes(&mut self, cause: Cause, step: Step) {
        let token = self.excerpt(cause, step);
        self.verdict = self
            .verdict
            .worse(Verdict::Writes(Finding { cause, token }));
    }

    #[cold]
    pub(super) fn unproven(&mut self, cause: Cause, step: Step) {
        let token = self.excerpt(cause, step);
        let verdict = Verdict::Unproven(Finding { cause, token });
        self.verdict = self.verdict.worse(verdict);
    }

    /// Takes a step.
    #[inline(always)]
    pub(crate) fn step(&mut self, previous: Step, step: Step) {
        if step.ends {
            self.end();
            return;
        }
        if step.begins {
            self.begin(step);
        }
        match self.start {
            Start::Body => {}
            Start::Rest => return,
            _ if step.is(TokenKind::Word) => self.go_on(previous, step),
            _ => {}
        }
        if matches!(self.start, Start::Begin | Start::Finish | Start::Rest) {
            return;
        }
        if self.setting != Setting::None {
            self.setting(step);
        }
        match step.token.kind {
            TokenKind::Word => self.word(previous, step),
            TokenKind::Quoted => self.named(previous, step),
            TokenKind::Open => self.open(previous, step),
            TokenKind::Close => self.parentheses.close(step.depth),
            TokenKind::Operator if self.catalogue.is_suspect_operator(step.token.of(self.text)) => {
                self.unproven(Cause::Operator, step);
            }
            TokenKind::UnicodeQuoted => self.unproven(Cause::Name, step),
            TokenKind::Wrong | TokenKind::Unknown => self.unproven(Cause::Lexical, step),
            _ => {}
        }
        self.chains = step.is(TokenKind::Dot) && previous.token.kind.is_name();
        self.labels =
            step.is(TokenKind::Cast) || (step.word == Word::As && !previous.is(TokenKind::Dot));
    }

    fn begin(&mut self, step: Step) {
        self.parentheses.begin();
        self.name = NO_NAME;
        self.labels = false;
        self.chains = false;
        self.setting = Setting::None;
        if self.catalogue.useless().is_some() {
            self.unproven(Cause::Catalogue, step);
        }
        self.begin_with(step);
    }

    #[inline(always)]
    fn word(&mut self, previous: Step, step: Step) {
        if step.word == Word::Other {
            self.named(previous, step);
            return;
        }
        if previous.is(TokenKind::Dot) {
            self.named(previous, step);
            return;
        }
        self.keyword(previous, step);
        if !step.is_reserved() {
            self.named(previous, step);
            if step.word == Word::Values {
                self.parentheses.keyword(step.word, previous, step.depth);
            }
            return;
        }
        self.name = NameAt {
            word: step.word,
            ..NO_NAME
        };
        self.parentheses.keyword(step.word, previous, step.depth);
    }

    /// Keywords that write. They are looked for wherever they stand: a column of such a name costs a replica.
    #[inline(always)]
    fn keyword(&mut self, previous: Step, step: Step) {
        match step.word {
            Word::Insert | Word::Update | Word::Delete | Word::Merge | Word::Create => {
                let locks = matches!(previous.word, Word::For | Word::KeyOf);
                let cause = match locks {
                    true => Cause::RowLock,
                    false if step.begins => Cause::Statement,
                    false => Cause::Keyword,
                };
                self.writes(cause, step);
            }
            Word::Into => self.writes(Cause::Into, step),
            Word::Share | Word::No | Word::KeyOf if previous.word == Word::For => {
                self.writes(Cause::RowLock, step);
            }
            _ => {}
        }
    }

    /// A name that may be anything's.
    #[inline(always)]
    fn named(&mut self, previous: Step, step: Step) {
        let flags = self
            .catalogue
            .flags_anywhere(step.key, self.text, step.token);
        let is_part = previous.is(TokenKind::Dot);
        if flags != Flags::default() {
            self.suspect(flags, is_part, step);
        }
        if step.is_cut() || (step.is_foreign && self.catalogue.has_foreign_suspects()) {
            self.unproven(Cause::Name, step);
        }
        let is_label = if is_part {
            self.chains && self.name.is_label
        } else {
            self.labels
        };
        let is_table = if is_part {
            self.chains && self.name.is_table
        } else {
            matches!(previous.word, Word::From | Word::Join) && !self.name.is_part
        };
        let is_alias = !is_part && self.name.is_table && previous.token.kind.is_name();
        let is_no_call = is_label
            || is_alias
            || self.start.names(step.depth)
            || (!is_part && self.parentheses.names(previous, step.depth));
        self.name = NameAt {
            word: step.word,
            is_part,
            is_label,
            is_table,
            is_no_call,
            behind: previous.word,
        };
    }

    #[cold]
    fn suspect(&mut self, flags: Flags, is_part: bool, step: Step) {
        if flags.has(Flags::SUSPECT_RELATION) {
            self.unproven(Cause::Relation, step);
        }
        if flags.has(Flags::SUSPECT_TYPE) {
            self.unproven(Cause::Type, step);
        }
        if is_part && flags.has(Flags::SUSPECT_ATTRIBUTE) {
            self.unproven(Cause::Attribute, step);
        }
    }

    #[inline(always)]
    fn open(&mut self, previous: Step, step: Step) {
        let opener = match previous.token.kind {
            TokenKind::Word | TokenKind::Quoted => self.call(previous),
            TokenKind::Comma => Opener::Item,
            _ => Opener::Other,
        };
        self.parentheses.open(opener, previous, step.depth);
    }

    /// A `(` behind a name: is it a call, and of what?
    #[inline(always)]
    fn call(&mut self, step: Step) -> Opener {
        let name = self.name;
        if !step.is(TokenKind::Word) || name.is_part {
            self.function(step, name.is_no_call);
            return Opener::Call;
        }
        match name.word.class() {
            Class::Reserved => reserved_opener(name.word),
            Class::Construct => Opener::Call,
            Class::Grammar => {
                self.function(step, true);
                match name.word {
                    // An operator is no end of anything: a call may follow.
                    Word::OperatorName => Opener::Other,
                    Word::Join => Opener::Item,
                    _ => Opener::Call,
                }
            }
            Class::Free => {
                self.function(step, name.is_no_call);
                Opener::Call
            }
        }
    }

    /// A name before `(` that may be a function's, unless the grammar has it that it is none.
    #[inline(always)]
    fn function(&mut self, step: Step, is_no_call: bool) {
        let flags = self.catalogue.flags(step.key, self.text, step.token);
        if flags.has(Flags::SUSPECT_FUNCTION) {
            if !is_sampling(self.name) {
                self.unproven(Cause::Function, step);
            }
            return;
        }
        if is_no_call {
            return;
        }
        if step.is_foreign {
            // The client's encoding may not be the one that the catalogue was loaded in.
            self.unproven(Cause::Name, step);
        } else if !flags.has(Flags::FUNCTION) {
            self.unproven(Cause::UnknownFunction, step);
        } else if step.key == CURRENT_SETTING {
            self.setting = Setting::Name;
            if step.is(TokenKind::Quoted) {
                // Not known as a function of settings everywhere.
                self.unproven(Cause::Setting, step);
            }
        }
    }

    /// The first argument of `current_setting`: what clients set is the same everywhere. It must be a string and
    /// nothing behind it: a cast may cut it.
    #[cold]
    fn setting(&mut self, step: Step) {
        let is_good = match self.setting {
            Setting::Name => {
                let mut value = Vec::new();
                let is_told = string_value(step.token, self.text, &mut value);
                is_told && super::settings::is_the_same_everywhere(&value)
            }
            _ => step.is(TokenKind::Close) || step.is(TokenKind::Comma),
        };
        if !is_good {
            self.unproven(Cause::Setting, step);
        }
        self.setting = match self.setting {
            Setting::Name => Setting::End,
            _ => Setting::None,
        };
    }
}

/// What is to come of the arguments of `current_setting`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Setting {
    None,
    /// The name of a setting.
    Name,
    /// What ends the argument.
    End,
}

const CURRENT_SETTING: Key = Key::of(b"current_setting");

/// `TABLESAMPLE bernoulli (…)`: its function is volatile, but it does nothing but choose rows.
fn is_sampling(name: NameAt) -> bool {
    matches!(name.word, Word::Bernoulli | Word::System) && name.behind == Word::Tablesample
}

/// What a reserved word makes of the parentheses behind it.
fn reserved_opener(word: Word) -> Opener {
    match word {
        Word::From | Word::Lateral => Opener::Item,
        // `WITHIN GROUP (…)`, behind which there may be `FILTER` or `OVER`.
        Word::Group => Opener::Call,
        _ => Opener::Other,
    }
}
