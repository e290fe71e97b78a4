//! What a client's session is, apart from the settings that servers report: settings that were set
//! by statements, and why the client must keep the server connection that it has. Pure.
//!
//! What a statement changes counts once the server has executed it, for a transaction once that is
//! committed; a savepoint that is rolled back to takes back what came after it. Settings are set
//! again, with the words of the client, on whatever connection the client gets next.

use std::sync::Arc;

use super::Client;
use crate::listening;
use crate::sql::facts::{
    Kind, Pin, Pins, SettingCall, Statement, Statements, Value, setting_calls,
};
use crate::sql::{Lexing, is_safe_encoding};
use crate::variables::{Followed, Places, write_literal};

/// Most settings of a session, and most changes in one transaction. A client with more keeps its
/// connection.
const MOST: usize = 256;
/// Most changes of what is listened on, likewise.
const MOST_LISTENING: usize = 4_096;
/// Has a connection forget what it listens on, and says that it does not listen.
const UNLISTEN: &str = "UNLISTEN *;SELECT false";
/// The longest statement that is kept to be said again, in bytes.
const LONGEST: usize = 16 * 1024;

/// A setting that is not the server's default any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    /// Its name, folded.
    name: Box<[u8]>,
    /// The statement that sets it.
    statement: Arc<[u8]>,
}

/// The settings of a session, in the order in which they were set first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settings(Vec<Setting>);

/// The three settings that `SET SESSION CHARACTERISTICS` is about.
const CHARACTERISTICS: &[u8] = b"session characteristics";
/// Setting or resetting this one ends the role that was set.
const AUTHORIZATION: &[u8] = b"session_authorization";
const ROLE: &[u8] = b"role";

impl Settings {
    /// Whether one of them decides what transactions are.
    pub(crate) fn decide_transactions(&self) -> bool {
        let mut names = self.0.iter().map(|setting| &*setting.name);
        names.any(|name| name == CHARACTERISTICS || name.starts_with(b"default_transaction"))
    }

    /// All of them, in their order: names, and the statements that set them.
    pub(crate) fn pairs(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let pairs = self.0.iter();
        pairs
            .map(|one| (one.name.to_vec(), one.statement.to_vec()))
            .collect()
    }

    fn get(&self, name: &[u8]) -> Option<&[u8]> {
        let setting = self.0.iter().find(|setting| *setting.name == *name);
        setting.map(|setting| &*setting.statement)
    }

    fn set(&mut self, name: &[u8], statement: Option<Arc<[u8]>>) {
        let place = self.0.iter().position(|known| *known.name == *name);
        match (place, statement) {
            (Some(place), Some(statement)) => self.0[place].statement = statement,
            (Some(place), None) => {
                self.0.remove(place);
            }
            (None, Some(statement)) => self.0.push(Setting {
                name: name.into(),
                statement,
            }),
            (None, None) => {}
        }
    }

    /// Gives all that they are, in an order of their own.
    pub(crate) fn write_key(&self, part: &mut impl FnMut(&[u8])) {
        for setting in &self.0 {
            part(&setting.name);
            part(&setting.statement);
        }
    }

    /// Writes what brings a connection with the settings of `server` to these; false when there is
    /// nothing to be written.
    pub(crate) fn write_difference(&self, server: &Self, sql: &mut Vec<u8>) -> bool {
        if self == server {
            return false;
        }
        // Who it acts for goes first and comes last: what was set by one may not be said by another.
        let acts = |name: &[u8]| name == AUTHORIZATION || name == ROLE;
        for name in [AUTHORIZATION, ROLE] {
            if server.get(name).is_some() {
                write_reset(name, sql);
            }
        }
        for other in &server.0 {
            if self.get(&other.name).is_none() && !acts(&other.name) {
                write_reset(&other.name, sql);
            }
        }
        let is_missing = |own: &&Setting| !acts(&own.name) && !server.0.contains(own);
        let others = self.0.iter().filter(is_missing);
        let statements = others.map(|own| &*own.statement);
        let last = [AUTHORIZATION, ROLE]
            .into_iter()
            .filter_map(|name| self.get(name));
        for statement in statements.chain(last) {
            sql.extend_from_slice(statement);
            sql.push(b';');
        }
        true
    }
}

fn write_reset(name: &[u8], sql: &mut Vec<u8>) {
    if name == CHARACTERISTICS {
        sql.extend_from_slice(
            b"RESET default_transaction_isolation;RESET default_transaction_read_only;\
              RESET default_transaction_deferrable;",
        );
        return;
    }
    sql.extend_from_slice(b"RESET ");
    // Names with a dot are of extensions: each part may need quotes.
    for (number, part) in name.split(|&byte| byte == b'.').enumerate() {
        if number > 0 {
            sql.push(b'.');
        }
        sql.push(b'"');
        for &byte in part {
            if byte == b'"' {
                sql.push(byte);
            }
            sql.push(byte);
        }
        sql.push(b'"');
    }
    sql.push(b';');
}

/// A change that waits for the end of the transaction.
#[derive(Clone, Debug)]
enum Change {
    Savepoint(Box<[u8]>),
    Set(Box<[u8]>, Option<Arc<[u8]>>),
    ResetAll,
    Listening(listening::Change),
}

/// What a client's session is.
#[derive(Debug, Default)]
pub(crate) struct Session {
    settings: Settings,
    changes: Vec<Change>,
    pins: Pins,
    /// Reasons that may be gone: to be asked of the server.
    doubtful: Pins,
    /// What has changed of what it listens on, since it was asked last.
    heard: Vec<listening::Change>,
    /// Whether its own connection listens for it, not the shared one alone.
    listens_alone: bool,
    /// Followed settings that were reset and are not yet what they were at the session's start.
    resets: Places,
}

impl Session {
    /// Whether it is its settings and nothing else, so that another process can go on with it.
    pub(crate) fn is_portable(&self) -> bool {
        self.changes.is_empty()
            && self.pins.is_empty()
            && self.heard.is_empty()
            && !self.listens_alone
            && self.resets.is_empty()
    }

    /// Takes over the settings that it had in another process. With too many the client keeps its
    /// connection, as with any that it sets here.
    pub(crate) fn restore(&mut self, settings: Vec<(Vec<u8>, Vec<u8>)>) {
        for (name, statement) in settings {
            self.settings.set(&name, Some(statement.into()));
        }
    }

    /// Whether settings that are followed were reset since they were asked for last.
    #[inline]
    pub(crate) fn has_resets(&self) -> bool {
        !self.resets.is_empty()
    }

    /// Which; asked once.
    pub(crate) fn take_resets(&mut self) -> Places {
        std::mem::take(&mut self.resets)
    }

    /// The settings that are to be on the client's next connection.
    #[inline]
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Leaves out settings that the server says to be none, in a message that names them: an extension
    /// that was loaded there knows its own. With Postgres it would have removed them when it was loaded.
    /// Gives their names.
    #[cold]
    pub(crate) fn drop_unknown(&mut self, message: &[u8]) -> Vec<Box<[u8]>> {
        let is_named = |setting: &mut Setting| {
            let quoted = [b"\"", &*setting.name, b"\""].concat();
            let mut parts = message.windows(quoted.len());
            setting.name.contains(&b'.') && parts.any(|part| part.eq_ignore_ascii_case(&quoted))
        };
        let dropped = self.settings.0.extract_if(.., is_named);
        dropped.map(|setting| setting.name).collect()
    }

    /// Why the client must keep its connection.
    #[inline]
    pub(crate) fn pins(&self) -> Pins {
        self.pins
    }

    /// A reason that may be gone, with the question that tells.
    pub(crate) fn next_question(&self) -> Option<(Pin, &'static str)> {
        let mut doubtful = self.pins.iter().filter(|&pin| self.doubtful.contains(pin));
        doubtful.find_map(|pin| match pin {
            Pin::Listening if !self.listens_alone => Some((pin, UNLISTEN)),
            pin => Some((pin, pin.question()?)),
        })
    }

    /// The server's answer to that question.
    pub(crate) fn note_answer(&mut self, pin: Pin, still_holds: bool) {
        self.doubtful.remove(pin.into());
        if !still_holds {
            self.pins.remove(pin.into());
            self.listens_alone &= pin != Pin::Listening;
        }
    }

    /// Takes note that its own connection is to listen for it.
    pub(crate) fn listen_alone(&mut self) {
        self.listens_alone = true;
    }

    /// Whether it does.
    pub(crate) fn listens_alone(&self) -> bool {
        self.listens_alone
    }

    /// Whether what it listens on has changed.
    #[inline]
    pub(crate) fn has_heard(&self) -> bool {
        !self.heard.is_empty()
    }

    /// What has changed of what it listens on; asked once.
    pub(crate) fn take_heard(&mut self) -> Vec<listening::Change> {
        std::mem::take(&mut self.heard)
    }

    /// Adds a reason.
    pub(crate) fn pin(&mut self, pin: Pin) {
        self.pins.insert(pin);
    }

    /// Takes one away.
    pub(crate) fn unpin(&mut self, pin: Pin) {
        self.pins.remove(pin.into());
    }

    /// Takes note of a text that the server has executed. `is_failed`: the transaction that it was
    /// executed in had failed before.
    pub(crate) fn note(
        &mut self,
        text: &[u8],
        lexing: Lexing,
        followed: &Followed,
        is_failed: bool,
    ) {
        for statement in Statements::new(text, lexing) {
            self.note_statement(text, lexing, &statement, followed, is_failed);
        }
        if self.changes.len() > MOST || self.settings.0.len() > MOST {
            self.keep_bounds();
        }
    }

    #[cold]
    fn keep_bounds(&mut self) {
        let is_listening = |change: &&Change| matches!(change, Change::Listening(_));
        let listens = self.changes.iter().filter(is_listening).count();
        if self.changes.len() - listens > MOST || self.settings.0.len() > MOST {
            self.pins.insert(Pin::Setting);
            self.changes.retain(|change| is_listening(&change));
        }
        if listens > MOST_LISTENING {
            // Its connection goes on to listen on all of it.
            self.listens_alone = true;
            self.changes.retain(|change| !is_listening(&change));
        }
    }

    fn note_statement(
        &mut self,
        text: &[u8],
        lexing: Lexing,
        statement: &Statement<'_>,
        followed: &Followed,
        is_failed: bool,
    ) {
        let mut cleans = statement.cleans;
        if statement.kind == Kind::UnlistenAll {
            // Once it is committed.
            cleans.remove(Pin::Listening.into());
            self.doubtful.insert(Pin::Listening);
        }
        self.pins.remove(cleans);
        self.pins.extend(statement.pins);
        self.doubtful.extend(statement.may_clean);
        // What was begun in a transaction may end with it: asked when it is over.
        self.doubtful.extend(statement.pins);
        let name = statement.name.as_ref().map(|name| name.folded());
        let name = name.as_deref().unwrap_or_default();
        let written = text.get(statement.range.clone()).unwrap_or_default();
        match statement.kind {
            Kind::Commit if !is_failed => self.settle(),
            Kind::Commit | Kind::Rollback => self.changes.clear(),
            Kind::Savepoint => self.changes.push(Change::Savepoint(name.into())),
            Kind::RollbackTo => self.roll_back_to(name),
            Kind::Set if statement.value == Some(Value::Default) && is_followed(name, followed) => {
                self.reset(name, followed);
            }
            Kind::Set => self.set(name, written, followed),
            Kind::SetCharacteristics => self.set(CHARACTERISTICS, written, followed),
            Kind::Reset if is_followed(name, followed) => self.reset(name, followed),
            Kind::Reset => self.change(name, None),
            Kind::ResetAll => self.reset_all(),
            Kind::DiscardAll => {
                self.reset_all();
                self.listen(listening::Change::UnlistenAll);
            }
            Kind::UnlistenAll => self.listen(listening::Change::UnlistenAll),
            Kind::Listen | Kind::Unlisten => {
                let listens = statement.kind == Kind::Listen;
                match statement.name.and_then(listening::channel_name) {
                    Some(name) if listens => self.listen(listening::Change::Listen(name)),
                    Some(name) => self.listen(listening::Change::Unlisten(name)),
                    None => {}
                }
            }
            Kind::Do if statement.pins.contains(Pin::Listening) => self.listens_alone = true,
            _ if statement.sets_by_function => {
                for call in setting_calls(text, lexing, statement.range.clone()) {
                    self.call(&call, followed);
                }
            }
            _ => {}
        }
    }

    fn listen(&mut self, change: listening::Change) {
        self.changes.push(Change::Listening(change));
    }

    fn set(&mut self, name: &[u8], written: &[u8], followed: &Followed) {
        if is_followed(name, followed) {
            return;
        }
        if name.is_empty() || written.len() > LONGEST {
            self.pins.insert(Pin::Setting);
            return;
        }
        self.change(name, Some(written.into()));
    }

    fn reset(&mut self, name: &[u8], followed: &Followed) {
        let place = std::str::from_utf8(name).ok();
        if let Some(place) = place.and_then(|name| followed.place(name)) {
            self.resets.insert(place);
        }
    }

    fn reset_all(&mut self) {
        self.changes.push(Change::ResetAll);
        self.resets = Places::ALL;
    }

    fn change(&mut self, name: &[u8], statement: Option<Arc<[u8]>>) {
        if name == AUTHORIZATION {
            self.changes.push(Change::Set(ROLE.into(), None));
        }
        self.changes.push(Change::Set(name.into(), statement));
    }

    fn call(&mut self, call: &SettingCall, followed: &Followed) {
        let name = call.name.to_ascii_lowercase();
        if call.is_local || is_followed(&name, followed) {
            return;
        }
        let (Ok(name_text), Ok(value)) = (
            std::str::from_utf8(&call.name),
            std::str::from_utf8(&call.value),
        ) else {
            self.pins.insert(Pin::Setting);
            return;
        };
        let mut statement = b"SELECT pg_catalog.set_config(".to_vec();
        write_literal(name_text, &mut statement);
        statement.push(b',');
        write_literal(value, &mut statement);
        statement.extend_from_slice(b",false)");
        self.change(&name, Some(statement.into()));
    }

    fn roll_back_to(&mut self, name: &[u8]) {
        let is_mark =
            |change: &Change| matches!(change, Change::Savepoint(mark) if **mark == *name);
        if let Some(place) = self.changes.iter().rposition(is_mark) {
            self.changes.truncate(place + 1);
        }
    }

    /// The transaction is over, and what was changed in it counts.
    fn settle(&mut self) {
        for change in self.changes.drain(..) {
            match change {
                Change::Savepoint(_) => {}
                Change::Set(name, statement) => self.settings.set(&name, statement),
                Change::ResetAll => self.settings.0.clear(),
                Change::Listening(change) => self.heard.push(change),
            }
        }
    }

    /// No transaction is open any more: `is_undone` when the last one came to nothing.
    #[inline]
    pub(crate) fn end_transaction(&mut self, is_undone: bool) {
        if self.changes.is_empty() {
            return;
        }
        if is_undone {
            self.changes.clear();
        } else {
            self.settle();
        }
    }
}

fn is_followed(name: &[u8], followed: &Followed) -> bool {
    std::str::from_utf8(name).is_ok_and(|name| followed.place(name).is_some())
}

impl Client {
    /// Takes note of how the client's texts are to be read, by its settings.
    pub(super) fn note_lexing(&mut self) {
        let strings = self.variables.get("standard_conforming_strings");
        let encoding = self.variables.get("client_encoding");
        self.lexing = Lexing {
            standard_conforming_strings: strings.map(|value| value.eq_ignore_ascii_case("on")),
            safe_encoding: encoding.is_some_and(|name| is_safe_encoding(name.as_bytes())),
        };
    }
}

#[cfg(test)]
mod tests;
