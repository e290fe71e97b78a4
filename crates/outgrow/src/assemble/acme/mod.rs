//! Certificates that are got from an authority (`[acme]`), brought together with what serves them.
//!
//! A task on the control runtime ([`driver`]) looks at the storage once a second, serves what is there
//! ([`shelf`]) and, in the one process that may order and has the storage's lock, makes one attempt
//! after the other ([`attempt`]). The control loop tells it what is wanted and whether this process
//! may order, and never waits for it. What is there when a process starts is served at once.

mod attempt;
mod driver;
mod shelf;
mod storage;
mod view;
mod wanted;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use outgrow_core::settings::Name;
use outgrow_core::{Clock, WallTime};
use outgrow_edge::Shared;
use outgrow_tls::{AlpnChallenges, Managed, Staples};
use tokio::sync::watch;

use self::driver::{Driver, Orders};
use self::shelf::Shelf;
use self::storage::Storage;
pub(super) use self::view::{CertificateView, date};
use self::wanted::Wanted;
use super::{certificates, discover, log};
use crate::config::{self, Config};

/// What a configuration wants, with what serves it.
#[derive(Clone, Debug, Default)]
struct Plan {
    acme: Option<config::Acme>,
    storage: Option<Storage>,
    wanted: Vec<Wanted>,
    /// By the listener's name.
    managed: BTreeMap<Name, Arc<Managed>>,
}

/// A plan of which what can fail has been done.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    plan: Plan,
    challenges: Arc<AlpnChallenges>,
}

/// How much may be wrong with the storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Strictness {
    /// Nothing: somebody waits for the answer, and something else runs meanwhile.
    Strict,
    /// Everything: nothing else would run. It is told, and what is there is served.
    Lenient,
    /// It is not looked at.
    Unread,
}

impl Prepared {
    /// What a configuration wants, and what is there of it.
    pub(super) fn new(
        config: &Config,
        challenges: Option<&Arc<AlpnChallenges>>,
        strictness: Strictness,
        staples: &Arc<Staples>,
    ) -> Result<Self, String> {
        let challenges = challenges.cloned().unwrap_or_default();
        let wanted = wanted::wanted(config);
        let mut plan = Plan {
            acme: config.acme.clone(),
            ..Plan::default()
        };
        let listeners = wanted.iter().flat_map(|one| &one.listeners);
        plan.managed = listeners
            .map(|name| {
                let tls = config.listener.get(name).and_then(|one| one.tls.as_ref());
                let stapling = tls.map(|tls| certificates::stapling(tls, staples));
                let managed = Managed::new(&challenges, stapling.unwrap_or_default());
                (name.clone(), managed)
            })
            .collect();
        plan.wanted = wanted;
        let root = plan.acme.as_ref().map(|acme| acme.settings.storage.clone());
        if let Some(root) = root.filter(|_| !plan.wanted.is_empty()) {
            plan.storage = Some(storage(&root, strictness)?);
            if strictness != Strictness::Unread {
                plan.read_now();
            }
        }
        Ok(Self { plan, challenges })
    }

    /// What a listener serves of it.
    pub(super) fn managed(&self, listener: &Name) -> Option<Arc<Managed>> {
        self.plan.managed.get(listener).cloned()
    }
}

impl Plan {
    /// Serves what is there, before anybody connects.
    fn read_now(&self) {
        if let Some(storage) = &self.storage {
            let now = WallTime::now();
            let shelf = Shelf::read(storage, self, now);
            shelf.publish(self, now);
        }
    }
}

fn storage(root: &Path, strictness: Strictness) -> Result<Storage, String> {
    let unopened = Storage::unopened(root);
    if strictness == Strictness::Unread {
        return Ok(unopened);
    }
    let is_new = !root.exists();
    match Storage::open(root) {
        Ok(storage) => {
            if is_new {
                log::info(&format!(
                    "acme: the storage {} is new: see that it is kept over restarts",
                    root.display()
                ));
            }
            Ok(storage)
        }
        Err(problem) if strictness == Strictness::Lenient => {
            for line in problem.lines() {
                log::warn(&format!("[acme] {line}"));
            }
            Ok(unopened)
        }
        Err(problem) => Err(format!("[acme] storage: {problem}")),
    }
}

/// What the view reads.
pub(super) type Views = Arc<Mutex<Vec<CertificateView>>>;

/// The task, and what it is told.
#[derive(Debug)]
pub(super) struct Acme {
    challenges: Arc<AlpnChallenges>,
    orders: watch::Sender<Orders>,
    views: Views,
}

impl Acme {
    /// Starts the task with nothing to do.
    pub(super) fn start(shared: &Arc<Shared>, prepared: &Prepared, clock: Clock) -> Self {
        let (orders, receiver) = watch::channel(Orders::default());
        let views = Views::default();
        let driver = Driver::new(
            receiver,
            Arc::clone(shared),
            Arc::clone(&prepared.challenges),
            Arc::clone(&views),
            discover::surroundings(clock),
        );
        tokio::spawn(driver.run());
        Self {
            challenges: Arc::clone(&prepared.challenges),
            orders,
            views,
        }
    }

    /// For the next preparation.
    pub(super) fn challenges(&self) -> &Arc<AlpnChallenges> {
        &self.challenges
    }

    /// Takes over what is in force now.
    pub(super) fn apply(&self, prepared: Prepared) {
        self.orders.send_modify(|orders| {
            orders.plan = Arc::new(prepared.plan);
            orders.version += 1;
        });
    }

    /// Says whether this process may order: it serves, and holds the lease where there is one.
    pub(super) fn allow(&self, may_order: bool) {
        self.orders.send_if_modified(|orders| {
            let is_new = orders.may_order != may_order;
            orders.may_order = may_order;
            is_new
        });
    }

    /// What the view reads.
    pub(super) fn views(&self) -> Views {
        Arc::clone(&self.views)
    }
}
