//! A pool: the connections to servers of one database and user, and the line of clients that wait
//! for one. It belongs to one worker, so that the line is exact: who came first is served first.
//! Where a pool is split over several workers this is one lane of it; what follows from that is in
//! [`in_lanes`] and [`crate::lanes`].
//!
//! What is made, kept and closed is decided here; making one is in [`crate::server::open`].

mod failing;
mod in_lanes;
mod inner;
mod locked;
mod seats;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use outgrow_core::Ticks;
use outgrow_upstream::EndpointId;
use tokio::sync::oneshot;

use inner::{Inner, Waiting};

use crate::lanes::{Lanes, PoolKey};
use crate::listening::Hub;
use crate::login::Credential;
use crate::numbers::Numbers;
use crate::plan::{Hosts, PoolPlan};
use crate::problem::{Refusal, SHUTDOWN};
use crate::sequences::{Seen, Stay};
use crate::server::Server;
use crate::standing::Role;
use crate::variables::Welcome;

/// What is waited for.
pub(crate) type Lent = Result<Box<Server>, Refusal>;

/// There is no room for one more connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NoRoom;

/// A pool.
#[derive(Debug)]
pub(crate) struct Pool {
    /// The database, as clients call it.
    pub(crate) database: Arc<str>,
    /// The user on the server.
    pub(crate) user: Arc<str>,
    /// The replica that it is for; none: it is for the primary.
    pub(crate) endpoint: Option<EndpointId>,
    pub(crate) numbers: Numbers,
    /// The connection that listens for its clients, of all lanes.
    pub(crate) hub: Arc<Hub>,
    /// What its clients do with sequences, of all lanes.
    pub(crate) sequences: Arc<Seen>,
    /// Grows when prepared statements of before may give other columns than their clients know; of all
    /// lanes.
    plans: Arc<AtomicU64>,
    /// What it has in common with the pool's other lanes.
    pub(crate) lanes: Arc<Lanes>,
    /// The worker that it belongs to.
    pub(crate) worker: usize,
    inner: Mutex<Inner>,
}

/// A place in the line.
#[derive(Debug)]
pub(crate) struct Place {
    pool: Arc<Pool>,
    ticket: u64,
    pub(crate) answer: oneshot::Receiver<Lent>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inner = self.pool.lock();
        let place = inner
            .line
            .binary_search_by_key(&self.ticket, |waiting| waiting.ticket);
        if let Ok(place) = place {
            inner.line.remove(place);
        }
        drop(inner);
        // What was handed over at this moment goes to the next.
        self.answer.close();
        if let Ok(Ok(server)) = self.answer.try_recv() {
            self.pool.hand_on(server);
        }
    }
}

/// What the worker is to do for a pool.
#[derive(Debug, Default)]
pub(crate) struct Chores {
    /// Connections to make.
    pub(crate) make: u32,
    /// Whether these are of the reserve.
    pub(crate) is_reserve: bool,
    /// Connections to close, with the reason.
    pub(crate) close: Vec<(Box<Server>, &'static str)>,
}

/// How a pool is used at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) idle: u32,
    pub(crate) lent: u32,
    pub(crate) coming: u32,
    pub(crate) waiting: u32,
    pub(crate) clients: u32,
    /// Since when the first in line waits.
    pub(crate) waiting_since: Option<Ticks>,
}

impl Load {
    /// This lane and another one together.
    #[must_use]
    pub(crate) fn with(self, other: Self) -> Self {
        let first = [self.waiting_since, other.waiting_since];
        Self {
            idle: self.idle + other.idle,
            lent: self.lent + other.lent,
            coming: self.coming + other.coming,
            waiting: self.waiting + other.waiting,
            clients: self.clients + other.clients,
            waiting_since: first.into_iter().flatten().min(),
        }
    }
}

impl Pool {
    /// An empty pool, or lane of one.
    pub(crate) fn new(
        key: PoolKey,
        lanes: Arc<Lanes>,
        worker: usize,
        plan: PoolPlan,
        now: Ticks,
    ) -> Arc<Self> {
        let (database, user, endpoint) = key;
        let pool = Arc::new(Self {
            database,
            user,
            endpoint,
            numbers: Numbers::default(),
            hub: Arc::clone(&lanes.hub),
            sequences: Arc::clone(&lanes.sequences),
            plans: Arc::clone(&lanes.plans),
            lanes,
            worker,
            inner: Mutex::new(Inner {
                plan: Arc::new(plan),
                is_for_replica: endpoint.is_some(),
                idle: VecDeque::new(),
                lent: 0,
                coming: 0,
                line: VecDeque::new(),
                last_ticket: 0,
                failed: None,
                welcome: None,
                credential: None,
                generation: 0,
                host: 0,
                paused: false,
                is_removed: false,
                clients: 0,
                unused_since: now,
                in_lanes: None,
            }),
        });
        pool.lanes.join(&pool);
        pool
    }

    /// Which definitions statements are prepared under from now on.
    #[inline]
    pub(crate) fn plans(&self) -> u64 {
        self.plans.load(Ordering::Relaxed)
    }

    /// Something was defined anew: who prepares a statement that was prepared before gets a new one.
    pub(crate) fn renew_plans(&self) {
        self.plans.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether a server of this role is one for this pool.
    pub(crate) fn takes(&self, role: Role, endpoint: EndpointId) -> bool {
        match self.endpoint {
            None => role == Role::Primary,
            Some(own) => own == endpoint && role == Role::Replica,
        }
    }

    /// How it should be.
    pub(crate) fn plan(&self) -> Arc<PoolPlan> {
        Arc::clone(&self.lock().plan)
    }

    /// Looks something up in it.
    #[inline]
    pub(crate) fn look_up<T>(&self, look: impl FnOnce(&PoolPlan) -> T) -> T {
        look(&self.lock().plan)
    }

    /// Takes over another plan; `is_elsewhere`: its servers are others, or the login is.
    pub(crate) fn set_plan(&self, plan: PoolPlan, is_elsewhere: bool) {
        let mut inner = self.lock();
        inner.plan = Arc::new(plan);
        inner.is_removed = false;
        drop(inner);
        if is_elsewhere {
            self.renew();
        }
    }

    /// No connection that there is now is lent again, in no lane.
    pub(crate) fn renew(&self) {
        self.lanes.renew();
    }

    /// How connections log in.
    pub(crate) fn credential(&self) -> Option<Credential> {
        self.lock().credential.clone()
    }

    /// Says how connections log in from now on, in all lanes.
    pub(crate) fn set_credential(&self, credential: Credential) {
        for lane in self.lanes.all() {
            lane.lock().credential = Some(credential.clone());
        }
    }

    /// What clients are told at their login, once a server was reached.
    pub(crate) fn welcome(&self) -> Option<Arc<Welcome>> {
        self.lock().welcome.clone()
    }

    /// The place of the server that the next connection is made to; `moves_on`: the one after it
    /// gets the next one.
    pub(crate) fn next_host(&self, moves_on: bool) -> usize {
        let mut inner = self.lock();
        let host = inner.host;
        if moves_on {
            inner.host = host.wrapping_add(1);
        }
        host
    }

    /// A connection failed: the next one is made to the next server.
    pub(crate) fn note_bad_host(&self) {
        let mut inner = self.lock();
        if inner.plan.database.hosts == Hosts::Sticky {
            inner.host = inner.host.wrapping_add(1);
        }
    }

    /// Whether it has connections without clients too.
    pub(crate) fn keeps_connections(&self) -> bool {
        let inner = self.lock();
        inner.plan.limits.minimum > 0 && inner.plan.database.user.is_some()
    }

    /// Lends nothing until [`Pool::resume`].
    pub(crate) fn pause(&self) {
        self.lock().paused = true;
    }

    /// Goes on lending.
    pub(crate) fn resume(&self) {
        let mut inner = self.lock();
        inner.paused = false;
        inner.serve(self.lanes.now());
    }

    /// Whether it is paused.
    pub(crate) fn is_paused(&self) -> bool {
        self.lock().paused
    }

    /// Counts a client in or out.
    pub(crate) fn count_client(&self, is_new: bool, now: Ticks) {
        let mut inner = self.lock();
        let all = &self.lanes.clients;
        if is_new {
            all.fetch_add(1, Ordering::Relaxed);
            inner.clients += 1;
        } else {
            all.fetch_sub(1, Ordering::Relaxed);
            inner.clients -= 1;
            inner.unused_since = now;
        }
    }

    /// Since when it has had neither clients nor connections, in all lanes.
    pub(crate) fn unused_since(&self) -> Option<Ticks> {
        if self.is_split() {
            return self.lanes.unused_since();
        }
        self.own_unused_since()
    }

    /// The same of this lane.
    pub(crate) fn own_unused_since(&self) -> Option<Ticks> {
        let inner = self.lock();
        let is_used = inner.clients > 0
            || inner.lent + inner.coming > 0
            || !inner.idle.is_empty()
            || !inner.line.is_empty();
        (!is_used).then_some(inner.unused_since)
    }

    /// How it is used.
    pub(crate) fn load(&self) -> Load {
        let inner = self.lock();
        Load {
            idle: inner.idle.len() as u32,
            lent: inner.lent,
            coming: inner.coming,
            waiting: inner.line.len() as u32,
            clients: inner.clients,
            waiting_since: inner.line.front().map(|waiting| waiting.since),
        }
    }

    /// Whether somebody waits, in whichever lane.
    pub(crate) fn has_waiting(&self) -> bool {
        let inner = self.lock();
        !inner.line.is_empty() || inner.others_wait()
    }

    /// A connection that is free now, unless others wait for one; the one that was left with this stay,
    /// if nobody has had it since.
    #[inline]
    pub(crate) fn try_lend(&self, now: Ticks, own: Option<Stay>) -> Option<Box<Server>> {
        let mut inner = self.lock();
        if inner.paused || inner.is_removed || !inner.line.is_empty() {
            return None;
        }
        let own = own.and_then(|stay| inner.take_own(stay, now));
        let server = match own {
            Some(server) => server,
            None => inner.take_idle(now)?,
        };
        inner.lent += 1;
        Some(server)
    }

    /// Room for a connection that is made for one client alone and not pooled; it counts as lent.
    /// An idle one makes room if there is none.
    pub(crate) fn take_room(&self) -> Result<Option<Box<Server>>, NoRoom> {
        let mut inner = self.lock();
        let size = inner.plan.limits.size;
        let evicted = if inner.count(|ledger| ledger.take(size)) {
            None
        } else if let Some(idle) = inner.idle.pop_front() {
            Some(idle)
        } else {
            drop(inner);
            let evicted = self.evict_elsewhere()?;
            inner = self.lock();
            if !inner.count(|ledger| ledger.take(size)) {
                drop(inner);
                evicted.close("evicted");
                return Err(NoRoom);
            }
            Some(evicted)
        };
        inner.lent += 1;
        Ok(evicted)
    }

    /// Joins the end of the line.
    pub(crate) fn enter(self: &Arc<Self>, now: Ticks) -> Place {
        let (answer, receiver) = oneshot::channel();
        let mut inner = self.lock();
        inner.last_ticket += 1;
        let ticket = inner.last_ticket;
        if inner.is_removed {
            let _ = answer.send(Err(removed()));
        } else {
            inner.line.push_back(Waiting {
                ticket,
                since: now,
                answer,
            });
        }
        Place {
            pool: Arc::clone(self),
            ticket,
            answer: receiver,
        }
    }

    /// Takes back a connection that is at rest and clean. None goes to be closed when it is returned.
    #[inline]
    pub(crate) fn give_back(&self, mut server: Box<Server>, now: Ticks) -> Option<Box<Server>> {
        let mut inner = self.lock();
        inner.lent -= 1;
        let was_used = !server.is_fresh;
        if inner.is_over(&server, now) || (was_used && inner.plan.limits.used_once) {
            return Some(server);
        }
        if inner.owes(&mut server, now) {
            return Some(server);
        }
        server.idle_since = now;
        if inner.in_lanes.is_some()
            && let Some(lane) = inner.others_turn()
        {
            inner.lent += 1;
            drop(inner);
            self.lanes.hand_to(server, self, lane);
            return None;
        }
        let server = inner.hand_over(server)?;
        inner.keep(server);
        None
    }

    /// Takes note that a connection that was lent is gone.
    pub(crate) fn forget(&self) {
        self.lock().lent -= 1;
    }

    /// A connection that was handed to somebody who left.
    fn hand_on(&self, server: Box<Server>) {
        let mut inner = self.lock();
        inner.lent -= 1;
        if let Some(server) = inner.hand_over(server) {
            inner.keep(server);
        }
    }

    /// A connection that has been made.
    pub(crate) fn arrive(&self, mut server: Box<Server>, welcome: Welcome) {
        self.numbers.connects.add_shared(1);
        let mut inner = self.lock();
        inner.coming -= 1;
        inner.failed = None;
        let welcome = Arc::clone(inner.welcome.get_or_insert_with(|| Arc::new(welcome)));
        // Its clients have the same ones: so comparing them is cheap.
        server.variables.share(&welcome.variables);
        let is_split = inner.in_lanes.is_some();
        if let Some(server) = inner.hand_over(server) {
            inner.keep(server);
        }
        drop(inner);
        if is_split {
            self.tell_reached(&welcome);
        }
    }

    /// The database is not in the configuration any more: nothing is lent until it is there again.
    pub(crate) fn remove(&self) {
        self.renew();
        self.lock().is_removed = true;
        self.refuse_all(&removed());
    }

    /// Everybody who waits is sent away.
    pub(crate) fn refuse_all(&self, refusal: &Refusal) {
        self.lock().refuse_all(refusal);
    }

    /// The connection that is idle for longest, to make room for another pool.
    pub(crate) fn evict(&self) -> Option<Box<Server>> {
        self.lock().idle.pop_front()
    }

    /// Since when the connection is idle that [`Pool::evict`] would take.
    pub(crate) fn oldest_idle(&self) -> Option<Ticks> {
        self.lock().idle.front().map(|server| server.idle_since)
    }

    /// The generation of new connections.
    pub(crate) fn generation(&self) -> u64 {
        self.lock().generation
    }

    /// How many connections to make now, which count as coming from now on, and whether these are
    /// of the reserve.
    pub(crate) fn grow(&self, now: Ticks) -> (u32, bool) {
        let mut inner = self.lock();
        let wanted = inner.claim(now);
        let is_reserve = wanted > 0 && inner.whole().total() > inner.plan.limits.size;
        (wanted, is_reserve)
    }

    /// What is to be done from time to time.
    pub(crate) fn tick(&self, now: Ticks) -> Chores {
        let mut inner = self.lock();
        let mut chores = Chores::default();
        let limits = inner.plan.limits.clone();
        let mut total = inner.whole().standing;
        let mut index = 0;
        while let Some(is_quiet) = inner.idle.get_mut(index).map(|one| one.is_quiet()) {
            let server = &inner.idle[index];
            let is_spare = total > limits.minimum;
            let idle = now.since(server.idle_since);
            let reason = if inner.is_over(server, now) {
                Some(if server.generation == inner.generation {
                    "server lifetime over"
                } else {
                    "database configuration changed"
                })
            } else if !is_quiet {
                Some("idle server got dirty")
            } else if is_spare && !limits.server_idle.is_zero() && idle >= limits.server_idle {
                Some("server idle timeout")
            } else if inner.paused {
                Some("pause mode")
            } else if total > limits.size + limits.reserve {
                Some("too many servers in the pool")
            } else {
                None
            };
            match reason {
                Some(reason) => {
                    total -= 1;
                    let server = inner.idle.remove(index);
                    chores.close.extend(server.map(|server| (server, reason)));
                }
                None => index += 1,
            }
        }
        inner.serve(now);
        inner.give_up_replica(now);
        chores.make = inner.claim(now);
        chores.is_reserve = chores.make > 0 && inner.whole().total() > limits.size;
        chores
    }

    /// Closes all idle connections.
    pub(crate) fn close_idle(&self, reason: &'static str) {
        let idle: Vec<_> = self.lock().idle.drain(..).collect();
        for server in idle {
            server.close(reason);
        }
    }
}

impl std::fmt::Display for Pool {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}/{}", self.database, self.user)
    }
}

/// What clients of a database are told that is not in the configuration any more.
fn removed() -> Refusal {
    Refusal::new(SHUTDOWN, "database removed")
}
