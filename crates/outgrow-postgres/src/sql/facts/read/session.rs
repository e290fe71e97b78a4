//! Transactions, and what a session has by name: prepared statements, channels, cursors.

use super::super::super::lexer::TokenKind;
use super::super::super::walk::Step;
use super::super::super::words::Word;
use super::super::{Kind, Pin, Statement};
use super::reader::Reader;

/// `BEGIN`, `COMMIT` and the like.
pub(super) fn transaction<'a>(
    statement: &mut Statement<'a>,
    reader: &mut Reader<'a>,
    verb: Word,
) -> Kind {
    match verb {
        Word::Begin | Word::Start => {
            statement.modes = reader.modes();
            return Kind::Begin;
        }
        Word::Savepoint => {
            statement.name = reader.name();
            return Kind::Savepoint;
        }
        Word::Release => {
            if reader.behind().is_some() {
                reader.accept(Word::Savepoint);
            }
            statement.name = reader.name();
            return Kind::Release;
        }
        _ => {}
    }
    let is_commit = matches!(verb, Word::Commit | Word::End);
    if reader.accept(Word::Prepared) {
        statement.name = reader.string();
        return if is_commit {
            Kind::CommitPrepared
        } else {
            Kind::RollbackPrepared
        };
    }
    let _noise = reader.accept(Word::Work) || reader.accept(Word::Transaction);
    if !is_commit && reader.accept(Word::To) {
        if reader.behind().is_some() {
            reader.accept(Word::Savepoint);
        }
        statement.name = reader.name();
        return Kind::RollbackTo;
    }
    statement.chains = reader.accept(Word::And) && reader.accept(Word::Chain);
    if is_commit {
        Kind::Commit
    } else {
        Kind::Rollback
    }
}

/// `PREPARE`, `EXECUTE` or `DEALLOCATE`.
pub(super) fn prepared<'a>(
    statement: &mut Statement<'a>,
    reader: &mut Reader<'a>,
    verb: Word,
) -> Kind {
    match verb {
        Word::Prepare => {
            let is_string = |step: Step| step.token.kind.is_string();
            if reader.word() == Word::Transaction && reader.behind().is_some_and(is_string) {
                reader.advance();
                statement.name = reader.string();
                return Kind::PrepareTransaction;
            }
            statement.name = reader.name();
            statement.pins.insert(Pin::Prepared);
            Kind::Prepare
        }
        Word::Execute => {
            statement.name = reader.name();
            Kind::Execute
        }
        _ => {
            if reader.behind().is_some() {
                reader.accept(Word::Prepare);
            }
            if reader.word() == Word::All {
                statement.cleans.insert(Pin::Prepared);
                return Kind::DeallocateAll;
            }
            statement.name = reader.name();
            statement.may_clean.insert(Pin::Prepared);
            Kind::Deallocate
        }
    }
}

/// `LISTEN`, `UNLISTEN` or `NOTIFY`.
pub(super) fn notification<'a>(
    statement: &mut Statement<'a>,
    reader: &mut Reader<'a>,
    verb: Word,
) -> Kind {
    if verb == Word::Unlisten && reader.is(TokenKind::Operator) {
        statement.cleans.insert(Pin::Listening);
        return Kind::UnlistenAll;
    }
    statement.name = reader.name();
    match verb {
        Word::Listen => {
            statement.pins.insert(Pin::Listening);
            Kind::Listen
        }
        Word::Unlisten => {
            statement.may_clean.insert(Pin::Listening);
            Kind::Unlisten
        }
        _ => {
            statement.notifies = true;
            Kind::Notify
        }
    }
}

/// `DECLARE`, `FETCH`, `MOVE` or `CLOSE`.
pub(super) fn cursor<'a>(
    statement: &mut Statement<'a>,
    reader: &mut Reader<'a>,
    verb: Word,
) -> Kind {
    match verb {
        Word::Declare => {
            statement.name = reader.name();
            let mut previous = Word::Other;
            while let Some(step) = reader.advance() {
                if step.word == Word::For {
                    break;
                }
                statement.holds |= previous == Word::With && step.word == Word::Hold;
                previous = step.word;
            }
            if statement.holds {
                statement.pins.insert(Pin::HoldCursor);
            }
            Kind::Declare
        }
        Word::Close if reader.word() == Word::All => {
            statement.cleans.insert(Pin::HoldCursor);
            Kind::CloseAll
        }
        Word::Close => {
            statement.name = reader.name();
            statement.may_clean.insert(Pin::HoldCursor);
            Kind::Close
        }
        _ => {
            // The cursor comes last, behind a direction.
            while reader.behind().is_some() {
                reader.advance();
            }
            statement.name = reader.name();
            if verb == Word::Fetch {
                Kind::Fetch
            } else {
                Kind::Move
            }
        }
    }
}
