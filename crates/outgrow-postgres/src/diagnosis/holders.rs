//! Who has the connections of a pool while others wait for them, and why there are not enough: held in
//! silence, busy with something slow, kept by what is in the session, or simply too few. Pure.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::Thresholds;
use super::finding::{Finding, Kind, Origin, Severity, Text};
use super::watch::Phase;
use crate::sql::facts::{Pin, Pins};

/// A silence from here on keeps others waiting, and a statement that takes so long on average.
const HOLDS: Duration = Duration::from_millis(100);
/// And one that has run for so long, whatever it takes on average.
const RUNS_LONG: Duration = Duration::from_millis(500);
/// Who waits for so many times the average that is worth telling is enough by itself.
const ONE_WAITS: u32 = 5;
/// From so long a wait on users are about to be refused.
const CRITICAL: Duration = Duration::from_secs(5);
/// How much of what was seen at a look still counts at the next one.
const FADING: f64 = 0.8;
/// The part of the connections, over some looks, that are busy with short statements where there are
/// too few of them.
const NEARLY_ALL: f64 = 0.8;
/// Most groups of holders that are told of.
const MOST_GROUPS: usize = 6;
/// The longest text in a line, in characters.
const MOST_SHOWN: usize = 160;
/// The part of it that is the start.
const MOST_START: usize = 50;

/// Somebody who has a connection.
#[derive(Clone, Debug)]
pub(crate) struct Holder {
    pub(crate) phase: Phase,
    /// For how long it has been so.
    pub(crate) for_time: Duration,
    /// For how long its transaction is open.
    pub(crate) transaction_for: Option<Duration>,
    /// The statement that is executed, or was last.
    pub(crate) statement: Option<Text>,
    /// How long that takes on average.
    pub(crate) mean: Duration,
    /// Why it must keep the connection.
    pub(crate) pins: Pins,
    pub(crate) origin: Origin,
    /// The server's process.
    pub(crate) process: i32,
}

/// How a pool is used.
#[derive(Clone, Debug)]
pub(crate) struct PoolUse {
    pub(crate) database: Arc<str>,
    pub(crate) user: Arc<str>,
    pub(crate) server: Option<Arc<str>>,
    /// Whether connections are lent for whole sessions.
    pub(crate) is_session: bool,
    pub(crate) lent: u32,
    pub(crate) idle: u32,
    pub(crate) coming: u32,
    pub(crate) waiting: u32,
    /// How long the first in line has waited.
    pub(crate) first_waits: Duration,
    /// What follows is of this time.
    pub(crate) window: Duration,
    pub(crate) transactions: u64,
    /// How long they had connections, all together.
    pub(crate) held: Duration,
    pub(crate) lendings: u64,
    pub(crate) waited: Duration,
    /// Who waited on average.
    pub(crate) mean_waiting: f64,
}

/// Why a connection is not free. In the order of what is to be told first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Why {
    Silent,
    Pinned,
    Session,
    Slow,
    Short,
}

impl Holder {
    fn why(&self, is_session: bool) -> Why {
        match self.phase {
            Phase::IdleInTransaction if self.for_time >= HOLDS => Why::Silent,
            Phase::AtRest if !self.pins.is_empty() => Why::Pinned,
            Phase::AtRest if is_session => Why::Session,
            Phase::Executing if self.mean >= HOLDS || self.for_time >= RUNS_LONG => Why::Slow,
            _ => Why::Short,
        }
    }
}

/// Why a pool's connections were not free when clients waited, the last looks counting most. What is
/// held for a second at a time is not seen to be held at each look.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reasons {
    by_why: [f64; 5],
}

impl Reasons {
    fn note(&mut self, is_waited_for: bool, groups: &[Group]) {
        self.by_why.iter_mut().for_each(|one| *one *= FADING);
        for group in groups.iter().filter(|_| is_waited_for) {
            self.by_why[group.why as usize] += group.amount as f64;
        }
    }

    /// Whether it is for want of connections, and has been so for more than a look.
    fn are_few(&self, lent: u32) -> bool {
        let few = self.by_why[Why::Short as usize];
        few >= NEARLY_ALL * self.by_why.iter().sum::<f64>() && few > f64::from(lent)
    }
}

/// What is wrong with a pool whose clients wait, if they wait for long.
pub(crate) fn exhaustion(
    pool: &PoolUse,
    holders: &[Holder],
    reasons: &mut Reasons,
    limits: &Thresholds,
) -> Option<Finding> {
    let groups = groups(pool, holders);
    reasons.note(pool.waiting > 0, &groups);
    let limit = limits.pool_wait;
    let mean_wait = pool
        .waited
        .checked_div(count(pool.lendings))
        .unwrap_or_default();
    let waits_long = pool.first_waits >= limit * ONE_WAITS || mean_wait >= limit;
    if limit.is_zero() || pool.waiting == 0 || !waits_long {
        return None;
    }
    // Connections are being made, or cannot be: the pool is not the reason.
    if pool.lent == 0 || pool.idle > 0 || pool.coming > 0 {
        return None;
    }
    let (mut why, mut amount) = main_reason(&groups)?;
    if why == Why::Short && !reasons.are_few(pool.lent) {
        // Half of them held are reason enough, less is what others would not wait for.
        let others = groups.iter().filter(|group| group.why != Why::Short);
        let held = main_reason(others).filter(|(_, amount)| amount * 2 >= pool.lent as usize);
        (why, amount) = held?;
    }
    let first = groups.iter().find(|group| group.why == why)?;
    let mut evidence = vec![
        format!(
            "{} clients wait for one of {} connections, the first of them for {}; a wait took {} \
             on average",
            pool.waiting,
            pool.lent,
            Shown(pool.first_waits),
            Shown(mean_wait),
        ),
        verdict(pool, first, amount),
    ];
    evidence.extend(groups.iter().take(MOST_GROUPS).map(Group::line));
    let names_statement = matches!(why, Why::Silent | Why::Slow);
    let is_critical = pool.first_waits >= CRITICAL;
    Some(Finding {
        kind: Kind::PoolExhausted,
        severity: if is_critical {
            Severity::Critical
        } else {
            Severity::Warning
        },
        database: Arc::clone(&pool.database),
        user: Some(Arc::clone(&pool.user)),
        server: pool.server.clone(),
        statement: first.statement.clone().filter(|_| names_statement),
        origin: (why != Why::Short).then(|| first.origin.clone()),
        evidence,
        remedy: remedy(pool, first),
    })
}

/// The reason of most connections; of equal ones what comes first.
fn main_reason<'g>(groups: impl IntoIterator<Item = &'g Group>) -> Option<(Why, usize)> {
    let mut amounts: BTreeMap<Why, usize> = BTreeMap::new();
    for group in groups {
        *amounts.entry(group.why).or_default() += group.amount;
    }
    let order = |(why, amount): &(Why, usize)| (*amount, std::cmp::Reverse(*why));
    amounts.into_iter().max_by_key(order)
}

/// Holders with the same reason, statement and application.
struct Group {
    why: Why,
    statement: Option<Text>,
    origin: Origin,
    pins: Pins,
    amount: usize,
    longest: Duration,
    whole: Duration,
    mean: Duration,
    processes: Vec<i32>,
}

fn groups(pool: &PoolUse, holders: &[Holder]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for holder in holders {
        let why = holder.why(pool.is_session);
        let name = |text: &Option<Text>| text.as_ref().map(|text| text.fingerprint);
        let is_of_it = |group: &&mut Group| {
            group.why == why
                && name(&group.statement) == name(&holder.statement)
                && group.origin.application == holder.origin.application
        };
        match groups.iter_mut().find(is_of_it) {
            Some(group) => {
                group.origin.join(&holder.origin);
                group.amount += 1;
                group.longest = group.longest.max(holder.for_time);
                group.whole += holder.for_time;
                group.pins.extend(holder.pins);
                group.processes.push(holder.process);
            }
            None => groups.push(Group {
                why,
                statement: holder.statement.clone(),
                origin: holder.origin.clone(),
                pins: holder.pins,
                amount: 1,
                longest: holder.for_time,
                whole: holder.for_time,
                mean: holder.mean,
                processes: vec![holder.process],
            }),
        }
    }
    groups.sort_by_key(|group| (std::cmp::Reverse(group.amount), group.why));
    groups
}

impl Group {
    fn average(&self) -> Duration {
        self.whole
            .checked_div(count(self.amount as u64))
            .unwrap_or_default()
    }

    fn text(&self) -> String {
        match &self.statement {
            Some(text) => shorten(&text.normalised),
            None => "a statement that is not known".to_owned(),
        }
    }

    fn reasons(&self) -> String {
        let names: Vec<_> = self.pins.iter().map(Pin::as_str).collect();
        names.join(", ")
    }

    fn line(&self) -> String {
        let doing = match self.why {
            Why::Silent => format!("idle in transaction for {} after", Shown(self.longest)),
            Why::Pinned => format!(
                "idle for {}, kept because of {}, after",
                Shown(self.longest),
                self.reasons()
            ),
            Why::Session => format!("idle for {} in their sessions, after", Shown(self.longest)),
            Why::Slow => format!("executing for {}:", Shown(self.longest)),
            Why::Short => "busy with".to_owned(),
        };
        let origin = &self.origin;
        let application = origin
            .application
            .as_deref()
            .unwrap_or("unnamed application");
        let client = origin.client.as_deref().unwrap_or("unknown address");
        let action = || origin.action.as_deref().map(str::to_owned);
        let route = origin.shown_route().or_else(action);
        let route = route
            .map(|route| format!(", route {route}"))
            .unwrap_or_default();
        let process = self.processes.first().copied().unwrap_or_default();
        format!(
            "{} x {doing} {} ({application} at {client}{route}; server process {process})",
            self.amount,
            self.text(),
        )
    }
}

fn verdict(pool: &PoolUse, first: &Group, amount: usize) -> String {
    let lent = pool.lent;
    match first.why {
        Why::Silent => format!(
            "{amount} of {lent} connections are held idle in transaction, for {} on average, after \
             {}",
            Shown(first.average()),
            first.text()
        ),
        Why::Pinned => format!(
            "{amount} of {lent} connections are kept by clients that do nothing, because of {}",
            first.reasons()
        ),
        Why::Session => format!(
            "{amount} of {lent} connections are kept by clients that do nothing, since they are \
             lent for whole sessions"
        ),
        Why::Slow => format!(
            "{amount} of {lent} connections execute something slow: {} takes {} on average and has \
             run for {}",
            first.text(),
            Shown(first.mean),
            Shown(first.longest)
        ),
        Why::Short => {
            let seconds = pool.window.as_secs_f64().max(f64::MIN_POSITIVE);
            let rate = pool.transactions as f64 / seconds;
            let each = pool.held.checked_div(count(pool.transactions));
            format!(
                "all busy with short statements: the pool is too small for the load: {rate:.0} \
                 transactions/s of {} each keep {:.1} connections busy, and {:.1} clients wait on \
                 average",
                Shown(each.unwrap_or_default()),
                pool.held.as_secs_f64() / seconds,
                pool.mean_waiting,
            )
        }
    }
}

fn remedy(pool: &PoolUse, first: &Group) -> String {
    match first.why {
        Why::Silent => {
            let by = first.origin.name();
            let by = by.as_deref().unwrap_or("the application");
            format!(
                "end the transaction in {by} right after its last statement, before anything else \
                 is done (calls of other services, computing, waiting for a user); \
                 timeouts.idle_transaction in [postgres] ends those that do not"
            )
        }
        Why::Pinned => {
            let all: Vec<_> = first.pins.iter().map(unpinned).collect();
            all.join("; ")
        }
        Why::Session => {
            "pool_mode = \"transaction\" lends a connection for a transaction only; what \
                         belongs to a session follows the client"
                .to_owned()
        }
        Why::Slow => format!(
            "make the statement faster: EXPLAIN (ANALYZE, BUFFERS) {}; or give it a user with a pool \
             of its own, so that others do not wait for it",
            first.text()
        ),
        Why::Short => {
            // Little's law: as many connections as transactions are there at a time, those that
            // wait included.
            let needed = f64::from(pool.lent) + pool.mean_waiting.max(f64::from(pool.waiting));
            format!(
                "pool_size = {:.0} would serve these clients at once, if the server has processors \
                 for them: beyond 2 x cores + disks of it, more connections only make each \
                 statement slower; then fewer or shorter statements are what helps",
                needed.ceil()
            )
        }
    }
}

/// What an application does instead of what keeps its connection.
fn unpinned(pin: Pin) -> &'static str {
    match pin {
        Pin::Temporary => "temporary_object: ON COMMIT DROP, or DROP it when it is done with",
        Pin::HoldCursor => "hold_cursor: CLOSE it, or declare it without WITH HOLD",
        Pin::AdvisoryLock => {
            "advisory_lock: pg_advisory_xact_lock, which the transaction's end frees"
        }
        Pin::Load => "load: shared_preload_libraries of the server instead of LOAD",
        Pin::Setting => "untracked_setting: SET with a value in the text, or SET LOCAL",
        Pin::Prepared => "sql_prepared_statement: statements that the driver prepares, not PREPARE",
        Pin::Listening => "listen: UNLISTEN when it is done with, or a session of its own",
        Pin::Seed => "random_seed: leave out setseed, or a session of its own",
        Pin::Dblink => "dblink_connection: postgres_fdw, or dblink without a named connection",
        Pin::Sequence => "sequence: INSERT … RETURNING instead of lastval or currval",
        Pin::Unread => "not_understood: client_encoding = UTF8, and statements below 256 KiB",
    }
}

/// A transaction that is open for long, or whose client is silent for long.
pub(crate) fn long_transactions(
    pool: &PoolUse,
    holders: &[Holder],
    limits: &Thresholds,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for holder in holders {
        let Some(open) = holder.transaction_for else {
            continue;
        };
        let is_silent = holder.phase == Phase::IdleInTransaction;
        let reaches = |time: Duration, limit: Duration| !limit.is_zero() && time >= limit;
        if is_silent && reaches(holder.for_time, limits.idle_transaction) {
            findings.push(silent(pool, holder, open));
        } else if reaches(open, limits.long_transaction) {
            findings.push(long(pool, holder, open));
        }
    }
    findings
}

fn of_holder(pool: &PoolUse, holder: &Holder, kind: Kind, open: Duration) -> Finding {
    let (origin, process) = (&holder.origin, holder.process);
    let mut evidence = vec![format!(
        "by {} at {}, server process {process}",
        origin
            .application
            .as_deref()
            .unwrap_or("an application without a name"),
        origin.client.as_deref().unwrap_or("an unknown address"),
    )];
    evidence.extend(pool.server.iter().map(|server| format!("on {server}")));
    Finding {
        kind,
        severity: Severity::Warning,
        database: Arc::clone(&pool.database),
        user: Some(Arc::clone(&pool.user)),
        server: pool.server.clone(),
        statement: holder.statement.clone(),
        origin: Some(origin.clone()),
        evidence: {
            evidence.insert(
                0,
                format!("a transaction has been open for {}", Shown(open)),
            );
            evidence
        },
        remedy: String::new(),
    }
}

fn last_statement(holder: &Holder) -> String {
    let text = holder.statement.as_ref();
    text.map_or_else(
        || "a statement that is not known".to_owned(),
        |text| shorten(&text.normalised),
    )
}

fn silent(pool: &PoolUse, holder: &Holder, open: Duration) -> Finding {
    let mut finding = of_holder(pool, holder, Kind::IdleInTransaction, open);
    let line = format!(
        "its client has said nothing for {} after {}",
        Shown(holder.for_time),
        last_statement(holder)
    );
    finding.evidence.insert(0, line);
    finding.remedy = format!(
        "COMMIT or ROLLBACK right after the last statement: the transaction keeps a connection, its \
         locks, and dead rows from being removed; SELECT pg_terminate_backend({}) ends this one, \
         timeouts.idle_transaction in [postgres] those to come",
        holder.process
    );
    finding
}

fn long(pool: &PoolUse, holder: &Holder, open: Duration) -> Finding {
    let mut finding = of_holder(pool, holder, Kind::LongTransaction, open);
    let doing = match holder.phase {
        Phase::Executing => format!(
            "it has been executing for {}: {}",
            Shown(holder.for_time),
            last_statement(holder)
        ),
        _ => format!("its last statement was {}", last_statement(holder)),
    };
    finding.evidence.push(doing);
    finding.remedy = format!(
        "shorter transactions: in batches, or a statement that does less; it keeps its locks, and \
         dead rows of all tables from being removed; SELECT pg_cancel_backend({}) ends its \
         statement, timeouts.transaction in [postgres] those to come",
        holder.process
    );
    finding
}

/// For a division, never zero.
fn count(amount: u64) -> u32 {
    u32::try_from(amount).unwrap_or(u32::MAX)
}

/// A statement for a line: of a long one the start and the end, since what it is about comes behind
/// the names of the columns.
pub(crate) fn shorten(text: &str) -> String {
    let count = text.chars().count();
    if count <= MOST_SHOWN {
        return text.to_owned();
    }
    let start: String = text.chars().take(MOST_START).collect();
    let end: String = text
        .chars()
        .skip(count - (MOST_SHOWN - MOST_START))
        .collect();
    format!("{start} … {end}")
}

/// A time for people.
pub(crate) struct Shown(pub(crate) Duration);

impl fmt::Display for Shown {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs_f64();
        if seconds < 0.001 {
            write!(formatter, "{} µs", self.0.as_micros())
        } else if seconds < 1.0 {
            write!(formatter, "{:.1} ms", seconds * 1e3)
        } else if seconds < 120.0 {
            write!(formatter, "{seconds:.1} s")
        } else {
            write!(formatter, "{:.0} min", seconds / 60.0)
        }
    }
}
