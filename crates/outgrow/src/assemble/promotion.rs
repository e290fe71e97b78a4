//! Promotions brought together with the world: at each step what the pool knows of its servers and who
//! holds the lease goes to the tier's machine, and what that answers is done: commands of the data
//! process, one at a time for a service, orders to servers, queries held.
//!
//! The keeper holds the last primary of each service and the command that is under way, for the next
//! data process. In an upgrade nothing is handed over but that: what was under way is ended, and the
//! next process begins anew when the primary is still gone.

mod ask;
mod kept;
mod work;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use outgrow_admin::PromoteRequest;
use outgrow_core::Ticks;
use outgrow_fleet::protocol::{DataMessage, Hello};
use outgrow_postgres::Shared;
use outgrow_postgres::diagnosis::{Finding, Kind, Severity};
use outgrow_postgres::events::Level;
use outgrow_postgres::promotion::{
    Fencing, Leading, Line, Machine, Sight, Step, Terms, Told, Work,
};
use outgrow_postgres::settings::PromotionMode;

use self::kept::Kept;
use self::work::Doing;
use super::log;
use crate::config::{Config, Promote};
use crate::settings::Fence;

/// How often a finding is said again.
const FIND_EVERY: Duration = Duration::from_secs(5);

/// The promotions of all services.
#[derive(Debug, Default)]
pub(super) struct Promotions {
    services: BTreeMap<String, One>,
    kept: Kept,
    told: Option<(Ticks, Kept)>,
    /// Whether the process before this one may still run commands: then they are its own.
    is_upgrade: bool,
    /// Whether this process does nothing about it any more.
    has_left: bool,
}

/// Those of one service.
#[derive(Debug)]
struct One {
    settings: Promote,
    terms: Terms,
    machine: Machine,
    doing: Option<Doing>,
    found: Option<Ticks>,
}

fn terms(settings: &Promote) -> Terms {
    let of = &settings.terms;
    Terms {
        is_automatic: of.mode == PromotionMode::Automatic,
        fencing: match settings.commands.fence {
            None => Fencing::Unsaid,
            Some(Fence::None) => Fencing::Never,
            Some(Fence::Command(_)) => Fencing::Command,
        },
        after: of.after,
        min_replicas: of.min_replicas,
        max_lag: of.max_lag.0,
        promote_timeout: of.promote_timeout,
        hold: of.hold,
        min_interval: of.min_interval,
    }
}

/// Words of the tier, which does not know how a service is called.
fn named(text: &str, service: &str) -> String {
    text.replace("SERVICE", service)
        .replace("service.NAME", &format!("service.{service}"))
}

impl Promotions {
    /// With what the keeper knows.
    pub(super) fn from_keeper(hello: &Hello) -> Self {
        Self {
            kept: Kept::from_keeper(hello),
            is_upgrade: hello.upgrade,
            ..Self::default()
        }
    }

    /// Takes over what the configuration in force says. What is under way goes on by the new one.
    pub(super) fn configure(&mut self, config: &Config, shared: Option<&Shared>) {
        if !std::mem::replace(&mut self.is_upgrade, false) {
            // Of a process that died. What it does now nobody knows of.
            for group in self.kept.take_commands() {
                group.end();
            }
        }
        let wanted = |name: &str| {
            let mut services = config.service.iter();
            let service = services.find(|(known, _)| known.as_str() == name);
            service.and_then(|(_, service)| service.promote.as_ref())
        };
        for name in self.services.keys().filter(|name| wanted(name).is_none()) {
            if let Some(shared) = shared {
                shared.release(name);
            }
        }
        self.services.retain(|name, _| wanted(name).is_some());
        for (name, service) in &config.service {
            let Some(settings) = &service.promote else {
                continue;
            };
            let known = self.kept.known(name.as_str());
            let one = self.services.entry(name.as_str().to_owned());
            let one = one.or_insert_with(|| One {
                settings: settings.clone(),
                terms: terms(settings),
                machine: Machine::recalled(known),
                doing: None,
                found: None,
            });
            (one.settings, one.terms) = (settings.clone(), terms(settings));
        }
    }

    /// What follows, a few times a second; gives what the keeper is to hold.
    pub(super) fn step(
        &mut self,
        shared: Option<&Arc<Shared>>,
        lease: Option<bool>,
        now: Ticks,
    ) -> Option<DataMessage> {
        let shared = shared?;
        if self.has_left {
            return None;
        }
        let leading = leading(lease);
        for (name, one) in &mut self.services {
            let Some(sight) = shared.sight(name) else {
                continue;
            };
            let work = one.work();
            let steps = one.machine.step(now, &one.terms, &sight, leading, work);
            one.take(steps, name, shared);
            if one.machine.is_busy() {
                shared.look_soon(name);
            }
            one.tell(name, shared, now);
            self.kept
                .note(name, one.machine.known(), one.doing.as_ref());
        }
        self.kept.message(&mut self.told, now)
    }

    /// Nothing more is done by this process: it ends, or the next one does it.
    pub(super) fn leave(&mut self, shared: Option<&Shared>) {
        self.has_left = true;
        for (name, one) in &mut self.services {
            one.doing = None;
            if let Some(shared) = shared {
                shared.release(name);
            }
        }
    }

    /// Somebody asks for a promotion, or what would be done. Gives what is told of it, and the
    /// number of the promotion that has begun.
    pub(super) fn ask(
        &mut self,
        request: &PromoteRequest,
        shared: Option<&Arc<Shared>>,
        lease: Option<bool>,
        now: Ticks,
    ) -> Result<(String, Option<(String, u64)>), String> {
        let name = self.service(request.service.as_deref())?;
        let shared = shared.ok_or("there is no [postgres]")?;
        if self.has_left {
            return Err("this process is draining: ask again".to_owned());
        }
        let sight = shared.sight(&name);
        let sight =
            sight.ok_or_else(|| format!("no database of [postgres] leads to service {name}"))?;
        let Some(one) = self.services.get_mut(&name) else {
            return Err(format!("there is no service {name}"));
        };
        one.ask(&name, request, (shared, &sight), (leading(lease), now))
    }

    fn service(&self, asked: Option<&str>) -> Result<String, String> {
        let all: Vec<&str> = self.services.keys().map(String::as_str).collect();
        match (asked, &all[..]) {
            (_, []) => Err(
                "no service has a table `promote`\nadd [service.NAME.promote] to the \
                            service of [postgres]"
                    .to_owned(),
            ),
            (None, [only]) => Ok((*only).to_owned()),
            (Some(name), all) if all.contains(&name) => Ok(name.to_owned()),
            (_, all) => Err(format!(
                "which service? there are: {}\noutgrow postgres promote SERVICE",
                all.join(", ")
            )),
        }
    }

    /// For the state and the metrics.
    pub(super) fn views(&self, now: Ticks) -> BTreeMap<String, Told> {
        let views = self.services.iter();
        let view = |(name, one): (&String, &One)| (name.clone(), one.told(name, now));
        views.map(view).collect()
    }
}

fn leading(lease: Option<bool>) -> Leading {
    match lease {
        None => Leading::Alone,
        Some(true) => Leading::Held,
        Some(false) => Leading::NotHeld,
    }
}

impl One {
    fn work(&mut self) -> Work {
        let Some(doing) = &self.doing else {
            return Work::None;
        };
        let Some(outcome) = doing.outcome() else {
            return Work::Running;
        };
        self.doing = None;
        Work::Done(outcome)
    }

    fn take(&mut self, steps: Vec<Step>, name: &str, shared: &Arc<Shared>) {
        for step in steps {
            match step {
                Step::Hold => {
                    log::warn(&format!("promotion: {name}: queries are held"));
                    shared.hold(name);
                }
                Step::Release => {
                    log::warn(&format!("promotion: {name}: queries go on"));
                    shared.release(name);
                }
                Step::Kill => self.doing = None,
                step => self.doing = Doing::begin(name, &self.settings, step, shared),
            }
        }
    }

    fn told(&self, name: &str, now: Ticks) -> Told {
        let mut told = self.machine.told(now);
        if let Some(problem) = &mut told.problem {
            problem.why = named(&problem.why, name);
            problem.remedy = named(&problem.remedy, name);
        }
        told.last = told
            .last
            .map(|(is_done, text)| (is_done, named(&text, name)));
        told
    }

    /// Says what is new in the log, and what is stuck among the findings.
    fn tell(&mut self, name: &str, shared: &Shared, now: Ticks) {
        for Line { level, text } in self.machine.take_lines() {
            let word = match level {
                Level::Error => "error",
                Level::Warning => "warn",
                Level::Log | Level::Debug => "info",
            };
            log::line(word, &format!("promotion: {name}: {}", named(&text, name)));
        }
        let told = self.told(name, now);
        let Some(problem) = told.problem else {
            self.found = None;
            return;
        };
        if self.found.is_some_and(|at| now.since(at) < FIND_EVERY) {
            return;
        }
        self.found = Some(now);
        shared.find(Finding {
            kind: Kind::PromotionStuck,
            severity: Severity::Critical,
            database: Arc::from(""),
            user: None,
            server: told.primary.map(Arc::from),
            statement: None,
            origin: None,
            evidence: vec![format!("service {name}: {}", problem.why)],
            remedy: problem.remedy,
        });
    }
}

/// What is known of the servers, for who asks.
type Known<'k> = (&'k Arc<Shared>, &'k Sight);
