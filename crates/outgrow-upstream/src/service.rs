//! A service: a named set of endpoints that requests choose from.
//!
//! Control work (checks, reload, instances that come and go) changes the members under a lock and
//! publishes an [`EndpointSet`]; workers read that through a [`ServiceView`] and lock nothing.

mod advice;
mod control;
mod handover;
mod member;
mod members;
mod outliers;
mod reported;
mod set;
mod stay;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use outgrow_balance::Cursor;
use outgrow_core::settings::Address;
use outgrow_core::{Cause, Random, Snapshot, Ticks, View};

pub use handover::Recollection;
pub(crate) use member::Member;
pub use member::{EndpointOptions, Health};
pub(crate) use members::Members;
pub use set::EndpointSet;
use stay::Place;
pub use stay::Stay;

use crate::check::Encrypt;
use crate::connect::Seal;
use crate::endpoint::{Endpoint, EndpointId};
use crate::event::Event;
use crate::permit::Permit;
use crate::queue::{Queue, Wait};
use crate::registry::Shared;
use crate::settings::ServiceSettings;
use crate::state::ServiceState;

/// Times that a permit which another worker took first is looked for elsewhere, before the request
/// stands in line.
const RACES: usize = 3;

/// What a choice goes by.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wish<'w> {
    /// A hash of what requests are kept together by, for the ways that hash (`Balance`); the others
    /// ignore it.
    pub key: Option<u64>,
    /// The endpoint to stay at.
    pub stay: Option<Stay>,
    /// Endpoints at which the request failed: taken only when no other could take it now.
    pub avoid: &'w [EndpointId],
}

/// Why no endpoint was chosen.
#[derive(Clone, Debug)]
pub enum Unavailable {
    /// The endpoint to stay at is at its limit: [`Endpoint::wait`] for it.
    Full(Arc<Endpoint>),
    /// All are at their limit, or instances are still starting: [`Service::wait`] for one.
    Busy,
    /// There is none, and none is expected.
    NoEndpoint,
}

impl PartialEq for Unavailable {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Full(one), Self::Full(other)) => one.id() == other.id(),
            (Self::Busy, Self::Busy) | (Self::NoEndpoint, Self::NoEndpoint) => true,
            _ => false,
        }
    }
}

/// One worker's view of a service.
#[derive(Debug)]
pub struct ServiceView {
    set: View<EndpointSet>,
    /// One for each level.
    cursors: Vec<Cursor>,
    worker: usize,
    workers: usize,
}

impl ServiceView {
    /// The set as of the last [`Service::choose`] or [`Service::refresh`].
    pub fn set(&self) -> &Arc<EndpointSet> {
        self.set.value()
    }

    #[inline]
    fn refresh(&mut self, newest: &Snapshot<EndpointSet>) {
        if self.set.refresh(newest) {
            self.fit();
        }
    }

    fn fit(&mut self) {
        let cursor = Cursor::new(self.worker, self.workers);
        self.cursors.resize(self.set.value().level_count(), cursor);
    }
}

/// A named set of endpoints.
#[derive(Debug)]
pub struct Service {
    name: String,
    this: Weak<Self>,
    shared: Arc<Shared>,
    endpoints: Snapshot<EndpointSet>,
    members: Mutex<Members>,
    queue: Arc<Queue>,
    /// How connections are encrypted, of requests and of checks.
    seal: Mutex<Option<Arc<dyn Seal>>>,
    /// How checks that speak Postgres are encrypted.
    check_encryption: Mutex<Option<Arc<dyn Encrypt>>>,
}

impl Service {
    pub(crate) fn new(
        name: &str,
        shared: Arc<Shared>,
        settings: Arc<ServiceSettings>,
    ) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            name: name.to_owned(),
            this: Weak::clone(this),
            shared,
            endpoints: Snapshot::new(EndpointSet::empty(Arc::clone(&settings))),
            members: Mutex::new(Members::new(settings)),
            queue: Arc::default(),
            seal: Mutex::default(),
            check_encryption: Mutex::default(),
        })
    }

    /// Says how connections are encrypted, from the next one on; those that were made otherwise are not
    /// used for further requests.
    pub fn set_seal(&self, seal: Option<Arc<dyn Seal>>) {
        let number = seal.as_ref().map_or(0, |seal| seal.number());
        // The members' lock before the seal's, as where one is added.
        let members = self.lock();
        *self.seal.lock().unwrap_or_else(PoisonError::into_inner) = seal;
        for member in &members.list {
            member.endpoint.pool.set_seal(number);
        }
    }

    /// How connections are encrypted.
    pub fn seal(&self) -> Option<Arc<dyn Seal>> {
        let seal = self.seal.lock();
        seal.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says how checks of kind `postgres` encrypt their connections, from the next one on.
    pub fn encrypt_checks(&self, encrypt: Arc<dyn Encrypt>) {
        let encryption = self.check_encryption.lock();
        *encryption.unwrap_or_else(PoisonError::into_inner) = Some(encrypt);
    }

    pub(crate) fn check_encryption(&self) -> Option<Arc<dyn Encrypt>> {
        let encryption = self.check_encryption.lock();
        encryption.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its endpoints, as workers see them.
    pub fn endpoints(&self) -> &Snapshot<EndpointSet> {
        &self.endpoints
    }

    /// Its settings.
    pub fn settings(&self) -> Arc<ServiceSettings> {
        Arc::clone(&self.lock().settings)
    }

    /// Requests that wait for a permit.
    pub fn waiting(&self) -> usize {
        self.queue.length()
    }

    /// The view of worker `worker`, below the number of workers of the registry.
    pub fn view(&self, worker: usize) -> ServiceView {
        let mut view = ServiceView {
            set: self.endpoints.view(),
            cursors: Vec::new(),
            worker,
            workers: self.shared.workers,
        };
        view.fit();
        view
    }

    /// Brings the view up to date; [`Service::choose`] does so itself.
    #[inline]
    pub fn refresh(&self, view: &mut ServiceView) {
        view.refresh(&self.endpoints);
    }

    /// Picks an endpoint and takes a permit: that to stay at, as long as it takes the user, else
    /// one by the service's algorithm.
    ///
    /// # Errors
    /// [`Unavailable`]. While others wait in line it is [`Unavailable::Busy`]: nobody is overtaken.
    #[inline]
    pub fn choose(
        &self,
        view: &mut ServiceView,
        now: Ticks,
        random: &mut Random,
        wish: Wish<'_>,
    ) -> Result<Permit, Unavailable> {
        view.refresh(&self.endpoints);
        let ServiceView { set, cursors, .. } = view;
        let set = set.value();
        if let Some(stay) = wish.stay {
            match set.stay(stay, wish.avoid.contains(&stay.endpoint), now) {
                Place::At(endpoint) => {
                    let permit = match endpoint.own_queue.has_waiters() {
                        true => None,
                        false => Permit::acquire_to_stay(endpoint),
                    };
                    return permit.ok_or_else(|| Unavailable::Full(Arc::clone(endpoint)));
                }
                Place::Nowhere => return Err(Unavailable::NoEndpoint),
                Place::Elsewhere => {}
            }
        }
        if set.usable.is_empty() {
            return Err(if set.expected {
                Unavailable::Busy
            } else {
                Unavailable::NoEndpoint
            });
        }
        if self.queue.has_waiters() {
            return Err(Unavailable::Busy);
        }
        let mut avoid = wish.avoid;
        for _ in 0..RACES {
            match set.pick(cursors, random, wish.key, now, avoid) {
                Some(endpoint) => {
                    if !endpoint.own_queue.has_waiters()
                        && let Some(permit) = Permit::acquire(endpoint)
                    {
                        return Ok(permit);
                    }
                }
                None if avoid.is_empty() => break,
                None => avoid = &[],
            }
        }
        Err(Unavailable::Busy)
    }

    /// Stands in line for a permit of any usable endpoint, or for an instance that is starting. How
    /// long is the caller's to decide (`timeouts.queue`): dropping the [`Wait`] leaves the line.
    ///
    /// # Errors
    /// [`Cause::QueueFull`] when as many wait as `queue` allows, [`Cause::NoEndpoint`] when there
    /// is nothing to wait for.
    pub fn wait(&self) -> Result<Wait, Cause> {
        let set = self.endpoints.load();
        if set.usable.is_empty() && !set.expected {
            return Err(Cause::NoEndpoint);
        }
        let wait = self.queue.enter(set.settings.queue as usize)?;
        // What was free between the choice and this moment was handed to nobody.
        self.serve_waiters();
        Ok(wait)
    }

    /// Why a request that stood in line for as long as it may has no endpoint.
    pub fn why_waited(&self) -> Cause {
        if self.endpoints.load().usable.is_empty() {
            Cause::NoEndpoint
        } else {
            Cause::QueueTimeout
        }
    }

    /// Requests in flight at the address; 0 once it is drained.
    pub fn active(&self, address: &Address) -> u32 {
        let members = self.lock();
        let at_address = members.list.iter().filter(|member| member.is_at(address));
        at_address.map(|member| member.endpoint.active()).sum()
    }

    /// What can be told about the service, for people and programs.
    pub fn state(&self, now: Ticks) -> ServiceState {
        let members = self.lock();
        ServiceState::new(&self.name, &members, self.queue.length(), now)
    }

    /// Closes worker `worker`'s idle connections that are too old or dead.
    pub fn sweep(&self, worker: usize, now: Ticks) {
        for endpoint in &self.endpoints.load().all {
            endpoint.sweep(worker, now);
        }
    }

    pub(crate) fn emit(&self, event: Event) {
        self.shared.events.emit(event);
    }

    /// Gives whatever is free to those who wait; sends them away when nothing can come.
    fn serve_waiters(&self) {
        if !self.queue.has_waiters() {
            return;
        }
        let set = self.endpoints.load();
        if set.usable.is_empty() {
            if !set.expected {
                self.queue.refuse_all(Cause::NoEndpoint);
            }
            return;
        }
        while self.queue.has_waiters() {
            let Some(permit) = set.least_loaded() else {
                return;
            };
            if let Err(permit) = self.queue.grant(permit) {
                drop(permit);
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
