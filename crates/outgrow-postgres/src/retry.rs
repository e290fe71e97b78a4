//! Which failures of a replica are no answer to a read, so that it is asked again elsewhere, once: for
//! what is proven to only read, and as long as nothing of an answer went to the client. Pure.
//!
//! By SQLSTATE, since messages are translated. What a code says besides its meaning on replicas costs
//! a question that the primary answers in the same way, nothing else. Deliberately not here: what a
//! cancel request ends (57014), which is an answer; what a statement itself does wrong.

use std::time::Duration;

use crate::wire::read::Problem;

/// How long a read may have run when its replica says that an administrator ended it (57P01), to be
/// asked again: a shutdown says it to all at once, somebody who ends one query means that query, and
/// it has run for longer than this.
const ENDED_WITHIN: Duration = Duration::from_secs(5);

/// Why a read is asked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It wants to write (25006): the catalogue that its proof rests on was older than it.
    Writes,
    /// It needs what there is on no replica (0A000, 55000).
    Recovery,
    /// It was in the way of what the replica had to replay (40001, 40P01, 57P04).
    Conflict,
    /// The replica shuts down or starts (57P01 to 57P03).
    Shutdown,
    /// The replica cannot read its own disk (58000, 58030, 58P01, XX001, XX002).
    Storage,
    /// The connection was lost.
    Lost,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Writes,
        Self::Recovery,
        Self::Conflict,
        Self::Shutdown,
        Self::Storage,
        Self::Lost,
    ];

    /// What it is called in metrics and in the state.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Writes => "writes",
            Self::Recovery => "recovery",
            Self::Conflict => "conflict",
            Self::Shutdown => "shutdown",
            Self::Storage => "storage",
            Self::Lost => "lost",
        }
    }

    /// Whether it would be the same on every replica. The others may be better off.
    pub(crate) fn is_of_all_replicas(self) -> bool {
        matches!(self, Self::Writes | Self::Recovery | Self::Conflict)
    }

    /// Whether it would be the same each time, so that the text is the primary's from now on.
    pub(crate) fn is_learnt(self) -> bool {
        matches!(self, Self::Writes | Self::Recovery)
    }
}

/// Why what a replica says is no answer to a read that has run for so long; none: it is one.
/// `is_prepared`: it executes a named statement, whose columns the client knows already.
pub(crate) fn reason(problem: &Problem<'_>, ran: Duration, is_prepared: bool) -> Option<Reason> {
    Some(match problem.code {
        b"25006" => Reason::Writes,
        b"55000" => Reason::Recovery,
        // Of a named statement it is most likely that its columns have changed, which its client is
        // to hear: elsewhere it might be answered with the new ones.
        b"0A000" if !is_prepared => Reason::Recovery,
        b"40001" | b"40P01" | b"57P04" => Reason::Conflict,
        b"57P01" if ran <= ENDED_WITHIN => Reason::Shutdown,
        b"57P02" | b"57P03" => Reason::Shutdown,
        b"58000" | b"58030" | b"58P01" | b"XX001" | b"XX002" => Reason::Storage,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_answer() {
        let check = |code: &str, seconds: u64, is_prepared: bool, expected: Option<Reason>| {
            let problem = Problem {
                severity: b"ERROR",
                code: code.as_bytes(),
                message: b"",
            };
            let ran = Duration::from_secs(seconds);
            assert_eq!(
                reason(&problem, ran, is_prepared),
                expected,
                "{code} after {seconds} s, {is_prepared}"
            );
        };
        check("25006", 0, true, Some(Reason::Writes));
        check("55000", 0, true, Some(Reason::Recovery));
        check("0A000", 0, false, Some(Reason::Recovery));
        check("0A000", 0, true, None);
        check("40001", 30, false, Some(Reason::Conflict));
        check("40P01", 0, false, Some(Reason::Conflict));
        check("57P01", 4, false, Some(Reason::Shutdown));
        check("57P01", 6, false, None);
        check("57P02", 6, false, Some(Reason::Shutdown));
        check("57P04", 6, false, Some(Reason::Conflict));
        check("XX001", 0, false, Some(Reason::Storage));
        // Cancelled, divided by zero, no such table, a bug, no message at all.
        for code in ["57014", "22012", "42P01", "XX000", "25P02", "53200", ""] {
            check(code, 0, false, None);
        }
    }

    #[test]
    fn each_has_a_name_of_its_own() {
        for (place, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, place);
            let same = Reason::ALL
                .iter()
                .filter(|one| one.as_str() == reason.as_str());
            assert_eq!(same.count(), 1);
        }
    }
}
