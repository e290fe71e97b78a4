//! Active checks: every endpoint is asked again and again whether it can take requests, and every
//! supervised instance whether it still lives.
//!
//! One task per endpoint and kind of check, on the control runtime. What a result makes of an
//! endpoint is counted in `streak` and decided by the service; nothing is restarted here.

mod advice;
mod encrypt;
mod failure;
mod grpc;
mod http;
mod http2;
mod postgres;
mod probe;
mod redis;
mod streak;
mod tcp;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use outgrow_core::settings::RequestPath;
use outgrow_core::{Clock, Random};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::endpoint::{Endpoint, EndpointId};
use crate::event::{Event, Subject};
use crate::registry::Registry;
use crate::service::{Health, Service};
use crate::settings::{CheckSettings, HttpVersion, StatusSet};
pub(crate) use advice::{Finding, Times, find};
pub use encrypt::{Encrypt, Encrypting};
use probe::Question;
use streak::Streak;

/// Most checks that run at a time; the others wait for them.
const CONCURRENT: usize = 256;

/// The share, in percent, by which the intervals of liveness checks are made shorter or longer at
/// random, so that checks of many endpoints (and of many outgrows) do not meet.
const JITTER: u32 = 10;

/// The check whose failure means that an instance hangs and is to be restarted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Live {
    /// The path that is asked for with GET, where 200 to 399 means alive; `None`: being able to
    /// connect is enough.
    pub path: Option<RequestPath>,
    /// From one question to the next.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Failures in a row that give [`Event::NotLive`].
    pub fall: u32,
}

/// The checks of one endpoint.
pub(crate) struct Plan {
    pub(crate) service: Arc<Service>,
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) ready: Option<CheckSettings>,
    pub(crate) live: Option<Live>,
    pub(crate) health: Health,
}

/// Checks all endpoints of the registry, and follows its changes. Runs until it is dropped, which
/// ends all checks.
pub async fn run(registry: Arc<Registry>, clock: Clock) {
    let mut changes = registry.changes();
    let slots = Arc::new(Semaphore::new(CONCURRENT));
    let mut running = BTreeMap::new();
    loop {
        changes.mark_unchanged();
        let plans = registry
            .services()
            .into_iter()
            .flat_map(|service| service.plans())
            .collect();
        running = reconcile(running, plans, clock, &slots);
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// A task that ends when it is dropped.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The tasks of one endpoint, each with what it was started for.
#[derive(Default)]
struct Running {
    ready: Option<(CheckSettings, Task)>,
    live: Option<(Live, Task)>,
}

/// Starts what is new, ends what is gone, and leaves alone what is as it was.
fn reconcile(
    mut running: BTreeMap<EndpointId, Running>,
    plans: Vec<Plan>,
    clock: Clock,
    slots: &Arc<Semaphore>,
) -> BTreeMap<EndpointId, Running> {
    let start = |plan: Plan| {
        let id = plan.endpoint.id();
        let before = running.remove(&id);
        // One that was ready when it came here has passed its check elsewhere.
        let passed = before.is_none() && plan.health == Health::Up;
        let before = before.unwrap_or_default();
        let asker = Arc::new(Asker {
            service: plan.service,
            endpoint: plan.endpoint,
            clock,
            slots: Arc::clone(slots),
        });
        let ready = plan.ready.map(|check| match before.ready {
            Some((same, task)) if same == check => (same, task),
            _ => {
                let work = Arc::clone(&asker).check_ready(check.clone(), plan.health);
                (check, Task(tokio::spawn(work)))
            }
        });
        let live = plan.live.map(|live| match before.live {
            Some((same, task)) if same == live => (same, task),
            _ => (
                live.clone(),
                Task(tokio::spawn(asker.check_live(live, passed))),
            ),
        });
        (id, Running { ready, live })
    };
    plans.into_iter().map(start).collect()
}

/// What a check's task works with.
struct Asker {
    service: Arc<Service>,
    endpoint: Arc<Endpoint>,
    clock: Clock,
    slots: Arc<Semaphore>,
}

impl Asker {
    async fn check_ready(self: Arc<Self>, check: CheckSettings, health: Health) {
        let mut random = Random::from_system();
        let mut streak = Streak::new(health, check.rise, check.fall);
        let host = if check.host.is_empty() {
            self.host()
        } else {
            &check.host
        };
        let question = Question::new(&check, host);
        let mut rhythm = Rhythm { in_step: true };
        if matches!(health, Health::Up | Health::Down) {
            // Checked before, so only the check is new: a reload does not ask everybody at once.
            let pause = check.fast_interval.min(check.interval);
            tokio::time::sleep(pause.mul_f64(random.unit())).await;
        }
        loop {
            let (result, took) = self.ask(&question, check.timeout).await;
            let verdict = streak.note(result.is_ok());
            let result = result.as_ref().map(|()| took).map_err(String::as_str);
            self.service
                .checked(self.endpoint.id(), result, verdict, self.clock.now());
            let pause = rhythm.pause(&check, &streak, &mut random);
            tokio::time::sleep(pause).await;
        }
    }

    async fn check_live(self: Arc<Self>, live: Live, mut passed: bool) {
        let mut random = Random::from_system();
        let mut failures = 0;
        let status = StatusSet::SUCCESS_AND_REDIRECT;
        let question = match &live.path {
            None => Question::CONNECT,
            Some(path) => {
                let question = http::Question::get(path.as_str(), self.host(), &status);
                Question::Http(question)
            }
        };
        loop {
            tokio::time::sleep(jittered(live.interval, JITTER, &mut random)).await;
            // An instance that was never ready has its start timeout.
            if !self.endpoint.was_up.load(Ordering::Acquire) {
                continue;
            }
            match self.ask(&question, live.timeout).await.0 {
                Ok(()) => (failures, passed) = (0, true),
                Err(reason) => {
                    failures += 1;
                    if failures >= live.fall {
                        let subject = Subject::new(self.service.name(), &self.endpoint);
                        let doubtful = !passed && probe::is_answer(&reason);
                        self.service.emit(Event::NotLive {
                            subject,
                            reason,
                            doubtful,
                        });
                    }
                }
            }
        }
    }

    /// Asks once; with how long that took.
    async fn ask(
        &self,
        question: &Question<'_>,
        timeout: Duration,
    ) -> (Result<(), String>, Duration) {
        // The slots are never closed; without one it is asked all the same.
        let slot = self.slots.acquire().await;
        let began = self.clock.now();
        let (encrypt, seal) = (self.service.check_encryption(), self.service.seal());
        let set = self.service.endpoints().load();
        let cover = probe::Cover {
            postgres: encrypt.as_deref(),
            others: seal.as_deref(),
            proxy: set.settings.proxy_protocol.version(),
            http2: set.settings.http_version == HttpVersion::Two,
        };
        let result = probe::ask(&self.endpoint, question, cover, timeout).await;
        drop(slot);
        (result, self.clock.now().since(began))
    }

    /// The Host field where none is configured: RFC 9112 section 3.2 wants one in any case.
    fn host(&self) -> &str {
        if self.endpoint.label().starts_with("unix:") {
            "localhost"
        } else {
            self.endpoint.label()
        }
    }
}

/// When the next question follows.
struct Rhythm {
    /// Whether it may still be in step with others that came up at the same moment.
    in_step: bool,
}

impl Rhythm {
    /// Until the next question. The first steady interval is cut at random: those that came up
    /// together part.
    fn pause(&mut self, check: &CheckSettings, streak: &Streak, random: &mut Random) -> Duration {
        let pause = jittered(pause_of(check, streak), check.jitter, random);
        if streak.is_steady() && std::mem::take(&mut self.in_step) {
            return pause.mul_f64(random.unit());
        }
        pause
    }
}

/// Until the next question, without the jitter.
fn pause_of(check: &CheckSettings, streak: &Streak) -> Duration {
    let fast = check.fast_interval.min(check.interval);
    if streak.is_steady() {
        check.interval
    } else if streak.is_down_for_good() {
        check.down_interval.unwrap_or(fast)
    } else {
        fast
    }
}

fn jittered(pause: Duration, percent: u32, random: &mut Random) -> Duration {
    let share = f64::from(percent) / 100.0;
    pause.mul_f64(1.0 - share + 2.0 * share * random.unit())
}
