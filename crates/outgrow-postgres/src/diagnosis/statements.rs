//! What statements cost, by fingerprint: calls, errors, rows, and their time in three parts: waiting
//! for a connection, being executed, and the silence of the client in a transaction after them.
//!
//! One table for each worker, whose pools are its own: records have one writer, and readers on other
//! threads see numbers that are at most a moment old. Bounded by the number of records, each of which
//! has a text of at most [`MOST_TEXT`]; of those that are to be explained or rewritten the whole text
//! is kept, [`MOST_WHOLE_BYTES`] together. When it is full the least used sixteenth goes, and what was
//! used counts half from then on, so that what is new has a chance.
//!
//! What is not counted: rows of a portal that was fetched in parts, but for the last; texts that are
//! too long to be looked at; in session mode, executions of named statements.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use outgrow_core::Ticks;
use outgrow_core::metrics::Counter;
use outgrow_core::serving::Sample;

use super::finding::{Origin, Text};
use super::mixed::Mixed;
use super::routes::Samples;
use crate::sql::facts::{Facts, Kind};

/// The longest text of a record, in bytes.
pub(crate) const MOST_TEXT: usize = 1024;
/// The longest whole text, in bytes: object-relational mappers name every column of every table.
pub(crate) const MOST_WHOLE: usize = 16 * 1024;
/// Most bytes of all whole texts of a worker.
const MOST_WHOLE_BYTES: usize = 1024 * 1024;
/// The longest text that is shown, in bytes; of a longer one the start and the end.
const MOST_SHOWN: usize = 4000;
const MOST_START: usize = 500;
/// Executions that take so long each, and so many of them, are worth to be explained.
const SHORT: Duration = Duration::from_millis(2);
const FEW_CALLS: u64 = 3;
/// The part of a full table that goes.
const EVICTED_PART: usize = 16;
/// Calls between two looks at what comments say.
const ORIGIN_CALLS: u64 = 16;

/// Below this power of two, in microseconds, times are not told apart.
const FIRST_POWER: u32 = 4;
/// Powers of two that are.
const POWERS: u32 = 32;
/// Steps of each.
const STEPS: u32 = 4;
const BUCKETS: usize = (POWERS * STEPS) as usize;

/// Times in buckets with an error of at most a quarter. One writer.
#[derive(Debug)]
struct Times([AtomicU32; BUCKETS]);

impl Default for Times {
    fn default() -> Self {
        Self([const { AtomicU32::new(0) }; BUCKETS])
    }
}

impl Times {
    #[inline]
    fn record(&self, micros: u64) {
        let cell = &self.0[bucket_of(micros)];
        let count = cell.load(Ordering::Relaxed);
        cell.store(count.saturating_add(1), Ordering::Relaxed);
    }

    /// The time below which the share `quantile` of several lies, rounded up to its bucket.
    fn quantile<'t>(several: impl Iterator<Item = &'t Self>, quantile: f64) -> u64 {
        let mut counts = [0_u64; BUCKETS];
        for one in several {
            for (sum, cell) in counts.iter_mut().zip(&one.0) {
                *sum += u64::from(cell.load(Ordering::Relaxed));
            }
        }
        let all: u64 = counts.iter().sum();
        let wanted = ((all as f64 * quantile).ceil() as u64).max(1);
        let mut seen = 0;
        for (index, count) in counts.into_iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return upper_bound(index);
            }
        }
        0
    }
}

#[inline]
fn bucket_of(micros: u64) -> usize {
    let power = micros.max(1).ilog2();
    if power < FIRST_POWER {
        return 0;
    }
    let step = (micros >> (power - 2)) as u32 & (STEPS - 1);
    (((power - FIRST_POWER) * STEPS + step) as usize).min(BUCKETS - 1)
}

/// The smallest time that lies above a bucket.
fn upper_bound(index: usize) -> u64 {
    let (power, step) = (index as u32 / STEPS + FIRST_POWER, index as u32 % STEPS);
    u64::from(STEPS + step + 1) << (power - 2)
}

/// What a statement is, by its keywords.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Class {
    /// One query.
    Query,
    /// One change of rows.
    Change,
    /// Anything else: several statements, definitions, transactions, maintenance.
    #[default]
    Other,
}

impl Class {
    /// By the facts of a text.
    pub(crate) fn of(facts: &Facts) -> Self {
        match facts.kind {
            _ if facts.statements != 1 => Self::Other,
            Kind::Select => Self::Query,
            Kind::Insert | Kind::Update | Kind::Delete | Kind::Merge => Self::Change,
            _ => Self::Other,
        }
    }
}

/// What one statement of one database and user costs.
#[derive(Debug)]
pub(crate) struct Record {
    /// Never used twice by a worker; never 0.
    pub(crate) number: u64,
    pub(crate) fingerprint: u64,
    pub(crate) database: Arc<str>,
    pub(crate) user: Arc<str>,
    /// Without values.
    pub(crate) text: Arc<str>,
    /// Whether that is only its start.
    is_cut: bool,
    /// All of it, where that is wanted; empty where there was no room.
    whole: OnceLock<Arc<str>>,
    /// Whether it is executed for each row of another one's result.
    is_repeated: AtomicBool,
    pub(crate) class: Class,
    pub(crate) calls: Counter,
    pub(crate) errors: Counter,
    pub(crate) rows: Counter,
    pub(crate) wait_micros: Counter,
    pub(crate) execute_micros: Counter,
    pub(crate) idle_micros: Counter,
    max_micros: AtomicU64,
    times: Times,
    usage: AtomicU32,
    /// When it last ended.
    last: AtomicU64,
    origin: Mutex<Option<Origin>>,
    /// Which routes were in flight when it was executed, once that is known.
    samples: OnceLock<Box<Samples>>,
    /// Calls and time at the last look.
    looked: [AtomicU64; 2],
    /// Whether something may be executed for each row of its result.
    is_suspected: AtomicBool,
}

impl Record {
    /// Takes note of an execution.
    pub(crate) fn note(&self, run: Run, now: Ticks) {
        self.calls.add(1);
        self.errors.add(u64::from(run.has_failed));
        self.rows.add(run.rows);
        self.wait_micros.add(run.wait_micros);
        self.execute_micros.add(run.execute_micros);
        if run.execute_micros > self.max_micros.load(Ordering::Relaxed) {
            self.max_micros.store(run.execute_micros, Ordering::Relaxed);
        }
        self.times.record(run.execute_micros);
        let usage = self.usage.load(Ordering::Relaxed);
        self.usage.store(usage.saturating_add(1), Ordering::Relaxed);
        self.last.store(now.0, Ordering::Relaxed);
    }

    /// Takes note of where a text comes from, if it says so and it is time to look.
    #[inline]
    pub(crate) fn note_origin(&self, text: &[u8]) {
        if self.calls.get().is_multiple_of(ORIGIN_CALLS) && super::origin::has_comment(text) {
            self.set_origin(super::origin::read(text));
        }
    }

    fn set_origin(&self, origin: Option<Origin>) {
        if origin.is_some() {
            *self.origin.lock().unwrap_or_else(PoisonError::into_inner) = origin;
        }
    }

    /// Where it came from when that was last looked at.
    pub(crate) fn origin(&self) -> Option<Origin> {
        let origin = self.origin.lock();
        origin.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether it is time to look which routes are in flight.
    #[inline]
    pub(crate) fn is_sample_due(&self, now: Ticks) -> bool {
        let samples = self.samples.get();
        self.class != Class::Other && samples.is_none_or(|samples| samples.is_due(now))
    }

    /// Takes note of which routes are in flight as it is executed.
    pub(crate) fn put_sample(&self, sample: &Sample, now: Ticks) {
        self.samples.get_or_init(Box::default).put(sample, now);
    }

    /// Which routes were in flight when it was executed.
    pub(crate) fn samples(&self) -> Vec<Sample> {
        self.samples.get().map_or_else(Vec::new, |all| all.all())
    }

    /// Says whether something may be executed for each row of its result.
    pub(crate) fn suspect(&self, is_suspected: bool) {
        self.is_suspected.store(is_suspected, Ordering::Relaxed);
    }

    /// Whether something may be.
    #[inline]
    pub(crate) fn is_suspected(&self) -> bool {
        self.is_suspected.load(Ordering::Relaxed)
    }

    /// Its text without values; cut where the whole one is not known.
    pub(crate) fn sql(&self) -> &Arc<str> {
        let whole = self.whole.get().filter(|whole| !whole.is_empty());
        whole.unwrap_or(&self.text)
    }

    /// As findings show it.
    pub(crate) fn shown(&self) -> Text {
        let sql = self.sql();
        let normalised = match sql.len() > MOST_SHOWN {
            true => shortened(sql).into(),
            false => Arc::clone(sql),
        };
        Text {
            fingerprint: self.fingerprint,
            normalised,
        }
    }

    /// Says that it is executed for each row of another one's result.
    pub(crate) fn repeat(&self) {
        self.is_repeated.store(true, Ordering::Relaxed);
    }

    /// Whether its whole text is wanted: it is cut, and there is something to say of it.
    #[inline]
    pub(crate) fn wants_whole(&self) -> bool {
        self.is_cut && self.whole.get().is_none() && self.is_remarkable()
    }

    fn is_remarkable(&self) -> bool {
        let (calls, micros) = (self.calls.get(), self.execute_micros.get());
        let is_slow = calls >= FEW_CALLS && micros / calls >= SHORT.as_micros() as u64;
        is_slow || self.is_repeated.load(Ordering::Relaxed)
    }

    /// Calls, and the time that they were executed for, since this was asked last. For one reader.
    pub(crate) fn since_last_look(&self) -> (u64, u64) {
        let now = [self.calls.get(), self.execute_micros.get()];
        let mut since = [0; 2];
        for ((since, now), looked) in since.iter_mut().zip(now).zip(&self.looked) {
            *since = now.saturating_sub(looked.swap(now, Ordering::Relaxed));
        }
        (since[0], since[1])
    }

    /// For how long it kept connections.
    pub(crate) fn cost_micros(&self) -> u64 {
        self.execute_micros.get() + self.idle_micros.get()
    }

    /// Whether it is the same statement of the same database and user, as another worker has it.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
            && self.database == other.database
            && self.user == other.user
    }

    /// What can be told of it.
    pub(crate) fn state(&self) -> StatementState {
        self.state_with(&[])
    }

    /// The same together with what other workers have of it.
    pub(crate) fn state_with(&self, others: &[Arc<Self>]) -> StatementState {
        let all = || others.iter().map(|one| &**one).chain([self]);
        let sum = |count: fn(&Self) -> &Counter| all().map(|one| count(one).get()).sum();
        let most = |cell: fn(&Self) -> &AtomicU64| {
            let values = all().map(|one| cell(one).load(Ordering::Relaxed));
            values.max().unwrap_or(0)
        };
        let quantile = |share| Times::quantile(all().map(|one| &one.times), share);
        StatementState {
            text: self.shown(),
            database: Arc::clone(&self.database),
            user: Arc::clone(&self.user),
            origin: all().find_map(Self::origin),
            calls: sum(|one| &one.calls),
            errors: sum(|one| &one.errors),
            rows: sum(|one| &one.rows),
            wait_micros: sum(|one| &one.wait_micros),
            execute_micros: sum(|one| &one.execute_micros),
            idle_micros: sum(|one| &one.idle_micros),
            max_micros: most(|one| &one.max_micros),
            p50_micros: quantile(0.5),
            p95_micros: quantile(0.95),
            last: Ticks(most(|one| &one.last)),
        }
    }
}

/// The start and the end of a text.
fn shortened(text: &str) -> String {
    let boundary = |mut at: usize| {
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let (start, end) = (
        boundary(MOST_START),
        boundary(text.len() - (MOST_SHOWN - MOST_START)),
    );
    format!("{} … {}", &text[..start], &text[end..])
}

/// One execution.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) wait_micros: u64,
    pub(crate) execute_micros: u64,
    pub(crate) rows: u64,
    pub(crate) has_failed: bool,
}

/// What a statement has cost, for people and programs. Times in microseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatementState {
    /// Which one.
    pub text: Text,
    /// The database, as clients call it.
    pub database: Arc<str>,
    /// The user on the server.
    pub user: Arc<str>,
    /// Where it came from when that was last looked at.
    pub origin: Option<Origin>,
    /// Executions.
    pub calls: u64,
    /// Those that failed.
    pub errors: u64,
    /// Rows that were returned or changed.
    pub rows: u64,
    /// Waiting for a connection before it.
    pub wait_micros: u64,
    /// Being executed: until the server's answer was there.
    pub execute_micros: u64,
    /// The client's silence in a transaction after it.
    pub idle_micros: u64,
    /// The longest execution.
    pub max_micros: u64,
    /// Half of the executions took at most so long, to a quarter.
    pub p50_micros: u64,
    /// 95 of 100 did.
    pub p95_micros: u64,
    /// When it last ended.
    pub last: Ticks,
}

/// Whose statements: those of a database and user on the server are told apart from those of others
/// by a hash that nobody can aim at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scope(u64);

/// What is to be known of a statement that is not in the table.
pub(crate) struct New<'t> {
    pub(crate) database: Arc<str>,
    pub(crate) user: Arc<str>,
    pub(crate) text: &'t [u8],
    pub(crate) normalised: String,
    pub(crate) class: Class,
}

/// The records of a worker.
#[derive(Debug)]
pub(crate) struct Table {
    records: HashMap<(u64, u64), Arc<Record>, Mixed>,
    random: RandomState,
    limit: usize,
    last: u64,
    evicted: u64,
    /// Bytes of whole texts.
    whole_bytes: usize,
}

impl Table {
    /// An empty one of at most so many records; 0: nothing is kept.
    pub(crate) fn new(limit: usize) -> Self {
        let random = RandomState::new();
        Self {
            records: HashMap::with_hasher(Mixed::new(&random)),
            random,
            limit,
            last: 0,
            evicted: 0,
            whole_bytes: 0,
        }
    }

    /// Numbers its records from here on.
    pub(crate) fn numbered_from(self, last: u64) -> Self {
        Self { last, ..self }
    }

    /// Changes the bound.
    pub(crate) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
        while self.records.len() > limit {
            self.evict();
        }
    }

    /// The statements of a database and user.
    pub(crate) fn scope(&self, database: &str, user: &str) -> Scope {
        Scope(self.random.hash_one((database, user)))
    }

    /// The record of a statement, made when there is none; none when nothing is kept.
    pub(crate) fn of<'t>(
        &mut self,
        scope: Scope,
        fingerprint: u64,
        new: impl FnOnce() -> New<'t>,
    ) -> Option<Arc<Record>> {
        let key = (scope.0, fingerprint);
        if let Some(record) = self.records.get(&key) {
            return Some(Arc::clone(record));
        }
        if self.limit == 0 {
            return None;
        }
        if self.records.len() >= self.limit {
            self.evict();
        }
        let new = new();
        self.last += 1;
        let record = Arc::new(Record {
            number: self.last,
            fingerprint,
            database: new.database,
            user: new.user,
            is_cut: new.normalised.ends_with('…'),
            text: new.normalised.into(),
            whole: OnceLock::new(),
            is_repeated: AtomicBool::new(false),
            class: new.class,
            calls: Counter::default(),
            errors: Counter::default(),
            rows: Counter::default(),
            wait_micros: Counter::default(),
            execute_micros: Counter::default(),
            idle_micros: Counter::default(),
            max_micros: AtomicU64::new(0),
            times: Times::default(),
            usage: AtomicU32::new(0),
            last: AtomicU64::new(0),
            origin: Mutex::default(),
            samples: OnceLock::new(),
            looked: [const { AtomicU64::new(0) }; 2],
            is_suspected: AtomicBool::new(false),
        });
        record.note_origin(new.text);
        self.records.insert(key, Arc::clone(&record));
        Some(record)
    }

    /// Keeps the whole text of a record, as far as there is room.
    pub(crate) fn keep_whole(&mut self, record: &Record, whole: String) {
        let has_room = self.whole_bytes + whole.len() <= MOST_WHOLE_BYTES;
        let is_whole = !whole.ends_with('…');
        let whole = if has_room && is_whole {
            whole
        } else {
            String::new()
        };
        let bytes = whole.len();
        // One that is not in the table any more has no room.
        let is_there = (self.records.values()).any(|one| one.number == record.number);
        if is_there && record.whole.set(whole.into()).is_ok() {
            self.whole_bytes += bytes;
        }
    }

    fn evict(&mut self) {
        let usage = |record: &Record| {
            let used = record.usage.load(Ordering::Relaxed);
            (used, record.number)
        };
        let mut usages: Vec<_> = self.records.values().map(|one| usage(one)).collect();
        let place = (usages.len() / EVICTED_PART).min(usages.len().saturating_sub(1));
        if usages.is_empty() {
            return;
        }
        let (_, &mut most, _) = usages.select_nth_unstable(place);
        let before = self.records.len();
        let mut freed = 0;
        self.records.retain(|_, record| {
            let used = usage(record);
            record.usage.store(used.0 / 2, Ordering::Relaxed);
            if used <= most {
                freed += record.whole.get().map_or(0, |whole| whole.len());
            }
            used > most
        });
        self.whole_bytes -= freed;
        self.evicted += (before - self.records.len()) as u64;
    }

    /// All records.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Record>> {
        self.records.values()
    }

    /// A record by its number.
    pub(crate) fn by_number(&self, number: u64) -> Option<&Arc<Record>> {
        self.records.values().find(|one| one.number == number)
    }

    /// Records that made room for others.
    pub(crate) fn evicted(&self) -> u64 {
        self.evicted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(text: &str) -> New<'_> {
        New {
            database: "shop".into(),
            user: "web".into(),
            text: text.as_bytes(),
            normalised: text.to_owned(),
            class: Class::Query,
        }
    }

    fn run(micros: u64) -> Run {
        Run {
            execute_micros: micros,
            ..Run::default()
        }
    }

    #[test]
    fn whole_texts_are_kept_where_they_are_wanted_and_bounded() {
        let mut table = Table::new(200);
        let scope = table.scope("shop", "web");
        let cut = table.of(scope, 0, || new("SELECT a, …")).expect("kept");
        assert!(!cut.wants_whole(), "it is quick");
        for _ in 0..3 {
            cut.note(run(5000), Ticks(1));
        }
        assert!(cut.wants_whole());
        let whole = format!("SELECT a{} FROM t WHERE b = $1", ", a".repeat(4000));
        table.keep_whole(&cut, whole.clone());
        assert!(!cut.wants_whole() && **cut.sql() == *whole);
        let shown = cut.shown().normalised;
        assert!(
            shown.len() < MOST_SHOWN + 10 && shown.ends_with("WHERE b = $1"),
            "{shown}"
        );
        let short = table.of(scope, 1, || new("SELECT 1")).expect("kept");
        short.repeat();
        assert!(!short.wants_whole(), "nothing is missing");
        for number in 2..200 {
            let record = table.of(scope, number, || new("SELECT …")).expect("kept");
            record.repeat();
            assert!(record.wants_whole());
            table.keep_whole(&record, whole.clone());
            assert!(!record.wants_whole(), "it is asked once");
        }
        assert!(table.whole_bytes <= MOST_WHOLE_BYTES);
        table.set_limit(0);
        assert_eq!(table.whole_bytes, 0);
    }

    #[test]
    fn what_runs_is_counted() {
        let mut table = Table::new(10);
        let scope = table.scope("shop", "web");
        let other = table.scope("shop", "batch");
        let record = table.of(scope, 7, || new("SELECT $1 /*route='a'*/"));
        let record = record.expect("kept");
        for micros in 1..=100 {
            record.note(run(micros * 1000), Ticks(micros));
        }
        record.note(
            Run {
                wait_micros: 5,
                rows: 3,
                has_failed: true,
                ..run(0)
            },
            Ticks(101),
        );
        let again = table.of(scope, 7, || unreachable!("it is there"));
        assert!(Arc::ptr_eq(&again.expect("kept"), &record));
        let state = record.state();
        assert_eq!((state.calls, state.errors, state.rows), (101, 1, 3));
        assert_eq!((state.wait_micros, state.max_micros), (5, 100_000));
        assert_eq!(state.execute_micros, 5_050_000);
        let near = |told: u64, real: u64| told >= real && told * 4 <= real * 5 + 4;
        assert!(near(state.p50_micros, 50_000), "{}", state.p50_micros);
        assert!(near(state.p95_micros, 95_000), "{}", state.p95_micros);
        assert_eq!(state.last, Ticks(101));
        let route = state.origin.and_then(|origin| origin.route);
        assert_eq!(route.as_deref(), Some("a"));
        let foreign = table.of(other, 7, || new("SELECT $1")).expect("kept");
        assert_eq!(foreign.calls.get(), 0);
        assert_eq!(record.since_last_look(), (101, 5_050_000));
        assert_eq!(record.since_last_look(), (0, 0));
    }

    #[test]
    fn the_least_used_makes_room() {
        const LIMIT: usize = 64;
        let mut table = Table::new(LIMIT);
        let scope = table.scope("a", "b");
        let hot = table.of(scope, 1, || new("hot")).expect("kept");
        for number in 2..10_000 {
            hot.note(run(1), Ticks(0));
            let cold = table.of(scope, number, || new("cold")).expect("kept");
            cold.note(run(1), Ticks(0));
            assert!(table.records.len() <= LIMIT);
        }
        assert!(table.by_number(hot.number).is_some(), "it is used most");
        assert!(table.evicted() > 9000, "{}", table.evicted());
        table.set_limit(5);
        assert!(table.all().count() <= 5);
        table.set_limit(0);
        assert_eq!(table.all().count(), 0);
        assert!(table.of(scope, 1, || new("hot")).is_none());
    }

    #[test]
    fn times_fall_into_buckets() {
        for micros in [0, 1, 15, 16, 17, 100, 1000, 65_536, u64::from(u32::MAX)] {
            let bucket = bucket_of(micros);
            assert!(micros < upper_bound(bucket), "{micros}");
            assert!(bucket == 0 || micros >= upper_bound(bucket - 1), "{micros}");
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }
}
