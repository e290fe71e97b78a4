//! Whose turn it is with the work on one body: the worker's thread's for a little while, then that of the
//! threads which the shelf has. The work is in one place at any time. Where as much waits for the threads as
//! may, it waits as well, and nobody works on it meanwhile.
//!
//! What it costs here is measured and not foreseen: where a body is decompressed, how long a byte takes is
//! its sender's choice. What was spent is given back by time alone, whatever was waited for meanwhile, so
//! that nobody gets more of it by sending little at a time. All bodies of requests together have a part of
//! the worker's time, too; those of responses have not, since what they cost is foreseen.

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use outgrow_core::{Clock, Ticks};
use outgrow_message::{Block, Blocks, Need};
use tokio::task::yield_now;

use super::room::Held;
use super::shelf::{Line, Shelf};
use crate::pool::{Place, Task, Ticket};

/// What one body may have of the worker's thread: so long in one go, and one in so many of all time.
const OF_BODY: Share = Share(Duration::from_micros(150), 8);
/// The same for all bodies of requests together.
const OF_REQUESTS: Share = Share(Duration::from_micros(600), 4);
/// The most that is held against somebody: the kernel may have given the processor to others meanwhile.
const MOST_SPENT: Duration = Duration::from_millis(2);
/// How long the worker's thread is at a body for which it has no time, and which nobody else can take.
const SLICE_TIME: Duration = Duration::from_micros(30);
/// The bytes, taken or given, between two looks at the clock.
const SLICE_BYTES: usize = 4 * 1_024;
/// How long a thread is at a body before it is another one's turn, and the bytes between its looks at the
/// clock. A step of Brotli's may take longer: it fills its window first.
const THREAD_TIME: Duration = Duration::from_millis(2);
const THREAD_BYTES: usize = 16 * 1_024;
/// The most that is given to a thread at a time: a block of this class, 64 KiB.
const PIECE_CLASS: usize = 1;

/// What all bodies of one worker share.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(super) shelf: Arc<Shelf>,
    pub(crate) blocks: Arc<Blocks>,
    clock: Clock,
    /// What all bodies of requests have had of its thread.
    requests: Arc<Mutex<Account>>,
}

impl Desk {
    /// Of a worker with these buffers.
    pub(crate) fn new(shelf: Arc<Shelf>, blocks: Arc<Blocks>, clock: Clock) -> Arc<Self> {
        let requests = Arc::new(Mutex::new(Account::new(OF_REQUESTS)));
        Arc::new(Self {
            shelf,
            blocks,
            clock,
            requests,
        })
    }

    /// The turns of a response that is compressed.
    pub(super) fn response<W: Errand>(&self, work: W) -> Turns<W> {
        Turns::new(self.shelf.line_of_responses(), self.clock, None, work)
    }

    /// The turns of a request that is decompressed for `client`.
    pub(crate) fn request<W: Errand>(&self, client: IpAddr, work: W) -> Turns<W> {
        let all = Some(Arc::clone(&self.requests));
        Turns::new(self.shelf.line_of(client), self.clock, all, work)
    }

    /// The time by which turns are measured.
    pub(crate) fn now(&self) -> Ticks {
        self.clock.now()
    }

    /// What counts for a decompressor of `client`'s, which has nothing yet.
    pub(crate) fn decoder(&self, client: IpAddr) -> Held {
        self.shelf.decoder(client)
    }

    /// A copy of the beginning of `data` for a thread to work on, and how much it is; none where there is no
    /// memory for it.
    pub(crate) fn copy(&self, data: &[u8]) -> Option<(Block, usize)> {
        let mut piece = self.blocks.take_up_to(PIECE_CLASS, Need::Usual)?;
        let count = data.len().min(piece.len());
        piece[..count].copy_from_slice(&data[..count]);
        Some((piece, count))
    }

    /// A place for what comes of a body; none where there is no memory for it.
    pub(crate) fn place(&self) -> Option<Block> {
        self.blocks.take_up_to(PIECE_CLASS, Need::Usual)
    }
}

#[cfg(test)]
impl Desk {
    /// Has a thread that decompresses do something else, for `client`.
    pub(crate) fn occupy(&self, client: IpAddr, work: impl FnOnce() + Send + 'static) {
        let line = self.shelf.line_of(client);
        let ticket = line.push(line.place().expect("a place"), work);
        // Kept: what nobody waits for is not begun.
        std::mem::forget(ticket.ok().expect("a thread"));
    }

    /// Uses up the time of all requests for good.
    pub(crate) fn spend(&self) {
        spend(&mut locked(&self.requests));
    }
}

/// Uses up an account for good.
#[cfg(test)]
fn spend(account: &mut Account) {
    account.share.0 = Duration::ZERO;
}

/// How much is to be done in one go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Go {
    clock: Clock,
    until: Ticks,
    /// The bytes to take, and to give, at most in a step.
    pub(crate) step_bytes: usize,
}

impl Go {
    fn new(clock: Clock, time: Duration, step_bytes: usize) -> Self {
        let until = clock.now() + time;
        Self {
            clock,
            until,
            step_bytes,
        }
    }

    /// Whether there is to be another step after one.
    pub(crate) fn goes_on(self) -> bool {
        self.clock.now() < self.until
    }
}

/// Work that can be gone on with here or by a thread.
pub(crate) trait Errand: Send + 'static {
    /// Goes on with what it was given, as far as `go` says, until that is done or there is no room for
    /// what comes of it.
    fn run(&mut self, go: Go);
}

/// What a thread is given.
struct Given<W>(Box<W>, Clock);

impl<W: Errand> Task<Box<W>> for Given<W> {
    fn perform(mut self) -> Box<W> {
        self.0.run(Go::new(self.1, THREAD_TIME, THREAD_BYTES));
        self.0
    }
}

/// The work on one body.
#[derive(Debug)]
pub(crate) struct Turns<W> {
    line: Line,
    clock: Clock,
    account: Account,
    /// The account of all bodies of its kind, where they have one.
    all: Option<Arc<Mutex<Account>>>,
    /// None while a thread has it.
    work: Option<Box<W>>,
    ticket: Option<Ticket<Box<W>>>,
    /// A place to wait for a thread in.
    place: Option<Place>,
    /// It waits for one.
    asked: Option<Ticket<Place>>,
    /// A slice was done here for want of anybody else: others come first, before there is more of it.
    yields: bool,
}

impl<W: Errand> Turns<W> {
    fn new(line: Line, clock: Clock, all: Option<Arc<Mutex<Account>>>, work: W) -> Self {
        Self {
            line,
            clock,
            account: Account::new(OF_BODY),
            all,
            work: Some(Box::new(work)),
            ticket: None,
            place: None,
            asked: None,
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

    /// What this thread has time for now.
    fn left(&mut self, now: Ticks) -> Duration {
        let own = self.account.left(now);
        match &self.all {
            Some(all) => own.min(locked(all).left(now)),
            None => own,
        }
    }

    /// Whether this thread has time for what is judged to take so long.
    pub(crate) fn has_time_for(&mut self, estimate: Duration) -> bool {
        let now = self.clock.now();
        estimate <= self.left(now)
    }

    /// Does a part of the work here, for as long as there is time, and no less than one step of it.
    pub(crate) fn here<T>(&mut self, part: impl FnOnce(&mut W, Go) -> T) -> Option<T> {
        self.leave_line();
        let now = self.clock.now();
        let time = self.left(now);
        self.part(now, time, part)
    }

    /// Does a little of it here although there is no time for it; then others come first.
    pub(crate) fn slice<T>(&mut self, part: impl FnOnce(&mut W, Go) -> T) -> Option<T> {
        self.leave_line();
        self.yields = true;
        self.part(self.clock.now(), SLICE_TIME, part)
    }

    fn part<T>(
        &mut self,
        now: Ticks,
        time: Duration,
        part: impl FnOnce(&mut W, Go) -> T,
    ) -> Option<T> {
        let work = self.work.as_mut()?;
        let outcome = part(work, Go::new(self.clock, time, SLICE_BYTES));
        let then = self.clock.now();
        self.account.charge(now, then);
        if let Some(all) = &self.all {
            locked(all).charge(now, then);
        }
        Some(outcome)
    }

    /// Waits until it may wait for a thread: until less waits for them already.
    pub(crate) fn poll_line(&mut self, cx: &Context<'_>) -> Poll<()> {
        while self.place.is_none() {
            if let Some(asked) = &self.asked {
                self.place = ready!(asked.poll(cx));
                self.asked = None;
                continue;
            }
            match self.line.place() {
                Ok(place) => self.place = Some(place),
                Err(asked) => self.asked = Some(asked),
            }
        }
        Poll::Ready(())
    }

    /// Lets others have its place in line, and does not wait for one: nothing is to be handed over for now.
    pub(crate) fn leave_line(&mut self) {
        (self.place, self.asked) = (None, None);
    }

    /// Whether it waits for a place in line.
    pub(crate) fn is_outside(&self) -> bool {
        self.asked.is_some()
    }

    /// Has nothing more done: drops the work, if it is here, or has it dropped by whoever has it.
    pub(crate) fn give_up(&mut self) {
        self.leave_line();
        (self.work, self.ticket) = (None, None);
    }

    /// Whether threads are waited for, or have it.
    pub(crate) fn waits_for_threads(&self) -> bool {
        self.ticket.is_some() || self.asked.is_some()
    }

    /// Lets a thread go on with it; whether there is one. To be called when [`Turns::poll_line`] is ready.
    pub(crate) fn hand_over(&mut self) -> bool {
        let Some(place) = self.place.take() else {
            return false;
        };
        let Some(work) = self.work.take() else {
            return false;
        };
        match self.line.push(place, Given(work, self.clock)) {
            Ok(ticket) => self.ticket = Some(ticket),
            Err(Given(work, _)) => self.work = Some(work),
        }
        self.ticket.is_some()
    }

    /// Takes the work for good, if it is here.
    pub(crate) fn take(&mut self) -> Option<Box<W>> {
        self.work.take()
    }
}

fn locked(account: &Mutex<Account>) -> MutexGuard<'_, Account> {
    account.lock().unwrap_or_else(PoisonError::into_inner)
}

/// So long in one go, and one in so many of all time.
#[derive(Clone, Copy, Debug)]
struct Share(Duration, u32);

/// What was had of the worker's thread.
#[derive(Clone, Copy, Debug)]
struct Account {
    share: Share,
    spent: Duration,
    /// When that was so.
    at: Ticks,
}

impl Account {
    fn new(share: Share) -> Self {
        Self {
            share,
            spent: Duration::ZERO,
            at: Ticks::ZERO,
        }
    }

    /// What may be had now.
    fn left(&mut self, now: Ticks) -> Duration {
        let Share(budget, part) = self.share;
        self.spent = self.spent.saturating_sub(now.since(self.at) / part);
        self.at = now;
        budget.saturating_sub(self.spent)
    }

    /// The time between these was had.
    fn charge(&mut self, from: Ticks, to: Ticks) {
        let spent = self.spent.saturating_add(to.since(from));
        self.spent = spent.min(MOST_SPENT);
        self.at = to;
    }
}
