//! What a process knows of who has which connections: its own endpoints, and other processes.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
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
    /// What the process that follows this one reads; none as long as it has not said.
    next: Mutex<Option<HashSet<Arc<str>>>>,
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
            next: Mutex::default(),
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
        drop(places);
        for other in self.others().iter() {
            other.tell(key);
        }
        Some(inbox)
    }

    fn next(&self) -> MutexGuard<'_, Option<HashSet<Arc<str>>>> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another process says that it reads at the listener that is called `key`; with an empty one only
    /// that it will say so.
    pub(super) fn hear(&self, generation: u32, key: &str) {
        /// More than a configuration has.
        const MOST: usize = 4_096;
        if generation <= self.generation {
            return;
        }
        let mut next = self.next();
        let keys = next.get_or_insert_default();
        if !key.is_empty() && keys.len() < MOST {
            keys.insert(key.into());
        }
    }

    /// See [`super::QuicSocket::is_read_by_next`].
    pub(super) fn is_read_by_next(&self, key: &str) -> Option<bool> {
        self.next().as_ref().map(|keys| keys.contains(key))
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
        }
    }

    /// Whether there is an endpoint at the listener that is called `key`, maybe of a listener that is
    /// gone and that lives on for its connections.
    pub fn has_endpoint(&self, key: &str) -> bool {
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
        }
        // Whoever claims a place from now on tells it as well.
        neighbour.tell("");
        let here: Vec<_> = {
            let places = self.places();
            let here = places.iter().filter(|(_, place)| place.strong_count() > 0);
            here.map(|((key, _), _)| Arc::clone(key)).collect()
        };
        for key in here {
            neighbour.tell(&key);
        }
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
        let mut parted = self.parted();
        if parted.len() == REMEMBERED {
            parted.remove(0);
        }
        parted.push(neighbour.generation());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packets;

    fn dispatch(generation: u64) -> Arc<Dispatch> {
        let keys = Keys::derive(&[7; 32]).expect("keys");
        Dispatch::new(keys, generation, &[], Instant::now())
    }

    fn until(what: &str, mut is_so: impl FnMut() -> bool) {
        let began = Instant::now();
        while !is_so() {
            assert!(began.elapsed() < Duration::from_secs(20), "{what}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_process_learns_what_the_next_one_reads() {
        let (old, new) = (dispatch(3), dispatch(4));
        let before: Arc<str> = "udp:before".into();
        let _kept = new.claim(&before, 0).expect("free");
        assert_eq!(old.is_read_by_next(&before), None, "nobody has said");
        let (one, other) = packets::pair().expect("a pair");
        Neighbour::meet(&old, 4, one).expect("met");
        Neighbour::meet(&new, 3, other).expect("met");
        until("it says so", || old.is_read_by_next(&before) == Some(true));
        assert_eq!(old.is_read_by_next("udp:after"), Some(false));
        let _later = new.claim(&"udp:after".into(), 1).expect("free");
        until("and later", || {
            old.is_read_by_next("udp:after") == Some(true)
        });
        // What the one before reads is nothing to the next.
        let _old = old.claim(&"udp:old".into(), 0).expect("free");
        assert_eq!(new.is_read_by_next("udp:old"), None);
    }

    #[test]
    fn a_place_is_free_once_it_was_released() {
        let dispatch = dispatch(1);
        let key: Arc<str> = "udp:x".into();
        let first = dispatch.claim(&key, 0).expect("free");
        assert!(dispatch.claim(&key, 0).is_none(), "one at a time");
        dispatch.release(&key, 0, &first);
        assert!(
            !dispatch.has_endpoint(&key),
            "QUIC may still have its socket"
        );
        let second = dispatch.claim(&key, 0).expect("free again");
        dispatch.release(&key, 0, &first);
        assert!(dispatch.has_endpoint(&key), "the second one keeps its own");
        drop((first, second));
        assert!(!dispatch.has_endpoint(&key));
    }
}
