//! Statements of which there are few, read from their first token on.

use super::super::lexer::TokenKind;
use super::super::name::Name;
use super::super::walk::{Step, Walk};
use super::super::words::Word;
use super::{Isolation, Kind, Modes, Pin, Pins, Statement, Value};

/// The tokens of one statement, and one of them looked at.
struct Reader<'a> {
    text: &'a [u8],
    walk: Walk<'a>,
    end: usize,
    next: Option<Step>,
}

impl<'a> Reader<'a> {
    fn advance(&mut self) -> Option<Step> {
        let now = self.next.take();
        let step = self.walk.next();
        self.next = step.filter(|step| (step.token.start as usize) < self.end);
        now
    }

    fn word(&self) -> Word {
        self.next.map_or(Word::Other, |step| step.word)
    }

    /// Passes this word if it comes next.
    fn accept(&mut self, word: Word) -> bool {
        let comes = self.word() == word;
        if comes {
            self.advance();
        }
        comes
    }

    /// The token behind the next one.
    fn behind(&self) -> Option<Step> {
        let mut walk = self.walk.clone();
        walk.next()
            .filter(|step| (step.token.start as usize) < self.end)
    }

    fn is(&self, kind: TokenKind) -> bool {
        self.next.is_some_and(|step| step.is(kind))
    }

    /// The operator `=`, or `TO`.
    fn assigns(&self, step: Option<Step>) -> bool {
        step.is_some_and(|step| step.word == Word::To || step.token.of(self.text) == b"=")
    }

    /// The name that comes next, with its parts behind dots.
    fn name(&mut self) -> Option<Name<'a>> {
        let first = self.advance().filter(|step| is_told(*step))?;
        let (start, mut end) = (first.token.start, first.token.end);
        while self.is(TokenKind::Dot) {
            self.advance();
            end = self.advance().filter(|step| is_told(*step))?.token.end;
        }
        let text = self.text;
        text.get(start as usize..end as usize).map(Name::Written)
    }

    /// The string that comes next, as a name.
    fn string(&mut self) -> Option<Name<'a>> {
        let step = self.advance().filter(|step| step.token.kind.is_string())?;
        let text = self.text;
        text.get(step.token.range()).map(Name::Written)
    }

    /// Everything from the next token to the end.
    fn rest(&self) -> Option<&'a [u8]> {
        let text = self.text;
        text.get(self.next?.token.start as usize..self.end)
    }

    fn value(&mut self) -> Option<Value<'a>> {
        let rest = self.rest()?;
        let is_default = self.word() == Word::Default && self.behind().is_none();
        Some(if is_default {
            Value::Default
        } else {
            Value::Written(rest)
        })
    }

    fn modes(&mut self) -> Modes {
        let mut modes = Modes::default();
        while let Some(step) = self.advance() {
            match step.word {
                Word::Read => self.read_mode(&mut modes),
                Word::Serializable => modes.isolation = Some(Isolation::Serializable),
                Word::Repeatable => modes.isolation = Some(Isolation::RepeatableRead),
                Word::Not if self.accept(Word::Deferrable) => modes.deferrable = Some(false),
                Word::Deferrable => modes.deferrable = Some(true),
                _ => {}
            }
        }
        modes
    }

    fn read_mode(&mut self, modes: &mut Modes) {
        match self.word() {
            Word::Only => modes.read_only = Some(true),
            Word::Write => modes.read_only = Some(false),
            Word::Committed => modes.isolation = Some(Isolation::ReadCommitted),
            Word::Uncommitted => modes.isolation = Some(Isolation::ReadUncommitted),
            _ => {}
        }
    }
}

/// Whether a token is a name that can be told.
fn is_told(step: Step) -> bool {
    matches!(step.token.kind, TokenKind::Word | TokenKind::Quoted)
}

/// Completes a statement of which only the range is known so far.
pub(super) fn read<'a>(statement: &mut Statement<'a>, text: &'a [u8], walk: Walk<'a>) {
    let mut reader = Reader {
        text,
        walk,
        end: statement.range.end,
        next: None,
    };
    reader.advance();
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
        | Word::Release => transaction(statement, &mut reader, verb.word),
        Word::Set => set(statement, &mut reader),
        Word::Reset | Word::Show => reset_or_show(statement, &mut reader, verb.word),
        Word::Prepare | Word::Execute | Word::Deallocate => {
            prepared(statement, &mut reader, verb.word)
        }
        Word::Listen | Word::Unlisten | Word::Notify => {
            notification(statement, &mut reader, verb.word)
        }
        Word::Declare | Word::Fetch | Word::Move | Word::Close => {
            cursor(statement, &mut reader, verb.word)
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

fn transaction<'a>(statement: &mut Statement<'a>, reader: &mut Reader<'a>, verb: Word) -> Kind {
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

fn set<'a>(statement: &mut Statement<'a>, reader: &mut Reader<'a>) -> Kind {
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

fn reset_or_show<'a>(statement: &mut Statement<'a>, reader: &mut Reader<'a>, verb: Word) -> Kind {
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

fn prepared<'a>(statement: &mut Statement<'a>, reader: &mut Reader<'a>, verb: Word) -> Kind {
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

fn notification<'a>(statement: &mut Statement<'a>, reader: &mut Reader<'a>, verb: Word) -> Kind {
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
        _ => Kind::Notify,
    }
}

fn cursor<'a>(statement: &mut Statement<'a>, reader: &mut Reader<'a>, verb: Word) -> Kind {
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
        Word::Sequences | Word::Sequence => Kind::DiscardSequences,
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
