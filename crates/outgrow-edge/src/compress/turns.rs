//! Whose turn it is with the work on one body: the worker's thread's for a little while, then that of the
//! threads which the shelf has. The work is in one place at any time. Where as much waits for the threads as
//! may, it waits as well, and nobody works on it meanwhile.
//!
//! What it costs here is measured and not foreseen: where a body is decompressed, how long a byte takes is
//! its sender's choice. What was spent is given back by time alone, whatever was waited for meanwhile, so
//! that nobody gets more of it by sending little at a time. All bodies of requests together have a part of
//! the worker's time, too; those of responses have not, since what they cost is foreseen.

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
use crate::pool::{Task, Ticket};

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

    /// What counts for a decompressor of `client`'s, which has nothing yet.
    pub(crate) fn hold_decoder(&self, client: IpAddr) -> Option<Held> {
        self.shelf.hold_decoder(0, client)
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
        let ticket = self.shelf.line_of(client).push(work);
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
    /// Tells when it may wait for a thread.
    room: Option<Ticket<()>>,
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
            room: None,
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
        let now = self.clock.now();
        let time = self.left(now);
        self.part(now, time, part)
    }

    /// Does a little of it here although there is no time for it; then others come first.
    pub(crate) fn slice<T>(&mut self, part: impl FnOnce(&mut W, Go) -> T) -> Option<T> {
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
        loop {
            if let Some(room) = &self.room {
                ready!(room.poll(cx));
            }
            self.room = self.line.room();
            if self.room.is_none() {
                return Poll::Ready(());
            }
        }
    }

    /// Lets a thread go on with it; whether there is one. To be called when [`Turns::poll_line`] is ready.
    pub(crate) fn hand_over(&mut self) -> bool {
        let Some(work) = self.work.take() else {
            return false;
        };
        match self.line.push(Given(work, self.clock)) {
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use outgrow_message::Ledger;

    use super::*;

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    #[test]
    fn time_alone_gives_back_what_was_spent() {
        let micros = |micros: u64| Ticks(micros * 1_000);
        let Share(budget, _) = OF_BODY;
        let mut account = Account::new(OF_BODY);
        assert_eq!(account.left(micros(1_000)), budget);
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
        assert_eq!(account.left(micros(1_860 + 680 * 8)), budget);
        // A thread that did not run for a second owes no eight.
        account.charge(micros(10_000), micros(1_010_000));
        assert_eq!(account.left(micros(1_010_000 + 8 * 2_000)), budget);
    }

    /// Counts what it was told to do.
    #[derive(Debug, Default)]
    struct Steps {
        left: usize,
    }

    impl Errand for Steps {
        fn run(&mut self, go: Go) {
            while self.left > 0 {
                self.left -= 1;
                if !go.goes_on() {
                    return;
                }
            }
        }
    }

    fn desk() -> Arc<Desk> {
        let ledger = Ledger::new(1 << 20);
        let shelf = Shelf::new(Arc::clone(&ledger), 1);
        Desk::new(shelf, Blocks::new(ledger), Clock::start())
    }

    #[test]
    fn who_has_spent_its_time_is_left_one_step() {
        let mut turns = desk().response(Steps { left: 1 << 40 });
        assert!(turns.has_time_for(OF_BODY.0));
        turns.here(Steps::run);
        let left = turns.work().expect("it is here").left;
        assert!(left < 1 << 40, "{left}");
        spend(&mut turns.account);
        assert!(!turns.has_time_for(Duration::from_nanos(1)));
        let before = turns.work().expect("it is here").left;
        turns.here(Steps::run);
        assert_eq!(turns.work().expect("it is here").left, before - 1);
    }

    /// However many bodies a client sends: what one has had is held against the next.
    #[test]
    fn all_requests_together_have_a_part_of_the_time() {
        let desk = desk();
        let mut first = desk.request(CLIENT, Steps { left: 100 });
        assert!(first.has_time_for(OF_BODY.0));
        first.here(Steps::run);
        assert!(
            locked(&desk.requests).spent > Duration::ZERO,
            "it is charged"
        );
        let others = [2, 3].map(|number| {
            let client = IpAddr::from([192, 0, 2, number]);
            desk.request(client, Steps { left: 100 })
        });
        desk.spend();
        for mut turns in others {
            assert!(!turns.has_time_for(Duration::from_nanos(1)));
            turns.here(Steps::run);
            assert_eq!(turns.work().expect("it is here").left, 99);
        }
        let mut response = desk.response(Steps { left: 100 });
        assert!(response.has_time_for(OF_BODY.0), "what is foreseen");
        // A quarter of the time comes back.
        let mut all = Account::new(OF_REQUESTS);
        all.charge(Ticks(0), Ticks(600_000));
        assert_eq!(all.left(Ticks(1_000_000)), Duration::from_micros(100));
    }

    /// One who has sent much waits for its own, and others do not.
    #[test]
    fn each_client_has_a_line_of_its_own() {
        let desk = desk();
        let (release, held) = mpsc::channel::<()>();
        let blocked = desk.shelf.line_of(IpAddr::from([192, 0, 2, 9]));
        let blocked = blocked.push(move || held.recv().is_ok());
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let begin = |client| {
            let mut turns = desk.request(client, Steps { left: 1 });
            let is_in = turns.poll_line(&cx).is_ready() && turns.hand_over();
            (turns, is_in)
        };
        let mut all: Vec<_> = (0..12).map(|_| begin(CLIENT)).collect();
        let waiting = all.iter().filter(|(_, is_in)| *is_in).count();
        assert_eq!(waiting, 8);
        let other = begin(IpAddr::from([192, 0, 2, 2]));
        assert!(other.1);
        let mut response = desk.response(Steps { left: 1 });
        assert!(response.poll_line(&cx).is_ready() && response.hand_over());
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let runtime = runtime.expect("a runtime");
        // The threads of responses are others.
        assert!(runtime.block_on(std::future::poll_fn(|cx| response.poll(cx))));
        assert!(all[11].0.poll_line(&cx).is_pending());
        assert!(all[0].0.poll(&mut cx).is_pending());
        release.send(()).expect("the thread waits");
        all.push(other);
        for (mut turns, is_in) in all {
            runtime.block_on(std::future::poll_fn(|cx| {
                if !is_in && turns.ticket.is_none() {
                    ready!(turns.poll_line(cx));
                    assert!(turns.hand_over());
                }
                turns.poll(cx)
            }));
            assert_eq!(turns.work().expect("it is here").left, 0);
        }
        drop(blocked);
    }
}
