//! What a client's session is, apart from the settings that servers report: settings that were set
//! by statements, and why the client must keep the server connection that it has. Pure.
//!
//! What a statement changes counts once the server has executed it, for a transaction once that is
//! committed; a savepoint that is rolled back to takes back what came after it. Settings are set
//! again, with the words of the client, on whatever connection the client gets next.

use std::sync::Arc;

use super::Client;
use crate::sql::facts::{Kind, Pin, Pins, SettingCall, Statement, Statements, setting_calls};
use crate::sql::{Lexing, is_safe_encoding};
use crate::variables::{Followed, write_literal};

/// Most settings of a session, and most changes in one transaction. A client with more keeps its
/// connection.
const MOST: usize = 256;
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
}

/// What a client's session is.
#[derive(Debug, Default)]
pub(crate) struct Session {
    settings: Settings,
    changes: Vec<Change>,
    pins: Pins,
    /// Reasons that may be gone: to be asked of the server.
    doubtful: Pins,
}

impl Session {
    /// The settings that are to be on the client's next connection.
    #[inline]
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Why the client must keep its connection.
    #[inline]
    pub(crate) fn pins(&self) -> Pins {
        self.pins
    }

    /// A reason that may be gone, with the question that tells.
    pub(crate) fn next_question(&self) -> Option<(Pin, &'static str)> {
        let mut doubtful = self.pins.iter().filter(|&pin| self.doubtful.contains(pin));
        doubtful.find_map(|pin| Some((pin, pin.question()?)))
    }

    /// The server's answer to that question.
    pub(crate) fn note_answer(&mut self, pin: Pin, still_holds: bool) {
        self.doubtful.remove(pin.into());
        if !still_holds {
            self.pins.remove(pin.into());
        }
    }

    /// Adds a reason.
    pub(crate) fn pin(&mut self, pin: Pin) {
        self.pins.insert(pin);
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
            self.pins.insert(Pin::Setting);
            self.changes.clear();
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
        self.pins.remove(statement.cleans);
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
            Kind::Set => self.set(name, written, followed),
            Kind::SetCharacteristics => self.set(CHARACTERISTICS, written, followed),
            Kind::Reset if !is_followed(name, followed) => self.change(name, None),
            Kind::ResetAll | Kind::DiscardAll => self.changes.push(Change::ResetAll),
            _ if statement.sets_by_function => {
                for call in setting_calls(text, lexing, statement.range.clone()) {
                    self.call(&call, followed);
                }
            }
            _ => {}
        }
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
mod tests {
    use super::*;

    /// Each text is executed, with the transaction's state after it; then the difference to a new
    /// connection is what is expected.
    fn check(texts: &[(&str, char)], expected: &str) {
        let mut session = Session::default();
        let followed = Followed::default();
        let mut before = 'I';
        for (text, after) in texts {
            session.note(text.as_bytes(), Lexing::default(), &followed, before == 'E');
            if *after == 'I' {
                session.end_transaction(false);
            }
            before = *after;
        }
        let mut sql = Vec::new();
        session
            .settings()
            .write_difference(&Settings::default(), &mut sql);
        assert_eq!(String::from_utf8_lossy(&sql), expected, "{texts:?}");
    }

    #[test]
    fn settings_follow_transactions() {
        check(&[("SET work_mem = '1MB'", 'I')], "SET work_mem = '1MB';");
        check(
            &[("set Work_Mem to 5; select 1", 'I')],
            "set Work_Mem to 5;",
        );
        check(
            &[("BEGIN", 'T'), ("SET a.b = 1", 'T'), ("COMMIT", 'I')],
            "SET a.b = 1;",
        );
        check(
            &[("BEGIN", 'T'), ("SET a.b = 1", 'T'), ("ROLLBACK", 'I')],
            "",
        );
        check(
            &[
                ("BEGIN", 'T'),
                ("SET a.b = 1", 'T'),
                ("x", 'E'),
                ("COMMIT", 'I'),
            ],
            "",
        );
        check(
            &[
                ("BEGIN; SET a.a = 1; SAVEPOINT s; SET a.b = 2", 'T'),
                ("ROLLBACK TO s; SET a.c = 3; END", 'I'),
            ],
            "SET a.a = 1;SET a.c = 3;",
        );
        check(&[("SET work_mem = 1", 'I'), ("RESET work_mem", 'I')], "");
        check(&[("SET work_mem = 1", 'I'), ("DISCARD ALL", 'I')], "");
        check(&[("SET LOCAL work_mem = 1", 'I')], "");
        check(&[("SET TimeZone = 'UTC'", 'I')], "");
        check(
            &[("SELECT set_config('search_path', 'it''s', false)", 'I')],
            "SELECT pg_catalog.set_config('search_path','it''s',false);",
        );
        check(&[("SELECT set_config('search_path', 'x', true)", 'I')], "");
        check(
            &[("SET ROLE a", 'I'), ("RESET SESSION AUTHORIZATION", 'I')],
            "",
        );
        check(
            &[("SET ROLE a; SET SESSION AUTHORIZATION b; SET ROLE c", 'I')],
            "SET SESSION AUTHORIZATION b;SET ROLE c;",
        );
        check(
            &[
                ("SET ROLE a", 'I'),
                ("BEGIN; SET SESSION AUTHORIZATION b; ROLLBACK", 'I'),
            ],
            "SET ROLE a;",
        );
    }

    #[test]
    fn differences_are_set_and_reset() {
        let settings = |pairs: &[(&str, &str)]| {
            let mut settings = Settings::default();
            for (name, statement) in pairs {
                settings.set(name.as_bytes(), Some(statement.as_bytes().into()));
            }
            settings
        };
        let check = |client: &Settings, server: &Settings, expected: &str| {
            let mut sql = Vec::new();
            client.write_difference(server, &mut sql);
            assert_eq!(String::from_utf8_lossy(&sql), expected);
        };
        let one = settings(&[("work_mem", "SET work_mem=1")]);
        let other = settings(&[("work_mem", "SET work_mem=2"), ("my.x", "SET my.x=1")]);
        check(&one, &one, "");
        check(&one, &Settings::default(), "SET work_mem=1;");
        check(&Settings::default(), &one, "RESET \"work_mem\";");
        check(&one, &other, "RESET \"my\".\"x\";SET work_mem=1;");
        let role = ("role", "SET ROLE c");
        let alone = settings(&[role]);
        let both = settings(&[
            ("session_authorization", "SET SESSION AUTHORIZATION b"),
            role,
        ]);
        check(
            &both,
            &alone,
            "RESET \"role\";SET SESSION AUTHORIZATION b;SET ROLE c;",
        );
        let ended = "RESET \"session_authorization\";RESET \"role\";";
        check(&alone, &both, &format!("{ended}SET ROLE c;"));
        let more = settings(&[role, ("log_statement", "SET log_statement=1")]);
        check(
            &more,
            &alone,
            "RESET \"role\";SET log_statement=1;SET ROLE c;",
        );
        check(&Settings::default(), &alone, "RESET \"role\";");
    }

    #[test]
    fn reasons_come_and_go() {
        let mut session = Session::default();
        let followed = Followed::default();
        let mut note = |text: &str| {
            session.note(text.as_bytes(), Lexing::default(), &followed, false);
            let pins: Vec<_> = session.pins().iter().map(Pin::as_str).collect();
            pins.join(",")
        };
        assert_eq!(note("select 1"), "");
        assert_eq!(note("CREATE TEMP TABLE t (a int)"), "temporary_object");
        assert_eq!(
            note("SELECT pg_advisory_lock(1)"),
            "temporary_object,advisory_lock"
        );
        assert_eq!(note("SELECT pg_advisory_unlock_all()"), "temporary_object");
        assert_eq!(note("DROP TABLE t"), "temporary_object");
        let (pin, _) = session
            .next_question()
            .expect("whether it was the last one");
        assert_eq!(pin, Pin::Temporary);
        session.note_answer(pin, false);
        assert!(session.pins().is_empty() && session.next_question().is_none());
    }
}
