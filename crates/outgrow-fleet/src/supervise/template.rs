//! From a service's settings to what the keeper is told. The hash decides
//! whether a changed setting replaces instances: it covers what a process is
//! started with, not how its end is handled. It must be the same in every data
//! process, also of another version, or an upgrade would replace everything.

use std::collections::BTreeMap;

use serde::Serialize;

use super::reconcile::DesiredService;
use crate::protocol::{Command, InstanceId, InstanceSpec, Limits, Listen, RestartPolicy};
use crate::settings::{self, InstanceListen, InstanceSettings};

/// What every instance of one service is started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    service: String,
    count: u32,
    surge: u32,
    unavailable: u32,
    spec: InstanceSpec,
}

/// The part of a specification that cannot be changed while it runs.
#[derive(Serialize)]
struct Identity<'a> {
    command: &'a Command,
    directory: &'a Option<String>,
    environment: &'a BTreeMap<String, String>,
    listen: Listen,
    port: u16,
    /// Left out where it is 0, so that instances of a binary that did not know it stay.
    #[serde(skip_serializing_if = "is_zero")]
    revision: u64,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde asks for a reference"
)]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Template {
    /// `None` for a service without a command. `cores` decides how many
    /// instances run when the settings do not say. Another `revision` replaces all instances,
    /// though nothing else has changed: what they were started from has.
    pub fn new(
        service: &str,
        settings: &InstanceSettings,
        cores: usize,
        revision: u64,
    ) -> Option<Self> {
        let command = match settings.command.as_ref()? {
            settings::Command::Shell(line) => Command::Shell(line.clone()),
            settings::Command::Program(words) => Command::Words(words.clone()),
        };
        let mut environment: BTreeMap<String, String> = settings
            .environment
            .iter()
            .map(|(name, value)| (name.as_str().to_owned(), value.expose().to_owned()))
            .collect();
        if let Some(workers) = settings.workers_on(cores) {
            let name = settings.workers_variable.as_str().to_owned();
            environment.insert(name, workers.to_string());
        }
        let listen = match settings.listen {
            InstanceListen::Port => Listen::Port,
            InstanceListen::Socket => Listen::Socket,
        };
        let milliseconds = |duration: std::time::Duration| duration.as_millis() as u64;
        let mut spec = InstanceSpec {
            id: InstanceId(0),
            name: String::new(),
            service: service.to_owned(),
            slot: 0,
            hash: 0,
            command,
            directory: Some(settings.directory.to_string_lossy().into_owned()),
            environment,
            listen,
            port: settings.port,
            stop_grace_ms: milliseconds(settings.stop_grace),
            restart: RestartPolicy {
                first_ms: milliseconds(settings.restart_backoff),
                max_ms: milliseconds(settings.restart_backoff_max),
                crash_loop: settings.crash_loop,
                crash_loop_window_ms: milliseconds(settings.crash_loop_window),
                // One crash is an accident: a delay would only cost capacity.
                first_at_once: true,
            },
            limits: settings.resources.limits(),
        };
        spec.hash = hash(&spec, revision);
        let count = u32::from(settings.instances_on(cores));
        Some(Self {
            service: service.to_owned(),
            count,
            surge: settings.deploy.surge.into(),
            unavailable: settings.deploy.unavailable.into(),
            spec,
        })
    }

    /// What [`super::reconcile::reconcile`] is asked for.
    pub fn desired(&self) -> DesiredService {
        DesiredService {
            name: self.service.clone(),
            hash: self.spec.hash,
            count: self.count,
            surge: self.surge,
            unavailable: self.unavailable,
            canary: 0,
            exclusive: self.spec.port != 0,
        }
    }

    /// The same service with the specification of an instance that runs: what it was before.
    pub fn as_before(&self, running: &InstanceSpec) -> Self {
        Self {
            spec: InstanceSpec {
                id: InstanceId(0),
                name: String::new(),
                slot: 0,
                limits: self.spec.limits,
                ..running.clone()
            },
            ..self.clone()
        }
    }

    /// The hash of its specification.
    pub fn hash(&self) -> u64 {
        self.spec.hash
    }

    /// The specification of one instance.
    pub fn instance(&self, id: InstanceId, slot: u32) -> InstanceSpec {
        InstanceSpec {
            id,
            slot,
            name: format!("{}.{slot}", self.service),
            ..self.spec.clone()
        }
    }

    /// Whether a running instance of the same hash should be told a new way to
    /// end and to be started again (`DataMessage::UpdateInstance`).
    pub fn should_update(&self, running: &InstanceSpec) -> bool {
        running.hash == self.spec.hash
            && (running.stop_grace_ms != self.spec.stop_grace_ms
                || running.restart != self.spec.restart)
    }
}

impl Template {
    /// What a running instance of the same hash should be limited to, if that is something else
    /// than it is (`DataMessage::LimitInstance`).
    pub fn limits_for(&self, running: &InstanceSpec) -> Option<Limits> {
        let differs = running.hash == self.spec.hash && running.limits != self.spec.limits;
        differs.then_some(self.spec.limits)
    }
}

/// FNV-1a over the JSON of the identity: the same for ever, unlike std's hashes.
fn hash(spec: &InstanceSpec, revision: u64) -> u64 {
    let identity = Identity {
        command: &spec.command,
        directory: &spec.directory,
        environment: &spec.environment,
        listen: spec.listen,
        port: spec.port,
        revision,
    };
    // Strings, numbers and maps with string keys: always JSON.
    let bytes = serde_json::to_vec(&identity).unwrap_or_default();
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use outgrow_core::settings::{ByteSize, Decimal, MapKey};

    use super::*;
    use crate::settings::{EnvironmentName, Workers};

    fn settings() -> InstanceSettings {
        InstanceSettings {
            command: Some(settings::Command::Shell("node server.js".into())),
            ..InstanceSettings::default()
        }
    }

    fn template(settings: &InstanceSettings) -> Template {
        Template::new("web", settings, 4, 0).unwrap()
    }

    #[test]
    fn a_service_becomes_specifications() {
        assert_eq!(
            Template::new("web", &InstanceSettings::default(), 4, 0),
            None
        );
        let template = template(&settings());
        let spec = template.instance(InstanceId(9), 2);
        assert_eq!(
            (spec.name.as_str(), spec.slot, spec.id),
            ("web.2", 2, InstanceId(9))
        );
        let at_once = RestartPolicy {
            first_at_once: true,
            ..RestartPolicy::default()
        };
        assert_eq!(spec.restart, at_once);
        let desired = template.desired();
        assert_eq!(
            (desired.count, desired.surge, desired.hash),
            (4, 1, spec.hash)
        );
    }

    #[test]
    fn the_hash_never_changes_by_itself() {
        assert_eq!(template(&settings()).spec.hash, 6_812_065_154_628_834_337);
    }

    #[test]
    fn a_revision_replaces_and_what_ran_before_comes_back() {
        let first = template(&settings());
        let second = Template::new("web", &settings(), 4, 1).unwrap();
        assert_ne!(first.hash(), second.hash());
        let running = first.instance(InstanceId(3), 2);
        assert_eq!(second.as_before(&running), first);
    }

    #[test]
    fn only_what_a_process_is_started_with_replaces_it() {
        let base = template(&settings());
        let running = base.instance(InstanceId(1), 1);
        let check = |change: fn(&mut InstanceSettings), replaces: bool, updates: bool| {
            let mut settings = settings();
            change(&mut settings);
            let changed = template(&settings);
            assert_eq!(changed.spec.hash != base.spec.hash, replaces);
            assert_eq!(changed.should_update(&running), updates);
        };
        check(|_| {}, false, false);
        check(|settings| settings.port = 80, true, false);
        check(|settings| settings.directory = "/".into(), true, false);
        check(
            |settings| settings.listen = InstanceListen::Socket,
            true,
            false,
        );
        check(|settings| settings.stop_grace = Duration::ZERO, false, true);
        check(|settings| settings.crash_loop = 9, false, true);
        check(|settings| settings.instances = Some(9), false, false);
        check(
            |settings| settings.workers = Some(Workers::Count(3)),
            true,
            false,
        );
        check(
            |settings| settings.resources.cpu = Some(Decimal::thousandths(500)),
            false,
            false,
        );
    }

    #[test]
    fn limits_are_changed_in_what_runs() {
        let base = template(&settings());
        let running = base.instance(InstanceId(1), 1);
        assert_eq!(base.limits_for(&running), None);
        let mut changed = settings();
        changed.resources.memory = Some(ByteSize::mib(64));
        let changed = template(&changed);
        let wanted = Limits {
            memory_bytes: Some(64 << 20),
            ..Limits::default()
        };
        assert_eq!(changed.limits_for(&running), Some(wanted));
        assert_eq!(changed.hash(), base.hash());
        let other = InstanceSpec { hash: 7, ..running };
        assert_eq!(changed.limits_for(&other), None, "it is replaced anyway");
    }

    #[test]
    fn workers_are_told_in_the_environment() {
        let check = |change: fn(&mut InstanceSettings), name: &str, expected: Option<&str>| {
            let mut settings = settings();
            change(&mut settings);
            let spec = template(&settings).instance(InstanceId(1), 1);
            assert_eq!(spec.environment.get(name).map(String::as_str), expected);
        };
        check(|_| {}, "WEB_CONCURRENCY", None);
        let four = |settings: &mut InstanceSettings| settings.workers = Some(Workers::Count(4));
        check(four, "WEB_CONCURRENCY", Some("4"));
        // Four cores and four instances.
        let auto = |settings: &mut InstanceSettings| settings.workers = Some(Workers::Auto);
        check(auto, "WEB_CONCURRENCY", Some("1"));
        let limited = |settings: &mut InstanceSettings| {
            settings.workers = Some(Workers::Auto);
            settings.resources.cpu = Some(Decimal::thousandths(2_500));
            settings.workers_variable = EnvironmentName::from_key("PROCS").unwrap();
        };
        check(limited, "PROCS", Some("3"));
        let few = |settings: &mut InstanceSettings| {
            settings.workers = Some(Workers::Auto);
            settings.instances = Some(1);
        };
        check(few, "WEB_CONCURRENCY", Some("4"));
    }
}
