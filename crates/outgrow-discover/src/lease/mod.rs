//! Leader lease: of several boxes exactly one holds it.
//!
//! - [`holder`] says what may be believed and when to ask (pure); [`time`] by which clock.
//! - `etcd`, `redis` and `kubernetes` speak to one kind of registry each: take or renew it if it is
//!   free or ours, wait until it may be free, give it back. Another kind is another variant of the
//!   driver's `Registry` and a key of [`settings::LeaseSettings`].
//! - [`Leadership`] is a driver under way. Whether it is held is asked with the time at that
//!   moment ([`Leadership::is_held`]), never taken from what a driver said once: a process that
//!   was stopped for a while finds out before it does anything else.
//!
//! Who holds it is an identity, not a process: a data process that takes over from another one of
//! the same box has the same identity and goes on.
//!
//! Not here: what is done when it is gained and lost (the binary's `assemble`).

mod driver;
mod etcd;
pub mod holder;
mod kubernetes;
#[cfg(test)]
mod live;
mod redis;
mod resp;
pub mod settings;
#[cfg(test)]
mod simulation;
pub mod time;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::holder::Holder;
pub use self::settings::{LeaseSettings, WhenUnreachable};
pub use self::time::{BootClock, BootTime};
use crate::discovery::Surroundings;

/// What a driver tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Until when this box holds it, unless it is renewed.
    pub until: Option<BootTime>,
    /// Who holds it, by what the registry said last.
    pub holder: Option<String>,
    /// When the registry last answered.
    pub answered: Option<BootTime>,
    /// Why it did not since.
    pub problem: Option<String>,
    /// How often it did not.
    pub failures: u64,
    /// Whether it was given back, as was asked.
    pub is_given_back: bool,
}

/// A lease that is held or asked for; dropping it ends the asking and gives nothing back.
#[derive(Debug)]
pub struct Leadership {
    settings: LeaseSettings,
    standing: watch::Receiver<Standing>,
    gives_back: watch::Sender<bool>,
    driver: JoinHandle<()>,
    was_failing: bool,
}

/// Something to tell people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// The registry fails.
    Fails(String),
    /// It answers again.
    Answers,
}

impl Leadership {
    /// Starts to ask, on the runtime of the caller, which must be the control runtime. `until` is
    /// what an earlier process of the same identity told. `None` when no registry is written.
    pub fn start(
        settings: &LeaseSettings,
        identity: &str,
        until: Option<BootTime>,
        clock: BootClock,
        surroundings: Surroundings,
    ) -> Option<Self> {
        let registry = driver::Registry::new(settings, identity, clock, surroundings)?;
        // The earlier process may have had a longer lease: the registry will count by this one.
        let longest = clock() + holder::believed(settings.ttl);
        let until = until.map(|until| until.min(longest));
        let holder = Holder::new(settings.ttl, registry.look(settings.ttl), until)
            .keeping(settings.when_unreachable == WhenUnreachable::Keep);
        let first = Standing {
            until,
            ..Standing::default()
        };
        let (teller, standing) = watch::channel(first);
        let (gives_back, asked) = watch::channel(false);
        let driver = driver::Driver {
            registry,
            holder,
            identity: identity.to_owned(),
            clock,
            teller,
            gives_back: asked,
        };
        Some(Self {
            settings: settings.clone(),
            standing,
            gives_back,
            driver: tokio::spawn(driver.run()),
            was_failing: false,
        })
    }

    /// Its settings.
    pub fn settings(&self) -> &LeaseSettings {
        &self.settings
    }

    /// Whether this box holds it now.
    pub fn is_held(&self, now: BootTime) -> bool {
        self.standing
            .borrow()
            .until
            .is_some_and(|until| now < until)
    }

    /// What is known of it.
    pub fn standing(&self) -> Standing {
        self.standing.borrow().clone()
    }

    /// Gives it back if it is held, and asks for it no more.
    pub fn give_back(&self) {
        self.gives_back.send_replace(true);
    }

    /// What people should be told since the last time.
    pub fn news(&mut self) -> Option<News> {
        let problem = self.standing.borrow().problem.clone();
        let fails = problem.is_some();
        if std::mem::replace(&mut self.was_failing, fails) == fails {
            return None;
        }
        Some(problem.map_or(News::Answers, News::Fails))
    }
}

impl Drop for Leadership {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
