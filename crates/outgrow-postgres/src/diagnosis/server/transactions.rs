//! Transactions that are open for long, whoever opened them, and what else keeps a server from
//! cleaning up; deadlocks.

use std::sync::Arc;
use std::time::Duration;

use outgrow_core::Ticks;

use super::session::{Session, seconds};
use crate::diagnosis::{Finding, Kind, Severity};

/// Most transactions that are told at a time, the oldest first.
const MOST: usize = 5;
/// From so many times the limit on it is more than a notice.
const WARNING_TIMES: u32 = 3;
/// From so many transactions that cannot be cleaned up after.
const WARNING_AGE: u64 = 1_000_000;
/// For how long deadlocks are told after the last one.
const DEADLOCKS_TOLD: Duration = Duration::from_secs(600);

/// What keeps a server from cleaning up without being a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// What it is.
    pub kind: HolderKind,
    /// Its name.
    pub name: String,
    /// Whose it is.
    pub user: String,
    /// Since when it is there, as far as that is known.
    pub since: Option<Duration>,
    /// Transactions that have begun since.
    pub age: u64,
}

/// What keeps a server from cleaning up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HolderKind {
    /// A transaction that was prepared for two-phase commit.
    Prepared,
    /// A replication slot.
    Slot,
}

/// One finding for each session whose transaction is open for `limit` or longer.
pub fn find_sessions(
    database: &Arc<str>,
    server: Option<&Arc<str>>,
    sessions: &[Session],
    limit: Duration,
) -> Vec<Finding> {
    let mut long: Vec<(Duration, &Session)> = sessions
        .iter()
        .filter_map(|one| Some((one.transaction?, one)))
        .filter(|(open, one)| *open >= limit && !one.kind.starts_with("autovacuum"))
        .collect();
    long.sort_by_key(|(open, _)| std::cmp::Reverse(*open));
    long.truncate(MOST);
    let finding = |(open, session): (Duration, &Session)| {
        let mut evidence = vec![format!(
            "{} has its transaction open for {} and is {}",
            session.who(),
            seconds(open),
            session.doing()
        )];
        evidence.extend(
            session
                .client
                .as_ref()
                .map(|client| format!("behind process {}: {}", session.process, client.who())),
        );
        if !session.is_ours {
            evidence.push("it did not come through this pool".to_owned());
        }
        if let Some(age) = session.snapshot_age {
            evidence.push(format!(
                "rows that {age} later transactions have replaced or deleted cannot be cleaned up"
            ));
        }
        let is_bad = open >= limit * WARNING_TIMES
            || session.snapshot_age.is_some_and(|age| age >= WARNING_AGE);
        Finding {
            kind: Kind::LongTransaction,
            severity: if is_bad {
                Severity::Warning
            } else {
                Severity::Notice
            },
            database: Arc::clone(database),
            user: Some(session.user.as_str().into()),
            server: server.cloned(),
            statement: session.shown(),
            origin: Some(session.origin()),
            evidence,
            remedy: remedy(session),
        }
    };
    long.into_iter().map(finding).collect()
}

fn remedy(session: &Session) -> String {
    let process = session.process;
    if session.is_idle_in_transaction() {
        return format!(
            "It does nothing: commit as soon as the last statement is done. `idle_transaction` in \
             [postgres.timeouts], or idle_in_transaction_session_timeout on the server, ends such \
             transactions. To end this one now: SELECT pg_terminate_backend({process})."
        );
    }
    format!(
        "Cut the work into transactions of seconds. A report or a dump of that length is better \
         off at a replica, where it does not keep the primary from cleaning up unless \
         hot_standby_feedback is on. To end its statement now: SELECT pg_cancel_backend({process})."
    )
}

/// One finding for each prepared transaction or slot that has kept the server from cleaning up: for
/// `limit` or longer, or after very many transactions.
pub fn find_holders(
    database: &Arc<str>,
    server: Option<&Arc<str>>,
    holders: &[Holder],
    limit: Duration,
) -> Vec<Finding> {
    let is_old =
        |one: &&Holder| one.since.is_some_and(|since| since >= limit) || one.age >= WARNING_AGE;
    let finding = |one: &Holder| {
        let (what, remedy) = match one.kind {
            HolderKind::Prepared => (
                "prepared transaction",
                format!(
                    "Nobody has ended it: COMMIT PREPARED '{0}' or ROLLBACK PREPARED '{0}', as its \
                     coordinator has decided.",
                    one.name.replace('\'', "''")
                ),
            ),
            HolderKind::Slot => (
                "replication slot",
                format!(
                    "See why its consumer does not come on (pg_replication_slots); if there is none \
                     any more: SELECT pg_drop_replication_slot('{}').",
                    one.name.replace('\'', "''")
                ),
            ),
        };
        let since = one.since.map(seconds).unwrap_or_default();
        let since = if since.is_empty() {
            since
        } else {
            format!(", for {since}")
        };
        Finding {
            kind: Kind::LongTransaction,
            severity: Severity::Warning,
            database: Arc::clone(database),
            user: (!one.user.is_empty()).then(|| one.user.as_str().into()),
            server: server.cloned(),
            statement: None,
            origin: None,
            evidence: vec![format!(
                "{what} {} keeps what {} later transactions have replaced or deleted from being \
                 cleaned up{since}",
                one.name, one.age
            )],
            remedy,
        }
    };
    let old = holders.iter().filter(is_old).take(MOST);
    old.map(finding).collect()
}

/// Counts deadlocks of a database, as the server counts them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Deadlocks {
    last: Option<u64>,
    /// Those that were counted lately, since when, and when the last one was noticed.
    lately: Option<(u64, Ticks, Ticks)>,
}

impl Deadlocks {
    /// Takes note of the server's count. A smaller one than before: it began again.
    pub fn note(&mut self, count: u64, now: Ticks) {
        let last = self.last.replace(count).unwrap_or(count);
        let new = count.saturating_sub(last);
        if let Some((_, _, newest)) = self.lately
            && now.since(newest) >= DEADLOCKS_TOLD
        {
            self.lately = None;
        }
        if new > 0 {
            let (before, since) = self
                .lately
                .map_or((0, now), |(count, since, _)| (count, since));
            self.lately = Some((before + new, since, now));
        }
    }

    /// The finding, while there were some lately.
    pub fn find(
        &self,
        database: &Arc<str>,
        server: Option<&Arc<str>>,
        now: Ticks,
    ) -> Option<Finding> {
        let (count, since, last) = self.lately?;
        let span = now.since(since);
        let times = if count == 1 { "deadlock" } else { "deadlocks" };
        Some(Finding {
            kind: Kind::Deadlock,
            severity: Severity::Warning,
            database: Arc::clone(database),
            user: None,
            server: server.cloned(),
            statement: None,
            origin: None,
            evidence: vec![format!(
                "{count} {times} in the last {}, the last one {} ago: each ended a transaction \
                 with SQLSTATE 40P01",
                seconds(span.max(Duration::from_secs(1))),
                seconds(now.since(last)),
            )],
            remedy: "Lock in the same order everywhere: sort by key what one transaction changes, \
                     and take what a later statement needs with the first (SELECT … ORDER BY id \
                     FOR UPDATE). The server's log has the statements of each one; run again what \
                     ended with 40P01."
                .to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(300);

    fn session(process: i32, minutes: u64) -> Session {
        Session {
            process,
            user: "app".to_owned(),
            kind: "client backend".to_owned(),
            state: "active".to_owned(),
            transaction: Some(Duration::from_secs(60 * minutes)),
            text: "SELECT 1".to_owned(),
            ..Session::default()
        }
    }

    fn found(sessions: &[Session]) -> Vec<Finding> {
        find_sessions(&Arc::from("shop"), None, sessions, LIMIT)
    }

    #[test]
    fn old_transactions_are_told_the_oldest_first() {
        assert_eq!(found(&[]), []);
        assert_eq!(found(&[session(1, 4), Session::default()]), []);
        let mut vacuum = session(2, 100);
        vacuum.kind = "autovacuum worker".to_owned();
        assert_eq!(found(&[vacuum]), []);
        let mut old = session(4, 20);
        old.snapshot_age = Some(500);
        old.state = "idle in transaction".to_owned();
        let found = found(&[session(3, 6), old]);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].severity, Severity::Warning);
        assert_eq!(found[1].severity, Severity::Notice);
        assert!(found[0].evidence[0].starts_with("process 4"), "{found:?}");
        assert!(found[0].evidence[1].contains("not come through"));
        assert!(found[0].evidence[2].contains("500 later"));
        assert!(found[0].remedy.contains("pg_terminate_backend(4)"));
        assert!(found[1].remedy.contains("pg_cancel_backend(3)"));
    }

    #[test]
    fn what_holds_back_cleaning_is_told() {
        let holder = |kind, minutes: Option<u64>, age| Holder {
            kind,
            name: "it's".to_owned(),
            user: String::new(),
            since: minutes.map(|minutes| Duration::from_secs(60 * minutes)),
            age,
        };
        let check = |holder, expected: Option<&str>| {
            let found = find_holders(&Arc::from("shop"), None, &[holder], LIMIT);
            let remedy = found.first().map(|one| one.remedy.as_str());
            match (remedy, expected) {
                (None, None) => {}
                (Some(remedy), Some(expected)) => assert!(remedy.contains(expected), "{remedy}"),
                other => panic!("{other:?}"),
            }
        };
        check(holder(HolderKind::Prepared, Some(4), 10), None);
        check(
            holder(HolderKind::Prepared, Some(6), 10),
            Some("ROLLBACK PREPARED 'it''s'"),
        );
        check(holder(HolderKind::Slot, None, 10), None);
        check(
            holder(HolderKind::Slot, None, WARNING_AGE),
            Some("pg_drop_replication_slot('it''s')"),
        );
    }

    #[test]
    fn deadlocks_are_told_for_a_while() {
        let at = |seconds| Ticks::ZERO + Duration::from_secs(seconds);
        let database = Arc::from("shop");
        let mut deadlocks = Deadlocks::default();
        deadlocks.note(7, at(0));
        assert_eq!(deadlocks.find(&database, None, at(1)), None, "of before");
        deadlocks.note(9, at(30));
        deadlocks.note(10, at(60));
        let found = deadlocks.find(&database, None, at(70)).expect("three");
        assert_eq!(
            found.evidence[0],
            "3 deadlocks in the last 40.0 s, the last one 10.0 s ago: each ended a transaction \
             with SQLSTATE 40P01"
        );
        deadlocks.note(0, at(80));
        assert!(deadlocks.find(&database, None, at(80)).is_some());
        deadlocks.note(0, at(700));
        assert_eq!(deadlocks.find(&database, None, at(700)), None);
        deadlocks.note(1, at(710));
        assert!(deadlocks.find(&database, None, at(710)).is_some());
    }
}
