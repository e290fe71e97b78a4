//! An endpoint: one address of a service, with its counters, its permits and its pools.
//!
//! Whether it is healthy, ejected or draining is kept by its [`Service`], which
//! also decides; here is what a request touches.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use outgrow_balance::hash::hash;
use outgrow_balance::peak_ewma::PeakEwma;
use outgrow_balance::reported_load::Report;
use outgrow_balance::slow_start::Curve;
use outgrow_core::metrics::Counter;
use outgrow_core::serving::{Serving, Servings};
use outgrow_core::settings::Address;
use outgrow_core::{Cause, Fault, Ticks};

use crate::parting::Parting;
use crate::permit::Permit;
use crate::pool::{Connection, Freshness, Origin, Pool};
use crate::queue::{Queue, Wait};
use crate::sample::Sample;
use crate::service::Service;
use crate::sessions::{Opened, Session};
use crate::settings::ServiceSettings;

mod addresses;
mod measures;

pub(crate) use measures::{Answers, Measures};

/// An endpoint's identity: never used twice in a process. An address that goes and comes back is
/// another endpoint, unless it came back before its last request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointId(pub(crate) u64);

impl EndpointId {
    /// The identity as a number.
    pub fn number(self) -> u64 {
        self.0
    }
}

/// How a request ended, as far as the endpoint's health is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered, with whatever status that is the application's own.
    Success,
    /// It was answered with 502, 503 or 504.
    ServerError,
    /// It failed. Faults of the client and of outgrow do not count.
    Fault(Fault),
}

/// One address of a service.
#[derive(Debug)]
pub struct Endpoint {
    id: EndpointId,
    /// What hashing knows it by: the same in every process.
    identity: u64,
    address: Address,
    label: String,
    instance: Option<String>,
    weight: AtomicU32,
    /// Permits taken.
    pub(crate) active: AtomicU32,
    pub(crate) requests: Counter,
    /// Permits that there are.
    pub(crate) limit: AtomicU32,
    /// Whether it is in the set that requests are sent to.
    pub(crate) usable: AtomicBool,
    /// Whether its checks fail, or its instance is dead.
    pub(crate) down: AtomicBool,
    /// Failures in a row that eject; 0 is never.
    eject_at: AtomicU32,
    failures_in_a_row: AtomicU32,
    /// When its slow start began, as `Ticks`; 0 when it has none.
    slow_since: AtomicU64,
    /// A [`PeakEwma`], for the algorithms that look at it.
    response_time: AtomicU64,
    sample: Sample,
    /// Whether a check ever passed.
    pub(crate) was_up: AtomicBool,
    failures: Counter,
    pub(crate) measures: Measures,
    connects: Counter,
    pub(crate) pool: Pool,
    pub(crate) queue: Arc<Queue>,
    /// The line of those who wait for this endpoint and no other.
    pub(crate) own_queue: Arc<Queue>,
    /// Whether it drains by order.
    drained: AtomicBool,
    /// When those who stay here began to leave, as `Ticks`; 0 while they do not.
    leaving_since: AtomicU64,
    /// The time over which they leave, in nanoseconds.
    leaving_over: AtomicU64,
    /// By when long connections have to be gone.
    parting: Parting,
    service: Weak<Service>,
    /// What it serves and has written, where somebody wants to know.
    serving: OnceLock<Arc<Serving>>,
    /// What a name was resolved to.
    resolved: Mutex<addresses::Resolved>,
}

/// The identity of what is known by a name: of an instance, or of an address where there is none.
pub fn identity_of(known_as: &str) -> u64 {
    hash(known_as.as_bytes())
}

/// What an endpoint is made from.
pub(crate) struct Founding {
    pub(crate) id: EndpointId,
    pub(crate) address: Address,
    pub(crate) instance: Option<String>,
    pub(crate) weight: u32,
    pub(crate) max_connections: u32,
    pub(crate) workers: usize,
    pub(crate) queue: Arc<Queue>,
    pub(crate) service: Weak<Service>,
}

impl Endpoint {
    pub(crate) fn new(founding: Founding, settings: &ServiceSettings) -> Self {
        let resolved = founding.address.socket_address().into_iter().collect();
        let label = founding.address.to_string();
        // An instance that is started again has another port and gets the same keys.
        let known_as = founding.instance.as_deref().unwrap_or(&label);
        let endpoint = Self {
            id: founding.id,
            identity: identity_of(known_as),
            label,
            address: founding.address,
            instance: founding.instance,
            weight: AtomicU32::new(founding.weight),
            active: AtomicU32::new(0),
            requests: Counter::default(),
            limit: AtomicU32::new(0),
            usable: AtomicBool::new(false),
            down: AtomicBool::new(false),
            eject_at: AtomicU32::new(0),
            failures_in_a_row: AtomicU32::new(0),
            slow_since: AtomicU64::new(0),
            response_time: AtomicU64::new(PeakEwma::new(Ticks::ZERO).to_bits()),
            sample: Sample::default(),
            was_up: AtomicBool::new(false),
            failures: Counter::default(),
            measures: Measures::default(),
            connects: Counter::default(),
            pool: Pool::new(founding.workers),
            queue: founding.queue,
            own_queue: Arc::default(),
            drained: AtomicBool::new(false),
            leaving_since: AtomicU64::new(0),
            leaving_over: AtomicU64::new(0),
            parting: Parting::default(),
            service: founding.service,
            serving: OnceLock::new(),
            resolved: Mutex::new(addresses::Resolved::new(resolved)),
        };
        endpoint.configure(settings, founding.max_connections);
        endpoint
    }

    /// Takes over settings; `own_limit` is that of the endpoint alone, 0 for that of the service.
    pub(crate) fn configure(&self, settings: &ServiceSettings, own_limit: u32) {
        let limit = match own_limit {
            0 => settings.max_connections,
            own => own,
        };
        self.limit.store(limit, Ordering::SeqCst);
        self.eject_at
            .store(settings.outlier.consecutive_failures, Ordering::Relaxed);
        self.pool
            .configure(settings.idle_connections as usize, settings.idle_timeout);
    }

    /// Whether its checks fail, or its instance is dead.
    #[inline]
    pub fn is_down(&self) -> bool {
        self.down.load(Ordering::Relaxed)
    }

    /// Its identity.
    #[inline]
    pub fn id(&self) -> EndpointId {
        self.id
    }

    /// A hash of its address, or of its instance's name: the same in every process.
    #[inline]
    pub fn identity(&self) -> u64 {
        self.identity
    }

    /// What it serves and has written: that of its identity in `all`, the first time that it is
    /// asked for.
    #[inline]
    pub fn serving(&self, all: &Servings) -> &Arc<Serving> {
        self.serving.get_or_init(|| all.of(self.identity))
    }

    /// Its address.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Its address as text, for records.
    #[inline]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The name of the instance that answers there, when outgrow runs it.
    #[inline]
    pub fn instance(&self) -> Option<&str> {
        self.instance.as_deref()
    }

    /// Its weight among the endpoints of the service: what came of its reports, where that is
    /// looked at, else that of the configuration.
    pub fn weight(&self) -> u32 {
        let reported = self.measures.reported_weight();
        reported.unwrap_or_else(|| self.configured_weight())
    }

    /// Its weight in the configuration.
    pub fn configured_weight(&self) -> u32 {
        self.weight.load(Ordering::Relaxed)
    }

    pub(crate) fn set_weight(&self, weight: u32) {
        self.weight.store(weight, Ordering::Relaxed);
    }

    /// Requests in flight, of all workers.
    #[inline]
    pub fn active(&self) -> u32 {
        self.active.load(Ordering::SeqCst)
    }

    /// Most requests in flight, of all workers.
    pub fn limit(&self) -> u32 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Requests that got a permit.
    pub fn requests(&self) -> u64 {
        self.requests.get()
    }

    /// Failures that counted against it.
    pub fn failures(&self) -> u64 {
        self.failures.get()
    }

    /// Times that it was ejected.
    pub fn ejections(&self) -> u64 {
        let by_cause = self.measures.ejections();
        by_cause.iter().map(|(_, count)| count).sum()
    }

    /// Connections that were made to it.
    pub fn connects(&self) -> u64 {
        self.connects.get()
    }

    /// Idle connections, and those that requests share, of all workers.
    pub fn idle(&self) -> usize {
        self.pool.count()
    }

    /// Whether requests are sent to it.
    #[inline]
    pub fn is_usable(&self) -> bool {
        self.usable.load(Ordering::SeqCst)
    }

    /// Whether it takes those who stay: it is usable, or they leave it one after the other.
    #[inline]
    pub fn is_kept(&self) -> bool {
        self.is_usable() || self.leaving().is_some()
    }

    /// Whether it drains by order.
    pub fn is_drained(&self) -> bool {
        self.drained.load(Ordering::Relaxed)
    }

    pub(crate) fn set_drained(&self, drained: bool) {
        self.drained.store(drained, Ordering::Relaxed);
    }

    /// By when long connections have to be gone, and who has one.
    pub fn parting(&self) -> &Parting {
        &self.parting
    }

    /// Since when and over which time those who stay here leave it, while they do.
    pub fn leaving(&self) -> Option<(Ticks, Duration)> {
        match self.leaving_since.load(Ordering::SeqCst) {
            0 => None,
            since => {
                let over = self.leaving_over.load(Ordering::Relaxed);
                Some((Ticks(since), Duration::from_nanos(over)))
            }
        }
    }

    /// Lets those who stay here leave over `window` from `now` on; `None` ends that.
    pub(crate) fn set_leaving(&self, leaving: Option<(Ticks, Duration)>) {
        let (since, over) = leaving.map_or((0, 0), |(since, over)| {
            (since.0.max(1), over.as_nanos() as u64)
        });
        self.leaving_over.store(over, Ordering::Relaxed);
        self.leaving_since.store(since, Ordering::SeqCst);
    }

    /// A permit of this endpoint, whatever the others have: for who has chosen it by what only the
    /// tier knows. None at its limit, or when it is not to be used.
    pub fn permit(self: &Arc<Self>) -> Option<Permit> {
        Permit::acquire(self)
    }

    /// Stands in line for a permit of this endpoint alone, for somebody who stays here.
    ///
    /// # Errors
    /// [`Cause::QueueFull`] when `limit` wait already. The wait ends with [`Cause::NoEndpoint`]
    /// when the endpoint takes nobody any more.
    pub fn wait(self: &Arc<Self>, limit: usize) -> Result<Wait, Cause> {
        let wait = self.own_queue.enter(limit)?;
        // What was free between the choice and this moment was handed to nobody.
        crate::permit::hand_over_own(self);
        if !self.is_kept() {
            self.own_queue.refuse_all(Cause::NoEndpoint);
        }
        Ok(wait)
    }

    /// What it is known as wherever it is known: its instance's name, else its address.
    pub fn known_as(&self) -> &str {
        self.instance.as_deref().unwrap_or(&self.label)
    }

    /// An idle connection that is open, as far as can be known without waiting: of `worker`'s own
    /// (no system call), or of another worker's (two). Must be called on the worker's runtime.
    #[inline]
    pub fn checkout(&self, worker: usize, now: Ticks, freshness: Freshness) -> Option<Connection> {
        self.pool.checkout(worker, now, freshness)
    }

    /// Keeps a connection for the next request, for `idle_timeout` or what the server's
    /// `Keep-Alive: timeout=` says (less a second), whichever is shorter. At the limit the one that
    /// was idle longest is closed. A connection of another endpoint is closed, and one to an address
    /// that is none of the endpoint's name any more.
    #[inline]
    pub fn release(
        &self,
        worker: usize,
        connection: Connection,
        now: Ticks,
        keep_alive: Option<Duration>,
    ) {
        if connection.endpoint == self.id && self.is_at(&connection.place) {
            self.pool.release(worker, connection, now, keep_alive);
        }
    }

    /// Closes `worker`'s idle connections that are too old or dead. To be called each second.
    pub fn sweep(&self, worker: usize, now: Ticks) {
        self.pool.sweep(worker, now);
    }

    /// A session of `worker` on which a request can begin.
    pub fn session(&self, worker: usize) -> Option<Arc<dyn Session>> {
        self.pool.sessions.find(worker)
    }

    /// Keeps a session for the requests of `worker`, on whose runtime it is. `origin`: that of the
    /// connection that it is on ([`Connection::origin`]).
    pub fn add_session(&self, worker: usize, session: Arc<dyn Session>, origin: Origin) {
        let is_here = |address| self.has_address(address);
        self.pool.sessions.add(worker, session, origin, is_here);
    }

    /// The opening of a session for `worker` that is under way, or else the one that `begin` begins.
    /// `seal`: the number of what is to encrypt it.
    pub fn opening(&self, worker: usize, seal: u64, begin: impl FnOnce() -> Opened) -> Opened {
        self.pool.sessions.opening(worker, seal, begin)
    }

    /// Uses this session of `worker` no more, since nobody answers there. What is under way goes on.
    pub fn drop_session(&self, worker: usize, session: &Arc<dyn Session>) {
        self.pool.sessions.remove(worker, session);
    }

    /// Takes note of how a request ended. A success costs one relaxed load; failures in a row
    /// eject the endpoint (see `outgrow_balance::outlier`).
    #[inline]
    pub fn report(&self, outcome: Outcome, now: Ticks) {
        let blamed = match outcome {
            Outcome::Success => {
                if self.failures_in_a_row.load(Ordering::Relaxed) != 0 {
                    self.failures_in_a_row.store(0, Ordering::Relaxed);
                }
                false
            }
            Outcome::ServerError => true,
            Outcome::Fault(fault) => fault.blames_endpoint(),
        };
        if blamed {
            self.count_failure(now);
        }
    }

    #[cold]
    fn count_failure(&self, now: Ticks) {
        self.failures.add_shared(1);
        let in_a_row = self
            .failures_in_a_row
            .fetch_add(1, Ordering::Relaxed)
            .wrapping_add(1);
        let eject_at = self.eject_at.load(Ordering::Relaxed);
        // Not at each failure beyond: in an outage of all endpoints none may be ejected any more,
        // and every request would ask.
        if eject_at != 0
            && in_a_row.is_multiple_of(eject_at)
            && let Some(service) = self.service.upgrade()
        {
            service.eject(self.id, now);
        }
    }

    pub(crate) fn forget_failures(&self) {
        self.failures_in_a_row.store(0, Ordering::Relaxed);
    }

    pub(crate) fn count_connect(&self) {
        self.connects.add_shared(1);
    }

    /// Begins its slow start, or ends it with `None`.
    pub(crate) fn set_slow_since(&self, since: Option<Ticks>) {
        self.slow_since
            .store(since.map_or(0, |since| since.0), Ordering::Relaxed);
    }

    /// The share of its weight that it gets now.
    #[inline]
    pub(crate) fn share(&self, curve: &Curve, now: Ticks) -> f64 {
        match self.slow_since.load(Ordering::Relaxed) {
            0 => 1.0,
            since => curve.share(now.since(Ticks(since))),
        }
    }

    /// Takes note of the load that it reported with an answer.
    pub fn note_report(&self, report: Report) {
        self.measures.note_report(report);
    }

    /// Takes note of how long it took to answer, for the algorithms and rules that look at it: a
    /// request that failed counts as slow. Workers that do so at the same moment lose one of their
    /// averages, none of the sums.
    #[inline]
    pub fn note_response_time(&self, elapsed: Duration, failed: bool, now: Ticks) {
        let mut average = PeakEwma::from_bits(self.response_time.load(Ordering::Relaxed));
        if failed {
            average.observe_failure(elapsed, now);
        } else {
            average.observe(elapsed, now);
            self.measures.note_answer(elapsed);
        }
        self.response_time
            .store(average.to_bits(), Ordering::Relaxed);
    }

    /// The sample of what it answers.
    #[inline]
    pub fn sample(&self) -> &Sample {
        &self.sample
    }

    /// The average of its response times in seconds, decayed to `now`.
    #[inline]
    pub fn response_time(&self, now: Ticks) -> f64 {
        PeakEwma::from_bits(self.response_time.load(Ordering::Relaxed)).read(now)
    }
}
