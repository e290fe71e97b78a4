//! What statements are and what follows from them for who lends server connections out.
//!
//! [`Facts`] are about a whole text, a copy of a few bytes that a cache may keep. [`Statements`] gives the
//! statements of a text one after the other, with the names and values that they are about: to be asked
//! only where [`Facts::needs_reading`].
//!
//! Everything here is by keywords: a text that the server refuses may be anything. Deliberately not
//! here: whether a statement writes (`read_only`), and what a session's state is after all of its
//! statements.

mod builder;
mod kind;
mod pins;
mod read;
mod set_config;
#[cfg(test)]
mod tests;

use std::ops::Range;

use super::hint::Hints;
use super::lexer::Lexing;
use super::name::Name;
use super::walk::{Step, Walk};
pub(crate) use builder::Builder;
pub use kind::Kind;
pub use pins::{Pin, Pins};
pub use set_config::{SettingCall, setting_calls};

/// A value that a setting is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// As it is written, up to the statement's end: one value or several with commas.
    Written(&'a [u8]),
    /// `DEFAULT`, or `LOCAL` for the time zone.
    Default,
    /// `FROM CURRENT`
    Current,
}

/// How a transaction is isolated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// The same as read committed, in Postgres.
    ReadUncommitted,
    /// The default unless somebody changes it.
    ReadCommitted,
    /// One snapshot for all of it.
    RepeatableRead,
    /// Not to be had on a replica.
    Serializable,
}

/// What a transaction is asked to be; of contradictions the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Modes {
    /// `READ ONLY` or `READ WRITE`.
    pub read_only: Option<bool>,
    /// `ISOLATION LEVEL`
    pub isolation: Option<Isolation>,
    /// `DEFERRABLE` or not.
    pub deferrable: Option<bool>,
}

/// A statement of a text.
#[derive(Debug, Clone)]
pub struct Statement<'a> {
    /// What it is.
    pub kind: Kind,
    /// Where it stands, from its first token to its last.
    pub range: Range<usize>,
    /// The name that it is about: of a savepoint, a setting, a cursor, a prepared statement, a channel,
    /// a transaction to prepare. `None` also when the name cannot be told.
    pub name: Option<Name<'a>>,
    /// What a setting is set to.
    pub value: Option<Value<'a>>,
    /// Of `BEGIN`, `SET TRANSACTION` and `SET SESSION CHARACTERISTICS`.
    pub modes: Modes,
    /// `AND CHAIN`: the next transaction begins at once, with the same modes.
    pub chains: bool,
    /// `WITH HOLD`, of `DECLARE`.
    pub holds: bool,
    /// It is a `SELECT` of nothing but `set_config` with values that stand in the text: see
    /// [`setting_calls`].
    pub sets_by_function: bool,
    /// It asks for what this session's sequences gave last (`currval`, `lastval`): the server
    /// connection must be the one that had `nextval`.
    pub reads_session_sequence: bool,
    /// It may get a value of a sequence without giving it to the client: it inserts without `RETURNING`,
    /// it calls `nextval`, or what it calls is not seen. `currval` and `lastval` are asked after that.
    pub gives_sequence_values: bool,
    /// It may name a statement that is prepared.
    pub(crate) names_prepared: bool,
    /// It sends a notification, by `NOTIFY` or `pg_notify`; what its triggers and functions send is
    /// not seen.
    pub notifies: bool,
    /// Why the session must keep its server connection after it.
    pub pins: Pins,
    /// Which reasons are gone after it.
    pub cleans: Pins,
    /// Which reasons may be gone after it, if it was about the last one.
    pub may_clean: Pins,
    /// With other values it may be something else.
    pub(crate) depends_on_values: bool,
}

/// What a text is, all of its statements together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// What the first statement is.
    pub kind: Kind,
    /// Statements, those that are empty not counted.
    pub statements: u32,
    /// One of them begins, ends or divides transactions.
    pub controls_transaction: bool,
    /// One of them sets, resets or discards settings, `set_config` with values in the text included.
    pub sets: bool,
    /// One of them makes, runs or removes prepared statements of SQL.
    pub prepares: bool,
    /// One of them may name a statement that is prepared, wherever in it: also behind `EXPLAIN` or
    /// `CREATE TABLE … AS`.
    pub names_prepared: bool,
    /// One of them begins or ends listening.
    pub listens: bool,
    /// One of them is a cursor's.
    pub uses_cursor: bool,
    /// One of them takes data from the client, so that more messages of the client belong to it.
    pub copies_in: bool,
    /// One of them sends data outside of rows.
    pub copies_out: bool,
    /// One of them changes definitions: prepared statements, plans and the catalogue may be others.
    pub defines: bool,
    /// One of them reads [what sequences gave this session last](Statement::reads_session_sequence).
    pub reads_session_sequence: bool,
    /// One of them may get [values of sequences](Statement::gives_sequence_values).
    pub gives_sequence_values: bool,
    /// One of them [sends a notification](Statement::notifies).
    pub notifies: bool,
    /// The same text with other values may have other facts.
    pub depends_on_values: bool,
    /// Why the session must keep its server connection after them.
    pub pins: Pins,
    /// Which reasons for that are gone after them.
    pub cleans: Pins,
    /// Which reasons may be gone.
    pub may_clean: Pins,
    /// What comments say about where it is to go.
    pub hints: Hints,
}

impl Default for Facts {
    /// Of an empty text.
    fn default() -> Self {
        Self {
            kind: Kind::Empty,
            statements: 0,
            controls_transaction: false,
            sets: false,
            prepares: false,
            names_prepared: false,
            listens: false,
            uses_cursor: false,
            copies_in: false,
            copies_out: false,
            defines: false,
            reads_session_sequence: false,
            gives_sequence_values: false,
            notifies: false,
            depends_on_values: false,
            pins: Pins::default(),
            cleans: Pins::default(),
            may_clean: Pins::default(),
            hints: Hints::default(),
        }
    }
}

impl Facts {
    /// Of a text.
    pub fn of(text: &[u8], lexing: Lexing) -> Self {
        let mut facts = Self::default();
        let mut builder = Builder::new(text, lexing);
        let mut walk = Walk::new(text, lexing);
        let mut previous = Step::NONE;
        for step in walk.by_ref() {
            if builder.step(previous, step) {
                facts.add(&builder.finish());
            }
            previous = step;
        }
        if builder.is_open() {
            facts.add(&builder.finish());
        }
        facts.hints = walk.hints();
        facts
    }

    /// Whether the statements have to be gone through one by one ([`Statements`]): they change what the
    /// session is.
    pub fn needs_reading(&self) -> bool {
        self.controls_transaction
            || self.sets
            || self.prepares
            || self.listens
            || self.uses_cursor
            || !self.pins.is_empty()
            || !self.cleans.is_empty()
            || !self.may_clean.is_empty()
    }

    /// Takes a statement's along.
    pub(crate) fn add(&mut self, statement: &Statement<'_>) {
        let kind = statement.kind;
        if self.statements == 0 {
            self.kind = kind;
        }
        self.statements = self.statements.saturating_add(1);
        self.controls_transaction |= kind.is_transaction_control();
        self.sets |= kind.is_setting() || statement.sets_by_function;
        self.prepares |= kind.is_preparation();
        self.names_prepared |= statement.names_prepared;
        self.listens |= kind.is_listening();
        self.uses_cursor |= matches!(
            kind,
            Kind::Declare | Kind::Fetch | Kind::Move | Kind::Close | Kind::CloseAll
        );
        self.copies_in |= kind == Kind::CopyIn;
        self.copies_out |= kind == Kind::CopyOut;
        self.defines |= kind.is_definition();
        self.reads_session_sequence |= statement.reads_session_sequence;
        self.gives_sequence_values |= statement.gives_sequence_values;
        self.notifies |= statement.notifies;
        self.depends_on_values |= statement.depends_on_values;
        self.pins.remove(statement.cleans);
        self.pins.extend(statement.pins);
        self.cleans.extend(statement.cleans);
        self.cleans.remove(statement.pins);
        self.may_clean.extend(statement.may_clean);
    }
}

/// Gives the statements of a text one after the other, those that are empty left out.
#[derive(Debug)]
pub struct Statements<'a> {
    walk: Walk<'a>,
    builder: Builder<'a>,
    previous: Step,
}

impl<'a> Statements<'a> {
    /// Begins with the text's first statement.
    pub fn new(text: &'a [u8], lexing: Lexing) -> Self {
        Self {
            walk: Walk::new(text, lexing),
            builder: Builder::new(text, lexing),
            previous: Step::NONE,
        }
    }
}

impl<'a> Iterator for Statements<'a> {
    type Item = Statement<'a>;

    fn next(&mut self) -> Option<Statement<'a>> {
        for step in self.walk.by_ref() {
            let is_whole = self.builder.step(self.previous, step);
            self.previous = step;
            if is_whole {
                return Some(self.builder.finish());
            }
        }
        self.builder.is_open().then(|| self.builder.finish())
    }
}
