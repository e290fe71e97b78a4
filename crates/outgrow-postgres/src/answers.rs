//! The answers that a server owes, in their order: what is to go to the client, what is ours, and
//! what is answered here in between. Pure: messages in, fates out.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::prepared::Statement;
use crate::sql::Lexing;
use crate::wire::backend;

/// A text that changes what the session is, once the server has executed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Effect {
    pub(crate) text: Box<[u8]>,
    pub(crate) lexing: Lexing,
    /// Whether it defines something anew.
    pub(crate) defines: bool,
    /// Whether it may listen or unlisten.
    pub(crate) listens: bool,
    /// Whether it notifies.
    pub(crate) notifies: bool,
}

/// What we answer ourselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Local {
    /// ParseComplete.
    Parsed,
    /// CloseComplete.
    Closed,
    /// The whole answer to a simple query `DEALLOCATE name`.
    Deallocated,
}

/// An answer that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// ParseComplete.
    Parse {
        /// Whether we asked, and the client knows nothing of it.
        ours: bool,
        /// What is prepared by it.
        statement: Option<Arc<Statement>>,
        /// What the client calls it, if it asked.
        name: Option<Box<[u8]>>,
    },
    /// BindComplete.
    Bind,
    /// The same, of a statement that we know to be there.
    BindKnown,
    /// The description of a statement or portal.
    Describe,
    /// All of an Execute.
    Execute(Option<Arc<Effect>>),
    /// CloseComplete; whether we asked.
    Close {
        /// As above.
        ours: bool,
    },
    /// All of a simple query, with its ReadyForQuery.
    Query(Option<Arc<Effect>>),
    /// All of a simple query of ours.
    OurQuery,
    /// The ReadyForQuery of a Sync.
    Sync,
    /// All of a function call, with its ReadyForQuery.
    Function,
    /// Nothing: the client ends a COPY here.
    CopyEnd,
    /// Not the server but we answer; the client's name for what is prepared by it.
    Local(Local, Option<Box<[u8]>>),
}

impl Due {
    /// Whether ReadyForQuery is its end, so that an error before it does not skip it.
    fn ends_ready(&self) -> bool {
        matches!(
            self,
            Self::Query(_) | Self::OurQuery | Self::Sync | Self::Function
        )
    }
}

/// What becomes of a message of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It goes to the client.
    Pass,
    /// It was for us.
    LeaveOut,
    /// It answers nothing that was asked: the conversation cannot go on.
    Nonsense,
}

/// A Parse that came to nothing: what the server would have prepared, and the client's name for it if
/// it asked.
pub(crate) type Failed = (Option<Arc<Statement>>, Option<Box<[u8]>>);

/// The answers that are due.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    due: VecDeque<Due>,
    /// Whether the server takes the data of a COPY.
    copies_in: bool,
    /// Whether an answer to a query of ours was an error.
    ours_failed: bool,
    /// Whether there was an error since the last ReadyForQuery.
    has_failed: bool,
    /// What has been executed and changes the session.
    done: Vec<Arc<Effect>>,
    /// Statements whose Parse came to nothing.
    failed: Vec<Failed>,
    /// Whether something came to nothing that would have changed the statement without a name.
    lost_unnamed: bool,
    /// Whether the last error was that of a Bind of a statement that we know to be there.
    known_failed: bool,
    /// Whether the server ignores everything until a Sync, which has not been sent yet.
    skips: bool,
}

/// How large an empty queue may stay.
const KEPT: usize = 64;

/// Most answers that may be due before more is asked: a client that sends without end is waited for.
/// A server keeps back 8 KiB of answers, each of which has five bytes at least: from so many some
/// certainly come.
const MOST: usize = 16 * 1024;

impl Answers {
    /// Whether nothing is due.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.due.is_empty()
    }

    /// Whether more may be asked.
    #[inline]
    pub(crate) fn has_room(&self) -> bool {
        self.due.len() < MOST
    }

    /// Whether the server ignores what it is asked, up to a Sync.
    #[inline]
    pub(crate) fn skips(&self) -> bool {
        self.skips
    }

    /// Whether what was asked last ends with ReadyForQuery.
    #[inline]
    pub(crate) fn ends_series(&self) -> bool {
        self.due.back().is_some_and(Due::ends_ready)
    }

    /// Whether the ReadyForQuery that comes next is the last one that is due.
    pub(crate) fn has_one_series(&self) -> bool {
        let mut ends = self.due.iter().filter(|due| due.ends_ready());
        ends.next().is_some() && ends.next().is_none()
    }

    /// Whether all that is due is for us.
    pub(crate) fn are_ours(&self) -> bool {
        self.due.iter().all(|due| matches!(due, Due::OurQuery))
    }

    /// Whether something is due that may end a transaction: nobody knows whether it did when the
    /// server is gone. Outside of a transaction that is everything that is executed.
    pub(crate) fn may_commit(&self, is_inside: bool) -> bool {
        self.due.iter().any(|due| match due {
            Due::Query(effect) | Due::Execute(effect) => !is_inside || effect.is_some(),
            Due::Function => !is_inside,
            _ => false,
        })
    }

    /// Whether the server takes the data of a COPY at the moment.
    #[inline]
    pub(crate) fn copies_in(&self) -> bool {
        self.copies_in
    }

    /// Takes note that `due` is to come.
    #[inline]
    pub(crate) fn push(&mut self, due: Due) {
        match due {
            // A server that takes a COPY ignores it.
            Due::Sync if self.copies_in => {}
            Due::CopyEnd if self.copies_in => self.copies_in = false,
            // Ignored by a server that does nothing, or for which one has ended already.
            Due::CopyEnd if matches!(self.due.back(), None | Some(Due::CopyEnd)) => {}
            due => {
                self.skips &= due != Due::Sync;
                self.due.push_back(due);
            }
        }
    }

    /// The answer of ours that comes next, if one does.
    #[inline]
    pub(crate) fn take_local(&mut self) -> Option<Local> {
        match self.due.front()? {
            Due::Local(local, _) => {
                let local = *local;
                self.due.pop_front();
                Some(local)
            }
            _ => None,
        }
    }

    /// Whether what comes next is for us.
    #[inline]
    pub(crate) fn is_ours(&self) -> bool {
        matches!(self.due.front(), Some(Due::OurQuery))
    }

    /// Whether a query of ours failed; asked once.
    pub(crate) fn take_failure(&mut self) -> bool {
        std::mem::take(&mut self.ours_failed)
    }

    /// A text that the server has executed and that changes the session.
    #[inline]
    pub(crate) fn take_done(&mut self) -> Option<Arc<Effect>> {
        if self.done.is_empty() {
            return None;
        }
        Some(self.done.remove(0))
    }

    /// Whether there was an error since the ReadyForQuery before.
    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// Whether there was an error between the last two ReadyForQuery; asked once.
    pub(crate) fn take_has_failed(&mut self) -> bool {
        std::mem::take(&mut self.has_failed)
    }

    /// Whether the last error came in the place of a BindComplete for a statement that we know to be
    /// there.
    pub(crate) fn has_known_failed(&self) -> bool {
        self.known_failed
    }

    /// A statement that is not prepared although it was to be.
    pub(crate) fn take_failed(&mut self) -> Option<Failed> {
        self.failed.pop()
    }

    /// Whether the connection may have another statement without a name than was to be there; asked
    /// once.
    pub(crate) fn take_lost_unnamed(&mut self) -> bool {
        std::mem::take(&mut self.lost_unnamed)
    }

    /// Whether rows that come now answer what the client asked.
    #[inline]
    pub(crate) fn takes_rows(&self) -> bool {
        matches!(self.due.front(), Some(Due::Query(_) | Due::Execute(_)))
    }

    /// Judges a message of the server by its tag.
    #[inline]
    pub(crate) fn judge(&mut self, tag: u8) -> Fate {
        match tag {
            backend::DATA_ROW | backend::COPY_DATA | backend::ROW_DESCRIPTION
                if self.takes_rows() =>
            {
                Fate::Pass
            }
            backend::READY_FOR_QUERY => self.ready(),
            _ => self.judge_other(tag),
        }
    }

    #[inline(never)]
    fn judge_other(&mut self, tag: u8) -> Fate {
        match tag {
            // At any time.
            backend::PARAMETER_STATUS | backend::NOTICE_RESPONSE if self.is_ours() => {
                return Fate::LeaveOut;
            }
            backend::PARAMETER_STATUS
            | backend::NOTICE_RESPONSE
            | backend::NOTIFICATION_RESPONSE => return Fate::Pass,
            backend::ERROR_RESPONSE => return self.error(),
            _ => {}
        }
        self.skip_copy_ends();
        let Some(front) = self.due.front() else {
            return Fate::Nonsense;
        };
        let (fate, is_over) = match (front, tag) {
            (Due::OurQuery, _) => (Fate::LeaveOut, false),
            (Due::Query(_), backend::COPY_IN_RESPONSE | backend::COPY_BOTH_RESPONSE) => {
                self.copy_in();
                (Fate::Pass, false)
            }
            (Due::Query(_), _) => (Fate::Pass, false),
            (Due::Function, backend::FUNCTION_CALL_RESPONSE) => (Fate::Pass, false),
            (Due::Parse { ours, .. }, backend::PARSE_COMPLETE) => (fate_if(*ours), true),
            (Due::Close { ours }, backend::CLOSE_COMPLETE) => (fate_if(*ours), true),
            (Due::Bind | Due::BindKnown, backend::BIND_COMPLETE) => (Fate::Pass, true),
            (Due::Describe, backend::PARAMETER_DESCRIPTION) => (Fate::Pass, false),
            (Due::Describe, backend::ROW_DESCRIPTION | backend::NO_DATA) => (Fate::Pass, true),
            (
                Due::Execute(_),
                backend::COMMAND_COMPLETE
                | backend::EMPTY_QUERY_RESPONSE
                | backend::PORTAL_SUSPENDED,
            ) => (Fate::Pass, true),
            (Due::Execute(_), backend::COPY_IN_RESPONSE | backend::COPY_BOTH_RESPONSE) => {
                self.copy_in();
                (Fate::Pass, false)
            }
            (
                Due::Execute(_),
                backend::DATA_ROW
                | backend::COPY_OUT_RESPONSE
                | backend::COPY_DATA
                | backend::COPY_DONE,
            ) => (Fate::Pass, false),
            _ => (Fate::Nonsense, false),
        };
        if is_over
            && let Some(Due::Execute(Some(effect))) = self.due.pop_front()
            && tag == backend::COMMAND_COMPLETE
        {
            self.done.push(effect);
        }
        fate
    }

    /// The server takes data from now on: it ignores the Syncs that were sent before the data end.
    fn copy_in(&mut self) {
        self.copies_in = true;
        let mut place = 1;
        while let Some(due) = self.due.get(place) {
            match due {
                Due::Sync => {
                    self.due.remove(place);
                }
                Due::CopyEnd => {
                    self.due.remove(place);
                    self.copies_in = false;
                    return;
                }
                _ => place += 1,
            }
        }
    }

    fn skip_copy_ends(&mut self) {
        while matches!(self.due.front(), Some(Due::CopyEnd)) {
            self.due.pop_front();
        }
    }

    fn ready(&mut self) -> Fate {
        self.copies_in = false;
        self.skips = false;
        while let Some(due) = self.due.pop_front() {
            if due.ends_ready() {
                self.skip_copy_ends();
                if self.due.is_empty() && self.due.capacity() > KEPT {
                    self.due = VecDeque::new();
                }
                return match due {
                    Due::OurQuery => Fate::LeaveOut,
                    Due::Query(Some(effect)) if !self.has_failed => {
                        self.done.push(effect);
                        Fate::Pass
                    }
                    _ => Fate::Pass,
                };
            }
            self.give_up(due);
        }
        Fate::Nonsense
    }

    fn error(&mut self) -> Fate {
        self.copies_in = false;
        self.skip_copy_ends();
        match self.due.front() {
            Some(Due::OurQuery) => {
                self.ours_failed = true;
                return Fate::LeaveOut;
            }
            // The server ends the connection, for example.
            None => return Fate::Pass,
            _ => {}
        }
        self.has_failed = true;
        self.known_failed = self.due.front() == Some(&Due::BindKnown);
        if self.due.front().is_some_and(Due::ends_ready) {
            return Fate::Pass;
        }
        // It skips everything up to the next Sync: queries too.
        self.skips = true;
        while let Some(due) = self.due.pop_front() {
            if matches!(due, Due::Sync | Due::OurQuery) {
                self.skips = false;
                self.due.push_front(due);
                break;
            }
            self.give_up(due);
        }
        // Unless the next series brings another one.
        let is_unnamed = |due: &Due| {
            matches!(
                due,
                Due::Parse {
                    statement: None,
                    ..
                }
            )
        };
        self.lost_unnamed = self.lost_unnamed && !self.due.iter().any(is_unnamed);
        Fate::Pass
    }

    fn give_up(&mut self, due: Due) {
        match due {
            Due::Parse {
                statement: Some(statement),
                name,
                ..
            } => self.failed.push((Some(statement), name)),
            Due::Parse {
                statement: None, ..
            }
            | Due::Close { .. } => self.lost_unnamed = true,
            Due::Local(Local::Parsed, name) => self.failed.push((None, name)),
            _ => {}
        }
    }
}

fn fate_if(ours: bool) -> Fate {
    if ours { Fate::LeaveOut } else { Fate::Pass }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(ours: bool) -> Due {
        Due::Parse {
            ours,
            statement: None,
            name: None,
        }
    }

    /// `due` is asked for, `said` comes; `p` passes, `-` is left out, `!` is nonsense, and what is
    /// local appears as its tag.
    fn check(due: &[Due], said: &str, expected: &str) {
        let mut answers = Answers::default();
        for one in due {
            answers.push(one.clone());
        }
        let mut fates = String::new();
        let locals = |answers: &mut Answers, fates: &mut String| {
            while let Some(local) = answers.take_local() {
                fates.push(match local {
                    Local::Parsed => '1',
                    Local::Closed => '3',
                    Local::Deallocated => 'd',
                });
            }
        };
        locals(&mut answers, &mut fates);
        for tag in said.bytes() {
            fates.push(match answers.judge(tag) {
                Fate::Pass => 'p',
                Fate::LeaveOut => '-',
                Fate::Nonsense => '!',
            });
            locals(&mut answers, &mut fates);
        }
        assert_eq!(fates, expected, "{due:?} {said}");
        if !expected.contains('!') && said.ends_with('Z') {
            assert!(answers.is_empty(), "{answers:?}");
        }
    }

    #[test]
    fn answers_come_in_their_order() {
        use Due::{Bind, Describe, Sync};
        use Local::{Closed, Parsed};
        const QUERY: Due = Due::Query(None);
        const EXECUTE: Due = Due::Execute(None);
        check(&[QUERY], "TDDCZ", "ppppp");
        check(&[QUERY], "TDCTDCZ", "ppppppp");
        check(&[QUERY], "EZ", "pp");
        check(&[QUERY], "NSAIZ", "ppppp");
        check(&[Due::Function], "VZ", "pp");
        let usual = [parse(false), Bind, Describe, EXECUTE, Sync];
        check(&usual, "12TDDCZ", "ppppppp");
        check(&usual, "12nCZ", "ppppp");
        check(&usual, "1EZ", "ppp");
        check(&usual, "EZ", "pp");
        check(&[parse(false), Describe, Sync], "1tTZ", "pppp");
        check(&[Bind, EXECUTE, Bind, EXECUTE, Sync], "2Ds2DCZ", "ppppppp");
        check(&[QUERY], "2", "p");
        check(&[Bind, Sync], "1", "!");
        check(&[], "C", "!");
        check(&[], "Z", "!");
        check(&[], "E", "p");
        check(
            &[Due::Local(Parsed, None), Bind, EXECUTE, Sync],
            "2CZ",
            "1ppp",
        );
        check(
            &[
                Bind,
                Due::Local(Closed, None),
                EXECUTE,
                Due::Local(Parsed, None),
                Sync,
            ],
            "2CZ",
            "p3p1p",
        );
        // What follows an error up to the Sync is not answered.
        check(
            &[
                Bind,
                Due::Local(Closed, None),
                Sync,
                Due::Local(Parsed, None),
                Sync,
            ],
            "EZZ",
            "pp1p",
        );
    }

    #[test]
    fn ours_stays_with_us() {
        use Due::{Bind, OurQuery, Sync};
        const QUERY: Due = Due::Query(None);
        const EXECUTE: Due = Due::Execute(None);
        check(&[OurQuery, QUERY], "SCSCZTDCZ", "-----pppp");
        check(&[OurQuery, QUERY], "EZCZ", "--pp");
        check(&[parse(true), Bind, EXECUTE, Sync], "12CZ", "-ppp");
        check(
            &[Due::Close { ours: true }, parse(true), Bind, Sync],
            "312Z",
            "--pp",
        );
        check(&[parse(true), Bind, Sync], "EZ", "pp");
    }

    #[test]
    fn syncs_are_ignored_while_data_are_taken() {
        use Due::{Bind, CopyEnd, Sync};
        const QUERY: Due = Due::Query(None);
        const EXECUTE: Due = Due::Execute(None);
        // libpq: everything at once, then the data, then another Sync.
        let mut answers = Answers::default();
        for due in [parse(false), Bind, Due::Describe, EXECUTE, Sync] {
            answers.push(due);
        }
        for tag in *b"12nG" {
            assert_eq!(answers.judge(tag), Fate::Pass);
        }
        assert!(answers.copies_in());
        answers.push(Sync);
        answers.push(CopyEnd);
        answers.push(Sync);
        for tag in *b"CZ" {
            assert_eq!(answers.judge(tag), Fate::Pass);
        }
        assert!(answers.is_empty());
        // All at once, data included.
        check(&[Bind, EXECUTE, CopyEnd, Sync], "2GCZ", "pppp");
        check(&[Bind, EXECUTE, Sync, CopyEnd, Sync], "2GCZ", "pppp");
        check(&[QUERY, CopyEnd], "GCZ", "ppp");
        // The server refuses: the data are nothing to it.
        check(&[QUERY, CopyEnd], "EZ", "pp");
        check(&[Bind, EXECUTE, CopyEnd, Sync], "EZ", "pp");
    }

    #[test]
    fn a_server_that_skips_waits_for_a_sync() {
        use Due::{Bind, Sync};
        let mut answers = Answers::default();
        for due in [Bind, Due::Query(None), Due::Execute(None)] {
            answers.push(due);
        }
        assert_eq!(answers.judge(b'E'), Fate::Pass);
        assert!(
            answers.skips() && answers.is_empty(),
            "the query is skipped"
        );
        assert!(!answers.take_lost_unnamed());
        answers.push(Sync);
        assert!(!answers.skips(), "what follows is executed");
        answers.push(Due::Query(None));
        for tag in *b"ZCZ" {
            assert_eq!(answers.judge(tag), Fate::Pass);
        }
        assert!(answers.is_empty());
        // The Sync was sent before.
        check(
            &[Bind, Due::Query(None), Sync, Due::Query(None)],
            "EZCZ",
            "pppp",
        );
        // Whose statement is there now nobody knows.
        let mut answers = Answers::default();
        for due in [Bind, parse(false), Bind, Sync] {
            answers.push(due);
        }
        assert_eq!(answers.judge(b'E'), Fate::Pass);
        assert!(answers.take_lost_unnamed());
        let mut answers = Answers::default();
        for due in [Bind, parse(false), Bind, Sync, parse(false), Bind, Sync] {
            answers.push(due);
        }
        assert_eq!(answers.judge(b'E'), Fate::Pass);
        assert!(!answers.take_lost_unnamed(), "the next one is on its way");
        // An error of a query skips nothing.
        let mut answers = Answers::default();
        answers.push(Due::Query(None));
        assert_eq!(answers.judge(b'E'), Fate::Pass);
        assert!(!answers.skips());
    }

    #[test]
    fn answers_that_are_due_have_a_limit() {
        let mut answers = Answers::default();
        answers.push(Due::Query(None));
        for _ in 0..10 * MOST {
            answers.push(Due::CopyEnd);
        }
        assert!(answers.has_room(), "data of no copy are ignored");
        for _ in 0..MOST {
            answers.push(Due::Bind);
        }
        assert!(!answers.has_room());
        assert_eq!(answers.judge(b'C'), Fate::Pass);
        assert_eq!(answers.judge(b'Z'), Fate::Pass);
        assert_eq!(answers.judge(b'2'), Fate::Pass);
        assert!(answers.has_room(), "what is answered makes room");
    }

    #[test]
    fn statements_that_failed_are_told() {
        let statements = crate::prepared::Statements::new(7);
        let statement = statements.of(b"select", b"\0\0", 0, "s", Default::default);
        let mut answers = Answers::default();
        answers.push(Due::Parse {
            ours: false,
            statement: Some(Arc::clone(&statement)),
            name: Some(b"a"[..].into()),
        });
        answers.push(Due::Local(Local::Parsed, Some(b"b"[..].into())));
        answers.push(Due::Sync);
        assert_eq!(answers.judge(b'E'), Fate::Pass);
        assert!(!answers.take_lost_unnamed());
        // The second is there, but the client's name for it is not.
        assert_eq!(answers.take_failed(), Some((None, Some(b"b"[..].into()))));
        assert_eq!(
            answers.take_failed(),
            Some((Some(statement), Some(b"a"[..].into())))
        );
        assert_eq!(answers.take_failed(), None);
    }
}
