//! Connections of an endpoint that many requests share at a time (HTTP/2): a list for each worker,
//! the oldest first, and never more than one being opened.
//!
//! What is spoken on one is not known here: the tier knows its own kind of session again.

use std::any::Any;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use outgrow_core::{Cause, Fault, Phase, Sent, Ticks};
use tokio::sync::watch;

use crate::pool::Origin;

/// A connection that many requests share. Dropping it lets those under way go on; then it ends.
pub trait Session: fmt::Debug + Send + Sync {
    /// Requests that can begin on it now.
    fn room(&self) -> usize;

    /// Requests that are under way on it.
    fn in_use(&self) -> usize;

    /// Whether no further request can begin on it, ever.
    fn is_over(&self) -> bool;

    /// Itself, for the tier that made it.
    fn as_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
}

/// How the opening of a session goes: nothing yet, or what came of it.
pub type Opened = watch::Receiver<Option<Result<Arc<dyn Session>, Fault>>>;

/// Waits until a session is opened, or could not be.
///
/// # Errors
/// Those of the opening; nothing was sent.
pub async fn opened(mut opening: Opened) -> Result<Arc<dyn Session>, Fault> {
    match opening
        .wait_for(Option::is_some)
        .await
        .map(|value| value.clone())
    {
        Ok(Some(result)) => result,
        // Whoever opened it has ended without a word.
        Ok(None) | Err(_) => Err(Fault::upstream(
            Phase::Connect,
            Cause::ConnectFailed,
            Sent::None,
        )),
    }
}

#[derive(Debug)]
struct Shared {
    session: Arc<dyn Session>,
    /// Which of the addresses of the endpoint's name it leads to.
    address: Option<SocketAddr>,
    /// Since when nobody uses it, by the last look.
    idle_since: Option<Ticks>,
}

#[derive(Debug, Default)]
struct List {
    sessions: Vec<Shared>,
    /// The number of the seal that is to encrypt it, and how it goes.
    opening: Option<(u64, Opened)>,
}

/// The sessions of one endpoint.
#[derive(Debug)]
pub(crate) struct Sessions {
    lists: Box<[Mutex<List>]>,
    /// Whether sessions are kept.
    open: AtomicBool,
    idle_timeout_nanos: AtomicU64,
    /// The number of the seal whose sessions are used; 0: those without one.
    seal: AtomicU64,
}

impl Sessions {
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            lists: (0..workers.max(1)).map(|_| Mutex::default()).collect(),
            open: AtomicBool::new(true),
            idle_timeout_nanos: AtomicU64::new(0),
            seal: AtomicU64::new(0),
        }
    }

    pub(crate) fn configure(&self, idle_timeout: Duration) {
        let nanos = u64::try_from(idle_timeout.as_nanos()).unwrap_or(u64::MAX);
        self.idle_timeout_nanos.store(nanos, Ordering::Relaxed);
    }

    fn list(&self, worker: usize) -> MutexGuard<'_, List> {
        let list = &self.lists[worker % self.lists.len()];
        list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps sessions again.
    pub(crate) fn open(&self) {
        self.open.store(true, Ordering::SeqCst);
    }

    /// Keeps no session from now on.
    pub(crate) fn shut(&self) {
        self.open.store(false, Ordering::SeqCst);
    }

    /// From now on only sessions of this seal are used.
    pub(crate) fn set_seal(&self, number: u64) {
        if self.seal.swap(number, Ordering::SeqCst) != number {
            self.clear();
        }
    }

    /// Lets all sessions end. After [`Sessions::shut`] none is left.
    pub(crate) fn clear(&self) {
        for worker in 0..self.lists.len() {
            let list = std::mem::take(&mut *self.list(worker));
            drop(list);
        }
    }

    /// Uses the sessions no more whose addresses are so; what is under way on them goes on.
    pub(crate) fn remove_where(&self, is_gone: impl Fn(Option<SocketAddr>) -> bool) {
        for worker in 0..self.lists.len() {
            let mut list = self.list(worker);
            let gone: Vec<Shared> = list
                .sessions
                .extract_if(.., |shared| is_gone(shared.address))
                .collect();
            drop(list);
            drop(gone);
        }
    }

    /// A session of `worker` on which a request can begin: the oldest, so that others become idle.
    pub(crate) fn find(&self, worker: usize) -> Option<Arc<dyn Session>> {
        let mut over = Vec::new();
        let mut list = self.list(worker);
        let mut index = 0;
        let mut found = None;
        while let Some(shared) = list.sessions.get_mut(index) {
            if shared.session.is_over() {
                over.push(list.sessions.remove(index));
            } else if shared.session.room() > 0 {
                shared.idle_since = None;
                found = Some(Arc::clone(&shared.session));
                break;
            } else {
                index += 1;
            }
        }
        drop(list);
        drop(over);
        found
    }

    /// Keeps a session for the requests of `worker`, unless they are not kept any more.
    /// `is_here` says whether an address of the endpoint's name is one still.
    pub(crate) fn add(
        &self,
        worker: usize,
        session: Arc<dyn Session>,
        origin: Origin,
        is_here: impl Fn(SocketAddr) -> bool,
    ) {
        let mut list = self.list(worker);
        // Under the lock: one that comes while the pool closes, or its address goes, is not left behind.
        let is_of_now =
            origin.seal == self.seal.load(Ordering::SeqCst) && origin.address.is_none_or(is_here);
        if is_of_now && self.open.load(Ordering::SeqCst) {
            list.sessions.push(Shared {
                session,
                address: origin.address,
                idle_since: None,
            });
        }
    }

    /// The opening that is under way, or else one that `begin` begins.
    pub(crate) fn opening(
        &self,
        worker: usize,
        seal: u64,
        begin: impl FnOnce() -> Opened,
    ) -> Opened {
        let mut list = self.list(worker);
        match &list.opening {
            Some((number, opening)) if *number == seal && is_under_way(opening) => opening.clone(),
            // One that is under way for another seal is left alone.
            _ => {
                let opening = begin();
                list.opening = Some((seal, opening.clone()));
                opening
            }
        }
    }

    /// Uses this session of `worker` no more: nobody answers there.
    pub(crate) fn remove(&self, worker: usize, session: &Arc<dyn Session>) {
        let mut list = self.list(worker);
        let is_it = |shared: &Shared| Arc::ptr_eq(&shared.session, session);
        let place = list.sessions.iter().position(is_it);
        let removed = place.map(|place| list.sessions.remove(place));
        drop(list);
        drop(removed);
    }

    /// Lets those of `worker`'s sessions end that are idle for too long, or over.
    pub(crate) fn sweep(&self, worker: usize, now: Ticks) {
        let idle = Duration::from_nanos(self.idle_timeout_nanos.load(Ordering::Relaxed));
        let mut ended = Vec::new();
        let mut list = self.list(worker);
        // It holds what came of it.
        let opened = list.opening.take_if(|(_, opening)| !is_under_way(opening));
        let mut index = 0;
        while let Some(shared) = list.sessions.get_mut(index) {
            let is_idle = match shared.session.in_use() {
                0 => now.since(*shared.idle_since.get_or_insert(now)) >= idle,
                _ => {
                    shared.idle_since = None;
                    false
                }
            };
            if is_idle || shared.session.is_over() {
                ended.push(list.sessions.remove(index));
            } else {
                index += 1;
            }
        }
        drop(list);
        drop((ended, opened));
    }

    /// Sessions of all workers.
    pub(crate) fn count(&self) -> usize {
        (0..self.lists.len())
            .map(|worker| self.list(worker).sessions.len())
            .sum()
    }
}

fn is_under_way(opening: &Opened) -> bool {
    opening.borrow().is_none() && opening.has_changed().is_ok()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Debug, Default)]
    struct Fake {
        room: AtomicUsize,
        in_use: AtomicUsize,
        over: AtomicBool,
    }

    impl Session for Fake {
        fn room(&self) -> usize {
            self.room.load(Ordering::Relaxed)
        }

        fn in_use(&self) -> usize {
            self.in_use.load(Ordering::Relaxed)
        }

        fn is_over(&self) -> bool {
            self.over.load(Ordering::Relaxed)
        }

        fn as_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
            self
        }
    }

    fn fake(room: usize) -> Arc<Fake> {
        let fake = Fake::default();
        fake.room.store(room, Ordering::Relaxed);
        Arc::new(fake)
    }

    fn of_seal(seal: u64) -> Origin {
        Origin {
            seal,
            address: None,
        }
    }

    fn at(seconds: u64) -> Ticks {
        Ticks::ZERO + Duration::from_secs(seconds)
    }

    fn is(found: Option<Arc<dyn Session>>, expected: Option<&Arc<Fake>>) -> bool {
        let found = found.map(|session| session.as_any().downcast::<Fake>().expect("a fake"));
        match (found, expected) {
            (Some(found), Some(expected)) => Arc::ptr_eq(&found, expected),
            (None, None) => true,
            _ => false,
        }
    }

    #[test]
    fn the_oldest_with_room_is_used_and_the_idle_and_the_over_go() {
        let sessions = Sessions::new(2);
        sessions.configure(Duration::from_secs(30));
        let (first, second) = (fake(1), fake(1));
        for session in [&first, &second] {
            let session = Arc::clone(session) as Arc<dyn Session>;
            sessions.add(0, session, Origin::default(), |_| true);
        }
        assert!(is(sessions.find(0), Some(&first)));
        assert!(is(sessions.find(1), None), "they stay with their worker");
        first.room.store(0, Ordering::Relaxed);
        assert!(is(sessions.find(0), Some(&second)));
        second.over.store(true, Ordering::Relaxed);
        assert!(is(sessions.find(0), None));
        assert_eq!(sessions.count(), 1);
        first.in_use.store(1, Ordering::Relaxed);
        sessions.sweep(0, at(1));
        sessions.sweep(0, at(100));
        assert_eq!(sessions.count(), 1, "in use");
        first.in_use.store(0, Ordering::Relaxed);
        sessions.sweep(0, at(101));
        sessions.sweep(0, at(130));
        assert_eq!(sessions.count(), 1, "not idle for long enough");
        sessions.sweep(0, at(131));
        assert_eq!(sessions.count(), 0);
    }

    #[test]
    fn none_is_kept_of_another_seal_or_of_a_pool_that_is_shut() {
        let sessions = Sessions::new(1);
        sessions.set_seal(3);
        sessions.add(0, fake(1), of_seal(2), |_| true);
        assert_eq!(sessions.count(), 0);
        sessions.add(0, fake(1), of_seal(3), |_| true);
        assert_eq!(sessions.count(), 1);
        sessions.set_seal(4);
        assert_eq!(sessions.count(), 0);
        sessions.shut();
        sessions.add(0, fake(1), of_seal(4), |_| true);
        assert_eq!(sessions.count(), 0);
    }

    #[test]
    fn those_to_an_address_that_went_are_used_no_more() {
        let sessions = Sessions::new(1);
        let (stays, goes) = (fake(1), fake(1));
        for (session, port) in [(&goes, 1), (&stays, 2)] {
            let origin = Origin {
                seal: 0,
                address: Some(SocketAddr::from(([192, 0, 2, 1], port))),
            };
            sessions.add(0, Arc::clone(session) as Arc<dyn Session>, origin, |_| true);
        }
        let origin = Origin {
            seal: 0,
            address: Some(SocketAddr::from(([192, 0, 2, 1], 3))),
        };
        sessions.add(0, fake(1), origin, |_| false);
        assert_eq!(sessions.count(), 2, "one whose address went meanwhile");
        sessions.remove_where(|address| address.is_some_and(|address| address.port() == 1));
        assert!(is(sessions.find(0), Some(&stays)));
        assert_eq!(sessions.count(), 1);
    }

    #[tokio::test]
    async fn one_is_opened_at_a_time_and_all_who_wait_learn_how_it_went() {
        let sessions = Sessions::new(1);
        let (tell, opened_one) = watch::channel(None);
        let first = sessions.opening(0, 0, || opened_one);
        let second = sessions.opening(0, 0, || panic!("one is under way"));
        let fault = Fault::upstream(Phase::Connect, Cause::ConnectRefused, Sent::None);
        tell.send_replace(Some(Err(fault)));
        assert_eq!(opened(first).await.err(), Some(fault));
        assert_eq!(opened(second).await.err(), Some(fault));
        // The next one begins anew, also when the last one ended without a word.
        let (tell, opened_one) = watch::channel(None);
        let third = sessions.opening(0, 0, || opened_one);
        drop(tell);
        assert!(opened(third).await.is_err());
        let (tell, opened_one) = watch::channel(None);
        let fourth = sessions.opening(0, 0, || opened_one);
        // Another seal's is another one.
        let (_, opened_one) = watch::channel(None);
        sessions.opening(0, 1, || opened_one);
        let session = fake(1);
        tell.send_replace(Some(Ok(Arc::clone(&session) as Arc<dyn Session>)));
        assert!(is(opened(fourth).await.ok(), Some(&session)));
    }
}
