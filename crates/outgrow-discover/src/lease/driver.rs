//! Asks a registry for the lease, again and again, and tells what is to be believed.

use std::time::Duration;

use outgrow_core::Random;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::holder::Holder;
use super::settings::LeaseSettings;
use super::time::BootClock;
use super::{Standing, etcd, kubernetes, redis};
use crate::discovery::{PROBLEM_CHARACTERS, Surroundings};

/// How often it is tried to give it back before that is left to its time.
const TRIES: usize = 3;
/// From one such try to the next.
const AGAIN: Duration = Duration::from_millis(250);

/// What a registry says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The lease is ours, and its time begins anew.
    Ours,
    /// It is somebody else's.
    Others(String),
}

/// The registry that has the lease.
pub(super) enum Registry {
    Etcd(Box<etcd::Lock>),
    Redis(redis::Lock),
    Kubernetes(Box<kubernetes::Lock>),
}

impl Registry {
    pub(super) fn new(
        settings: &LeaseSettings,
        identity: &str,
        clock: BootClock,
        surroundings: Surroundings,
    ) -> Option<Self> {
        let name = &settings.name;
        if let Some(own) = &settings.etcd {
            let lock = etcd::Lock::new(own, name, identity, settings.ttl, surroundings);
            return Some(Self::Etcd(Box::new(lock)));
        }
        if let Some(own) = &settings.kubernetes {
            let lock =
                kubernetes::Lock::new(own, name, identity, settings.ttl, clock, surroundings);
            return Some(Self::Kubernetes(Box::new(lock)));
        }
        let own = settings.redis.as_ref()?;
        let lock = redis::Lock::new(own, name, identity, settings.ttl);
        Some(Self::Redis(lock))
    }

    /// How often one who does not hold it asks.
    pub(super) fn look(&self, ttl: Duration) -> Duration {
        match self {
            // It is told when it is free.
            Self::Etcd(_) => (ttl / 2).max(Duration::from_secs(1)),
            Self::Redis(_) => (ttl / 20).clamp(Duration::from_millis(100), redis::LOOK),
            // An API server has others to answer, and an end by time is waited for by ourselves.
            Self::Kubernetes(_) => (ttl / 8).clamp(Duration::from_millis(250), kubernetes::LOOK),
        }
    }

    /// Takes it if it is free, renews it if it is ours.
    async fn hold(&mut self, patience: Duration) -> Result<Answer, String> {
        match self {
            Self::Etcd(lock) => lock.hold(patience).await,
            Self::Redis(lock) => lock.hold().await,
            Self::Kubernetes(lock) => lock.hold(patience).await,
        }
    }

    /// Ends when it may be free; must be safe to drop.
    async fn wait_free(&self) {
        match self {
            Self::Etcd(lock) => lock.wait_free().await,
            Self::Redis(_) => std::future::pending().await,
            Self::Kubernetes(lock) => lock.wait_free().await,
        }
    }

    async fn give_back(&mut self, patience: Duration) -> Result<(), String> {
        match self {
            Self::Etcd(lock) => lock.give_back(patience).await,
            Self::Redis(lock) => lock.give_back().await,
            Self::Kubernetes(lock) => lock.give_back(patience).await,
        }
    }
}

/// All that a driver has.
pub(super) struct Driver {
    pub(super) registry: Registry,
    pub(super) holder: Holder,
    pub(super) identity: String,
    pub(super) clock: BootClock,
    pub(super) teller: watch::Sender<Standing>,
    pub(super) gives_back: watch::Receiver<bool>,
}

impl Driver {
    pub(super) async fn run(mut self) {
        let mut random = Random::from_system();
        loop {
            if *self.gives_back.borrow_and_update() {
                return self.give_back().await;
            }
            self.ask().await;
            let now = (self.clock)();
            // Not all of those who wait at the same moment.
            let jitter = 0.75 + random.unit() / 4.0;
            let pause = self.holder.due().since(now).mul_f64(jitter);
            let is_others = !self.holder.believes(now) && self.holder.holder().is_some();
            tokio::select! {
                changed = self.gives_back.changed() => if changed.is_err() { return },
                () = sleep(pause) => {}
                () = self.registry.wait_free(), if is_others => self.holder.freed((self.clock)()),
            }
        }
    }

    async fn ask(&mut self) {
        let sent = (self.clock)();
        let patience = self.holder.patience();
        // A server that does not answer leaves time for the next one to be found.
        let asked = timeout(patience, self.registry.hold(patience / 2)).await;
        let answer = asked.unwrap_or_else(|_| Err("no answer in time".to_owned()));
        let now = (self.clock)();
        match &answer {
            Ok(Answer::Ours) => self.holder.confirmed(&self.identity, sent),
            Ok(Answer::Others(other)) => self.holder.refused(other, now),
            Err(_) => self.holder.failed(now),
        }
        let holder = &self.holder;
        self.teller.send_modify(|standing| {
            standing.until = holder.until();
            standing.holder = holder.holder().map(str::to_owned);
            match answer {
                Ok(_) => (standing.answered, standing.problem) = (Some(now), None),
                Err(problem) => {
                    standing.failures += 1;
                    standing.problem = Some(problem.chars().take(PROBLEM_CHARACTERS).collect());
                }
            }
        });
    }

    async fn give_back(&mut self) {
        let patience = self.holder.patience();
        // Nobody believes in what may be gone at any moment.
        self.teller.send_modify(|standing| standing.until = None);
        for attempt in 1..=TRIES {
            let given = timeout(patience, self.registry.give_back(patience / 2)).await;
            if matches!(given, Ok(Ok(()))) || attempt == TRIES {
                break;
            }
            sleep(AGAIN).await;
        }
        self.teller.send_modify(|standing| {
            standing.holder = None;
            standing.is_given_back = true;
        });
    }
}
