//! Threads for work that would keep a worker from its other connections for too long: compressing
//! more than a little, reading files.
//!
//! Bounded in threads and in what waits; who finds no room goes without, or waits for it where it lies
//! ([`Owner::place`]). Work is somebody's ([`Owner`]): where a share is set none has more threads than that at a
//! time, so that one who hangs, a network file system of a route, leaves the others theirs. Work whose result nobody waits for any
//! more is not begun. Threads start with the first work, so that who needs none has none. They are not waited for at
//! the end: one of them may hang in a file system that does not answer.

mod line;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

pub(crate) use self::line::{KnownOwner, Owner, Place};

/// What is to be done; a closure is one. Who keeps it as something of its own has it back where there is no
/// room for it.
pub(crate) trait Task<T>: Send + 'static {
    /// Does it.
    fn perform(self) -> T;
}

impl<T, F: FnOnce() -> T + Send + 'static> Task<T> for F {
    fn perform(self) -> T {
        self()
    }
}

/// Work, and what fills its slot.
trait Work: Send {
    fn is_wanted(&self) -> bool;
    fn run(self: Box<Self>);
}

struct Job {
    place: Place,
    work: Box<dyn Work>,
}

/// Threads that share a queue.
pub(crate) struct Pool {
    inner: Arc<Inner>,
}

struct Inner {
    name: &'static str,
    threads: usize,
    /// The threads that one owner may have.
    share: usize,
    waiting: usize,
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    started: usize,
    idle: usize,
    ended: bool,
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next work whose owner may have one more thread.
    fn next(&self, state: &mut State) -> Option<Job> {
        let may = |job: &Job| job.place.0.busy.load(Ordering::Relaxed) < self.share;
        let at = state.queue.iter().position(may)?;
        let job = state.queue.remove(at)?;
        job.place.0.busy.fetch_add(1, Ordering::Relaxed);
        Some(job)
    }

    /// Takes out what nobody waits for any more of one owner's, to be dropped without the lock: a file
    /// that is closed may hang as well.
    fn unwanted(state: &mut State, owner: &Owner) -> Vec<Box<dyn Work>> {
        let is_kept = |job: &Job| !Arc::ptr_eq(&job.place.0, &owner.0) || job.work.is_wanted();
        let mut unwanted = Vec::new();
        for _ in 0..state.queue.len() {
            match state.queue.pop_front() {
                Some(job) if is_kept(&job) => state.queue.push_back(job),
                Some(job) => unwanted.push(job.work),
                None => {}
            }
        }
        unwanted
    }

    fn work(&self) {
        let mut state = self.state();
        while !state.ended {
            let Some(job) = self.next(&mut state) else {
                state.idle += 1;
                state = self
                    .wake
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
                state.idle -= 1;
                continue;
            };
            drop(state);
            let Job { place, work } = job;
            let counts = Arc::clone(&place.0);
            drop(place);
            if work.is_wanted() {
                // Whoever waits for it learns that there is no result.
                let _ = catch_unwind(AssertUnwindSafe(|| work.run()));
            } else {
                drop(work);
            }
            state = self.state();
            counts.busy.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Pool {
    /// At most `threads` of them, and at most `waiting` jobs that none has begun.
    pub(crate) fn new(name: &'static str, threads: usize, waiting: usize) -> Self {
        Self::with_shares(name, (threads, threads), waiting)
    }

    /// The same, with at most `share` of the threads for one owner at a time.
    pub(crate) fn with_shares(
        name: &'static str,
        (threads, share): (usize, usize),
        waiting: usize,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                name,
                threads: threads.max(1),
                share: share.max(1),
                waiting,
                state: Mutex::default(),
                wake: Condvar::new(),
            }),
        }
    }

    /// Has `work` done; gives it back when there is no room for it.
    pub(crate) fn submit<T, F>(&self, owner: &Owner, work: F) -> Result<Ticket<T>, F>
    where
        T: Send + 'static,
        F: Task<T>,
    {
        // Where threads are shared out, so is the room: one who hangs leaves others theirs.
        let share = match self.inner.share < self.inner.threads {
            true => self.inner.waiting.div_ceil(2),
            false => self.inner.waiting,
        };
        let share = share.min(owner.0.most_waiting);
        let is_full = |state: &State| {
            let own = owner.0.line().taken;
            own >= share || state.queue.len() >= self.inner.waiting
        };
        let mut state = self.inner.state();
        if !is_full(&state) {
            return self.push(state, owner.place_anyway(), work);
        }
        let unwanted = Inner::unwanted(&mut state, owner);
        let is_full = is_full(&state);
        drop(state);
        if !unwanted.is_empty() {
            // By a thread of the owner's, which may hang in it, and not by the caller.
            let place = owner.place_anyway();
            drop(self.push(self.inner.state(), place, move || drop(unwanted)));
        }
        match is_full {
            true => Err(work),
            false => self.push(self.inner.state(), owner.place_anyway(), work),
        }
    }

    /// The same as [`Pool::submit`] for what goes on with something that has begun: there is always room for
    /// it, so to be bounded by the caller.
    pub(crate) fn go_on<T, F>(&self, owner: &Owner, work: F) -> Result<Ticket<T>, F>
    where
        T: Send + 'static,
        F: Task<T>,
    {
        self.push(self.inner.state(), owner.place_anyway(), work)
    }

    /// The same for who has a [place](Owner::place).
    pub(crate) fn hand_over<T, F>(&self, place: Place, work: F) -> Result<Ticket<T>, F>
    where
        T: Send + 'static,
        F: Task<T>,
    {
        self.push(self.inner.state(), place, work)
    }

    fn push<T, F>(
        &self,
        mut state: MutexGuard<'_, State>,
        place: Place,
        work: F,
    ) -> Result<Ticket<T>, F>
    where
        T: Send + 'static,
        F: Task<T>,
    {
        if !self.has_thread(&mut state) {
            drop(state);
            return Err(work);
        }
        let slot: Arc<Slot<T>> = Arc::default();
        let promise = Promise(Arc::clone(&slot));
        state.queue.push_back(Job {
            place,
            work: Box::new(Promised { promise, work }),
        });
        drop(state);
        self.inner.wake.notify_one();
        Ok(Ticket(slot))
    }

    /// Makes sure that a thread will come to one more job.
    fn has_thread(&self, state: &mut State) -> bool {
        if state.idle > state.queue.len() || state.started == self.inner.threads {
            return true;
        }
        let inner = Arc::clone(&self.inner);
        let thread = std::thread::Builder::new().name(self.inner.name.to_owned());
        if thread.spawn(move || inner.work()).is_ok() {
            state.started += 1;
        }
        state.started > 0
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let mut state = self.inner.state();
        state.ended = true;
        state.queue.clear();
        drop(state);
        self.inner.wake.notify_all();
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_tuple("Pool")
            .field(&self.inner.name)
            .finish()
    }
}

struct Slot<T>(Mutex<Outcome<T>>);

struct Outcome<T> {
    result: Option<T>,
    over: bool,
    waiting: Option<Waker>,
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self(Mutex::new(Outcome {
            result: None,
            over: false,
            waiting: None,
        }))
    }
}

/// What fills a slot, or says that it stays empty.
struct Promise<T>(Arc<Slot<T>>);

impl<T> Promise<T> {
    /// Whether the ticket is there too.
    fn is_wanted(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    fn keep(self, work: impl FnOnce() -> T) {
        let result = work();
        let mut outcome = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        outcome.result = Some(result);
    }
}

impl<T> fmt::Debug for Promise<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Promise")
    }
}

impl<T> Drop for Promise<T> {
    fn drop(&mut self) {
        let mut outcome = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        outcome.over = true;
        let waiting = outcome.waiting.take();
        drop(outcome);
        if let Some(waker) = waiting {
            waker.wake();
        }
    }
}

struct Promised<T, F> {
    promise: Promise<T>,
    work: F,
}

impl<T: Send, F: Task<T>> Work for Promised<T, F> {
    fn is_wanted(&self) -> bool {
        self.promise.is_wanted()
    }

    fn run(self: Box<Self>) {
        let Self { promise, work } = *self;
        promise.keep(|| work.perform());
    }
}

/// Work that is being done. Who drops it does not want the result any more.
pub(crate) struct Ticket<T>(Arc<Slot<T>>);

impl<T> Ticket<T> {
    /// Waits for the result; none when the work panicked, or the pool ended.
    pub(crate) fn poll(&self, cx: &Context<'_>) -> Poll<Option<T>> {
        let mut outcome = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if outcome.over {
            return Poll::Ready(outcome.result.take());
        }
        match &mut outcome.waiting {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

impl<T> fmt::Debug for Ticket<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Ticket")
    }
}
