//! The answers that a server owes, in their order: what is to go to the client, what is ours, and
//! what is answered here in between. Pure: messages in, fates out.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::prepared::Statement;
use crate::wire::backend;

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
    /// The description of a statement or portal.
    Describe,
    /// All of an Execute.
    Execute,
    /// CloseComplete; whether we asked.
    Close {
        /// As above.
        ours: bool,
    },
    /// All of a simple query, with its ReadyForQuery.
    Query,
    /// All of a simple query of ours.
    OurQuery,
    /// The ReadyForQuery of a Sync.
    Sync,
    /// All of a function call, with its ReadyForQuery.
    Function,
    /// Nothing: the client ends a COPY here.
    CopyEnd,
    /// Not the server but we answer, with this message without a body.
    Local(u8),
}

impl Due {
    /// Whether ReadyForQuery is its end, so that an error before it does not skip it.
    fn ends_ready(&self) -> bool {
        matches!(
            self,
            Self::Query | Self::OurQuery | Self::Sync | Self::Function
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

/// The answers that are due.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    due: VecDeque<Due>,
    /// Whether the server takes the data of a COPY.
    copies_in: bool,
    /// Whether an answer to a query of ours was an error.
    ours_failed: bool,
    /// Statements whose Parse came to nothing.
    failed: Vec<(Arc<Statement>, Option<Box<[u8]>>)>,
}

/// How large an empty queue may stay.
const KEPT: usize = 64;

impl Answers {
    /// Whether nothing is due.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.due.is_empty()
    }

    /// How many are due.
    pub(crate) fn len(&self) -> usize {
        self.due.len()
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
            // Ignored by a server that does nothing.
            Due::CopyEnd if self.due.is_empty() => {}
            due => self.due.push_back(due),
        }
    }

    /// The answer of ours that comes next, if one does.
    #[inline]
    pub(crate) fn take_local(&mut self) -> Option<u8> {
        match self.due.front()? {
            Due::Local(tag) => {
                let tag = *tag;
                self.due.pop_front();
                Some(tag)
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

    /// A statement that is not prepared although it was to be.
    pub(crate) fn take_failed(&mut self) -> Option<(Arc<Statement>, Option<Box<[u8]>>)> {
        self.failed.pop()
    }

    /// Judges a message of the server by its tag.
    #[inline]
    pub(crate) fn judge(&mut self, tag: u8) -> Fate {
        match tag {
            backend::DATA_ROW | backend::COPY_DATA | backend::ROW_DESCRIPTION
                if matches!(self.due.front(), Some(Due::Query | Due::Execute)) =>
            {
                Fate::Pass
            }
            backend::READY_FOR_QUERY => self.ready(),
            _ => self.judge_other(tag),
        }
    }

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
            (Due::Query, backend::COPY_IN_RESPONSE | backend::COPY_BOTH_RESPONSE) => {
                self.copy_in();
                (Fate::Pass, false)
            }
            (Due::Query, _) => (Fate::Pass, false),
            (Due::Function, backend::FUNCTION_CALL_RESPONSE) => (Fate::Pass, false),
            (Due::Parse { ours, .. }, backend::PARSE_COMPLETE) => (fate_if(*ours), true),
            (Due::Close { ours }, backend::CLOSE_COMPLETE) => (fate_if(*ours), true),
            (Due::Bind, backend::BIND_COMPLETE) => (Fate::Pass, true),
            (Due::Describe, backend::PARAMETER_DESCRIPTION) => (Fate::Pass, false),
            (Due::Describe, backend::ROW_DESCRIPTION | backend::NO_DATA) => (Fate::Pass, true),
            (
                Due::Execute,
                backend::COMMAND_COMPLETE
                | backend::EMPTY_QUERY_RESPONSE
                | backend::PORTAL_SUSPENDED,
            ) => (Fate::Pass, true),
            (Due::Execute, backend::COPY_IN_RESPONSE | backend::COPY_BOTH_RESPONSE) => {
                self.copy_in();
                (Fate::Pass, false)
            }
            (
                Due::Execute,
                backend::DATA_ROW
                | backend::COPY_OUT_RESPONSE
                | backend::COPY_DATA
                | backend::COPY_DONE,
            ) => (Fate::Pass, false),
            _ => (Fate::Nonsense, false),
        };
        if is_over {
            self.due.pop_front();
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
        while let Some(due) = self.due.pop_front() {
            if due.ends_ready() {
                self.skip_copy_ends();
                if self.due.is_empty() && self.due.capacity() > KEPT {
                    self.due = VecDeque::new();
                }
                return if due == Due::OurQuery {
                    Fate::LeaveOut
                } else {
                    Fate::Pass
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
        // It skips everything up to the next Sync.
        while let Some(due) = self.due.front() {
            if due.ends_ready() {
                break;
            }
            if let Some(due) = self.due.pop_front() {
                self.give_up(due);
            }
        }
        Fate::Pass
    }

    fn give_up(&mut self, due: Due) {
        if let Due::Parse {
            statement: Some(statement),
            name,
            ..
        } = due
        {
            self.failed.push((statement, name));
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
            while let Some(tag) = answers.take_local() {
                fates.push(tag.into());
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
        use Due::{Bind, Describe, Execute, Local, Query, Sync};
        check(&[Query], "TDDCZ", "ppppp");
        check(&[Query], "TDCTDCZ", "ppppppp");
        check(&[Query], "EZ", "pp");
        check(&[Query], "NSAIZ", "ppppp");
        check(&[Due::Function], "VZ", "pp");
        let usual = [parse(false), Bind, Describe, Execute, Sync];
        check(&usual, "12TDDCZ", "ppppppp");
        check(&usual, "12nCZ", "ppppp");
        check(&usual, "1EZ", "ppp");
        check(&usual, "EZ", "pp");
        check(&[parse(false), Describe, Sync], "1tTZ", "pppp");
        check(&[Bind, Execute, Bind, Execute, Sync], "2Ds2DCZ", "ppppppp");
        check(&[Query], "2", "p");
        check(&[Bind, Sync], "1", "!");
        check(&[], "C", "!");
        check(&[], "Z", "!");
        check(&[], "E", "p");
        check(&[Local(b'1'), Bind, Execute, Sync], "2CZ", "1ppp");
        check(
            &[Bind, Local(b'3'), Execute, Local(b'1'), Sync],
            "2CZ",
            "p3p1p",
        );
        // What follows an error up to the Sync is not answered.
        check(&[Bind, Local(b'3'), Sync, Local(b'1'), Sync], "EZZ", "pp1p");
    }

    #[test]
    fn ours_stays_with_us() {
        use Due::{Bind, Execute, OurQuery, Query, Sync};
        check(&[OurQuery, Query], "SCSCZTDCZ", "-----pppp");
        check(&[OurQuery, Query], "EZCZ", "--pp");
        check(&[parse(true), Bind, Execute, Sync], "12CZ", "-ppp");
        check(
            &[Due::Close { ours: true }, parse(true), Bind, Sync],
            "312Z",
            "--pp",
        );
        check(&[parse(true), Bind, Sync], "EZ", "pp");
    }

    #[test]
    fn syncs_are_ignored_while_data_are_taken() {
        use Due::{Bind, CopyEnd, Execute, Query, Sync};
        // libpq: everything at once, then the data, then another Sync.
        let mut answers = Answers::default();
        for due in [parse(false), Bind, Due::Describe, Execute, Sync] {
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
        check(&[Bind, Execute, CopyEnd, Sync], "2GCZ", "pppp");
        check(&[Bind, Execute, Sync, CopyEnd, Sync], "2GCZ", "pppp");
        check(&[Query, CopyEnd], "GCZ", "ppp");
        // The server refuses: the data are nothing to it.
        check(&[Query, CopyEnd], "EZ", "pp");
        check(&[Bind, Execute, CopyEnd, Sync], "EZ", "pp");
    }

    #[test]
    fn statements_that_failed_are_told() {
        let statements = crate::prepared::Statements::default();
        let statement = statements.of(b"select", b"\0\0", "s");
        let mut answers = Answers::default();
        answers.push(Due::Parse {
            ours: false,
            statement: Some(Arc::clone(&statement)),
            name: Some(b"a"[..].into()),
        });
        answers.push(Due::Sync);
        assert_eq!(answers.judge(b'E'), Fate::Pass);
        assert_eq!(
            answers.take_failed(),
            Some((statement, Some(b"a"[..].into())))
        );
        assert_eq!(answers.take_failed(), None);
    }
}
