//! The timer wheel: one per worker, coarse, without a system call or an allocation per timeout.
//!
//! A [`Timer`] belongs to a connection for its whole life. Its deadline is a plain store as long
//! as it moves later, which is nearly always; the wheel finds out when its slot comes up. Fed
//! with `now`, in tests too.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use outgrow_core::Ticks;
use tokio::sync::Notify;

/// Width of a slot: deadlines are met at most this much late, never early.
pub const SLOT: Duration = Duration::from_millis(32);
const SLOT_NANOS: u64 = SLOT.as_nanos() as u64;
const SLOTS: u64 = 1024;

/// One worker's wheel.
#[derive(Debug)]
pub struct Wheel {
    inner: Mutex<Inner>,
    /// Told when a timer comes while the wheel rests.
    roused: Notify,
}

#[derive(Debug)]
struct Inner {
    slots: Vec<Vec<Arc<Cell>>>,
    /// The slot number up to which, not including, all are done.
    next: u64,
    /// How many timers stand in the slots.
    count: usize,
    /// Nobody turns it as often as usual.
    rests: bool,
}

#[derive(Debug)]
struct Cell {
    /// Nanoseconds; `u64::MAX` when none is set.
    deadline: AtomicU64,
    /// The slot number in which the wheel will look at this timer; `u64::MAX` for none.
    scheduled: AtomicU64,
    /// Where it lies in that slot. Written under the wheel's lock only.
    place: AtomicUsize,
    waker: Mutex<Option<Waker>>,
}

impl Wheel {
    /// A wheel that begins at `now`.
    pub fn new(now: Ticks) -> Arc<Self> {
        let slots = (0..SLOTS).map(|_| Vec::new()).collect();
        Arc::new(Self {
            inner: Mutex::new(Inner {
                slots,
                next: now.0 / SLOT_NANOS,
                count: 0,
                rests: false,
            }),
            roused: Notify::new(),
        })
    }

    /// Wakes the tasks whose timers are due. To be called about every [`SLOT`].
    pub fn advance(&self, now: Ticks) {
        let mut due = Vec::new();
        {
            let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
            let until = now.0 / SLOT_NANOS;
            // After a long stall every slot comes up once, not more.
            let first = inner.next.max(until.saturating_sub(SLOTS));
            for number in first..until {
                // What is put back from here on goes to a later slot.
                inner.next = number + 1;
                let slot = (number % SLOTS) as usize;
                let mut cells = std::mem::take(&mut inner.slots[slot]);
                inner.count -= cells.len();
                for cell in cells.drain(..) {
                    inner.look_at(cell, now, &mut due);
                }
                if inner.slots[slot].is_empty() {
                    inner.slots[slot] = cells;
                }
            }
            inner.next = until.max(inner.next);
        }
        for waker in due {
            waker.wake();
        }
    }

    /// Wakes every task that waits with a timer, due or not: something changed for all of them.
    pub fn wake_all(&self) {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let cells: Vec<_> = inner.slots.iter().flatten().cloned().collect();
        drop(inner);
        for cell in cells {
            let waker = cell
                .waker
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    /// Lets whoever turns the wheel do so less often until a timer comes ([`Self::roused`]); false while one
    /// waits.
    pub fn rest(&self) -> bool {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.rests = inner.count == 0;
        inner.rests
    }

    /// Waits until a timer has come since [`Self::rest`]: it is to be turned as usual again.
    pub async fn roused(&self) {
        // What was told during an earlier rest may be there yet.
        while self.rests() {
            self.roused.notified().await;
        }
    }

    fn rests(&self) -> bool {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.rests
    }

    /// How many timers the wheel will look at.
    pub fn len(&self) -> usize {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.count
    }

    /// Whether no timer waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn schedule(&self, cell: &Arc<Cell>, deadline: u64) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let cell = inner.take_out(cell).unwrap_or_else(|| Arc::clone(cell));
        inner.put(cell, deadline);
        if std::mem::take(&mut inner.rests) {
            self.roused.notify_one();
        }
    }

    /// Takes the timer out at once: one that stayed until its slot comes up would keep memory for
    /// each connection of the last half minute, and scattered over the heap at that.
    fn forget(&self, cell: &Arc<Cell>) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        drop(inner.take_out(cell));
    }
}

impl Inner {
    fn look_at(&mut self, cell: Arc<Cell>, now: Ticks, due: &mut Vec<Waker>) {
        let deadline = cell.deadline.load(Ordering::Relaxed);
        cell.scheduled.store(u64::MAX, Ordering::Relaxed);
        if deadline == u64::MAX {
            return;
        }
        if deadline > now.0 {
            self.put(cell, deadline);
            return;
        }
        due.extend(
            cell.waker
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
        );
    }

    fn put(&mut self, cell: Arc<Cell>, deadline: u64) {
        // One slot later than the deadline's own, so that it has passed when the slot is done.
        let wanted = deadline / SLOT_NANOS;
        let number = wanted.clamp(self.next, self.next + SLOTS - 1);
        let slot = &mut self.slots[(number % SLOTS) as usize];
        cell.scheduled.store(number, Ordering::Relaxed);
        cell.place.store(slot.len(), Ordering::Relaxed);
        slot.push(cell);
        self.count += 1;
    }

    /// Takes a cell out of the slot that it stands in; the slot's last one moves to its place.
    fn take_out(&mut self, cell: &Arc<Cell>) -> Option<Arc<Cell>> {
        let number = cell.scheduled.swap(u64::MAX, Ordering::Relaxed);
        if number == u64::MAX {
            return None;
        }
        let slot = &mut self.slots[(number % SLOTS) as usize];
        let place = cell.place.load(Ordering::Relaxed);
        let taken = slot.swap_remove(place);
        if let Some(moved) = slot.get(place) {
            moved.place.store(place, Ordering::Relaxed);
        }
        self.count -= 1;
        Some(taken)
    }
}

/// One connection's timer.
#[derive(Debug)]
pub struct Timer {
    wheel: Arc<Wheel>,
    cell: Arc<Cell>,
    /// The task that the wheel knows, so that asking again for the same one locks nothing.
    known: Option<Waker>,
}

impl Timer {
    /// A timer without a deadline.
    pub fn new(wheel: &Arc<Wheel>) -> Self {
        let cell = Cell {
            deadline: AtomicU64::new(u64::MAX),
            scheduled: AtomicU64::new(u64::MAX),
            place: AtomicUsize::new(0),
            waker: Mutex::new(None),
        };
        Self {
            wheel: Arc::clone(wheel),
            cell: Arc::new(cell),
            known: None,
        }
    }

    /// Sets the deadline; [`Ticks::NEVER`] for none.
    #[inline]
    pub fn set(&mut self, deadline: Ticks) {
        self.cell.deadline.store(deadline.0, Ordering::Relaxed);
        if deadline.0 / SLOT_NANOS < self.cell.scheduled.load(Ordering::Relaxed)
            && deadline != Ticks::NEVER
        {
            self.wheel.schedule(&self.cell, deadline.0);
        }
    }

    /// The deadline that is set.
    #[inline]
    pub fn deadline(&self) -> Ticks {
        Ticks(self.cell.deadline.load(Ordering::Relaxed))
    }

    /// Ready when the deadline has passed at `now`; else the task is woken when it has.
    #[inline]
    pub fn poll(&mut self, cx: &mut Context<'_>, now: Ticks) -> Poll<()> {
        let deadline = self.deadline();
        if deadline <= now {
            return Poll::Ready(());
        }
        let same = self
            .known
            .as_ref()
            .is_some_and(|known| known.will_wake(cx.waker()));
        if !same {
            self.known = Some(cx.waker().clone());
            let mut waker = self
                .cell
                .waker
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            waker.clone_from(&self.known);
        }
        Poll::Pending
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.wheel.forget(&self.cell);
        // Somebody may hold the cell for a moment yet: `wake_all`.
        *self
            .cell
            .waker
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = None;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use outgrow_core::Random;

    use super::*;

    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Many timers whose deadlines move at random: none wakes early, none later than two slots.
    #[test]
    fn deadlines_are_met_over_many_seeds() {
        for seed in 0..200 {
            let mut random = Random::from_seed(seed);
            let wheel = Wheel::new(Ticks::ZERO);
            let counts: Vec<_> = (0..20)
                .map(|_| Arc::new(Count(AtomicUsize::new(0))))
                .collect();
            let mut timers: Vec<_> = counts.iter().map(|_| Timer::new(&wheel)).collect();
            let mut now = Ticks::ZERO;
            let mut wakes = vec![0; timers.len()];
            for _ in 0..400 {
                now = now + Duration::from_millis(random.below(60) as u64);
                wheel.advance(now);
                for (index, timer) in timers.iter_mut().enumerate() {
                    let waker = Waker::from(Arc::clone(&counts[index]));
                    let mut cx = Context::from_waker(&waker);
                    let woken = counts[index].0.load(Ordering::Relaxed);
                    let late =
                        timer.deadline() != Ticks::NEVER && timer.deadline() + 2 * SLOT <= now;
                    assert!(
                        !late || woken > wakes[index],
                        "seed {seed}: timer {index} is late"
                    );
                    if timer.poll(&mut cx, now).is_ready() {
                        wakes[index] = woken;
                        timer.set(Ticks::NEVER);
                    }
                    if random.below(10) == 0 {
                        wakes[index] = woken;
                        timer.set(now + Duration::from_millis(random.below(50_000) as u64));
                        let _ = timer.poll(&mut cx, now);
                    }
                }
            }
            assert!(
                wheel.len() <= 20,
                "seed {seed}: a timer stands in several slots"
            );
        }
    }

    #[test]
    fn the_same_task_is_woken_again_and_again() {
        let wheel = Wheel::new(Ticks::ZERO);
        let mut timer = Timer::new(&wheel);
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&count));
        let mut cx = Context::from_waker(&waker);
        let mut now = Ticks::ZERO;
        for round in 1..=5 {
            timer.set(now + Duration::from_millis(100));
            assert!(timer.poll(&mut cx, now).is_pending());
            now = now + Duration::from_millis(200);
            wheel.advance(now);
            assert_eq!(count.0.load(Ordering::Relaxed), round);
        }
    }

    #[test]
    fn dropped_timers_leave_the_wheel() {
        let wheel = Wheel::new(Ticks::ZERO);
        let mut timer = Timer::new(&wheel);
        timer.set(Ticks(1_000_000_000));
        assert_eq!(wheel.len(), 1);
        drop(timer);
        assert!(wheel.is_empty());
    }

    /// One that comes while nobody turns the wheel as usual is told, once; one that waits lets it not rest.
    #[tokio::test]
    async fn a_timer_rouses_a_wheel_that_rests() {
        let is_roused = async |wheel: &Wheel| {
            let waits = tokio::time::timeout(Duration::from_millis(1), wheel.roused());
            waits.await.is_ok()
        };
        let wheel = Wheel::new(Ticks::ZERO);
        let mut timer = Timer::new(&wheel);
        timer.set(Ticks(1_000_000_000));
        assert!(!wheel.rest());
        drop(timer);
        assert!(wheel.rest());
        let mut timer = Timer::new(&wheel);
        assert!(!is_roused(&wheel).await, "it has no deadline");
        timer.set(Ticks(1_000_000_000));
        assert!(is_roused(&wheel).await);
        // A rest that was over before the timer came: it was told, and nobody asked.
        drop(timer);
        assert!(wheel.rest());
        let mut timer = Timer::new(&wheel);
        timer.set(Ticks(1_000_000_000));
        drop(timer);
        assert!(wheel.rest());
        assert!(!is_roused(&wheel).await, "nothing has come since");
        let mut timer = Timer::new(&wheel);
        timer.set(Ticks(1_000_000_000));
        assert!(is_roused(&wheel).await);
        // Due: the wheel is empty again, though the timer is there.
        wheel.advance(Ticks(1_100_000_000));
        assert!(wheel.rest());
        timer.set(Ticks(2_000_000_000));
        assert!(is_roused(&wheel).await);
    }

    /// Timers come, move and go in one slot and over many; those that stay are woken all the same.
    #[test]
    fn those_that_stay_are_not_disturbed_by_those_that_go() {
        for seed in 0..100 {
            let mut random = Random::from_seed(seed);
            let wheel = Wheel::new(Ticks::ZERO);
            let count = Arc::new(Count(AtomicUsize::new(0)));
            let waker = Waker::from(Arc::clone(&count));
            let mut cx = Context::from_waker(&waker);
            let mut timers: Vec<Timer> = Vec::new();
            for _ in 0..200 {
                let mut timer = Timer::new(&wheel);
                let most = if seed % 2 == 0 { 100 } else { 60_000 };
                timer.set(Ticks::ZERO + Duration::from_millis(1 + random.below(most) as u64));
                assert!(timer.poll(&mut cx, Ticks::ZERO).is_pending());
                timers.push(timer);
                if random.below(3) == 0 {
                    let gone = random.below(timers.len());
                    drop(timers.swap_remove(gone));
                }
                if random.below(3) == 0 {
                    let moved = random.below(timers.len().max(1));
                    if let Some(timer) = timers.get_mut(moved) {
                        timer.set(Ticks(1_000_000 * (1 + random.below(most) as u64)));
                    }
                }
            }
            assert_eq!(wheel.len(), timers.len(), "seed {seed}");
            for step in 1..=31 {
                wheel.advance(Ticks::ZERO + Duration::from_secs(2 * step));
            }
            assert_eq!(count.0.load(Ordering::Relaxed), timers.len(), "seed {seed}");
            assert!(wheel.is_empty(), "seed {seed}");
        }
    }
}
