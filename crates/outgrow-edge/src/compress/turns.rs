//! Whose turn it is with the work on one body: the worker's thread's for a little while, then that of the
//! threads which the shelf has. The work is in one place at any time.
//!
//! What it costs here is measured and not foreseen: where a body is decompressed, how long a byte takes is
//! its sender's choice. What was spent is given back by time alone, whatever was waited for meanwhile, so
//! that nobody gets more of it by sending little at a time.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use outgrow_core::{Clock, Ticks};
use tokio::task::yield_now;

use super::shelf::{Shelf, Whose};
use crate::pool::{Task, Ticket};

/// How long the worker's thread may be at one body in one go.
const BUDGET: Duration = Duration::from_micros(150);
/// The part of all time that one body may have of it: one in so many.
const SHARE: u32 = 8;
/// The most that is held against a body: the kernel may have given the processor to others meanwhile.
const MOST_SPENT: Duration = Duration::from_millis(2);
/// The bytes, taken or given, between two looks at the clock.
pub(crate) const SLICE_BYTES: usize = 4 * 1_024;

/// How much is to be done in one go.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Go {
    /// All that there is: by a thread that has nothing else to do.
    All,
    /// On the worker's thread, until then.
    Until(Clock, Ticks),
    /// On the worker's thread, which has no time for it: one slice.
    Slice,
}

impl Go {
    /// The bytes to take, and to give, at most in a step.
    pub(crate) fn step_bytes(self) -> usize {
        match self {
            Self::All => usize::MAX,
            Self::Until(..) | Self::Slice => SLICE_BYTES,
        }
    }

    /// Whether there is to be another step after one.
    pub(crate) fn goes_on(self) -> bool {
        match self {
            Self::All => true,
            Self::Until(clock, until) => clock.now() < until,
            Self::Slice => false,
        }
    }
}

/// Work that can be gone on with here or by a thread.
pub(crate) trait Errand: Send + 'static {
    /// Goes on with what it was given, as far as `go` says, until that is done or there is no room for
    /// what comes of it.
    fn run(&mut self, go: Go);
}

/// All of it, by a thread.
struct Whole<W>(Box<W>);

impl<W: Errand> Task<Box<W>> for Whole<W> {
    fn perform(mut self) -> Box<W> {
        self.0.run(Go::All);
        self.0
    }
}

/// The work on one body.
#[derive(Debug)]
pub(crate) struct Turns<W> {
    shelf: Arc<Shelf>,
    whose: Whose,
    clock: Clock,
    account: Account,
    /// None while a thread has it.
    work: Option<Box<W>>,
    ticket: Option<Ticket<Box<W>>>,
    /// A slice was done here for want of anybody else: others come first, before there is more of it.
    yields: bool,
}

impl<W: Errand> Turns<W> {
    pub(crate) fn new(shelf: &Arc<Shelf>, whose: Whose, clock: Clock, work: W) -> Self {
        Self {
            shelf: Arc::clone(shelf),
            whose,
            clock,
            account: Account::default(),
            work: Some(Box::new(work)),
            ticket: None,
            yields: false,
        }
    }

    /// The work, if it is here; none as well when a thread has lost it.
    pub(crate) fn work(&self) -> Option<&W> {
        self.work.as_deref()
    }

    /// The same, to change it.
    pub(crate) fn work_mut(&mut self) -> Option<&mut W> {
        self.work.as_deref_mut()
    }

    /// Waits until it is this thread's turn; whether another thread was at it until then.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        if std::mem::take(&mut self.yields) {
            ready!(pin!(yield_now()).poll(cx));
        }
        let Some(ticket) = &self.ticket else {
            return Poll::Ready(false);
        };
        self.work = ready!(ticket.poll(cx));
        self.ticket = None;
        Poll::Ready(true)
    }

    /// Whether this thread has time for what is judged to take so long.
    pub(crate) fn has_time_for(&mut self, estimate: Duration) -> bool {
        estimate <= self.account.left(self.clock.now())
    }

    /// Does a part of the work here, for as long as there is time, and no less than one step of it.
    pub(crate) fn here<T>(&mut self, part: impl FnOnce(&mut W, Go) -> T) -> Option<T> {
        let now = self.clock.now();
        let until = now + self.account.left(now);
        self.part(now, Go::Until(self.clock, until), part)
    }

    /// Does one slice of it here although there is no time for it; then others come first.
    pub(crate) fn slice<T>(&mut self, part: impl FnOnce(&mut W, Go) -> T) -> Option<T> {
        self.yields = true;
        self.part(self.clock.now(), Go::Slice, part)
    }

    fn part<T>(&mut self, now: Ticks, go: Go, part: impl FnOnce(&mut W, Go) -> T) -> Option<T> {
        let work = self.work.as_mut()?;
        let outcome = part(work, go);
        self.account.charge(now, self.clock.now());
        Some(outcome)
    }

    /// Lets a thread go on with it; where none has time, a slice of it is done here. Whether it is here.
    pub(crate) fn hand_over(&mut self) -> bool {
        let Some(work) = self.work.take() else {
            return false;
        };
        match self.shelf.submit(self.whose, Whole(work)) {
            Ok(ticket) => {
                self.ticket = Some(ticket);
                false
            }
            Err(Whole(work)) => {
                self.work = Some(work);
                self.slice(W::run).is_some()
            }
        }
    }

    /// Takes the work for good, if it is here.
    pub(crate) fn take(&mut self) -> Option<Box<W>> {
        self.work.take()
    }
}

/// What one body has had of the worker's thread.
#[derive(Clone, Copy, Debug, Default)]
struct Account {
    spent: Duration,
    /// When that was so.
    at: Ticks,
}

impl Account {
    /// What it may have now.
    fn left(&mut self, now: Ticks) -> Duration {
        self.spent = self.spent.saturating_sub(now.since(self.at) / SHARE);
        self.at = now;
        BUDGET.saturating_sub(self.spent)
    }

    /// It had the time between these.
    fn charge(&mut self, from: Ticks, to: Ticks) {
        let spent = self.spent.saturating_add(to.since(from));
        self.spent = spent.min(MOST_SPENT);
        self.at = to;
    }
}

#[cfg(test)]
mod tests {
    use outgrow_message::Ledger;

    use super::*;

    #[test]
    fn time_alone_gives_back_what_was_spent() {
        let micros = |micros: u64| Ticks(micros * 1_000);
        let mut account = Account::default();
        assert_eq!(account.left(micros(1_000)), BUDGET);
        account.charge(micros(1_000), micros(1_100));
        assert_eq!(account.left(micros(1_100)).as_micros(), 50);
        assert_eq!(account.left(micros(1_180)).as_micros(), 60);
        // However often it is asked.
        let asked: Vec<u128> = (1..=8)
            .map(|step| account.left(micros(1_180 + step * 10)).as_micros())
            .collect();
        assert_eq!(asked.last(), Some(&70));
        account.charge(micros(1_260), micros(1_860));
        assert_eq!(account.left(micros(1_860)), Duration::ZERO);
        assert_eq!(account.left(micros(1_860 + 680 * 8)), BUDGET);
        // A thread that did not run for a second owes no eight.
        account.charge(micros(10_000), micros(1_010_000));
        assert_eq!(account.left(micros(1_010_000 + 8 * 2_000)), BUDGET);
    }

    /// Counts what it was told to do.
    #[derive(Debug, Default)]
    struct Steps {
        left: usize,
        slices: usize,
    }

    impl Errand for Steps {
        fn run(&mut self, go: Go) {
            self.slices += usize::from(matches!(go, Go::Slice));
            while self.left > 0 {
                self.left -= 1;
                if !go.goes_on() {
                    return;
                }
            }
        }
    }

    #[test]
    fn where_no_thread_has_time_it_is_done_in_slices_with_others_between_them() {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let runtime = runtime.expect("a runtime");
        let done = |waiting| {
            let shelf = Shelf::with_room(Ledger::new(1 << 20), 1, waiting);
            let work = Steps {
                left: 3,
                ..Steps::default()
            };
            let mut turns = Turns::new(&shelf, Whose::Requests, Clock::start(), work);
            let mut pauses = 0;
            runtime.block_on(std::future::poll_fn(|cx| {
                loop {
                    let turn = turns.poll(cx);
                    pauses += usize::from(turn.is_pending());
                    ready!(turn);
                    let work = turns.work().expect("it is here");
                    if work.left == 0 {
                        return Poll::Ready(());
                    }
                    turns.hand_over();
                }
            }));
            (turns.work().expect("it is here").slices, pauses)
        };
        assert_eq!(done(0), (3, 3));
        let (slices, pauses) = done(8);
        assert_eq!(slices, 0);
        assert!(pauses <= 1, "{pauses}");
    }

    #[test]
    fn who_has_spent_its_time_is_left_one_step() {
        let shelf = Shelf::new(Ledger::new(1 << 20), 1);
        let work = Steps {
            left: 1_000_000_000,
            ..Steps::default()
        };
        let mut turns = Turns::new(&shelf, Whose::Requests, Clock::start(), work);
        assert!(turns.has_time_for(BUDGET));
        turns.here(Steps::run);
        let left = turns.work().expect("it is here").left;
        assert!(left > 0 && left < 1_000_000_000, "{left}");
        (turns.account.spent, turns.account.at) = (BUDGET, Ticks::NEVER);
        assert!(!turns.has_time_for(Duration::from_nanos(1)));
        turns.account.at = Ticks::NEVER;
        let before = turns.work().expect("it is here").left;
        turns.here(Steps::run);
        assert_eq!(turns.work().expect("it is here").left, before - 1);
    }
}
