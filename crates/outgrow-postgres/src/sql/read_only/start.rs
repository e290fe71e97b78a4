//! What the first words of a statement say, and where its query begins.

use super::super::lexer::{Lexer, Lexing, Token, TokenKind};
use super::super::name::{KeyReader, Name};
use super::super::walk::Step;
use super::super::words::Word;
use super::prover::Prover;
use super::settings;
use super::verdict::{Cause, Excerpt, Finding, Verdict};

/// Where in a statement we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// In a query.
    Body,
    /// Behind `EXPLAIN` or `PREPARE … AS`, before the statement within.
    Within,
    /// Behind `PREPARE`, before `AS`.
    Prepare,
    /// Behind `EXECUTE`: a name and arguments.
    Execute,
    /// Behind `COPY`, before `TO` or `FROM`.
    Copy,
    /// Behind `BEGIN` or `START`.
    Begin,
    /// Behind `COMMIT`, `ROLLBACK` and the like.
    Finish,
    /// Nothing that comes matters.
    Rest,
}

impl Start {
    /// Whether a name so deep in parentheses is one that takes `(` without being called.
    pub(super) fn names(self, depth: u32) -> bool {
        depth == 0
            && matches!(
                self,
                Self::Within | Self::Prepare | Self::Execute | Self::Copy
            )
    }

    /// What is to be said when the statement ends here.
    pub(super) fn end(self) -> Verdict {
        match self {
            Self::Execute => Verdict::Unproven(Finding {
                cause: Cause::Prepared,
                token: Excerpt::of(b"EXECUTE"),
            }),
            _ => Verdict::ReadOnly,
        }
    }
}

/// The token behind this place.
fn behind(text: &[u8], at: u32) -> Option<Token> {
    let mut lexer = Lexer::new(text, Lexing::default());
    lexer.seek(at as usize);
    lexer.next()
}

/// The word behind this place.
fn word_behind(text: &[u8], at: u32) -> Word {
    let mut lexer = Lexer::new(text, Lexing::default());
    lexer.seek(at as usize);
    let mut reading = KeyReader::new();
    let token = lexer.advance(&mut reading);
    token.map_or(Word::Other, |token| {
        Word::of(text, token, reading.finish(text, token), &reading)
    })
}

impl Prover<'_> {
    /// Takes the first token of a statement.
    pub(super) fn begin_with(&mut self, step: Step) {
        self.start = match step.word {
            Word::Select | Word::Values | Word::Table | Word::With | Word::Declare => Start::Body,
            Word::Other if step.is(TokenKind::Open) => Start::Body,
            Word::Explain => Start::Within,
            Word::Prepare => self.prepare(step),
            Word::Execute => Start::Execute,
            Word::Copy => Start::Copy,
            Word::Begin | Word::Start => Start::Begin,
            Word::Commit | Word::End | Word::Rollback | Word::Abort => Start::Finish,
            Word::Savepoint | Word::Release => Start::Rest,
            Word::Show => self.show(step),
            Word::Fetch | Word::Move | Word::Close => {
                self.unproven(Cause::Cursor, step);
                Start::Rest
            }
            Word::Set
            | Word::Reset
            | Word::Discard
            | Word::Deallocate
            | Word::Listen
            | Word::Unlisten => {
                self.unproven(Cause::Session, step);
                Start::Rest
            }
            Word::Insert
            | Word::Update
            | Word::Delete
            | Word::Merge
            | Word::Create
            | Word::Alter
            | Word::Drop
            | Word::Truncate
            | Word::Grant
            | Word::Revoke
            | Word::Comment
            | Word::Vacuum
            | Word::Analyze
            | Word::Analyse
            | Word::Cluster
            | Word::Reindex
            | Word::Refresh
            | Word::Import
            | Word::Reassign
            | Word::Security
            | Word::Notify
            | Word::Lock => {
                self.writes(Cause::Statement, step);
                Start::Rest
            }
            // Calls, programs, and what nobody has heard of.
            _ => {
                self.unproven(Cause::Statement, step);
                Start::Rest
            }
        };
    }

    fn prepare(&mut self, step: Step) -> Start {
        if word_behind(self.text, step.token.end) == Word::Transaction {
            let name = behind(self.text, step.token.end);
            let string = name.and_then(|name| behind(self.text, name.end));
            if string.is_some_and(|string| string.kind.is_string()) {
                self.writes(Cause::Statement, step);
                return Start::Rest;
            }
        }
        Start::Prepare
    }

    /// `SHOW` of a setting that is the session's wherever it is.
    fn show(&mut self, step: Step) -> Start {
        let Some(token) = behind(self.text, step.token.end) else {
            return Start::Rest;
        };
        let next = behind(self.text, token.end).map(|token| token.kind);
        let name = Name::Written(token.of(self.text));
        // `SHOW TIME ZONE` and its like.
        let is_phrase = next == Some(TokenKind::Word);
        let is_custom = next == Some(TokenKind::Dot);
        if !is_phrase && !is_custom && !settings::is_the_same_everywhere(&name.folded()) {
            self.unproven(Cause::Setting, step);
        }
        Start::Rest
    }

    /// Takes a word before the query.
    #[cold]
    pub(super) fn go_on(&mut self, previous: Step, step: Step) {
        let is_outside = step.depth == 0 && !step.begins && !previous.is(TokenKind::Dot);
        match self.start {
            Start::Begin => {
                let writes = step.word == Word::Write && previous.word == Word::Read;
                if writes || step.word == Word::Serializable {
                    self.unproven(Cause::Transaction, step);
                }
            }
            Start::Finish if step.word == Word::Prepared => self.writes(Cause::Statement, step),
            Start::Prepare if is_outside && step.word == Word::As => self.start = Start::Within,
            Start::Within if is_outside => self.within(step),
            Start::Copy if is_outside => match step.word {
                Word::From => {
                    self.writes(Cause::Statement, step);
                    self.start = Start::Rest;
                }
                Word::To => {
                    let target = word_behind(self.text, step.token.end);
                    if !matches!(target, Word::Stdout | Word::Stdin) {
                        self.writes(Cause::Statement, step);
                    }
                    self.start = Start::Rest;
                }
                _ => {}
            },
            _ => {}
        }
    }

    /// The first word of the statement within `EXPLAIN` or `PREPARE`.
    fn within(&mut self, step: Step) {
        if step.word == Word::With {
            self.parentheses.begin_with(step.depth);
        }
        self.start = match step.word {
            Word::Analyze | Word::Analyse | Word::Verbose => return,
            Word::Select | Word::Values | Word::Table | Word::With | Word::Declare => Start::Body,
            Word::Execute => Start::Execute,
            Word::Insert
            | Word::Update
            | Word::Delete
            | Word::Merge
            | Word::Create
            | Word::Refresh => {
                self.writes(Cause::Statement, step);
                Start::Rest
            }
            _ => {
                self.unproven(Cause::Statement, step);
                Start::Rest
            }
        };
    }
}
