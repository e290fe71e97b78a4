//! Lock waits: who at the end of the chain keeps everybody waiting, with what, since when.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::session::{Lock, Session, seconds};
use crate::diagnosis::{Finding, Kind, Severity};

/// Most sessions at the ends of chains that are told at a time, those first that keep most waiting.
const MOST_ROOTS: usize = 10;
/// Most waiting sessions of a chain that are named.
const MOST_NAMED: usize = 3;
/// From so many waiting sessions on, or after so long, users are refused soon.
const CRITICAL_COUNT: usize = 10;
const CRITICAL_TIME: Duration = Duration::from_secs(30);

/// What is known of a database at a moment.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// The database, as clients call it.
    pub database: &'a Arc<str>,
    /// The server.
    pub server: Option<&'a Arc<str>>,
    /// Its sessions that wait, and those that they wait for.
    pub sessions: &'a [Session],
    /// The locks of all these.
    pub locks: &'a [Lock],
}

/// One finding for each session that keeps others waiting for `limit` or longer.
pub fn find(seen: Seen<'_>, limit: Duration) -> Vec<Finding> {
    let by_process: BTreeMap<i32, &Session> = seen
        .sessions
        .iter()
        .map(|session| (session.process, session))
        .collect();
    let mut waiting: BTreeMap<i32, Vec<&Session>> = BTreeMap::new();
    for session in seen
        .sessions
        .iter()
        .filter(|one| !one.blocked_by.is_empty())
    {
        for root in roots(session, &by_process) {
            waiting.entry(root).or_default().push(session);
        }
    }
    let mut chains: Vec<Chain<'_>> = waiting
        .into_iter()
        .map(|(root, waiting)| chain(seen, root, by_process.get(&root).copied(), waiting))
        .filter(|chain| chain.longest >= limit)
        .collect();
    chains.sort_by_key(|chain| std::cmp::Reverse((chain.waiting.len(), chain.longest)));
    chains.truncate(MOST_ROOTS);
    chains.iter().map(|chain| finding(seen, chain)).collect()
}

/// Those at the ends of the chains in which a session waits: who waits for nobody. None in a circle,
/// which the server ends itself.
fn roots(session: &Session, all: &BTreeMap<i32, &Session>) -> BTreeSet<i32> {
    let mut roots = BTreeSet::new();
    let mut visited = BTreeSet::from([session.process]);
    let mut open = session.blocked_by.clone();
    while let Some(process) = open.pop() {
        if !visited.insert(process) {
            continue;
        }
        match all.get(&process).map(|one| &one.blocked_by) {
            Some(further) if !further.is_empty() => open.extend(further),
            _ => {
                roots.insert(process);
            }
        }
    }
    roots
}

/// Those who wait for one session, straight or behind others.
struct Chain<'a> {
    root: i32,
    session: Option<&'a Session>,
    /// Who waits for longest first.
    waiting: Vec<&'a Session>,
    longest: Duration,
}

fn chain<'a>(
    seen: Seen<'a>,
    root: i32,
    session: Option<&'a Session>,
    mut waiting: Vec<&'a Session>,
) -> Chain<'a> {
    waiting.sort_by_key(|one| std::cmp::Reverse(waited(seen.locks, one)));
    let longest = waiting.first().map(|first| waited(seen.locks, first));
    Chain {
        root,
        session,
        waiting,
        longest: longest.unwrap_or_default(),
    }
}

/// For how long a session waits: by the lock where the server tells that, else its statement runs
/// for as long at most.
fn waited(locks: &[Lock], session: &Session) -> Duration {
    let of_it = locks.iter().filter(|lock| lock.process == session.process);
    let told = of_it.filter_map(|lock| lock.waited).max();
    told.or(session.statement).unwrap_or_default()
}

/// What a session waits for: the kind of lock, and what is locked.
fn wanted<'a>(locks: &'a [Lock], session: &Session) -> Option<(&'a Lock, &'a str)> {
    let of_it = || locks.iter().filter(|lock| lock.process == session.process);
    let wanted = of_it().find(|lock| !lock.is_granted)?;
    if !wanted.target.is_empty() {
        return Some((wanted, &wanted.target));
    }
    // Who waits for a row waits for the transaction that has it, and has a lock of its own to be
    // the next.
    let row = of_it().find(|lock| lock.kind == "tuple" && !lock.target.is_empty());
    let target = row.map_or("", |lock| &lock.target);
    Some((wanted, target))
}

fn described(wanted: Option<(&Lock, &str)>) -> String {
    let Some((lock, target)) = wanted else {
        return "a lock".to_owned();
    };
    let of = |what: &str| match target {
        "" => what.to_owned(),
        target => format!("{what} of {target}"),
    };
    match lock.kind.as_str() {
        "transactionid" | "tuple" => of("a row"),
        "relation" => of(&lock.mode),
        kind => of(&format!("{} ({kind})", lock.mode)),
    }
}

/// How much a mode keeps out, the strongest last.
fn strength(mode: &str) -> usize {
    const MODES: [&str; 8] = [
        "AccessShareLock",
        "RowShareLock",
        "RowExclusiveLock",
        "ShareUpdateExclusiveLock",
        "ShareLock",
        "ShareRowExclusiveLock",
        "ExclusiveLock",
        "AccessExclusiveLock",
    ];
    MODES.iter().position(|one| *one == mode).unwrap_or(0)
}

/// What the session at the end has: its lock on what is waited for, else its strongest one.
fn held<'a>(seen: Seen<'a>, chain: &Chain<'_>) -> Option<&'a Lock> {
    let targets: Vec<&str> = chain
        .waiting
        .iter()
        .filter_map(|one| wanted(seen.locks, one))
        .map(|(_, target)| target)
        .collect();
    let of_it = seen
        .locks
        .iter()
        .filter(|lock| lock.process == chain.root && lock.is_granted && !lock.target.is_empty());
    of_it.max_by_key(|lock| {
        let is_waited_for = targets.contains(&lock.target.as_str());
        (is_waited_for, strength(&lock.mode))
    })
}

fn finding(seen: Seen<'_>, chain: &Chain<'_>) -> Finding {
    let count = chain.waiting.len();
    let mut evidence = Vec::new();
    let first = chain.waiting.first();
    let what = described(first.and_then(|first| wanted(seen.locks, first)));
    let sessions = if count == 1 {
        "session waits"
    } else {
        "sessions wait"
    };
    evidence.push(format!(
        "{count} {sessions} for process {}, the longest for {}: for {what}",
        chain.root,
        seconds(chain.longest),
    ));
    evidence.extend(chain.session.map(|root| holder(root, held(seen, chain))));
    if let Some(client) = chain.session.and_then(|root| root.client.as_ref()) {
        evidence.push(format!("behind process {}: {}", chain.root, client.who()));
    }
    for one in chain.waiting.iter().take(MOST_NAMED) {
        evidence.push(waiter(one, waited(seen.locks, one)));
    }
    if count > MOST_NAMED {
        evidence.push(format!("and {} more", count - MOST_NAMED));
    }
    let severity = if count >= CRITICAL_COUNT || chain.longest >= CRITICAL_TIME {
        Severity::Critical
    } else {
        Severity::Warning
    };
    let root = chain.session;
    Finding {
        kind: Kind::LockWait,
        severity,
        database: Arc::clone(seen.database),
        user: root.map(|root| root.user.as_str().into()),
        server: seen.server.cloned(),
        statement: root.and_then(Session::shown),
        origin: root.map(Session::origin),
        evidence,
        remedy: remedy(chain),
    }
}

fn holder(root: &Session, held: Option<&Lock>) -> String {
    let mut line = format!("{} is {}", root.who(), root.doing());
    if let Some(open) = root.transaction {
        line.push_str(&format!(", its transaction open for {}", seconds(open)));
    }
    if let Some(lock) = held {
        line.push_str(&format!(", with {} on {}", lock.mode, lock.target));
    }
    line
}

fn waiter(session: &Session, waited: Duration) -> String {
    let others: Vec<String> = session.blocked_by.iter().map(i32::to_string).collect();
    let mut line = format!(
        "{} waits {} for {}",
        session.who(),
        seconds(waited),
        others.join(", ")
    );
    if let Some(client) = &session.client {
        line.push_str(&format!(", {}", client.who()));
    }
    if let Some(text) = session.shown() {
        line.push_str(&format!(": {}", text.normalised));
    }
    line
}

/// Whether a statement defines something, which keeps everybody else out.
fn defines(text: &str) -> bool {
    const WORDS: [&str; 9] = [
        "alter", "create", "drop", "truncate", "lock", "vacuum", "reindex", "cluster", "refresh",
    ];
    let word = text.split(|one: char| !one.is_ascii_alphabetic()).next();
    word.is_some_and(|word| WORDS.iter().any(|one| word.eq_ignore_ascii_case(one)))
}

fn remedy(chain: &Chain<'_>) -> String {
    let process = chain.root;
    let Some(root) = chain.session else {
        return if process == 0 {
            "A transaction that was prepared for two-phase commit has the lock and nobody ends it: \
             look into pg_prepared_xacts, then COMMIT PREPARED or ROLLBACK PREPARED it."
                .to_owned()
        } else {
            format!(
                "See what process {process} does: SELECT * FROM pg_stat_activity WHERE pid = {process}."
            )
        };
    };
    let who = root.client.as_ref().map_or_else(
        || root.who(),
        |client| format!("{} (process {process})", client.who()),
    );
    if root.is_idle_in_transaction() {
        return format!(
            "{who} has changed something, says nothing and does not commit: commit before waiting \
             for anything else (another service, a user, a queue). `idle_transaction` in \
             [postgres.timeouts], or idle_in_transaction_session_timeout on the server, ends such \
             transactions. To end this one now: SELECT pg_terminate_backend({process})."
        );
    }
    if root.kind == "autovacuum worker" {
        return format!(
            "Autovacuum does not give way only when it prevents wraparound: let it finish, and let \
             it run more often (autovacuum_freeze_max_age, cost limits). Process {process}."
        );
    }
    if defines(root.text.trim_start()) {
        return format!(
            "A change of definitions keeps others out until its transaction ends: do it with SET \
             lock_timeout = '2s' and try again, alone in its transaction, CONCURRENTLY where that \
             is there. To end it now: SELECT pg_cancel_backend({process})."
        );
    }
    format!(
        "{who} still works in its transaction, and locks are held to its end: make it shorter, or \
         lock last what many want. To end its statement now: SELECT pg_cancel_backend({process})."
    )
}

#[cfg(test)]
mod tests;
