//! Who does what at a server: sessions that wait for locks, those that they wait for, transactions
//! that are open for long, and what else keeps the server from cleaning up.

use std::collections::HashMap;
use std::time::Duration;

use super::connection::{Unanswered, ask, millis, number, text};
use crate::diagnosis::server::session::{Lock, OurClient, Session};
use crate::diagnosis::server::transactions::{Holder, HolderKind};
use crate::seen::ServerSeen;
use crate::server::Server;
use crate::shared::Shared;
use crate::wire::read;

/// Most sessions that wait for locks whose holders are asked for: that question keeps others from
/// taking locks for a moment.
const MOST_WAITING: usize = 100;
/// Most sessions and locks of an answer.
const MOST_SESSIONS: usize = 300;
const MOST_LOCKS: usize = 2_000;

/// What a session tells of itself.
const COLUMNS: &str = "a.pid, a.usename, a.application_name, host(a.client_addr), a.client_port, \
    a.backend_type, a.state, \
    (extract(epoch FROM clock_timestamp() - a.xact_start) * 1000)::bigint, \
    (extract(epoch FROM clock_timestamp() - a.query_start) * 1000)::bigint, \
    (extract(epoch FROM clock_timestamp() - a.state_change) * 1000)::bigint, \
    age(a.backend_xmin), left(a.query, 2000)";

/// What was answered.
#[derive(Debug, Default)]
pub(super) struct Activity {
    pub(super) sessions: Vec<Session>,
    pub(super) locks: Vec<Lock>,
    /// Deadlocks of the database, as the server counts them.
    pub(super) deadlocks: u64,
}

impl Activity {
    /// Whether something is hidden from the user who asked.
    pub(super) fn hides(&self) -> bool {
        self.sessions
            .iter()
            .any(|session| session.state.is_empty() && session.process != 0)
    }
}

/// Asks for sessions that wait, those that they wait for, and those whose transaction is open for
/// `long`; with the locks where somebody waits.
pub(super) async fn activity(
    server: &mut Server,
    shared: &Shared,
    long: Duration,
) -> Result<Activity, Unanswered> {
    let mut activity = Activity::default();
    let long = long.as_millis();
    let question = format!(
        "WITH waiting AS (SELECT pid, pg_blocking_pids(pid) AS holders FROM (SELECT pid \
         FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database() \
         ORDER BY query_start LIMIT {MOST_WAITING}) AS those) \
         SELECT {COLUMNS}, array_to_string(w.holders, ' ') \
         FROM pg_stat_activity AS a LEFT JOIN waiting AS w ON w.pid = a.pid \
         WHERE a.pid <> pg_backend_pid() AND (w.pid IS NOT NULL \
         OR a.pid IN (SELECT unnest(holders) FROM waiting) \
         OR (a.datname = current_database() \
         AND a.xact_start <= clock_timestamp() - interval '{long} milliseconds')) \
         ORDER BY w.pid IS NULL, a.xact_start LIMIT {MOST_SESSIONS}; \
         SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    );
    let take = |body: &[u8]| {
        if let Some(columns) = read::columns::<13>(body) {
            activity.sessions.extend(session(columns));
        } else if let Some([count]) = read::columns::<1>(body) {
            activity.deadlocks = number(count).unwrap_or_default();
        }
    };
    ask(server, &question, take).await?;
    let waits = activity
        .sessions
        .iter()
        .any(|one| !one.blocked_by.is_empty());
    if waits {
        activity.locks = locks(server, &activity.sessions).await?;
    }
    note_ours(shared, server, &mut activity.sessions);
    Ok(activity)
}

fn session(columns: [Option<&[u8]>; 13]) -> Option<Session> {
    let [
        process,
        user,
        application,
        address,
        port,
        kind,
        state,
        rest @ ..,
    ] = columns;
    let [transaction, statement, changed, age, query, holders] = rest;
    let holders = text(holders);
    let holders = holders.split_ascii_whitespace();
    Some(Session {
        process: number(process)?,
        user: text(user),
        application: text(application),
        address: text(address),
        port: number(port).unwrap_or_default(),
        kind: text(kind),
        state: text(state),
        transaction: millis(transaction),
        statement: millis(statement),
        changed: millis(changed),
        snapshot_age: number(age),
        text: text(query),
        blocked_by: holders.filter_map(|one| one.parse().ok()).collect(),
        is_ours: false,
        client: None,
    })
}

/// The locks of sessions that say something: those that are waited for, and those on tables of users.
async fn locks(server: &mut Server, sessions: &[Session]) -> Result<Vec<Lock>, Unanswered> {
    let processes: Vec<String> = sessions.iter().map(|one| one.process.to_string()).collect();
    // When a wait began is told since 14 only.
    let question = format!(
        "SELECT l.pid, l.locktype, l.mode, l.granted, \
         CASE WHEN c.oid IS NOT NULL THEN c.oid::regclass::text \
         WHEN l.locktype = 'advisory' THEN l.classid || ', ' || l.objid END, \
         (extract(epoch FROM clock_timestamp() - \
         (to_jsonb(l) ->> 'waitstart')::timestamptz) * 1000)::bigint \
         FROM pg_locks AS l LEFT JOIN pg_class AS c ON c.oid = l.relation \
         AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
         WHERE l.pid IN ({}) AND (NOT l.granted OR l.locktype IN ('tuple', 'advisory') \
         OR (l.locktype = 'relation' AND c.relkind IN ('r', 'p', 'm') AND c.oid >= 16384)) \
         ORDER BY l.granted LIMIT {MOST_LOCKS}",
        processes.join(", ")
    );
    let mut locks = Vec::new();
    let take = |body: &[u8]| {
        let columns = read::columns::<6>(body);
        let Some([process, kind, mode, is_granted, target, waited]) = columns else {
            return;
        };
        let Some(process) = number(process) else {
            return;
        };
        locks.push(Lock {
            process,
            kind: text(kind),
            mode: text(mode),
            is_granted: is_granted == Some(b"t"),
            target: text(target),
            waited: millis(waited),
        });
    };
    ask(server, &question, take).await?;
    Ok(locks)
}

/// Says which sessions are connections of ours, and which clients have them: by the server's process
/// and, since other servers have processes of the same numbers, by our end of the connection. Where
/// addresses are translated on the way the user must do.
fn note_ours(shared: &Shared, server: &Server, sessions: &mut [Session]) {
    let far = server.entry.seen.ends().0;
    let seen = shared.seen_servers();
    let mut by_process: HashMap<i32, Vec<&ServerSeen>> = HashMap::new();
    for one in seen.iter().filter(|one| one.ends().0 == far) {
        by_process.entry(one.process()).or_default().push(one);
    }
    for session in sessions {
        let Some(all) = by_process.get(&session.process) else {
            continue;
        };
        let has_port = |one: &&&ServerSeen| {
            let near = one.ends().1;
            near.is_some_and(|near| near.port() == session.port)
        };
        let ours = all
            .iter()
            .find(has_port)
            .or_else(|| all.iter().find(|one| *one.user == *session.user));
        let Some(ours) = ours else { continue };
        session.is_ours = true;
        session.client = client(shared, ours);
    }
}

fn client(shared: &Shared, server: &ServerSeen) -> Option<OurClient> {
    let client = shared.seen.client(server.link())?;
    let user = client.who().map(|who| who.user.to_string());
    let (statement, told) = shared.doing(server, &client);
    Some(OurClient {
        statement,
        told,
        number: client.number,
        address: client.far().to_string(),
        user: user.unwrap_or_default(),
        application: client.application().to_string(),
    })
}

/// Asks for what keeps the server from cleaning up without being a session.
pub(super) async fn holders(server: &mut Server) -> Result<Vec<Holder>, Unanswered> {
    const QUESTION: &str = "SELECT 'prepared', gid, owner, \
        (extract(epoch FROM clock_timestamp() - prepared) * 1000)::bigint, age(transaction) \
        FROM pg_prepared_xacts WHERE database = current_database() \
        UNION ALL SELECT 'slot', slot_name, NULL, NULL, \
        greatest(age(xmin), age(catalog_xmin)) FROM pg_replication_slots \
        WHERE xmin IS NOT NULL OR catalog_xmin IS NOT NULL ORDER BY 5 DESC LIMIT 20";
    let mut holders = Vec::new();
    let take = |body: &[u8]| {
        let Some([kind, name, user, since, age]) = read::columns::<5>(body) else {
            return;
        };
        holders.push(Holder {
            kind: match kind {
                Some(b"prepared") => HolderKind::Prepared,
                _ => HolderKind::Slot,
            },
            name: text(name),
            user: text(user),
            since: millis(since),
            age: number(age).unwrap_or_default(),
        });
    };
    ask(server, QUESTION, take).await?;
    Ok(holders)
}
