//! Which instance a client of the pool is: by its process, where it comes from this machine; by its
//! address, where it does not; by the name that it gives itself, where that is to be believed.
//!
//! One thread looks, for all who have come meanwhile at once. Who is not known is looked for again
//! whenever the instances have changed, and so is who is known by an address.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use outgrow_core::serving::{Serving, Servings};
use outgrow_core::settings::Address;
use outgrow_fleet::sockets::{Owner, Wanted, owners};
use outgrow_postgres::origin::{MOST_INSTANCES, Origin, Place};
use outgrow_postgres::seen::Far;
use outgrow_upstream::{Service, identity_of};

use super::instances::Instances;

/// Most clients that wait to be placed; more stay with the primary until the instances change.
const MOST_PENDING: usize = 16 * 1024;
/// After how long somebody is told of who is not placed yet.
const LATE: Duration = Duration::from_secs(1);
/// How long it is waited for others that come at the same time.
const GATHER: Duration = Duration::from_millis(2);
/// Between two looks at all processes where reads wait for what is found.
pub(super) const PAUSE: Duration = Duration::from_millis(25);
/// And where only the diagnosis does: an application may connect anew for each request.
pub(super) const LONG_PAUSE: Duration = Duration::from_millis(500);
/// After how long those who are not known are looked for again although nothing has changed: twice
/// as long each time, from the last who came. A server may have connected before it listens.
const AGAIN: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(250)..=Duration::from_secs(8);

/// An instance, or another endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    /// As [`outgrow_upstream::Endpoint::identity`].
    identity: u64,
    /// Its name or address in the configuration.
    name: String,
    /// The shim of an instance.
    shim: Option<u32>,
    /// Where another endpoint is.
    address: Option<SocketAddr>,
}

#[derive(Debug, Default)]
struct State {
    known: Arc<Vec<Known>>,
    believes_names: bool,
    pause: Duration,
    pending: Vec<Arc<Origin>>,
    /// Those who are being looked for.
    sought: Vec<Weak<Origin>>,
    /// Since when somebody waits.
    waits_since: Option<Instant>,
    /// Those who were placed by an address, or nowhere.
    doubtful: Vec<Weak<Origin>>,
    has_thread: bool,
    again: Duration,
}

/// Who says it.
#[derive(Debug)]
pub(super) struct Sources {
    servings: Arc<Servings>,
    state: Mutex<State>,
    wanted: Condvar,
}

impl outgrow_postgres::origin::Sources for Sources {
    fn place(&self, origin: &Arc<Origin>) {
        let mut state = self.lock();
        if state.pending.len() >= MOST_PENDING {
            origin.put(Place::Nowhere("too many came at once"));
            state.doubtful.push(Arc::downgrade(origin));
            return;
        }
        state.pending.push(Arc::clone(origin));
        state.waits_since.get_or_insert_with(Instant::now);
        drop(state);
        self.wanted.notify_one();
    }

    fn nowhere(&self, most: usize) -> Vec<(Arc<Origin>, &'static str)> {
        self.nowhere_at(most, Instant::now())
    }
}

impl Sources {
    pub(super) fn new(servings: Arc<Servings>) -> Arc<Self> {
        Arc::new(Self {
            servings,
            state: Mutex::default(),
            wanted: Condvar::new(),
        })
    }

    fn nowhere_at(&self, most: usize, now: Instant) -> Vec<(Arc<Origin>, &'static str)> {
        let state = self.lock();
        let is_late = |since| now.saturating_duration_since(since) >= LATE;
        let is_late = state.waits_since.is_some_and(is_late);
        // Of those who are looked for again it is known already.
        let known = state.doubtful.iter().chain(&state.sought).cloned();
        let pending = state.pending.iter().map(Arc::downgrade);
        let all: Vec<Weak<Origin>> = known.chain(pending).collect();
        drop(state);
        let origins = all.iter().filter_map(Weak::upgrade);
        let lost = origins.filter_map(|origin| match origin.place() {
            Place::Nowhere(reason) => Some((origin, reason)),
            Place::Asked if is_late => Some((origin, "it is still being looked for")),
            _ => None,
        });
        lost.take(most).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(self: &Arc<Self>) {
        let sources = Arc::downgrade(self);
        let look = move || Self::run(&sources);
        let started = thread::Builder::new()
            .name("sources".to_owned())
            .spawn(look);
        self.lock().has_thread = started.is_ok();
    }

    /// Takes over which instances and endpoints there are.
    pub(super) fn learn(
        self: &Arc<Self>,
        instances: &Instances,
        services: impl Iterator<Item = Arc<Service>>,
        (believes_names, pause): (bool, Duration),
    ) {
        if !self.lock().has_thread {
            self.start();
        }
        let mut known: Vec<Known> = instances.all().filter_map(of_instance).collect();
        for service in services {
            let set = service.endpoints().load();
            let others = set
                .all
                .iter()
                .filter(|endpoint| endpoint.instance().is_none());
            known.extend(others.map(|endpoint| Known {
                identity: endpoint.identity(),
                name: endpoint.label().to_owned(),
                shim: None,
                address: address_of(endpoint.address()),
            }));
        }
        known.sort_by(|one, other| (one.identity, &one.name).cmp(&(other.identity, &other.name)));
        known.dedup();
        let mut state = self.lock();
        state.pause = pause;
        if *state.known == known && state.believes_names == believes_names {
            return;
        }
        state.known = Arc::new(known);
        state.believes_names = believes_names;
        let has_doubts = look_again(&mut state);
        let known = Arc::clone(&state.known);
        drop(state);
        let is_known = |identity| known.iter().any(|one| one.identity == identity);
        self.servings.retain(is_known);
        if has_doubts {
            self.wanted.notify_one();
        }
    }

    fn run(sources: &Weak<Self>) {
        loop {
            let Some(own) = sources.upgrade() else {
                return;
            };
            own.wait();
            thread::sleep(GATHER);
            own.look();
            let pause = own.lock().pause;
            drop(own);
            thread::sleep(pause);
        }
    }

    /// Until somebody has come, or those are to be looked for again who are not known.
    fn wait(&self) {
        let state = self.lock();
        let is_idle = |state: &mut State| state.pending.is_empty();
        let limit = state.again.clamp(*AGAIN.start(), *AGAIN.end());
        let waited = self.wanted.wait_timeout_while(state, limit, is_idle);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if state.pending.is_empty() {
            state.again = limit * 2;
            look_again(&mut state);
        } else {
            state.again = *AGAIN.start();
        }
    }

    fn look(&self) {
        let (pending, known, believes_names) = {
            let mut state = self.lock();
            let pending = std::mem::take(&mut state.pending);
            state.sought = pending.iter().map(Arc::downgrade).collect();
            (pending, Arc::clone(&state.known), state.believes_names)
        };
        if pending.is_empty() {
            return;
        }
        let (mut wanted, mut asked) = (Wanted::default(), Vec::new());
        let mut doubtful = Vec::new();
        for origin in pending {
            let named = known.iter().find(|one| *one.name == *origin.application);
            if let Some(known) = named.filter(|_| believes_names) {
                self.put(&origin, &[known.identity]);
                continue;
            }
            match (origin.far, origin.near) {
                (Far::Unix { process, .. }, _) if process > 0 => {
                    wanted.processes.push(process as u32);
                    asked.push((origin, Asked::Process));
                }
                (Far::Tcp(far), Some(near)) if is_local(far.ip(), near.ip()) => {
                    wanted.connections.push((far, near));
                    asked.push((origin, Asked::Connection));
                }
                (Far::Tcp(far), _) => {
                    self.put_by_address(&origin, far.ip(), &known);
                    doubtful.push(Arc::downgrade(&origin));
                }
                (Far::Unix { .. }, _) => {
                    origin.put(Place::Nowhere(
                        "the system does not say whose process it is",
                    ));
                }
            }
        }
        if !asked.is_empty() {
            doubtful.extend(self.put_by_owner(&mut wanted, asked, &known));
        }
        let mut state = self.lock();
        state.doubtful.extend(doubtful);
        state.sought.clear();
        // Who came meanwhile waits since then, about.
        state.waits_since = (!state.pending.is_empty()).then(Instant::now);
    }

    fn put(&self, origin: &Origin, identities: &[u64]) {
        let servings: Vec<Arc<Serving>> = identities
            .iter()
            .map(|identity| self.servings.of(*identity))
            .collect();
        origin.put(Place::Of(servings.into()));
    }

    /// Which of several behind one address it is nobody can tell: it is all of them.
    fn put_by_address(&self, origin: &Origin, from: IpAddr, known: &[Known]) {
        let from = from.to_canonical();
        let is_there = |one: &&Known| one.address.is_some_and(|address| address.ip() == from);
        let identities: Vec<u64> = known
            .iter()
            .filter(is_there)
            .map(|one| one.identity)
            .collect();
        if identities.is_empty() {
            origin.put(Place::Nowhere("no endpoint has its address"));
        } else if identities.len() > MOST_INSTANCES {
            origin.put(Place::Nowhere("too many endpoints have its address"));
        } else {
            self.put(origin, &identities);
        }
    }

    fn put_by_owner(
        &self,
        wanted: &mut Wanted,
        asked: Vec<(Arc<Origin>, Asked)>,
        known: &[Known],
    ) -> Vec<Weak<Origin>> {
        let shims = known
            .iter()
            .filter_map(|one| Some((one.identity, one.shim?)));
        wanted.instances = shims.collect();
        let here = known
            .iter()
            .filter_map(|one| Some((one.identity, one.address?)));
        let here = here.filter(|(_, address)| address.ip().is_loopback());
        wanted.ports = here
            .map(|(identity, address)| (identity, address.port()))
            .collect();
        let found = owners(wanted).unwrap_or_default();
        let mut connections = found.connections.into_iter();
        let mut processes = found.processes.into_iter();
        let mut doubtful = Vec::new();
        for (origin, asked) in asked {
            let owner = match asked {
                Asked::Connection => connections.next(),
                Asked::Process => processes.next(),
            };
            let reason = match owner {
                Some(Owner::Known(identities)) => {
                    self.put(&origin, &identities);
                    continue;
                }
                Some(Owner::Another) => "its process is no instance",
                _ => "its process cannot be seen",
            };
            origin.put(Place::Nowhere(reason));
            doubtful.push(Arc::downgrade(&origin));
        }
        doubtful
    }
}

enum Asked {
    Connection,
    Process,
}

/// Has all looked for again that are not known for certain; whether there are some.
fn look_again(state: &mut State) -> bool {
    let doubtful = std::mem::take(&mut state.doubtful);
    let origins = doubtful.iter().filter_map(Weak::upgrade);
    state.pending.extend(origins);
    !state.pending.is_empty()
}

fn of_instance(known: &super::instances::Known) -> Option<Known> {
    let name = known.report.spec.name.clone();
    Some(Known {
        identity: identity_of(&name),
        name,
        shim: Some(known.report.shim?),
        address: None,
    })
}

/// Names are not asked for here.
fn address_of(address: &Address) -> Option<SocketAddr> {
    let address = address.socket_address()?;
    Some(SocketAddr::new(address.ip().to_canonical(), address.port()))
}

/// Whether both ends are on this machine.
fn is_local(far: IpAddr, near: IpAddr) -> bool {
    far.to_canonical().is_loopback() || far == near
}

#[cfg(test)]
mod tests {
    use outgrow_postgres::origin::Sources as _;

    use super::*;

    fn origin(process: i32) -> Arc<Origin> {
        let far = Far::Unix { process, port: 0 };
        Origin::new(far, None, "app".into())
    }

    fn told(sources: &Sources, now: Instant) -> Vec<&'static str> {
        let all = sources.nowhere_at(9, now).into_iter();
        all.map(|(_, reason)| reason).collect()
    }

    #[test]
    fn who_is_not_placed_in_time_is_told() {
        let sources = Sources::new(Arc::default());
        let (one, other) = (origin(0), origin(0));
        let began = Instant::now();
        let late = began + 2 * LATE;
        // Nobody looks: as while a look takes long.
        sources.place(&one);
        sources.place(&other);
        assert!(told(&sources, began).is_empty(), "it was asked just now");
        let reason = "it is still being looked for";
        assert_eq!(told(&sources, late), [reason; 2]);
        let pending = std::mem::take(&mut sources.lock().pending);
        sources.lock().sought = pending.iter().map(Arc::downgrade).collect();
        assert_eq!(told(&sources, late), [reason; 2], "while it is looked");
        drop((one, pending));
        assert_eq!(told(&sources, late), [reason], "one has left");
        sources.lock().pending.push(other);
        sources.look();
        let state = sources.lock();
        assert!(state.pending.is_empty() && state.sought.is_empty());
        assert_eq!(state.waits_since, None);
    }
}
