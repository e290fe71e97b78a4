//! Statements of which there are few, read from their first token on.

mod reader;
mod session;
mod settings;

use super::super::walk::Walk;
use super::super::words::Word;
use super::{Kind, Pin, Pins, Statement};
use reader::Reader;

/// Completes a statement of which only the range is known so far.
pub(super) fn read<'a>(statement: &mut Statement<'a>, text: &'a [u8], walk: Walk<'a>) {
    let mut reader = Reader::new(text, walk, statement.range.end);
    let Some(verb) = reader.advance() else {
        return;
    };
    statement.kind = match verb.word {
        Word::Begin
        | Word::Start
        | Word::Commit
        | Word::End
        | Word::Rollback
        | Word::Abort
        | Word::Savepoint
        | Word::Release => session::transaction(statement, &mut reader, verb.word),
        Word::Set => settings::set(statement, &mut reader),
        Word::Reset | Word::Show => settings::reset_or_show(statement, &mut reader, verb.word),
        Word::Prepare | Word::Execute | Word::Deallocate => {
            session::prepared(statement, &mut reader, verb.word)
        }
        Word::Listen | Word::Unlisten | Word::Notify => {
            session::notification(statement, &mut reader, verb.word)
        }
        Word::Declare | Word::Fetch | Word::Move | Word::Close => {
            session::cursor(statement, &mut reader, verb.word)
        }
        Word::Copy => copy(&mut reader),
        Word::Discard => discard(statement, reader.word()),
        Word::Do => hidden(statement, &reader),
        Word::Create => create(statement, &mut reader),
        other => simple(statement, other),
    };
}

/// Statements that are known by their first word.
fn simple(statement: &mut Statement<'_>, word: Word) -> Kind {
    match word {
        Word::Explain => Kind::Explain,
        Word::Lock => Kind::Lock,
        Word::Call => Kind::Call,
        Word::Import => Kind::Create,
        Word::Alter => Kind::Alter,
        Word::Truncate => Kind::Truncate,
        Word::Load => {
            statement.pins.insert(Pin::Load);
            Kind::Load
        }
        Word::Drop => {
            statement.may_clean.insert(Pin::Temporary);
            Kind::Drop
        }
        Word::Vacuum
        | Word::Analyze
        | Word::Analyse
        | Word::Cluster
        | Word::Reindex
        | Word::Refresh
        | Word::Checkpoint => Kind::Maintenance,
        Word::Comment | Word::Grant | Word::Revoke | Word::Reassign | Word::Security => Kind::Grant,
        _ => {
            statement.pins.insert(Pin::Unread);
            Kind::Unknown
        }
    }
}

fn copy(reader: &mut Reader<'_>) -> Kind {
    while let Some(step) = reader.advance() {
        if step.depth > 0 {
            continue;
        }
        match (step.word, reader.word()) {
            (Word::From, Word::Stdin | Word::Stdout) => return Kind::CopyIn,
            (Word::To, Word::Stdout | Word::Stdin) => return Kind::CopyOut,
            (Word::From | Word::To, _) => return Kind::CopyServer,
            _ => {}
        }
    }
    Kind::CopyServer
}

fn discard(statement: &mut Statement<'_>, what: Word) -> Kind {
    match what {
        Word::All => {
            statement.cleans.extend(Pins::DISCARDED);
            Kind::DiscardAll
        }
        Word::Plans => Kind::DiscardPlans,
        Word::Sequences | Word::Sequence => {
            statement.cleans.insert(Pin::Sequence);
            Kind::DiscardSequences
        }
        Word::Temp | Word::Temporary => {
            statement.cleans.insert(Pin::Temporary);
            Kind::DiscardTemporary
        }
        _ => Kind::Unknown,
    }
}

fn create(statement: &mut Statement<'_>, reader: &mut Reader<'_>) -> Kind {
    if reader.accept(Word::Or) {
        reader.accept(Word::Replace);
    }
    let _noise = reader.accept(Word::Local) || reader.accept(Word::Global);
    if matches!(reader.word(), Word::Temp | Word::Temporary) {
        statement.pins.insert(Pin::Temporary);
    }
    Kind::Create
}

/// `DO`, whose string is a program in some language: words in it that may change the session.
fn hidden(statement: &mut Statement<'_>, reader: &Reader<'_>) -> Kind {
    const WORDS: [(&[u8], Pin); 9] = [
        (b"temp", Pin::Temporary),
        (b"hold", Pin::HoldCursor),
        (b"advisory", Pin::AdvisoryLock),
        (b"load", Pin::Load),
        (b"set", Pin::Setting),
        (b"prepare", Pin::Prepared),
        (b"listen", Pin::Listening),
        (b"seed", Pin::Seed),
        (b"dblink", Pin::Dblink),
    ];
    statement.depends_on_values = true;
    let program = reader.rest().unwrap_or_default();
    for (word, pin) in WORDS {
        if has(program, word) {
            statement.pins.insert(pin);
        }
    }
    Kind::Do
}

/// Whether these bytes have this word, given in small letters, in them, as a part of another or not.
fn has(bytes: &[u8], word: &[u8]) -> bool {
    let mut windows = bytes.windows(word.len());
    windows.any(|window| window.eq_ignore_ascii_case(word))
}
