//! What a process knows of who has which connections: its own endpoints, and other processes.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use quinn::EndpointConfig;
use quinn_udp::RecvMeta;

use super::ids::{Generator, Origin};
use super::inbox::Inbox;
use super::keys::Keys;
use super::neighbour::Neighbour;
use super::readers::{Readers, Said};
use super::route::Router;

/// For how long after its start a process drops what belongs to others of which it has heard only that
/// they are there: it is sent again, and goes to them once they have met. Later, and of those that are
/// not there, it says that there is no such connection.
const INTRODUCTION: Duration = Duration::from_secs(30);
/// Between two stateless resets of an endpoint. Only who has been given an id of ours can ask for them.
const RESET_INTERVAL: Duration = Duration::from_millis(1);

/// What happened to datagrams, since the process began: groups of those that came together.
#[derive(Debug, Default)]
pub struct DispatchCounts {
    /// Handed to another worker.
    pub to_workers: AtomicU64,
    /// Handed to another process.
    pub to_processes: AtomicU64,
    /// Had from another process.
    pub from_processes: AtomicU64,
    /// Dropped: no room, or nobody there.
    pub dropped: AtomicU64,
    /// How often a socket had nothing but errors and was left alone for a while.
    pub socket_errors: AtomicU64,
}

type Places = HashMap<(Arc<str>, u8), Weak<Inbox>>;

/// Who has which connections, of one process. Listeners are told from each other by a key.
pub struct Dispatch {
    keys: Keys,
    generation: u32,
    places: Mutex<Places>,
    others: Mutex<Vec<Arc<Neighbour>>>,
    /// Processes that have been met, and are gone.
    parted: Mutex<Vec<u32>>,
    /// What other processes read.
    readers: Mutex<Readers>,
    /// Processes that were there when this one began.
    expected: Vec<u32>,
    /// When they should have been met.
    expected_until: Instant,
    /// What happened.
    pub counts: DispatchCounts,
}

impl fmt::Debug for Dispatch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Dispatch({})", self.generation)
    }
}

impl Dispatch {
    /// Of the process with this number, beside `others`, which it is going to meet.
    pub fn new(keys: Keys, generation: u64, others: &[u64], now: Instant) -> Arc<Self> {
        // Four thousand million upgrades later it begins anew.
        let short = |generation: u64| generation as u32;
        Arc::new(Self {
            keys,
            generation: short(generation),
            places: Mutex::default(),
            others: Mutex::default(),
            parted: Mutex::default(),
            readers: Mutex::default(),
            expected: others.iter().copied().map(short).collect(),
            expected_until: now + INTRODUCTION,
            counts: DispatchCounts::default(),
        })
    }

    /// The keys.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    pub(super) fn origin(&self, worker: usize) -> Origin {
        Origin {
            generation: self.generation,
            worker: worker as u8,
        }
    }

    /// How the endpoint of a worker makes its ids, and its resets, which are of the listener `key`.
    pub fn endpoint_config(&self, worker: usize, key: &str) -> EndpointConfig {
        let mut config = EndpointConfig::new(self.keys.reset(key));
        let ids = Arc::clone(&self.keys.ids);
        let origin = self.origin(worker);
        config.cid_generator(move || {
            let ids = Arc::clone(&ids);
            Box::new(Generator { ids, origin })
        });
        config.min_reset_interval(RESET_INTERVAL);
        config
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn others(&self) -> MutexGuard<'_, Vec<Arc<Neighbour>>> {
        self.others.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn parted(&self) -> MutexGuard<'_, Vec<u32>> {
        self.parted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The place of a worker's endpoint at a listener; none when it has one already.
    pub(super) fn claim(&self, key: &Arc<str>, worker: usize) -> Option<Arc<Inbox>> {
        let mut places = self.places();
        places.retain(|_, place| place.strong_count() > 0);
        let place = places.entry((Arc::clone(key), worker as u8)).or_default();
        if place.strong_count() > 0 {
            return None;
        }
        let inbox = Arc::new(Inbox::default());
        *place = Arc::downgrade(&inbox);
        self.tell(&places);
        Some(inbox)
    }

    /// Tells others what is read here, with the places locked: what they hear last is what is so.
    fn tell(&self, places: &Places) {
        let others = self.others();
        if others.is_empty() {
            return;
        }
        let here = read_at(places);
        for other in others.iter() {
            other.tell(&here);
        }
    }

    /// Tells another process what it was not told yet: it may have had no room.
    pub(super) fn tell_again(&self, other: &Neighbour) {
        let places = self.places();
        other.tell(&read_at(&places));
    }

    fn readers(&self) -> MutexGuard<'_, Readers> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another process says this of what it reads.
    pub(super) fn hear(&self, generation: u32, said: Said<'_>) {
        self.readers().hear(generation, said);
    }

    /// See [`super::QuicSocket::is_read_by_next`].
    pub(super) fn is_read_by_next(&self, key: &str) -> Option<bool> {
        self.readers().after(self.generation, key)
    }

    /// Whether the sockets of the listener that is called `key` are to stay: an endpoint of this process or
    /// of another one has connections there. Where this process let go of its copies meanwhile, it would get
    /// other sockets for the same address, and what comes to each would be for the other as well.
    pub fn is_needed(&self, key: &str, now: Instant) -> bool {
        let is_read_by_others = self.readers().any(key);
        is_read_by_others || self.has_endpoint(key) || self.expects(now)
    }

    /// Whether there may be processes that have not been met.
    fn expects(&self, now: Instant) -> bool {
        if now >= self.expected_until {
            return false;
        }
        let (others, parted) = (self.others(), self.parted());
        let is_met = |one: &u32| others.iter().any(|other| other.generation() == *one);
        let mut expected = self.expected.iter();
        expected.any(|one| !is_met(one) && !parted.contains(one))
    }

    /// The endpoint whose inbox this is takes nothing any more: its place is free, however long others
    /// keep its socket.
    pub(super) fn release(&self, key: &Arc<str>, worker: usize, inbox: &Arc<Inbox>) {
        let mut places = self.places();
        let place = (Arc::clone(key), worker as u8);
        if let Entry::Occupied(place) = places.entry(place)
            && std::ptr::eq(place.get().as_ptr(), Arc::as_ptr(inbox))
        {
            place.remove();
            self.tell(&places);
        }
    }

    /// Whether there is an endpoint at the listener that is called `key`, maybe of a listener that is
    /// gone and that lives on for its connections.
    fn has_endpoint(&self, key: &str) -> bool {
        let mut places = self.places();
        places.retain(|_, place| place.strong_count() > 0);
        places.keys().any(|(of, _)| **of == *key)
    }

    /// Whether no endpoint at this listener has connections.
    pub(super) fn is_idle(&self, key: &str) -> bool {
        let places = self.places();
        let mut here = places.iter().filter(|((of, _), _)| **of == *key);
        here.all(|(_, place)| {
            let place = place.upgrade();
            place.is_none_or(|place| place.is_idle.load(Ordering::Relaxed))
        })
    }

    pub(super) fn place(&self, key: &Arc<str>, worker: u8) -> Option<Arc<Inbox>> {
        self.places().get(&(Arc::clone(key), worker))?.upgrade()
    }

    pub(super) fn router(&self, worker: usize) -> Router<'_> {
        Router::new(&self.keys.ids, self.origin(worker))
    }

    /// Gives datagrams to another worker of this process, or drops them.
    pub(super) fn to_worker(&self, key: &Arc<str>, worker: u8, meta: RecvMeta, bytes: &[u8]) {
        let place = self.place(key, worker);
        match place.is_some_and(|inbox| inbox.put(meta, bytes)) {
            true => self.counts.to_workers.fetch_add(1, Ordering::Relaxed),
            false => self.counts.dropped.fetch_add(1, Ordering::Relaxed),
        };
    }

    /// Gives datagrams to another process, or drops them; false when there is none that could have
    /// their connection, which is to be told.
    pub(super) fn to_process(
        &self,
        key: &Arc<str>,
        generation: u32,
        meta: &RecvMeta,
        bytes: &[u8],
    ) -> bool {
        let other = {
            let others = self.others();
            let mut others = others.iter();
            others.find(|one| one.generation() == generation).cloned()
        };
        let Some(other) = other else {
            // One that is newer than this one is about to take over.
            let is_expected = generation > self.generation
                || self.expected.contains(&generation) && Instant::now() < self.expected_until;
            let may_be_there = is_expected && !self.parted().contains(&generation);
            if may_be_there {
                self.counts.dropped.fetch_add(1, Ordering::Relaxed);
            }
            return may_be_there;
        };
        match other.send(key, meta, bytes) {
            true => self.counts.to_processes.fetch_add(1, Ordering::Relaxed),
            false => self.counts.dropped.fetch_add(1, Ordering::Relaxed),
        };
        true
    }

    /// Takes datagrams that another process has received.
    pub(super) fn take(&self, key: &Arc<str>, meta: RecvMeta, bytes: &[u8]) {
        self.counts.from_processes.fetch_add(1, Ordering::Relaxed);
        let first = &bytes[..bytes.len().min(meta.stride)];
        let origin = super::route::addressed_to(first).and_then(|id| self.keys.ids.read(id));
        match origin.filter(|origin| origin.generation == self.generation) {
            Some(origin) => self.to_worker(key, origin.worker, meta, bytes),
            None => {
                self.counts.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Datagrams are exchanged with another process from now on, until it is gone.
    pub(super) fn meet(&self, neighbour: Arc<Neighbour>) {
        {
            let mut others = self.others();
            others.retain(|one| one.generation() != neighbour.generation());
            others.push(Arc::clone(&neighbour));
            // Met anew it says what it reads, and not what it reads no more.
            self.readers().forget(neighbour.generation());
        }
        // Whoever claims a place from now on tells it as well.
        self.tell_again(&neighbour);
    }

    /// A process is gone, and its connections with it.
    pub(super) fn part(&self, neighbour: &Arc<Neighbour>) {
        /// More were not there at a time.
        const REMEMBERED: usize = 64;
        let mut others = self.others();
        let before = others.len();
        others.retain(|one| !Arc::ptr_eq(one, neighbour));
        if others.len() == before {
            // It has been met anew since.
            return;
        }
        self.readers().forget(neighbour.generation());
        let mut parted = self.parted();
        if parted.len() == REMEMBERED {
            parted.remove(0);
        }
        parted.push(neighbour.generation());
    }
}

/// The listeners at which this process reads.
fn read_at(places: &Places) -> BTreeSet<Arc<str>> {
    let here = places.iter().filter(|(_, place)| place.strong_count() > 0);
    here.map(|((key, _), _)| Arc::clone(key)).collect()
}

#[cfg(test)]
mod tests;
