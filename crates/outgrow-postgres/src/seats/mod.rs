//! The connections to each server, over all pools, workers and services: never more than it takes.
//!
//! Who wants one more than there may be waits in a line of the server, in an order of which
//! [`ledger`] decides; pools are asked to give one up for them whenever a client gives one back.

mod ledger;
pub(crate) mod linger;
pub(crate) mod wait;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use outgrow_core::Ticks;
use outgrow_core::metrics::Counter;
use tokio::sync::oneshot;

use crate::shared::Shared;
use ledger::{Elsewhere, Ledger, UNLIMITED};

pub(crate) use ledger::Holder;
pub use ledger::{Capacity, Terms};

/// How many servers are known before those that nobody is connected to are forgotten.
const SWEEP_ABOVE: usize = 1024;
/// How old it may be what a server said of itself when a connection is made: it may have been started
/// anew with another setting.
const ASK_AGAIN: Duration = Duration::from_secs(600);

/// The seats of all servers, by address: two services may lead to the same one.
#[derive(Debug, Default)]
pub(crate) struct Seats {
    servers: Mutex<BTreeMap<String, Arc<Seating>>>,
    /// What another data process of this outgrow still has, by address; none: it has not said.
    elsewhere: Mutex<Option<BTreeMap<String, u32>>>,
    awaits_word: AtomicBool,
}

impl Seats {
    /// The seats of the server at an address.
    pub(crate) fn of(&self, address: &str) -> Arc<Seating> {
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seating) = servers.get(address) {
            return Arc::clone(seating);
        }
        if servers.len() >= SWEEP_ABOVE {
            servers.retain(|_, one| Arc::strong_count(one) > 1);
        }
        let seating = Arc::new(Seating::new(self.elsewhere(address)));
        servers.insert(address.to_owned(), Arc::clone(&seating));
        seating
    }

    fn elsewhere(&self, address: &str) -> Elsewhere {
        let told = self
            .elsewhere
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match (&*told, self.awaits_word.load(Ordering::Acquire)) {
            (Some(told), _) => Elsewhere::Known(told.get(address).copied().unwrap_or(0)),
            (None, true) => Elsewhere::Unknown,
            (None, false) => Elsewhere::Known(0),
        }
    }

    fn all(&self) -> Vec<(String, Arc<Seating>)> {
        let servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        let all = servers.iter();
        all.map(|(address, one)| (address.clone(), Arc::clone(one)))
            .collect()
    }

    /// Another data process may have connections: none is made until it has said how many.
    pub(crate) fn await_word(&self) {
        self.awaits_word.store(true, Ordering::Release);
        self.renew();
    }

    /// So many connections are held by others of this outgrow, by address.
    pub(crate) fn set_elsewhere(&self, told: BTreeMap<String, u32>) {
        *self
            .elsewhere
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(told);
        self.renew();
    }

    fn renew(&self) {
        for (address, seating) in self.all() {
            let elsewhere = self.elsewhere(&address);
            let mut ledger = seating.lock();
            ledger.elsewhere = elsewhere;
            seating.settle(ledger);
        }
    }

    /// This process leaves: what it has now, by address, and never more from now on.
    pub(crate) fn shrink(&self, has_clients: bool) -> BTreeMap<String, u32> {
        let all = self.all().into_iter();
        all.map(|(address, seating)| {
            let mut ledger = seating.lock();
            let most = ledger.shrink(has_clients);
            seating.settle(ledger);
            (address, most)
        })
        .filter(|(_, used)| *used > 0)
        .collect()
    }

    /// How they are used.
    pub(crate) fn views(&self) -> Vec<SeatsView> {
        let all = self.all().into_iter();
        all.map(|(address, seating)| {
            let ledger = seating.lock();
            SeatsView {
                address,
                used: ledger.used(),
                limit: Some(ledger.limit()).filter(|limit| *limit != UNLIMITED),
                waiting: ledger.waiting() as u32,
                capacity: ledger.capacity,
                given_up: seating.given_up.get(),
            }
        })
        .collect()
    }
}

impl Shared {
    /// Another data process of this outgrow may have connections: none is made until
    /// [`Shared::set_connections_elsewhere`] says how many.
    pub fn await_connections_elsewhere(&self) {
        self.seats.await_word();
    }

    /// So many connections to servers are held by others of this outgrow, by address; those of its
    /// limits are less by as many.
    pub fn set_connections_elsewhere(&self, told: BTreeMap<String, u32>) {
        self.seats.set_elsewhere(told);
    }

    /// This process leaves: closes what is idle; what it has left, by address, and never more from
    /// now on.
    pub fn leave_connections(&self) -> BTreeMap<String, u32> {
        for pool in self.pools() {
            pool.close_idle("another process serves");
        }
        self.seats.shrink(self.clients() > 0)
    }

    /// How the connections to each server are used.
    pub fn seats(&self) -> Vec<SeatsView> {
        self.seats.views()
    }
}

/// How the connections to one server are used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeatsView {
    /// Its address.
    pub address: String,
    /// Connections.
    pub used: u32,
    /// Most of them for this process; none: nothing limits them.
    pub limit: Option<u32>,
    /// Connections that are wanted besides.
    pub waiting: u32,
    /// What the server says that it takes.
    pub capacity: Option<Capacity>,
    /// Connections that were closed for the sake of another pool.
    pub given_up: u64,
}

/// The seats of one server.
#[derive(Debug)]
pub(crate) struct Seating {
    ledger: Mutex<(Ledger, Line)>,
    /// Whether somebody may be owed a connection.
    is_pressed: AtomicBool,
    given_up: Counter,
    /// When the server was last asked how many connections it takes, as `Ticks`.
    asked: AtomicU64,
}

/// Those who wait, by ticket.
type Line = BTreeMap<u64, oneshot::Sender<Seat>>;

/// A ledger that is held, with who waits.
struct Held<'s>(MutexGuard<'s, (Ledger, Line)>);

impl std::ops::Deref for Held<'_> {
    type Target = Ledger;

    fn deref(&self) -> &Ledger {
        &self.0.0
    }
}

impl std::ops::DerefMut for Held<'_> {
    fn deref_mut(&mut self) -> &mut Ledger {
        &mut self.0.0
    }
}

impl Seating {
    fn new(elsewhere: Elsewhere) -> Self {
        Self {
            ledger: Mutex::new((Ledger::new(elsewhere), Line::new())),
            is_pressed: AtomicBool::new(false),
            given_up: Counter::default(),
            asked: AtomicU64::new(0),
        }
    }

    fn lock(&self) -> Held<'_> {
        Held(self.ledger.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Gives what is free to those who wait.
    fn settle(self: &Arc<Self>, mut held: Held<'_>) {
        while let Some(next) = held.grant() {
            let seat = Seat {
                seating: Arc::clone(self),
                holder: next.holder,
                state: SeatState::Held,
                is_apart: false,
            };
            let waiting = held.0.1.remove(&next.ticket);
            let refused = match waiting {
                Some(waiting) => waiting.send(seat).err(),
                None => Some(seat),
            };
            if let Some(mut seat) = refused {
                // Under the lock: its end must not ask for it.
                seat.state = SeatState::Gone;
                held.free(&seat.holder, false);
            }
        }
        self.is_pressed.store(held.is_pressed(), Ordering::Release);
    }

    /// A seat that is free, for somebody who does not wait for one.
    pub(crate) fn take(self: &Arc<Self>, terms: Terms, holder: &Holder) -> Option<Seat> {
        let mut held = self.lock();
        held.terms = terms;
        let is_taken = held.take(holder);
        self.settle(held);
        is_taken.then(|| Seat {
            seating: Arc::clone(self),
            holder: holder.clone(),
            state: SeatState::Held,
            is_apart: false,
        })
    }

    /// Joins the line.
    pub(crate) fn enter(self: &Arc<Self>, terms: Terms, holder: Holder) -> Place {
        let (sender, answer) = oneshot::channel();
        let mut held = self.lock();
        held.terms = terms;
        let ticket = held.enter(holder);
        held.0.1.insert(ticket, sender);
        self.settle(held);
        Place {
            seating: Arc::clone(self),
            ticket,
            answer,
        }
    }

    /// Whether a pool is to give up a connection that is idle for so long.
    pub(crate) fn wants_idle(&self, holder: &Holder, idle: Duration) -> bool {
        self.is_pressed.load(Ordering::Acquire) && self.lock().owes(holder, true, idle)
    }

    /// How many a pool has.
    pub(crate) fn held(&self, holder: &Holder) -> u32 {
        self.lock().held(holder)
    }

    /// Whether the server is to be asked how many connections it takes: it was not, or long ago.
    pub(crate) fn is_to_be_asked(&self, now: Ticks) -> bool {
        let age = now.since(Ticks(self.asked.load(Ordering::Relaxed)));
        let held = self.lock();
        held.terms.learns && (!held.was_asked || age >= ASK_AGAIN)
    }

    /// What it said; none: nothing.
    pub(crate) fn learn(self: &Arc<Self>, capacity: Option<Capacity>, now: Ticks) {
        self.asked.store(now.0, Ordering::Relaxed);
        let mut held = self.lock();
        held.was_asked = true;
        held.capacity = capacity.or(held.capacity);
        self.settle(held);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SeatState {
    Held,
    /// Its connection is being closed for the sake of who waits.
    Closing,
    /// It was given back.
    Gone,
}

/// The right to one connection; given back when dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    seating: Arc<Seating>,
    holder: Holder,
    state: SeatState,
    /// Its connection is never lent.
    is_apart: bool,
}

impl Seat {
    /// The same for a connection that is for one purpose and never lent.
    pub(crate) fn apart(mut self) -> Self {
        if !self.is_apart {
            self.is_apart = true;
            self.seating.lock().set_apart(true);
        }
        self
    }

    /// Whether its connection is to be closed for the sake of another pool: one of age `age`, which
    /// a client has just given back; `is_idle`: nobody of its own waits for it. Then it counts as
    /// given up.
    #[inline]
    pub(crate) fn is_owed(&mut self, is_idle: bool, age: Duration) -> bool {
        self.seating.is_pressed.load(Ordering::Acquire) && self.give_up_if_owed(is_idle, age)
    }

    /// The same for one that nobody needs at the moment.
    pub(crate) fn is_owed_idle(&mut self) -> bool {
        self.is_owed(true, ledger::TURN)
    }

    #[cold]
    fn give_up_if_owed(&mut self, is_idle: bool, age: Duration) -> bool {
        let seating = Arc::clone(&self.seating);
        let mut held = seating.lock();
        let is_owed = held.owes(&self.holder, is_idle, age);
        if is_owed {
            self.state = SeatState::Closing;
            held.give_up(&self.holder);
            seating.given_up.add_shared(1);
        }
        seating.settle(held);
        is_owed
    }

    /// Whether it is one of these seats.
    pub(crate) fn is_of(&self, seating: &Arc<Seating>) -> bool {
        Arc::ptr_eq(&self.seating, seating)
    }

    /// Whether there is a limit, so that what is closed must really be closed before it is free.
    pub(crate) fn is_limited(&self) -> bool {
        self.seating.lock().limit() != UNLIMITED
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if self.state == SeatState::Gone {
            return;
        }
        let mut held = self.seating.lock();
        if self.is_apart {
            held.set_apart(false);
        }
        held.free(&self.holder, self.state == SeatState::Closing);
        self.seating.settle(held);
    }
}

/// A place in a server's line; left when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    seating: Arc<Seating>,
    ticket: u64,
    pub(crate) answer: oneshot::Receiver<Seat>,
}

impl Place {
    /// Whether it is the first.
    pub(crate) fn is_first(&self) -> bool {
        self.seating.lock().is_first(self.ticket)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.seating.lock();
        held.leave(self.ticket);
        held.0.1.remove(&self.ticket);
        self.seating.settle(held);
        // What was granted at this moment goes back when `answer` is dropped.
    }
}

#[cfg(test)]
mod tests;
