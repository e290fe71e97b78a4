//! What a connection to a server is doing: which statements are under way on it, since when, and
//! whose silence follows. Pure: events and times in, records and a small shared cell out.
//!
//! Statements are executed one after the other. A series is what one ReadyForQuery ends; statements
//! of a series that follow an error are not executed. The time of a statement runs from the end of the
//! one before (or from when the first was sent) to its own end. A server keeps the answers of a series
//! back until it ends or a buffer is full: those that come in one breath share their time, as nobody
//! can tell how much each had; what only begins and ends transactions and the like gets none of it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU64, Ordering};

use outgrow_core::Ticks;
use outgrow_core::serving::Sample;

use super::statements::{Class, Record, Run};
use crate::wire::backend;

/// Most statements that are followed at a time on a connection; those beyond are not counted.
const MOST_UNDER_WAY: usize = 1024;

/// Of so many of them it is noted at most which routes are in flight as they begin.
const MOST_SAMPLED: usize = 4;

/// What a connection that is lent does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// Nothing, outside of transactions.
    AtRest,
    /// A statement is executed.
    Executing,
    /// The client is silent in a transaction.
    IdleInTransaction,
}

/// That, for readers on other threads: each value by itself is right.
#[derive(Debug, Default)]
pub(crate) struct Doing {
    phase: AtomicU8,
    since: AtomicU64,
    /// When the transaction began; 0: there is none.
    transaction: AtomicU64,
    /// The number of the record of the statement, or of the last one; 0: not known.
    record: AtomicU64,
    pins: AtomicU16,
}

/// A reading of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) phase: Phase,
    pub(crate) since: Ticks,
    pub(crate) transaction: Option<Ticks>,
    pub(crate) record: u64,
    pub(crate) pins: u16,
}

impl Doing {
    fn set(&self, phase: Phase, since: Ticks) {
        self.since.store(since.0, Ordering::Relaxed);
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// Says why the client must keep the connection, by the bits of [`crate::sql::facts::Pins`].
    pub(crate) fn set_pins(&self, pins: u16) {
        self.pins.store(pins, Ordering::Relaxed);
    }

    /// What it is now.
    pub(crate) fn read(&self) -> Done {
        let transaction = self.transaction.load(Ordering::Relaxed);
        Done {
            phase: match self.phase.load(Ordering::Relaxed) {
                0 => Phase::AtRest,
                1 => Phase::Executing,
                _ => Phase::IdleInTransaction,
            },
            since: Ticks(self.since.load(Ordering::Relaxed)),
            transaction: (transaction != 0).then_some(Ticks(transaction)),
            record: self.record.load(Ordering::Relaxed),
            pins: self.pins.load(Ordering::Relaxed),
        }
    }
}

/// Ends that are not further apart came in one breath.
const BREATH_MICROS: u64 = 100;

#[derive(Debug)]
struct UnderWay {
    record: Arc<Record>,
    series: u32,
    rows: u64,
    has_failed: bool,
    /// When it ended, where another one of its series follows.
    ended: Option<Ticks>,
    /// Whether its rows are looked at.
    is_sampled: bool,
}

/// What is under way on a connection.
#[derive(Debug)]
pub(crate) struct Watch {
    doing: Arc<Doing>,
    under_way: VecDeque<UnderWay>,
    /// How many of those have ended, with their series still under way.
    ended: usize,
    /// The series that is being sent, and the one whose end is awaited.
    asked: u32,
    answered: u32,
    /// Since when the first one under way is executed.
    began: Ticks,
    /// How long the client waited for the connection: the next statement's.
    waited_micros: u64,
    /// The last one that was executed in the transaction.
    last: Option<Arc<Record>>,
    /// Whether there is one among them whose rows are looked at.
    samples: bool,
    idle_since: Option<Ticks>,
}

/// A statement that has ended, with its rows, for who looks at what follows on what.
pub(crate) type Ended = (Arc<Record>, u64);

impl Watch {
    /// Of a connection on which nothing is under way.
    pub(crate) fn new(doing: Arc<Doing>) -> Self {
        Self {
            doing,
            under_way: VecDeque::new(),
            ended: 0,
            asked: 0,
            answered: 0,
            began: Ticks(0),
            waited_micros: 0,
            last: None,
            samples: false,
            idle_since: None,
        }
    }

    /// It is lent to a client that has waited so long for it.
    pub(crate) fn lend(&mut self, waited_micros: u64, now: Ticks) {
        self.forget();
        self.began = now;
        self.waited_micros = waited_micros;
        self.doing.record.store(0, Ordering::Relaxed);
        self.doing.transaction.store(0, Ordering::Relaxed);
        self.doing.set_pins(0);
        self.doing.set(Phase::AtRest, now);
    }

    fn forget(&mut self) {
        self.under_way.clear();
        self.ended = 0;
        self.answered = self.asked;
        self.last = None;
        self.samples = false;
        self.idle_since = None;
        self.waited_micros = 0;
    }

    /// Whether the rows that come now are to be looked at.
    #[inline]
    pub(crate) fn takes_rows(&self) -> bool {
        let running = || self.under_way.get(self.ended);
        self.samples && running().is_some_and(|one| one.is_sampled)
    }

    /// A statement is to be sent; whether its rows are to be looked at.
    #[inline]
    pub(crate) fn ask(&mut self, record: Arc<Record>, is_sampled: bool) {
        self.samples |= is_sampled;
        if self.under_way.len() < MOST_UNDER_WAY {
            self.under_way.push_back(UnderWay {
                record,
                series: self.asked,
                rows: 0,
                has_failed: false,
                ended: None,
                is_sampled,
            });
        }
    }

    /// A simple query is to be sent, whatever is known of it: it is a series by itself.
    #[inline]
    pub(crate) fn ask_alone(&mut self, record: Option<Arc<Record>>, is_sampled: bool) {
        if let Some(record) = record {
            self.ask(record, is_sampled);
        }
        self.end_series();
    }

    /// What ends a series is to be sent.
    #[inline]
    pub(crate) fn end_series(&mut self) {
        self.asked = self.asked.wrapping_add(1);
    }

    /// The first messages are sent to a server that waited for them.
    #[inline]
    pub(crate) fn begin(&mut self, now: Ticks) {
        self.charge_silence(now);
        self.began = now;
        let record = self.under_way.front().map_or(0, |one| one.record.number);
        if record != 0 {
            self.doing.record.store(record, Ordering::Relaxed);
        }
        if self.doing.transaction.load(Ordering::Relaxed) == 0 {
            self.doing.transaction.store(now.0, Ordering::Relaxed);
        }
        self.doing.set(Phase::Executing, now);
    }

    /// Takes note of the routes in flight as what is under way begins, where it is time to.
    #[inline]
    pub(crate) fn sample(&self, now: Ticks, routes: impl Fn() -> Option<Sample>) {
        for one in self.under_way.iter().take(MOST_SAMPLED) {
            if one.record.is_sample_due(now)
                && let Some(routes) = routes()
            {
                one.record.put_sample(&routes, now);
            }
        }
    }

    fn charge_silence(&mut self, now: Ticks) {
        if let (Some(since), Some(last)) = (self.idle_since.take(), &self.last) {
            last.idle_micros.add(now.micros_since(since));
        }
    }

    /// A message of the server to the client. `now` is asked only when another statement follows in
    /// the same breath.
    #[inline]
    pub(crate) fn hear(&mut self, tag: u8, body: &[u8], now: impl FnOnce() -> Ticks) {
        match tag {
            backend::COMMAND_COMPLETE => self.complete(rows_of(body), now),
            backend::PORTAL_SUSPENDED | backend::EMPTY_QUERY_RESPONSE => self.complete(0, now),
            backend::ERROR_RESPONSE => {
                if let Some(running) = self.under_way.get_mut(self.ended) {
                    running.has_failed = true;
                }
            }
            _ => {}
        }
    }

    fn complete(&mut self, rows: u64, now: impl FnOnce() -> Ticks) {
        let follows = self.under_way.get(self.ended + 1);
        let follows = follows.map(|next| (next.series, next.record.number));
        let Some(running) = self.under_way.get_mut(self.ended) else {
            return;
        };
        running.rows += rows;
        // A simple query is alone in its series, however many statements it has.
        if let Some((series, next)) = follows
            && series == running.series
        {
            running.ended = Some(now());
            self.ended += 1;
            self.doing.record.store(next, Ordering::Relaxed);
        }
    }

    /// Takes the statements of a series that were executed, which has ended now, into account. Gives
    /// the last one.
    fn settle(&mut self, series: u32, now: Ticks) -> Option<Ended> {
        if self.under_way.len() == 1 && self.ended == 0 {
            return self.settle_only(series, now);
        }
        let mut executed = 0;
        for one in &mut self.under_way {
            if one.series != series || executed > self.ended {
                break;
            }
            executed += 1;
            one.ended.get_or_insert(now);
        }
        self.ended = 0;
        let mut last = None;
        while executed > 0 {
            let breath = self.breath(executed);
            last = self.settle_breath(breath).or(last);
            executed -= breath;
        }
        last
    }

    /// The same of the only one under way: all of the time is its own.
    #[inline]
    fn settle_only(&mut self, series: u32, now: Ticks) -> Option<Ended> {
        if self.under_way.front()?.series != series {
            return None;
        }
        let one = self.under_way.pop_front()?;
        let end = one.ended.unwrap_or(now);
        let run = Run {
            wait_micros: std::mem::take(&mut self.waited_micros),
            execute_micros: end.micros_since(self.began),
            rows: one.rows,
            has_failed: one.has_failed,
        };
        one.record.note(run, end);
        self.began = end;
        self.last = Some(Arc::clone(&one.record));
        Some((one.record, one.rows))
    }

    /// How many of the first `most` statements ended in one breath.
    fn breath(&self, most: usize) -> usize {
        let ends = self.under_way.iter().filter_map(|one| one.ended).take(most);
        let mut previous = None;
        ends.take_while(|&end| {
            let before = previous.replace(end);
            before.is_none_or(|before: Ticks| end.micros_since(before) <= BREATH_MICROS)
        })
        .count()
        .max(1)
    }

    /// Takes so many statements into account that share their time.
    fn settle_breath(&mut self, count: usize) -> Option<Ended> {
        let all = self.under_way.iter().take(count);
        let counted = all.filter(|one| one.record.class != Class::Other).count();
        let share = |one: &UnderWay| counted == 0 || one.record.class != Class::Other;
        let sharers = if counted == 0 { count } else { counted };
        let end = self.under_way.get(count.checked_sub(1)?)?.ended?;
        let micros = end.micros_since(self.began);
        let mut last = None;
        for one in self.under_way.drain(..count) {
            let execute_micros = if share(&one) {
                micros / sharers as u64
            } else {
                0
            };
            let run = Run {
                wait_micros: std::mem::take(&mut self.waited_micros),
                execute_micros,
                rows: one.rows,
                has_failed: one.has_failed,
            };
            one.record.note(run, end);
            last = Some((one.record, one.rows));
        }
        self.began = end;
        self.last = last.as_ref().map(|(record, _)| Arc::clone(record));
        last
    }

    /// A series has ended. `is_inside`: a transaction is open; `is_last`: nothing more is due. Gives
    /// the series' last statement.
    #[inline]
    pub(crate) fn ready(&mut self, now: Ticks, is_inside: bool, is_last: bool) -> Option<Ended> {
        let series = self.answered;
        self.answered = series.wrapping_add(1);
        let ended = self.settle(series, now);
        // What followed an error was not executed.
        while self
            .under_way
            .front()
            .is_some_and(|one| one.series == series)
        {
            self.under_way.pop_front();
        }
        if is_last {
            // Whatever was miscounted (Syncs that a COPY swallows) ends here.
            self.under_way.clear();
            self.samples = false;
            self.answered = self.asked;
            if is_inside {
                self.idle_since = Some(now);
                self.doing.set(Phase::IdleInTransaction, now);
            } else {
                self.last = None;
                self.doing.set(Phase::AtRest, now);
            }
        }
        if !is_inside {
            self.doing.transaction.store(0, Ordering::Relaxed);
        }
        ended
    }

    /// The client or the server is gone: what is under way counts as failed, silence is charged.
    pub(crate) fn abandon(&mut self, now: Ticks) {
        self.charge_silence(now);
        if let Some(running) = self.under_way.get_mut(self.ended) {
            running.has_failed = true;
        }
        if let Some(series) = self.under_way.front().map(|one| one.series) {
            self.settle(series, now);
        }
        self.forget();
    }
}

/// The number of rows in the tag of a CommandComplete: `SELECT 5`, `INSERT 0 5`.
#[inline]
fn rows_of(body: &[u8]) -> u64 {
    let tag = body.strip_suffix(b"\0").unwrap_or(body);
    let mut rows = 0_u64;
    let mut unit = 1_u64;
    for &byte in tag.iter().rev().take(19) {
        match byte {
            b'0'..=b'9' => {
                rows += u64::from(byte - b'0') * unit;
                unit *= 10;
            }
            b' ' => return rows,
            _ => return 0,
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::super::statements::{New, Table};
    use super::*;

    fn record(table: &mut Table, text: &str) -> Arc<Record> {
        let scope = table.scope("d", "u");
        let fingerprint = text.bytes().fold(1, |sum, byte| sum * 31 + u64::from(byte));
        let new = || New {
            database: "d".into(),
            user: "u".into(),
            text: text.as_bytes(),
            normalised: text.to_owned(),
            class: if text == "BEGIN" {
                Class::Other
            } else {
                Class::Query
            },
        };
        table.of(scope, fingerprint, new).expect("kept")
    }

    /// Words: a letter asks for its statement, `;` ends a series, `>` sends, `+n` lets n µs pass,
    /// `C` completes with 2 rows, `E` fails, `Z` is ready (`T`: in a transaction), `x` abandons.
    /// Then calls, errors, rows, wait, execute and idle of each.
    fn check(script: &str, expected: &[(&str, [u64; 6])]) {
        let mut table = Table::new(10);
        let doing = Arc::new(Doing::default());
        let mut watch = Watch::new(Arc::clone(&doing));
        let mut now = 1_000_000;
        watch.lend(7, Ticks(now));
        for word in script.split(' ') {
            let at = Ticks(now * 1000);
            match word {
                ";" => watch.end_series(),
                ">" => watch.begin(at),
                "C" => watch.hear(backend::COMMAND_COMPLETE, b"SELECT 2\0", || at),
                "E" => watch.hear(backend::ERROR_RESPONSE, b"", || at),
                "Z" | "T" => {
                    let is_last = watch.asked == watch.answered.wrapping_add(1);
                    watch.ready(at, word == "T", is_last);
                }
                "x" => watch.abandon(at),
                _ => match word.strip_prefix('+') {
                    Some(micros) => now += micros.parse::<u64>().expect("a number"),
                    None => watch.ask(record(&mut table, word), false),
                },
            }
        }
        for (text, numbers) in expected {
            let state = record(&mut table, text).state();
            let told = [
                state.calls,
                state.errors,
                state.rows,
                state.wait_micros,
                state.execute_micros,
                state.idle_micros,
            ];
            assert_eq!(told, *numbers, "{script}: {text}");
        }
    }

    #[test]
    fn time_is_split() {
        check("a ; > +50 C +1 Z", &[("a", [1, 0, 2, 7, 51, 0])]);
        // A simple query of several statements is one.
        check("a ; > +50 C C C Z", &[("a", [1, 0, 6, 7, 50, 0])]);
        // The client's silence in a transaction.
        check(
            "b ; > +1 C T +100 a ; > +10 C T +200 c ; > +5 C Z +999",
            &[
                ("b", [1, 0, 2, 7, 1, 100]),
                ("a", [1, 0, 2, 0, 10, 200]),
                ("c", [1, 0, 2, 0, 5, 0]),
            ],
        );
        check("a ; > +10 C T +90 x", &[("a", [1, 0, 2, 7, 10, 90])]);
    }

    #[test]
    fn series_are_divided() {
        // Three statements in one series, each from the end of the one before.
        check(
            "b a c ; > +1000 C +2000 C +3000 C +1 Z",
            &[
                ("b", [1, 0, 2, 7, 1000, 0]),
                ("a", [1, 0, 2, 0, 2000, 0]),
                ("c", [1, 0, 2, 0, 3001, 0]),
            ],
        );
        // In one breath: nobody knows which took how long. What begins a transaction takes none.
        check(
            "BEGIN a c ; > +1000 C C C +1 Z",
            &[
                ("BEGIN", [1, 0, 2, 7, 0, 0]),
                ("a", [1, 0, 2, 0, 500, 0]),
                ("c", [1, 0, 2, 0, 500, 0]),
            ],
        );
        // Two series, sent at once.
        check(
            "a ; b ; > +10 C Z +20 C Z",
            &[("a", [1, 0, 2, 7, 10, 0]), ("b", [1, 0, 2, 0, 20, 0])],
        );
        // What follows an error is not executed; the next series is.
        check(
            "a b c ; a ; > +1000 C +500 E Z +300 C Z",
            &[
                ("a", [2, 0, 4, 7, 1300, 0]),
                ("b", [1, 1, 0, 0, 500, 0]),
                ("c", [0; 6]),
            ],
        );
        check("a ; > +9 x", &[("a", [1, 1, 0, 7, 9, 0])]);
        // A Sync that a COPY swallowed: nothing is left of it.
        check(
            "a ; ; > +5 C Z +1 x a ; > +5 C Z",
            &[("a", [2, 0, 4, 7, 10, 0])],
        );
    }

    #[test]
    fn others_see_what_is_done() {
        let mut table = Table::new(10);
        let doing = Arc::new(Doing::default());
        let mut watch = Watch::new(Arc::clone(&doing));
        watch.lend(0, Ticks(5));
        assert_eq!(doing.read().phase, Phase::AtRest);
        let a = record(&mut table, "a");
        watch.ask(Arc::clone(&a), true);
        assert!(watch.takes_rows());
        watch.end_series();
        watch.begin(Ticks(10));
        let done = doing.read();
        assert_eq!((done.phase, done.since), (Phase::Executing, Ticks(10)));
        assert_eq!((done.transaction, done.record), (Some(Ticks(10)), a.number));
        watch.ready(Ticks(20), true, true);
        let done = doing.read();
        assert_eq!(done.phase, Phase::IdleInTransaction);
        assert_eq!((done.since, done.record), (Ticks(20), a.number));
        watch.begin(Ticks(30));
        watch.ready(Ticks(40), false, true);
        let done = doing.read();
        assert_eq!((done.phase, done.transaction), (Phase::AtRest, None));
    }

    #[test]
    fn tags_tell_rows() {
        let check = |tag: &str, rows: u64| assert_eq!(rows_of(tag.as_bytes()), rows, "{tag}");
        check("SELECT 5\0", 5);
        check("INSERT 0 12\0", 12);
        check("UPDATE 0\0", 0);
        check("BEGIN\0", 0);
        check("CREATE TABLE\0", 0);
        check("SELECT 99999999999999999999999\0", 0);
        check("\0", 0);
        check("", 0);
    }
}
