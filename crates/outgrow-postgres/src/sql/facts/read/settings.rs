//! `SET`, `RESET` and `SHOW` in all their forms.

use super::super::super::name::Name;
use super::super::super::words::Word;
use super::super::{Kind, Pin, Statement, Value};
use super::has;
use super::reader::Reader;

/// `SET`, whose name or special form comes next.
pub(super) fn set<'a>(statement: &mut Statement<'a>, reader: &mut Reader<'a>) -> Kind {
    statement.depends_on_values = true;
    let mut kind = Kind::Set;
    if reader.word() == Word::Constraints && !reader.assigns(reader.behind()) {
        return Kind::SetConstraints;
    }
    if matches!(reader.word(), Word::Local | Word::Session) && !reader.assigns(reader.behind()) {
        let is_session = reader.word() == Word::Session;
        let behind = reader.behind().map_or(Word::Other, |step| step.word);
        // `SET SESSION AUTHORIZATION` is not `SET SESSION` something.
        if !is_session || !matches!(behind, Word::Authorization | Word::Characteristics) {
            reader.advance();
        }
        if !is_session {
            kind = Kind::SetLocal;
        }
    }
    let special = reader.word();
    if matches!(special, Word::Transaction | Word::Session) && !reader.assigns(reader.behind()) {
        reader.advance();
        if special == Word::Session && reader.accept(Word::Authorization) {
            return set_to(statement, reader, kind, "session_authorization");
        }
        statement.modes = reader.modes();
        return if special == Word::Session {
            Kind::SetCharacteristics
        } else {
            Kind::SetTransaction
        };
    }
    let (name, words) = match special {
        Word::Time => ("timezone", 2),
        Word::Xml => ("xmloption", 2),
        Word::Names => ("client_encoding", 1),
        Word::Schema => ("search_path", 1),
        Word::Role => ("role", 1),
        _ => ("", 0),
    };
    if words > 0 && !reader.assigns(reader.behind()) {
        for _ in 0..words {
            reader.advance();
        }
        return set_to(statement, reader, kind, name);
    }
    statement.name = reader.name();
    statement.value = if reader.accept(Word::From) {
        Some(Value::Current)
    } else {
        reader.advance();
        reader.value()
    };
    settle(statement, kind)
}

/// One of the special forms of `SET`, whose value comes next.
fn set_to<'a>(
    statement: &mut Statement<'a>,
    reader: &mut Reader<'a>,
    kind: Kind,
    name: &'static str,
) -> Kind {
    statement.name = Some(Name::Implied(name));
    statement.value = match reader.word() {
        Word::Local if name == "timezone" => Some(Value::Default),
        // `SET NAMES` alone.
        _ => reader.value().or(Some(Value::Default)),
    };
    settle(statement, kind)
}

/// Pins what cannot be repeated elsewhere.
fn settle(statement: &mut Statement<'_>, kind: Kind) -> Kind {
    let Some(name) = statement.name else {
        statement.pins.insert(Pin::Setting);
        return kind;
    };
    if let (true, Some(Value::Written(value))) = (name.is("search_path"), statement.value) {
        // What is made without a schema would be temporary.
        if has(value, b"pg_temp") {
            statement.pins.insert(Pin::Temporary);
        }
    }
    if name.is("seed") {
        statement.pins.insert(Pin::Seed);
    }
    kind
}

/// `RESET` or `SHOW`.
pub(super) fn reset_or_show<'a>(
    statement: &mut Statement<'a>,
    reader: &mut Reader<'a>,
    verb: Word,
) -> Kind {
    let (one, all) = match verb {
        Word::Reset => (Kind::Reset, Kind::ResetAll),
        _ => (Kind::Show, Kind::Show),
    };
    if one == Kind::Reset {
        statement.may_clean.insert(Pin::Setting);
    }
    statement.name = match (reader.word(), reader.behind().map(|step| step.word)) {
        (Word::All, _) => {
            statement.name = Some(Name::Implied("all"));
            return all;
        }
        (Word::Time, Some(Word::Zone)) => Some(Name::Implied("timezone")),
        (Word::Transaction, Some(_)) => Some(Name::Implied("transaction_isolation")),
        (Word::Session, Some(_)) => Some(Name::Implied("session_authorization")),
        _ => reader.name(),
    };
    one
}
