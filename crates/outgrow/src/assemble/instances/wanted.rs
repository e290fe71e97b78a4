//! What the configuration wants of the instances of a service, compiled once per reload.

use std::collections::BTreeMap;
use std::time::Duration;

use outgrow_fleet::settings::InstanceSettings;
use outgrow_fleet::supervise::reconcile::DesiredService;
use outgrow_fleet::supervise::rollout::Standing;
use outgrow_fleet::supervise::template::Template;
use outgrow_upstream::check::Live;
use outgrow_upstream::settings::CheckSettings;

use super::canary::{self, Trial};
use super::deploys::Deploys;
use crate::config::{Config, Service};

/// Bounds of how long a new instance must stay ready before the next old one is replaced.
const SETTLE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// What is wanted of the instances of one service.
#[derive(Debug)]
pub(super) struct Wanted {
    /// What instances are started from.
    pub(super) template: Template,
    /// Makes the template that the configuration wants, of a revision.
    source: Source,
    /// How the replacement of the instances by those of `template` stands.
    pub(super) standing: Option<Standing>,
    /// Whether `template` is an older one, because the wanted one failed.
    pub(super) rolled_back: bool,
    pub(super) canary: canary::Settings,
    /// How far the canary is.
    pub(super) trial: Trial,
    /// Failures of new instances after which a replacement is given up.
    pub(super) tries: u32,
    pub(super) start_timeout: Duration,
    pub(super) drain_timeout: Duration,
    pub(super) live: Option<Live>,
    /// How long a new instance must stay ready before the next old one is replaced.
    pub(super) settle: Duration,
    /// How long a request waits for one that is about to start.
    pub(super) queue: Duration,
}

impl Wanted {
    /// Those of all services with a command, by name.
    pub(super) fn all(config: &Config, cores: usize, deploys: &Deploys) -> BTreeMap<String, Self> {
        let supervised = config.service.iter().filter_map(|(name, service)| {
            let wanted = Self::new(name.as_str(), service, cores, deploys)?;
            Some((name.as_str().to_owned(), wanted))
        });
        supervised.collect()
    }

    fn new(name: &str, service: &Service, cores: usize, deploys: &Deploys) -> Option<Self> {
        let settings = service.instances.as_ref()?;
        let check = service.upstream.check.clone().unwrap_or_default();
        Some(Self {
            template: Template::new(name, settings, cores, deploys.revision(name))?,
            source: Source {
                service: name.to_owned(),
                settings: settings.clone(),
                cores,
            },
            standing: None,
            rolled_back: false,
            canary: canary::Settings {
                count: settings.deploy.canary.into(),
                observe: settings.deploy.observe,
            },
            trial: Trial::default(),
            tries: settings.deploy.tries,
            start_timeout: settings.start_timeout,
            drain_timeout: settings.drain_timeout,
            live: live(settings),
            settle: settle(&check),
            queue: service.upstream.timeouts.queue,
        })
    }

    /// Takes over how far a replacement by the same specification is: a reload that changes something
    /// else does not begin a canary anew.
    pub(super) fn go_on_from(&mut self, before: Self) {
        if before.template.hash() == self.template.hash() {
            self.standing = before.standing;
            self.trial = before.trial;
        }
    }

    /// Wants the configuration's specification in this revision.
    pub(super) fn aim_at(&mut self, revision: u64) {
        let Source {
            service,
            settings,
            cores,
        } = &self.source;
        if let Some(template) = Template::new(service, settings, *cores, revision) {
            self.template = template;
        }
        self.standing = None;
        self.rolled_back = false;
        self.trial = Trial::Due;
    }

    /// Whether a canary is to be judged before a replacement goes on.
    pub(super) fn is_trying(&self) -> bool {
        self.canary.count > 0 && !self.rolled_back && !matches!(self.trial, Trial::Passed)
    }

    /// What the reconcile is asked for.
    pub(super) fn desired(&self) -> DesiredService {
        DesiredService {
            canary: if self.is_trying() {
                self.canary.count
            } else {
                0
            },
            ..self.template.desired()
        }
    }
}

/// What a template is made of.
#[derive(Debug)]
struct Source {
    service: String,
    settings: InstanceSettings,
    cores: usize,
}

/// As long as the check takes to notice that an instance which was ready fails: one that is ready
/// for a moment only must not carry a replacement through.
fn settle(check: &CheckSettings) -> Duration {
    let again = check.fast_interval.min(check.interval);
    let noticed = check.interval + again * check.fall.saturating_sub(1);
    // The intervals jitter.
    noticed.mul_f64(1.2).clamp(SETTLE.0, SETTLE.1)
}

fn live(settings: &InstanceSettings) -> Option<Live> {
    let live = settings.live.as_ref()?;
    (live.path.is_some() || live.hang).then(|| Live {
        path: live.path.clone(),
        interval: live.interval,
        timeout: live.timeout,
        fall: live.fall,
    })
}
